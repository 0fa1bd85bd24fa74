// SPDX-License-Identifier: Apache-2.0
// The store under crash enumeration (receiver/store.h over tests/sim): R3, a commit is atomic; R4, a fold or a merge changes no byte of any
// point. After every crash the whole content of every point is compared with the oracle, read through the overlays
// and the base as a user's tools would, and the digests that the next session would compare with are too.
//
// KAGAMI_CRASH_STATES=n looks at up to n states a scenario.
#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "format/codec.h"
#include "format/qcow2.h"
#include "receiver/store.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

// In a world whose disks grow far, blocks 3 and 4 of the oracle are 31 and 32 of the disk, and zeros lie between: a sector of
// a digest
// table has 31 blocks, so that the table must get longer too.
enum { DISKS = 2, BLOCKS = 5, POINTS_MAX = 5, IMAGE_SIZE = BLOCKS * BLOCK_SIZE };
enum { NEAR_BLOCKS = 3, FAR = 28, DISK_BLOCKS_MAX = BLOCKS + FAR };

// The second disk ends in the middle of a piece. In some worlds both grow, the first into the middle of a piece.
static const uint64_t small_size[DISKS] = {3 * BLOCK_SIZE, 2 * BLOCK_SIZE + 5 * PIECE_SIZE + 3 * SECTOR_SIZE};
static const uint64_t large_size[DISKS] = {3 * BLOCK_SIZE + 7 * PIECE_SIZE + SECTOR_SIZE, 5 * BLOCK_SIZE};
static const char *const disk_name[DISKS] = {"vda", "vdb"};
static const unsigned char pin[OWNER_PIN_SIZE] = {1, 2, 3};

struct promise { // what the run was told, or asked for; cleared at its start
	uint64_t first_from, first_to; // the oldest point is one of these
	uint64_t last_from, last_to;   // and the newest
	bool created;
	uint64_t fenced; // 0: not
	bool fence_asked;
	unsigned gone_may, gone_must; // bit n: point n, in the middle, may be gone, or is for certain
	unsigned pinned_must;	      // these points are there, and pinned
};

struct world {
	unsigned char oracle[POINTS_MAX + 1][DISKS][IMAGE_SIZE]; // [point]; [0] is the empty disk
	struct wire_open open;
	uint32_t keep;
	uint64_t setup_points;
	uint64_t small_to;     // the newest point of the small disks; POINTS_MAX where they do not grow
	uint64_t far;	       // FAR, or 0: how many blocks of zeros come before block 3 of the oracle
	bool recovery_retains; // recover() folds too
	unsigned pins;	       // bit n: point n is pinned at the end of the setup, and there is an operator's policy
	bool sync_may_fail;    // a sync that failed before recovery, in a process before it, cannot be made good by it
	struct promise promise;
	struct codec_context *codec;
};

// --- the oracle: what the disks held at each cut ---

static uint64_t size_at(const struct world *w, uint64_t point, unsigned disk)
{
	return point <= w->small_to ? small_size[disk] : large_size[disk];
}

// Where a block of the oracle is on its disk.
static uint64_t place_of(const struct world *w, uint64_t block)
{
	return block < NEAR_BLOCKS ? block : block + w->far;
}

// The size that a source has which is to make `point`.
static void open_at(struct world *w, uint64_t point)
{
	for (unsigned d = 0; d < DISKS; d++)
		w->open.disk[d].size = size_at(w, point, d) + (point > w->small_to ? w->far * BLOCK_SIZE : 0);
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
static void make_oracle(struct world *w)
{
	memset(w->oracle, 0, sizeof(w->oracle));
	for (unsigned p = 1; p <= POINTS_MAX; p++) {
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
		for (unsigned d = 0; d < DISKS; d++) { // past the old end on the block that it was in, too, and on one that is new
			if (p > w->small_to) {
				fill(w->oracle[p][d] + small_size[d], 2 * SECTOR_SIZE + p, p + 400);
				fill(w->oracle[p][d] + large_size[d] - 3 * PIECE_SIZE, 3 * PIECE_SIZE, p + 500);
			}
			memset(w->oracle[p][d] + size_at(w, p, d), 0, IMAGE_SIZE - size_at(w, p, d));
		}
	}
}

static struct world *world_growing(uint32_t keep, uint64_t setup_points, uint64_t small_to)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->small_to = small_to;
	make_oracle(w);
	w->keep = keep;
	w->setup_points = setup_points;
	w->codec = codec_new();
	assert_non_null(w->codec);
	w->open = (struct wire_open){.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3},
				     .codec = CODEC_ZSTD, .points_keep = keep, .rpo_ms = 15000, .disk_count = DISKS};
	fill(w->open.digest.secret, DIGEST_SECRET_SIZE, 9);
	for (unsigned d = 0; d < DISKS; d++)
		strcpy(w->open.disk[d].name, disk_name[d]);
	open_at(w, 1);
	return w;
}

