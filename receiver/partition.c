// SPDX-License-Identifier: Apache-2.0
// The MBR, its chain of logical partitions, and the choice between MBR and GPT.
//
// Responsible for turning bytes of a guest into ranges that lie within the disk. Promises: every read is within the
// disk, every loop is bounded by a constant, arithmetic is in 64 bits of numbers below 2^32 (times 512), so it cannot wrap.
//
//	sector 0, offset 446    four entries of 16 bytes: status (0x00 or 0x80), CHS, type, CHS, first sector, sectors
//	offset 510              0x55 0xAA
//	type 0x05, 0x0f, 0x85   the extended partition: a chain of such sectors, each with one logical partition and the
//	                        way to the next, counted from the start of the extended partition
//	type 0xee               a GPT: read that
#include "receiver/partition.h"

#include "base/bytes.h"
#include "base/size.h"

#include <errno.h>

enum {
	MBR_ENTRIES = 446,
	MBR_ENTRY_SIZE = 16,
	MBR_SIGNATURE = 510,
	MBR_FIRST_LOGICAL = 5,
	MBR_TYPE_GPT = 0xee,
};

struct mbr_entry {
	uint8_t status;
	uint8_t type;
	uint32_t first; // in sectors
	uint32_t count;
};

static struct mbr_entry mbr_entry_decode(const unsigned char *sector, unsigned index)
{
	const unsigned char *at = sector + MBR_ENTRIES + index * MBR_ENTRY_SIZE;
	return (struct mbr_entry){.status = at[0], .type = at[4], .first = get_le32(at + 8), .count = get_le32(at + 12)};
}

static bool mbr_signed(const unsigned char *sector)
{
	return sector[MBR_SIGNATURE] == 0x55 && sector[MBR_SIGNATURE + 1] == 0xaa;
}

// A boot sector of a file system carries the same signature over code where the entries would be: any other status
// byte than these two says so.
static bool mbr_plausible(const unsigned char *sector)
{
	if (!mbr_signed(sector))
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (mbr_entry_decode(sector, i).status & 0x7f)
			return false;
	return true;
}

static bool is_extended(uint8_t type)
{
	return type == 0x05 || type == 0x0f || type == 0x85;
}

void partition_table_add(struct partition_table *table, const struct disk_source *disk, uint32_t number, uint64_t off,
			 uint64_t len)
{
	if (off == 0 || len == 0 || !size_within(off, len, disk->size)) {
		table->note = "a partition that does not lie on the disk was left out";
		return;
	}
	if (table->count == PARTITIONS_MAX) {
		table->note = "there are more partitions than are listed";
		return;
	}
	table->part[table->count++] = (struct partition){.number = number, .off = off, .len = len};
}

static bool was_seen(const uint64_t *seen, unsigned count, uint64_t at)
{
	for (unsigned i = 0; i < count; i++)
		if (seen[i] == at)
			return true;
	return false;
}

// Follows the chain of logical partitions. What is damaged ends the chain and is noted; what was found stays.
static int logical_read(const struct disk_source *disk, uint64_t extended, struct partition_table *table, struct err *err)
{
	uint64_t at = extended, seen[LOGICAL_MAX];
	for (unsigned i = 0; i < LOGICAL_MAX; i++) {
		unsigned char sector[SECTOR_SIZE];
		if (was_seen(seen, i, at)) { // each turn would list the same partitions under other numbers
			table->note = "the chain of logical partitions leads back into itself";
			return 0;
		}
		seen[i] = at;
		if (!size_within(at, sizeof(sector), disk->size)) {
			table->note = "the chain of logical partitions leaves the disk";
			return 0;
		}
		int rc = disk->read(disk->context, at, sector, sizeof(sector));
		if (rc)
			return err_sys(err, rc, "read the logical partition %u", MBR_FIRST_LOGICAL + i);
		if (!mbr_signed(sector)) {
			table->note = "the chain of logical partitions is damaged";
			return 0;
		}
		struct mbr_entry here = mbr_entry_decode(sector, 0), next = mbr_entry_decode(sector, 1);
		if (here.type && here.count && !is_extended(here.type))
			partition_table_add(table, disk, MBR_FIRST_LOGICAL + i, at + (uint64_t)here.first * SECTOR_SIZE,
					    (uint64_t)here.count * SECTOR_SIZE);
		if (!is_extended(next.type) || next.count == 0)
			return 0;
		at = extended + (uint64_t)next.first * SECTOR_SIZE;
	}
	table->note = "the chain of logical partitions does not end";
	return 0;
}

static int mbr_read(const struct disk_source *disk, const unsigned char *sector, struct partition_table *table,
		    struct err *err)
{
	uint64_t extended = 0;
	for (unsigned i = 0; i < 4; i++) {
		struct mbr_entry entry = mbr_entry_decode(sector, i);
		uint64_t off = (uint64_t)entry.first * SECTOR_SIZE;
		if (entry.type == 0 || entry.count == 0)
			continue;
		table->scheme = PARTITION_MBR;
		if (!is_extended(entry.type))
			partition_table_add(table, disk, i + 1, off, (uint64_t)entry.count * SECTOR_SIZE);
		else if (!extended)
			extended = off;
	}
	return extended ? logical_read(disk, extended, table, err) : 0;
}

static bool says_gpt(const unsigned char *sector)
{
	for (unsigned i = 0; i < 4; i++)
		if (mbr_entry_decode(sector, i).type == MBR_TYPE_GPT)
			return true;
	return false;
}

int partition_table_read(const struct disk_source *disk, struct partition_table *ret_table, struct err *err)
{
	unsigned char sector[SECTOR_SIZE];
	*ret_table = (struct partition_table){.scheme = PARTITION_NONE};
	if (disk->size < sizeof(sector))
		return 0;
	int rc = disk->read(disk->context, 0, sector, sizeof(sector));
	if (rc)
		return err_sys(err, rc, "read the first sector of the disk");
	if (!mbr_plausible(sector))
		return 0;
	if (!says_gpt(sector))
		return mbr_read(disk, sector, ret_table, err);
	static const uint32_t sector_sizes[] = {SECTOR_SIZE, 4096};
	for (unsigned i = 0; i < 2; i++) {
		rc = gpt_read(disk, sector_sizes[i], ret_table, err);
		if (rc)
			return rc < 0 ? rc : 0;
	}
	return err_set(err, -EBADMSG,
		       "the disk's first sector names a GPT, and neither its header nor the copy at the end of the disk is whole: "
		       "repair it on a failover's disk (gdisk), or mount another point");
}

const struct partition *partition_find(const struct partition_table *table, uint32_t number)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->part[i].number == number)
			return &table->part[i];
	return NULL;
}
