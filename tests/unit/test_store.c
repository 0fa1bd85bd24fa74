// SPDX-License-Identifier: Apache-2.0
#include "receiver/store.h"

#include "base/auto.h"
#include "base/log.h"
#include "receiver/digest_sector.h"
#include "receiver/scrub.h"
#include "tests/lib/store_twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int setup(void **state)
{
	struct store_twin *t = malloc(sizeof(*t));
	store_twin_begin(t, 42);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	store_twin_end(*state);
	free(*state);
	return 0;
}

// Writes a few blocks and seals `count` points.
static void points_make(struct store_twin *t, unsigned count)
{
	for (unsigned n = 0; n < count; n++) {
		for (unsigned i = 0; i < 6; i++)
			store_twin_random(t);
		store_twin_seal(t);
	}
}

static struct replica_info info_of(struct store_twin *t)
{
	struct replica_info info;
	replica_info(t->replica, &info);
	return info;
}

static bool head_is(struct store_twin *t, const struct uuid *head)
{
	struct replica_info info = info_of(t);
	return uuid_equal(&info.head, head);
}

static int begin_with(struct store_twin *t, const struct wire_open *open, const unsigned char *pin)
{
	struct wire_opened opened;
	struct err err = {0};
	int rc = replica_session_begin(t->replica, open, pin, &opened, &err);
	assert_true(rc == 0 || (err.code == rc && err.text[0]));
	return rc;
}

static void file_overwrite(struct store_twin *t, const char *rest, uint64_t off, const void *data, size_t len)
{
	char name[320];
	struct env_file *file = NULL;
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	assert_int_equal(env_open(t->temp.root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, data, len, off), 0);
	env_close(file);
}

static void file_truncate(struct store_twin *t, const char *rest, uint64_t size)
{
	char name[320];
	struct env_file *file = NULL;
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	assert_int_equal(env_open(t->temp.root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, size), 0);
	env_close(file);
}

static bool file_there(struct store_twin *t, const char *rest)
{
	char name[320];
	struct env_stat st;
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	return env_stat(t->temp.root, name, &st) == 0;
}

// --- points ---

static void store_finds_after_reopening_what_was_committed(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	assert_int_equal(t->opened.last_point, 0);
	assert_true(uuid_is_zero(&t->opened.last_cut));
	points_make(t, 3);
	struct point_info *before = NULL, *after = NULL;
	size_t count = 0;
	assert_int_equal(replica_points(t->replica, &before, &count), 0);
	assert_int_equal(count, 3);
	store_twin_reopen(t);
	assert_non_null(t->replica);
	assert_int_equal(replica_points(t->replica, &after, &count), 0);
	assert_int_equal(count, 3);
	assert_memory_equal(before, after, 3 * sizeof(*before));
	assert_false(info_of(t).broken);
	assert_true(store_twin_check(t, false));
	store_twin_session(t);
	assert_int_equal(t->opened.last_point, 3);
	assert_true(uuid_equal(&t->opened.last_cut, &after[2].cut));
	free(before);
	free(after);
}

static void point_is_what_qemu_reads(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 2);
	t->open.codec = CODEC_ZLIB;
	replica_session_end(t->replica);
	store_twin_session(t);
	points_make(t, 2);
	if (!store_twin_check(t, true))
		skip();
}

static void point_without_changes_has_every_disk(void **state)
{
	struct store_twin *t = *state;
	struct wire_committed committed;
	store_twin_session(t);
	store_twin_seal(t);
	store_twin_seal(t);
	assert_true(file_there(t, "points/2/vda.qcow2") && file_there(t, "points/2/vdb.qcow2"));
	assert_true(store_twin_check(t, false));
	struct wire_seal seal = store_twin_cut(t);
	seal.predecessor--;
	assert_int_equal(replica_seal(t->replica, &seal, &committed, NULL), -ESTALE);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
}

static void seal_refuses_another_predecessor_or_head(void **state)
{
	struct store_twin *t = *state;
	struct wire_committed committed;
	struct err err = {0};
	store_twin_session(t);
	points_make(t, 2);
	struct wire_seal seal = store_twin_cut(t);
	seal.predecessor = 1;
	assert_int_equal(replica_seal(t->replica, &seal, &committed, &err), -ESTALE);
	seal.predecessor = 3;
	assert_int_equal(replica_seal(t->replica, &seal, &committed, &err), -ESTALE);
	seal = store_twin_cut(t);
	seal.head.bytes[3] ^= 1;
	assert_int_equal(replica_seal(t->replica, &seal, &committed, &err), -ESTALE);
	assert_int_equal(info_of(t).last_point, 2);
	store_twin_seal(t);
}

