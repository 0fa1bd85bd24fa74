// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/store_twin.h"

#include "base/auto.h"
#include "receiver/scrub.h"
#include "tests/lib/bad_disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t first_size[STORE_TWIN_DISKS] = {5 * BLOCK_SIZE + 3 * PIECE_SIZE + 512, 40 * BLOCK_SIZE - 1024};

static size_t padded(uint64_t size)
{
	return (size_t)size_blocks(size) * BLOCK_SIZE;
}

static void store_open_here(struct store_twin *t)
{
	struct err err = {0};
	if (store_open(env_posix(), t->temp.dir, &t->store, &err))
		fail_msg("%s", err.text);
	t->replica = store_find(t->store, "vm1");
}

void store_twin_begin(struct store_twin *t, uint64_t seed)
{
	struct err err = {0};
	memset(t, 0, sizeof(*t));
	temp_open(&t->temp);
	t->seed = seed;
	t->packer = codec_new();
	assert_non_null(t->packer);
	t->open = (struct wire_open){
		.name = "vm1", .codec = CODEC_ZSTD, .points_keep = 8, .rpo_ms = 15000, .disk_count = STORE_TWIN_DISKS};
	t->open.digest.kind = DIGEST_XXH3;
	for (unsigned i = 0; i < DIGEST_SECRET_SIZE; i++)
		t->open.digest.secret[i] = (unsigned char)draw(&t->seed);
	memset(t->pin, 0xa5, sizeof(t->pin));
	assert_int_equal(uuid_new(env_posix(), &t->open.protection), 0);
	assert_int_equal(uuid_new(env_posix(), &t->open.generation), 0);
	for (unsigned i = 0; i < STORE_TWIN_DISKS; i++) {
		(void)snprintf(t->open.disk[i].name, NAME_SIZE, "vd%c", 'a' + (int)i);
		t->open.disk[i].size = first_size[i];
		t->disk[i] = calloc(1, padded(first_size[i]));
		assert_non_null(t->disk[i]);
	}
	store_open_here(t);
	assert_null(t->replica);
	if (store_create(t->store, &t->open, t->pin, &t->replica, &err))
		fail_msg("%s", err.text);
}

static void session_leave(struct store_twin *t)
{
	struct replica_info info;
	if (!t->replica)
		return;
	replica_info(t->replica, &info);
	if (info.session_open)
		replica_session_end(t->replica);
}

void store_twin_end(struct store_twin *t)
{
	session_leave(t);
	store_close(t->store);
	temp_close(&t->temp);
	codec_free(t->packer);
	for (unsigned i = 0; i < STORE_TWIN_DISKS; i++) {
		free(t->disk[i]);
		for (unsigned n = 0; n < STORE_TWIN_POINTS; n++)
			free(t->point[n][i]);
	}
}

int store_twin_bad_disk_end(void **state)
{
	struct store_twin *t = *state;
	bad_disk_heal();
	store_twin_end(t);
	bad_disk_end();
	free(t);
	return 0;
}

void store_twin_reopen(struct store_twin *t)
{
	session_leave(t);
	store_close(t->store);
	store_open_here(t);
}

void store_twin_session(struct store_twin *t)
{
	struct err err = {0};
	if (replica_session_begin(t->replica, &t->open, t->pin, &t->opened, &err))
		fail_msg("%s", err.text);
}

void store_twin_grow(struct store_twin *t, unsigned disk, uint64_t size)
{
	size_t had = padded(t->open.disk[disk].size), has = padded(size);
	assert_true(size >= t->open.disk[disk].size);
	t->disk[disk] = realloc(t->disk[disk], has);
	assert_non_null(t->disk[disk]);
	memset(t->disk[disk] + had, 0, has - had);
	t->open.disk[disk].size = size;
}

void store_twin_change(struct store_twin *t, unsigned disk, uint64_t index, uint16_t mask)
{
	unsigned char *block = t->disk[disk] + index * BLOCK_SIZE;
	uint32_t end = size_of_block(t->open.disk[disk].size, index);
	unsigned char word = (unsigned char)draw(&t->seed);
	bool noise = draw_below(&t->seed, 4) == 0;
	for (uint32_t i = 0; i < end; i++)
		if (mask >> i / PIECE_SIZE & 1)
			block[i] = noise ? (unsigned char)draw(&t->seed) : (unsigned char)(word + i / 512);
}