// Disks that grow until their tables need another sector.
static struct world *world_growing_far(uint32_t keep, uint64_t setup_points, uint64_t small_to)
{
	struct world *w = world_growing(keep, setup_points, small_to);
	w->far = FAR;
	return w;
}

static struct world *world_new(uint32_t keep, uint64_t setup_points)
{
	return world_growing(keep, setup_points, POINTS_MAX);
}

static void world_free(struct world *w)
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

static int send_block(struct world *w, struct replica *r, unsigned d, uint64_t index, const unsigned char *old,
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

static int send_point(struct world *w, struct replica *r, uint64_t number, struct err *err)
{
	int rc = 0;
	for (unsigned d = 0; d < DISKS; d++)
		for (uint64_t b = 0; rc == 0 && b < size_blocks(size_at(w, number, d)); b++)
			rc = send_block(w, r, d, place_of(w, b), w->oracle[number - 1][d] + b * BLOCK_SIZE,
					w->oracle[number][d] + b * BLOCK_SIZE, err);
	return rc;
}

// A session that makes point `number`.
static int commit(struct world *w, struct store *store, uint64_t number, struct err *err)
{
	struct replica *r = store_find(store, "vm1");
	struct wire_opened opened;
	struct wire_committed committed;
	if (!r)
		return err_set(err, -ENOENT, "vm1 is not in the store");
	open_at(w, number);
	int rc = replica_session_begin(r, &w->open, pin, &opened, err);
	if (rc)
		return rc;
	rc = opened.last_point == number - 1 ? send_point(w, r, number, err)
					     : err_set(err, -ESTALE, "session at point %llu", (unsigned long long)opened.last_point);
	struct wire_seal seal = {.predecessor = number - 1, .cut = {{(unsigned char)number}}, .head = opened.head,
				 .cut_wall_ns = (int64_t)number, .consistency = POINT_CRASH};
	if (rc == 0)
		rc = replica_seal(r, &seal, &committed, err);
	replica_session_end(r);
	return rc;
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

static int setup_empty(struct env *env, void *context, struct err *err)
{
	(void)context;
	return make_dir(env, err);
}

static int setup_pins(struct world *w, struct replica *r, struct err *err)
{
	struct retention policy = {.points = w->keep};
	int rc = w->pins ? replica_set_retention(r, &policy, err) : 0;
	for (uint64_t p = 1; rc == 0 && p <= w->setup_points; p++)
		if (w->pins >> p & 1)
			rc = replica_pin(r, p, "stays", err);
	return rc;
}

static int setup_points(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct replica *r;
	int rc = make_dir(env, err);
	if (rc == 0)
		rc = store_open(env, "/store", &store, err);
	open_at(w, 1);
	if (rc == 0)
		rc = store_create(store, &w->open, pin, &r, err);
	for (uint64_t p = 1; rc == 0 && p <= w->setup_points; p++)
		rc = commit(w, store, p, err);
	if (rc == 0)
		rc = setup_pins(w, r, err);
	store_close(store);
	return rc;
}

// --- what is run ---

static int run_create(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct replica *r;
	w->promise = (struct promise){0};
	int rc = store_open(env, "/store", &store, err);
	if (rc == 0)
		rc = store_create(store, &w->open, pin, &r, err);
	w->promise.created = rc == 0;
	store_close(store);
	return rc;
}

static int run_commit(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	uint64_t old = w->setup_points;
	w->promise = (struct promise){.first_from = 1, .first_to = 1, .last_from = old, .last_to = old + 1, .created = true};
	int rc = store_open(env, "/store", &store, err);
	if (rc == 0)
		rc = commit(w, store, old + 1, err);
	if (rc == 0)
		w->promise.last_from = old + 1;
	store_close(store);
	return rc;
}

static int run_folds(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	uint64_t last = w->setup_points;
	w->promise = (struct promise){.first_from = 1, .first_to = 1, .last_from = last, .last_to = last, .created = true};
	if (w->recovery_retains)
		w->promise.first_to = last + 1 - w->keep;
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	int folded = rc == 0;
	while (rc == 0 && folded == 1) {
		if (!w->recovery_retains)
			w->promise.first_to = min_u64(w->promise.first_to + 1, last);
		folded = replica_retain(r, err);
		if (folded == 1)
			w->promise.first_from++;
		rc = folded < 0 ? folded : 0;
	}
	if (rc == 0 && w->promise.first_from != last + 1 - w->keep)
		rc = err_set(err, -EBADMSG, "retention kept another number of points than %u", w->keep);
	store_close(store);
	return rc;
}

// Merges all points in the middle that are not pinned into those above them.
static int run_merges(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	uint64_t last = w->setup_points;
	unsigned goes = ((1u << last) - 1) & ~1u & ~w->pins;
	w->promise = (struct promise){.first_from = 1, .first_to = 1, .last_from = last, .last_to = last, .created = true,
				      .gone_may = goes, .pinned_must = w->pins};
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	int merged = rc == 0;
	while (rc == 0 && merged == 1) {
		merged = replica_retain(r, err);
		if (merged == 1) {
			unsigned lowest = goes & ~w->promise.gone_must;
			lowest &= ~(lowest - 1);
			for (; goes & lowest; lowest <<= 1)
				w->promise.gone_must |= lowest;
		}
		rc = merged < 0 ? merged : 0;
	}
	if (rc == 0 && w->promise.gone_must != goes)
		rc = err_set(err, -EBADMSG, "retention did not merge what it should");
	store_close(store);
	return rc;
}

// Pins the second point, of which nothing was said before, and lets retention do what it wants.
static int run_pin(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	uint64_t last = w->setup_points;
	w->promise = (struct promise){.first_from = 1, .first_to = last, .last_from = last, .last_to = last, .created = true,
				      .gone_may = (1u << last) - 2};
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	struct retention policy = {.points = w->keep};
	if (rc == 0)
		rc = replica_pin(r, 2, "stays", err);
	if (rc == 0)
		w->promise.pinned_must = 1u << 2;
	if (rc == 0)
		rc = replica_set_retention(r, &policy, err);
	for (int done = 1; rc == 0 && done == 1;) {
		done = replica_retain(r, err);
		rc = done < 0 ? done : 0;
	}
	store_close(store);
	return rc;
}

static int run_fence(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	uint64_t last = w->setup_points;
	w->promise = (struct promise){.first_from = 1, .first_to = 1, .last_from = last, .last_to = last, .created = true,
				      .fence_asked = true};
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	if (rc == 0)
		rc = replica_fence(r, last, err);
	if (rc == 0)
		w->promise.fenced = last;
	store_close(store);
	return rc;
}

// What recovery has reported is promised, too: the newest point stays, and an older one that is gone stays gone.
static void note_reported(struct world *w, struct replica *r)
{
	struct replica_info info;
	replica_info(r, &info);
	if (info.broken || info.point_count == 0 || w->sync_may_fail)
		return;
	w->promise.last_from = max_u64(w->promise.last_from, info.last_point);
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (replica_points(r, &points, &count))
		return;
	w->promise.first_from = max_u64(w->promise.first_from, points[0].number);
	w->promise.gone_must |= w->promise.gone_may & ((1u << info.last_point) - 1) & ~((1u << points[0].number) - 1);
	for (size_t i = 0; i < count; i++)
		w->promise.gone_must &= ~(1u << points[i].number);
}

static int recover_with(struct env *env, struct world *w, bool retain, struct err *err)
{
	struct store *store = NULL;
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (r)
		note_reported(w, r);
	if (r && retain)
		rc = replica_retain(r, err);
	if (r && rc == 1)
		note_reported(w, r);
	store_close(store);
	return rc < 0 ? rc : 0;
}

static int recover(struct env *env, void *context, struct err *err)
{
	return recover_with(env, context, false, err);
}

// As recover, and retention goes on where it was cut.
static int recover_and_retain(struct env *env, void *context, struct err *err)
{
	return recover_with(env, context, true, err);
}

// As recover, and the source with the large disks comes back: growth goes on where it was cut.
static int recover_and_grow(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct wire_opened opened;
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (r) {
		note_reported(w, r);
		open_at(w, w->setup_points + 1);
		rc = replica_session_begin(r, &w->open, pin, &opened, err);
		if (rc == 0)
			replica_session_end(r);
	}
	store_close(store);
	return rc;
}

// --- what is there ---

// What lies past the end of an image is zeros for the larger one that stands on it, and nobody looks further down.
static uint16_t pieces_past(uint64_t size, uint64_t index)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (index * BLOCK_SIZE + (uint64_t)i * PIECE_SIZE >= size)
			mask |= (uint16_t)(1u << i);
	return mask;
}

static int read_overlay(struct env_file *file, uint64_t index, unsigned char *block, uint16_t *ret_mask, char *backing, size_t cap,
			bool *ret_raw, struct err *err)
{
	struct qcow2_reader *reader;
	int rc = qcow2_reader_open(file, &reader, err);
	if (rc)
		return rc;
	*ret_mask = 0;
	if (index < size_blocks(qcow2_reader_size(reader)))
		rc = qcow2_reader_read(reader, index, block, ret_mask, err);
	*ret_mask |= pieces_past(qcow2_reader_size(reader), index);
	snprintf(backing, cap, "%s", qcow2_reader_backing(reader));
	*ret_raw = qcow2_reader_backing_format(reader) == QCOW2_BACKING_RAW;
	qcow2_reader_free(reader);
	return rc;
}

// One layer of a block: fills the pieces not yet in *have, and puts the name of the layer below in its place.
static int read_layer(struct env_root *root, char path[256], bool *raw, uint64_t index, unsigned char *block, uint16_t *have,
		      struct err *err)
{
	unsigned char layer[BLOCK_SIZE] = {0};
	char backing[128] = "";
	uint16_t mask = MASK_FULL;
	struct env_file *file;
	size_t got;
	int rc = env_open(root, path, ENV_READ, &file);
	if (rc)
		return err_sys(err, rc, "%s", path);
	if (*raw)
		rc = env_pread(file, layer, BLOCK_SIZE, index * BLOCK_SIZE, &got);
	else
		rc = read_overlay(file, index, layer, &mask, backing, sizeof(backing), raw, err);
	env_close(file);
	if (rc)
		return err_wrap(err, "%s", path);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1 && !(*have >> i & 1))
			memcpy(block + (size_t)i * PIECE_SIZE, layer + (size_t)i * PIECE_SIZE, PIECE_SIZE);
	*have |= mask;
	snprintf(strrchr(path, '/') + 1, 128, "%s", backing);
	return 0;
}

