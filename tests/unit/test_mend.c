// SPDX-License-Identifier: Apache-2.0
// A replica that could not be read comes back by itself (receiver/mend.c), with every hold; one whose sync failed does not.
#include "base/log.h"
#include "receiver/replica.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS UINT64_C(1000000000)
#define WHOLE (UINT64_C(1) << 40)

struct bench {
	struct store_world *world;
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct replica *replica;
	struct replica_info info;
	struct err err;
};

static void open_store(struct bench *b)
{
	if (store_open(b->env, "/store", &b->store, &b->err))
		fail_msg("%s", b->err.text);
	b->replica = store_find(b->store, "vm1");
	assert_non_null(b->replica);
}

// What is kept twice is kept once, as in a store of before there were copies: test_copies.c has the others.
static void copies_remove(struct env *env)
{
	static const char *const files[] = {"vm1/protection.json.copy", "vm1/points/1/point.json.copy", "vm1/points/2/point.json.copy", "vm1/points/3/point.json.copy"};
	struct env_root *root = NULL;
	assert_int_equal(env_root_open(env, "/store", &root), 0);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int rc = env_unlink(root, files[i]);
		assert_true(rc == 0 || rc == -ENOENT);
	}
	env_root_close(root);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	b->world = world_new(8, 3);
	b->sim = sim_new(1);
	b->env = sim_env(b->sim);
	if (world_setup(b->env, b->world, &b->err))
		fail_msg("%s", b->err.text);
	copies_remove(b->env);
	bad_disk_begin(b->env);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	store_close(b->store);
	bad_disk_end();
	assert_int_equal(sim_handles(b->sim), 0);
	sim_free(b->sim);
	world_free(b->world);
	free(b);
	return 0;
}

static int mend(struct bench *b, uint64_t seconds)
{
	sim_clock_advance(b->sim, seconds * SECOND_NS);
	int rc = replica_mend(b->replica);
	replica_info(b->replica, &b->info);
	return rc;
}

static unsigned holds(struct bench *b, uint64_t number)
{
	const struct point_info *point = replica_point(b->replica, number);
	return point ? point->holds : 0;
}

static void replica_that_could_not_be_read_at_start_comes_back(void **state)
{
	struct bench *b = *state;
	static const char *const files[] = {"vm1/protection.json", "vm1/points/2/point.json", "vm1/points/3/vdb.qcow2", "vm1/base/vda.digests"};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		bad_disk_set(files[i], 0, WHOLE, -EIO);
		open_store(b);
		replica_info(b->replica, &b->info);
		assert_true(b->info.broken && b->info.mend_in_ms > 0 && b->info.mend_in_ms <= 30000);
		assert_non_null(strstr(b->info.broken_reason, "looked at again in"));
		assert_non_null(strstr(b->info.broken_reason, files[i]));
		assert_int_equal(mend(b, 29), 0);
		assert_int_equal(mend(b, 1), 0); // it was looked at, and is as it was
		assert_true(b->info.broken && b->info.mend_in_ms > 50000); // twice as long
		bad_disk_heal();
		assert_int_equal(mend(b, 30), 0);
		assert_int_equal(mend(b, 31), 1);
		assert_true(!b->info.broken && b->info.point_count == 3 && b->info.mend_in_ms == 0);
		if (i == 3 && world_commit(b->world, b->store, 4, false, &b->err)) // and takes the next point
			fail_msg("%s", b->err.text);
		store_close(b->store);
		copies_remove(b->env);
	}
	open_store(b);
}

static void back_off_has_an_end(void **state)
{
	struct bench *b = *state;
	bad_disk_set("vm1/protection.json", 0, WHOLE, -EIO);
	open_store(b);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(mend(b, 3600), 0);
		assert_true(b->info.mend_in_ms <= 3600000);
	}
}

static void what_a_session_could_not_read_is_read_again(void **state)
{
	struct bench *b = *state;
	open_store(b);
	bad_disk_set("vm1/points/2/vda.digests", 0, WHOLE, -EIO);
	assert_int_equal(world_commit(b->world, b->store, 4, false, &b->err), -EIO);
	replica_info(b->replica, &b->info);
	assert_true(b->info.broken && b->info.mend_in_ms > 0);
	bad_disk_heal();
	assert_int_equal(mend(b, 30), 1);
	if (world_commit(b->world, b->store, 4, false, &b->err))
		fail_msg("%s", b->err.text);
}