static void point_path_names_only_what_is_there(void **state)
{
	struct store_twin *t = *state;
	char path[512], expected[600];
	store_twin_session(t);
	points_make(t, 1);
	assert_int_equal(replica_point_path(t->replica, 1, "vda", path, sizeof(path)), 0);
	store_twin_path(t, expected, sizeof(expected), "points/1/vda.qcow2");
	assert_string_equal(path, expected);
	assert_int_equal(replica_point_path(t->replica, 1, NULL, path, sizeof(path)), 0);
	store_twin_path(t, expected, sizeof(expected), "points/1");
	assert_string_equal(path, expected);
	assert_int_equal(replica_point_path(t->replica, 1, "vdz", path, sizeof(path)), -ENOENT);
	assert_int_equal(replica_point_path(t->replica, 2, "vda", path, sizeof(path)), -ENOENT);
	assert_int_equal(replica_point_path(t->replica, 1, "vda", path, 5), -ENAMETOOLONG);
}

// --- the head ---

static void head_survives_its_session_but_not_the_receiver(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 1);
	store_twin_change(t, 0, 1, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 1, MASK_FULL, CODEC_ZSTD, NULL), 0);
	struct uuid head = info_of(t).head;
	assert_true(info_of(t).head_bytes > 0);
	replica_session_end(t->replica);
	assert_true(head_is(t, &head));
	t->open.codec = CODEC_ZLIB; // the overlay that is begun keeps its own
	store_twin_session(t);
	assert_true(uuid_equal(&t->opened.head, &head));
	store_twin_change(t, 1, 2, MASK_FULL);
	assert_int_equal(store_twin_send(t, 1, 2, MASK_FULL, CODEC_ZLIB, NULL), 0);
	store_twin_change(t, 0, 2, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_ZLIB, NULL), 0);
	store_twin_seal(t);
	assert_true(store_twin_check(t, false));
	store_twin_change(t, 0, 1, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 1, MASK_FULL, CODEC_ZSTD, NULL), 0);
	head = info_of(t).head;
	store_twin_reopen(t);
	assert_false(head_is(t, &head));
	assert_false(file_there(t, "head"));
	assert_true(store_twin_check(t, false));
}

static void compare_knows_each_block_of_the_newest_state(void **state)
{
	struct store_twin *t = *state;
	for (unsigned round = 0; round < 4; round++) {
		store_twin_session(t);
		for (unsigned i = 0; i < 10; i++)
			store_twin_random(t);
		if (round % 2)
			store_twin_seal(t);
		for (uint16_t d = 0; d < STORE_TWIN_DISKS; d++) {
			uint64_t blocks = size_blocks(t->open.disk[d].size), wrong = draw_below(&t->seed, blocks);
			AUTO_FREE struct digest *digests = calloc(blocks, sizeof(*digests));
			unsigned char bitmap[16];
			for (uint64_t i = 0; i < blocks; i++)
				digests[i] = digest_of(&t->open.digest, d, i, t->disk[d] + i * BLOCK_SIZE);
			digests[wrong].bytes[7] ^= 4;
			struct wire_compare compare = {
				.disk = d, .count = (uint32_t)blocks, .first = 0, .digests = digests[0].bytes};
			assert_int_equal(replica_compare(t->replica, &compare, bitmap, NULL), 0);
			for (uint64_t i = 0; i < blocks; i++)
				assert_int_equal(bitmap[i / 8] >> i % 8 & 1, i == wrong);
			compare.first = 1;
			assert_int_equal(replica_compare(t->replica, &compare, bitmap, NULL), -EBADMSG);
			compare.disk = STORE_TWIN_DISKS;
			assert_int_equal(replica_compare(t->replica, &compare, bitmap, NULL), -EBADMSG);
		}
		if (round % 2)
			store_twin_reopen(t); // from disk: a head that was not sealed would be gone
		else
			replica_session_end(t->replica);
	}
}

static void damaged_block_is_refused_and_changes_nothing(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	unsigned char *block = calloc(1, BLOCK_SIZE);
	store_twin_session(t);
	store_twin_change(t, 1, 3, MASK_FULL);
	assert_int_equal(store_twin_send(t, 1, 3, MASK_FULL, CODEC_ZSTD, NULL), 0);
	memcpy(block, t->disk[1] + 3 * BLOCK_SIZE, BLOCK_SIZE);
	block[100] ^= 1;
	struct wire_block b = {.disk = 1, .mask = MASK_FULL, .index = 3, .len = BLOCK_SIZE, .payload = block};
	b.digest = digest_of(&t->open.digest, 1, 3, t->disk[1] + 3 * BLOCK_SIZE);
	assert_int_equal(replica_write_block(t->replica, &b, &err), -EBADMSG);
	b.digest = digest_of(&t->open.digest, 1, 4, block); // true elsewhere only
	assert_int_equal(replica_write_block(t->replica, &b, &err), -EBADMSG);
	b.digest = digest_of(&t->open.digest, 1, 3, block);
	b.len--;
	assert_int_equal(replica_write_block(t->replica, &b, &err), -EBADMSG);
	b.len++;
	b.mask = 0;
	assert_int_equal(replica_write_block(t->replica, &b, &err), -EBADMSG);
	b.mask = 1; // in pieces, with the digest of zeros
	b.len = PIECE_SIZE;
	b.digest = (struct digest){{0}};
	assert_int_equal(replica_write_block(t->replica, &b, &err), -EBADMSG);
	b = (struct wire_block){.disk = 1, .mask = MASK_FULL, .index = 39, .len = BLOCK_SIZE, .payload = block};
	block[BLOCK_SIZE - 1] = 1; // past the disk's end
	b.digest = digest_of(&t->open.digest, 1, 39, block);
	assert_int_equal(replica_write_block(t->replica, &b, &err), -EBADMSG);
	b.index = 40;
	assert_int_equal(replica_write_block(t->replica, &b, &err), -EBADMSG);
	struct wire_zeros zeros = {.disk = 1, .first = 1, .count = UINT64_MAX};
	assert_int_equal(replica_write_zeros(t->replica, &zeros, &err), -EBADMSG);
	store_twin_seal(t);
	assert_true(store_twin_check(t, false));
	assert_false(info_of(t).broken);
	free(block);
}

