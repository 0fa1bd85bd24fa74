// SPDX-License-Identifier: Apache-2.0
// A failover taken back, and made final, over the simulated disk: who may write when, the time until it happens by itself, and
// a crash at every step (docs/store.md, "Roll back"). Two active sides are looked for in every state: disks to boot from,
// and a source that may append.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/failover.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOUR_MS = 3600000 };

static const unsigned char pin[OWNER_PIN_SIZE] = {1};
static const struct wire_open open_message = {.protection = {{1}},
					      .generation = {{2}},
					      .name = "vm1",
					      .digest = {.kind = DIGEST_XXH3},
					      .codec = CODEC_ZSTD,
					      .points_keep = 9,
					      .rpo_ms = 15000,
					      .disk_count = 1,
					      .disk = {{.name = "vda", .size = (1 << 20) + 512}}};

static int add_point(struct env *env, struct replica *r, struct err *err)
{
	struct wire_opened opened;
	struct wire_committed committed;
	struct wire_zeros zeros = {.disk = 0, .first = 0, .count = 1};
	int rc = replica_session_begin(r, &open_message, pin, &opened, err);
	if (rc)
		return rc;
	struct wire_seal seal = {.predecessor = opened.last_point,
				 .head = opened.head,
				 .cut = {{(unsigned char)(opened.last_point + 1)}},
				 .cut_wall_ns = env_wall_ns(env),
				 .consistency = POINT_CRASH};
	rc = replica_write_zeros(r, &zeros, err);
	if (rc == 0)
		rc = replica_seal(r, &seal, &committed, err);
	replica_session_end(r);
	return rc;
}

static int make_store(struct env *env, struct store *store, struct err *err)
{
	struct replica *r;
	int rc = store_create(store, &open_message, pin, &r, err);
	for (unsigned i = 0; rc == 0 && i < 2; i++)
		rc = add_point(env, r, err);
	return rc;
}

static bool published(struct env *env)
{
	struct env_root *root;
	struct env_stat st;
	if (env_root_open(env, "/", &root))
		return false;
	bool there = env_stat(root, "vm1/failover", &st) == 0;
	env_root_close(root);
	return there;
}

// --- one by one ---

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
	b->sim = sim_new(1);
	b->env = sim_env(b->sim);
	assert_int_equal(store_open(b->env, "/", &b->store, &b->err), 0);
	assert_int_equal(make_store(b->env, b->store, &b->err), 0);
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
}

static void fail_over(struct bench *b, uint64_t number)
{
	if (failover_run(b->env, b->store, b->r, number, &b->failover, &b->err))
		fail_msg("%s", b->err.text);
}

static const struct replica_info *info_of(struct bench *b)
{
	replica_info(b->r, &b->info);
	return &b->info;
}

static void rollback_lets_the_old_generation_write_again(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(add_point(b->env, b->r, &b->err), -ESTALE);
	assert_int_equal(replica_unfence(b->r, 0, &b->err), 0);
	assert_false(info_of(b)->fenced);
	assert_true(uuid_equal(&b->info.generation, &open_message.generation));
	assert_false(published(b->env));
	for (unsigned i = 0; i < 2; i++, reopen(b)) {
		assert_int_equal(add_point(b->env, b->r, &b->err), 0);
		assert_int_equal(info_of(b)->last_point, 3 + i);
	}
}

static void rollback_is_refused_where_there_is_nothing_to_take_back(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_unfence(b->r, 0, &b->err), -ENOENT);
	fail_over(b, 1);
	assert_int_equal(replica_unfence(b->r, 2, &b->err), -EALREADY);
	assert_true(info_of(b)->fenced && published(b->env));
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), -ENOENT);
}

static void committed_failover_is_final(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_fence_commit(b->r, 0, &b->err), -ENOENT);
	fail_over(b, 1);
	assert_false(info_of(b)->fence_final);
	assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), 0);
	for (unsigned i = 0; i < 3; i++, reopen(b)) {
		assert_int_equal(replica_fence_commit(b->r, 1, &b->err), 0);
		assert_true(info_of(b)->fence_final && b->info.fenced);
		assert_int_equal(b->info.rollback_in_ms, 0);
		assert_int_equal(replica_unfence(b->r, 0, &b->err), -EPERM);
		assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), -EPERM);
		assert_int_equal(add_point(b->env, b->r, &b->err), -ESTALE);
		assert_true(published(b->env));
		fail_over(b, 1); // and it answers as before
	}
}

