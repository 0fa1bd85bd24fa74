// SPDX-License-Identifier: Apache-2.0
// Table-driven, eight bytes a step (slicing by 8): what it covers are headers, marks and pages of a few KiB, never guest data.
#include "base/crc32c.h"

#include "base/bytes.h"

#include <pthread.h>

enum { CRC32C_REVERSED = 0x82f63b78 };

static uint32_t table[8][256]; // table[n]: of a byte with n zero bytes behind it
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ CRC32C_REVERSED : crc >> 1;
		table[0][i] = crc;
	}
	for (int n = 1; n < 8; n++)
		for (int i = 0; i < 256; i++)
			table[n][i] = table[n - 1][i] >> 8 ^ table[0][table[n - 1][i] & 0xff];
}

uint32_t crc32c(const void *data, size_t len)
{
	(void)pthread_once(&table_once, table_fill);
	const unsigned char *p = data;
	uint32_t crc = UINT32_MAX;
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t word = get_le64(p) ^ crc;
		crc = 0;
		for (int n = 0; n < 8; n++)
			crc ^= table[7 - n][word >> 8 * n & 0xff];
	}
	for (; len > 0; p++, len--)
		crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
	return ~crc;
}
