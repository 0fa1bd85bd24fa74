// SPDX-License-Identifier: Apache-2.0
// Tests of a point (receiver/tests.h) over the simulated disk: what they hold, what they refuse. Under crashes: test_tests_crash.c.
#include "receiver/tests.h"

#include "base/auto.h"
#include "base/log.h"
#include "receiver/mount.h"
#include "receiver/replica.h"
#include "tests/lib/feed.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DISKS = 2, POINTS = 3, KEEP_ALL = 9 };

static const uint64_t disk_size[DISKS] = {64 << 20, (1 << 20) + 512};

// One more point; unless it keeps all, retention wants so many from then on, without a floor.
static int add_point(struct env *env, struct replica *replica, uint32_t keep, struct err *err)
{
	const struct wire_open open = feed_open(DISKS, disk_size, keep);
	const struct retention policy = {.points = keep};
	int rc = feed_point(env, replica, &open, err);
	return rc || keep == KEEP_ALL ? rc : replica_set_retention(replica, &policy, err);
}

static int make_points(struct env *env, struct store *store, void *context, struct err *err)
{
	const struct wire_open open = feed_open(DISKS, disk_size, KEEP_ALL);
	(void)context;
	return feed_points(env, store, &open, POINTS, err);
}

// Holds of a point, -1 when it is not there.
static int holds_of(struct store *store, uint64_t number)
{
	struct point_info *points;
	size_t count = 0;
	int holds = -1;
	struct replica *replica = store_find(store, "vm1");
	if (!replica || replica_points(replica, &points, &count))
		return -1;
	for (size_t i = 0; i < count; i++)
		if (points[i].number == number)
			holds = (int)points[i].holds;
	free(points);
	return holds;
}

struct bench {
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct tests *tests;
};

static void bench_up(struct bench *bench)
{
	assert_int_equal(store_open(bench->env, "/", &bench->store, NULL), 0);
	assert_int_equal(tests_open(bench->store, &bench->tests, NULL), 0);
}

static void bench_down(struct bench *bench)
{
	tests_close(bench->tests);
	store_close(bench->store);
	assert_int_equal(sim_handles(bench->sim), 0);
}

static int bench_open(void **state)
{
	struct bench *bench = malloc(sizeof(*bench));
	assert_non_null(bench);
	bench->sim = sim_new(1);
	bench->env = sim_env(bench->sim);
	bench_up(bench);
	assert_int_equal(make_points(bench->env, bench->store, NULL, NULL), 0);
	*state = bench;
	return 0;
}

static int bench_close(void **state)
{
	struct bench *bench = *state;
	bench_down(bench);
	sim_free(bench->sim);
	free(bench);
	return 0;
}

static int start(struct bench *bench, const char *name, uint64_t point, struct test_info *test, struct err *err)
{
	return tests_start(bench->tests, "vm1", name, point, false, test, err);
}

static struct replica *replica_of(struct bench *bench)
{
	return store_find(bench->store, "vm1");
}

static void a_test_without_a_point_stands_on_the_newest_and_is_named(void **state)
{
	struct bench *bench = *state;
	struct test_info test, found;
	assert_int_equal(start(bench, NULL, 0, &test, NULL), 0);
	assert_string_equal(test.name, "test-1");
	assert_int_equal(test.point, POINTS);
	assert_int_equal(test.disk_count, DISKS);
	assert_int_equal(start(bench, NULL, 1, &test, NULL), 0);
	assert_string_equal(test.name, "test-2");
	assert_int_equal(test.point, 1);
	assert_true(tests_at(bench->tests, 0, &found));
	assert_string_equal(found.name, "test-1");
	assert_true(tests_at(bench->tests, 1, &found));
	assert_false(tests_at(bench->tests, 2, &found));
	char *command = tests_command(bench->tests, &test);
	assert_string_equal(command, "qemu-system-x86_64 -machine q35,accel=kvm:tcg -m 2048 -nic none"
				     " -drive file=//vm1/tests/test-2/vda.qcow2,format=qcow2,if=virtio"
				     " -drive file=//vm1/tests/test-2/vdb.qcow2,format=qcow2,if=virtio");
	free(command);
}

