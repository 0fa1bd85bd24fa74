// SPDX-License-Identifier: Apache-2.0
// Nothing in the image is trusted: each entry is proven before it is believed, as the reader does.
#include "format/qcow2_tables.h"

#include "base/auto.h"
#include "format/qcow2_header.h"
#include "format/qcow2_layout.h"

#include <errno.h>
#include <stdlib.h>

struct place {
	uint64_t offset;
	uint32_t table;
};

struct qcow2_tables {
	uint64_t size, file_size;
	enum codec codec;
	struct place *at; // by table
	size_t count, room;
};

static int place_add(struct qcow2_tables *tables, uint32_t table, uint64_t entry, struct err *err)
{
	if (!qcow2_l1_entry_sound(entry, tables->file_size))
		return err_set(err, -EBADMSG, "L1 entry %u is %#llx; the image is damaged", table, (unsigned long long)entry);
	if (tables->count == tables->room) {
		size_t room = tables->room ? 2 * tables->room : 16;
		struct place *more = realloc(tables->at, room * sizeof(*more));
		if (!more)
			return err_sys(err, -ENOMEM, "tables of an image");
		tables->at = more;
		tables->room = room;
	}
	tables->at[tables->count++] = (struct place){.offset = entry & QCOW2_OFFSET_MASK, .table = table};
	return 0;
}

// The L1 table, a cluster of it at a time.
static int places_load(struct qcow2_tables *tables, struct env_file *file, uint64_t l1_offset, struct err *err)
{
	AUTO_FREE unsigned char *l1 = malloc(QCOW2_CLUSTER_SIZE);
	uint32_t entries = qcow2_l1_entries(tables->size);
	if (!l1)
		return err_sys(err, -ENOMEM, "tables of an image");
	for (uint32_t first = 0; first < entries; first += QCOW2_L1_PER_CLUSTER) {
		uint32_t count = (uint32_t)min_u64(entries - first, QCOW2_L1_PER_CLUSTER);
		uint64_t at = l1_offset + (uint64_t)first * 8;
		int rc = env_pread_full(file, l1, (size_t)count * 8, at);
		if (rc)
			return err_sys(err, rc, "read the L1 table at %llu", (unsigned long long)at);
		for (uint32_t i = 0; rc == 0 && i < count; i++)
			if (get_be64(l1 + (size_t)i * 8))
				rc = place_add(tables, first + i, get_be64(l1 + (size_t)i * 8), err);
		if (rc)
			return rc;
	}
	return 0;
}

int qcow2_tables_load(struct env_file *file, struct qcow2_tables **ret_tables, struct err *err)
{
	struct qcow2_header header;
	struct qcow2_tables *tables = calloc(1, sizeof(*tables));
	if (!tables)
		return err_sys(err, -ENOMEM, "tables of an image");
	int rc = qcow2_header_load(file, &header, &tables->file_size, err);
	if (rc == 0) {
		tables->size = header.size;
		tables->codec = header.codec;
		rc = places_load(tables, file, header.l1_offset, err);
	}
	if (rc) {
		qcow2_tables_free(tables);
		return rc;
	}
	*ret_tables = tables;
	return 0;
}

void qcow2_tables_free(struct qcow2_tables *tables)
{
	if (!tables)
		return;
	free(tables->at);
	free(tables);
}

uint64_t qcow2_tables_size(const struct qcow2_tables *tables)
{
	return tables->size;
}

enum codec qcow2_tables_codec(const struct qcow2_tables *tables)
{
	return tables->codec;
}

static int by_table(const void *a, const void *b)
{
	uint32_t left = ((const struct place *)a)->table, right = ((const struct place *)b)->table;
	return (left > right) - (left < right);
}

static const struct place *place_find(const struct qcow2_tables *tables, uint32_t table)
{
	const struct place key = {.table = table};
	return tables->count ? bsearch(&key, tables->at, tables->count, sizeof(key), by_table) : NULL;
}

bool qcow2_tables_has(const struct qcow2_tables *tables, uint32_t table)
{
	return place_find(tables, table);
}

// --- entries ---

// The pieces of which both halves are in `bits`.
static uint16_t pieces_in(uint32_t bits)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		mask |= (uint16_t)((bits >> 2 * i & 3) == 3 ? 1u << i : 0);
	return mask;
}

static int weigh(const struct qcow2_tables *tables, uint64_t index, struct qcow2_entry entry, struct qcow2_weight *ret_weight, struct err *err)
{
	uint32_t held = qcow2_entry_allocated(entry) | qcow2_entry_zero(entry), bytes = qcow2_packed_bytes(entry);
	uint16_t there = qcow2_pieces_of(tables->size, index);
	if (!qcow2_entry_sound(entry, tables->file_size))
		return err_set(err, -EBADMSG, "L2 entry of block %llu is %#llx %#llx; the image is damaged", (unsigned long long)index,
			       (unsigned long long)entry.where, (unsigned long long)entry.bits);
	if (qcow2_entry_packed(entry)) {
		uint32_t most = (uint32_t)min_u64(bytes, BLOCK_SIZE), least = bytes > SECTOR_SIZE - 1 ? bytes - (SECTOR_SIZE - 1) : 1;
		*ret_weight = (struct qcow2_weight){.mask = there, .packed = true, .len_least = least, .len_most = most,
						    .len_likely = least + (most > least ? (most - least) / 2 : 0)};
		return 0;
	}
	if (qcow2_mask_spread(pieces_in(held)) != held)
		return err_set(err, -EOPNOTSUPP, "block %llu holds half a piece; the image was changed by another program", (unsigned long long)index);
	*ret_weight = (struct qcow2_weight){.mask = pieces_in(held) & there, .zeros = pieces_in(qcow2_entry_zero(entry)) & there};
	return 0;
}

// Streams lie back to back and do not overlap: where the next one begins in the sector in which this one ends, it ends there at the latest, and
// most likely exactly there, unless a stream that nothing refers to any more lies between.
static void neighbour_tell(struct qcow2_weight *before, uint64_t before_at, uint64_t at)
{
	if (at < before_at + before->len_least || at > before_at + before->len_most)
		return;
	before->len_most = before->len_likely = (uint32_t)(at - before_at);
}

int qcow2_tables_read(const struct qcow2_tables *tables, struct env_file *file, uint32_t table, struct qcow2_weight *ret_weights, void *scratch,
		      struct err *err)
{
	const struct place *place = place_find(tables, table);
	uint64_t first = (uint64_t)table * QCOW2_L2_ENTRIES, blocks = size_blocks(tables->size), before_at = 0;
	struct qcow2_weight *before = NULL;
	if (!place)
		return err_set(err, -EINVAL, "the image has no table %u", table);
	int rc = env_pread_full(file, scratch, QCOW2_CLUSTER_SIZE, place->offset);
	if (rc)
		return err_sys(err, rc, "read the L2 table at %llu", (unsigned long long)place->offset);
	for (uint32_t i = 0; i < QCOW2_L2_ENTRIES; i++) {
		struct qcow2_entry entry = qcow2_entry_get((const char *)scratch + (size_t)i * QCOW2_ENTRY_SIZE);
		ret_weights[i] = (struct qcow2_weight){.mask = 0};
		if (first + i >= blocks || !qcow2_entry_held(entry))
			continue;
		rc = weigh(tables, first + i, entry, &ret_weights[i], err);
		if (rc)
			return rc;
		if (!ret_weights[i].packed)
			continue;
		if (before)
			neighbour_tell(before, before_at, qcow2_packed_offset(entry));
		before = &ret_weights[i];
		before_at = qcow2_packed_offset(entry);
	}
	return 0;
}
