// SPDX-License-Identifier: Apache-2.0
// The store under crash enumeration: R3, a commit is atomic, over several disks, whatever the head went through; growth and the fence are.
// After every crash the whole content of every point is compared with the oracle (tests/lib/store_world.h).
//
// KAGAMI_CRASH_STATES=n looks at up to n states a scenario.
#include "base/auto.h"
#include "base/log.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int run_create(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	struct store *store = NULL;
	struct replica *r;
	w->promise = (struct world_promise){.created = false};
	int rc = store_open(env, "/store", &store, err);
	if (rc == 0)
		rc = store_create(store, &w->open, feed_pin, &r, err);
	w->promise.created = rc == 0;
	store_close(store);
	return rc;
}

static int commit_next(struct store_world *w, struct store *store, bool again, struct err *err)
{
	uint64_t next = w->setup_points + 1;
	int rc = world_commit(w, store, next, again, err);
	if (rc == 0)
		w->promise.last_from = next;
	return rc;
}

static int use_commit(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)r;
	return commit_next(w, store, false, err);
}

static int use_head(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)r;
	return commit_next(w, store, true, err);
}

static int use_fence(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)store;
	w->promise.fence_asked = true;
	int rc = replica_fence(r, w->setup_points, err);
	if (rc == 0)
		w->promise.fenced = w->setup_points;
	return rc;
}

static void promise_next(struct store_world *w, uint64_t more)
{
	uint64_t last = w->setup_points;
	w->promise = (struct world_promise){.first_from = 1, .first_to = 1, .last_from = last, .last_to = last + more, .created = true};
}

static int run_commit(struct env *env, void *context, struct err *err)
{
	promise_next(context, 1);
	return world_with(env, context, use_commit, err);
}

// A session that goes without a seal, and one that writes everything twice.
static int run_head(struct env *env, void *context, struct err *err)
{
	promise_next(context, 1);
	return world_with(env, context, use_head, err);
}

static int run_fence(struct env *env, void *context, struct err *err)
{
	promise_next(context, 0);
	return world_with(env, context, use_fence, err);
}

// ---- doubt

static int doubt_disks(struct store_world *w, struct replica *r, uint64_t disks, struct wire_doubted *ret_doubted, struct err *err)
{
	struct wire_doubt doubt = {.protection = w->open.protection, .generation = w->open.generation, .name = "vm1", .disks = disks};
	w->promise.doubt_may |= disks;
	int rc = replica_doubt(r, &doubt, feed_pin, ret_doubted, err);
	if (rc == 0)
		w->promise.doubt_must |= disks;
	return rc;
}

// A session whose point ends the doubt of `disks`.
static int commit_certain(struct store_world *w, struct replica *r, uint64_t disks, struct wire_doubted doubted, struct err *err)
{
	struct wire_opened opened;
	struct wire_committed committed;
	uint64_t next = w->setup_points + 1;
	int rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc)
		return rc;
	rc = world_send(w, r, next, false, err);
	struct wire_certain certain = {.doubt = doubted.doubt, .cut = {{(unsigned char)next}}, .disks = disks};
	struct wire_seal seal = {.predecessor = opened.last_point, .cut = {{(unsigned char)next}}, .head = opened.head, .consistency = POINT_CRASH};
	replica_certain(r, &certain);
	w->promise.doubt_until = next; // once that point is there, and not before
	if (rc == 0)
		rc = replica_seal(r, &seal, &committed, err);
	if (rc == 0) {
		w->promise.last_from = next;
		replica_doubted(r, &doubted); // where there was no space to end it, it stays
		w->promise.doubt_must = 0;
		w->promise.doubt_may = doubted.disks;
	}
	replica_session_end(r);
	return rc;
}

static int use_doubt(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct wire_doubted doubted;
	(void)env, (void)store;
	int rc = doubt_disks(w, r, 2, &doubted, err);
	if (rc == 0)
		rc = doubt_disks(w, r, 3, &doubted, err);
	return rc ? rc : commit_certain(w, r, 3, doubted, err);
}

static int run_doubt(struct env *env, void *context, struct err *err)
{
	promise_next(context, 1);
	return world_with(env, context, use_doubt, err);
}

