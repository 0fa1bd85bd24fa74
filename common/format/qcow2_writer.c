// SPDX-License-Identifier: Apache-2.0
// The writer's first half: blocks into clusters. Data goes to the file at once (packed streams through a buffer),
// tables stay in memory.
//
// What a write makes of the block's entry (see qcow2_layout.h for the kinds):
//
//	was \ write   packed                 some pieces                        all pieces            zeros
//	not held      packed                 plain: the pieces                  plain                 zeros
//	zeros         packed                 plain: the pieces, zeros elsewhere plain                 zeros
//	plain         packed, cluster freed  plain, the pieces in place         plain, in place       zeros, cluster freed
//	packed        packed, old one dead   plain: unpacked and merged         plain, old one dead   zeros, old one dead
//
// In each row the data is written first and the entry changed last, by a step that cannot fail: a write that failed
// leaves what the overlay held, except for pieces in place, which may hold either. Where what was kept (qcow2_keep.c) refers to a
// cluster, nothing goes in place: the block moves to another one.
#include "format/qcow2_writer_state.h"

#include <errno.h>
#include <stdlib.h>

static int header_init(struct qcow2_header *header, const struct qcow2_config *config, struct err *err)
{
	if (!size_disk_ok(config->size))
		return err_set(err, -EINVAL,
			       "disk of %llu bytes: it must be a multiple of 512, above 0 and at most 64 TiB",
			       (unsigned long long)config->size);
	if (config->codec != CODEC_ZSTD && config->codec != CODEC_ZLIB)
		return err_set(err, -EINVAL, "qcow2 holds no clusters packed by %s: use zstd or zlib",
			       codec_name(config->codec));
	*header = (struct qcow2_header){
		.size = config->size,
		.refcount_order = QCOW2_REFCOUNT_ORDER,
		.codec = config->codec,
		.backing = config->backing,
	};
	if (!config->backing_name || !config->backing_name[0])
		return 0;
	int rc = qcow2_backing_check(config->backing_name, err);
	if (rc == 0)
		memcpy(header->backing_name, config->backing_name, strlen(config->backing_name) + 1);
	return rc;
}

int qcow2_writer_new(struct env_file *file, const struct qcow2_config *config, struct qcow2_writer **ret_writer,
		     struct err *err)
{
	uint64_t file_size;
	int rc = env_size(file, &file_size);
	if (rc)
		return err_sys(err, rc, "size of the overlay's file");
	if (file_size != 0)
		return err_set(err, -EEXIST, "the overlay's file is not empty (%llu bytes): remove it first",
			       (unsigned long long)file_size);
	return qcow2_writer_make(file, config, ret_writer, err);
}

int qcow2_writer_make(struct env_file *file, const struct qcow2_config *config, struct qcow2_writer **ret_writer, struct err *err)
{
	struct qcow2_header header;
	int rc = header_init(&header, config, err);
	if (rc)
		return rc;
	struct qcow2_writer *writer = calloc(1, sizeof(*writer));
	if (writer) {
		writer->file = file;
		writer->header = header;
		rc = qcow2_space_init(&writer->space, file);
	}
	if (writer && rc == 0)
		rc = qcow2_map_init(&writer->map, size_blocks(header.size));
	if (!writer || rc) {
		qcow2_writer_free(writer);
		return err_sys(err, -ENOMEM, "start an overlay of %llu bytes", (unsigned long long)config->size);
	}
	*ret_writer = writer;
	return 0;
}

void qcow2_writer_free(struct qcow2_writer *writer)
{
	if (!writer)
		return;
	qcow2_space_done(&writer->space);
	qcow2_map_done(&writer->map);
	qcow2_unpacker_done(&writer->unpacker);
	free(writer->merge);
	free(writer);
}

static int range_check(const struct qcow2_writer *writer, uint64_t first, uint64_t count, struct err *err)
{
	assert(!writer->finished);
	if (size_within(first, count, writer->map.blocks))
		return 0;
	return err_set(err, -EINVAL, "blocks %llu to %llu are past the end of the disk, which has %llu",
		       (unsigned long long)first, (unsigned long long)first + count,
		       (unsigned long long)writer->map.blocks);
}