static void zeros_over_an_empty_huge_disk_cost_nothing(void **state)
{
	struct store_twin *t = *state;
	struct wire_open open = t->open;
	struct wire_opened opened;
	struct replica *huge = NULL;
	struct replica_info info;
	struct err err = {0};
	(void)snprintf(open.name, NAME_SIZE, "huge");
	open.disk_count = 1;
	open.disk[0].size = UINT64_C(1) << 40;
	if (store_create(t->store, &open, t->pin, &huge, &err))
		fail_msg("%s", err.text);
	assert_int_equal(replica_session_begin(huge, &open, t->pin, &opened, &err), 0);
	struct wire_zeros zeros = {.disk = 0, .first = 0, .count = size_blocks(open.disk[0].size)};
	assert_int_equal(replica_write_zeros(huge, &zeros, &err), 0);
	replica_info(huge, &info);
	assert_int_equal(info.head_bytes, 0);
	replica_session_end(huge);
}

// --- retention ---

static void fold_keeps_every_remaining_point_byte_for_byte(void **state)
{
	struct store_twin *t = *state;
	store_twin_keep(t, 3);
	store_twin_session(t);
	for (unsigned n = 0; n < 9; n++) {
		points_make(t, 1);
		int folded = 0, rc;
		while ((rc = replica_retain(t->replica, NULL)) == 1)
			folded++;
		assert_int_equal(rc, 0);
		assert_int_equal(folded, n >= 3);
		assert_true(store_twin_check(t, n == 8));
	}
	assert_int_equal(info_of(t).point_count, 3);
	assert_false(file_there(t, "points/6") || file_there(t, "trash/6"));
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	assert_int_equal(info_of(t).point_count, 3);
	assert_true(store_twin_check(t, false));
	store_twin_session(t); // reads all digests back
	points_make(t, 2);
	assert_true(store_twin_check(t, false));
}

static void newest_point_is_never_folded(void **state)
{
	struct store_twin *t = *state;
	store_twin_keep(t, 1);
	store_twin_session(t);
	assert_int_equal(replica_retain(t->replica, NULL), 0);
	points_make(t, 2);
	assert_int_equal(replica_retain(t->replica, NULL), 1);
	assert_int_equal(replica_retain(t->replica, NULL), 0);
	assert_int_equal(info_of(t).point_count, 1);
	assert_true(store_twin_check(t, false));
}

static void hold_forbids_folds_of_its_chain(void **state)
{
	struct store_twin *t = *state;
	uint64_t held = 0, again = 0;
	struct err err = {0};
	store_twin_keep(t, 1);
	assert_int_equal(replica_hold(t->replica, 0, &held, &err), -ENOENT);
	store_twin_session(t);
	points_make(t, 3);
	assert_int_equal(replica_hold(t->replica, 9, &held, &err), -ENOENT);
	assert_int_equal(replica_hold(t->replica, 0, &held, &err), 0);
	assert_int_equal(held, 3);
	assert_int_equal(replica_hold(t->replica, 3, &again, &err), 0);
	assert_int_equal(replica_retain(t->replica, &err), 0);
	replica_release(t->replica, 3);
	assert_int_equal(replica_retain(t->replica, &err), 0);
	assert_int_equal(info_of(t).point_count, 3);
	replica_release(t->replica, 3);
	assert_int_equal(replica_retain(t->replica, &err), 1);
	assert_int_equal(info_of(t).point_count, 2);
	assert_true(store_twin_check(t, false));
}

