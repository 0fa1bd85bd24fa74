// SPDX-License-Identifier: Apache-2.0
// Retention, step by step: asks the policy which points go, and has one step done. Docs/store.md, "Retention".
//
// What it promises: nobody's point goes that the policy keeps, that is pinned, or that anybody holds or stands on.
#include "receiver/replica.h"

#include "base/log.h"
#include "receiver/overlays.h"
#include "receiver/retention.h"
#include "receiver/scrub.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { MERGE_RUN = 8, MERGE_WAIT_S = 300, OPENING_BYTES = 1 << 20, OPENING_WAIT_S = 60 }; // what asking again costs of the pace; and how long a step waits in all

int pace_spend(const struct retain_pace *pace, uint64_t bytes)
{
	return pace ? pace->spend(pace->context, bytes) : 0;
}

// --- what goes ---

// The policy's word on each point; NULL when out of memory. The caller frees.
static struct retention_point *decide_by(const struct replica *r, const struct retention *policy)
{
	struct retention_point *points = calloc(r->point_count ? r->point_count : 1, sizeof(*points));
	if (!points)
		return NULL;
	for (size_t i = 0; i < r->point_count; i++)
		points[i] = (struct retention_point){.commit_wall_ns = r->points[i].commit_wall_ns, .pinned = pins_keep(r, &r->points[i])};
	retention_apply(policy, points, r->point_count);
	return points;
}

static struct retention_point *decide(const struct replica *r)
{
	struct retention policy = protection_retention(&r->prot);
	return decide_by(r, &policy);
}

