// SPDX-License-Identifier: Apache-2.0
// The store on a real file system, driven and judged (tests/fs/run):
//
//	fs_store run DIR LOG ACKS SEED POINTS
//		makes a protection in the store DIR, commits POINTS points of it, pins some for a while, folds and merges, opens the store anew now
//		and then, and fails over. To ACKS it appends a line for each answer that a source or an operator would have had, with the length that the
//		block log LOG had at that moment: "created L", "point N L", "failover P L"; and "asked ..." before the last.
//		Exit status 0; 3 when the store failed loudly (an error, and then no answer); 1 for what must not be.
//	fs_store check DIR SEED CREATED ACKED ASKED FAILED FAILOVER
//		opens the store and judges it: what was acknowledged is there (a point ACKED, 0 for none; a failover to FAILED, 0 for
//		none; the pins of the points by then), nothing is there that was not asked for (points up to ASKED, a failover to FAILOVER), each
//		point equals what the disks held at its cut, by whole content, and the digests agree. Then the next point is committed, and all
//		folded and merged.
//
// What cycle N changes follows from SEED and N alone, so that both know every point's content.
#include "base/auto.h"
#include "base/log.h"
#include "format/codec.h"
#include "receiver/failover.h"
#include "receiver/store.h"
#include "tests/lib/layers.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DISKS = 2, CHANGES = 10, KEEP = 3, POINTS_MIN = 10, POINTS_MAX = 64, REOPEN_EVERY = 5, TRIES = 3, LOUD = 3 };

static const uint64_t disk_size[DISKS] = {24 * BLOCK_SIZE + 3 * PIECE_SIZE + 512, 16 * BLOCK_SIZE};
static const unsigned char pin[OWNER_PIN_SIZE] = {4, 5, 6};

// While a point is pinned those above it are merged, and none is folded. Pinned and taken back between the answer for the one point and the
// question for the next.
static const struct {
	uint64_t point, until;
} kept[] = {{2, 7}, {8, POINTS_MAX + 1}};
enum { KEPT = sizeof(kept) / sizeof(kept[0]) };

struct change {
	unsigned disk;
	uint64_t index;
	uint16_t mask; // 0: zeros
};

struct world {
	uint64_t seed;
	struct wire_open open;
	struct codec_context *codec;
	struct store *store;
	const char *dir;
	unsigned char *content[POINTS_MAX + 2][DISKS]; // by point; [0] is zeros
	struct change change[POINTS_MAX + 2][CHANGES];
	FILE *acks;
	const char *log;
	unsigned folds, merges;
};

static void die(const char *what)
{
	(void)fprintf(stderr, "fs_store: %s\n", what);
	exit(1);
}

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 10);
}

// --- the oracle ---

static void change_make(struct world *w, uint64_t point, struct change *c, uint64_t *seed)
{
	static const uint16_t masks[] = {MASK_FULL, MASK_FULL, 0x0001, 0x0ff0, 0x8001, 0};
	c->disk = (unsigned)draw_below(seed, DISKS);
	c->index = draw_below(seed, size_blocks(disk_size[c->disk]));
	c->mask = masks[draw_below(seed, 6)];
	unsigned char *block = w->content[point][c->disk] + c->index * BLOCK_SIZE;
	uint32_t end = size_of_block(disk_size[c->disk], c->index);
	bool noise = draw_below(seed, 3) == 0;
	for (uint32_t i = 0; i < end; i++)
		if (c->mask == 0)
			block[i] = 0;
		else if (c->mask >> i / PIECE_SIZE & 1)
			block[i] = noise || i % 64 == 0 ? (unsigned char)(draw(seed) | 1) : (unsigned char)(point + 1);
}

static void oracle_make(struct world *w)
{
	for (uint64_t p = 0; p <= POINTS_MAX + 1; p++) {
		uint64_t seed = w->seed * 1000 + p;
		for (unsigned d = 0; d < DISKS; d++) {
			size_t len = size_blocks(disk_size[d]) * BLOCK_SIZE;
			if (!(w->content[p][d] = calloc(1, len)))
				die("out of memory");
			if (p)
				memcpy(w->content[p][d], w->content[p - 1][d], len);
		}
		for (unsigned c = 0; p && c < CHANGES; c++)
			change_make(w, p, &w->change[p][c], &seed);
	}
}