// The hold decides, under the lock under which a damaged overlay would be replaced: damage may have been found after somebody asked.
static void a_test_of_a_point_that_is_not_sound_is_refused_and_holds_nothing(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	struct err err = {.code = 0};
	const struct damage run = {.disk = 0, .first = 0, .count = 1, .from = 2, .to = DAMAGE_OPEN};
	damage_add(&replica_of(bench)->scrub.damage, &run);
	assert_int_equal(start(bench, "a", 2, &test, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "in quarantine"));
	assert_int_equal(start(bench, "a", 0, &test, NULL), -EUCLEAN);
	assert_int_equal(holds_of(bench->store, 2), 0);
	assert_int_equal(start(bench, "a", 1, &test, NULL), 0);
	assert_int_equal(tests_start(bench->tests, "vm1", "b", 2, true, &test, NULL), 0);
	assert_int_equal(holds_of(bench->store, 2), 1);
	replica_of(bench)->scrub.suspect = true;
	assert_int_equal(start(bench, "c", 1, &test, NULL), -EUCLEAN);
}

static void a_test_holds_its_point_until_it_is_stopped(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	assert_int_equal(start(bench, "a", 1, &test, NULL), 0);
	assert_int_equal(add_point(bench->env, replica_of(bench), 1, NULL), 0); // goes on, and keeps one point from now on
	while (replica_retain(replica_of(bench), NULL) == 1) // those above it are merged
		;
	assert_int_equal(holds_of(bench->store, 1), 1);
	assert_int_equal(holds_of(bench->store, 2), -1);
	assert_int_equal(tests_stop(bench->tests, "vm1", "a", false, NULL), 0);
	assert_int_equal(holds_of(bench->store, 1), 0);
	assert_int_equal(replica_retain(replica_of(bench), NULL), 1);
}

static void a_test_and_its_hold_outlive_the_receiver(void **state)
{
	struct bench *bench = *state;
	struct test_info test, found;
	memset(&test, 0, sizeof(test));
	memset(&found, 0, sizeof(found));
	assert_int_equal(start(bench, "a", 1, &test, NULL), 0);
	assert_int_equal(add_point(bench->env, replica_of(bench), 1, NULL), 0);
	bench_down(bench);
	bench_up(bench);
	while (replica_retain(replica_of(bench), NULL) == 1)
		;
	assert_int_equal(holds_of(bench->store, 1), 1);
	assert_true(tests_at(bench->tests, 0, &found));
	assert_string_equal(found.name, "a");
	assert_string_equal(found.reason, "");
	assert_int_equal(found.point, 1);
	assert_int_equal(found.cut_wall_ns, test.cut_wall_ns);
	assert_int_equal(found.started_wall_ns, test.started_wall_ns);
	assert_int_equal(start(bench, "a", 2, &test, NULL), -EEXIST);
	assert_int_equal(tests_stop(bench->tests, "vm1", "a", false, NULL), 0);
	assert_int_equal(replica_retain(replica_of(bench), NULL), 1);
	bench_down(bench);
	bench_up(bench);
	assert_false(tests_at(bench->tests, 0, &found));
}

static void what_cannot_be_started_leaves_no_hold(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	struct err err = {.code = 0};
	static const char *const bad[] = {"", ".x", "a/b", "..", "UP", "mount-1", "mount-"};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(start(bench, bad[i], 1, &test, &err), -EINVAL);
	assert_int_equal(start(bench, "a", POINTS + 1, &test, &err), -ENOENT);
	assert_int_equal(tests_start(bench->tests, "vm9", "a", 0, false, &test, &err), -ENOENT);
	assert_int_equal(tests_stop(bench->tests, "vm1", "a", true, &err), -ENOENT);
	for (uint64_t n = 1; n <= POINTS; n++)
		assert_int_equal(holds_of(bench->store, n), 0);
}

static void a_protection_with_a_test_is_not_removed(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	struct err err = {.code = 0};
	assert_int_equal(start(bench, "a", 0, &test, NULL), 0);
	assert_int_equal(tests_none(bench->tests, "vm1", &err), -EBUSY);
	assert_non_null(strstr(err.text, "kagami test stop vm1 a"));
	assert_int_equal(store_forget(bench->store, "vm1", &err), -EBUSY);
	assert_int_equal(tests_stop(bench->tests, "vm1", "a", false, NULL), 0);
	assert_int_equal(tests_none(bench->tests, "vm1", &err), 0);
	assert_int_equal(store_forget(bench->store, "vm1", &err), 0);
}

static void damage(struct bench *bench, const char *name)
{
	struct env_root *root;
	struct env_file *file;
	assert_int_equal(env_root_open(bench->env, "/", &root), 0);
	assert_int_equal(env_open(root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, "8", 1, 60), 0);
	env_close(file);
	env_root_close(root);
}

