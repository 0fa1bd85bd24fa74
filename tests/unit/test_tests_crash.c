// SPDX-License-Identifier: Apache-2.0
// Tests of a point under crash enumeration, at every step of a start and a stop: who was told of a test finds it, whole, and its point held;
// nothing holds a point that no test is on.
#include "receiver/tests.h"

#include "base/auto.h"
#include "base/log.h"
#include "format/qcow2.h"
#include "tests/lib/feed.h"
#include "tests/sim/crash_test.h"

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

struct promise {
	bool answered; // start or stop
};

enum { STANDS_ON = 2 };

static int with_store(struct env *env, int (*run)(struct env *, struct store *, struct tests *, void *, struct err *), void *context,
		      struct err *err)
{
	struct store *store;
	struct tests *tests = NULL;
	int rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	rc = store_find(store, "vm1") || !run ? tests_open(store, &tests, err) : err_set(err, -EIO, "the protection is gone");
	if (rc == 0 && run)
		rc = run(env, store, tests, context, err);
	tests_close(tests);
	store_close(store);
	return rc;
}

static int setup_points(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", make_points, context, err);
}

// And from then on retention wants one point.
static int start_and_go_on(struct env *env, struct store *store, struct tests *tests, void *context, struct err *err)
{
	struct test_info test;
	(void)context;
	int rc = tests_start(tests, "vm1", "it", STANDS_ON, false, &test, err);
	return rc ? rc : add_point(env, store_find(store, "vm1"), 1, err);
}

static int setup_tests(struct env *env, void *context, struct err *err)
{
	int rc = setup_points(env, context, err);
	return rc ? rc : with_store(env, start_and_go_on, NULL, err);
}

static int start_it(struct env *env, struct store *store, struct tests *tests, void *context, struct err *err)
{
	struct promise *promise = context;
	struct test_info test;
	(void)env, (void)store;
	int rc = tests_start(tests, "vm1", "it", STANDS_ON, false, &test, err);
	promise->answered = rc == 0;
	return rc;
}

static int run_start(struct env *env, void *context, struct err *err)
{
	((struct promise *)context)->answered = false;
	return with_store(env, start_it, context, err);
}

static int stop_it(struct env *env, struct store *store, struct tests *tests, void *context, struct err *err)
{
	struct promise *promise = context;
	(void)env;
	int rc = tests_stop(tests, "vm1", "it", true, err);
	promise->answered = rc == 0;
	while (rc == 0 && (rc = replica_retain(store_find(store, "vm1"), err)) == 1) // what it held goes at once
		rc = 0;
	return rc;
}

static int run_stop(struct env *env, void *context, struct err *err)
{
	((struct promise *)context)->answered = false;
	return with_store(env, stop_it, context, err);
}

static int recover(struct env *env, void *context, struct err *err)
{
	(void)context;
	return with_store(env, NULL, NULL, err);
}

static int check_overlay(struct env_root *root, const struct test_info *test, unsigned disk, struct err *err)
{
	char name[128], backing[128];
	struct env_file *file;
	struct qcow2_reader *reader = NULL;
	(void)snprintf(name, sizeof(name), "vm1/tests/%s/vd%c.qcow2", test->name, 'a' + disk);
	(void)snprintf(backing, sizeof(backing), "../../points/%llu/vd%c.qcow2", (unsigned long long)test->point, 'a' + disk);
	int rc = env_open(root, name, ENV_READ, &file);
	if (rc)
		return err_sys(err, rc, "open %s", name);
	rc = qcow2_reader_open(file, &reader, err);
	if (rc == 0 && (qcow2_reader_size(reader) != disk_size[disk] || strcmp(qcow2_reader_backing(reader), backing) != 0 ||
			qcow2_reader_backing_format(reader) != QCOW2_BACKING_QCOW2))
		rc = err_set(err, -EBADMSG, "%s is over %s", name, qcow2_reader_backing(reader));
	qcow2_reader_free(reader);
	env_close(file);
	return rc;
}

