// SPDX-License-Identifier: Apache-2.0
// What the disks of a point show, piece by piece, through all of their layers. Each file is opened once for all points that stand on it, and
// each of its blocks unpacked once: else most of an enumeration's time went here.
#include "tests/lib/store_world.h"

#include "format/qcow2.h"
#include "format/qcow2_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = WORLD_DISKS * (WORLD_POINTS_MAX + 2), PATH_SIZE = 256 };

struct layer {
	char path[PATH_SIZE], backing[PATH_SIZE];
	struct env_file *file;
	struct qcow2_reader *reader; // NULL: raw
	bool known[WORLD_BLOCKS];
	uint16_t mask[WORLD_BLOCKS]; // pieces that are here, or past the end
	unsigned char *block[WORLD_BLOCKS];
};

struct stack {
	struct store_world *world;
	struct env_root *root;
	struct layer layer[LAYERS];
	unsigned count;
};

// The memory of blocks, kept from one state to the next.
static unsigned char blocks[LAYERS][WORLD_BLOCKS][BLOCK_SIZE];

// What lies past the end of an image is zeros for the larger one that stands on it, and nobody looks further down.
static uint16_t pieces_past(uint64_t size, uint64_t index)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (index * BLOCK_SIZE + (uint64_t)i * PIECE_SIZE >= size)
			mask |= (uint16_t)(1u << i);
	return mask;
}

// The name that the backing name of `layer`, relative to where it is, stands for.
static void backing_find(struct layer *layer)
{
	const char *name = qcow2_reader_backing(layer->reader);
	size_t len = (size_t)(strrchr(layer->path, '/') - layer->path);
	for (; strncmp(name, "../", 3) == 0; name += 3)
		while (len > 0 && layer->path[--len] != '/')
			;
	memcpy(layer->backing, layer->path, len);
	(void)snprintf(layer->backing + len, PATH_SIZE - len, "/%s", name);
}

static int layer_open(struct stack *s, struct layer *layer, bool raw, struct err *err)
{
	int rc = env_open(s->root, layer->path, ENV_READ, &layer->file);
	if (rc)
		return err_sys(err, rc, "%s", layer->path);
	s->count++;
	if (raw)
		return 0;
	rc = qcow2_reader_open(layer->file, &layer->reader, err);
	if (rc)
		return err_wrap(err, "%s", layer->path);
	backing_find(layer);
	return 0;
}

static int layer_get(struct stack *s, const char *path, bool raw, struct layer **ret_layer, struct err *err)
{
	for (unsigned i = 0; i < s->count; i++)
		if (strcmp(s->layer[i].path, path) == 0 && (s->layer[i].reader == NULL) == raw) {
			*ret_layer = &s->layer[i];
			return 0;
		}
	if (s->count == LAYERS)
		return err_set(err, -ELOOP, "%s: more layers than there can be", path);
	struct layer *layer = *ret_layer = &s->layer[s->count];
	memset(layer, 0, sizeof(*layer));
	memcpy(layer->path, path, strnlen(path, PATH_SIZE - 1)); // of another layer, perhaps
	for (unsigned b = 0; b < WORLD_BLOCKS; b++)
		layer->block[b] = blocks[s->count][b];
	return layer_open(s, layer, raw, err);
}

static int layer_read(struct stack *s, struct layer *layer, unsigned b, struct err *err)
{
	uint64_t index = world_place_of(s->world, b);
	size_t got = 0;
	int rc = 0;
	if (layer->known[b])
		return 0;
	if (!layer->reader) {
		rc = env_pread(layer->file, layer->block[b], BLOCK_SIZE, index * BLOCK_SIZE, &got);
		if (rc)
			return err_sys(err, rc, "%s", layer->path);
		memset(layer->block[b] + got, 0, BLOCK_SIZE - got);
		layer->mask[b] = MASK_FULL;
	} else {
		memset(layer->block[b], 0, BLOCK_SIZE);
		if (index < size_blocks(qcow2_reader_size(layer->reader)) &&
		    qcow2_reader_read(layer->reader, index, layer->block[b], &layer->mask[b], err))
			return err_wrap(err, "%s", layer->path);
		layer->mask[b] |= pieces_past(qcow2_reader_size(layer->reader), index);
	}
	layer->known[b] = true;
	return 0;
}