static int slot_find(struct qcow2_writer *writer, uint64_t index, struct qcow2_entry **ret_slot, struct err *err)
{
	int rc = range_check(writer, index, 1, err);
	if (rc)
		return rc;
	*ret_slot = qcow2_map_slot(&writer->map, index);
	return *ret_slot ? 0 : err_sys(err, -ENOMEM, "table of block %llu", (unsigned long long)index);
}

// Gives back what an entry refers to.
static void entry_release(void *context, struct qcow2_entry entry)
{
	struct qcow2_writer *writer = context;
	if (qcow2_entry_packed(entry))
		qcow2_space_give_packed(&writer->space, entry);
	else if (qcow2_entry_offset(entry))
		qcow2_space_give(&writer->space, qcow2_entry_offset(entry));
}

int qcow2_write_packed(struct qcow2_writer *writer, uint64_t index, const void *packed, size_t len, struct err *err)
{
	struct qcow2_entry *slot;
	uint64_t offset;
	int rc = slot_find(writer, index, &slot, err);
	if (rc)
		return rc;
	if (len == 0 || len > BLOCK_SIZE)
		return err_set(err, -EINVAL, "packed block of %zu bytes: it has 1 to %d", len, BLOCK_SIZE);
	rc = qcow2_space_append(&writer->space, packed, len, &offset);
	if (rc)
		return err_sys(err, rc, "write block %llu to the overlay", (unsigned long long)index);
	struct qcow2_entry old = *slot;
	qcow2_map_put(&writer->map, slot, qcow2_entry_pack(offset, len));
	entry_release(writer, old);
	return 0;
}

// Writes the pieces in `mask`, each run of them at once, into the cluster at `offset`.
static int pieces_write(struct qcow2_writer *writer, uint64_t offset, uint16_t mask, const unsigned char *block)
{
	unsigned first = 0;
	while (mask >> first) {
		if (!(mask >> first & 1)) {
			first++;
			continue;
		}
		unsigned end = first;
		while (end < PIECES_PER_BLOCK && mask >> end & 1)
			end++;
		uint32_t at = first * PIECE_SIZE;
		int rc = env_pwrite(writer->file, block + at, (size_t)(end - first) * PIECE_SIZE, offset + at);
		if (rc)
			return rc;
		first = end;
	}
	return 0;
}

// Writes the pieces to a cluster of their own, which the entry then names instead of what it had.
static int pieces_place(struct qcow2_writer *writer, struct qcow2_entry *slot, uint16_t mask,
			const unsigned char *block)
{
	uint64_t offset;
	int rc = qcow2_space_take(&writer->space, &offset);
	if (rc)
		return rc;
	rc = pieces_write(writer, offset, mask, block);
	if (rc) {
		qcow2_space_give(&writer->space, offset);
		return rc;
	}
	struct qcow2_entry old = *slot;
	uint32_t bits = qcow2_mask_spread(mask);
	qcow2_map_put(&writer->map, slot, qcow2_entry_plain(offset, bits, qcow2_entry_zero(old) & ~bits));
	entry_release(writer, old);
	return 0;
}

static int pieces_in_place(struct qcow2_writer *writer, struct qcow2_entry *slot, uint16_t mask,
			   const unsigned char *block)
{
	uint64_t offset = qcow2_entry_offset(*slot);
	uint32_t bits = qcow2_mask_spread(mask);
	int rc = pieces_write(writer, offset, mask, block);
	if (rc == 0)
		qcow2_map_put(&writer->map, slot,
			      qcow2_entry_plain(offset, qcow2_entry_allocated(*slot) | bits,
						qcow2_entry_zero(*slot) & ~bits));
	return rc;
}

static int merge_room(struct qcow2_writer *writer)
{
	return writer->merge || (writer->merge = malloc(BLOCK_SIZE)) ? 0 : -ENOMEM;
}

