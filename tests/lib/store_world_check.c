// SPDX-License-Identifier: Apache-2.0
// Recovery, what must hold after it, and the exploration.
#include "tests/lib/store_world.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "receiver/tests.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// What recovery has reported is promised, too: the newest point stays, and an older one that is gone stays gone.
static void world_note(struct store_world *w, struct replica *r)
{
	struct replica_info info;
	replica_info(r, &info);
	if (info.broken || info.point_count == 0)
		return;
	w->promise.last_from = max_u64(w->promise.last_from, info.last_point);
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (replica_points(r, &points, &count))
		return;
	w->promise.first_from = max_u64(w->promise.first_from, points[0].number);
	w->promise.gone_must |= w->promise.gone_may & ((1u << info.last_point) - 1) & ~((1u << points[0].number) - 1);
	for (size_t i = 0; i < count; i++)
		w->promise.gone_must &= ~(1u << points[i].number);
}


static int recovery_more(struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct tests *tests = NULL;
	struct wire_opened opened;
	int rc = 0;
	world_note(w, r);
	if (w->tests) {
		rc = tests_open(store, &tests, err);
		tests_close(tests);
	}
	if (rc == 0 && w->recovery_retains) {
		rc = replica_retain(r, err);
		if (rc == 1)
			world_note(w, r);
		rc = rc < 0 ? rc : 0;
	}
	if (rc == 0 && w->recovery_grows) {
		world_open_at(w, w->setup_points + 1);
		rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
		if (rc == 0)
			replica_session_end(r);
	}
	return rc;
}

int world_recover(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	struct store *store = NULL;
	int rc = w->found ? w->found(env, w, err) : 0;
	if (rc == 0)
		rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (r)
		rc = recovery_more(w, store, r, err);
	store_close(store);
	return rc;
}

int world_with(struct env *env, struct store_world *w, world_use *use, struct err *err)
{
	struct store *store = NULL;
	int rc = store_open(env, "/store", &store, err);
	if (rc)
		return rc;
	struct replica *r = store_find(store, "vm1");
	rc = r ? use(env, w, store, r, err) : err_set(err, -ENOENT, "vm1 is not in the store");
	store_close(store);
	return rc;
}

// --- what is there ---

static int check_gaps(const struct world_promise *p, const struct point_info *points, size_t count, unsigned *ret_there, struct err *err)
{
	unsigned there = 0, row, pinned = 0;
	for (size_t i = 0; i < count; i++) {
		there |= 1u << points[i].number;
		pinned |= (unsigned)points[i].pinned << points[i].number;
		if (points[i].cut.bytes[0] != points[i].number)
			return err_set(err, -EBADMSG, "a point has another cut");
	}
	*ret_there = there;
	row = count ? (2u << points[count - 1].number) - (1u << points[0].number) : 0;
	if (row & ~there & ~p->gone_may)
		return err_set(err, -EBADMSG, "points %#x are there: one that stays is gone", there);
	if (there & p->gone_must)
		return err_set(err, -EBADMSG, "points %#x are there: one that was gone is back", there);
	if (p->pinned_must & ~(there & pinned))
		return err_set(err, -EBADMSG, "points %#x are there, %#x of them pinned: a pin is lost", there, pinned);
	if (p->unpinned_must & pinned)
		return err_set(err, -EBADMSG, "points %#x are pinned: a pin that was taken back is there", pinned);
	return 0;
}

static int check_numbers(struct store_world *w, struct replica *r, uint64_t *ret_first, uint64_t *ret_last, unsigned *ret_there, struct err *err)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	int rc = replica_points(r, &points, &count);
	if (rc)
		return err_sys(err, rc, "replica_points");
	*ret_first = count ? points[0].number : 1;
	*ret_last = count ? points[count - 1].number : 0;
	const struct world_promise *p = &w->promise;
	rc = check_gaps(p, points, count, ret_there, err);
	if (rc)
		return rc;
	if (*ret_last < p->last_from || *ret_last > p->last_to || (count && (*ret_first < p->first_from || *ret_first > p->first_to)))
		return err_set(err, -EBADMSG, "points %llu to %llu: neither the old set nor the new one",
			       (unsigned long long)*ret_first, (unsigned long long)*ret_last);
	return 0;
}