static void another_point_can_be_taken_after_a_rollback(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	struct uuid first = info_of(b)->generation;
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	fail_over(b, 2);
	assert_int_equal(b->failover.point, 2);
	assert_false(uuid_equal(&info_of(b)->generation, &first));
	assert_false(uuid_equal(&b->info.generation, &open_message.generation));
	assert_int_equal(failover_load(b->env, b->store, "vm1", &b->failover, &b->err), 0);
	assert_int_equal(b->failover.point, 2);
	assert_int_equal(add_point(b->env, b->r, &b->err), -ESTALE);
}

// A session that slept through a failover and its rollback cannot seal what it sent before.
static void head_of_before_a_failover_is_not_sealed_after_its_rollback(void **state)
{
	struct bench *b = *state;
	struct wire_opened opened;
	struct wire_committed committed;
	struct wire_zeros zeros = {.disk = 0, .first = 1, .count = 1};
	assert_int_equal(replica_session_begin(b->r, &open_message, pin, &opened, &b->err), 0);
	assert_int_equal(replica_write_zeros(b->r, &zeros, &b->err), 0);
	fail_over(b, 1);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	struct wire_seal seal = {.predecessor = 2, .head = opened.head, .cut = {{3}}, .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(b->r, &seal, &committed, &b->err), -ESTALE);
	replica_session_end(b->r);
	assert_int_equal(add_point(b->env, b->r, &b->err), 0);
}

static void rollback_on_a_full_disk_is_refused_and_done_when_there_is_room(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	sim_set_space(b->sim, 0);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), -ENOSPC);
	assert_true(info_of(b)->fenced);
	assert_false(b->info.broken);
	sim_set_space(b->sim, 1 << 30);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_int_equal(add_point(b->env, b->r, &b->err), 0);
}

static bool tick(struct bench *b, uint64_t passed_ms, bool in_use)
{
	bool due = false;
	if (replica_fence_tick(b->r, passed_ms, in_use, &due, &b->err))
		fail_msg("%s", b->err.text);
	return due;
}

static void rollback_comes_due_by_time_that_passed_whatever_the_clock_says(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), -ENOENT);
	fail_over(b, 1);
	assert_false(tick(b, 10 * HOUR_MS, false)); // there is no such time
	assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), 0);
	assert_false(tick(b, HOUR_MS / 2, false));
	sim_clock_step(b->sim, INT64_C(366) * 86400 * 1000000000);
	assert_false(tick(b, 1000, false));
	reopen(b);						   // what had passed was saved
	assert_int_equal(info_of(b)->rollback_in_ms, HOUR_MS / 2); // but for what was not saved yet: later, not earlier
	assert_false(tick(b, HOUR_MS / 2 - 1, false));
	assert_true(info_of(b)->rollback_in_ms > 0);
	assert_true(tick(b, 1, false));
	fail_over(b, 1);
	assert_true(tick(b, 0, false)); // asked again, it goes on as it was
}

static void rollback_does_not_come_due_while_a_disk_is_open_nor_soon_after(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(replica_fence_timer(b->r, 1000, &b->err), 0);
	assert_false(tick(b, 10 * HOUR_MS, true));
	reopen(b); // the host went down with its guest, and is back
	assert_false(tick(b, ROLLBACK_GRACE_MS - 1, false));
	assert_false(tick(b, 1, true));
	assert_false(tick(b, ROLLBACK_GRACE_MS - 1, false));
	assert_true(tick(b, 1, false));
}

// --- under crashes ---

enum stage { FRESH, FAILED_OVER, ROLLED_BACK, WENT_ON, FAILED_OVER_AGAIN, COMMITTED };

struct promise {
	enum stage begun, done;
};

static int unfence_again(struct replica *r, struct err *err)
{
	int rc = replica_unfence(r, 1, err);
	return rc == -ENOENT ? 0 : rc; // it was done
}

static int go_on(struct env *env, struct replica *r, struct err *err)
{
	struct replica_info info;
	replica_info(r, &info);
	return info.last_point == 3 ? 0 : add_point(env, r, err);
}

static int do_stage(struct env *env, struct store *store, struct replica *r, enum stage stage, struct err *err)
{
	struct failover_info failover;
	switch (stage) {
	case FAILED_OVER:
		return failover_run(env, store, r, 1, &failover, err);
	case ROLLED_BACK:
		return unfence_again(r, err);
	case WENT_ON:
		return go_on(env, r, err);
	case FAILED_OVER_AGAIN:
		return failover_run(env, store, r, 2, &failover, err);
	case COMMITTED:
		return replica_fence_commit(r, 2, err);
	default:
		return 0;
	}
}

