// SPDX-License-Identifier: Apache-2.0
// What a broken replica answers (receiver/broken.c): a point that recovery could read is given; for any other the answer is why the replica is broken, and never that
// there is none. In words and by commands: tests/e2e/test-broken-replica.sh.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/copies.h"
#include "receiver/failover.h"
#include "receiver/point_stream.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/feed.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t disk_size[] = {(1 << 20) + 512};

struct bench {
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct replica *r;
	struct replica_info info;
	struct failover_info failover;
	struct err err;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	struct wire_open open = feed_open(1, disk_size, 9);
	b->sim = sim_new(1);
	b->env = sim_env(b->sim);
	assert_int_equal(store_open(b->env, "/", &b->store, &b->err), 0);
	assert_int_equal(feed_points(b->env, b->store, &open, 3, &b->err), 0);
	b->r = store_find(b->store, "vm1");
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	store_close(b->store);
	assert_int_equal(sim_handles(b->sim), 0);
	sim_free(b->sim);
	free(b);
	return 0;
}

static void reopen(struct bench *b)
{
	store_close(b->store);
	assert_int_equal(store_open(b->env, "/", &b->store, &b->err), 0);
	b->r = store_find(b->store, "vm1");
	replica_info(b->r, &b->info);
}

static void lose(struct bench *b, const char *path)
{
	struct env_root *root = NULL;
	assert_int_equal(env_root_open(b->env, "/", &root), 0);
	assert_int_equal(env_remove_tree(root, path), 0);
	env_root_close(root);
}

static void damage(struct bench *b, const char *path)
{
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	unsigned char byte = 0;
	assert_int_equal(env_root_open(b->env, "/", &root), 0);
	assert_int_equal(env_open(root, path, ENV_WRITE, &file), 0);
	assert_int_equal(env_pread_full(file, &byte, 1, 40), 0);
	byte ^= 1;
	assert_int_equal(env_pwrite(file, &byte, 1, 40), 0);
	env_close(file);
	env_root_close(root);
}

static void lose_protection(struct bench *b)
{
	damage(b, "vm1/protection.json");
	damage(b, "vm1/protection.json" COPY_SUFFIX);
}

static int fail_over(struct bench *b, uint64_t number)
{
	return failover_run(b->env, b->store, b->r, number, false, NULL, &b->failover, &b->err);
}

// The last answer was why the replica is broken, all of which says `reason`.
static void is_why(struct bench *b, int rc, const char *reason)
{
	assert_int_equal(rc, -EIO);
	assert_non_null(strstr(b->err.text, "vm1 is broken: "));
	if (!strstr(b->err.text, reason))
		fail_msg("%s: does not say: %s", b->err.text, reason);
	b->err = (struct err){.code = 0};
}

static int list(struct bench *b, size_t *ret_count)
{
	AUTO_FREE struct point_info *points = NULL;
	AUTO_FREE struct retention_point *plan = NULL;
	return replica_list_points(b->r, &points, &plan, ret_count, &b->err);
}

static int retention(struct bench *b)
{
	AUTO_FREE struct point_info *points = NULL;
	AUTO_FREE struct retention_point *plan = NULL;
	size_t count = 0;
	return replica_plan_retention(b->r, NULL, &points, &plan, &count, &b->err);
}

static int export(struct bench *b, uint64_t number)
{
	struct control_stream stream;
	atomic_uint under_way = 0;
	return point_stream_open(b->r, number, "vda", false, NULL, &under_way, &stream, &b->err);
}

// Everybody who asks for a point that cannot be used, 0 being the newest.
static void point_is_refused(struct bench *b, uint64_t number, const char *reason)
{
	struct point_info point;
	uint64_t held;
	is_why(b, replica_point_look(b->r, number, &point, &b->err), reason);
	is_why(b, replica_hold(b->r, number, &held, &b->err), reason);
	is_why(b, replica_hold_sound(b->r, number, &held, &b->err), reason);
	is_why(b, replica_point_opens(b->r, number, &b->err), reason);
	is_why(b, export(b, number), reason);
	is_why(b, scrub_begin(b->r, number, 0, &b->err), reason);
	is_why(b, fail_over(b, number), reason);
	is_why(b, replica_pin(b->r, number ? number : 1, "", &b->err), reason);
	is_why(b, replica_unpin(b->r, number ? number : 1, &b->err), reason);
	is_why(b, retention(b), reason);
	assert_false(feed_finds(b->env, "vm1/failover"));
}

static void unread_are(struct bench *b, uint64_t count, uint64_t newest)
{
	struct unread_points unread;
	assert_int_equal(replica_unread(b->r, &unread), 0);
	assert_int_equal(unread.count, count);
	assert_int_equal(unread.newest, newest);
}

static void replica_of_nobody_knows_whom_gives_its_reason_for_everything(void **state)
{
	struct bench *b = *state;
	const char *reason = "copy points with qemu-img";
	size_t count;
	unread_are(b, 0, 0);
	lose_protection(b);
	reopen(b);
	assert_true(b->info.broken);
	point_is_refused(b, 0, reason);
	point_is_refused(b, 2, reason);
	is_why(b, list(b, &count), reason);
	is_why(b, replica_fence_commit(b->r, 0, &b->err), reason); // not that there is no failover
	is_why(b, replica_unfence_check(b->r, 0, &b->err), reason);
	unread_are(b, 3, 3);
}

