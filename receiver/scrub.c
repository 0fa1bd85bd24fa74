// SPDX-License-Identifier: Apache-2.0
// A scrub, slice by slice: which blocks are next, and what the proof of a slice (scrub_slice.c) leads to. docs/store.md, "Scrub". What it promises:
//
//	S1  the durable position is past a block only when every version of it was read and proven, or found damaged and durably noted
//	S2  what is known to be damaged is in memory before the next call is answered, and on disk before the position moves
//	S3  the set of damage never claims less than was found
//
// Locks: retain_lock over a slice, so that no point goes away under it; `lock` only to begin and to take in what was found.
#include "receiver/scrub.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/chain.h"
#include "receiver/copies.h"
#include "receiver/overlays.h"
#include "receiver/scrub_slice.h"

#include <errno.h>

enum { SCRUB_TRIES = 3, NS_PER_S = 1000000000 };

// --- taking in what was found ---

static int record_write(struct replica *r, const char *path, const char *text, size_t len, bool *ret_changed)
{
	if (!r->scrub_apart)
		return copies_replace(r->root, r->name, path, text, len, ret_changed);
	int rc = copies_rejoin(r->root, r->name, path, text, len);
	*ret_changed = rc == 0;
	r->scrub_apart = rc != 0;
	return rc;
}

static int state_save(struct replica *r, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char path[REPLICA_PATH_SIZE];
	bool changed = false;
	if (r->gone)
		return err_set(err, -ENOENT, "%s was removed", r->name);
	int rc = scrub_encode(&r->scrub, &r->prot, &text, &len);
	replica_file(r, path, "scrub.json");
	if (rc == 0)
		rc = record_write(r, path, text, len, &changed);
	if (rc)
		copies_look(r); // where it is changed it counts without a copy, which the keeper makes
	if (rc && !changed)
		return err_sys(err, rc, "%s: replace", path);
	r->scrub_unsaved = false;
	r->scrub_saved_ns = env_mono_ns(r->root->env);
	return 0;
}

int scrub_record(struct replica *r, struct err *err)
{
	return state_save(r, err);
}

// What is known of the range is what was found in it now: every version was looked at. True when that is news.
static bool found_take(struct replica *r, const struct slice *s)
{
	struct damage_set *set = &r->scrub.damage;
	bool had = false;
	for (uint64_t i = s->first; i < s->end && !had; i++)
		had = damage_touches(set, (uint16_t)s->disk, i);
	if (!had && s->found.count == 0)
		return false;
	damage_clear(set, (uint16_t)s->disk, s->first, s->end - s->first);
	for (unsigned i = 0; i < s->found.count; i++)
		damage_add(set, &s->found.run[i]);
	r->scrub_unsaved = true;
	(void)scrub_poison(r, NULL);
	r->reopen = r->reopen || (r->session_open && damage_has_open(&s->found));
	return true;
}

static void pass_end(struct replica *r)
{
	r->scrub.open = false;
	if (r->scrub.pass.point)
		return;
	r->scrub.ended = true;
	r->scrub.suspect = false;
	if (r->scrub.pass.mismatches == 0) { // what could not be read can be again, or is there no more
		atomic_store(&r->digests_given_up, false);
		tables_kept_remove(r);
	}
	r->scrub.last = r->scrub.pass;
	r->scrub.ended_ns = env_wall_ns(r->root->env);
	log_info("scrub of every point ended protection=%s blocks=%llu mismatches=%llu", r->name,
		 (unsigned long long)r->scrub.last.proven, (unsigned long long)r->scrub.last.mismatches);
	if (r->scrub.last.mismatches)
		event_emit(EVENT_CRITICAL, "damage", r->name, NULL, "a scrub of %s has ended: %llu block%s %s damaged, and points that show them are in quarantine",
			   r->name, (unsigned long long)r->scrub.last.mismatches, PLURAL(r->scrub.last.mismatches), ARE(r->scrub.last.mismatches));
}

