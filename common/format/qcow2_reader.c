// SPDX-License-Identifier: Apache-2.0
// The reader. The image may have been written by anybody: the header is checked when it is opened, each L1 and L2
// entry when it is used, and nothing is read outside of the file. Refcounts are not needed for reading and not
// looked at.
//
// Memory: the L1 table (8 bytes for 256 MiB of disk), CACHE_TABLES L2 tables, and what unpacking takes.
#include "format/qcow2.h"

#include "format/qcow2_header.h"
#include "format/qcow2_packed.h"
#include "format/qcow2_reader_state.h"

#include <errno.h>
#include <stdlib.h>

enum { CACHE_TABLES = 4 };

#define DAMAGED "; the image is damaged: copy it again"

struct cached {
	uint32_t l1;		// which table it is
	uint64_t used;		// when, in uses of the cache; 0: holds nothing
	unsigned char *entries; // QCOW2_CLUSTER_SIZE bytes
};

struct qcow2_reader {
	struct env_file *file;
	uint64_t file_size;
	struct qcow2_header header;
	unsigned char *l1; // as in the file
	struct cached cache[CACHE_TABLES];
	uint64_t uses;
	struct qcow2_unpacker unpacker;
	unsigned char *merge; // a block
};

static int tables_load(struct qcow2_reader *reader, struct err *err)
{
	size_t len = (size_t)qcow2_l1_entries(reader->header.size) * 8;
	reader->l1 = malloc(len);
	reader->merge = malloc(BLOCK_SIZE);
	if (!reader->l1 || !reader->merge)
		return err_sys(err, -ENOMEM, "open an image of %llu bytes", (unsigned long long)reader->header.size);
	int rc = env_pread_full(reader->file, reader->l1, len, reader->header.l1_offset);
	return rc ? err_sys(err, rc, "read the L1 table at %llu", (unsigned long long)reader->header.l1_offset) : 0;
}

int qcow2_reader_open(struct env_file *file, struct qcow2_reader **ret_reader, struct err *err)
{
	struct qcow2_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return err_sys(err, -ENOMEM, "open an image");
	reader->file = file;
	int rc = qcow2_header_load(file, &reader->header, &reader->file_size, err);
	if (rc == 0)
		rc = tables_load(reader, err);
	if (rc) {
		qcow2_reader_free(reader);
		return rc;
	}
	*ret_reader = reader;
	return 0;
}

int qcow2_reader_open_as(struct env_file *file, const struct qcow2_header *header, uint64_t file_size, struct qcow2_reader **ret_reader, struct err *err)
{
	struct qcow2_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return err_sys(err, -ENOMEM, "open an image");
	reader->file = file;
	reader->header = *header;
	reader->file_size = file_size;
	int rc = tables_load(reader, err);
	if (rc) {
		qcow2_reader_free(reader);
		return rc;
	}
	*ret_reader = reader;
	return 0;
}

const struct qcow2_header *qcow2_reader_header(const struct qcow2_reader *reader)
{
	return &reader->header;
}

struct env_file *qcow2_reader_file(const struct qcow2_reader *reader)
{
	return reader->file;
}

void qcow2_reader_free(struct qcow2_reader *reader)
{
	if (!reader)
		return;
	for (unsigned i = 0; i < CACHE_TABLES; i++)
		free(reader->cache[i].entries);
	qcow2_unpacker_done(&reader->unpacker);
	free(reader->merge);
	free(reader->l1);
	free(reader);
}

uint64_t qcow2_reader_size(const struct qcow2_reader *reader)
{
	return reader->header.size;
}

const char *qcow2_reader_backing(const struct qcow2_reader *reader)
{
	return reader->header.backing_name;
}

enum qcow2_backing qcow2_reader_backing_format(const struct qcow2_reader *reader)
{
	return reader->header.backing;
}

// Reads the L2 table at `offset` over the one that was used longest ago.
static int cache_load(struct qcow2_reader *reader, uint32_t l1, uint64_t offset, struct cached **ret_cached,
		      struct err *err)
{
	struct cached *oldest = &reader->cache[0];
	for (unsigned i = 1; i < CACHE_TABLES; i++)
		if (reader->cache[i].used < oldest->used)
			oldest = &reader->cache[i];
	oldest->used = 0;
	if (!oldest->entries && !(oldest->entries = malloc(QCOW2_CLUSTER_SIZE)))
		return err_sys(err, -ENOMEM, "read an L2 table");
	int rc = env_pread_full(reader->file, oldest->entries, QCOW2_CLUSTER_SIZE, offset);
	if (rc)
		return err_sys(err, rc, "read the L2 table at %llu", (unsigned long long)offset);
	oldest->l1 = l1;
	*ret_cached = oldest;
	return 0;
}

