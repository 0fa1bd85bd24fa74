// SPDX-License-Identifier: Apache-2.0
// Table-driven, a byte a step: what it covers are headers and pages of a few KiB, never guest data.
#include "base/crc32c.h"

#include <pthread.h>

enum { CRC32C_REVERSED = 0x82f63b78 };

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ CRC32C_REVERSED : crc >> 1;
		table[i] = crc;
	}
}

uint32_t crc32c(const void *data, size_t len)
{
	(void)pthread_once(&table_once, table_fill);
	const unsigned char *p = data;
	uint32_t crc = UINT32_MAX;
	for (size_t i = 0; i < len; i++)
		crc = crc >> 8 ^ table[(crc ^ p[i]) & 0xff];
	return ~crc;
}