static void retention_that_waits_for_a_hold_says_so_when_many_points_gathered(void **state)
{
	struct store_twin *t = *state;
	uint64_t held = 0;
	struct err err = {0};
	store_twin_keep(t, 1);
	store_twin_session(t);
	points_make(t, RETENTION_LATE_POINTS);
	assert_int_equal(replica_hold(t->replica, 0, &held, &err), 0);
	assert_int_equal(replica_retain(t->replica, &err), 0);
	assert_int_equal(info_of(t).retention_waits_for, 0);
	points_make(t, 1);
	assert_int_equal(replica_retain(t->replica, &err), 0);
	assert_int_equal(info_of(t).point_count, 1 + RETENTION_LATE_POINTS);
	assert_int_equal(info_of(t).retention_waits_for, held);
	replica_release(t->replica, held);
	assert_int_equal(info_of(t).retention_waits_for, 0);
	assert_int_equal(replica_retain(t->replica, &err), 1);
}

// --- the fence ---

static void fence_ends_the_source_and_pins_the_point(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	struct wire_committed committed;
	store_twin_keep(t, 1);
	store_twin_session(t);
	points_make(t, 3);
	struct wire_seal seal = store_twin_cut(t);
	assert_int_equal(replica_fence(t->replica, 9, &err), -ENOENT);
	assert_int_equal(replica_fence(t->replica, 2, &err), 0);
	assert_int_equal(replica_fence(t->replica, 2, &err), 0);
	assert_int_equal(replica_fence(t->replica, 3, &err), -EALREADY);
	store_twin_change(t, 0, 0, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 0, MASK_FULL, CODEC_ZSTD, &err), -ESTALE);
	assert_int_equal(replica_seal(t->replica, &seal, &committed, &err), -ESTALE);
	assert_int_equal(replica_retain(t->replica, &err), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct replica_info info = info_of(t);
		assert_true(info.fenced && info.fenced_point == 2 && info.point_count == 3);
		assert_false(uuid_equal(&info.generation, &t->open.generation));
		if (i == 0)
			replica_session_end(t->replica);
		assert_int_equal(begin_with(t, &t->open, t->pin), -ESTALE);
		store_twin_reopen(t);
	}
	assert_int_equal(replica_fence(t->replica, 2, &err), 0);
	assert_int_equal(replica_fence(t->replica, 1, &err), -EALREADY);
}

// --- who may ---

static void session_begins_only_for_its_owner_generation_and_disks(void **state)
{
	struct store_twin *t = *state;
	unsigned char pin[OWNER_PIN_SIZE] = {0};
	struct wire_open open = t->open;
	assert_int_equal(begin_with(t, &open, pin), -EPERM);
	open.protection.bytes[0] ^= 1;
	assert_int_equal(begin_with(t, &open, t->pin), -EPERM);
	open = t->open;
	open.generation.bytes[15] ^= 1;
	assert_int_equal(begin_with(t, &open, t->pin), -ESTALE);
	open = t->open;
	open.disk[1].size -= SECTOR_SIZE; // larger is another matter: below
	assert_int_equal(begin_with(t, &open, t->pin), -EINVAL);
	open = t->open;
	open.disk_count = 1;
	assert_int_equal(begin_with(t, &open, t->pin), -EINVAL);
	open = t->open;
	(void)snprintf(open.disk[0].name, NAME_SIZE, "other");
	assert_int_equal(begin_with(t, &open, t->pin), -EINVAL);
	open = t->open;
	open.digest.secret[9] ^= 1;
	assert_int_equal(begin_with(t, &open, t->pin), -EINVAL);
	open = t->open;
	open.points_keep = 0;
	assert_int_equal(begin_with(t, &open, t->pin), -EINVAL);
	assert_false(info_of(t).session_open);
	assert_int_equal(begin_with(t, &t->open, t->pin), 0);
	assert_int_equal(begin_with(t, &t->open, t->pin), -EBUSY);
}

static void session_updates_retention_for_good(void **state)
{
	struct store_twin *t = *state;
	t->open.points_keep = 77;
	t->open.rpo_ms = 60000;
	store_twin_session(t);
	store_twin_reopen(t);
	assert_int_equal(info_of(t).points_keep, 77);
	assert_int_equal(info_of(t).rpo_ms, 60000);
	assert_memory_equal(info_of(t).owner_pin, t->pin, OWNER_PIN_SIZE);
}