int store_twin_send(struct store_twin *t, unsigned disk, uint64_t index, uint16_t mask, enum codec codec, struct err *err)
{
	AUTO_FREE unsigned char *plain = malloc(2 * BLOCK_SIZE);
	unsigned char *packed = plain + BLOCK_SIZE;
	const unsigned char *block = t->disk[disk] + index * BLOCK_SIZE;
	size_t len = 0;
	assert_non_null(plain);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++) {
		if (!(mask >> i & 1))
			continue;
		memcpy(plain + len, block + (size_t)i * PIECE_SIZE, PIECE_SIZE);
		len += PIECE_SIZE;
	}
	size_t small = codec_pack(t->packer, codec, plain, len, packed, len - 1);
	struct wire_block b = {
		.disk = (uint16_t)disk,
		.index = index,
		.mask = mask,
		.codec = small ? codec : CODEC_NONE,
		.digest = digest_of(&t->open.digest, (uint16_t)disk, index, block),
		.len = (uint32_t)(small ? small : len),
		.payload = small ? packed : plain,
	};
	return replica_write_block(t->replica, &b, err);
}

uint64_t store_twin_send_damaged(struct store_twin *twin)
{
	static struct wire_damaged damaged;
	uint64_t sent = 0;
	replica_damaged(twin->replica, &damaged);
	for (unsigned i = 0; i < damaged.count; i++)
		for (uint64_t b = damaged.run[i].first; b < damaged.run[i].first + damaged.run[i].count; b++, sent++)
			assert_int_equal(store_twin_send(twin, damaged.run[i].disk, b, MASK_FULL, CODEC_ZSTD, NULL), 0);
	return sent;
}

int store_twin_zeros(struct store_twin *t, unsigned disk, uint64_t first, uint64_t count, struct err *err)
{
	struct wire_zeros zeros = {.disk = (uint16_t)disk, .first = first, .count = count};
	memset(t->disk[disk] + first * BLOCK_SIZE, 0, count * BLOCK_SIZE);
	return replica_write_zeros(t->replica, &zeros, err);
}

uint64_t store_twin_scrub(struct store_twin *t, uint64_t point)
{
	struct scrub_step step = {.ended = false};
	struct err err = {0};
	uint64_t mismatches = 0;
	if (scrub_begin(t->replica, point, SCRUB_RATE_DEFAULT, &err))
		fail_msg("%s", err.text);
	while (!step.ended) {
		if (scrub_slice(t->replica, &step, &err))
			fail_msg("%s", err.text);
		mismatches += step.mismatches;
	}
	return mismatches;
}

void store_twin_keep(struct store_twin *t, uint32_t points)
{
	struct retention policy = {.points = points};
	struct err err = {0};
	if (replica_set_retention(t->replica, &policy, &err))
		fail_msg("%s", err.text);
}

struct wire_seal store_twin_cut(const struct store_twin *t)
{
	struct replica_info info;
	replica_info(t->replica, &info);
	struct wire_seal seal = {
		.predecessor = info.last_point,
		.head = info.head,
		.cut_wall_ns = env_wall_ns(env_posix()),
		.consistency = POINT_CRASH,
		.dirty_bytes = 4096,
		.blocks_sent = 1,
		.wire_bytes = 100,
	};
	assert_int_equal(uuid_new(env_posix(), &seal.cut), 0);
	return seal;
}

void store_twin_seal(struct store_twin *t)
{
	struct wire_seal seal = store_twin_cut(t);
	struct wire_committed committed;
	struct err err = {0};
	if (replica_seal(t->replica, &seal, &committed, &err))
		fail_msg("%s", err.text);
	assert_int_equal(committed.number, seal.predecessor + 1);
	assert_true(uuid_equal(&committed.cut, &seal.cut));
	assert_false(uuid_equal(&committed.head, &seal.head));
	assert_true(committed.number < STORE_TWIN_POINTS);
	for (unsigned i = 0; i < STORE_TWIN_DISKS; i++) {
		uint64_t size = t->open.disk[i].size;
		t->point[committed.number][i] = malloc(padded(size));
		assert_non_null(t->point[committed.number][i]);
		memcpy(t->point[committed.number][i], t->disk[i], padded(size));
		t->point_size[committed.number][i] = size;
	}
	t->cuts = committed.number;
}

void store_twin_random(struct store_twin *t)
{
	static const uint16_t masks[] = {MASK_FULL, 0x0001, 0x8000, 0x0ff0, 0x5555};
	static const enum codec codecs[] = {CODEC_ZSTD, CODEC_ZLIB, CODEC_LZ4, CODEC_NONE};
	struct err err = {0};
	unsigned disk = (unsigned)draw_below(&t->seed, STORE_TWIN_DISKS);
	uint64_t blocks = size_blocks(t->open.disk[disk].size), index = draw_below(&t->seed, blocks);
	uint16_t mask = draw_below(&t->seed, 3) ? masks[draw_below(&t->seed, 5)] : (uint16_t)(1 + draw_below(&t->seed, 0xffff));
	int rc;
	if (draw_below(&t->seed, 5) == 0) {
		rc = store_twin_zeros(t, disk, index, 1 + draw_below(&t->seed, blocks - index), &err);
	} else {
		store_twin_change(t, disk, index, mask);
		rc = store_twin_send(t, disk, index, mask, codecs[draw_below(&t->seed, 4)], &err);
	}
	if (rc)
		fail_msg("%s", err.text);
}