// Made once.
static struct digest oracle_digest(struct store_world *w, uint64_t point, unsigned d, uint64_t b)
{
	struct digest *digest = &w->digest[point][d][b];
	if (bytes_zero(digest->bytes, sizeof(digest->bytes)))
		*digest = digest_of(&w->open.digest, (uint16_t)d, world_place_of(w, b), w->oracle[point][d] + b * BLOCK_SIZE);
	return *digest;
}

// The digests that a session would compare with are those of the newest point.
static int check_digests(struct store_world *w, struct replica *r, uint64_t last, struct err *err)
{
	struct wire_opened opened;
	world_open_at(w, min_u64(w->setup_points + 1, WORLD_POINTS_MAX)); // the size that the source has by then: a growth goes on where it was cut
	int rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc)
		return err_wrap(err, "session after recovery");
	for (unsigned d = 0; rc == 0 && d < WORLD_DISKS; d++) {
		struct digest digests[WORLD_DISK_BLOCKS_MAX] = {0};
		unsigned char differs[(WORLD_DISK_BLOCKS_MAX + 7) / 8] = {0};
		uint64_t blocks = size_blocks(w->open.disk[d].size);
		for (uint64_t b = 0; b < WORLD_BLOCKS && world_place_of(w, b) < blocks; b++)
			digests[world_place_of(w, b)] = oracle_digest(w, last, d, b);
		struct wire_compare m = {.disk = (uint16_t)d, .count = (uint32_t)blocks, .digests = digests[0].bytes};
		rc = replica_compare(r, &m, differs, err);
		if (rc == 0 && !bytes_zero(differs, sizeof(differs)))
			rc = err_set(err, -EBADMSG, "%s: digests are not those of point %llu", world_disk_name[d], (unsigned long long)last);
	}
	replica_session_end(r);
	return rc;
}

static int check_fence(struct store_world *w, const struct replica_info *info, struct err *err)
{
	if (info->fenced ? !w->promise.fence_asked : w->promise.fenced != 0)
		return err_set(err, -EBADMSG, "the fence is %s", info->fenced ? "there unasked" : "gone");
	if (info->fenced == uuid_equal(&info->generation, &w->open.generation))
		return err_set(err, -EBADMSG, "the generation does not go with the fence");
	return 0;
}

// Disks to boot from are whole, and there only behind a fence: never two active sides.
static int check_failover(struct store_world *w, struct env *env, const struct replica_info *info, struct err *err)
{
	struct env_root *root;
	struct env_stat st;
	int rc = env_root_open(env, "/store", &root);
	if (rc)
		return rc;
	bool there = env_stat(root, "vm1/failover", &st) == 0;
	env_root_close(root);
	if (there && !info->fenced)
		return err_set(err, -EBADMSG, "there are disks to boot and the source is not fenced");
	if (!there && w->promise.disks_must)
		return err_set(err, -EBADMSG, "a failover that was answered is gone");
	rc = there ? world_read_disks(w, env, "vm1/failover", info->fenced_point, err) : 0;
	return rc ? err_wrap(err, "failover") : 0;
}

static int test_holds(struct replica *r, uint64_t number)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (replica_points(r, &points, &count))
		return -1;
	for (size_t i = 0; i < count; i++)
		if (points[i].number == number)
			return (int)points[i].holds;
	return -1;
}

// A test is there as a whole and its point held, or nothing of it is.
static int check_test(struct store_world *w, struct env *env, struct store *store, struct replica *r, struct err *err)
{
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	struct tests *tests = NULL;
	int rc = test ? tests_open(store, &tests, err) : -ENOMEM;
	if (rc)
		return rc;
	bool there = tests_at(tests, 0, test);
	int holds = test_holds(r, WORLD_TEST_POINT);
	if (there && (test->reason[0] || test->point != WORLD_TEST_POINT))
		rc = err_set(err, -EBADMSG, "the test is damaged: %s", test->reason);
	else if (there ? !w->promise.test_may : w->promise.test_must)
		rc = err_set(err, -EBADMSG, "the test is %s", there ? "back" : "gone");
	else if (there ? holds != 1 : holds > 0)
		rc = err_set(err, -EBADMSG, "the point of the test has %d holds", holds);
	else if (there && (rc = world_read_disks(w, env, "vm1/tests/it", WORLD_TEST_POINT, err)))
		(void)err_wrap(err, "test");
	tests_close(tests);
	return rc;
}