static void holds_outlast_it(void **state)
{
	struct bench *b = *state;
	uint64_t held;
	bad_disk_set("vm1/points/2/point.json", 0, WHOLE, -EIO);
	open_store(b);
	assert_int_equal(replica_hold(b->replica, 1, &held, &b->err), 0);
	assert_int_equal(replica_hold(b->replica, 3, &held, &b->err), -EIO);
	assert_int_equal(replica_hold_unread(b->replica, 3), 0);
	assert_int_equal(replica_hold_unread(b->replica, 2), 0);
	replica_release(b->replica, 2);
	assert_int_equal(mend(b, 31), 0);
	bad_disk_heal();
	assert_int_equal(mend(b, 61), 1);
	assert_true(holds(b, 1) == 1 && holds(b, 2) == 0 && holds(b, 3) == 1);
	replica_release(b->replica, 1);
	replica_release(b->replica, 3);
	assert_true(holds(b, 1) == 0 && holds(b, 3) == 0);
}

static void what_is_damaged_is_not_looked_at_again(void **state)
{
	struct bench *b = *state;
	open_store(b);
	store_close(b->store);
	b->store = NULL;
	struct env_root *root = NULL;
	assert_int_equal(env_root_open(b->env, "/store", &root), 0);
	assert_int_equal(env_unlink(root, "vm1/points/2/vda.digests"), 0); // so that nobody knows what that point is
	env_root_close(root);
	bad_disk_set("vm1/points/2/point.json", 0, WHOLE, -EBADMSG);
	open_store(b);
	replica_info(b->replica, &b->info);
	assert_true(b->info.broken && b->info.mend_in_ms == 0);
	assert_int_equal(mend(b, 100000), 0);
	assert_true(b->info.broken);
}

static int open_as(struct bench *b, unsigned char first)
{
	unsigned char pin[OWNER_PIN_SIZE];
	struct wire_opened opened;
	memcpy(pin, feed_pin, sizeof(pin));
	pin[0] ^= first;
	world_open_at(b->world, 4);
	b->err = (struct err){.code = 0};
	return replica_session_begin(b->replica, &b->world->open, pin, &opened, &b->err);
}

static void another_source_is_not_told_that_it_is_broken(void **state)
{
	struct bench *b = *state;
	bad_disk_set("vm1/points/2/point.json", 0, WHOLE, -EIO);
	open_store(b);
	assert_int_equal(open_as(b, 0), -EIO);
	assert_non_null(strstr(b->err.text, "point.json"));
	assert_int_equal(open_as(b, 1), -EPERM);
	assert_null(strstr(b->err.text, "broken"));
	assert_null(strstr(b->err.text, "point"));
	store_close(b->store);
	bad_disk_heal();
	copies_remove(b->env);
	bad_disk_set("vm1/protection.json", 0, WHOLE, -EIO); // and where it is not known whose it is, nobody is told why
	open_store(b);
	for (unsigned char other = 0; other < 2; other++) {
		assert_int_equal(open_as(b, other), -EIO);
		assert_string_equal(b->err.text, "vm1 cannot be read at the receiver, whose status says why");
	}
}

static void what_is_held_is_not_removed_while_it_cannot_be_read(void **state)
{
	struct bench *b = *state;
	uint64_t held;
	open_store(b);
	assert_int_equal(replica_hold(b->replica, 2, &held, &b->err), 0);
	bad_disk_set("vm1/points/2/vda.digests", 0, WHOLE, -EIO);
	assert_int_equal(world_commit(b->world, b->store, 4, false, &b->err), -EIO);
	bad_disk_heal();
	bad_disk_set("vm1/points/1/point.json", 0, WHOLE, -EIO);
	assert_int_equal(mend(b, 31), 0);
	assert_int_equal(b->info.point_count, 0); // so no point says that it is held
	assert_int_equal(store_forget(b->store, "vm1", &b->err), -EBUSY);
	assert_non_null(strstr(b->err.text, "point 2 of vm1 is in use"));
	replica_release(b->replica, 2);
	assert_int_equal(replica_hold_unread(b->replica, 0), 0);
	assert_int_equal(store_forget(b->store, "vm1", &b->err), -EBUSY);
	assert_non_null(strstr(b->err.text, "nobody knows by which"));
	replica_release(b->replica, 0);
	if (store_forget(b->store, "vm1", &b->err))
		fail_msg("%s", b->err.text);
}

