// SPDX-License-Identifier: Apache-2.0
// The GPT: a header in sector 1, a copy of it in the last sector, each with a table of entries of its own.
//
// A header is valid if and only if its signature, revision, size, own sector and CRC-32 are right, its limits are within
// ours, its table lies on the disk, and the table's CRC-32 is right. The first valid one of the two is used.
//
//	0   8  "EFI PART"                     40  8  first usable sector     80  4  entries, at most 1024
//	8   4  revision, 0x00010000           48  8  last usable sector      84  4  bytes of an entry: 128 * 2^n
//	12  4  bytes of the header, from 92   56  16 GUID of the disk        88  4  CRC-32 of all entries
//	16  4  CRC-32 of it with this as 0    72  8  sector of the entries
//	24  8  the sector this is
//
//	entry: 0 16 type GUID, zeros when unused; 32 8 first sector; 40 8 last sector
#include "receiver/partition.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/size.h"

#include <errno.h>
#include <zlib.h>

enum {
	GPT_HEADER_MIN = 92,
	GPT_REVISION = 0x00010000,
	GPT_ENTRY_MIN = 128,
	GPT_ENTRY_MAX = 4096,
	GPT_SECTOR_MAX = 4096,
};

struct gpt_header {
	uint64_t table_off; // in bytes
	uint32_t count;
	uint32_t entry_size;
	uint32_t table_crc;
};

static uint32_t crc32_of(const void *data, size_t len)
{
	return (uint32_t)crc32_z(0, data, len);
}

static bool crc_ok(unsigned char *header, uint32_t len)
{
	uint32_t said = get_le32(header + 16);
	put_le32(header + 16, 0);
	return crc32_of(header, len) == said;
}

// Decodes the header of sector `lba`; false when it is not valid on a disk of `size` bytes. Destroys `buf`.
static bool header_decode(unsigned char *buf, uint32_t sector, uint64_t lba, uint64_t size, struct gpt_header *ret_header)
{
	uint32_t len = get_le32(buf + 12);
	if (memcmp(buf, "EFI PART", 8) != 0 || get_le32(buf + 8) != GPT_REVISION)
		return false;
	if (len < GPT_HEADER_MIN || len > sector || !crc_ok(buf, len) || get_le64(buf + 24) != lba)
		return false;
	uint64_t table = get_le64(buf + 72);
	struct gpt_header header = {
		.count = get_le32(buf + 80), .entry_size = get_le32(buf + 84), .table_crc = get_le32(buf + 88)};
	if (header.count == 0 || header.count > GPT_ENTRIES_MAX || header.entry_size < GPT_ENTRY_MIN ||
	    header.entry_size > GPT_ENTRY_MAX || (header.entry_size & (header.entry_size - 1)) != 0)
		return false;
	uint64_t bytes = (uint64_t)header.count * header.entry_size;
	if (bytes > GPT_TABLE_MAX || table > size / sector || !size_within(table * sector, bytes, size))
		return false;
	header.table_off = table * sector;
	*ret_header = header;
	return true;
}

static void entry_add(const unsigned char *entry, uint32_t index, uint32_t sector, const struct disk_source *disk,
		      struct partition_table *table)
{
	uint64_t first = get_le64(entry + 32), last = get_le64(entry + 40);
	if (bytes_zero(entry, 16))
		return;
	if (last < first || last >= disk->size / sector)
		partition_table_add(table, disk, index + 1, 0, 0); // as a range that is not on the disk
	else
		partition_table_add(table, disk, index + 1, first * sector, (last - first + 1) * sector);
}

// 1 when the header in sector `lba` and its entries are valid: then they are in `table`. 0 when not.
static int copy_read(const struct disk_source *disk, uint32_t sector, uint64_t lba, struct partition_table *table,
		     struct err *err)
{
	unsigned char buf[GPT_SECTOR_MAX];
	struct gpt_header header;
	int rc = disk->read(disk->context, lba * sector, buf, sector);
	if (rc)
		return err_sys(err, rc, "read the GPT header");
	if (!header_decode(buf, sector, lba, disk->size, &header))
		return 0;
	uint32_t bytes = header.count * header.entry_size;
	AUTO_FREE unsigned char *entries = malloc(bytes);
	if (!entries)
		return err_set(err, -ENOMEM, "out of memory for the GPT's entries");
	rc = disk->read(disk->context, header.table_off, entries, bytes);
	if (rc)
		return err_sys(err, rc, "read the GPT's entries");
	if (crc32_of(entries, bytes) != header.table_crc)
		return 0;
	table->scheme = PARTITION_GPT;
	for (uint32_t i = 0; i < header.count; i++)
		entry_add(entries + (size_t)i * header.entry_size, i, sector, disk, table);
	return 1;
}

int gpt_read(const struct disk_source *disk, uint32_t sector, struct partition_table *table, struct err *err)
{
	uint64_t sectors = disk->size / sector;
	if (sectors < 3)
		return 0;
	int rc = copy_read(disk, sector, 1, table, err);
	if (rc)
		return rc;
	rc = copy_read(disk, sector, sectors - 1, table, err);
	if (rc == 1 && !table->note)
		table->note = "the GPT at the front of the disk is damaged: its copy at the end was used";
	return rc;
}
