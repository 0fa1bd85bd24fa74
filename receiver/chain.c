// SPDX-License-Identifier: Apache-2.0
// The chain of one disk: overlays, newest first, then the base, then digests. It follows the backing names that the overlays have, and
// takes only those that the store writes: a point with a lower number, or the base; so that it ends, and leaves the protection never.
//
// A layer may be of a smaller disk than the one above it. By qcow2's rule it reads zeros past its end, whatever lies below.
#include "receiver/chain.h"

#include "base/bytes.h"
#include "receiver/replica.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct layer {
	uint64_t number; // of the point
	uint64_t size;	 // that the disk had
	struct env_file *file;
	struct qcow2_reader *reader;
};

struct chain {
	struct replica *replica;
	unsigned disk;
	uint64_t size;	     // of the newest layer, or of the base alone
	struct layer *layer; // newest first
	size_t count;
	struct env_file *base;
	uint64_t hole_from, hole_to; // of the base: takes no space there
	struct table digests;
	uint64_t data_blocks;
	unsigned char *part; // what one layer holds of a block
};

// --- layers ---

// The number of the point that an overlay stands on, 0 for the base.
static int below_find(const struct chain *chain, const struct layer *layer, uint64_t *ret_below, struct err *err)
{
	char expected[REPLICA_PATH_SIZE];
	const char *backing = qcow2_reader_backing(layer->reader), *name = chain->replica->prot.disk[chain->disk].name;
	bool raw = qcow2_reader_backing_format(layer->reader) == QCOW2_BACKING_RAW;
	uint64_t below = 0;
	(void)snprintf(expected, sizeof(expected), "../../base/%s.raw", name);
	if (!raw) {
		below = strncmp(backing, "../", 3) == 0 ? strtoull(backing + 3, NULL, 10) : 0;
		(void)snprintf(expected, sizeof(expected), "../%llu/%s.qcow2", (unsigned long long)below, name);
	}
	if (strcmp(backing, expected) != 0 || below >= layer->number || (!raw && below == 0))
		return err_set(err, -EBADMSG, "backing file: neither a point below it nor the base");
	*ret_below = below;
	return 0;
}

// Adds point `number` below the layers that are there.
static int layer_add(struct chain *chain, uint64_t number, uint64_t *ret_below, struct err *err)
{
	const struct replica *r = chain->replica;
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	struct layer *more = realloc(chain->layer, (chain->count + 1) * sizeof(*more));
	if (more)
		chain->layer = more;
	if (!point || !more)
		return err_set(err, -ENOMEM, "out of memory for a chain of %zu points", chain->count + 1);
	int rc = replica_read_point(r, number, point, err);
	if (rc)
		return rc;
	struct layer *layer = &chain->layer[chain->count];
	*layer = (struct layer){.number = number, .size = point->disk[chain->disk].size};
	rc = replica_open_file(r, ENV_READ, &layer->file, err, "points/%llu/%s.qcow2", (unsigned long long)number,
			       r->prot.disk[chain->disk].name);
	if (rc)
		return rc;
	chain->count++;
	rc = qcow2_reader_open(layer->file, &layer->reader, err);
	if (rc == 0 && (qcow2_reader_size(layer->reader) != layer->size || layer->size > chain->layer[0].size))
		rc = err_set(err, -EBADMSG, "not of the size that the disk had");
	if (rc == 0)
		rc = below_find(chain, layer, ret_below, err);
	return rc ? err_wrap(err, "%s/points/%llu/%s.qcow2", r->name, (unsigned long long)number,
			     r->prot.disk[chain->disk].name)
		  : 0;
}

static int layers_open(struct chain *chain, uint64_t number, struct err *err)
{
	int rc = 0;
	while (rc == 0 && number)
		rc = layer_add(chain, number, &number, err);
	chain->size = chain->count ? chain->layer[0].size : chain->replica->prot.disk[chain->disk].size;
	return rc ? rc
		  : replica_open_file(chain->replica, ENV_READ, &chain->base, err, "base/%s.raw",
				      chain->replica->prot.disk[chain->disk].name);
}

// --- digests ---

static int digest_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct chain *chain = context;
	return table_set(&chain->digests, index, digest) ? err_set(err, -ENOMEM, "out of memory for digests") : 0;
}

