// SPDX-License-Identifier: Apache-2.0
// Failover under crash enumeration: what is there to boot from is whole and what was answered, at every step and after any failing operation.
#include "receiver/failover.h"

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

enum { DISKS = 2 };

static const uint64_t disk_size[DISKS] = {64 << 20, (1 << 20) + 512};
static const uint64_t grown_size[DISKS] = {(80 << 20) + 512, 3 << 20}; // in the tests where they grow after their second point

static int add_point_of(struct env *env, struct replica *replica, const uint64_t size[DISKS], struct err *err)
{
	const struct wire_open open = feed_open(DISKS, size, 9);
	return feed_point(env, replica, &open, err);
}

struct promise {
	bool answered;
	struct failover_info failover;
};

static int make_points(struct env *env, struct store *store, void *context, struct err *err)
{
	const struct wire_open open = feed_open(DISKS, disk_size, 9);
	(void)context;
	return feed_points(env, store, &open, 2, err);
}

static int scenario_setup(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", make_points, context, err);
}

// The same, and the disks grew after their second point.
static int make_grown(struct env *env, struct store *store, void *context, struct err *err)
{
	int rc = make_points(env, store, context, err);
	return rc ? rc : add_point_of(env, store_find(store, "vm1"), grown_size, err);
}

static int scenario_setup_grown(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", make_grown, context, err);
}

static int fail_over(struct env *env, struct store *store, void *context, struct err *err)
{
	struct failover_info *failover = context;
	struct replica *replica = store_find(store, "vm1");
	return replica ? failover_run(env, store, replica, 1, false, NULL, failover, err) : err_set(err, -EIO, "cannot be read");
}

static int scenario_run(struct env *env, void *context, struct err *err)
{
	struct promise *promise = context;
	promise->answered = false;
	int rc = feed_with_store(env, "/", fail_over, &promise->failover, err);
	promise->answered = rc == 0;
	return rc;
}

// The operator asks again; the power goes off again.
static int scenario_recover(struct env *env, void *context, struct err *err)
{
	struct failover_info failover;
	(void)context;
	return feed_with_store(env, "/", fail_over, &failover, err);
}

static int check_overlay(struct env_root *root, unsigned disk, struct err *err)
{
	char name[64], backing[64];
	struct env_file *file;
	struct qcow2_reader *reader = NULL;
	(void)snprintf(name, sizeof(name), "vm1/failover/vd%c.qcow2", 'a' + disk);
	(void)snprintf(backing, sizeof(backing), "../points/1/vd%c.qcow2", 'a' + disk);
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

// What is called failover/ is whole: its record and each of its disks.
static int check_published(struct env *env, struct store *store, const struct promise *promise, struct err *err)
{
	struct env_root *root;
	struct env_stat st;
	struct failover_info failover;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return rc;
	bool published = env_stat(root, "vm1/failover", &st) == 0;
	for (unsigned i = 0; published && rc == 0 && i < DISKS; i++)
		rc = check_overlay(root, i, err);
	env_root_close(root);
	if (rc || !published)
		return rc || !promise->answered ? rc : err_set(err, -EIO, "a failover that was answered is gone");
	rc = failover_load(store, "vm1", &failover, err);
	if (rc == 0 && promise->answered && failover.lost_ms != promise->failover.lost_ms)
		rc = err_set(err, -EIO, "the answer changed");
	return rc;
}

static int check_store(struct env *env, struct store *store, void *context, struct err *err)
{
	const struct promise *promise = context;
	struct replica *replica = store_find(store, "vm1");
	struct failover_info failover, again;
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!replica || !info)
		return err_set(err, -EIO, "the protection is gone");
	int rc = check_published(env, store, promise, err);
	if (rc)
		return rc;
	replica_info(replica, info);
	if (failover_load(store, "vm1", &again, NULL) == 0 && !info->fenced)
		return err_set(err, -EIO, "there are disks to boot and the source is not fenced");
	rc = failover_run(env, store, replica, info->fenced ? 0 : 1, false, NULL, &failover, err);
	if (rc)
		return rc;
	if (failover.point != 1 || (promise->answered && failover.lost_ms != promise->failover.lost_ms))
		return err_set(err, -EIO, "asked again, it answers something else");
	return failover_run(env, store, replica, 2, false, NULL, &again, NULL) == -EALREADY ? check_published(env, store, promise, err)
									       : err_set(err, -EIO, "a second point was taken");
}

static int scenario_check(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", check_store, context, err);
}

#define FAILOVER(p) .context = &(p), .promise = &(p), .promise_size = sizeof(p), .run = scenario_run, .check = scenario_check
#define ASKED_AGAIN .recover = scenario_recover, .crashes = 2, .at_syncs = true

static void failover_is_finished_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover", FAILOVER(promise), .setup = scenario_setup, .recover = feed_recover,
						.states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void failover_asked_again_is_finished_after_a_second_crash(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover_twice", FAILOVER(promise), .setup = scenario_setup, ASKED_AGAIN,
						.states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void failover_to_a_smaller_point_is_finished_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover_smaller", FAILOVER(promise), .setup = scenario_setup_grown, ASKED_AGAIN,
						.states_max = 3000};
	assert_true(crash_test_quiet(&scenario));
}

static void failover_is_finished_after_any_failing_operation(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover_faults", FAILOVER(promise), .setup = scenario_setup, .recover = feed_recover,
						.states_max = 6000};
	assert_true(anomaly_test_quiet(&scenario));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failover_is_finished_after_a_crash_at_any_step),
		cmocka_unit_test(failover_asked_again_is_finished_after_a_second_crash),
		cmocka_unit_test(failover_to_a_smaller_point_is_finished_after_a_crash_at_any_step),
		cmocka_unit_test(failover_is_finished_after_any_failing_operation),
	};
	log_init("test_failover_crash", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("failover_crash", tests, NULL, NULL);
}
