// SPDX-License-Identifier: Apache-2.0
// A failover, taken back, gone on from, done again and made final, under crash enumeration. Two active sides are looked for in every state:
// disks to boot from, and a source that may append.
#include "base/log.h"
#include "receiver/failover.h"
#include "receiver/replica.h"
#include "tests/lib/feed.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t disk_size[] = {(1 << 20) + 512};

static const struct wire_open *open_message(void)
{
	static struct wire_open open;
	open = feed_open(1, disk_size, 9);
	return &open;
}

static int add_point(struct env *env, struct replica *r, struct err *err)
{
	return feed_point(env, r, open_message(), err);
}

static bool published(struct env *env)
{
	return feed_finds(env, "vm1/failover");
}

enum stage { FRESH, FAILED_OVER, ROLLED_BACK, WENT_ON, FAILED_OVER_AGAIN, COMMITTED };

struct promise {
	enum stage begun, done;
	bool without_trash; // somebody takes that directory away before each rollback
};

static int trash_lose(struct replica *r, struct err *err)
{
	int rc = env_rmdir(r->root, "vm1/trash");
	return rc && rc != -ENOENT ? err_sys(err, rc, "vm1/trash") : 0;
}

static int unfence_again(struct replica *r, bool without_trash, struct err *err)
{
	int rc = without_trash ? trash_lose(r, err) : 0;
	if (rc)
		return rc;
	rc = replica_unfence(r, 1, err);
	return rc == -ENOENT ? 0 : rc; // it was done
}

static int go_on(struct env *env, struct replica *r, struct err *err)
{
	struct replica_info info;
	replica_info(r, &info);
	return info.last_point == 3 ? 0 : add_point(env, r, err);
}

static int do_stage(struct env *env, struct store *store, struct replica *r, const struct promise *promise, struct err *err)
{
	struct failover_info failover;
	switch (promise->begun) {
	case FAILED_OVER:
		return failover_run(env, store, r, 1, false, NULL, &failover, err);
	case ROLLED_BACK:
		return unfence_again(r, promise->without_trash, err);
	case WENT_ON:
		return go_on(env, r, err);
	case FAILED_OVER_AGAIN:
		return failover_run(env, store, r, 2, false, NULL, &failover, err);
	case COMMITTED:
		return replica_fence_commit(r, 2, err);
	default:
		return 0;
	}
}

static int make(struct env *env, struct store *store, void *context, struct err *err)
{
	(void)context;
	return feed_points(env, store, open_message(), 2, err);
}

static int scenario_setup(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", make, context, err);
}

static int stages(struct env *env, struct store *store, void *context, struct err *err)
{
	struct promise *promise = context;
	struct replica *r = store_find(store, "vm1");
	int rc = r ? 0 : err_set(err, -EIO, "the protection is gone");
	while (rc == 0 && promise->done < COMMITTED) {
		promise->begun = promise->done + 1;
		rc = do_stage(env, store, r, promise, err);
		if (rc == 0)
			promise->done = promise->begun;
	}
	return rc;
}

static int scenario_run(struct env *env, void *context, struct err *err)
{
	struct promise *promise = context;
	*promise = (struct promise){.done = FRESH, .without_trash = promise->without_trash};
	return feed_with_store(env, "/", stages, context, err);
}

// The operator asks again for what was cut short.
static int stage_again(struct env *env, struct store *store, void *context, struct err *err)
{
	struct promise *promise = context;
	struct replica *r = store_find(store, "vm1");
	int rc = r ? do_stage(env, store, r, promise, err) : err_set(err, -EIO, "the protection is gone");
	if (rc == 0)
		promise->done = promise->begun;
	return rc;
}

static int scenario_recover(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", stage_again, context, err);
}

static bool is_stage(const struct replica_info *info, bool disks, enum stage stage)
{
	switch (stage) {
	case FAILED_OVER:
	case FAILED_OVER_AGAIN:
		return info->fenced && disks && !info->fence_final &&
		       info->fenced_point == (stage == FAILED_OVER ? 1 : 2);
	case COMMITTED:
		return info->fenced && disks && info->fence_final && info->fenced_point == 2;
	default:
		return !info->fenced && !disks && info->last_point == (stage == WENT_ON ? 3 : 2);
	}
}

