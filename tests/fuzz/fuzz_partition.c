// SPDX-License-Identifier: Apache-2.0
// A guest's disk, as the choice of what to mount reads it: partition tables and superblocks.
//
// Checks what the reader promises: no read past the disk, and no partition that does not lie on it. The front of the input is
// the front of the disk and its last sector the last one, so that both headers of a GPT are within reach of small inputs;
// their checksums are made right here, since no fuzzer guesses them.
#include "base/bytes.h"
#include "base/size.h"
#include "receiver/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

enum { DISK_MAX = 1 << 20 };

struct bytes {
	unsigned char *at;
	uint64_t size;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int bytes_read(void *context, uint64_t off, void *buf, uint32_t len)
{
	const struct bytes *bytes = context;
	if (!size_within(off, len, bytes->size))
		abort();
	memcpy(buf, bytes->at + off, len);
	return 0;
}

static void gpt_repair(const struct bytes *bytes, uint64_t header_at)
{
	if (!size_within(header_at, SECTOR_SIZE, bytes->size) || memcmp(bytes->at + header_at, "EFI PART", 8) != 0)
		return;
	unsigned char *header = bytes->at + header_at;
	uint64_t table = get_le64(header + 72), entries = (uint64_t)get_le32(header + 80) * get_le32(header + 84);
	if (table <= DISK_MAX && size_within(table * SECTOR_SIZE, entries, bytes->size))
		put_le32(header + 88, (uint32_t)crc32_z(0, bytes->at + table * SECTOR_SIZE, entries));
	uint32_t len = get_le32(header + 12);
	put_le32(header + 16, 0);
	if (len <= SECTOR_SIZE)
		put_le32(header + 16, (uint32_t)crc32_z(0, header, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct partition_table table;
	struct volume volume;
	struct err err;
	if (len < 2 || len > DISK_MAX)
		return 0;
	// The first two bytes choose how much is zero between the front and the last sector, and whether to repair.
	uint64_t gap = (uint64_t)data[0] * 1024;
	size_t tail = len - 2 < SECTOR_SIZE ? len - 2 : SECTOR_SIZE, front = len - 2 - tail;
	struct bytes bytes = {.size = front + gap + tail};
	bytes.at = calloc(1, bytes.size + 1);
	if (!bytes.at)
		return 0;
	memcpy(bytes.at, data + 2, front);
	memcpy(bytes.at + front + gap, data + 2 + front, tail);
	if (data[1] & 1) {
		gpt_repair(&bytes, SECTOR_SIZE);
		gpt_repair(&bytes, bytes.size / SECTOR_SIZE * SECTOR_SIZE - SECTOR_SIZE);
	}
	struct disk_source disk = {.read = bytes_read, .context = &bytes, .size = bytes.size};
	if (partition_table_read(&disk, &table, &err) == 0)
		for (uint32_t i = 0; i < table.count; i++)
			if (table.part[i].len == 0 || !size_within(table.part[i].off, table.part[i].len, bytes.size))
				abort();
	for (uint32_t number = 0; number < 6; number++)
		if (volume_choose(&disk, number, &volume, &err) == 0 &&
		    (!volume.filesystem->driver || !size_within(volume.off, volume.len, bytes.size)))
			abort();
	free(bytes.at);
	return 0;
}
