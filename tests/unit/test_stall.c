// SPDX-License-Identifier: Apache-2.0
// Retention that cannot go on (receiver/stall.c): a block that cannot be read, and a file system without space.
#include "base/log.h"
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

static void a_block_that_gives_eio_is_told_waited_for_and_then_left_out(void **state)
{
	struct bench *b = *state;
	bad_place(b->env, "vm1/points/1/vdb.qcow2", 2); // all points show it
	assert_int_equal(retain(b, 0), -EIO);
	assert_non_null(strstr(b->info.retention_reason, "points/1/vdb.qcow2"));
	unsigned failed = bad_disk_hits();
	assert_true(failed > 0);
	assert_int_equal(retain(b, 59), 0); // it waits
	assert_int_equal(bad_disk_hits(), failed);
	assert_non_null(strstr(b->info.retention_reason, "points/1/vdb.qcow2"));
	assert_int_equal(world_commit(b->world, b->store, 4, false, &b->err), 0); // and everything else goes on
	assert_int_equal(retain(b, 2), -EIO);
	assert_int_equal(retain(b, 118), 0);
	assert_int_equal(retain(b, 3), -EIO);
	assert_int_equal(replica_damaged_blocks(b->replica, 4), 0); // nothing was given up yet
	assert_int_equal(retain(b, 241), 1);
	assert_string_equal(b->info.retention_reason, "");
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
	assert_string_equal(b->info.retention_reason, "");
	assert_int_equal(replica_damaged_blocks(b->replica, 3), 0);
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
		assert_non_null(strstr(b->info.retention_reason, "free space there; it goes on by itself"));
		assert_int_equal(b->info.point_count, 3);
		if (i == 0)
			ops = sim_ops(b->sim); // what the fold needs was counted, from the digests
	}
	assert_true(sim_ops(b->sim) - ops < 2 * 8); // from then on it asks, and no more
	sim_set_space(b->sim, 1 << 30);
	assert_int_equal(retain(b, 30), 1);
	assert_string_equal(b->info.retention_reason, "");
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
	assert_string_equal(b->info.retention_reason, "");
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
		TEST(a_disk_that_reads_again_is_given_up_nothing_of),
		TEST(want_of_space_does_not_begin_the_count_anew),
		TEST(without_space_nothing_is_begun_and_it_goes_on_when_there_is_some),
		TEST(a_full_store_folds_a_point_of_zeros),
	};
	return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