static int with_store(struct env *env, struct promise *promise,
		      int (*use)(struct env *, struct store *, struct promise *, struct err *), struct err *err)
{
	struct store *store;
	int rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	rc = use(env, store, promise, err);
	store_close(store);
	return rc;
}

static int make(struct env *env, struct store *store, struct promise *promise, struct err *err)
{
	(void)promise;
	return make_store(env, store, err);
}

static int scenario_setup(struct env *env, void *context, struct err *err)
{
	return with_store(env, context, make, err);
}

static int stages(struct env *env, struct store *store, struct promise *promise, struct err *err)
{
	struct replica *r = store_find(store, "vm1");
	int rc = r ? 0 : err_set(err, -EIO, "the protection is gone");
	while (rc == 0 && promise->done < COMMITTED) {
		promise->begun = promise->done + 1;
		rc = do_stage(env, store, r, promise->begun, err);
		if (rc == 0)
			promise->done = promise->begun;
	}
	return rc;
}

static int scenario_run(struct env *env, void *context, struct err *err)
{
	struct promise *promise = context;
	*promise = (struct promise){.done = FRESH};
	return with_store(env, promise, stages, err);
}

// The operator asks again for what was cut short.
static int stage_again(struct env *env, struct store *store, struct promise *promise, struct err *err)
{
	struct replica *r = store_find(store, "vm1");
	int rc = r ? do_stage(env, store, r, promise->begun, err) : err_set(err, -EIO, "the protection is gone");
	if (rc == 0)
		promise->done = promise->begun;
	return rc;
}

static int scenario_recover(struct env *env, void *context, struct err *err)
{
	return with_store(env, context, stage_again, err);
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

static int check_state(struct env *env, struct store *store, struct promise *promise, struct err *err)
{
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
	if (info.fenced == uuid_equal(&info.generation, &open_message.generation))
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
static int check_and_go_on(struct env *env, struct store *store, struct promise *promise, struct err *err)
{
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
	return with_store(env, context, check_and_go_on, err);
}

static void r7_never_two_active_sides_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.done = FRESH};
	const struct crash_scenario s = {.name = "rollback",
					 .context = &promise,
					 .promise = &promise,
					 .promise_size = sizeof(promise),
					 .setup = scenario_setup,
					 .run = scenario_run,
					 .check = scenario_check,
					 .states_max = 8000};
	assert_true(crash_test_quiet(&s));
}

static void r7_never_two_active_sides_when_what_follows_is_cut_too(void **state)
{
	(void)state;
	struct promise promise = {.done = FRESH};
	const struct crash_scenario s = {.name = "rollback_twice",
					 .context = &promise,
					 .promise = &promise,
					 .promise_size = sizeof(promise),
					 .setup = scenario_setup,
					 .run = scenario_run,
					 .recover = scenario_recover,
					 .check = scenario_check,
					 .crashes = 2,
					 .at_syncs = true,
					 .states_max = 8000};
	assert_true(crash_test_quiet(&s));
}

static void r7_never_two_active_sides_when_operations_fail(void **state)
{
	(void)state;
	struct promise promise = {.done = FRESH};
	const struct crash_scenario s = {.name = "rollback_faults",
					 .context = &promise,
					 .promise = &promise,
					 .promise_size = sizeof(promise),
					 .setup = scenario_setup,
					 .run = scenario_run,
					 .check = scenario_check,
					 .states_max = 8000};
	assert_true(anomaly_test_quiet(&s));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(rollback_lets_the_old_generation_write_again),
		TEST(rollback_is_refused_where_there_is_nothing_to_take_back),
		TEST(committed_failover_is_final),
		TEST(another_point_can_be_taken_after_a_rollback),
		TEST(head_of_before_a_failover_is_not_sealed_after_its_rollback),
		TEST(rollback_on_a_full_disk_is_refused_and_done_when_there_is_room),
		TEST(rollback_comes_due_by_time_that_passed_whatever_the_clock_says),
		TEST(rollback_does_not_come_due_while_a_disk_is_open_nor_soon_after),
		cmocka_unit_test(r7_never_two_active_sides_after_a_crash_at_any_step),
		cmocka_unit_test(r7_never_two_active_sides_when_what_follows_is_cut_too),
		cmocka_unit_test(r7_never_two_active_sides_when_operations_fail),
	};
	log_init("test_rollback", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("rollback", tests, NULL, NULL);
}