static void create_refuses_taken_and_forbidden_names(void **state)
{
	struct store_twin *t = *state;
	struct replica *r = NULL;
	struct err err = {0};
	struct wire_open open = t->open;
	assert_int_equal(store_create(t->store, &open, t->pin, &r, &err), -EEXIST);
	(void)snprintf(open.name, NAME_SIZE, "lock");
	assert_int_equal(store_create(t->store, &open, t->pin, &r, &err), -EEXIST);
	assert_string_equal(err.text, "lock is a name the store needs itself: protect under another name");
	(void)snprintf(open.name, NAME_SIZE, "../x");
	assert_int_equal(store_create(t->store, &open, t->pin, &r, &err), -EINVAL);
	(void)snprintf(open.name, NAME_SIZE, "vm2");
	(void)snprintf(open.disk[1].name, NAME_SIZE, "vda");
	assert_int_equal(store_create(t->store, &open, t->pin, &r, &err), -EINVAL);
	assert_int_equal(env_mkdir(t->temp.root, "vm3"), 0);
	assert_int_equal(env_mkdir(t->temp.root, "vm3/something"), 0);
	open = t->open;
	(void)snprintf(open.name, NAME_SIZE, "vm3");
	assert_int_equal(store_create(t->store, &open, t->pin, &r, &err), -EEXIST);
	assert_null(store_find(t->store, "vm3"));
	(void)snprintf(open.name, NAME_SIZE, "aaa");
	assert_int_equal(store_create(t->store, &open, t->pin, &r, &err), 0);
	assert_ptr_equal(store_at(t->store, 0), r);
	assert_ptr_equal(store_at(t->store, 1), t->replica);
	assert_null(store_at(t->store, 2));
}

static int create_named(struct store_twin *t, const char *name, const unsigned char *pin, struct err *err)
{
	struct replica *r = NULL;
	struct wire_open open = t->open;
	(void)snprintf(open.name, NAME_SIZE, "%s", name);
	return store_create(t->store, &open, pin, &r, err);
}

static void source_has_so_many_protections_and_no_more(void **state)
{
	struct store_twin *t = *state; // with vm1
	static const unsigned char other[OWNER_PIN_SIZE] = {9};
	struct err err = {0};
	store_set_owner_most(t->store, 2);
	assert_int_equal(create_named(t, "vm2", t->pin, &err), 0);
	assert_int_equal(store_owned(t->store, t->pin), 2);
	assert_int_equal(create_named(t, "vm3", t->pin, &err), -EDQUOT);
	assert_non_null(strstr(err.text, "has 2 protections"));
	assert_null(store_find(t->store, "vm3"));
	assert_false(store_has_protection(t->temp.root, "vm3"));
	assert_int_equal(create_named(t, "vm2", t->pin, &err), -EEXIST); // which says more
	assert_int_equal(create_named(t, "vm4", other, &err), 0);
	assert_int_equal(store_forget(t->store, "vm2", &err), 0);
	assert_int_equal(create_named(t, "vm3", t->pin, &err), 0);
	store_twin_reopen(t);
	store_set_owner_most(t->store, 2);
	assert_int_equal(create_named(t, "vm5", t->pin, &err), -EDQUOT);
	assert_int_equal(create_named(t, "vm5", other, &err), 0);
}

static void store_is_opened_by_one_receiver(void **state)
{
	struct store_twin *t = *state;
	struct store *second = NULL;
	struct err err = {0};
	assert_int_equal(store_open(env_posix(), t->temp.dir, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use"));
	assert_int_equal(store_open(env_posix(), "/dev/null", &second, &err), -ENOTDIR);
	assert_int_equal(store_open(env_posix(), "relative", &second, &err), -EINVAL);
	assert_true(store_free_bytes(t->store) > 0);
}

static void forget_removes_what_nobody_uses(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	uint64_t held = 0;
	struct replica *r = NULL;
	assert_int_equal(store_forget(t->store, "nobody", &err), -ENOENT);
	store_twin_session(t);
	points_make(t, 1);
	assert_int_equal(store_forget(t->store, "vm1", &err), -EBUSY);
	replica_session_end(t->replica);
	assert_int_equal(replica_hold(t->replica, 1, &held, &err), 0);
	assert_int_equal(store_forget(t->store, "vm1", &err), -EBUSY);
	replica_release(t->replica, 1);
	assert_int_equal(env_rmdir(t->temp.root, ".trash"), 0); // by somebody who takes empty directories away
	assert_int_equal(store_forget(t->store, "vm1", &err), 0);
	assert_null(store_find(t->store, "vm1"));
	assert_int_equal(begin_with(t, &t->open, t->pin), -EIO); // whoever still has it
	assert_int_equal(replica_hold(t->replica, 1, &held, &err), -ENOENT);
	assert_int_equal(store_create(t->store, &t->open, t->pin, &r, &err), 0);
	assert_int_equal(store_forget(t->store, "vm1", &err), 0);
	store_twin_reopen(t);
	assert_null(t->replica);
}

static void first_point_is_committed_where_points_was_taken_away(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	assert_int_equal(env_rmdir(t->temp.root, "vm1/points"), 0); // by somebody who takes empty directories away
	points_make(t, 1);
	replica_session_end(t->replica);
	store_twin_reopen(t);
	assert_int_equal(info_of(t).point_count, 1);
}

// --- damage ---

static void broken_is(struct store_twin *t, const char *names, uint64_t points)
{
	store_twin_reopen(t);
	assert_non_null(t->replica);
	struct replica_info info = info_of(t);
	assert_true(info.broken);
	if (!strstr(info.broken_reason, names))
		fail_msg("\"%s\" does not name %s", info.broken_reason, names);
	assert_int_equal(info.point_count, points);
	assert_int_equal(begin_with(t, &t->open, t->pin), -EIO);
	assert_int_equal(replica_retain(t->replica, NULL), -EIO);
	assert_true(store_twin_check(t, false));
}

static void damaged_protection_is_broken_and_disturbs_no_other(void **state)
{
	struct store_twin *t = *state;
	struct wire_open open = t->open;
	struct replica *other = NULL;
	struct replica_info info;
	struct err err = {0};
	(void)snprintf(open.name, NAME_SIZE, "vm2");
	assert_int_equal(store_create(t->store, &open, t->pin, &other, &err), 0);
	file_truncate(t, "protection.json", 100);
	file_truncate(t, "protection.json.copy", 100); // one of the two alone costs nothing: test_copies.c
	broken_is(t, "protection.json", 0);
	other = store_find(t->store, "vm2");
	assert_non_null(other);
	replica_info(other, &info);
	assert_false(info.broken);
	assert_int_equal(store_create(t->store, &t->open, t->pin, &other, &err), -EEXIST);
	assert_int_equal(store_forget(t->store, "vm1", &err), 0);
}

static void damaged_point_leaves_those_below_it(void **state)
{
	static const struct {
		const char *file;
		uint64_t points;
	} cases[] = {
		{"base/vda.raw", 0},
		{"base/vdb.raw", 0}, // overlays: test_overlays.c; the others: test_lost_files.c
	};
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 4);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[320], *data = NULL;
		size_t len = 0;
		(void)snprintf(name, sizeof(name), "vm1/%s", cases[i].file);
		assert_int_equal(env_read_file(t->temp.root, name, 1 << 26, &data, &len), 0);
		file_truncate(t, cases[i].file, len - 512);
		broken_is(t, cases[i].file, cases[i].points);
		file_overwrite(t, cases[i].file, 0, data, len);
		free(data);
	}
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	assert_int_equal(info_of(t).point_count, 4);
}