// Nobody knows what its disks stand on, and they may be in use.
static void a_test_whose_record_is_damaged_holds_every_point_until_it_is_stopped(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	struct err err = {.code = 0};
	assert_int_equal(start(bench, "a", 2, &test, NULL), 0);
	damage(bench, "vm1/tests/a/test.json");
	bench_down(bench);
	bench_up(bench);
	for (uint64_t n = 1; n <= POINTS; n++)
		assert_int_equal(holds_of(bench->store, n), 1);
	assert_true(tests_at(bench->tests, 0, &test));
	assert_non_null(strstr(test.reason, "test.json"));
	assert_int_equal(test.point, 0);
	assert_int_equal(add_point(bench->env, replica_of(bench), 1, NULL), 0); // one more, which it does not hold
	assert_int_equal(tests_stop(bench->tests, "vm1", "a", false, &err), -EBUSY);
	assert_non_null(strstr(err.text, "--force"));
	assert_int_equal(tests_stop(bench->tests, "vm1", "a", true, &err), 0);
	for (uint64_t n = 1; n <= POINTS + 1; n++)
		assert_int_equal(holds_of(bench->store, n), 0);
}

static void a_record_of_another_test_is_refused(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	struct env_root *root;
	assert_int_equal(start(bench, "a", 1, &test, NULL), 0);
	bench_down(bench);
	assert_int_equal(env_root_open(bench->env, "/", &root), 0);
	assert_int_equal(env_rename(root, "vm1/tests/a", "vm1/tests/b"), 0);
	env_root_close(root);
	bench_up(bench);
	assert_true(tests_at(bench->tests, 0, &test));
	assert_string_equal(test.name, "b");
	assert_non_null(strstr(test.reason, "the test a"));
}

// A failure of any one read, and of all from one on: a point that a test stands on is there whatever was read.
static void whatever_cannot_be_read_at_a_start_no_point_of_a_test_goes(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	static const int code[] = {-EIO, -EMFILE, -ENOMEM};
	assert_int_equal(start(bench, "a", 1, &test, NULL), 0);
	assert_int_equal(add_point(bench->env, replica_of(bench), 1, NULL), 0);
	bench_down(bench);
	sim_settle(bench->sim);
	sim_save(bench->sim);
	bool ended = false;
	for (unsigned n = 0; !ended; n++) {
		sim_restore(bench->sim);
		assert_int_equal(store_open(bench->env, "/", &bench->store, NULL), 0);
		sim_fail_at(bench->sim, sim_ops(bench->sim) + n / 6, code[n / 2 % 3], n % 2);
		bench->tests = NULL;
		(void)tests_open(bench->store, &bench->tests, NULL);
		ended = !sim_has_failed(bench->sim);
		sim_fail_at(bench->sim, SIM_NEVER, 0, false);
		while (bench->tests && replica_retain(replica_of(bench), NULL) == 1) // the receiver does not start without
			;
		assert_true(holds_of(bench->store, 1) >= 0);
		bench_down(bench);
	}
	sim_drop(bench->sim);
	bench_up(bench);
}

// Opens the tests with tests/ not to be listed. Nothing else is done to the store.
static void open_without_the_names(struct bench *bench, int code)
{
	sim_fail_at(bench->sim, sim_ops(bench->sim), code, true);
	assert_int_equal(tests_open(bench->store, &bench->tests, NULL), 0);
	assert_true(sim_has_failed(bench->sim));
}

static bool held_unknown_of(struct bench *bench)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	assert_non_null(info);
	replica_info(replica_of(bench), info);
	return info->held_unknown;
}

static void tests_that_cannot_be_listed_hold_every_point_until_they_are(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	struct err err = {.code = 0};
	assert_int_equal(start(bench, "a", 2, &test, NULL), 0);
	assert_int_equal(add_point(bench->env, replica_of(bench), 1, NULL), 0);
	bench_down(bench);
	assert_int_equal(store_open(bench->env, "/", &bench->store, NULL), 0);
	open_without_the_names(bench, -EIO);
	assert_false(tests_at(bench->tests, 0, &test));
	assert_int_equal(start(bench, "b", 1, &test, &err), -EIO);
	assert_non_null(strstr(err.text, "vm1/tests"));
	assert_int_equal(tests_stop(bench->tests, "vm1", "a", true, NULL), -EIO);
	tests_look(bench->tests);
	sim_fail_at(bench->sim, SIM_NEVER, 0, false);
	assert_int_equal(replica_retain(replica_of(bench), NULL), 0);
	assert_true(held_unknown_of(bench));
	assert_int_equal(store_forget(bench->store, "vm1", &err), -EBUSY);
	for (uint64_t n = 1; n <= POINTS + 1; n++)
		assert_true(holds_of(bench->store, n) >= 0);
	tests_look(bench->tests);
	assert_false(held_unknown_of(bench));
	assert_true(tests_at(bench->tests, 0, &test));
	assert_int_equal(test.point, 2);
	assert_int_equal(holds_of(bench->store, 2), 1);
	tests_look(bench->tests);
	assert_false(tests_at(bench->tests, 1, &test));
	assert_int_equal(replica_retain(replica_of(bench), NULL), 1); // above it
	assert_int_equal(holds_of(bench->store, 3), -1);
}