// A failover without its disks yet, or a rollback without them already: nobody is active.
static bool is_between(const struct replica_info *info, bool disks, enum stage begun)
{
	return (begun == FAILED_OVER || begun == ROLLED_BACK || begun == FAILED_OVER_AGAIN) && info->fenced && !disks &&
	       !info->fence_final;
}

static int check_state(struct env *env, struct store *store, void *context, struct err *err)
{
	struct promise *promise = context;
	struct replica *r = store_find(store, "vm1");
	struct replica_info info = {.fenced = false};
	bool disks = published(env);
	if (!r)
		return err_set(err, -EIO, "the protection is gone");
	replica_info(r, &info);
	if (info.broken)
		return err_set(err, -EIO, "broken after recovery: %s", info.broken_reason);
	if (disks && !info.fenced)
		return err_set(err, -EIO, "two active sides: there are disks to boot, and the source may write");
	if (info.fenced == uuid_equal(&info.generation, &open_message()->generation))
		return err_set(err, -EIO, "the generation does not go with the fence");
	if (!is_stage(&info, disks, promise->done) && !is_stage(&info, disks, promise->begun) &&
	    !(promise->begun != promise->done && is_between(&info, disks, promise->begun)))
		return err_set(err, -EIO,
			       "after stage %d, with %d begun: fenced %d to %llu, final %d, disks %d, last %llu",
			       promise->done, promise->begun, info.fenced, (unsigned long long)info.fenced_point,
			       info.fence_final, disks, (unsigned long long)info.last_point);
	if (info.fenced && add_point(env, r, NULL) != -ESTALE)
		return err_set(err, -EIO, "a fenced source could write");
	if (info.fence_final && replica_unfence(r, 0, NULL) != -EPERM)
		return err_set(err, -EIO, "what was final was taken back");
	return 0;
}

// And all of the rest can be done.
static int check_and_go_on(struct env *env, struct store *store, void *context, struct err *err)
{
	struct promise *promise = context;
	struct promise rest = *promise;
	int rc = check_state(env, store, promise, err);
	if (rc == 0 && rest.begun != rest.done)
		rc = stage_again(env, store, &rest, err);
	if (rc == 0)
		rc = stages(env, store, &rest, err);
	return rc ? err_wrap(err, "going on") : check_state(env, store, &rest, err);
}

static int scenario_check(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", check_and_go_on, context, err);
}

#define ROLLBACK(p) .context = &(p), .promise = &(p), .promise_size = sizeof(p), .setup = scenario_setup, .run = scenario_run, \
	.check = scenario_check, .states_max = 8000

static void r7_never_two_active_sides_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.done = FRESH};
	const struct crash_scenario s = {.name = "rollback", ROLLBACK(promise), .recover = feed_recover};
	assert_true(crash_test_quiet(&s));
}

static void r7_never_two_active_sides_when_what_follows_is_cut_too(void **state)
{
	(void)state;
	struct promise promise = {.done = FRESH};
	const struct crash_scenario s = {.name = "rollback_twice", ROLLBACK(promise), .recover = scenario_recover, .crashes = 2,
					 .at_syncs = true};
	assert_true(crash_test_quiet(&s));
}

static void r7_never_two_active_sides_when_operations_fail(void **state)
{
	(void)state;
	struct promise promise = {.done = FRESH};
	const struct crash_scenario s = {.name = "rollback_faults", ROLLBACK(promise), .recover = feed_recover};
	assert_true(anomaly_test_quiet(&s));
}

static void r7_never_two_active_sides_where_the_trash_is_gone(void **state)
{
	(void)state;
	struct promise promise = {.done = FRESH, .without_trash = true};
	const struct crash_scenario s = {.name = "rollback_trash", ROLLBACK(promise), .recover = feed_recover},
				    faults = {.name = "rollback_trash_faults", ROLLBACK(promise), .recover = feed_recover};
	assert_true(crash_test_quiet(&s));
	assert_true(anomaly_test_quiet(&faults));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r7_never_two_active_sides_after_a_crash_at_any_step),
		cmocka_unit_test(r7_never_two_active_sides_when_what_follows_is_cut_too),
		cmocka_unit_test(r7_never_two_active_sides_when_operations_fail),
		cmocka_unit_test(r7_never_two_active_sides_where_the_trash_is_gone),
	};
	log_init("test_rollback_crash", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("rollback_crash", tests, NULL, NULL);
}
