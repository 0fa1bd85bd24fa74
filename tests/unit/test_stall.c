// SPDX-License-Identifier: Apache-2.0
// Retention that cannot go on (receiver/stall.c): a block that cannot be read, and a file system without space.
#include "base/log.h"
#include "base/bytes.h"
#include "receiver/chain.h"
#include "receiver/scrub.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS UINT64_C(1000000000)

// Block 2 of an overlay of vdb, which is not packed, cannot be read any more.
static void bad_place(struct env *env, const char *name, uint64_t block)
{
	bad_disk_set(name, bad_disk_cluster(env, "/store", name, block) + PIECE_SIZE, 1, -EIO);
}

// --- the tests ---

struct bench {
	struct store_world *world;
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct replica *replica;
	struct replica_info info;
	struct err err;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	b->world = world_new(8, 3);
	b->sim = sim_new(1);
	b->env = sim_env(b->sim);
	bad_disk_begin(b->env);
	const struct retention policy = {.points = 1};
	if (world_setup(b->env, b->world, &b->err) || store_open(b->env, "/store", &b->store, &b->err))
		fail_msg("%s", b->err.text);
	b->replica = store_find(b->store, "vm1");
	assert_int_equal(replica_set_retention(b->replica, &policy, &b->err), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	store_close(b->store);
	assert_int_equal(sim_handles(b->sim), 0);
	sim_free(b->sim);
	world_free(b->world);
	free(b);
	return 0;
}

static int spend(void *context, uint64_t bytes)
{
	(void)context, (void)bytes;
	return 0;
}

// As the keeper does, after so many seconds.
static int retain(struct bench *b, uint64_t seconds)
{
	const struct retain_pace pace = {.spend = spend};
	sim_clock_advance(b->sim, seconds * SECOND_NS);
	int rc = replica_retain_paced(b->replica, &pace, &b->err);
	replica_info(b->replica, &b->info);
	assert_false(b->info.broken);
	return rc;
}

// Nothing but what is above the fold that waits is done.
static void waits(struct bench *b, uint64_t seconds)
{
	for (int rc = 1; rc; seconds = 0) {
		rc = retain(b, seconds);
		assert_true(rc == 0 || rc == 1);
	}
	assert_int_not_equal(b->info.stall.cause, STALL_NOT);
}

static void a_block_that_gives_eio_is_told_waited_for_and_then_left_out(void **state)
{
	struct bench *b = *state;
	bad_place(b->env, "vm1/points/1/vdb.qcow2", 2); // all points show it
	assert_int_equal(retain(b, 0), -EIO);
	assert_non_null(strstr(b->info.stall.reason, "points/1/vdb.qcow2"));
	unsigned failed = bad_disk_hits();
	assert_true(failed > 0);
	waits(b, 59);
	assert_int_equal(b->info.point_count, 2); // but what is above it has gone
	assert_int_equal(bad_disk_hits(), failed);
	assert_non_null(strstr(b->info.stall.reason, "points/1/vdb.qcow2"));
	assert_int_equal(world_commit(b->world, b->store, 4, false, &b->err), 0); // and everything else goes on
	assert_int_equal(retain(b, 2), -EIO);
	waits(b, 118);
	assert_int_equal(retain(b, 3), -EIO);
	assert_int_equal(replica_damaged_blocks(b->replica, 4), 0); // nothing was given up yet
	assert_int_equal(retain(b, 241), 1);
	assert_string_equal(b->info.stall.reason, "");
	assert_int_equal(replica_damaged_blocks(b->replica, 4), 1);
	assert_int_equal(replica_sound(b->replica, 4, NULL), -EUCLEAN);
}

static void a_disk_that_reads_again_is_given_up_nothing_of(void **state)
{
	struct bench *b = *state;
	bad_place(b->env, "vm1/points/1/vdb.qcow2", 2);
	assert_int_equal(retain(b, 0), -EIO);
	assert_int_equal(retain(b, 61), -EIO);
	bad_disk_heal();
	assert_int_equal(retain(b, 121), 1);
	assert_string_equal(b->info.stall.reason, "");
	assert_int_equal(replica_damaged_blocks(b->replica, 3), 0);
}

// The header of an overlay, or its L1 table: nothing of what it holds can be read. What its list names is quarantined, and the rest goes on without it.
static void whole_overlay(struct bench *b, const char *name, uint64_t point, uint64_t at)
{
	struct replica_info *info = &b->info;
	bad_disk_set(name, at, 1, -EIO);
	for (uint64_t wait_s = 60; wait_s <= 240; wait_s *= 2) {
		assert_int_equal(retain(b, 1), -EIO);
		assert_int_equal(info->stall.cause, STALL_IO);
		assert_string_equal(stall_cause_name(info->stall.cause), "io-error");
		assert_non_null(strstr(info->stall.reason, name));
		assert_true(info->stall.again_in_ms > wait_s * 1000 - 1000 && info->stall.again_in_ms <= wait_s * 1000 + 1);
		waits(b, wait_s - 1);
		assert_int_equal(replica_damaged_blocks(b->replica, 3), 0); // and gives up nothing
	}
	assert_int_equal(retain(b, 1), 1);
	assert_int_equal(info->stall.cause, STALL_NOT);
	assert_int_equal(info->stall.again_in_ms, 0);
	assert_true(replica_damaged_blocks(b->replica, 3) > 0);
	assert_int_equal(replica_sound(b->replica, 3, NULL), -EUCLEAN);
	assert_int_equal(point > 1 ? replica_sound(b->replica, 1, NULL) : 0, 0);
	while (retain(b, 400) == 1)
		;
	assert_int_equal(info->stall.cause, STALL_NOT);
	bad_disk_heal();
}

// The chain can be opened again, and what the source then sends whole makes the newest point sound.
static void the_next_sync_repairs(struct bench *b)
{
	struct wire_opened opened;
	struct chain *chain = NULL;
	struct wire_damaged damaged;
	unsigned char block[BLOCK_SIZE];
	uint64_t last = b->info.last_point;
	assert_int_equal(chain_open(b->replica, last, 1, &chain, &b->err), 0);
	chain_close(chain);
	assert_int_equal(replica_session_begin(b->replica, &b->world->open, feed_pin, &opened, &b->err), 0);
	replica_damaged(b->replica, &damaged);
	assert_true(damaged.count > 0);
	for (uint32_t i = 0; i < damaged.count; i++)
		for (uint64_t n = 0; n < damaged.run[i].count; n++) {
			memset(block, 0, BLOCK_SIZE);
			feed_fill(block, size_of_block(b->world->open.disk[1].size, damaged.run[i].first + n), 77);
			assert_int_equal(damaged.run[i].disk, 1);
			assert_int_equal(feed_block(&b->world->open, NULL, b->replica, 1, damaged.run[i].first + n, block, MASK_FULL, &b->err), 0);
		}
	assert_int_equal(feed_seal(b->replica, 99, 1, &b->err), 0);
	replica_session_end(b->replica);
	assert_int_equal(replica_sound(b->replica, last + 1, NULL), 0);
}

static void an_overlay_whose_header_gives_eio_is_told_and_then_folded_without(void **state)
{
	struct bench *b = *state;
	whole_overlay(b, "vm1/points/1/vdb.qcow2", 1, 0);
	assert_int_equal(b->info.point_count, 1);
	the_next_sync_repairs(b);
}

static uint64_t l1_of(struct bench *b, const char *name)
{
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	unsigned char at[8];
	assert_int_equal(env_root_open(b->env, "/store", &root), 0);
	assert_int_equal(env_open(root, name, ENV_READ, &file), 0);
	assert_int_equal(env_pread_full(file, at, 8, 40), 0);
	env_close(file);
	env_root_close(root);
	return get_be64(at);
}

static void an_overlay_whose_l1_table_gives_eio_is_told_and_then_merged_without(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_pin(b->replica, 1, "", &b->err), 0);
	whole_overlay(b, "vm1/points/2/vdb.qcow2", 2, l1_of(b, "vm1/points/2/vdb.qcow2"));
	assert_int_equal(b->info.point_count, 2);
	the_next_sync_repairs(b);
}