static int check_test(struct env *env, struct store *store, const struct test_info *test, struct err *err)
{
	struct env_root *root;
	if (test->reason[0])
		return err_set(err, -EIO, "the test %s is damaged: %s", test->name, test->reason);
	if (holds_of(store, test->point) != 1)
		return err_set(err, -EIO, "the point of the test %s has %d holds", test->name, holds_of(store, test->point));
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return rc;
	for (unsigned i = 0; rc == 0 && i < DISKS; i++)
		rc = check_overlay(root, test, i, err);
	env_root_close(root);
	return rc;
}

// Whether the test "it" is there; every test that is there is whole.
static int check_tests(struct env *env, struct store *store, struct tests *tests, bool *ret_it, unsigned *ret_count, struct err *err)
{
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	*ret_it = false;
	int rc = test ? 0 : -ENOMEM;
	for (*ret_count = 0; rc == 0 && tests_at(tests, *ret_count, test); (*ret_count)++) {
		rc = check_test(env, store, test, err);
		*ret_it |= strcmp(test->name, "it") == 0;
	}
	return rc;
}

static int check_start(struct env *env, struct store *store, struct tests *tests, void *context, struct err *err)
{
	const struct promise *promise = context;
	struct test_info test;
	bool there;
	unsigned count;
	int rc = check_tests(env, store, tests, &there, &count, err);
	if (rc)
		return rc;
	if (promise->answered && !there)
		return err_set(err, -EIO, "a test that was answered is gone");
	if (!there && holds_of(store, STANDS_ON) != 0)
		return err_set(err, -EIO, "a point is held and no test is there");
	if (there)
		return tests_stop(tests, "vm1", "it", true, err);
	rc = tests_start(tests, "vm1", "it", STANDS_ON, false, &test, err); // what a crash left is in nobody's way
	return rc ? rc : check_test(env, store, &test, err);
}

static int check_stop(struct env *env, struct store *store, struct tests *tests, void *context, struct err *err)
{
	const struct promise *promise = context;
	bool there;
	unsigned count;
	int rc = check_tests(env, store, tests, &there, &count, err);
	if (rc)
		return rc;
	if (promise->answered && there)
		return err_set(err, -EIO, "a test that was stopped is back");
	return there || holds_of(store, STANDS_ON) <= 0 ? 0 : err_set(err, -EIO, "a point is held and no test is there");
}

static int scenario_check_start(struct env *env, void *context, struct err *err)
{
	return with_store(env, check_start, context, err);
}

static int scenario_check_stop(struct env *env, void *context, struct err *err)
{
	return with_store(env, check_stop, context, err);
}

#define TEST(p) .context = &(p), .promise = &(p), .promise_size = sizeof(p), .recover = recover
#define START(p) TEST(p), .setup = setup_points, .run = run_start, .check = scenario_check_start
#define STOP(p) TEST(p), .setup = setup_tests, .run = run_stop, .check = scenario_check_stop
#define CUT_TOO .crashes = 2, .at_syncs = true

static void a_started_test_is_whole_and_held_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_start", START(promise), .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_started_test_is_whole_when_the_recovery_is_cut_too(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_start_twice", START(promise), CUT_TOO, .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_start_that_fails_leaves_no_hold_without_a_test(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_start_faults", START(promise), .states_max = 4000};
	assert_true(anomaly_test_quiet(&scenario));
}

static void a_stopped_test_stays_stopped_and_one_that_is_there_is_held(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_stop", STOP(promise), .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_stop_is_whole_when_the_recovery_is_cut_too(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_stop_twice", STOP(promise), CUT_TOO, .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_stop_that_fails_loses_no_hold_of_a_test_that_is_there(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_stop_faults", STOP(promise), .states_max = 4000};
	assert_true(anomaly_test_quiet(&scenario));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_started_test_is_whole_and_held_after_a_crash_at_any_step),
		cmocka_unit_test(a_started_test_is_whole_when_the_recovery_is_cut_too),
		cmocka_unit_test(a_start_that_fails_leaves_no_hold_without_a_test),
		cmocka_unit_test(a_stopped_test_stays_stopped_and_one_that_is_there_is_held),
		cmocka_unit_test(a_stop_is_whole_when_the_recovery_is_cut_too),
		cmocka_unit_test(a_stop_that_fails_loses_no_hold_of_a_test_that_is_there),
	};
	log_init("test_tests_crash", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("tests_crash", tests, NULL, NULL);
}