// The L2 table behind L1 entry `l1`; NULL when there is none.
static int table_find(struct qcow2_reader *reader, uint32_t l1, const unsigned char **ret_entries, struct err *err)
{
	uint64_t entry = get_be64(reader->l1 + (size_t)l1 * 8);
	uint64_t offset = entry & QCOW2_OFFSET_MASK;
	if (entry == 0) {
		*ret_entries = NULL;
		return 0;
	}
	if (!qcow2_l1_entry_sound(entry, reader->file_size))
		return err_set(err, -EBADMSG, "L1 entry %u is %#llx" DAMAGED, l1, (unsigned long long)entry);
	struct cached *cached = NULL;
	for (unsigned i = 0; i < CACHE_TABLES; i++)
		if (reader->cache[i].used && reader->cache[i].l1 == l1)
			cached = &reader->cache[i];
	int rc = cached ? 0 : cache_load(reader, l1, offset, &cached, err);
	if (rc)
		return rc;
	cached->used = ++reader->uses;
	*ret_entries = cached->entries;
	return 0;
}

static int entry_check(const struct qcow2_reader *reader, uint64_t index, struct qcow2_entry entry, struct err *err)
{
	if (qcow2_entry_sound(entry, reader->file_size))
		return 0;
	return err_set(err, -EBADMSG, "L2 entry of block %llu is %#llx %#llx" DAMAGED, (unsigned long long)index,
		       (unsigned long long)entry.where, (unsigned long long)entry.bits);
}

static int entry_find(struct qcow2_reader *reader, uint64_t index, struct qcow2_entry *ret_entry, struct err *err)
{
	const unsigned char *entries;
	if (index >= size_blocks(reader->header.size))
		return err_set(err, -EINVAL, "block %llu is past the end of the disk", (unsigned long long)index);
	int rc = table_find(reader, (uint32_t)(index / QCOW2_L2_ENTRIES), &entries, err);
	if (rc)
		return rc;
	struct qcow2_entry entry = {0};
	if (entries)
		entry = qcow2_entry_get(entries + index % QCOW2_L2_ENTRIES * QCOW2_ENTRY_SIZE);
	rc = entry_check(reader, index, entry, err);
	if (rc == 0)
		*ret_entry = entry;
	return rc;
}

static_assert((int)QCOW2_TABLE_BLOCKS == (int)QCOW2_L2_ENTRIES, "what a table has");

int qcow2_reader_next(struct qcow2_reader *reader, uint64_t from, uint64_t *ret_index, struct err *err)
{
	uint64_t blocks = size_blocks(reader->header.size);
	while (from < blocks) {
		const unsigned char *entries;
		uint64_t end = min_u64(blocks, (from / QCOW2_L2_ENTRIES + 1) * QCOW2_L2_ENTRIES);
		int rc = table_find(reader, (uint32_t)(from / QCOW2_L2_ENTRIES), &entries, err);
		if (rc) {
			*ret_index = from;
			return rc;
		}
		for (; entries && from < end; from++)
			if (qcow2_entry_held(qcow2_entry_get(entries + from % QCOW2_L2_ENTRIES * QCOW2_ENTRY_SIZE))) {
				*ret_index = from;
				return 0;
			}
		from = end;
	}
	return -ENOENT;
}

// The pieces of which both halves are in `bits`; -EOPNOTSUPP when only one is.
static int pieces_of(uint64_t index, uint32_t bits, uint16_t *ret_mask, struct err *err)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++) {
		unsigned halves = bits >> 2 * i & 3;
		if (halves == 1 || halves == 2)
			return err_set(err, -EOPNOTSUPP,
				       "block %llu holds half a piece; the image was changed by another program: "
				       "use qemu-img convert to copy what it holds",
				       (unsigned long long)index);
		mask |= (uint16_t)((halves == 3) << i);
	}
	*ret_mask = mask;
	return 0;
}