static void a_merge_whose_uppermost_overlay_cannot_be_read_holds_the_others(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_pin(b->replica, 1, "", &b->err), 0);
	whole_overlay(b, "vm1/points/3/vdb.qcow2", 3, 0); // the one that stays
	assert_int_equal(b->info.point_count, 2);
	the_next_sync_repairs(b);
}

// A full disk in between says nothing of the block.
static void want_of_space_does_not_begin_the_count_anew(void **state)
{
	struct bench *b = *state;
	bad_place(b->env, "vm1/points/1/vdb.qcow2", 2);
	assert_int_equal(retain(b, 0), -EIO);
	assert_int_equal(retain(b, 61), -EIO);
	sim_set_space(b->sim, 1 << 20);
	assert_int_equal(retain(b, 121), -ENOSPC);
	assert_int_equal(retain(b, 30), -ENOSPC); // it is asked at each round
	sim_set_space(b->sim, 1 << 30);
	assert_int_equal(retain(b, 30), -EIO);
	assert_int_equal(retain(b, 241), 1);
	assert_int_equal(replica_damaged_blocks(b->replica, 3), 1);
}

static void without_space_nothing_is_begun_and_it_goes_on_when_there_is_some(void **state)
{
	struct bench *b = *state;
	sim_set_space(b->sim, 1 << 20);
	uint64_t ops = 0;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(retain(b, 30), -ENOSPC);
		assert_non_null(strstr(b->info.stall.reason, "free space there; it goes on by itself"));
		assert_int_equal(b->info.point_count, 3);
		if (i == 0)
			ops = sim_ops(b->sim); // what the fold needs was counted, from the digests
	}
	assert_true(sim_ops(b->sim) - ops < 2 * 8); // from then on it asks, and no more
	sim_set_space(b->sim, 1 << 30);
	assert_int_equal(retain(b, 30), 1);
	assert_string_equal(b->info.stall.reason, "");
}