static int check_block(struct world *w, struct env_root *root, uint64_t point, unsigned d, uint64_t index, struct err *err)
{
	unsigned char block[BLOCK_SIZE];
	char path[256];
	uint16_t have = 0;
	bool raw = false;
	snprintf(path, sizeof(path), "vm1/points/%llu/%s.qcow2", (unsigned long long)point, disk_name[d]);
	for (unsigned depth = 0; have != MASK_FULL; depth++) {
		if (depth > POINTS_MAX)
			return err_set(err, -ELOOP, "point %llu: the chain has no end", (unsigned long long)point);
		int rc = read_layer(root, path, &raw, place_of(w, index), block, &have, err);
		if (rc)
			return err_wrap(err, "point %llu", (unsigned long long)point);
	}
	uint32_t len = size_of_block(size_at(w, point, d), index);
	if (memcmp(block, w->oracle[point][d] + index * BLOCK_SIZE, len) != 0)
		return err_set(err, -EBADMSG, "point %llu, %s, block %llu: not what the disk held at the cut",
			       (unsigned long long)point, disk_name[d], (unsigned long long)index);
	return 0;
}

static int check_contents(struct world *w, struct env *env, uint64_t first, uint64_t last, unsigned there, struct err *err)
{
	struct env_root *root;
	int rc = env_root_open(env, "/store", &root);
	for (uint64_t p = first; rc == 0 && p <= last; p++)
		for (unsigned d = 0; d < DISKS && there >> p & 1; d++)
			for (uint64_t b = 0; rc == 0 && b < size_blocks(size_at(w, p, d)); b++)
				rc = check_block(w, root, p, d, b, err);
	env_root_close(root);
	return rc;
}