// The position moves past the slice; past the last disk the pass ends.
static void pass_move(struct replica *r, const struct slice *s)
{
	struct scrub_pass *pass = &r->scrub.pass;
	pass->proven += s->proofs;
	pass->mismatches += damage_blocks(&s->found);
	pass->block = s->end;
	while (r->scrub.open && pass->block >= size_blocks(r->prot.disk[pass->disk].size)) {
		if (pass->disk + 1 == r->prot.disk_count) {
			pass_end(r);
			return;
		}
		pass->disk++;
		pass->block = 0;
	}
}

// Holds `lock`. What was found is true from here on, whether or not it can be saved; the position moves only when it was (S1).
static int slice_take(struct replica *r, const struct slice *s, struct scrub_step *ret_step, struct err *err)
{
	struct scrub_state before = r->scrub;
	if (before.pass.point == 0 || s->found.count) // a pass over one point that finds nothing says nothing of the others
		(void)found_take(r, s);
	scrub_forget(r);
	struct damage_set known = r->scrub.damage;
	pass_move(r, s);
	uint64_t saved_s = (env_mono_ns(r->root->env) - r->scrub_saved_ns) / NS_PER_S;
	int rc = r->scrub_unsaved || !r->scrub.open || saved_s >= SCRUB_SAVE_SECONDS ? state_save(r, err) : 0;
	if (rc) {
		r->scrub = before;
		r->scrub.damage = known;
		return rc;
	}
	*ret_step = (struct scrub_step){.bytes = s->bytes, .ended = !r->scrub.open, .mismatches = damage_blocks(&s->found)};
	return 0;
}

static void range_adapt(struct replica *r, uint64_t proofs)
{
	if (proofs > SCRUB_PROOFS)
		r->scrub_range = max_u64(1, r->scrub_range / 2);
	else if (proofs < SCRUB_PROOFS / 2)
		r->scrub_range = min_u64(SCRUB_RANGE_MAX, r->scrub_range * 2);
}

static bool overlays_made_good(struct replica *r)
{
	const struct err why = {.code = -EBADMSG};
	LOCK_SCOPE(&r->lock);
	return !r->broken && overlays_in_turn(r, &why);
}

// Before the replica breaks for it what is damaged is made good, in turn or not; where that cannot be now, the slice is done again later.
static int digests_damaged(struct replica *r, struct err *err)
{
	const struct err why = *err;
	int rc = r->broken ? 0 : overlays_were_it(r, &why, err);
	if (rc)
		return rc > 0 ? -EAGAIN : rc;
	return replica_break(r, &why, err);
}

// Under retain_lock. -EAGAIN: a point was committed while something was found; look again.
static int slice_do(struct replica *r, unsigned tries, struct scrub_step *ret_step, struct err *err)
{
	AUTO_FREE struct slice *s = calloc(1, sizeof(*s));
	uint64_t point = 0;
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	{
		LOCK_SCOPE(&r->lock);
		if (r->broken)
			return replica_ready(r, err);
		if (!r->scrub.open)
			return err_set(err, -ENODATA, "%s is not scrubbed", r->name);
		int rc = replica_base_count(r, err);
		if (rc) {
			const struct err why = *err;
			return mend_passes(rc) ? rc : replica_break(r, &why, err);
		}
		uint64_t blocks = size_blocks(r->prot.disk[r->scrub.pass.disk].size);
		point = r->scrub.pass.point;
		s->replica = r;
		s->disk = r->scrub.pass.disk;
		s->first = min_u64(r->scrub.pass.block, blocks);
		s->end = min_u64(blocks, s->first + min_u64(r->scrub_range, max_u64(1, r->scrub.pass.rate / BLOCK_SIZE))); // a second at most
	}
	s->open_first = true;
	int rc = slice_run(s, point, err);
	if (rc == -EILSEQ) {
		if (overlays_made_good(r))
			return -EAGAIN; // all that it holds may be sound
		*s = (struct slice){.replica = r, .disk = s->disk, .first = s->first, .end = s->end}; // what the first run had is closed
		rc = slice_run(s, point, err);
	}
	if (chain_is_damaged(rc) && rc != -EBADMSG && !(rc == -ENOENT && point) && overlays_made_good(r)) // that point was folded away, perhaps
		return -EAGAIN;
	LOCK_SCOPE(&r->lock);
	if (rc == -EBADMSG) // a digest file: docs/store.md, "Errors while running"
		return digests_damaged(r, err);
	if (rc)
		return rc;
	if (r->broken)
		return replica_ready(r, err);
	if (damage_has_open(&s->found) && replica_last_point(r) != s->newest && tries + 1 < SCRUB_TRIES)
		return -EAGAIN; // that point may hold the blocks whole
	rc = slice_take(r, s, ret_step, err);
	range_adapt(r, s->proofs);
	return rc;
}