// Blocks of one point, so many from the first; and nothing but zeros in `zeros` before them.
static void send_point(struct bench *b, unsigned zeros, unsigned blocks)
{
	struct wire_opened opened;
	unsigned char block[BLOCK_SIZE] = {0};
	assert_int_equal(replica_session_begin(b->replica, &b->world->open, feed_pin, &opened, &b->err), 0);
	for (unsigned i = 0; i < zeros + blocks; i++) {
		if (i >= zeros)
			feed_fill(block, BLOCK_SIZE, i);
		assert_int_equal(feed_block(&b->world->open, NULL, b->replica, 0, i, block, MASK_FULL, &b->err), 0);
	}
	assert_int_equal(feed_seal(b->replica, (unsigned char)(opened.last_point + 1), 1, &b->err), 0);
	replica_session_end(b->replica);
}

static int fold_to(struct bench *b, uint32_t points)
{
	const struct retention policy = {.points = points};
	assert_int_equal(replica_set_retention(b->replica, &policy, &b->err), 0);
	int rc;
	while ((rc = retain(b, 30)) == 1)
		;
	return rc;
}

// It takes nothing, and gives back what the base holds: a store that is full to its last byte gets room by it.
static void a_full_store_folds_a_point_of_zeros(void **state)
{
	struct bench *b = *state;
	send_point(b, 0, 3);
	assert_int_equal(fold_to(b, 1), 0); // all of it is in the overlay of the newest
	send_point(b, 3, 0);
	assert_int_equal(fold_to(b, 1), 0); // and now in the base
	send_point(b, 2, 1);
	sim_set_space(b->sim, 0);
	replica_info(b->replica, &b->info);
	uint64_t before = b->info.used_bytes;
	assert_int_equal(b->info.point_count, 2);
	assert_int_equal(retain(b, 30), 1);
	assert_string_equal(b->info.stall.reason, "");
	assert_int_equal(b->info.point_count, 1);
	assert_true(b->info.used_bytes + 3 * BLOCK_SIZE <= before);
	assert_true(store_free_bytes(b->store) >= 3 * BLOCK_SIZE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	log_init("test_stall", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		TEST(a_block_that_gives_eio_is_told_waited_for_and_then_left_out),
		TEST(an_overlay_whose_header_gives_eio_is_told_and_then_folded_without),
		TEST(an_overlay_whose_l1_table_gives_eio_is_told_and_then_merged_without),
		TEST(a_merge_whose_uppermost_overlay_cannot_be_read_holds_the_others),
		TEST(a_disk_that_reads_again_is_given_up_nothing_of),
		TEST(want_of_space_does_not_begin_the_count_anew),
		TEST(without_space_nothing_is_begun_and_it_goes_on_when_there_is_some),
		TEST(a_full_store_folds_a_point_of_zeros),
	};
	return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
