// SPDX-License-Identifier: Apache-2.0
// A replica that could not be read, or made good for want of space, and is looked at again.
//
//	whole ──a read fails: at start, or of what a session needs──► broken, passing ──MEND_MIN_S, twice as long each time, at most MEND_MAX_S──► recovery again
//	   ▲──────────────────────────it reads──────────────────────────────────────────┘
//
// What it promises: nothing is looked at again after a failed sync or write of what was whole, whose truth only another process finds out, nor what was removed, whose
// name may be another one's; and no hold is lost, so that what a test or a mount stands on is there afterwards.
#include "receiver/replica.h"

#include "base/log.h"
#include "base/size.h"
#include "receiver/copies.h"

#include <errno.h>
#include <string.h>

enum { MEND_MIN_S = 30, MEND_MAX_S = 3600 };
#define NS_PER_S UINT64_C(1000000000)

bool no_space(int code)
{
	return code == -ENOSPC || code == -EDQUOT;
}

int too_large(const struct err *why, struct err *err)
{
	const struct err was = *why;
	return err_set(err, -ENOSPC, "the file system of the target's store takes no file as large as the disk is (%s): move the store to one that does, such as xfs", was.text);
}

bool mend_passes(int code)
{
	return code == -EIO || no_space(code) || code == -ENOMEM || code == -EMFILE || code == -ENFILE || code == -ETIMEDOUT;
}

const char *mend_lack(const struct replica *r)
{
	return no_space(r->why.code) ? "made good without space" : "read";
}

int replica_break_passing(struct replica *r, const struct err *why, struct err *err)
{
	if (r->broken)
		return replica_ready(r, err);
	if (!mend_passes(why->code)) {
		int rc = replica_break(r, why, err);
		r->by_reading = true;
		return rc;
	}
	uint64_t wait_s = MEND_MIN_S;
	for (unsigned i = 0; i < r->mend_failures && wait_s < MEND_MAX_S && !no_space(why->code); i++)
		wait_s *= 2;
	wait_s = min_u64(wait_s, MEND_MAX_S);
	r->mend_failures += !no_space(why->code); // space is asked after at each round, as retention does
	r->unread_failures = why->code == -EIO ? r->unread_failures + 1 : 0;
	r->mend_ns = env_mono_ns(r->root->env) + wait_s * NS_PER_S;
	r->broken = r->passing = r->by_reading = true;
	if (r->unread_failures >= STALL_TRIES)
		atomic_store(&r->digests_given_up, true);
	r->why = *why;
	log_error("replica cannot be %s, and is looked at again protection=%s seconds=%llu reason=\"%s\"", mend_lack(r), r->name,
		  (unsigned long long)wait_s, why->text);
	return err_set(err, -EIO, "replica %s cannot be %s (%s); it is looked at again by itself", r->name, mend_lack(r), why->text);
}

uint64_t mend_in_ms(const struct replica *r)
{
	uint64_t now = env_mono_ns(r->root->env);
	return !r->broken || !r->passing ? 0 : max_u64(1, r->mend_ns > now ? (r->mend_ns - now) / 1000000 : 1);
}

// --- holds ---

static int held_add(struct replica *r, uint64_t number, unsigned holds)
{
	for (size_t i = 0; i < r->held_count; i++)
		if (r->held[i].number == number) {
			r->held[i].holds += holds;
			return 0;
		}
	struct held *more = realloc(r->held, (r->held_count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	r->held = more;
	r->held[r->held_count++] = (struct held){.number = number, .holds = holds};
	return 0;
}

// The holds of all points, for as long as `points` is made anew.
static int held_take(struct replica *r)
{
	for (size_t i = 0; i < r->point_count; i++) {
		if (r->points[i].holds && held_add(r, r->points[i].number, r->points[i].holds))
			return -ENOMEM;
		r->points[i].holds = 0;
	}
	return 0;
}

static void held_drop(struct replica *r, size_t i)
{
	r->held_count--;
	memmove(&r->held[i], &r->held[i + 1], (r->held_count - i) * sizeof(*r->held));
}

void held_give(struct replica *r)
{
	for (size_t i = r->held_count; i-- > 0;) {
		struct point_info *point = replica_point(r, r->held[i].number);
		if (!point)
			continue;
		point->holds += r->held[i].holds;
		held_drop(r, i);
	}
}

bool held_release(struct replica *r, uint64_t number)
{
	for (size_t i = 0; i < r->held_count; i++)
		if (r->held[i].number == number) {
			if (--r->held[i].holds == 0)
				held_drop(r, i);
			return true;
		}
	return false;
}

bool held_unknown(const struct replica *r)
{
	for (size_t i = 0; i < r->held_count; i++)
		if (r->held[i].number == 0)
			return true;
	return false;
}

int replica_hold_unread(struct replica *r, uint64_t number)
{
	LOCK_SCOPE(&r->lock);
	struct point_info *point = replica_point(r, number);
	if (!point)
		return held_add(r, number, 1);
	point->holds++;
	return 0;
}

// --- again ---

bool replica_is_broken(struct replica *r)
{
	LOCK_SCOPE(&r->lock);
	return r->broken;
}

void replica_keep_broken(struct replica *r)
{
	LOCK_SCOPE(&r->lock);
	r->passing = false;
}

int replica_mend(struct replica *r)
{
	copies_round(r);
	{
		LOCK_SCOPE(&r->lock); // retention may take long: it is not waited for to learn that there is nothing to do
		if (!r->broken || !r->passing)
			return 0;
	}
	LOCK_SCOPE(&r->retain_lock);
	LOCK_SCOPE(&r->lock);
	if (!r->broken || !r->passing || r->gone || r->session_open || r->opening || env_mono_ns(r->root->env) < r->mend_ns || held_take(r))
		return 0;
	r->broken = r->passing = r->by_reading = false;
	r->why = (struct err){.code = 0};
	replica_recover_locked(r);
	held_give(r);
	if (!r->broken)
		log_info("replica can be read again protection=%s", r->name);
	return !r->broken;
}