// In place of pieces_in_place(), where what was kept refers to the cluster: what is held of the block moves to another one.
static int pieces_move(struct qcow2_writer *writer, struct qcow2_entry *slot, uint16_t mask, const unsigned char *block)
{
	uint16_t held = 0;
	size_t len = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		held |= (uint16_t)((qcow2_entry_allocated(*slot) >> 2 * i & 3) == 3 ? 1u << i : 0);
	if ((held & ~mask) == 0)
		return pieces_place(writer, slot, mask, block);
	int rc = merge_room(writer);
	if (rc == 0)
		rc = env_pread(writer->file, writer->merge, BLOCK_SIZE, qcow2_entry_offset(*slot), &len);
	if (rc)
		return rc;
	memset(writer->merge + len, 0, BLOCK_SIZE - len);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1)
			memcpy(writer->merge + i * PIECE_SIZE, block + i * PIECE_SIZE, PIECE_SIZE);
	return pieces_place(writer, slot, held | mask, writer->merge);
}

// Unpacks the cluster of `slot` into writer->merge and lays the pieces in `mask` over it.
static int pieces_merge(struct qcow2_writer *writer, const struct qcow2_entry *slot, uint16_t mask,
			const unsigned char *block, struct err *err)
{
	if (merge_room(writer))
		return err_sys(err, -ENOMEM, "merge a block");
	int rc = qcow2_space_flush(&writer->space);
	if (rc)
		return err_sys(err, rc, "write packed blocks to the overlay");
	rc = qcow2_unpack(&writer->unpacker, writer->file, writer->header.codec, *slot, writer->merge, err);
	if (rc)
		return rc;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1)
			memcpy(writer->merge + i * PIECE_SIZE, block + i * PIECE_SIZE, PIECE_SIZE);
	return 0;
}

int qcow2_write_pieces(struct qcow2_writer *writer, uint64_t index, uint16_t mask, const void *block, struct err *err)
{
	struct qcow2_entry *slot;
	int rc = slot_find(writer, index, &slot, err);
	if (rc)
		return rc;
	uint16_t whole = qcow2_pieces_of(writer->header.size, index);
	mask &= whole;
	if (mask == 0)
		return 0;
	if (qcow2_entry_offset(*slot)) {
		rc = qcow2_space_kept(&writer->space, qcow2_entry_offset(*slot)) ? pieces_move(writer, slot, mask, block)
										 : pieces_in_place(writer, slot, mask, block);
	} else if (qcow2_entry_packed(*slot) && mask != whole) {
		rc = pieces_merge(writer, slot, mask, block, err);
		if (rc)
			return rc;
		rc = pieces_place(writer, slot, whole, writer->merge);
	} else {
		rc = pieces_place(writer, slot, mask, block);
	}
	return rc ? err_sys(err, rc, "write block %llu to the overlay", (unsigned long long)index) : 0;
}

int qcow2_write_zeros(struct qcow2_writer *writer, uint64_t first, uint64_t count, struct err *err)
{
	int rc = range_check(writer, first, count, err);
	if (rc)
		return rc;
	rc = qcow2_map_zero(&writer->map, first, count, entry_release, writer);
	return rc ? err_sys(err, rc, "tables of %llu blocks", (unsigned long long)count) : 0;
}

uint16_t qcow2_writer_mask(const struct qcow2_writer *writer, uint64_t index)
{
	struct qcow2_entry entry = qcow2_map_get(&writer->map, index);
	uint32_t held = qcow2_entry_packed(entry) ? UINT32_MAX : qcow2_entry_allocated(entry) | qcow2_entry_zero(entry);
	uint16_t mask = (uint16_t)~qcow2_pieces_of(writer->header.size, index); // past the disk's end there is nothing to hold
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		mask |= (uint16_t)((held >> 2 * i & 3) == 3 ? 1u << i : 0);
	return mask;
}

void qcow2_writer_stats(const struct qcow2_writer *writer, struct qcow2_writer_stats *ret_stats)
{
	*ret_stats = (struct qcow2_writer_stats){
		.blocks = writer->map.held,
		.file_bytes = qcow2_space_file_bytes(&writer->space),
		.dead_bytes = writer->space.dead,
		.memory_bytes = sizeof(*writer) + writer->map.memory + qcow2_space_memory(&writer->space) +
				(writer->merge ? BLOCK_SIZE : 0),
	};
}