static int list_load(struct chain *chain, uint64_t number, struct err *err)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	if (!point)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = replica_read_point(chain->replica, number, point, err);
	return rc ? rc : digests_of_point(chain->replica, point, chain->disk, digest_take, chain, err);
}

// The base's table first, then what each point changed, oldest first.
static int digests_load(struct chain *chain, struct err *err)
{
	assert(chain && chain->layer && chain->count);
	table_init(&chain->digests, size_blocks(chain->layer[0].size));
	int rc = digests_of_base(chain->replica, chain->disk, chain->layer[chain->count - 1].size, digest_take, chain, err);
	for (size_t i = chain->count; rc == 0 && i-- > 0;)
		rc = list_load(chain, chain->layer[i].number, err);
	for (uint64_t at = chain_next(chain, 0); rc == 0 && at != CHAIN_END; at = chain_next(chain, at + 1))
		chain->data_blocks++;
	return rc;
}

// --- the whole ---

int chain_open_files(struct replica *replica, uint64_t number, unsigned disk, struct chain **ret_chain, struct err *err)
{
	if (disk >= replica->prot.disk_count)
		return err_set(err, -ENOENT, "%s has no disk number %u", replica->name, disk);
	struct chain *chain = calloc(1, sizeof(*chain));
	if (!chain)
		return err_set(err, -ENOMEM, "out of memory");
	chain->replica = replica;
	chain->disk = disk;
	chain->part = malloc(BLOCK_SIZE);
	int rc = chain->part ? layers_open(chain, number, err) : err_set(err, -ENOMEM, "out of memory");
	if (rc) {
		chain_close(chain);
		return rc;
	}
	*ret_chain = chain;
	return 0;
}

int chain_open(struct replica *replica, uint64_t number, unsigned disk, struct chain **ret_chain, struct err *err)
{
	struct chain *chain = NULL;
	if (number == 0)
		return err_set(err, -ENOENT, "%s has no point 0", replica->name);
	int rc = chain_open_files(replica, number, disk, &chain, err);
	if (rc == 0)
		rc = digests_load(chain, err);
	if (rc) {
		chain_close(chain);
		return rc;
	}
	*ret_chain = chain;
	return 0;
}

void chain_close(struct chain *chain)
{
	if (!chain)
		return;
	for (size_t i = 0; i < chain->count; i++) {
		qcow2_reader_free(chain->layer[i].reader);
		env_close(chain->layer[i].file);
	}
	env_close(chain->base);
	table_done(&chain->digests);
	free(chain->layer);
	free(chain->part);
	free(chain);
}

bool chain_lacks(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -ESHUTDOWN;
}

uint64_t chain_size(const struct chain *chain)
{
	return chain->size;
}

uint64_t chain_depth(const struct chain *chain)
{
	return chain->count;
}

uint64_t chain_data_blocks(const struct chain *chain)
{
	return chain->data_blocks;
}

bool chain_zeros(const struct chain *chain, uint64_t index)
{
	const struct digest *committed = table_get(&chain->digests, index);
	return !committed || digest_is_zero(committed);
}

uint64_t chain_next(const struct chain *chain, uint64_t from)
{
	uint64_t at = table_next(&chain->digests, from);
	while (at != TABLE_END && chain_zeros(chain, at))
		at = table_next(&chain->digests, at + 1);
	return at == TABLE_END ? CHAIN_END : at;
}

// The pieces of a block that lie wholly past the end of a disk of `size` bytes: there a layer says zeros.
static uint16_t pieces_past(uint64_t size, uint64_t index)
{
	uint64_t at = index * BLOCK_SIZE;
	if (at >= size)
		return MASK_FULL;
	unsigned within = (size_of_block(size, index) + PIECE_SIZE - 1) / PIECE_SIZE;
	return (uint16_t)((unsigned)MASK_FULL << within);
}

// What cannot be said is read: then it is told what is wrong.
static bool base_holds(struct chain *chain, uint64_t index)
{
	uint64_t from = index * BLOCK_SIZE, to = from + BLOCK_SIZE, data_from, data_to;
	if (from >= chain->hole_from && to <= chain->hole_to)
		return false;
	if (env_data(chain->base, from, &data_from, &data_to))
		return true;
	if (data_from == data_to) // no more of it
		data_from = UINT64_MAX;
	if (data_from < to)
		return true;
	chain->hole_from = from;
	chain->hole_to = data_from;
	return false;
}