static void missing_point_breaks_the_chain_above_it(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	store_twin_session(t);
	points_make(t, 4);
	assert_int_equal(env_remove_tree(t->temp.root, "vm1/points/3"), 0);
	broken_is(t, "points/3", 2);
	uint64_t held = 0;
	assert_int_equal(replica_hold(t->replica, 0, &held, &err), 0);
	assert_int_equal(held, 2);
	assert_int_equal(replica_fence(t->replica, 2, &err), 0); // a disaster does not wait
	assert_true(info_of(t).fenced);
}

static void missing_oldest_point_is_noticed(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 3);
	assert_int_equal(env_remove_tree(t->temp.root, "vm1/points/1"), 0);
	broken_is(t, "points/2/vda.qcow2: backing", 0);
}

static void flipped_bits_in_json_are_found(void **state)
{
	static const char *const files[] = {"protection.json"}; // point.json: test_lost_files.c
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 1);
	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		char name[320], copy[64], *data = NULL;
		size_t len = 0;
		(void)snprintf(name, sizeof(name), "vm1/%s", files[f]);
		(void)snprintf(copy, sizeof(copy), "%s.copy", files[f]);
		assert_int_equal(env_read_file(t->temp.root, name, 1 << 20, &data, &len), 0);
		for (unsigned i = 0; i < 40; i++) {
			size_t at = (size_t)draw_below(&t->seed, len);
			if (data[at] == ' ' || data[at] == '\n') // between members it may read the same
				continue;
			char bad = (char)(data[at] ^ 1 << draw_below(&t->seed, 7));
			file_overwrite(t, files[f], at, &bad, 1);
			file_overwrite(t, copy, at, &bad, 1);
			broken_is(t, files[f], 0);
			file_overwrite(t, files[f], at, &data[at], 1);
			file_overwrite(t, copy, at, &data[at], 1);
		}
		free(data);
	}
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
}

// Each sector checks, and the root does not match: nobody knows which block's digest is another's, so none of them is believed. All else: test_lost_files.c.
static void another_list_is_lost_as_a_whole_when_a_session_needs_it(void **state)
{
	struct store_twin *t = *state;
	struct wire_opened opened;
	struct err err = {0};
	unsigned char sector[DIGEST_SECTOR];
	struct env_file *list = NULL;
	uint32_t used = 0;
	store_twin_session(t);
	points_make(t, 2);
	assert_int_equal(env_open(t->temp.root, "vm1/points/1/vda.digests", ENV_WRITE, &list), 0);
	assert_int_equal(env_pread_full(list, sector, DIGEST_SECTOR, DIGEST_SECTOR), 0);
	assert_int_equal(digest_sector_check(sector, 1, &used), 0);
	sector[8] ^= 1; // of the first digest
	digest_sector_seal(sector, 1, used);
	assert_int_equal(env_pwrite(list, sector, DIGEST_SECTOR, DIGEST_SECTOR), 0);
	env_close(list);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	assert_int_equal(replica_sound(t->replica, 1, &err), 0); // nobody has read it
	assert_int_equal(replica_session_begin(t->replica, &t->open, t->pin, &opened, &err), 0);
	assert_false(info_of(t).broken);
	assert_int_equal(info_of(t).point_count, 2);
	assert_int_equal(replica_sound(t->replica, 1, &err), -EUCLEAN);
	replica_session_end(t->replica);
}