static void world_init(struct world *w, const char *dir, uint64_t seed)
{
	*w = (struct world){.seed = seed, .dir = dir, .codec = codec_new()};
	w->open = (struct wire_open){.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3},
				     .codec = CODEC_ZSTD, .points_keep = KEEP, .rpo_ms = 15000, .disk_count = DISKS};
	memset(w->open.digest.secret, 0x5a, DIGEST_SECRET_SIZE);
	for (unsigned d = 0; d < DISKS; d++) {
		(void)snprintf(w->open.disk[d].name, NAME_SIZE, "vd%c", 'a' + (int)d);
		w->open.disk[d].size = disk_size[d];
	}
	oracle_make(w);
}

// --- a source ---

static int change_send(struct world *w, struct replica *r, uint64_t point, const struct change *c, struct err *err)
{
	static unsigned char plain[BLOCK_SIZE], packed[BLOCK_SIZE];
	const unsigned char *block = w->content[point][c->disk] + c->index * BLOCK_SIZE; // as of the cut, whatever else changed it
	struct wire_block m = {.disk = (uint16_t)c->disk, .mask = c->mask ? c->mask : MASK_FULL, .index = c->index,
			       .digest = digest_of(&w->open.digest, (uint16_t)c->disk, c->index, block), .payload = plain};
	if (digest_is_zero(&m.digest)) {
		struct wire_zeros zeros = {.disk = m.disk, .first = c->index, .count = 1};
		return replica_write_zeros(r, &zeros, err);
	}
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (m.mask >> i & 1) {
			memcpy(plain + m.len, block + (size_t)i * PIECE_SIZE, PIECE_SIZE);
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

static int cycle(struct world *w, uint64_t point, struct err *err)
{
	struct replica *r = store_find(w->store, "vm1");
	struct wire_opened opened;
	struct wire_committed committed;
	int rc = r ? replica_session_begin(r, &w->open, pin, &opened, err) : err_set(err, -ENOENT, "vm1 is gone");
	if (rc)
		return rc;
	if (opened.last_point != point - 1)
		rc = err_set(err, -ESTALE, "the newest point is %llu, expected %llu", (unsigned long long)opened.last_point,
			     (unsigned long long)point - 1);
	for (unsigned c = 0; rc == 0 && c < CHANGES; c++)
		rc = change_send(w, r, point, &w->change[point][c], err);
	struct wire_seal seal = {.predecessor = point - 1, .cut = {{(unsigned char)point}}, .head = opened.head,
				 .cut_wall_ns = (int64_t)point, .consistency = POINT_CRASH};
	if (rc == 0)
		rc = replica_seal(r, &seal, &committed, err);
	replica_session_end(r);
	return rc;
}

static uint64_t oldest_point(struct replica *r)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (replica_points(r, &points, &count))
		die("out of memory");
	return count ? points[0].number : 0;
}

static int retain_all(struct world *w, struct err *err)
{
	struct replica *r = store_find(w->store, "vm1");
	int rc = 1;
	while (rc == 1) {
		uint64_t oldest = oldest_point(r);
		rc = replica_retain(r, err);
		w->folds += rc == 1 && oldest_point(r) != oldest;
		w->merges += rc == 1 && oldest_point(r) == oldest;
	}
	return rc;
}

// --- run ---

static void acked(struct world *w, const char *what)
{
	struct stat log = {.st_size = 0};
	if (strcmp(w->log, "-") != 0 && stat(w->log, &log))
		die("the block log is gone");
	(void)fprintf(w->acks, "%s %lld\n", what, (long long)log.st_size);
	(void)fflush(w->acks);
}

// What the store failed with, said once; whether it is worth another try.
static bool may_try(struct world *w, const char *what, unsigned tries, const struct err *err)
{
	struct replica *r = store_find(w->store, "vm1");
	struct replica_info info = {.broken = false};
	if (r)
		replica_info(r, &info);
	(void)printf("%s failed%s: %s\n", what, info.broken ? ", the replica is broken" : "", err->text);
	return r && !info.broken && tries < TRIES;
}

// What is to be pinned, and to be no more, once `point` is there. As run_point().
static int run_pins(struct world *w, uint64_t point)
{
	struct err err = {0};
	for (unsigned i = 0; i < KEPT; i++) {
		if (point != kept[i].point && point != kept[i].until)
			continue;
		for (unsigned tries = 0;; tries++) {
			struct replica *r = store_find(w->store, "vm1");
			int rc = point == kept[i].until ? replica_unpin(r, kept[i].point, &err) : replica_pin(r, kept[i].point, "kept", &err);
			if (rc == 0)
				break;
			if (rc == -ENOENT)
				die(err.text);
			if (!may_try(w, "pin", tries, &err))
				return LOUD;
		}
	}
	return 0;
}

// 0, or LOUD when the store has failed for good.
static int run_point(struct world *w, uint64_t point)
{
	char what[64];
	struct err err = {0};
	unsigned tries = 0;
	(void)snprintf(what, sizeof(what), "asked %llu", (unsigned long long)point);
	acked(w, what);
	(void)snprintf(what, sizeof(what), "point %llu", (unsigned long long)point);
	while (cycle(w, point, &err)) {
		if (err.code == -ESTALE)
			die(err.text); // it lost a point, or has one that it did not answer for
		if (!may_try(w, what, tries++, &err))
			return LOUD;
	}
	acked(w, what);
	if (run_pins(w, point))
		return LOUD;
	for (tries = 0; retain_all(w, &err) < 0;)
		if (!may_try(w, "retention", tries++, &err))
			return LOUD;
	return 0;
}

static int run_failover(struct world *w, uint64_t point)
{
	char what[64];
	struct failover_info failover;
	struct err err = {0};
	(void)snprintf(what, sizeof(what), "asked-failover %llu", (unsigned long long)point);
	acked(w, what);
	(void)snprintf(what, sizeof(what), "failover %llu", (unsigned long long)point);
	for (unsigned tries = 0; failover_run(env_posix(), w->store, store_find(w->store, "vm1"), point, false, NULL, &failover, &err); tries++)
		if (!may_try(w, what, tries, &err))
			return LOUD;
	acked(w, what);
	return 0;
}

static int reopen(struct world *w)
{
	struct err err = {0};
	store_close(w->store);
	w->store = NULL;
	if (store_open(env_posix(), w->dir, &w->store, &err) == 0)
		return 0;
	(void)printf("store failed: %s\n", err.text);
	return LOUD;
}

static int run(struct world *w, uint64_t points)
{
	struct err err = {0};
	struct replica *r;
	int rc = reopen(w);
	if (rc)
		return rc;
	if (store_create(w->store, &w->open, pin, &r, &err)) {
		(void)printf("create failed: %s\n", err.text);
		return LOUD;
	}
	const struct retention policy = {.points = KEEP}; // without a floor: points of one hour are folded
	if (replica_set_retention(r, &policy, &err)) {
		(void)printf("set the retention failed: %s\n", err.text);
		return LOUD;
	}
	acked(w, "created");
	for (uint64_t p = 1; rc == 0 && p <= points; p++) {
		rc = run_point(w, p);
		if (rc == 0 && p % REOPEN_EVERY == 0)
			rc = reopen(w);
	}
	if (rc == 0 && (w->folds == 0 || w->merges == 0))
		die("nothing was folded, or nothing merged");
	if (rc == 0)
		(void)printf("%u folds, %u merges\n", w->folds, w->merges);
	return rc ? rc : run_failover(w, points - 1);
}

// --- check ---

struct promise {
	bool created;
	uint64_t acked, asked, failed_over, failover_asked;
};

static void wrong(const char *what, uint64_t a, uint64_t b)
{
	(void)printf("WRONG: %s (%llu, %llu)\n", what, (unsigned long long)a, (unsigned long long)b);
	exit(1);
}

static void check_points(struct world *w, struct replica *r)
{
	AUTO_FREE struct point_info *points = NULL;
	struct env_root *root = NULL;
	struct err err = {0};
	size_t count = 0;
	static unsigned char found[32 * BLOCK_SIZE];
	if (replica_points(r, &points, &count) || env_root_open(env_posix(), w->dir, &root))
		die("the points cannot be listed");
	for (size_t i = 0; i < count; i++)
		for (unsigned d = 0; d < DISKS; d++) {
			char path[128];
			(void)snprintf(path, sizeof(path), "vm1/points/%llu/%s.qcow2", (unsigned long long)points[i].number,
				       w->open.disk[d].name);
			if (layers_read(root, path, disk_size[d], found, &err))
				die(err.text);
			if (memcmp(found, w->content[points[i].number][d], disk_size[d]) != 0)
				wrong("a point is not what its disk held at the cut: point, disk", points[i].number, d);
		}
	env_root_close(root);
}

static void check_digests(struct world *w, struct replica *r, uint64_t last)
{
	struct wire_opened opened;
	struct err err = {0};
	if (replica_session_begin(r, &w->open, pin, &opened, &err))
		die(err.text);
	for (unsigned d = 0; d < DISKS; d++) {
		uint32_t blocks = (uint32_t)size_blocks(disk_size[d]);
		struct digest digests[32];
		unsigned char differs[32] = {0};
		struct wire_compare compare = {.disk = (uint16_t)d, .count = blocks, .digests = (const unsigned char *)digests};
		for (uint32_t b = 0; b < blocks; b++)
			digests[b] = digest_of(&w->open.digest, (uint16_t)d, b, w->content[last][d] + (size_t)b * BLOCK_SIZE);
		if (replica_compare(r, &compare, differs, &err))
			die(err.text);
		for (uint32_t b = 0; b < blocks; b++)
			if (differs[b / 8] >> b % 8 & 1)
				wrong("a digest is not that of the newest point: disk, block", d, b);
	}
	replica_session_end(r);
}

static void check_pins(struct replica *r, const struct promise *p)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (replica_points(r, &points, &count))
		die("out of memory");
	for (unsigned i = 0; i < KEPT; i++) {
		bool there = false, must = p->asked > kept[i].point && p->acked < kept[i].until, may = p->acked >= kept[i].point && p->asked <= kept[i].until;
		for (size_t n = 0; n < count; n++)
			there |= points[n].number == kept[i].point && points[n].pinned && strcmp(points[n].pin_text, "kept") == 0;
		if (must && !there)
			wrong("a pin that was answered is gone: of point", kept[i].point, 0);
		if (there && !may)
			wrong("a pin is there that is not asked for: of point", kept[i].point, 0);
	}
}