bool chain_holds(struct chain *chain, uint64_t index)
{
	uint16_t have = 0;
	if (!chain_zeros(chain, index))
		return true;
	for (size_t i = 0; have != MASK_FULL && i < chain->count; i++) {
		const struct layer *layer = &chain->layer[i];
		struct qcow2_held held = {.mask = 0};
		if (index < size_blocks(layer->size) && qcow2_reader_held(layer->reader, index, &held, NULL))
			return true;
		if (held.bytes)
			return true;
		have |= held.mask | pieces_past(layer->size, index); // zeros, whatever is below them
	}
	return have != MASK_FULL && base_holds(chain, index);
}

// --- reading ---

// Takes the pieces in `mask` that no layer above has said anything about.
static void pieces_take(unsigned char *block, const unsigned char *part, uint16_t mask, uint16_t *have)
{
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1 && !(*have >> i & 1))
			memcpy(block + (size_t)i * PIECE_SIZE, part + (size_t)i * PIECE_SIZE, PIECE_SIZE);
	*have |= mask;
}

static int layer_read(struct chain *chain, const struct layer *layer, uint64_t index, unsigned char *block, uint16_t *have,
		      struct err *err)
{
	uint16_t mask = 0;
	if (index < size_blocks(layer->size)) {
		int rc = qcow2_reader_read(layer->reader, index, chain->part, &mask, err);
		if (rc)
			return err_wrap(err, "%s/points/%llu/%s.qcow2", chain->replica->name, (unsigned long long)layer->number,
					chain->replica->prot.disk[chain->disk].name);
	}
	pieces_take(block, chain->part, mask, have);
	*have |= pieces_past(layer->size, index); // `block` began as zeros
	return 0;
}

static int base_read(struct chain *chain, uint64_t index, unsigned char *block, uint16_t *have, struct err *err)
{
	uint64_t size = chain->count ? chain->layer[chain->count - 1].size : chain->size;
	uint32_t len = size_of_block(size, index); // within: else the oldest layer had said zeros
	memset(chain->part, 0, BLOCK_SIZE);
	int rc = env_pread_full(chain->base, chain->part, len, index * BLOCK_SIZE);
	if (rc)
		return err_sys(err, rc, "read %s/base/%s.raw", chain->replica->name, chain->replica->prot.disk[chain->disk].name);
	pieces_take(block, chain->part, MASK_FULL, have);
	return 0;
}

int chain_read(struct chain *chain, uint64_t index, void *block, struct err *err)
{
	uint16_t have = 0;
	int rc = 0;
	if (index >= size_blocks(chain_size(chain)))
		return err_set(err, -EINVAL, "block %llu is past the end of the disk", (unsigned long long)index);
	memset(block, 0, BLOCK_SIZE);
	for (size_t i = 0; rc == 0 && have != MASK_FULL && i < chain->count; i++)
		rc = layer_read(chain, &chain->layer[i], index, block, &have, err);
	return rc || have == MASK_FULL ? rc : base_read(chain, index, block, &have, err);
}

// Whether a block is what was committed.
static bool chain_proves(const struct chain *chain, uint64_t index, const void *block)
{
	static const struct digest zero;
	const struct digest *committed = table_get(&chain->digests, index);
	struct digest found = digest_of(&chain->replica->prot.digest, (uint16_t)chain->disk, index, block);
	return digest_equal(&found, committed ? committed : &zero);
}

int chain_get(struct chain *chain, uint64_t index, void *block, struct err *err)
{
	struct err why = {.code = 0};
	int rc = chain_read(chain, index, block, &why);
	if (rc == 0 && chain_proves(chain, index, block))
		return 0;
	if (chain_lacks(rc))
		return err_set(err, rc, "%s", why.text);
	return err_set(err, rc ? rc : -EBADMSG, "disk %s of %s@%llu is damaged in the store: block %llu is not what was committed%s%.150s%s; use another point",
		       chain->replica->prot.disk[chain->disk].name, chain->replica->name, (unsigned long long)chain->layer[0].number,
		       (unsigned long long)index, rc ? " (" : "", why.text, rc ? ")" : "");
}