static void foreign_files_are_left_alone(void **state)
{
	struct store_twin *t = *state;
	struct env_file *file = NULL;
	assert_int_equal(env_mkdir(t->temp.root, "lost"), 0);
	assert_int_equal(env_mkdir(t->temp.root, "vm1/failover"), 0);
	assert_int_equal(env_open(t->temp.root, "notes", ENV_CREATE, &file), 0);
	env_close(file);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	assert_true(file_there(t, "failover"));
	assert_null(store_at(t->store, 1));
}

// --- disks that grow ---

static void a_disk_that_grew_keeps_its_points_and_takes_new_ones(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	store_twin_keep(t, 2);
	store_twin_session(t);
	points_make(t, 2);
	struct uuid head = info_of(t).head;
	replica_session_end(t->replica);
	uint64_t small = t->open.disk[0].size, large = 9 * BLOCK_SIZE + SECTOR_SIZE;
	store_twin_grow(t, 0, large);
	store_twin_session(t);
	assert_int_equal(t->opened.last_point, 2);
	assert_false(uuid_equal(&t->opened.head, &head)); // its overlays were of the old size
	assert_int_equal(info_of(t).disk[0].size, large);
	uint64_t of_point[DISKS_MAX];
	assert_int_equal(replica_point_sizes(t->replica, 2, of_point, &err), 0);
	assert_int_equal(of_point[0], small);
	assert_true(store_twin_check(t, false));
	store_twin_change(t, 0, 9, 0x0001);
	assert_int_equal(store_twin_send(t, 0, 9, 0x0001, CODEC_ZSTD, &err), 0);
	store_twin_seal(t);
	points_make(t, 1);
	assert_int_equal(replica_retain(t->replica, &err), 1); // a small point into the large base
	assert_int_equal(replica_retain(t->replica, &err), 1);
	(void)store_twin_check(t, true);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	store_twin_session(t);
	points_make(t, 2);
	assert_int_equal(replica_retain(t->replica, &err), 1); // a large one
	assert_true(store_twin_check(t, false));
	struct wire_open open = t->open;
	open.disk[0].size = small;
	replica_session_end(t->replica);
	assert_int_equal(begin_with(t, &open, t->pin), -EINVAL);
}

// What was received for the small disk is sent again for the large one: its overlay ends at the old size.
static void a_head_that_was_begun_does_not_outlive_the_growth(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 1);
	store_twin_change(t, 0, 1, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 1, MASK_FULL, CODEC_ZSTD, NULL), 0);
	struct uuid head = info_of(t).head;
	assert_true(file_there(t, "head/vda.qcow2"));
	replica_session_end(t->replica);
	uint64_t large = 9 * BLOCK_SIZE + SECTOR_SIZE;
	store_twin_grow(t, 0, large);
	store_twin_session(t);
	assert_false(uuid_equal(&t->opened.head, &head));
	assert_false(file_there(t, "head/vda.qcow2"));
	assert_int_equal(info_of(t).head_bytes, 0);
	assert_int_equal(store_twin_send(t, 0, 1, MASK_FULL, CODEC_ZSTD, NULL), 0);
	store_twin_change(t, 0, 9, 0x0001);
	assert_int_equal(store_twin_send(t, 0, 9, 0x0001, CODEC_ZSTD, NULL), 0);
	store_twin_seal(t);
	assert_true(store_twin_check(t, false));
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
}

static void a_grown_disk_is_remembered_before_it_has_a_point(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 1);
	replica_session_end(t->replica);
	store_twin_grow(t, 1, 50 * BLOCK_SIZE);
	store_twin_session(t);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	assert_int_equal(info_of(t).disk[1].size, 50 * BLOCK_SIZE);
	assert_true(store_twin_check(t, false));
	store_twin_session(t);
	assert_int_equal(t->opened.last_point, 1);
}

static void a_base_cut_short_is_not_grown_over(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 1);
	replica_session_end(t->replica);
	file_truncate(t, "base/vda.raw", 3 * BLOCK_SIZE);
	store_twin_grow(t, 0, 9 * BLOCK_SIZE);
	assert_int_equal(begin_with(t, &t->open, t->pin), -EIO);
	assert_true(info_of(t).broken);
}

// --- everything at random ---