static int check_gaps(const struct promise *p, const struct point_info *points, size_t count, unsigned *ret_there, struct err *err)
{
	unsigned there = 0, row, pinned = 0;
	for (size_t i = 0; i < count; i++) {
		there |= 1u << points[i].number;
		pinned |= (unsigned)points[i].pinned << points[i].number;
		if (points[i].cut.bytes[0] != points[i].number)
			return err_set(err, -EBADMSG, "a point has another cut");
	}
	*ret_there = there;
	row = count ? (2u << points[count - 1].number) - (1u << points[0].number) : 0;
	if (row & ~there & ~p->gone_may)
		return err_set(err, -EBADMSG, "points %#x are there: one that stays is gone", there);
	if (there & p->gone_must)
		return err_set(err, -EBADMSG, "points %#x are there: one that was gone is back", there);
	if (p->pinned_must & ~(there & pinned))
		return err_set(err, -EBADMSG, "points %#x are there, %#x of them pinned: a pin is lost", there, pinned);
	return 0;
}

static int check_numbers(struct world *w, struct replica *r, uint64_t *ret_first, uint64_t *ret_last, unsigned *ret_there, struct err *err)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	int rc = replica_points(r, &points, &count);
	if (rc)
		return err_sys(err, rc, "replica_points");
	*ret_first = count ? points[0].number : 1;
	*ret_last = count ? points[count - 1].number : 0;
	const struct promise *p = &w->promise;
	rc = check_gaps(p, points, count, ret_there, err);
	if (rc)
		return rc;
	if (*ret_last < p->last_from || *ret_last > p->last_to || (count && (*ret_first < p->first_from || *ret_first > p->first_to)))
		return err_set(err, -EBADMSG, "points %llu to %llu: neither the old set nor the new one",
			       (unsigned long long)*ret_first, (unsigned long long)*ret_last);
	return 0;
}