static void replica_without_its_base_gives_its_reason_for_every_point(void **state)
{
	struct bench *b = *state;
	size_t count;
	lose(b, "vm1/base/vda.raw");
	reopen(b);
	point_is_refused(b, 0, "put that file back");
	is_why(b, list(b, &count), "put that file back");
	unread_are(b, 3, 3);
}

static void points_below_a_gap_can_be_used_and_those_above_are_told(void **state)
{
	struct bench *b = *state;
	struct point_info point;
	size_t count = 0;
	lose(b, "vm1/points/2");
	reopen(b);
	assert_int_equal(list(b, &count), 0);
	assert_int_equal(count, 1);
	point_is_refused(b, 3, "vm1/points/2: missing, and point 3 stands on it: put that directory back");
	unread_are(b, 1, 3);
	assert_int_equal(replica_point_look(b->r, 0, &point, &b->err), 0);
	assert_int_equal(point.number, 1);
	assert_int_equal(fail_over(b, 0), 0);
	assert_int_equal(b->failover.point, 1);
	assert_int_equal(replica_fence_commit(b->r, 0, &b->err), 0); // a machine runs there, and can
}

// A base that goes while a receiver runs leaves the points in the list, and none of them can be opened.
static void point_in_the_list_of_a_broken_replica_is_opened_before_it_is_failed_over_to(void **state)
{
	struct bench *b = *state;
	lose(b, "vm1/base/vda.raw");
	assert_int_equal(replica_point_opens(b->r, 3, &b->err), -ENOENT); // nobody knows yet: it is looked at
	assert_non_null(strstr(b->err.text, "vm1/base/vda.raw"));
	{
		LOCK_SCOPE(&b->r->lock);
		assert_int_equal(replica_base_there(b->r, &b->err), -EIO);
	}
	is_why(b, fail_over(b, 0), "put that file back");
	is_why(b, fail_over(b, 3), "put that file back");
	replica_info(b->r, &b->info);
	assert_false(b->info.fenced);
	assert_false(feed_finds(b->env, "vm1/failover"));
}

static void failed_over_without(struct bench *b, const char *path, const char *reason)
{
	assert_int_equal(fail_over(b, 3), 0);
	lose(b, path);
	reopen(b);
	assert_true(b->info.broken && b->info.fenced);
	is_why(b, fail_over(b, 0), reason);
	is_why(b, fail_over(b, 3), reason);
	is_why(b, replica_point_opens(b->r, 3, &b->err), reason);
	is_why(b, replica_fence_commit(b->r, 0, &b->err), reason);
	reopen(b);
	assert_false(b->info.fence_final);
	assert_int_equal(replica_fence_timer(b->r, 600000, &b->err), 0);
	is_why(b, replica_fence_commit(b->r, 3, &b->err), "in 600 s it is taken back by itself, so copy what is in");
	assert_true(feed_finds(b->env, "vm1/failover"));
}

static void failover_to_a_point_that_is_gone_is_no_answer(void **state)
{
	failed_over_without(*state, "vm1/points/3", "vm1/points/3 back");
}

static void failover_to_a_point_above_a_gap_is_no_answer(void **state)
{
	failed_over_without(*state, "vm1/points/2", "put that directory back");
}

static void failover_without_a_base_is_no_answer(void **state)
{
	failed_over_without(*state, "vm1/base/vda.raw", "put that file back");
}

static void disks_that_a_machine_may_use_are_named_where_nobody_knows_of_a_failover(void **state)
{
	struct bench *b = *state;
	assert_int_equal(fail_over(b, 3), 0);
	lose_protection(b);
	reopen(b);
	assert_true(b->info.broken && !b->info.fenced);
	assert_non_null(strstr(b->info.broken_reason, "a virtual machine may run on the disks in"));
	assert_non_null(strstr(b->info.broken_reason, "vm1/failover (vda.qcow2)"));
	is_why(b, fail_over(b, 0), "vm1/failover (vda.qcow2)");
	is_why(b, replica_fence_commit(b->r, 0, &b->err), "vm1/failover (vda.qcow2)");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(replica_of_nobody_knows_whom_gives_its_reason_for_everything),
		TEST(replica_without_its_base_gives_its_reason_for_every_point),
		TEST(points_below_a_gap_can_be_used_and_those_above_are_told),
		TEST(point_in_the_list_of_a_broken_replica_is_opened_before_it_is_failed_over_to),
		TEST(failover_to_a_point_that_is_gone_is_no_answer),
		TEST(failover_to_a_point_above_a_gap_is_no_answer),
		TEST(failover_without_a_base_is_no_answer),
		TEST(disks_that_a_machine_may_use_are_named_where_nobody_knows_of_a_failover),
	};
	log_init("test_broken", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("broken", tests, NULL, NULL);
}
