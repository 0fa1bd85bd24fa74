// SPDX-License-Identifier: Apache-2.0
// Digests of a disk's blocks in memory, in chunks of 256 that exist where something was set.
//
// Not thread-safe. A block that was never set is absent, which is something else than a digest of zero.
#ifndef KAGAMI_RECEIVER_TABLE_H
#define KAGAMI_RECEIVER_TABLE_H

#include "format/digest.h"

#include <stdbool.h>
#include <stdint.h>

enum { TABLE_CHUNK_BLOCKS = 256 };
#define TABLE_END UINT64_MAX

struct table_chunk {
	uint64_t present[TABLE_CHUNK_BLOCKS / 64];
	struct digest digest[TABLE_CHUNK_BLOCKS];
};

struct table {
	uint64_t blocks;
	uint64_t set; // how many are present
	uint64_t chunk_count; // that exist
	struct table_chunk **chunks; // NULL until the first is set
};

void table_init(struct table *table, uint64_t blocks);
void table_done(struct table *table); // takes one of zeros
// Forgets every digest and keeps the size.
void table_clear(struct table *table);
// -ENOMEM leaves the table as it was.
int table_set(struct table *table, uint64_t index, const struct digest *digest);
// Makes room for [first, first + count), so that table_set() there cannot fail.
int table_reserve(struct table *table, uint64_t first, uint64_t count);
// NULL when absent; valid until the table changes.
const struct digest *table_get(const struct table *table, uint64_t index);
// Bytes; of the pointers to chunks as many as are touched.
uint64_t table_memory(const struct table *table);
// The first block at or after `from` that is present, TABLE_END when there is none.
uint64_t table_next(const struct table *table, uint64_t from);

#endif
