// SPDX-License-Identifier: Apache-2.0
// Failover, its rollback and tests under crash enumeration: never two active sides, no hold without a test and no test without one.
// After every crash the whole content of every point is compared with the oracle (tests/lib/store_world.h).
//
// KAGAMI_CRASH_STATES=n looks at up to n states a scenario.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/failover.h"
#include "receiver/tests.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int fail_over(struct env *env, struct store_world *w, struct store *store, struct replica *r, uint64_t number, struct err *err)
{
	struct failover_info failover;
	w->promise.fence_asked = true;
	int rc = failover_run(env, store, r, number, false, NULL, &failover, err);
	if (rc)
		return rc;
	w->promise.fenced = number;
	w->promise.disks_must = true;
	return 0;
}

static int roll_back(struct store_world *w, struct replica *r, uint64_t number, struct err *err)
{
	w->promise.fenced = 0;
	w->promise.disks_must = false;
	int rc = replica_unfence(r, number, err);
	if (rc == 0)
		w->promise.fence_asked = false;
	return rc;
}

// To the first point, back, one more point, and to that one for good.
static int use_failover(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	uint64_t next = w->setup_points + 1;
	int rc = fail_over(env, w, store, r, 1, err);
	if (rc == 0)
		rc = roll_back(w, r, 1, err);
	w->promise.last_to = next;
	if (rc == 0)
		rc = world_commit(w, store, next, false, err);
	if (rc)
		return rc;
	w->promise.last_from = next;
	rc = fail_over(env, w, store, r, next, err);
	return rc ? rc : replica_fence_commit(r, next, err);
}

static int run_failover(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	uint64_t last = w->setup_points;
	w->promise = (struct world_promise){.first_from = 1, .first_to = 1, .last_from = last, .last_to = last, .created = true};
	return world_with(env, w, use_failover, err);
}

static int retain_all(struct replica *r, struct err *err)
{
	int done;
	while ((done = replica_retain(r, err)) == 1)
		;
	return done;
}

// Retention goes on beside the test, and takes the point when the test is over.
static int test_and_retain(struct store_world *w, struct tests *tests, struct replica *r, struct err *err)
{
	const struct retention policy = {.points = 1};
	struct test_info test;
	w->promise.test_may = true;
	int rc = tests_start(tests, "vm1", "it", WORLD_TEST_POINT, false, &test, err);
	w->promise.test_must = rc == 0;
	if (rc == 0)
		rc = replica_set_retention(r, &policy, err);
	if (rc == 0)
		rc = retain_all(r, err);
	if (rc)
		return rc;
	w->promise.test_must = false;
	rc = tests_stop(tests, "vm1", "it", true, err);
	if (rc)
		return rc;
	w->promise.test_may = false;
	return retain_all(r, err);
}

static int use_tests(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env;
	struct tests *tests = NULL;
	int rc = tests_open(store, &tests, err);
	if (rc == 0)
		rc = test_and_retain(w, tests, r, err);
	tests_close(tests);
	return rc;
}

static int run_a_test(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	uint64_t last = w->setup_points;
	w->promise = (struct world_promise){.first_from = 1, .first_to = last, .last_from = last, .last_to = last, .created = true,
					    .gone_may = (1u << last) - 2};
	return world_with(env, w, use_tests, err);
}

static void r7_a_failover_and_its_rollback_leave_one_active_side_and_every_point(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 2);
	world_survive(w, "failover", run_failover);
	world_free(w);
}

static void r7_a_failover_of_disks_that_grew_leaves_every_point(void **state)
{
	(void)state;
	struct store_world *w = world_growing(8, 2, 1);
	world_survive(w, "failover-grown", run_failover);
	world_free(w);
}

static void a_test_is_started_and_stopped_wholly_and_its_point_is_held(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 4);
	w->tests = true;
	world_survive(w, "test", run_a_test);
	world_free(w);
}

int main(void)
{
	log_init("test_recovery_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r7_a_failover_and_its_rollback_leave_one_active_side_and_every_point),
		cmocka_unit_test(r7_a_failover_of_disks_that_grew_leaves_every_point),
		cmocka_unit_test(a_test_is_started_and_stopped_wholly_and_its_point_is_held),
	};
	return cmocka_run_group_tests_name("recovery_crash", tests, NULL, NULL);
}