static void b1_a_doubt_that_was_answered_stays_until_the_point_that_ends_it(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	w->ends_there = true; // the next point would be another source's
	world_survive(w, "doubt", run_doubt);
	world_free(w);
}

// ---- goodbye

static int use_goodbye(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct wire_goodbye goodbye = {.protection = w->open.protection, .generation = w->open.generation, .name = "vm1"};
	struct wire_opened opened;
	bool news;
	(void)env, (void)store;
	w->promise.goodbye_may = true;
	int rc = replica_goodbye(r, &goodbye, feed_pin, &news, err);
	if (rc)
		return rc;
	w->promise.goodbye_must = true;
	rc = replica_goodbye(r, &goodbye, feed_pin, &news, err);
	if (rc == 0 && news)
		return err_set(err, -EBADMSG, "it is news twice");
	if (rc == 0)
		rc = replica_set_quota(r, UINT64_C(1) << 40, err); // whatever else is saved
	if (rc)
		return rc;
	w->promise.goodbye_must = false;
	rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc)
		return rc;
	w->promise.goodbye_may = false;
	replica_session_end(r);
	return 0;
}

static int run_goodbye(struct env *env, void *context, struct err *err)
{
	promise_next(context, 0); // no point comes of it
	return world_with(env, context, use_goodbye, err);
}

static void c1_a_goodbye_that_was_answered_stays_until_a_session_begins(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	w->ends_there = true;
	world_survive(w, "goodbye", run_goodbye);
	world_free(w);
}

static void a_protection_is_created_wholly_or_not_at_all(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 0);
	w->setup = world_setup_empty;
	w->ends_there = true;
	world_survive(w, "create", run_create);
	world_free(w);
}

static void r3_a_commit_of_several_disks_is_atomic(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 2);
	world_survive(w, "commit", run_commit);
	world_free(w);
}

static void r3_a_head_that_is_written_again_is_what_was_written_last(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	world_survive(w, "head", run_head);
	world_free(w);
}

static void r3_disks_grow_wholly_or_not_at_all_and_points_stay(void **state)
{
	(void)state;
	struct store_world *w = world_growing(8, 2, 2);
	w->recovery_grows = true;
	world_survive(w, "grow", run_commit);
	world_free(w);
}

static void r3_tables_of_digests_grow_by_a_sector(void **state)
{
	(void)state;
	struct store_world *w = world_growing_far(8, 1, 1);
	w->recovery_grows = true;
	world_survive(w, "grow-far", run_commit);
	world_free(w);
}

// Operation `op` of `run` fails, a sync perhaps; the process ends; the next one recovers; and then the power goes off, and nothing is
// left that no good sync stands for.
static bool is_certain_after_a_failure(struct store_world *w, crash_step *run, uint64_t op)
{
	struct sim *sim = sim_new(1);
	struct err err = {0};
	assert_int_equal(world_setup(sim_env(sim), w, &err), 0);
	sim_settle(sim);
	sim_fail_at(sim, sim_ops(sim) + op, -EIO, false);
	(void)run(sim_env(sim), w, &err);
	bool failed = sim_has_failed(sim);
	sim_fail_at(sim, SIM_NEVER, 0, false);
	sim_kill(sim);
	crash_step *const after[] = {world_recover, world_recover, world_check};
	for (unsigned i = 0; failed && i < 3; i++) {
		if (after[i](sim_env(sim), w, &err))
			fail_msg("operation %llu, step %u: %s", (unsigned long long)op, i, err.text);
		if (i == 0) {
			sim_power_off(sim);
			sim_power_on(sim);
		}
	}
	sim_free(sim);
	return failed;
}

static void r3_a_growth_whose_sync_failed_is_made_again_before_it_counts(void **state)
{
	(void)state;
	struct store_world *w = world_growing_far(8, 1, 1);
	w->recovery_grows = w->sync_may_fail = true;
	uint64_t op = 0;
	while (is_certain_after_a_failure(w, run_commit, op))
		op++;
	assert_true(op > 100);
	world_free(w);
}

