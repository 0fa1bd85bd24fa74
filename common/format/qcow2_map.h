// SPDX-License-Identifier: Apache-2.0
// The L2 tables of an overlay being written, in memory, sparse at 256 entries.
//
// A table (4096 entries, 256 MiB of disk) is absent, wholly zero, or sixteen pages; a page (256 entries, 4 KiB, as
// in the file) is absent, wholly zero, or stored. So one block of a huge disk costs a page and a table, and a run
// of zeros costs neither.
#ifndef KAGAMI_FORMAT_QCOW2_MAP_H
#define KAGAMI_FORMAT_QCOW2_MAP_H

#include "format/qcow2_layout.h"

enum {
	QCOW2_PAGE_ENTRIES = 256,
	QCOW2_PAGE_SIZE = QCOW2_PAGE_ENTRIES * QCOW2_ENTRY_SIZE,
	QCOW2_PAGES = QCOW2_L2_ENTRIES / QCOW2_PAGE_ENTRIES, // in a table
};

struct qcow2_page {
	struct qcow2_entry entry[QCOW2_PAGE_ENTRIES];
};
struct qcow2_table {
	struct qcow2_page *page[QCOW2_PAGES]; // NULL: nothing held; &qcow2_zero_page: all zeros
};
extern struct qcow2_page qcow2_zero_page;   // compared by address, never written
extern struct qcow2_table qcow2_zero_table; // the same; its pages are qcow2_zero_page

struct qcow2_map {
	uint64_t blocks; // of the disk
	uint32_t table_count;
	struct qcow2_table **table; // as pages above
	uint64_t held;		    // blocks that the overlay holds something of
	uint64_t memory;	    // bytes
};

// Gives back what an entry that is about to be forgotten refers to.
typedef void qcow2_release(void *context, struct qcow2_entry entry);

int qcow2_map_init(struct qcow2_map *map, uint64_t blocks);
void qcow2_map_done(struct qcow2_map *map);

// The entry of a block, for reading and for qcow2_map_put(), made when it is not there. NULL when out of memory.
struct qcow2_entry *qcow2_map_slot(struct qcow2_map *map, uint64_t index);
// The entry of a block; of zeros where nothing is held.
struct qcow2_entry qcow2_map_get(const struct qcow2_map *map, uint64_t index);
// Stores in a slot and keeps the count; cannot fail, so that it may follow a write to the file.
void qcow2_map_put(struct qcow2_map *map, struct qcow2_entry *slot, struct qcow2_entry entry);
// Makes [first, first + count) zeros. After -ENOMEM a front part of them is.
int qcow2_map_zero(struct qcow2_map *map, uint64_t first, uint64_t count, qcow2_release *release, void *context);

// Whether every entry of a table is zeros, so that one table in the file can stand for all such.
bool qcow2_table_is_zero(const struct qcow2_table *table);

#endif
