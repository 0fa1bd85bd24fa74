// SPDX-License-Identifier: Apache-2.0
// The oracle, the source that sends it, and the setup.
#include "tests/lib/store_world.h"

#include "base/bytes.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *const world_disk_name[WORLD_DISKS] = {"vda", "vdb"};
const unsigned char world_pin[OWNER_PIN_SIZE] = {1, 2, 3};

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

static void fill(unsigned char *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		to[i] = i % 97 ? (unsigned char)(seed & 0x0f) : (unsigned char)(seed >> 24);
	}
}

// Each point changes a whole block, some pieces, and zeros, on different disks in turn. The last block changes in the first
// two points only, so that later ones need what lies below them.
static void make_oracle(struct store_world *w)
{
	memset(w->oracle, 0, sizeof(w->oracle));
	for (unsigned p = 1; p <= WORLD_POINTS_MAX; p++) {
		memcpy(w->oracle[p], w->oracle[p - 1], sizeof(w->oracle[p]));
		unsigned a = p % 2, b = 1 - a;
		fill(w->oracle[p][a], BLOCK_SIZE, p);
		fill(w->oracle[p][b] + (size_t)(p + 1) * PIECE_SIZE, 2 * PIECE_SIZE, p + 100);
		if (p % 3 == 2)
			memset(w->oracle[p][a] + BLOCK_SIZE, 0, BLOCK_SIZE);
		else
			fill(w->oracle[p][a] + BLOCK_SIZE + 4 * PIECE_SIZE, PIECE_SIZE + 3 * SECTOR_SIZE, p + 200);
		if (p <= 2)
			fill(w->oracle[p][a] + 2 * BLOCK_SIZE + (size_t)p * PIECE_SIZE, 4 * PIECE_SIZE, p + 300);
		for (unsigned d = 0; d < WORLD_DISKS; d++) { // past the old end on the block that it was in, too, and on one that is new
			if (p > w->small_to) {
				fill(w->oracle[p][d] + small_size[d], 2 * SECTOR_SIZE + p, p + 400);
				fill(w->oracle[p][d] + large_size[d] - 3 * PIECE_SIZE, 3 * PIECE_SIZE, p + 500);
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
	w->open = (struct wire_open){.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3},
				     .codec = CODEC_ZSTD, .points_keep = keep, .rpo_ms = 15000, .disk_count = WORLD_DISKS};
	fill(w->open.digest.secret, DIGEST_SECRET_SIZE, 9);
	for (unsigned d = 0; d < WORLD_DISKS; d++)
		strcpy(w->open.disk[d].name, world_disk_name[d]);
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

static uint16_t changed_pieces(const unsigned char *old, const unsigned char *new)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (memcmp(old + (size_t)i * PIECE_SIZE, new + (size_t)i * PIECE_SIZE, PIECE_SIZE) != 0)
			mask |= (uint16_t)(1u << i);
	return mask;
}

static int send_block(struct store_world *w, struct replica *r, unsigned d, uint64_t index, const unsigned char *old,
		      const unsigned char *new, struct err *err)
{
	unsigned char plain[BLOCK_SIZE], packed[BLOCK_SIZE];
	struct wire_block m = {.disk = (uint16_t)d, .mask = changed_pieces(old, new), .index = index,
			       .digest = digest_of(&w->open.digest, (uint16_t)d, index, new), .codec = CODEC_NONE, .payload = plain};
	if (m.mask == 0)
		return 0;
	if (bytes_zero(new, BLOCK_SIZE)) {
		struct wire_zeros zeros = {.disk = (uint16_t)d, .first = index, .count = 1};
		return replica_write_zeros(r, &zeros, err);
	}
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (m.mask >> i & 1) {
			memcpy(plain + m.len, new + (size_t)i * PIECE_SIZE, PIECE_SIZE);
			m.len += PIECE_SIZE;
		}
	size_t len = m.mask == MASK_FULL ? codec_pack(w->codec, CODEC_ZSTD, plain, m.len, packed, m.len - 1) : 0;
	if (len) {
		m.codec = CODEC_ZSTD;
		m.payload = packed;
		m.len = (uint32_t)len;
	}
	return replica_write_block(r, &m, err);
}

static int send_decoy(struct store_world *w, struct replica *r, unsigned d, uint64_t index, const unsigned char *old, const unsigned char *new,
		      struct err *err)
{
	unsigned char decoy[BLOCK_SIZE];
	uint16_t mask = changed_pieces(old, new);
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
	struct wire_committed committed;
	world_open_at(w, number);
	int rc = replica_session_begin(r, &w->open, world_pin, &opened, err);
	if (rc)
		return rc;
	if (opened.last_point != number - 1)
		rc = err_set(err, -ESTALE, "session at point %llu", (unsigned long long)opened.last_point);
	if (rc == 0 && decoy)
		rc = world_send(w, r, number, true, err);
	if (rc == 0 && seals)
		rc = world_send(w, r, number, false, err);
	struct wire_seal seal = {.predecessor = number - 1, .cut = {{(unsigned char)number}}, .head = opened.head,
				 .cut_wall_ns = (int64_t)number, .consistency = POINT_CRASH};
	if (rc == 0 && seals)
		rc = replica_seal(r, &seal, &committed, err);
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

static int make_dir(struct env *env, struct err *err)
{
	struct env_root *root;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return err_sys(err, rc, "open /");
	rc = env_mkdir(root, "store");
	env_root_close(root);
	return rc ? err_sys(err, rc, "mkdir store") : 0;
}

int world_setup_empty(struct env *env, void *context, struct err *err)
{
	(void)context;
	return make_dir(env, err);
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
	int rc = make_dir(env, err);
	if (rc == 0)
		rc = store_open(env, "/store", &store, err);
	world_open_at(w, 1);
	if (rc == 0)
		rc = store_create(store, &w->open, world_pin, &r, err);
	for (uint64_t p = 1; rc == 0 && p <= w->setup_points; p++)
		if ((rc = world_commit(w, store, p, false, err)) == 0)
			sim_clock_advance(sim_of_env(env), w->step_ns);
	if (rc == 0)
		rc = setup_pins(w, r, err);
	store_close(store);
	return rc;
}

