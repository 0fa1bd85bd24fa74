// SPDX-License-Identifier: Apache-2.0
// The digest table in memory: what a compare is answered from, so that comparing reads nothing of the replica.
#include "receiver/table.h"

#include "base/size.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static uint64_t chunks_most(const struct table *table)
{
	return (table->blocks + TABLE_CHUNK_BLOCKS - 1) / TABLE_CHUNK_BLOCKS;
}

void table_init(struct table *table, uint64_t blocks)
{
	*table = (struct table){.blocks = blocks};
}

void table_clear(struct table *table)
{
	for (uint64_t i = 0; table->chunks && i < chunks_most(table); i++)
		free(table->chunks[i]);
	free(table->chunks);
	table->chunks = NULL;
	table->set = table->chunk_count = 0;
}

void table_done(struct table *table)
{
	table_clear(table);
	table->blocks = 0;
}

// The chunk of block `index`, made when it is missing; NULL when out of memory. The pointers come from calloc(): those
// of a huge disk cost no memory until they are touched.
static struct table_chunk *chunk_of(struct table *table, uint64_t index)
{
	assert(index < table->blocks);
	if (!table->chunks)
		table->chunks = calloc((size_t)chunks_most(table), sizeof(struct table_chunk *));
	if (!table->chunks)
		return NULL;
	struct table_chunk **at = &table->chunks[index / TABLE_CHUNK_BLOCKS];
	if (!*at) {
		*at = calloc(1, sizeof(**at));
		table->chunk_count += *at != NULL;
	}
	return *at;
}

int table_set(struct table *table, uint64_t index, const struct digest *digest)
{
	struct table_chunk *chunk = chunk_of(table, index);
	if (!chunk)
		return -ENOMEM;
	unsigned slot = (unsigned)(index % TABLE_CHUNK_BLOCKS);
	uint64_t bit = UINT64_C(1) << slot % 64;
	if (!(chunk->present[slot / 64] & bit))
		table->set++;
	chunk->present[slot / 64] |= bit;
	chunk->digest[slot] = *digest;
	return 0;
}

int table_reserve(struct table *table, uint64_t first, uint64_t count)
{
	uint64_t last_chunk = (first + count - 1) / TABLE_CHUNK_BLOCKS;
	for (uint64_t chunk = first / TABLE_CHUNK_BLOCKS; count && chunk <= last_chunk; chunk++)
		if (!chunk_of(table, chunk * TABLE_CHUNK_BLOCKS))
			return -ENOMEM;
	return 0;
}

uint64_t table_memory(const struct table *table)
{
	enum { PAGE = 4096 };
	uint64_t pointers = chunks_most(table) * sizeof(struct table_chunk *);
	return table->chunk_count * sizeof(struct table_chunk) + min_u64(pointers, table->chunk_count * PAGE);
}

const struct digest *table_get(const struct table *table, uint64_t index)
{
	assert(index < table->blocks);
	const struct table_chunk *chunk = table->chunks ? table->chunks[index / TABLE_CHUNK_BLOCKS] : NULL;
	unsigned slot = (unsigned)(index % TABLE_CHUNK_BLOCKS);
	if (!chunk || !(chunk->present[slot / 64] >> slot % 64 & 1))
		return NULL;
	return &chunk->digest[slot];
}

// The first present slot of `chunk` at or after `slot`; TABLE_CHUNK_BLOCKS when there is none.
static unsigned chunk_next(const struct table_chunk *chunk, unsigned slot)
{
	for (unsigned word = slot / 64; word < TABLE_CHUNK_BLOCKS / 64; word++) {
		uint64_t bits = chunk->present[word];
		if (word == slot / 64)
			bits &= UINT64_MAX << slot % 64;
		if (bits)
			return word * 64 + (unsigned)__builtin_ctzll(bits);
	}
	return TABLE_CHUNK_BLOCKS;
}

uint64_t table_next(const struct table *table, uint64_t from)
{
	if (!table->chunks || from >= table->blocks)
		return TABLE_END;
	unsigned slot = (unsigned)(from % TABLE_CHUNK_BLOCKS);
	for (uint64_t i = from / TABLE_CHUNK_BLOCKS; i < chunks_most(table); i++, slot = 0) {
		unsigned found = table->chunks[i] ? chunk_next(table->chunks[i], slot) : TABLE_CHUNK_BLOCKS;
		if (found < TABLE_CHUNK_BLOCKS)
			return i * TABLE_CHUNK_BLOCKS + found;
	}
	return TABLE_END;
}