static int run_commit_to_fold(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	promise_next(w, 1);
	w->promise.first_to = w->setup_points + 1;
	return world_with(env, w, use_commit, err);
}

// What recovery reports of the newest point counts: the source sends its next delta on it, and retention takes the one below.
static void r3_a_commit_whose_sync_failed_is_certain_before_it_counts(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 1);
	w->recovery_retains = true;
	uint64_t op = 0;
	while (is_certain_after_a_failure(w, run_commit_to_fold, op))
		op++;
	assert_true(op > 50);
	world_free(w);
}

static int commit_then_fence(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct err fence = {0};
	int rc = use_commit(env, w, store, r, err);
	return replica_fence(r, w->setup_points, &fence) ? -ECANCELED : rc;
}

static int look_at_fence(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct replica_info info;
	(void)env, (void)w, (void)store, (void)err;
	replica_info(r, &info);
	return info.fenced;
}

static bool store_is_fenced(struct env *env, struct store_world *w)
{
	struct err err;
	return world_with(env, w, look_at_fence, &err) == 1;
}

static int rollback_and_look(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct replica_info info;
	(void)env, (void)store;
	int rc = replica_unfence(r, w->setup_points, err);
	replica_info(r, &info);
	w->promise.last_from = max_u64(w->promise.last_from, info.last_point); // from there the source goes on
	return rc;
}

// The same, but the operator fails over between: nothing is moved beneath a virtual machine, and the rollback sees to it.
static bool is_certain_after_a_failover(struct store_world *w, uint64_t op)
{
	struct sim *sim = sim_new(1);
	struct err err = {0};
	assert_int_equal(world_setup(sim_env(sim), w, &err), 0);
	sim_settle(sim);
	promise_next(w, 1);
	sim_fail_at(sim, sim_ops(sim) + op, -EIO, false);
	int rc = world_with(sim_env(sim), w, commit_then_fence, &err);
	bool failed = sim_has_failed(sim);
	sim_fail_at(sim, SIM_NEVER, 0, false);
	sim_kill(sim);
	if (failed && rc != -ECANCELED && store_is_fenced(sim_env(sim), w)) {
		if (world_with(sim_env(sim), w, rollback_and_look, &err))
			fail_msg("operation %llu: %s", (unsigned long long)op, err.text);
		sim_power_off(sim);
		sim_power_on(sim);
		if (world_recover(sim_env(sim), w, &err) || world_check(sim_env(sim), w, &err))
			fail_msg("operation %llu, after the power went: %s", (unsigned long long)op, err.text);
	}
	sim_free(sim);
	return failed;
}

static void r3_a_commit_whose_sync_failed_is_certain_after_a_rollback(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	uint64_t op = 0;
	while (is_certain_after_a_failover(w, op))
		op++;
	assert_true(op > 50);
	world_free(w);
}

static void r7_a_fence_is_there_or_not_and_stays_once_answered(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	world_survive(w, "fence", run_fence);
	world_free(w);
}

int main(void)
{
	log_init("test_store_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_protection_is_created_wholly_or_not_at_all),
		cmocka_unit_test(r3_a_commit_of_several_disks_is_atomic),
		cmocka_unit_test(r3_a_head_that_is_written_again_is_what_was_written_last),
		cmocka_unit_test(r3_disks_grow_wholly_or_not_at_all_and_points_stay),
		cmocka_unit_test(r3_tables_of_digests_grow_by_a_sector),
		cmocka_unit_test(r3_a_growth_whose_sync_failed_is_made_again_before_it_counts),
		cmocka_unit_test(r3_a_commit_whose_sync_failed_is_certain_before_it_counts),
		cmocka_unit_test(r3_a_commit_whose_sync_failed_is_certain_after_a_rollback),
		cmocka_unit_test(c1_a_goodbye_that_was_answered_stays_until_a_session_begins),
		cmocka_unit_test(b1_a_doubt_that_was_answered_stays_until_the_point_that_ends_it),
		cmocka_unit_test(r7_a_fence_is_there_or_not_and_stays_once_answered),
	};
	return cmocka_run_group_tests_name("store_crash", tests, NULL, NULL);
}
