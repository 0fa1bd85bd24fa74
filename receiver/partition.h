// SPDX-License-Identifier: Apache-2.0
// Where the partitions of a disk lie: a reader of MBR and GPT tables that a guest wrote, trusted in nothing.
// Sources: UEFI specification 2.10, section 5 (GPT, protective MBR); the MBR layout as every PC since 1983 reads it.
#ifndef KAGAMI_RECEIVER_PARTITION_H
#define KAGAMI_RECEIVER_PARTITION_H

#include "base/err.h"

#include <stdint.h>

enum {
	PARTITIONS_MAX = 256, // that are listed
	GPT_ENTRIES_MAX = 1024,
	GPT_TABLE_MAX = 1 << 20, // bytes of a GPT's entries
	LOGICAL_MAX = 128,	 // logical partitions that are followed: a chain may be long without end
};

// The disk: `read` fills all of `buf` or returns a negative errno; it is never asked past `size`.
struct disk_source {
	int (*read)(void *context, uint64_t off, void *buf, uint32_t len);
	void *context;
	uint64_t size;
};

enum partition_scheme { PARTITION_NONE, PARTITION_MBR, PARTITION_GPT };

struct partition {
	uint32_t number; // as the guest counts: 1 to 4 and from 5 for logical ones (MBR), the entry plus 1 (GPT)
	uint64_t off;	 // in bytes; [off, off + len) lies within the disk
	uint64_t len;	 // not 0
};

struct partition_table {
	enum partition_scheme scheme;
	uint32_t count;
	struct partition part[PARTITIONS_MAX]; // by number
	const char *note; // what is odd about the table, for a log; NULL when nothing is
};

// Reads the table. No table is PARTITION_NONE and no error. Partitions that do not lie on the disk are left out and noted.
// Partitions that overlap are listed as they are: nothing here relies on them being apart, and a guest that boots from such
// a disk must be recoverable. -EBADMSG when the disk says GPT and neither of its headers is whole; an error of `read`.
int partition_table_read(const struct disk_source *disk, struct partition_table *ret_table, struct err *err);

// The partition with that number, or NULL.
const struct partition *partition_find(const struct partition_table *table, uint32_t number);

// For partition.c: the GPT of a disk whose sectors have `sector` bytes (512 or 4096). 1 when one was read into `table`,
// 0 when neither header is whole, or an error of the disk.
int gpt_read(const struct disk_source *disk, uint32_t sector, struct partition_table *table, struct err *err);

// For both: appends a partition, or notes why it cannot be listed.
void partition_table_add(struct partition_table *table, const struct disk_source *disk, uint32_t number, uint64_t off,
			 uint64_t len);

#endif
