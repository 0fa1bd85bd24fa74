// SPDX-License-Identifier: Apache-2.0
// Makes stores to measure, and folds them, without a source and a network between (tools/bench-store.sh):
//
//	bench_store make DIR POINTS BLOCKS SIZE [IMAGE]
//		the protection "vm1" with one disk "vda" of SIZE bytes in the store DIR. The first point holds IMAGE, which lies at the front of the
//		disk; each point holds BLOCKS blocks drawn from the disk's second half, which change with every point. Nothing is folded.
//		Prints "SECONDS" that the store's own calls took: each block unpacked and proven, written, and the commits.
//	bench_store fold DIR
//		folds all points but the newest. Prints "SECONDS BYTES": how long, and how many bytes the overlays had that were folded.
//	bench_store merge DIR
//		the same of all points but the newest and the oldest, which is pinned: they are merged into the newest.
//
// Exit status 1, and a line on standard error, when the store refuses.
#include "base/auto.h"
#include "base/log.h"
#include "format/codec.h"
#include "receiver/store.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char pin[OWNER_PIN_SIZE] = {1};

struct bench {
	struct wire_open open;
	struct codec_context *codec;
	struct store *store;
	struct replica *replica;
	uint64_t seed;
	uint64_t took_ns; // in calls of the store
};

static void must(int rc, const struct err *err)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "bench_store: %s\n", err->text);
	exit(1);
}

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 10);
}

static void bench_open(struct bench *b, const char *dir, uint64_t size, uint32_t keep)
{
	struct err err = {0};
	*b = (struct bench){.codec = codec_new(), .seed = 1};
	b->open = (struct wire_open){.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3}, .codec = CODEC_ZSTD,
				     .points_keep = keep, .rpo_ms = 15000, .disk_count = 1, .disk = {{.name = "vda", .size = size}}};
	memset(b->open.digest.secret, 0x33, DIGEST_SECRET_SIZE);
	must(store_open(env_posix(), dir, &b->store, &err), &err);
	b->replica = store_find(b->store, "vm1");
}

static void send_block(struct bench *b, uint64_t index, const unsigned char *block)
{
	static unsigned char packed[BLOCK_SIZE];
	struct err err = {0};
	struct wire_block m = {.mask = MASK_FULL, .index = index, .digest = digest_of(&b->open.digest, 0, index, block), .payload = block, .len = BLOCK_SIZE};
	size_t len = codec_pack(b->codec, CODEC_ZSTD, block, BLOCK_SIZE, packed, BLOCK_SIZE - 1);
	if (len) {
		m.codec = CODEC_ZSTD;
		m.payload = packed;
		m.len = (uint32_t)len;
	}
	uint64_t began_ns = env_mono_ns(env_posix());
	must(replica_write_block(b->replica, &m, &err), &err);
	b->took_ns += env_mono_ns(env_posix()) - began_ns;
}

static void send_image(struct bench *b, const char *path)
{
	static unsigned char block[BLOCK_SIZE];
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct err err = {0};
	if (fd < 0)
		must(err_sys(&err, -errno, "open %s", path), &err);
	for (uint64_t i = 0;; i++) {
		ssize_t got = read(fd, block, BLOCK_SIZE);
		if (got <= 0)
			return;
		memset(block + got, 0, BLOCK_SIZE - (size_t)got);
		struct digest digest = digest_of(&b->open.digest, 0, i, block);
		if (!digest_is_zero(&digest))
			send_block(b, i, block);
	}
}

// About 40 % of it is left when it is packed.
static void draw_block(struct bench *b, unsigned char *block)
{
	memset(block, (int)draw_below(&b->seed, 256), BLOCK_SIZE);
	for (size_t at = 0; at < BLOCK_SIZE; at += 16) {
		uint64_t value = draw(&b->seed);
		memcpy(block + at, &value, 5);
	}
}

static void point_make(struct bench *b, uint64_t point, uint64_t blocks, const char *image)
{
	static unsigned char block[BLOCK_SIZE];
	uint64_t all = size_blocks(b->open.disk[0].size);
	struct replica_info info;
	struct wire_committed committed;
	struct err err = {0};
	if (image)
		send_image(b, image);
	for (uint64_t n = 0; n < blocks; n++) {
		draw_block(b, block);
		send_block(b, all / 2 + draw_below(&b->seed, all - all / 2 - 1), block);
	}
	replica_info(b->replica, &info);
	struct wire_seal seal = {.predecessor = point - 1, .cut = {{(unsigned char)(point & 0xff), (unsigned char)(point >> 8), 1}}, .head = info.head,
				 .cut_wall_ns = env_wall_ns(env_posix()), .consistency = POINT_CRASH};
	uint64_t began_ns = env_mono_ns(env_posix());
	must(replica_seal(b->replica, &seal, &committed, &err), &err);
	b->took_ns += env_mono_ns(env_posix()) - began_ns;
}

static void make(const char *dir, uint64_t points, uint64_t blocks, uint64_t size, const char *image)
{
	struct bench b;
	struct wire_opened opened;
	struct err err = {0};
	bench_open(&b, dir, size, 4096);
	must(store_create(b.store, &b.open, pin, &b.replica, &err), &err);
	must(replica_session_begin(b.replica, &b.open, pin, &opened, &err), &err);
	for (uint64_t p = 1; p <= points; p++)
		point_make(&b, p, blocks, p == 1 ? image : NULL);
	replica_session_end(b.replica);
	store_close(b.store);
	codec_free(b.codec);
	(void)printf("%.4f\n", (double)b.took_ns / 1e9);
}

static void retain(const char *dir, bool merge)
{
	struct bench b;
	struct replica_info info;
	struct wire_opened opened;
	struct err err = {0};
	uint64_t bytes = 0;
	bench_open(&b, dir, 0, 1);
	if (!b.replica)
		must(err_set(&err, -ENOENT, "vm1 is not in the store"), &err);
	replica_info(b.replica, &info);
	b.open.disk[0].size = info.disk[0].size;
	must(replica_session_begin(b.replica, &b.open, pin, &opened, &err), &err);
	replica_session_end(b.replica);
	const struct retention policy = {.points = 1};
	if (merge)
		must(replica_pin(b.replica, 1, "", &err), &err);
	must(replica_set_retention(b.replica, &policy, &err), &err);
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	must(replica_points(b.replica, &points, &count), &err);
	for (size_t i = merge; i + 1 < count; i++)
		bytes += points[i].stored_bytes;
	uint64_t began_ns = env_mono_ns(env_posix());
	int rc = 1;
	while (rc == 1)
		rc = replica_retain(b.replica, &err);
	must(rc, &err);
	(void)printf("%.4f %llu\n", (double)(env_mono_ns(env_posix()) - began_ns) / 1e9, (unsigned long long)bytes);
	store_close(b.store);
	codec_free(b.codec);
}

int main(int argc, char **argv)
{
	log_init("bench_store", LOG_LEVEL_ERROR);
	if ((argc == 6 || argc == 7) && strcmp(argv[1], "make") == 0)
		make(argv[2], number(argv[3]), number(argv[4]), number(argv[5]), argv[6]);
	else if (argc == 3 && strcmp(argv[1], "fold") == 0)
		retain(argv[2], false);
	else if (argc == 3 && strcmp(argv[1], "merge") == 0)
		retain(argv[2], true);
	else
		return (void)fprintf(stderr, "usage: see the top of tests/bench/bench_store.c\n"), 2;
	return 0;
}