static void what_asks_for_a_test_lists_them_again(void **state)
{
	struct bench *bench = *state;
	struct test_info test;
	assert_int_equal(start(bench, "a", 2, &test, NULL), 0);
	bench_down(bench);
	assert_int_equal(store_open(bench->env, "/", &bench->store, NULL), 0);
	open_without_the_names(bench, -EMFILE);
	sim_fail_at(bench->sim, SIM_NEVER, 0, false);
	assert_int_equal(start(bench, "a", 1, &test, NULL), -EEXIST);
	assert_false(held_unknown_of(bench));
}

static void mounts_that_cannot_be_listed_hold_every_point_until_they_are(void **state)
{
	struct bench *bench = *state;
	struct mounts *mounts;
	struct mount_info info;
	struct err err = {.code = 0};
	const struct mount_request request = {.protection = "vm1", .directory = "/mnt"};
	assert_int_equal(add_point(bench->env, replica_of(bench), 1, NULL), 0);
	sim_fail_at(bench->sim, sim_ops(bench->sim), -EIO, true);
	assert_int_equal(mounts_open(bench->env, bench->store, &mounts, NULL), 0);
	sim_fail_at(bench->sim, SIM_NEVER, 0, false);
	assert_int_equal(replica_retain(replica_of(bench), NULL), 0);
	assert_int_equal(mounts_add(mounts, &request, &info, &err), -EIO);
	assert_non_null(strstr(err.text, "//vm1/tests"));
	mounts_look(mounts);
	assert_int_equal(replica_retain(replica_of(bench), NULL), 1);
	mounts_close(mounts);
}

static void mount_that_is_not_undone_and_whose_point_is_not_known_holds_every_point(void **state)
{
	struct bench *bench = *state;
	struct mounts *mounts;
	struct env_root *root;
	assert_int_equal(env_root_open(bench->env, "/", &root), 0);
	assert_int_equal(env_mkdir(root, "vm1/tests"), 0);
	assert_int_equal(env_mkdir(root, "vm1/tests/mount-1"), 0);
	env_root_close(root);
	assert_int_equal(add_point(bench->env, replica_of(bench), 1, NULL), 0);
	sim_fail_at(bench->sim, sim_ops(bench->sim) + 1, -EIO, true); // behind the names
	assert_int_equal(mounts_open(bench->env, bench->store, &mounts, NULL), 0);
	sim_fail_at(bench->sim, SIM_NEVER, 0, false);
	assert_true(held_unknown_of(bench));
	assert_int_equal(replica_retain(replica_of(bench), NULL), 0);
	mounts_close(mounts);
}

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(a_test_without_a_point_stands_on_the_newest_and_is_named),
		BENCH_TEST(a_test_of_a_point_that_is_not_sound_is_refused_and_holds_nothing),
		BENCH_TEST(a_test_holds_its_point_until_it_is_stopped),
		BENCH_TEST(a_test_and_its_hold_outlive_the_receiver),
		BENCH_TEST(what_cannot_be_started_leaves_no_hold),
		BENCH_TEST(a_protection_with_a_test_is_not_removed),
		BENCH_TEST(a_test_whose_record_is_damaged_holds_every_point_until_it_is_stopped),
		BENCH_TEST(a_record_of_another_test_is_refused),
		BENCH_TEST(whatever_cannot_be_read_at_a_start_no_point_of_a_test_goes),
		BENCH_TEST(tests_that_cannot_be_listed_hold_every_point_until_they_are),
		BENCH_TEST(what_asks_for_a_test_lists_them_again),
		BENCH_TEST(mounts_that_cannot_be_listed_hold_every_point_until_they_are),
		BENCH_TEST(mount_that_is_not_undone_and_whose_point_is_not_known_holds_every_point),
	};
	log_init("test_tests", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("tests", tests, NULL, NULL);
}
