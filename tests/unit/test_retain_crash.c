// SPDX-License-Identifier: Apache-2.0
// Retention under crash enumeration: R4, a fold or a merge changes no byte of any point; pins and policies hold.
// After every crash the whole content of every point is compared with the oracle (tests/lib/store_world.h).
//
// KAGAMI_CRASH_STATES=n looks at up to n states a scenario.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/replica.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Everything that happens to points 1 to the newest of the setup is promised by what is added to this.
static void promise_all(struct store_world *w, uint64_t first_to, unsigned gone_may, unsigned pinned)
{
	uint64_t last = w->setup_points;
	w->promise = (struct world_promise){.first_from = 1, .first_to = first_to, .last_from = last, .last_to = last, .created = true,
					    .gone_may = gone_may, .pinned_must = pinned};
}

static bool without_dirs; // somebody takes the empty directories away before retention

static int dirs_lose(struct replica *r, struct err *err)
{
	static const char *const dirs[] = {"vm1/trash", "vm1/merge"};
	int rc = 0;
	for (size_t i = 0; without_dirs && rc == 0 && i < 2; i++) {
		rc = env_rmdir(r->root, dirs[i]);
		rc = rc == -ENOENT ? 0 : rc;
	}
	return rc ? err_sys(err, rc, "rmdir") : 0;
}

static int use_folds(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)store;
	int folded = dirs_lose(r, err) ? err->code : 1;
	while (folded == 1) {
		if (!w->recovery_retains)
			w->promise.first_to = min_u64(w->promise.first_to + 1, w->setup_points);
		folded = replica_retain(r, err);
		if (folded == 1)
			w->promise.first_from++;
	}
	if (folded == 0 && w->promise.first_from != w->setup_points + 1 - w->keep)
		return err_set(err, -EBADMSG, "retention kept another number of points than %u", w->keep);
	return folded;
}

static int run_folds(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	promise_all(w, w->recovery_retains ? w->setup_points + 1 - w->keep : 1, 0, 0);
	return world_with(env, w, use_folds, err);
}

// Merges all points in the middle that are not pinned into those above them.
static int use_merges(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)store;
	unsigned goes = w->promise.gone_may;
	int merged = dirs_lose(r, err);
	if (merged)
		return merged;
	while ((merged = replica_retain(r, err)) == 1) {
		unsigned lowest = goes & ~w->promise.gone_must;
		lowest &= ~(lowest - 1);
		for (; goes & lowest; lowest <<= 1)
			w->promise.gone_must |= lowest;
	}
	if (merged == 0 && w->promise.gone_must != goes)
		return err_set(err, -EBADMSG, "retention did not merge what it should");
	return merged;
}

static int run_merges(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	promise_all(w, 1, ((1u << w->setup_points) - 1) & ~1u & ~w->pins, w->pins);
	return world_with(env, w, use_merges, err);
}

static int retain_all(struct store_world *w, struct replica *r, struct err *err)
{
	(void)w;
	int done;
	while ((done = replica_retain(r, err)) == 1)
		;
	return done;
}

// Pins the second point, of which nothing was said before, and lets retention do what it wants.
static int use_pin(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	const struct retention policy = {.points = w->keep};
	(void)env, (void)store;
	int rc = replica_pin(r, 2, "stays", err);
	if (rc)
		return rc;
	w->promise.pinned_must = 1u << 2;
	rc = replica_set_retention(r, &policy, err);
	return rc ? rc : retain_all(w, r, err);
}

static int run_pin(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	promise_all(w, w->setup_points, (1u << w->setup_points) - 2, 0);
	return world_with(env, w, use_pin, err);
}

static void promise_expiry(struct store_world *w, uint64_t more)
{
	uint64_t last = w->setup_points;
	w->promise = (struct world_promise){.first_from = 1, .first_to = last + more, .last_from = last, .last_to = last + more, .created = true,
					    .gone_may = (1u << (last + more)) - 2, .pinned_must = w->pins};
}

// The pin of the second point is taken back, and then retention may do what it wants.
static int use_unpin(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)store;
	w->promise.pinned_must = 0;
	int rc = replica_unpin(r, 2, err);
	if (rc)
		return rc;
	w->promise.unpinned_must = 1u << 2;
	return retain_all(w, r, err);
}

static int run_unpin(struct env *env, void *context, struct err *err)
{
	promise_expiry(context, 0);
	return world_with(env, context, use_unpin, err);
}