void store_twin_path(const struct store_twin *t, char *path, size_t cap, const char *rest)
{
	(void)snprintf(path, cap, "%s/vm1/%s", t->temp.dir, rest);
}

// --- reading points back ---

// What the chain of point `number` shows: its own pieces, then those of the points below, then the base. Where one below is of
// a smaller disk, `to` stays as it is: zeros.
static void chain_read(struct store_twin *t, uint64_t number, unsigned disk, unsigned char *to)
{
	char name[320];
	struct env_file *file = NULL;
	struct qcow2_reader *reader = NULL;
	struct err err = {0};
	(void)snprintf(name, sizeof(name), "vm1/points/%llu/%s.qcow2", (unsigned long long)number, t->open.disk[disk].name);
	assert_int_equal(env_open(t->temp.root, name, ENV_READ, &file), 0);
	if (qcow2_reader_open(file, &reader, &err))
		fail_msg("%s: %s", name, err.text);
	if (qcow2_reader_backing_format(reader) == QCOW2_BACKING_QCOW2) {
		chain_read(t, strtoull(qcow2_reader_backing(reader) + strlen("../"), NULL, 10), disk, to); // numbers may have gaps
	} else {
		struct env_file *base = NULL;
		(void)snprintf(name, sizeof(name), "vm1/base/%s.raw", t->open.disk[disk].name);
		assert_int_equal(env_open(t->temp.root, name, ENV_READ, &base), 0);
		assert_int_equal(env_pread_full(base, to, t->point_size[number][disk], 0), 0);
		env_close(base);
	}
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	assert_non_null(block);
	assert_int_equal(qcow2_reader_size(reader), t->point_size[number][disk]);
	for (uint64_t i = 0; qcow2_reader_next(reader, i, &i, &err) == 0; i++) {
		uint16_t mask = 0;
		assert_int_equal(qcow2_reader_read(reader, i, block, &mask, &err), 0);
		for (unsigned p = 0; p < PIECES_PER_BLOCK; p++)
			if (mask >> p & 1)
				memcpy(to + i * BLOCK_SIZE + (size_t)p * PIECE_SIZE, block + (size_t)p * PIECE_SIZE, PIECE_SIZE);
	}
	qcow2_reader_free(reader);
	env_close(file);
}

static void qemu_check(struct store_twin *t, uint64_t number, unsigned disk)
{
	char path[512], command[2048];
	struct env_file *raw = NULL;
	assert_int_equal(replica_point_path(t->replica, number, t->open.disk[disk].name, path, sizeof(path)), 0);
	assert_int_equal(env_open(t->temp.root, "model.raw", ENV_CREATE, &raw), 0);
	assert_int_equal(env_pwrite(raw, t->point[number][disk], t->point_size[number][disk], 0), 0);
	env_close(raw);
	(void)snprintf(command, sizeof(command),
		       "qemu-img check -q -f qcow2 %s && qemu-img compare -q -f qcow2 -F raw %s %s/model.raw", path, path, t->temp.dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(env_unlink(t->temp.root, "model.raw"), 0);
}

static void point_check(struct store_twin *t, uint64_t number, bool qemu)
{
	assert_non_null(t->point[number][0]);
	for (unsigned d = 0; d < STORE_TWIN_DISKS; d++) {
		AUTO_FREE unsigned char *found = calloc(1, padded(t->point_size[number][d]));
		assert_non_null(found);
		chain_read(t, number, d, found);
		if (memcmp(found, t->point[number][d], t->point_size[number][d]) != 0)
			fail_msg("point %llu, disk %u: not what the disk held at the cut", (unsigned long long)number, d);
		if (qemu)
			qemu_check(t, number, d);
	}
}

bool store_twin_check(struct store_twin *t, bool qemu)
{
	struct point_info *points = NULL;
	size_t count = 0;
	if (qemu && system("command -v qemu-img >/dev/null") != 0)
		return false;
	assert_int_equal(replica_points(t->replica, &points, &count), 0);
	for (size_t i = 0; i < count; i++)
		point_check(t, points[i].number, qemu);
	free(points);
	return true;
}