static void as_at_last_cut(struct store_twin *t, unsigned disk)
{
	uint64_t was = size_blocks(t->point_size[t->cuts][disk]) * BLOCK_SIZE;
	memset(t->disk[disk] + was, 0, size_blocks(t->open.disk[disk].size) * BLOCK_SIZE - was);
	memcpy(t->disk[disk], t->point[t->cuts][disk], was);
}

static void model_step(struct store_twin *t)
{
	uint64_t held = 0;
	switch (draw_below(&t->seed, 12)) {
	case 0:
	case 1:
		if (t->cuts + 1 < STORE_TWIN_POINTS)
			store_twin_seal(t);
		break;
	case 2:
		assert_true(replica_retain(t->replica, NULL) >= 0);
		break;
	case 3:
		if (replica_hold(t->replica, 0, &held, NULL) == 0) {
			assert_int_equal(replica_retain(t->replica, NULL), 0);
			replica_release(t->replica, held);
		}
		break;
	case 4:
		if (draw_below(&t->seed, 3) == 0 && t->cuts) { // the head is lost: the source goes on from the last point
			store_twin_reopen(t);
			for (unsigned d = 0; d < STORE_TWIN_DISKS; d++)
				as_at_last_cut(t, d);
		} else if (draw_below(&t->seed, 4) == 0 && t->cuts) { // a disk grows, which costs the head, too
			replica_session_end(t->replica);
			for (unsigned d = 0; d < STORE_TWIN_DISKS; d++)
				as_at_last_cut(t, d);
			unsigned d = (unsigned)draw_below(&t->seed, STORE_TWIN_DISKS);
			store_twin_grow(t, d, t->open.disk[d].size + SECTOR_SIZE * (1 + draw_below(&t->seed, 300)));
		} else {
			replica_session_end(t->replica);
		}
		t->open.codec = draw_below(&t->seed, 2) ? CODEC_ZSTD : CODEC_ZLIB;
		store_twin_keep(t, (uint32_t)(1 + draw_below(&t->seed, 6)));
		store_twin_session(t);
		break;
	default:
		store_twin_random(t);
	}
}

static void every_point_holds_through_random_histories(void **state)
{
	struct store_twin *t = *state;
	const char *given = getenv("STORE_SEED");
	t->seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	print_message("STORE_SEED=%llu\n", (unsigned long long)t->seed);
	store_twin_keep(t, 4);
	store_twin_session(t);
	for (unsigned i = 0; i < 400; i++) {
		model_step(t);
		if (i % 20 == 0)
			assert_true(store_twin_check(t, false));
		assert_false(info_of(t).broken);
	}
	(void)store_twin_check(t, true);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	log_init("test_store", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		STORE_TEST(store_finds_after_reopening_what_was_committed),
		STORE_TEST(point_is_what_qemu_reads),
		STORE_TEST(point_without_changes_has_every_disk),
		STORE_TEST(seal_refuses_another_predecessor_or_head),
		STORE_TEST(point_path_names_only_what_is_there),
		STORE_TEST(head_survives_its_session_but_not_the_receiver),
		STORE_TEST(compare_knows_each_block_of_the_newest_state),
		STORE_TEST(damaged_block_is_refused_and_changes_nothing),
		STORE_TEST(zeros_over_an_empty_huge_disk_cost_nothing),
		STORE_TEST(fold_keeps_every_remaining_point_byte_for_byte),
		STORE_TEST(newest_point_is_never_folded),
		STORE_TEST(hold_forbids_folds_of_its_chain),
		STORE_TEST(retention_that_waits_for_a_hold_says_so_when_many_points_gathered),
		STORE_TEST(fence_ends_the_source_and_pins_the_point),
		STORE_TEST(session_begins_only_for_its_owner_generation_and_disks),
		STORE_TEST(session_updates_retention_for_good),
		STORE_TEST(create_refuses_taken_and_forbidden_names),
		STORE_TEST(source_has_so_many_protections_and_no_more),
		STORE_TEST(store_is_opened_by_one_receiver),
		STORE_TEST(forget_removes_what_nobody_uses),
		STORE_TEST(first_point_is_committed_where_points_was_taken_away),
		STORE_TEST(damaged_protection_is_broken_and_disturbs_no_other),
		STORE_TEST(damaged_point_leaves_those_below_it),
		STORE_TEST(missing_point_breaks_the_chain_above_it),
		STORE_TEST(missing_oldest_point_is_noticed),
		STORE_TEST(flipped_bits_in_json_are_found),
		STORE_TEST(another_list_is_lost_as_a_whole_when_a_session_needs_it),
		STORE_TEST(foreign_files_are_left_alone),
		STORE_TEST(a_disk_that_grew_keeps_its_points_and_takes_new_ones),
		STORE_TEST(a_head_that_was_begun_does_not_outlive_the_growth),
		STORE_TEST(a_grown_disk_is_remembered_before_it_has_a_point),
		STORE_TEST(a_base_cut_short_is_not_grown_over),
		STORE_TEST(every_point_holds_through_random_histories),
	};
	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
