// SPDX-License-Identifier: Apache-2.0
// Tests of a point (receiver/tests.h) over the simulated disk: what they hold, what they refuse, and a crash at every step of a start
// and a stop. After every crash: who was told of a test finds it, whole, and its point held; nothing holds a point that no test is on.
#include "receiver/tests.h"

#include "base/auto.h"
#include "base/log.h"
#include "format/qcow2.h"
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
static const unsigned char pin[OWNER_PIN_SIZE] = {1};

static struct wire_open open_message(uint32_t keep)
{
	struct wire_open open = {.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3},
				 .codec = CODEC_ZSTD, .points_keep = keep, .rpo_ms = 15000, .disk_count = DISKS};
	for (unsigned i = 0; i < DISKS; i++) {
		(void)snprintf(open.disk[i].name, NAME_SIZE, "vd%c", 'a' + i);
		open.disk[i].size = disk_size[i];
	}
	return open;
}

static int add_point(struct env *env, struct replica *replica, uint32_t keep, struct err *err)
{
	struct wire_open open = open_message(keep);
	struct wire_opened opened;
	struct wire_committed committed;
	struct wire_zeros zeros = {.disk = 0, .first = 0, .count = 1};
	int rc = replica_session_begin(replica, &open, pin, &opened, err);
	if (rc)
		return rc;
	struct wire_seal seal = {.predecessor = opened.last_point, .head = opened.head, .cut = {{(unsigned char)(opened.last_point + 1)}},
				 .cut_wall_ns = env_wall_ns(env), .consistency = POINT_CRASH};
	rc = replica_write_zeros(replica, &zeros, err);
	if (rc == 0)
		rc = replica_seal(replica, &seal, &committed, err);
	replica_session_end(replica);
	const struct retention policy = {.points = keep}; // without a floor
	return rc || keep == KEEP_ALL ? rc : replica_set_retention(replica, &policy, err);
}

static int make_store(struct env *env, struct store *store, unsigned points, struct err *err)
{
	struct wire_open open = open_message(KEEP_ALL);
	struct replica *replica;
	int rc = store_create(store, &open, pin, &replica, err);
	for (unsigned i = 0; rc == 0 && i < points; i++)
		rc = add_point(env, replica, KEEP_ALL, err);
	return rc;
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

// --- one by one ---

struct bench {
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct tests *tests;
};

static void bench_up(struct bench *bench)
{
	assert_int_equal(store_open(bench->env, "/", &bench->store, NULL), 0);
	assert_int_equal(tests_open(bench->env, bench->store, &bench->tests, NULL), 0);
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
	assert_int_equal(make_store(bench->env, bench->store, POINTS, NULL), 0);
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
	return tests_start(bench->tests, "vm1", name, point, test, err);
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
	assert_int_equal(tests_start(bench->tests, "vm9", "a", 0, &test, &err), -ENOENT);
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

// --- under crashes ---

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
	rc = store_find(store, "vm1") || !run ? tests_open(env, store, &tests, err) : err_set(err, -EIO, "the protection is gone");
	if (rc == 0 && run)
		rc = run(env, store, tests, context, err);
	tests_close(tests);
	store_close(store);
	return rc;
}

static int setup_points(struct env *env, void *context, struct err *err)
{
	struct store *store;
	(void)context;
	int rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	rc = make_store(env, store, POINTS, err);
	store_close(store);
	return rc;
}

// And from then on retention wants one point.
static int start_and_go_on(struct env *env, struct store *store, struct tests *tests, void *context, struct err *err)
{
	struct test_info test;
	(void)context;
	int rc = tests_start(tests, "vm1", "it", STANDS_ON, &test, err);
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
	int rc = tests_start(tests, "vm1", "it", STANDS_ON, &test, err);
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
	rc = tests_start(tests, "vm1", "it", STANDS_ON, &test, err); // what a crash left is in nobody's way
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

#define PROMISE(p) .context = &(p), .promise = &(p), .promise_size = sizeof(p)

static void a_started_test_is_whole_and_held_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_start", PROMISE(promise), .setup = setup_points, .run = run_start,
						.check = scenario_check_start, .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_started_test_is_whole_when_the_recovery_is_cut_too(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_start_twice", PROMISE(promise), .setup = setup_points, .run = run_start,
						.recover = recover, .check = scenario_check_start, .crashes = 2, .at_syncs = true,
						.states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_start_that_fails_leaves_no_hold_without_a_test(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_start", PROMISE(promise), .setup = setup_points, .run = run_start,
						.check = scenario_check_start};
	assert_true(anomaly_test_quiet(&scenario));
}

static void a_stopped_test_stays_stopped_and_one_that_is_there_is_held(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_stop", PROMISE(promise), .setup = setup_tests, .run = run_stop,
						.check = scenario_check_stop, .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_stop_is_whole_when_the_recovery_is_cut_too(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_stop_twice", PROMISE(promise), .setup = setup_tests, .run = run_stop,
						.recover = recover, .check = scenario_check_stop, .crashes = 2, .at_syncs = true,
						.states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void a_stop_that_fails_loses_no_hold_of_a_test_that_is_there(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "test_stop", PROMISE(promise), .setup = setup_tests, .run = run_stop,
						.check = scenario_check_stop, .states_max = 4000};
	assert_true(anomaly_test_quiet(&scenario));
}

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(a_test_without_a_point_stands_on_the_newest_and_is_named),
		BENCH_TEST(a_test_holds_its_point_until_it_is_stopped),
		BENCH_TEST(a_test_and_its_hold_outlive_the_receiver),
		BENCH_TEST(what_cannot_be_started_leaves_no_hold),
		BENCH_TEST(a_protection_with_a_test_is_not_removed),
		BENCH_TEST(a_test_whose_record_is_damaged_holds_every_point_until_it_is_stopped),
		BENCH_TEST(a_record_of_another_test_is_refused),
		cmocka_unit_test(a_started_test_is_whole_and_held_after_a_crash_at_any_step),
		cmocka_unit_test(a_started_test_is_whole_when_the_recovery_is_cut_too),
		cmocka_unit_test(a_start_that_fails_leaves_no_hold_without_a_test),
		cmocka_unit_test(a_stopped_test_stays_stopped_and_one_that_is_there_is_held),
		cmocka_unit_test(a_stop_is_whole_when_the_recovery_is_cut_too),
		cmocka_unit_test(a_stop_that_fails_loses_no_hold_of_a_test_that_is_there),
	};
	log_init("test_tests", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("tests", tests, NULL, NULL);
}