// Compares the pieces in *have's complement that `layer` has; `len` is how much of the block is on the disk.
static bool layer_shows(const struct layer *layer, unsigned b, const unsigned char *oracle, uint32_t len, uint16_t *have)
{
	uint16_t here = (uint16_t)(layer->mask[b] & ~*have);
	*have |= here;
	for (uint32_t i = 0; i < PIECES_PER_BLOCK && i * PIECE_SIZE < len; i++)
		if (here >> i & 1 && memcmp(layer->block[b] + i * PIECE_SIZE, oracle + i * PIECE_SIZE, min_u64(PIECE_SIZE, len - i * PIECE_SIZE)) != 0)
			return false;
	return true;
}

static int block_check(struct stack *s, const char *path, uint64_t point, unsigned d, unsigned b, struct err *err)
{
	const unsigned char *oracle = s->world->oracle[point][d] + (size_t)b * BLOCK_SIZE;
	uint32_t len = size_of_block(world_size_at(s->world, point, d), b);
	uint16_t have = 0;
	bool raw = false;
	for (unsigned depth = 0; have != MASK_FULL; depth++) {
		struct layer *layer = NULL;
		if (depth > WORLD_POINTS_MAX + 1)
			return err_set(err, -ELOOP, "%s: the chain has no end", path);
		int rc = layer_get(s, path, raw, &layer, err);
		if (rc == 0)
			rc = layer_read(s, layer, b, err);
		if (rc)
			return err_wrap(err, "point %llu", (unsigned long long)point);
		if (!layer_shows(layer, b, oracle, len, &have))
			return err_set(err, -EBADMSG, "point %llu, %s, block %u: not what the disk held at the cut", (unsigned long long)point,
				       world_disk_name[d], b);
		path = layer->backing;
		raw = layer->reader && qcow2_reader_backing_format(layer->reader) == QCOW2_BACKING_RAW;
	}
	return 0;
}

static int disks_check(struct stack *s, const char *dir, uint64_t point, struct err *err)
{
	int rc = 0;
	for (unsigned d = 0; rc == 0 && d < WORLD_DISKS; d++) {
		char path[PATH_SIZE];
		(void)snprintf(path, sizeof(path), "%s/%s.qcow2", dir, world_disk_name[d]);
		for (unsigned b = 0; rc == 0 && b < size_blocks(world_size_at(s->world, point, d)); b++)
			rc = block_check(s, path, point, d, b, err);
	}
	return rc;
}

static void found_nothing(void *context, const char *text)
{
	(void)context, (void)text;
}

// As `qemu-img check` has it: no error, no leak.
static int layers_check(const struct stack *s, struct err *err)
{
	for (unsigned i = 0; i < s->count; i++) {
		uint64_t findings = 0;
		int rc = s->layer[i].reader ? qcow2_check(s->layer[i].file, found_nothing, NULL, &findings, err) : 0;
		if (rc || findings)
			return rc ? rc : err_set(err, -EBADMSG, "%s: %llu errors or leaks", s->layer[i].path, (unsigned long long)findings);
	}
	return 0;
}

static void stack_close(struct stack *s)
{
	for (unsigned i = 0; i < s->count; i++) {
		qcow2_reader_free(s->layer[i].reader);
		env_close(s->layer[i].file);
	}
	env_root_close(s->root);
}

int world_read_points(struct store_world *w, struct env *env, uint64_t first, uint64_t last, unsigned there, struct err *err)
{
	struct stack s = {.world = w};
	int rc = env_root_open(env, "/store", &s.root);
	for (uint64_t p = first; rc == 0 && p <= last; p++) {
		char dir[64];
		(void)snprintf(dir, sizeof(dir), "vm1/points/%llu", (unsigned long long)p);
		if (there >> p & 1)
			rc = disks_check(&s, dir, p, err);
	}
	if (rc == 0)
		rc = layers_check(&s, err);
	stack_close(&s);
	return rc;
}

int world_read_disks(struct store_world *w, struct env *env, const char *dir, uint64_t point, struct err *err)
{
	struct stack s = {.world = w};
	if (point == 0 || point > WORLD_POINTS_MAX)
		return err_set(err, -EBADMSG, "on point %llu", (unsigned long long)point);
	int rc = env_root_open(env, "/store", &s.root);
	if (rc == 0)
		rc = disks_check(&s, dir, point, err);
	if (rc == 0)
		rc = layers_check(&s, err);
	stack_close(&s);
	return rc;
}
