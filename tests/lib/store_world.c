// SPDX-License-Identifier: Apache-2.0
// The oracle, the source that sends it, and the setup.
#include "tests/lib/store_world.h"

#include "tests/lib/feed.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *const world_disk_name[WORLD_DISKS] = {"vda", "vdb"};

// The second disk ends in the middle of a piece. In some worlds both grow, the first into the middle of a piece.
static const uint64_t small_size[WORLD_DISKS] = {3 * BLOCK_SIZE, 2 * BLOCK_SIZE + 5 * PIECE_SIZE + 3 * SECTOR_SIZE};
static const uint64_t large_size[WORLD_DISKS] = {3 * BLOCK_SIZE + 7 * PIECE_SIZE + SECTOR_SIZE, 5 * BLOCK_SIZE};

// --- the oracle: what the disks held at each cut ---

uint64_t world_size_at(const struct store_world *w, uint64_t point, unsigned disk)
{
	return point <= w->small_to ? small_size[disk] : large_size[disk];
}

// Where a block of the oracle is on its disk.
uint64_t world_place_of(const struct store_world *w, uint64_t block)
{
	return block < WORLD_NEAR_BLOCKS ? block : block + w->far;
}

// The size that a source has which is to make `point`.
void world_open_at(struct store_world *w, uint64_t point)
{
	for (unsigned d = 0; d < WORLD_DISKS; d++)
		w->open.disk[d].size = world_size_at(w, point, d) + (point > w->small_to ? w->far * BLOCK_SIZE : 0);
}

// Each point changes a whole block, some pieces, and zeros, on different disks in turn. The last block changes in the first
// two points only, so that later ones need what lies below them.
static void make_oracle(struct store_world *w)
{
	memset(w->oracle, 0, sizeof(w->oracle));
	for (unsigned p = 1; p <= WORLD_POINTS_MAX; p++) {
		memcpy(w->oracle[p], w->oracle[p - 1], sizeof(w->oracle[p]));
		unsigned a = p % 2, b = 1 - a;
		feed_fill(w->oracle[p][a], BLOCK_SIZE, p);
		feed_fill(w->oracle[p][b] + (size_t)(p + 1) * PIECE_SIZE, 2 * PIECE_SIZE, p + 100);
		if (p % 3 == 2)
			memset(w->oracle[p][a] + BLOCK_SIZE, 0, BLOCK_SIZE);
		else
			feed_fill(w->oracle[p][a] + BLOCK_SIZE + 4 * PIECE_SIZE, PIECE_SIZE + 3 * SECTOR_SIZE, p + 200);
		if (p <= 2)
			feed_fill(w->oracle[p][a] + 2 * BLOCK_SIZE + (size_t)p * PIECE_SIZE, 4 * PIECE_SIZE, p + 300);
		for (unsigned d = 0; d < WORLD_DISKS; d++) { // past the old end on the block that it was in, too, and on one that is new
			if (p > w->small_to) {
				feed_fill(w->oracle[p][d] + small_size[d], 2 * SECTOR_SIZE + p, p + 400);
				feed_fill(w->oracle[p][d] + large_size[d] - 3 * PIECE_SIZE, 3 * PIECE_SIZE, p + 500);
			}
			memset(w->oracle[p][d] + world_size_at(w, p, d), 0, WORLD_IMAGE_SIZE - world_size_at(w, p, d));
		}
	}
}

struct store_world *world_growing(uint32_t keep, uint64_t setup_points, uint64_t small_to)
{
	struct store_world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->small_to = small_to;
	make_oracle(w);
	w->keep = keep;
	w->setup_points = setup_points;
	w->codec = codec_new();
	assert_non_null(w->codec);
	w->open = feed_open(WORLD_DISKS, small_size, keep);
	world_open_at(w, 1);
	return w;
}

// Disks that grow until their tables need another sector.
struct store_world *world_growing_far(uint32_t keep, uint64_t setup_points, uint64_t small_to)
{
	struct store_world *w = world_growing(keep, setup_points, small_to);
	w->far = WORLD_FAR;
	return w;
}