// The keeper may wait for the removal's lock with a replica whose name is another one's by the time it gets it.
static void what_was_removed_is_not_looked_at_again(void **state)
{
	struct bench *b = *state;
	bad_disk_set("vm1/points/2/point.json", 0, WHOLE, -EIO);
	open_store(b);
	replica_info(b->replica, &b->info);
	assert_true(b->info.broken && b->info.mend_in_ms > 0);
	bad_disk_heal();
	if (store_forget(b->store, "vm1", &b->err))
		fail_msg("%s", b->err.text);
	struct replica *anew = NULL;
	struct wire_opened opened;
	world_open_at(b->world, 1);
	if (store_create(b->store, &b->world->open, feed_pin, &anew, &b->err) ||
	    replica_session_begin(anew, &b->world->open, feed_pin, &opened, &b->err) || world_send(b->world, anew, 1, false, &b->err))
		fail_msg("%s", b->err.text);
	assert_ptr_not_equal(anew, b->replica);
	assert_int_equal(mend(b, 31), 0);
	assert_true(b->info.broken && b->info.mend_in_ms == 0 && b->info.point_count == 0);
	if (feed_seal(anew, 1, 1, &b->err)) // its head is as it was
		fail_msg("%s", b->err.text);
	replica_session_end(anew);
	if (world_read_points(b->world, b->env, 1, 1, 1 << 1, &b->err))
		fail_msg("%s", b->err.text);
}

// The journal that the commit took along, as a receiver leaves it that ended before its sync had passed.
static void journal_leave(struct bench *b)
{
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	assert_int_equal(env_root_open(b->env, "/store", &root), 0);
	assert_int_equal(env_open(root, "vm1/points/3/checkpoint", ENV_CREATE, &file), 0);
	env_close(file);
	env_root_close(root);
	sim_settle(b->sim);
}

static bool journal_is_left(struct bench *b)
{
	struct env_stat st;
	return env_stat(b->replica->root, "vm1/points/3/checkpoint", &st) == 0;
}

// Opens the store with operation `op` failing for want of space. 1: it was a move of point 3, 0: another one, -1: it ended before.
static int open_without_space(struct bench *b, uint64_t op)
{
	journal_leave(b);
	uint64_t at = sim_ops(b->sim) + op;
	sim_fail_at(b->sim, at, -ENOSPC, false);
	int rc = store_open(b->env, "/store", &b->store, &b->err);
	bool failed = sim_has_failed(b->sim), move = strstr(sim_last_step(b->sim), "rename") && strstr(sim_last_step(b->sim), "vm1/points/3");
	sim_fail_at(b->sim, SIM_NEVER, 0, false);
	if (rc == 0 && move)
		b->replica = store_find(b->store, "vm1");
	return sim_ops(b->sim) <= at ? -1 : failed && rc == 0 && move;
}

// Until its name is certain, a point that nobody saw become durable can be read, and no more; and a start that is cut off between the two moves, as the second one's
// failure leaves it, loses nothing.
static void point_whose_name_finds_no_space_is_named_when_there_is_some(void **state)
{
	struct bench *b = *state;
	unsigned moves = 0;
	int how;
	for (uint64_t op = 0; (how = open_without_space(b, op)) >= 0; op++) {
		if (how == 1) {
			moves++;
			replica_info(b->replica, &b->info);
			assert_true(b->info.broken && b->info.mend_in_ms > 0 && b->info.mend_in_ms <= 30000);
			assert_int_equal(b->info.point_count, moves == 1 ? 3 : 2); // the third is aside
			assert_true(moves == 2 || journal_is_left(b));
			assert_int_equal(mend(b, 31), 1);
			assert_true(!b->info.broken && b->info.point_count == 3);
			assert_false(journal_is_left(b));
		}
		store_close(b->store);
		b->store = NULL;
		open_store(b);
		replica_info(b->replica, &b->info);
		assert_true(!b->info.broken && b->info.point_count == 3);
		store_close(b->store);
		b->store = NULL;
	}
	assert_int_equal(moves, 2);
}

int main(void)
{
	log_init("test_mend", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(replica_that_could_not_be_read_at_start_comes_back),
		TEST(point_whose_name_finds_no_space_is_named_when_there_is_some),
		TEST(back_off_has_an_end),
		TEST(what_a_session_could_not_read_is_read_again),
		TEST(holds_outlast_it),
		TEST(what_is_damaged_is_not_looked_at_again),
		TEST(another_source_is_not_told_that_it_is_broken),
		TEST(what_is_held_is_not_removed_while_it_cannot_be_read),
		TEST(what_was_removed_is_not_looked_at_again),
	};
	return cmocka_run_group_tests_name("mend", tests, NULL, NULL);
}