// The digests that a session would compare with are those of the newest point.
static int check_digests(struct world *w, struct replica *r, uint64_t last, struct err *err)
{
	struct wire_opened opened;
	open_at(w, min_u64(w->setup_points + 1, POINTS_MAX)); // the size that the source has by then: a growth goes on where it was cut
	int rc = replica_session_begin(r, &w->open, pin, &opened, err);
	if (rc)
		return err_wrap(err, "session after recovery");
	for (unsigned d = 0; rc == 0 && d < DISKS; d++) {
		struct digest digests[DISK_BLOCKS_MAX] = {0};
		unsigned char differs[(DISK_BLOCKS_MAX + 7) / 8] = {0};
		uint64_t blocks = size_blocks(w->open.disk[d].size);
		for (uint64_t b = 0; b < BLOCKS && place_of(w, b) < blocks; b++)
			digests[place_of(w, b)] = digest_of(&w->open.digest, (uint16_t)d, place_of(w, b), w->oracle[last][d] + b * BLOCK_SIZE);
		struct wire_compare m = {.disk = (uint16_t)d, .count = (uint32_t)blocks, .digests = digests[0].bytes};
		rc = replica_compare(r, &m, differs, err);
		if (rc == 0 && !bytes_zero(differs, sizeof(differs)))
			rc = err_set(err, -EBADMSG, "%s: digests are not those of point %llu", disk_name[d], (unsigned long long)last);
	}
	replica_session_end(r);
	return rc;
}