// Needs the lock.
static int plan_points(struct replica *r, const struct retention *policy, struct point_info **ret_points, struct retention_point **ret_plan,
		       size_t *ret_count, struct err *err)
{
	struct point_info *points = calloc(r->point_count ? r->point_count : 1, sizeof(*points));
	struct retention_point *plan = policy ? decide_by(r, policy) : decide(r);
	if (!points || !plan) {
		free(points);
		free(plan);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (r->point_count)
		memcpy(points, r->points, r->point_count * sizeof(*points));
	*ret_points = points;
	*ret_plan = plan;
	*ret_count = r->point_count;
	return 0;
}

int replica_plan_retention(struct replica *r, const struct retention *policy, struct point_info **ret_points,
			   struct retention_point **ret_plan, size_t *ret_count, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = replica_broken(r, err);
	return rc ? rc : plan_points(r, policy, ret_points, ret_plan, ret_count, err);
}

int replica_list_points(struct replica *r, struct point_info **ret_points, struct retention_point **ret_plan, size_t *ret_count, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = replica_broken_list(r, err);
	return rc ? rc : plan_points(r, NULL, ret_points, ret_plan, ret_count, err);
}

int replica_set_retention(struct replica *r, const struct retention *policy, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = policy ? retention_check(policy, err) : 0;
	if (rc == 0 && r->broken)
		rc = replica_ready(r, err);
	if (rc)
		return rc;
	struct protection next = r->prot;
	next.retention_set = policy != NULL;
	next.retention = policy ? *policy : (struct retention){.points = 0};
	r->retain_all = true;
	return replica_save(r, &next, err);
}

size_t retain_surplus(const struct replica *r)
{
	AUTO_FREE struct retention_point *points = decide(r);
	size_t surplus = 0;
	for (size_t i = 0; points && i < r->point_count; i++)
		surplus += points[i].why == 0;
	return surplus;
}

uint64_t retain_held(const struct replica *r)
{
	AUTO_FREE struct retention_point *points = decide(r);
	bool goes = false;
	for (size_t i = 0; points && i < r->point_count; i++) {
		goes |= points[i].why == 0;
		if (goes && (r->points[i].holds || held_unknown(r)))
			return r->points[i].number;
	}
	return 0;
}

// A reader goes through all points below the one that it holds; so what is held, and all below it, stays. One above that is held by nobody
// may go: no open file of a reader is one of its.
static size_t first_free(const struct replica *r)
{
	if (held_unknown(r))
		return r->point_count;
	for (size_t i = r->point_count; i > 0; i--)
		if (r->points[i - 1].holds)
			return i;
	return 0;
}

// Points [first, stays] become the last one.
static void step_set(const struct replica *r, size_t first, size_t stays, struct retain_step *step)
{
	assert(first > 0); // the oldest is folded
	*step = (struct retain_step){.merge = true, .below = r->points[first - 1].number};
	for (size_t i = first; i <= stays; i++)
		step->number[step->count++] = r->points[i].number;
}

// The points before `stays` that go, as many as fit, and `stays` itself.
static void step_fill(const struct replica *r, const struct retention_point *points, size_t from, size_t stays, struct retain_step *step)
{
	size_t first = stays;
	while (first > from && points[first - 1].why == 0 && stays - first < RETAIN_LAYERS_MAX - 1)
		first--;
	step_set(r, first, stays, step);
}

// Each new point makes another one go, often into one that is to go soon, too. A merge that has time waits for a few of these, for it
// copies all that came together so far.
static bool waits_for_more(const struct replica *r, size_t run, unsigned into_why)
{
	return !r->retain_all && run < MERGE_RUN && into_why & KEPT_NEWEST &&
	       env_mono_ns(r->root->env) - r->merged_ns < MERGE_WAIT_S * UINT64_C(1000000000);
}

// The first point that goes by a merge, at or after `i`, and in *stays the one that its run goes into; the count of points when there is none.
static size_t run_next(const struct replica *r, const struct retention_point *points, size_t i, size_t *stays)
{
	while (i + 1 < r->point_count && points[i].why)
		i++;
	if (r->cannot_merge || i + 1 >= r->point_count)
		return r->point_count;
	*stays = i + 1;
	while (points[*stays].why == 0) // the newest always stays
		(*stays)++;
	return i;
}

static bool policy_acts(const struct replica *r)
{
	return !r->prot.fenced && r->point_count >= 2;
}

// What to do next; `count` is 0 when there is nothing. Where the oldest point goes, that is first; a merge, whose points are all above it, needs it neither folded nor
// not: it is next when the fold waits for its next try.
static int choose(struct replica *r, bool may_wait, struct retain_step *ret_step, struct err *err)
{
	AUTO_FREE struct retention_point *points = decide(r);
	size_t from = first_free(r), stays = 0;
	*ret_step = (struct retain_step){.merge = false};
	if (!points)
		return err_set(err, -ENOMEM, "out of memory");
	bool folds = policy_acts(r) && from == 0 && points[0].why == 0;
	size_t first = policy_acts(r) ? run_next(r, points, from ? from : 1, &stays) : r->point_count;
	if (!folds)
		stall_over(r, STALL_OF_FOLDS);
	if (first == r->point_count)
		stall_over(r, STALL_OF_MERGES);
	r->retain_all = r->retain_all && (folds || first < r->point_count);
	if (folds && !(may_wait && stall_waits(r, STALL_OF_FOLDS)))
		*ret_step = (struct retain_step){.count = 2, .number = {r->points[0].number, r->points[1].number}};
	else if (first < r->point_count && !(may_wait && (stall_waits(r, STALL_OF_MERGES) || waits_for_more(r, stays - first, points[stays].why))))
		step_fill(r, points, from ? from : 1, stays, ret_step); // where it waits for more, nothing is above but the newest
	return 0;
}

// Of the merges that find room the one of most points; -> false when there is none. It may go into a point that goes itself: that is one step of what is to come of the run.
// Every one of them leaves fewer points, so that there is an end.
static bool choose_smaller(struct replica *r, bool may_wait, struct retain_step *ret_step)
{
	LOCK_SCOPE(&r->lock);
	AUTO_FREE struct retention_point *points = decide(r);
	uint64_t room = stall_room(r);
	size_t from = first_free(r), stays = 0, most = 1;
	from = from ? from : 1;
	if (!points || r->broken || r->gone || !policy_acts(r) || (may_wait && stall_waits(r, STALL_OF_MERGES)))
		return false;
	for (size_t i = run_next(r, points, from, &stays); i < r->point_count; i = run_next(r, points, stays + 1, &stays)) {
		if (may_wait && r->limited == LIMITED_NOT && waits_for_more(r, stays - i, points[stays].why))
			continue;
		for (size_t top = stays; top > i; top--) {
			size_t first = top + 1;
			uint64_t sum = 0;
			while (first > i && top + 1 - first < RETAIN_LAYERS_MAX && r->points[first - 1].stored_bytes <= room - sum)
				sum += r->points[--first].stored_bytes;
			if (top + 1 - first > most) {
				most = top + 1 - first;
				step_set(r, first, top, ret_step);
			}
		}
	}
	return most > 1;
}

bool retain_still(struct replica *r, const struct retain_step *step)
{
	AUTO_FREE struct retention_point *points = decide(r);
	const struct point_info *first = replica_point(r, step->number[0]);
	if (!points || !first || r->prot.fenced)
		return false;
	size_t at = (size_t)(first - r->points);
	if (at < first_free(r))
		return false;
	for (size_t i = 0; i + 1 < step->count; i++)
		if (points[at + i].why)
			return false;
	return true;
}

// A session that opens waits for nobody, and keeps a step waiting: one that were given up would be begun anew, and a source that is refused and comes again and
// again would keep retention from ever ending one. But no longer than a while in all: the same thread sees to the other replicas.
int retain_goes_on(struct replica *r, const struct retain_step *step, const struct retain_pace *pace)
{
	int rc = 0;
	while (rc == 0 && r->opening && !r->broken && retain_still(r, step)) {
		if (!pace || r->retain_waited_ns >= OPENING_WAIT_S * UINT64_C(1000000000))
			return 0;
		uint64_t begin_ns = env_mono_ns(r->root->env);
		(void)pthread_mutex_unlock(&r->lock);
		rc = pace_spend(pace, OPENING_BYTES);
		(void)pthread_mutex_lock(&r->lock);
		r->retain_waited_ns += env_mono_ns(r->root->env) - begin_ns;
	}
	return rc ? rc : !r->broken && retain_still(r, step);
}

// --- names ---

int retain_dir_make(const struct replica *r, const char *name, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	replica_file(r, path, "%s", name);
	return trash_make(r->root, r->name, path, err);
}

int retain_to_trash(struct replica *r, uint64_t number, struct err *err)
{
	char from[REPLICA_PATH_SIZE], to[REPLICA_PATH_SIZE];
	replica_file(r, from, "points/%llu", (unsigned long long)number);
	replica_file(r, to, "trash/%llu", (unsigned long long)number);
	int rc = env_rename(r->root, from, to);
	return rc ? err_sys(err, rc, "%s: move to %s", from, to) : 0;
}

void retain_trash_name(const struct replica *r, const struct retain_step *step, char path[REPLICA_PATH_SIZE])
{
	replica_file(r, path, "trash/%llu.%llu", (unsigned long long)step->number[step->count - 1], (unsigned long long)step->number[0]);
}

int retain_sync(struct replica *r, const char *const *dirs, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		char path[REPLICA_PATH_SIZE];
		replica_file(r, path, "%s", dirs[i]);
		int rc = env_sync_dir(r->root, path);
		if (rc)
			return err_sys(err, rc, "%s: sync", path);
	}
	return 0;
}