// Points twenty minutes apart, and the newest of each hour stays: the next point makes others go, the oldest among them.
static int use_expiry(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	const struct retention policy = {.points = 1, .tier_count = 1, .tier = {{.interval_s = 3600, .count = 1}}};
	uint64_t next = w->setup_points + 1;
	int rc = replica_set_retention(r, &policy, err);
	if (rc == 0)
		rc = world_commit(w, store, next, false, err);
	if (rc)
		return rc;
	w->promise.last_from = next;
	sim_clock_advance(sim_of_env(env), w->step_ns);
	rc = retain_all(w, r, err);
	if (rc)
		return rc;
	struct replica_info info;
	replica_info(r, &info);
	if (info.point_count >= next)
		return err_set(err, -EBADMSG, "nothing expired");
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	rc = replica_points(r, &points, &count);
	if (rc)
		return rc;
	w->promise.first_from = points[0].number;
	w->promise.gone_must = w->promise.gone_may;
	for (size_t i = 0; i < count; i++)
		w->promise.gone_must &= ~(1u << points[i].number);
	return 0;
}

static int run_expiry(struct env *env, void *context, struct err *err)
{
	promise_expiry(context, 1);
	return world_with(env, context, use_expiry, err);
}

static void r4_a_fold_changes_no_point(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 3);
	world_survive(w, "fold", run_folds);
	world_free(w);
}

static void r4_a_fold_is_done_again_when_it_was_cut(void **state)
{
	(void)state;
	struct store_world *w = world_new(2, 3);
	w->recovery_retains = true;
	world_survive(w, "fold-again", run_folds);
	world_free(w);
}

static void r4_folds_of_small_and_large_points_change_no_point(void **state)
{
	(void)state;
	struct store_world *w = world_growing(1, 4, 2);
	w->ends_there = true;
	world_survive(w, "fold-grown", run_folds);
	world_free(w);
}

static void r4_folds_fill_the_grown_part_of_a_table(void **state)
{
	(void)state;
	struct store_world *w = world_growing_far(1, 3, 1);
	world_survive(w, "fold-far", run_folds);
	world_free(w);
}

static void r4_a_merge_changes_no_point(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 4);
	w->pins = 1u << 1; // 2 and 3 go into 4
	world_survive(w, "merge", run_merges);
	world_free(w);
}

static void r4_merges_go_one_after_another_into_pinned_points_too(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 5);
	w->pins = 1u << 1 | 1u << 3; // 2 into 3, 4 into 5
	world_survive(w, "merges", run_merges);
	world_free(w);
}

static void r4_a_merge_is_finished_or_undone_when_it_was_cut(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 3);
	w->pins = 1u << 1;
	w->recovery_retains = true;
	world_survive(w, "merge-again", run_merges);
	world_free(w);
}

static void r4_merges_of_small_and_large_points_change_no_point(void **state)
{
	(void)state;
	struct store_world *w = world_growing(1, 4, 2);
	w->pins = 1u << 1;
	world_survive(w, "merge-grown", run_merges);
	world_free(w);
}

static void r4_retention_changes_no_point_where_its_directories_are_gone(void **state)
{
	(void)state;
	without_dirs = true;
	struct store_world *w = world_new(1, 3);
	world_survive(w, "fold-dirs", run_folds);
	world_free(w);
	w = world_new(1, 4);
	w->pins = 1u << 1;
	world_survive(w, "merge-dirs", run_merges);
	world_free(w);
	without_dirs = false;
}

static void a_pinned_point_outlives_every_crash_and_all_retention(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 4);
	world_survive(w, "pin", run_pin);
	world_free(w);
}

static void a_pin_that_was_taken_back_stays_so(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 4);
	w->pins = 1u << 2;
	world_survive(w, "unpin", run_unpin);
	world_free(w);
}

static void points_expire_by_time_and_the_others_stay(void **state)
{
	(void)state;
	struct store_world *w = world_new(1, 4);
	w->step_ns = UINT64_C(1200000000000);
	world_survive(w, "expiry", run_expiry);
	world_free(w);
}

int main(void)
{
	log_init("test_retain_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r4_a_fold_changes_no_point),
		cmocka_unit_test(r4_a_fold_is_done_again_when_it_was_cut),
		cmocka_unit_test(r4_folds_of_small_and_large_points_change_no_point),
		cmocka_unit_test(r4_folds_fill_the_grown_part_of_a_table),
		cmocka_unit_test(r4_a_merge_changes_no_point),
		cmocka_unit_test(r4_merges_go_one_after_another_into_pinned_points_too),
		cmocka_unit_test(r4_a_merge_is_finished_or_undone_when_it_was_cut),
		cmocka_unit_test(r4_merges_of_small_and_large_points_change_no_point),
		cmocka_unit_test(r4_retention_changes_no_point_where_its_directories_are_gone),
		cmocka_unit_test(a_pinned_point_outlives_every_crash_and_all_retention),
		cmocka_unit_test(a_pin_that_was_taken_back_stays_so),
		cmocka_unit_test(points_expire_by_time_and_the_others_stay),
	};
	return cmocka_run_group_tests_name("retain_crash", tests, NULL, NULL);
}