static int check_fence(struct world *w, const struct replica_info *info, struct err *err)
{
	if (info->fenced ? !w->promise.fence_asked : w->promise.fenced != 0)
		return err_set(err, -EBADMSG, "the fence is %s", info->fenced ? "there unasked" : "gone");
	if (info->fenced == uuid_equal(&info->generation, &w->open.generation))
		return err_set(err, -EBADMSG, "the generation does not go with the fence");
	return 0;
}

static int check_replica(struct world *w, struct env *env, struct replica *r, struct err *err)
{
	struct replica_info info;
	uint64_t first = 1, last = 0;
	unsigned there = 0;
	replica_info(r, &info);
	if (info.broken)
		return err_set(err, -EIO, "broken after recovery: %s", info.broken_reason);
	int rc = check_numbers(w, r, &first, &last, &there, err);
	if (rc == 0)
		rc = check_fence(w, &info, err);
	if (rc == 0)
		rc = check_contents(w, env, first, last, there, err);
	return rc || info.fenced ? rc : check_digests(w, r, last, err);
}

static int check(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	int rc = store_open(env, "/store", &store, err);
	if (rc)
		return rc;
	struct replica *r = store_find(store, "vm1");
	if (r)
		rc = check_replica(w, env, r, err);
	else if (w->promise.created)
		rc = err_set(err, -ENOENT, "vm1 is gone");
	store_close(store);
	return rc;
}

// As check, and then the next point can be committed and is right: a crash costs no operator.
static int check_and_go_on(struct env *env, void *context, struct err *err)
{
	struct world *w = context, *next = NULL;
	struct store *store = NULL;
	int rc = check(env, context, err);
	if (rc == 0)
		rc = store_open(env, "/store", &store, err);
	if (rc)
		return rc;
	struct replica_info info;
	replica_info(store_find(store, "vm1"), &info);
	rc = commit(w, store, info.last_point + 1, err);
	store_close(store);
	if (rc)
		return err_wrap(err, "the next point");
	next = malloc(sizeof(*next));
	if (!next)
		return -ENOMEM;
	*next = *w;
	next->promise.last_from = next->promise.last_to = info.last_point + 1;
	rc = check(env, next, err);
	free(next);
	return rc ? err_wrap(err, "after the next point") : 0;
}

// --- the scenarios ---

// The store logs what it finds broken, and the exploration makes much of it.
static bool explore(const struct crash_scenario *scenario, void how(const struct crash_scenario *, struct crash_result *))
{
	struct crash_result result;
	bool verbose = getenv("CHOICES") != NULL;
	int out = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_true(out >= 0 && null >= 0);
	if (!verbose)
		(void)dup2(null, STDERR_FILENO);
	how(scenario, &result);
	(void)dup2(out, STDERR_FILENO);
	(void)close(out);
	(void)close(null);
	return crash_report(scenario, &result);
}