void retain_forget(struct replica *r, const struct retain_step *step)
{
	struct point_info *first = replica_point(r, step->number[0]);
	size_t gone = step->count - 1, at = (size_t)(first - r->points);
	r->point_count -= gone;
	memmove(first, first + gone, (r->point_count - at) * sizeof(*first));
	for (; at < r->point_count; at++) // what they read through is not the files that it was
		r->points[at].rewrites++;
	scrub_forget(r);
}

// --- the whole ---

// Says once, until it is over, that a hold lets points gather.
static void late_log(struct replica *r)
{
	uint64_t held = replica_waits_for(r);
	if (held && !r->late_logged)
		log_warning("retention waits for a mount protection=%s points=%zu surplus=%zu held=%llu", r->name, r->point_count,
			    retain_surplus(r), (unsigned long long)held);
	r->late_logged = held != 0;
}

static void trash_remove(struct replica *r, const char *path)
{
	int rc = env_remove_tree(r->root, path);
	if (rc) // it is no part of anything, and goes at the next start
		log_warning("cannot remove a point that is gone protection=%s file=%s errno=%d", r->name, path, -rc);
}

// What a step that was done left in the trash.
static void trash_empty(struct replica *r, const struct retain_step *step)
{
	char path[REPLICA_PATH_SIZE];
	for (size_t i = 0; i + 1 < step->count; i++) {
		replica_file(r, path, "trash/%llu", (unsigned long long)step->number[i]);
		trash_remove(r, path);
	}
	retain_trash_name(r, step, path);
	trash_remove(r, path);
}

// What a step needs cannot be told of a point whose files are damaged: those are made good, where they can be.
static int space_fail(struct replica *r, struct err *err)
{
	const struct err why = *err;
	LOCK_SCOPE(&r->lock);
	int rc = overlays_were_it(r, &why, err);
	if (rc > 0)
		return err_set(err, -EAGAIN, "retention: %s; it was made good, and is tried again", why.text);
	return rc ? rc : why.code;
}

static enum stall_of kind_of(const struct retain_step *step)
{
	return step->merge ? STALL_OF_MERGES : STALL_OF_FOLDS;
}

// Where a fold has no room, or a merge of many points, a merge that has some is done instead: each frees some, or leaves fewer points at least.
static int step_run(struct replica *r, struct retain_step *step, const struct retain_pace *pace, struct err *err)
{
	struct retain_step smaller;
	int rc = stall_space(r, step, err);
	if (rc == -ENOSPC && choose_smaller(r, pace != NULL, &smaller)) {
		if (!step->merge)
			stall_note(r, STALL_OF_FOLDS, rc, err);
		*step = smaller;
		rc = stall_space(r, step, err);
	}
	if (rc)
		return space_fail(r, err);
	rc = step->merge ? replica_merge(r, step, pace, err) : replica_fold(r, step, pace, err);
	if (rc == 1)
		trash_empty(r, step);
	return rc;
}

int replica_retain_paced(struct replica *r, const struct retain_pace *pace, struct err *err)
{
	LOCK_SCOPE(&r->retain_lock);
	struct retain_step step;
	struct err why = {0};
	{
		LOCK_SCOPE(&r->lock);
		if (r->broken || r->gone)
			return replica_ready(r, err);
		if (r->opening && !pace) // a step would have to wait for it
			return 0;
		r->retain_waited_ns = 0;
		int rc = choose(r, pace != NULL, &step, err);
		if (rc)
			return rc;
		limits_look(r);
		late_log(r);
	}
	int rc = step.count ? step_run(r, &step, pace, &why) : 0;
	if (step.count)
		stall_note(r, kind_of(&step), rc, &why);
	if (rc < 0 && err)
		*err = why;
	return rc;
}

int replica_retain(struct replica *r, struct err *err)
{
	return replica_retain_paced(r, NULL, err);
}