static void slice_failed(struct replica *r, int rc, const struct err *why)
{
	LOCK_SCOPE(&r->lock);
	r->scrub_why = rc && rc != -ENODATA ? *why : (struct err){0};
	if (rc == -ENOENT && r->scrub.open && r->scrub.pass.point)
		r->scrub.open = false; // its point was folded away: there is nothing to go on with
}

int scrub_slice(struct replica *r, struct scrub_step *ret_step, struct err *err)
{
	struct err why = {0};
	int rc = -EAGAIN;
	if (pthread_mutex_trylock(&r->retain_lock))
		return err_set(err, -EAGAIN, "retention works on %s", r->name);
	for (unsigned tries = 0; rc == -EAGAIN && tries < SCRUB_TRIES; tries++)
		rc = slice_do(r, tries, ret_step, &why);
	(void)pthread_mutex_unlock(&r->retain_lock);
	slice_failed(r, rc, &why);
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

static int range_unreadable(struct replica *r, uint16_t disk, uint64_t first, uint64_t end, bool *ret_found, struct err *err)
{
	AUTO_FREE struct slice *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	*s = (struct slice){.replica = r, .disk = disk, .first = first, .end = end};
	int rc = slice_run(s, 0, err);
	if (rc || s->found.count == 0)
		return rc;
	*ret_found = true;
	LOCK_SCOPE(&r->lock);
	if (r->broken)
		return replica_ready(r, err);
	(void)found_take(r, s);
	return state_save(r, err);
}

int scrub_unreadable(struct replica *r, uint16_t disk, uint64_t first, uint64_t count, const struct err *why, struct err *err)
{
	bool found = false;
	int rc = 0;
	for (uint64_t at = first, end; rc == 0 && at < first + count; at = end) {
		end = min_u64(first + count, at + SCRUB_PROOFS);
		rc = range_unreadable(r, disk, at, end, &found, err);
	}
	return rc || found ? rc : err_set(err, why->code, "%s", why->text); // not in the blocks, then
}

// --- passes ---

static int pass_begin(struct replica *r, uint64_t point, uint64_t rate, bool asked, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	if (r->broken)
		return replica_ready(r, err);
	struct point_info *at = NULL;
	int rc = replica_point_asked(r, point, &at, err);
	if (rc)
		return rc;
	struct scrub_state before = r->scrub;
	r->scrub.open = true;
	r->scrub.pass = (struct scrub_pass){.point = point, .rate = rate, .asked = asked, .began_ns = env_wall_ns(r->root->env)};
	rc = state_save(r, err);
	if (rc)
		r->scrub = before;
	r->scrub_run_ns = env_mono_ns(r->root->env);
	r->scrub_run_from = 0;
	r->scrub_held = r->scrub_late_told = false;
	copies_look(r);
	return rc;
}

int scrub_begin(struct replica *r, uint64_t point, uint64_t rate, struct err *err)
{
	return pass_begin(r, point, rate, true, err);
}

int scrub_begin_due(struct replica *r, uint64_t rate, struct err *err)
{
	return pass_begin(r, 0, rate, false, err);
}

int scrub_end(struct replica *r, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	if (!r->scrub.open)
		return 0;
	if (r->broken)
		return replica_ready(r, err);
	r->scrub.open = false;
	return state_save(r, err);
}

int scrub_save(struct replica *r, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	return r->broken || (!r->scrub.open && !r->scrub_unsaved) ? 0 : state_save(r, err);
}