struct store_world *world_new(uint32_t keep, uint64_t setup_points)
{
	return world_growing(keep, setup_points, WORLD_POINTS_MAX);
}

void world_free(struct store_world *w)
{
	codec_free(w->codec);
	free(w);
}

// --- driving the store ---

static int send_block(struct store_world *w, struct replica *r, unsigned d, uint64_t index, const unsigned char *old, const unsigned char *new,
		      struct err *err)
{
	return feed_block(&w->open, w->codec, r, d, index, new, feed_pieces(old, new), err);
}

static int send_decoy(struct store_world *w, struct replica *r, unsigned d, uint64_t index, const unsigned char *old, const unsigned char *new,
		      struct err *err)
{
	unsigned char decoy[BLOCK_SIZE];
	uint16_t mask = feed_pieces(old, new);
	memcpy(decoy, old, BLOCK_SIZE);
	for (size_t i = 0; i < BLOCK_SIZE; i++)
		if (mask >> (i / PIECE_SIZE) & 1)
			decoy[i] = (unsigned char)(new[i] ^ 0x5a);
	return send_block(w, r, d, index, old, decoy, err);
}

int world_send(struct store_world *w, struct replica *r, uint64_t number, bool decoy, struct err *err)
{
	int rc = 0;
	for (unsigned d = 0; d < WORLD_DISKS; d++)
		for (uint64_t b = 0; rc == 0 && b < size_blocks(world_size_at(w, number, d)); b++)
			rc = (decoy ? send_decoy : send_block)(w, r, d, world_place_of(w, b), w->oracle[number - 1][d] + b * BLOCK_SIZE,
							       w->oracle[number][d] + b * BLOCK_SIZE, err);
	return rc;
}

static int session(struct store_world *w, struct replica *r, uint64_t number, bool decoy, bool seals, struct err *err)
{
	struct wire_opened opened;
	world_open_at(w, number);
	int rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc)
		return rc;
	if (opened.last_point != number - 1)
		rc = err_set(err, -ESTALE, "session at point %llu", (unsigned long long)opened.last_point);
	if (rc == 0 && decoy)
		rc = world_send(w, r, number, true, err);
	if (rc == 0 && seals)
		rc = world_send(w, r, number, false, err);
	if (rc == 0 && seals)
		rc = feed_seal(r, (unsigned char)number, (int64_t)number, err);
	replica_session_end(r);
	return rc;
}

int world_commit(struct store_world *w, struct store *store, uint64_t number, bool again, struct err *err)
{
	struct replica *r = store_find(store, "vm1");
	if (!r)
		return err_set(err, -ENOENT, "vm1 is not in the store");
	int rc = again ? session(w, r, number, true, false, err) : 0;
	return rc ? rc : session(w, r, number, again, true, err);
}

int world_setup_empty(struct env *env, void *context, struct err *err)
{
	(void)context;
	return feed_make_dir(env, "store", err);
}

static int setup_pins(struct store_world *w, struct replica *r, struct err *err)
{
	struct retention policy = {.points = w->keep};
	int rc = w->pins ? replica_set_retention(r, &policy, err) : 0;
	for (uint64_t p = 1; rc == 0 && p <= w->setup_points; p++)
		if (w->pins >> p & 1)
			rc = replica_pin(r, p, "stays", err);
	return rc;
}

int world_setup(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	struct store *store = NULL;
	struct replica *r;
	int rc = feed_make_dir(env, "store", err);
	if (rc == 0)
		rc = store_open(env, "/store", &store, err);
	world_open_at(w, 1);
	if (rc == 0)
		rc = store_create(store, &w->open, feed_pin, &r, err);
	for (uint64_t p = 1; rc == 0 && p <= w->setup_points; p++)
		if ((rc = world_commit(w, store, p, false, err)) == 0)
			sim_clock_advance(sim_of_env(env), w->step_ns);
	if (rc == 0)
		rc = setup_pins(w, r, err);
	store_close(store);
	return rc;
}