// Reads the allocated subclusters of a plain cluster, each run of them at once, and makes the zero ones zero.
static int plain_read(struct qcow2_reader *reader, struct qcow2_entry entry, unsigned char *block)
{
	uint32_t allocated = qcow2_entry_allocated(entry), zero = qcow2_entry_zero(entry);
	unsigned first = 0;
	while (first < QCOW2_SUBCLUSTERS) {
		unsigned end = first + 1;
		bool data = allocated >> first & 1;
		while (end < QCOW2_SUBCLUSTERS && (allocated >> end & 1) == data &&
		       (zero >> end & 1) == (zero >> first & 1))
			end++;
		unsigned char *to = block + (size_t)first * QCOW2_SUBCLUSTER_SIZE;
		size_t len = (size_t)(end - first) * QCOW2_SUBCLUSTER_SIZE;
		int rc = 0;
		if (data)
			rc = env_pread_full(reader->file, to, len,
					    qcow2_entry_offset(entry) + (uint64_t)first * QCOW2_SUBCLUSTER_SIZE);
		else if (zero >> first & 1)
			memset(to, 0, len);
		if (rc)
			return rc;
		first = end;
	}
	return 0;
}

// What lies past the end of the disk is zero, whatever the image says; pieces wholly past it are not held.
static uint16_t tail_clear(const struct qcow2_reader *reader, uint64_t index, uint16_t mask, unsigned char *block)
{
	uint32_t len = size_of_block(reader->header.size, index);
	uint32_t piece_end = (uint32_t)size_round_up(len, PIECE_SIZE);
	if (piece_end > len && mask >> len / PIECE_SIZE & 1)
		memset(block + len, 0, piece_end - len);
	return mask & qcow2_pieces_of(reader->header.size, index);
}

int qcow2_reader_read(struct qcow2_reader *reader, uint64_t index, void *block, uint16_t *ret_mask, struct err *err)
{
	struct qcow2_entry entry;
	uint16_t mask = MASK_FULL;
	int rc = entry_find(reader, index, &entry, err);
	if (rc)
		return rc;
	if (qcow2_entry_packed(entry)) {
		rc = qcow2_unpack(&reader->unpacker, reader->file, reader->header.codec, entry, reader->merge, err);
	} else {
		rc = pieces_of(index, qcow2_entry_allocated(entry) | qcow2_entry_zero(entry), &mask, err);
		if (rc == 0 && (rc = plain_read(reader, entry, reader->merge)))
			rc = err_sys(err, rc, "read the cluster of block %llu", (unsigned long long)index);
	}
	if (rc)
		return rc;
	mask = tail_clear(reader, index, mask, reader->merge);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1)
			memcpy((unsigned char *)block + i * PIECE_SIZE, reader->merge + i * PIECE_SIZE, PIECE_SIZE);
	*ret_mask = mask;
	return 0;
}

enum codec qcow2_reader_codec(const struct qcow2_reader *reader)
{
	return reader->header.codec;
}

int qcow2_reader_held(struct qcow2_reader *reader, uint64_t index, struct qcow2_held *ret_held, struct err *err)
{
	struct qcow2_entry entry;
	struct qcow2_held held = {.mask = MASK_FULL};
	int rc = entry_find(reader, index, &entry, err);
	if (rc)
		return rc;
	held.packed = qcow2_entry_packed(entry);
	held.bytes = held.packed ? qcow2_packed_bytes(entry) : qcow2_entry_offset(entry) ? QCOW2_CLUSTER_SIZE : 0;
	if (!held.packed)
		rc = pieces_of(index, qcow2_entry_allocated(entry) | qcow2_entry_zero(entry), &held.mask, err);
	held.mask &= qcow2_pieces_of(reader->header.size, index);
	if (rc == 0)
		*ret_held = held;
	return rc;
}

int qcow2_reader_packed(struct qcow2_reader *reader, uint64_t index, const void **ret_packed, size_t *ret_len, struct err *err)
{
	struct qcow2_entry entry;
	int rc = entry_find(reader, index, &entry, err);
	if (rc)
		return rc;
	if (!qcow2_entry_packed(entry))
		return -ENOENT;
	rc = qcow2_packed_stream(&reader->unpacker, reader->file, reader->header.codec, entry, reader->merge, ret_packed, ret_len, err);
	return rc == 0 && *ret_len > BLOCK_SIZE ? -ENOENT : rc;
}