// A doubt that was answered is there until the point that ends it is.
static int check_doubt(struct store_world *w, struct replica *r, uint64_t last, struct err *err)
{
	const struct world_promise *p = &w->promise;
	struct wire_doubted doubted;
	replica_doubted(r, &doubted);
	uint64_t must = p->doubt_until && last >= p->doubt_until ? 0 : p->doubt_must;
	if (must & ~doubted.disks)
		return err_set(err, -EBADMSG, "the doubt is gone, and point %llu does not end it", (unsigned long long)last);
	if (doubted.disks & ~(p->doubt_must | p->doubt_may))
		return err_set(err, -EBADMSG, "a doubt is there unasked");
	return 0;
}

// A goodbye that was answered is there until a session begins.
static int check_goodbye(const struct store_world *w, const struct replica_info *info, struct err *err)
{
	if (w->promise.goodbye_must && !info->unprotected_wall_ns)
		return err_set(err, -EBADMSG, "the goodbye is gone, and no session began");
	if (info->unprotected_wall_ns && !w->promise.goodbye_may && !w->promise.goodbye_must)
		return err_set(err, -EBADMSG, "a goodbye is there unasked, or after a session began");
	return 0;
}

static int check_replica(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct replica_info info;
	uint64_t first = 1, last = 0;
	unsigned there = 0;
	replica_info(r, &info);
	if (info.broken)
		return err_set(err, -EIO, "broken after recovery: %s", info.broken_reason);
	int rc = check_numbers(w, r, &first, &last, &there, err);
	if (rc == 0)
		rc = check_fence(w, &info, err);
	if (rc == 0)
		rc = check_doubt(w, r, last, err);
	if (rc == 0)
		rc = check_goodbye(w, &info, err);
	if (rc == 0)
		rc = world_read_points(w, env, first, last, there, err);
	if (rc == 0)
		rc = check_failover(w, env, &info, err);
	if (rc == 0 && w->tests)
		rc = check_test(w, env, store, r, err);
	return rc || info.fenced ? rc : check_digests(w, r, last, err);
}

int world_check(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	struct store *store = NULL;
	int rc = store_open(env, "/store", &store, err);
	if (rc)
		return rc;
	struct replica *r = store_find(store, "vm1");
	if (r)
		rc = check_replica(env, w, store, r, err);
	else if (w->promise.created)
		rc = err_set(err, -ENOENT, "vm1 is gone");
	store_close(store);
	return rc;
}

int world_check_and_go_on(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	struct store *store = NULL;
	struct replica_info info = {.fenced = true};
	int rc = world_check(env, context, err);
	if (rc == 0)
		rc = store_open(env, "/store", &store, err);
	if (rc)
		return rc;
	struct replica *r = store_find(store, "vm1");
	if (r)
		replica_info(r, &info);
	bool goes_on = !info.fenced && info.last_point < WORLD_POINTS_MAX;
	if (goes_on)
		rc = world_commit(w, store, info.last_point + 1, false, err);
	store_close(store);
	if (rc || !goes_on)
		return rc ? err_wrap(err, "the next point") : 0;
	const struct world_promise told = w->promise;
	w->promise.last_from = w->promise.last_to = info.last_point + 1;
	rc = world_check(env, context, err);
	w->promise = told;
	return rc ? err_wrap(err, "after the next point") : 0;
}

// --- all that can happen ---

static void explore(struct store_world *w, const char *name, const char *kind, crash_step *run,
		    bool (*how)(const struct crash_scenario *), unsigned crashes)
{
	char text[64];
	(void)snprintf(text, sizeof(text), "store-%s-%s", name, kind);
	bool goes_on = crashes < 2 && !w->ends_there && !w->sync_may_fail;
	const struct crash_scenario s = {.name = text, .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
					 .setup = w->setup ? w->setup : world_setup, .run = run, .recover = world_recover,
					 .check = goes_on ? world_check_and_go_on : world_check, .crashes = crashes, .at_syncs = true, .settles = !w->recovery_retains,
					 .states_max = w->states_max ? w->states_max : crashes == 1 && !w->sync_may_fail ? 3000 : 60};
	assert_true(how(&s));
}

void world_survive(struct store_world *w, const char *name, crash_step *run)
{
	explore(w, name, "crash", run, crash_test_quiet, 1);
	explore(w, name, "recovery", run, crash_test_quiet, 3);
	w->sync_may_fail = true;
	if (getenv("KAGAMI_CRASH_STATES")) // else what follows has the same failures, for a few seconds
		explore(w, name, "error", run, anomaly_test_quiet, 1);
	explore(w, name, "error-recovery", run, anomaly_test_quiet, 2);
	w->sync_may_fail = false;
}