static void a_protection_is_created_wholly_or_not_at_all(void **state)
{
	(void)state;
	struct world *w = world_new(8, 0);
	struct crash_scenario s = {.name = "store_create", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_empty, .run = run_create, .recover = recover,
				   .check = check, .crashes = 2, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r3_a_commit_is_atomic_in_every_crash_state(void **state)
{
	(void)state;
	struct world *w = world_new(8, 2);
	struct crash_scenario s = {.name = "store_commit", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit, .recover = recover,
				   .check = check_and_go_on, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r3_a_commit_is_atomic_when_its_recovery_is_cut_too(void **state)
{
	(void)state;
	struct world *w = world_new(8, 1);
	struct crash_scenario s = {.name = "store_commit_twice", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit,
				   .recover = recover, .check = check, .crashes = 2, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r3_a_commit_keeps_its_promise_when_operations_fail(void **state)
{
	(void)state;
	struct world *w = world_new(8, 1);
	w->sync_may_fail = true;
	struct crash_scenario s = {.name = "store_commit", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit, .recover = recover,
				   .check = check, .states_max = 2000};
	assert_true(explore(&s, anomaly_explore));
	world_free(w);
}

static void r4_a_fold_changes_no_point_in_any_crash_state(void **state)
{
	(void)state;
	struct world *w = world_new(1, 3);
	struct crash_scenario s = {.name = "store_fold", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_folds, .recover = recover,
				   .check = check, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r4_a_fold_is_done_again_when_it_was_cut(void **state)
{
	(void)state;
	struct world *w = world_new(2, 3);
	w->recovery_retains = true;
	struct crash_scenario s = {.name = "store_fold_twice", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_folds,
				   .recover = recover_and_retain, .check = check, .crashes = 2, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r4_a_fold_changes_no_point_when_operations_fail(void **state)
{
	(void)state;
	struct world *w = world_new(1, 2);
	w->sync_may_fail = true;
	struct crash_scenario s = {.name = "store_fold", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_folds, .recover = recover,
				   .check = check, .states_max = 2000};
	assert_true(explore(&s, anomaly_explore));
	world_free(w);
}

static struct crash_scenario merge_scenario(const char *name, struct world *w, unsigned pins)
{
	w->pins = pins;
	return (struct crash_scenario){.name = name, .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				       .setup = setup_points, .run = run_merges, .recover = recover, .check = check,
				       .at_syncs = true, .states_max = 4000};
}

static void r4_a_merge_changes_no_point_in_any_crash_state(void **state)
{
	(void)state;
	struct world *w = world_new(1, 4);
	struct crash_scenario s = merge_scenario("store_merge", w, 1u << 1); // 2 and 3 go into 4
	s.check = check_and_go_on;
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r4_merges_one_after_another_into_pinned_points_too(void **state)
{
	(void)state;
	struct world *w = world_new(1, 5);
	struct crash_scenario s = merge_scenario("store_merges", w, 1u << 1 | 1u << 3); // 2 into 3, 4 into 5
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r4_a_merge_is_finished_or_undone_when_recovery_is_cut_too(void **state)
{
	(void)state;
	struct world *w = world_new(1, 3);
	struct crash_scenario s = merge_scenario("store_merge_twice", w, 1u << 1);
	w->recovery_retains = true;
	s.recover = recover_and_retain;
	s.crashes = 2;
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r4_merges_of_small_and_large_points_change_no_point(void **state)
{
	(void)state;
	struct world *w = world_growing(1, 4, 2);
	struct crash_scenario s = merge_scenario("store_merge_grown", w, 1u << 1);
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r4_a_merge_changes_no_point_when_operations_fail(void **state)
{
	(void)state;
	struct world *w = world_new(1, 3);
	w->sync_may_fail = true;
	struct crash_scenario s = merge_scenario("store_merge", w, 1u << 1);
	s.at_syncs = false;
	assert_true(explore(&s, anomaly_explore));
	world_free(w);
}

static void a_pinned_point_outlives_every_crash_and_all_retention(void **state)
{
	(void)state;
	struct world *w = world_new(1, 4);
	struct crash_scenario s = merge_scenario("store_pin", w, 0);
	s.run = run_pin;
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r7_a_fence_is_there_or_not_and_stays_once_answered(void **state)
{
	(void)state;
	struct world *w = world_new(8, 1);
	struct crash_scenario s = {.name = "store_fence", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_fence, .recover = recover,
				   .check = check, .crashes = 2, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r3_disks_grow_wholly_or_not_at_all_and_points_stay(void **state)
{
	(void)state;
	struct world *w = world_growing(8, 2, 2);
	struct crash_scenario s = {.name = "store_grow", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit, .recover = recover,
				   .check = check_and_go_on, .at_syncs = true, .states_max = 4000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r3_disks_grow_when_the_recovery_is_cut_too(void **state)
{
	(void)state;
	struct world *w = world_growing(8, 1, 1);
	struct crash_scenario s = {.name = "store_grow_twice", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit, .recover = recover_and_grow,
				   .check = check, .crashes = 2, .at_syncs = true, .states_max = 4000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r3_disks_grow_or_not_when_operations_fail(void **state)
{
	(void)state;
	struct world *w = world_growing(8, 1, 1);
	w->sync_may_fail = true;
	struct crash_scenario s = {.name = "store_grow", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit, .recover = recover,
				   .check = check, .states_max = 4000};
	assert_true(explore(&s, anomaly_explore));
	world_free(w);
}

static void r3_tables_of_digests_grow_by_a_sector_in_every_crash_state(void **state)
{
	(void)state;
	struct world *w = world_growing_far(8, 1, 1);
	struct crash_scenario s = {.name = "store_grow_far", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit, .recover = recover,
				   .check = check_and_go_on, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	s.name = "store_grow_far_twice";
	s.recover = recover_and_grow;
	s.check = check;
	s.crashes = 2;
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

static void r3_tables_of_digests_grow_or_not_when_operations_fail(void **state)
{
	(void)state;
	struct world *w = world_growing_far(8, 1, 1);
	w->sync_may_fail = true;
	struct crash_scenario s = {.name = "store_grow_far", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_commit, .recover = recover,
				   .check = check, .states_max = 2000};
	assert_true(explore(&s, anomaly_explore));
	world_free(w);
}

// A fold writes digests to the sector that the table got when it grew.
static void r4_folds_fill_the_grown_part_of_a_table(void **state)
{
	(void)state;
	struct world *w = world_growing_far(1, 3, 1);
	struct crash_scenario s = {.name = "store_fold_far", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_folds, .recover = recover,
				   .check = check, .at_syncs = true, .states_max = 2000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

// The first fold is of a small point into a large base, the last one of a large point.
static void r4_folds_of_small_and_large_points_change_no_point(void **state)
{
	(void)state;
	struct world *w = world_growing(1, 4, 2);
	struct crash_scenario s = {.name = "store_fold_grown", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				   .setup = setup_points, .run = run_folds, .recover = recover,
				   .check = check, .at_syncs = true, .states_max = 4000};
	assert_true(explore(&s, crash_explore));
	world_free(w);
}

int main(void)
{
	log_init("test_store_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_protection_is_created_wholly_or_not_at_all),
		cmocka_unit_test(r3_a_commit_is_atomic_in_every_crash_state),
		cmocka_unit_test(r3_a_commit_is_atomic_when_its_recovery_is_cut_too),
		cmocka_unit_test(r3_a_commit_keeps_its_promise_when_operations_fail),
		cmocka_unit_test(r4_a_fold_changes_no_point_in_any_crash_state),
		cmocka_unit_test(r4_a_fold_is_done_again_when_it_was_cut),
		cmocka_unit_test(r4_a_fold_changes_no_point_when_operations_fail),
		cmocka_unit_test(r3_disks_grow_wholly_or_not_at_all_and_points_stay),
		cmocka_unit_test(r3_disks_grow_when_the_recovery_is_cut_too),
		cmocka_unit_test(r3_disks_grow_or_not_when_operations_fail),
		cmocka_unit_test(r3_tables_of_digests_grow_by_a_sector_in_every_crash_state),
		cmocka_unit_test(r3_tables_of_digests_grow_or_not_when_operations_fail),
		cmocka_unit_test(r4_folds_of_small_and_large_points_change_no_point),
		cmocka_unit_test(r4_folds_fill_the_grown_part_of_a_table),
		cmocka_unit_test(r4_a_merge_changes_no_point_in_any_crash_state),
		cmocka_unit_test(r4_merges_one_after_another_into_pinned_points_too),
		cmocka_unit_test(r4_a_merge_is_finished_or_undone_when_recovery_is_cut_too),
		cmocka_unit_test(r4_merges_of_small_and_large_points_change_no_point),
		cmocka_unit_test(r4_a_merge_changes_no_point_when_operations_fail),
		cmocka_unit_test(a_pinned_point_outlives_every_crash_and_all_retention),
		cmocka_unit_test(r7_a_fence_is_there_or_not_and_stays_once_answered),
	};
	return cmocka_run_group_tests_name("store_crash", tests, NULL, NULL);
}
