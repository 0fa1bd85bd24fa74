// SPDX-License-Identifier: Apache-2.0
// The merge of overlays. A block at a time, in order of the disk; of a block the layers are asked from the top down, and only as far as
// something is missing.
#include "format/qcow2_merge.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "format/qcow2_layout.h"

#include <errno.h>
#include <stdlib.h>

struct work {
	const struct qcow2_merge *merge;
	struct qcow2_writer *to;
	uint64_t size;		 // of the uppermost
	uint64_t *next;		 // of each layer, the first block at or after where we are; UINT64_MAX: none
	unsigned char *block;	 // as it comes together
	unsigned char *layer;	 // what one layer has of it
	unsigned char *packed;	 // and packed again
	struct codec_context *packer;
};

// A stream may stand for the block only when its layer ends where the disk does, or behind the block: what a smaller layer
// has past its end is not part of it.
static bool copies_as_it_is(const struct work *w, size_t i, uint64_t index, const struct qcow2_held *held)
{
	struct qcow2_reader *layer = w->merge->layers[i];
	return held->packed && qcow2_reader_codec(layer) == w->merge->codec &&
	       size_of_block(qcow2_reader_size(layer), index) == size_of_block(w->size, index);
}

// What a layer has of a block could not be read: 2 when that is to be left out.
static int unreadable(const struct work *w, size_t layer, uint64_t first, uint64_t count, int rc, struct err *err)
{
	if ((rc != -EBADMSG && rc != -EIO) || !w->merge->skip)
		return rc;
	rc = w->merge->skip(w->merge->context, layer, first, count, err);
	return rc ? rc : 2;
}

// 1: copied. 0: it has to be unpacked. 2: left out.
static int stream_copy(struct work *w, size_t i, uint64_t index, uint64_t *ret_bytes, struct err *err)
{
	const void *packed;
	size_t len = 0;
	int rc = qcow2_reader_packed(w->merge->layers[i], index, &packed, &len, err);
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return unreadable(w, i, index, 1, rc, err);
	*ret_bytes = len;
	rc = qcow2_write_packed(w->to, index, packed, len, err);
	return rc ? rc : 1;
}

// Adds the pieces of a layer that no upper one has. 2: they are left out.
static int layer_add(struct work *w, size_t i, uint64_t index, uint16_t *have, struct err *err)
{
	uint16_t mask = 0;
	int rc = qcow2_reader_read(w->merge->layers[i], index, w->layer, &mask, err);
	if (rc)
		return unreadable(w, i, index, 1, rc, err);
	mask &= (uint16_t)~*have;
	for (unsigned p = 0; p < PIECES_PER_BLOCK; p++)
		if (mask >> p & 1)
			memcpy(w->block + (size_t)p * PIECE_SIZE, w->layer + (size_t)p * PIECE_SIZE, PIECE_SIZE);
	*have |= mask;
	return 0;
}

static int block_write(struct work *w, uint64_t index, uint16_t have, uint64_t *ret_bytes, struct err *err)
{
	bool whole = have == qcow2_pieces_of(w->size, index);
	*ret_bytes = (uint64_t)__builtin_popcount(have) * PIECE_SIZE;
	if (whole && bytes_zero(w->block, BLOCK_SIZE))
		return qcow2_write_zeros(w->to, index, 1, err);
	size_t len = whole ? codec_pack(w->packer, w->merge->codec, w->block, BLOCK_SIZE, w->packed, BLOCK_SIZE - 1) : 0;
	if (len)
		return qcow2_write_packed(w->to, index, w->packed, len, err);
	return qcow2_write_pieces(w->to, index, have, w->block, err);
}

static int block_merge(struct work *w, uint64_t index, uint64_t *ret_bytes, struct err *err)
{
	uint16_t have = 0, need = qcow2_pieces_of(w->size, index);
	int rc = 0;
	memset(w->block, 0, BLOCK_SIZE);
	for (size_t i = w->merge->count; i-- > 0 && have != need;) {
		struct qcow2_held held;
		if (w->next[i] != index)
			continue;
		rc = qcow2_reader_held(w->merge->layers[i], index, &held, err);
		if (rc)
			rc = unreadable(w, i, index, 1, rc, err);
		else if (have == 0 && copies_as_it_is(w, i, index, &held))
			rc = stream_copy(w, i, index, ret_bytes, err);
		if (rc == 0)
			rc = layer_add(w, i, index, &have, err);
		if (rc < 0 || rc == 1)
			return rc < 0 ? rc : 0;
	}
	*ret_bytes = 0;
	return have ? block_write(w, index, have, ret_bytes, err) : 0; // of a block that no layer can read nothing is held
}

// Of one layer; what is behind a table that cannot be read is left out.
static int layer_next(struct work *w, size_t i, uint64_t from, struct err *err)
{
	struct qcow2_reader *layer = w->merge->layers[i];
	uint64_t blocks = size_blocks(qcow2_reader_size(layer));
	int rc;
	while ((rc = qcow2_reader_next(layer, from, &w->next[i], err)) && rc != -ENOENT) {
		uint64_t unread = w->next[i];
		from = min_u64(blocks, (unread / QCOW2_TABLE_BLOCKS + 1) * QCOW2_TABLE_BLOCKS);
		rc = unreadable(w, i, unread, from - unread, rc, err);
		if (rc != 2)
			return rc;
	}
	return rc;
}

// The first block at or after `from` that any layer holds something of; -ENOENT when there is none.
static int block_next(struct work *w, uint64_t from, uint64_t *ret_index, struct err *err)
{
	*ret_index = UINT64_MAX;
	for (size_t i = 0; i < w->merge->count; i++) {
		int rc = 0;
		if (from == 0 || w->next[i] < from)
			rc = layer_next(w, i, from, err);
		if (rc == -ENOENT)
			w->next[i] = UINT64_MAX;
		else if (rc)
			return rc;
		*ret_index = min_u64(*ret_index, w->next[i]);
	}
	return *ret_index == UINT64_MAX ? -ENOENT : 0;
}

static int blocks_merge(struct work *w, struct err *err)
{
	uint64_t index = 0, bytes = 0;
	int rc;
	for (uint64_t from = 0; (rc = block_next(w, from, &index, err)) == 0; from = index + 1) {
		rc = block_merge(w, index, &bytes, err);
		if (rc == 0 && w->merge->pace && (rc = w->merge->pace(w->merge->context, bytes)))
			(void)err_sys(err, rc, "merge");
		if (rc)
			return rc;
	}
	return rc == -ENOENT ? 0 : rc;
}

int qcow2_merge(struct qcow2_writer *to, const struct qcow2_merge *merge, struct err *err)
{
	AUTO_FREE unsigned char *memory = malloc(3 * BLOCK_SIZE);
	AUTO_FREE uint64_t *next = calloc(merge->count, sizeof(*next));
	struct work w = {.merge = merge, .to = to, .next = next, .block = memory, .packer = codec_new()};
	int rc = -ENOMEM;
	assert(merge->count > 0);
	if (!memory || !next || !w.packer) {
		(void)err_set(err, rc, "out of memory");
	} else {
		w.layer = memory + BLOCK_SIZE;
		w.packed = memory + (size_t)2 * BLOCK_SIZE;
		w.size = qcow2_reader_size(merge->layers[merge->count - 1]);
		rc = blocks_merge(&w, err);
	}
	codec_free(w.packer);
	return rc;
}