// It goes on: a fenced one refuses its source and finishes the failover, another takes the next point and folds.
static void check_goes_on(struct world *w, struct replica *r, const struct replica_info *info, const struct promise *p)
{
	struct failover_info failover;
	struct wire_opened opened;
	struct err err = {0};
	if (info->fenced) {
		if (info->fenced_point != p->failover_asked)
			wrong("fenced at another point than was asked for", info->fenced_point, p->failover_asked);
		if (replica_session_begin(r, &w->open, pin, &opened, &err) != -ESTALE)
			wrong("a fenced replica takes its old source", 0, 0);
		if (failover_run(env_posix(), w->store, r, info->fenced_point, false, NULL, &failover, &err))
			die(err.text);
	} else {
		check_digests(w, r, info->last_point);
		if (cycle(w, info->last_point + 1, &err) || retain_all(w, &err) < 0)
			die(err.text);
	}
	check_points(w, r);
}

static int check(struct world *w, const struct promise *p)
{
	struct err err = {0};
	struct replica_info info;
	if (store_open(env_posix(), w->dir, &w->store, &err))
		die(err.text);
	struct replica *r = store_find(w->store, "vm1");
	if (!r) {
		if (p->created)
			wrong("the protection is gone", 0, 0);
		return 0;
	}
	replica_info(r, &info);
	if (info.broken)
		die(info.broken_reason);
	if (info.last_point < p->acked || info.last_point > p->asked)
		wrong("newest point, acknowledged one", info.last_point, p->acked);
	if (p->failed_over && !info.fenced)
		wrong("a failover that was acknowledged is gone", p->failed_over, 0);
	check_points(w, r);
	check_pins(r, p);
	check_goes_on(w, r, &info, p);
	return 0;
}

int main(int argc, char **argv)
{
	static struct world w;
	int rc = 1;
	log_init("fs_store", LOG_LEVEL_ERROR);
	if (argc == 7 && strcmp(argv[1], "run") == 0) {
		world_init(&w, argv[2], number(argv[5]));
		w.log = argv[3];
		if (!(w.acks = fopen(argv[4], "ae")) || number(argv[6]) < POINTS_MIN || number(argv[6]) > POINTS_MAX)
			die("run: ACKS or POINTS");
		rc = run(&w, number(argv[6]));
	} else if (argc == 9 && strcmp(argv[1], "check") == 0) {
		const struct promise p = {number(argv[4]), number(argv[5]), number(argv[6]), number(argv[7]), number(argv[8])};
		world_init(&w, argv[2], number(argv[3]));
		rc = check(&w, &p);
	} else {
		die("usage: see the top of tests/fs/fs_store.c");
	}
	store_close(w.store);
	return rc;
}
