// SPDX-License-Identifier: Apache-2.0
// One slice of a scrub, and what it leads to. docs/store.md, "Scrub". What it promises:
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
#include "receiver/scrub_chain.h"

#include <errno.h>
#include <string.h>

enum { SCRUB_TRIES = 3, SCRUB_LOGGED = 200, NS_PER_S = 1000000000 };

struct slice {
	struct replica *replica;
	unsigned disk;
	uint64_t first, end; // blocks
	struct scrub_chain chain;
	uint64_t *entries;	 // of the list of each level
	struct digest *digest;	 // of each block, as the level that was taken in last shows it
	uint64_t *shown;	 // the point whose version that is; 0: the disk does not reach so far yet
	uint64_t *bad;		 // the point from which the version is damaged; 0: it is sound, or not looked at
	bool *named;		 // by the level that was taken in last
	unsigned char *block;
	struct damage_set found;
	uint64_t bytes, proofs;
	uint64_t unread; // blocks in whose place a table had something else, or could not be read
	uint64_t newest; // point, when the slice began
};

// --- what there is ---

static int points_snapshot(struct slice *s, struct err *err)
{
	struct replica *r = s->replica;
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (!point || replica_points(r, &points, &count))
		return err_set(err, -ENOMEM, "out of memory");
	if (count == 0)
		return err_set(err, -ENOENT, "%s has no point yet", r->name);
	s->chain = (struct scrub_chain){.replica = r, .disk = s->disk, .count = count};
	s->chain.level = calloc(count, sizeof(*s->chain.level));
	s->entries = calloc(count, sizeof(*s->entries));
	if (!s->chain.level || !s->entries)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = replica_read_point(r, points[i].number, point, err);
		s->chain.level[i] = (struct scrub_level){.number = points[i].number, .size = point->disk[s->disk].size};
		s->entries[i] = point->disk[s->disk].digests;
	}
	s->newest = points[count - 1].number;
	return rc;
}

static int slice_open(struct slice *s, struct err *err)
{
	size_t n = (size_t)(s->end - s->first);
	int rc = points_snapshot(s, err);
	if (rc)
		return rc;
	s->digest = calloc(n, sizeof(*s->digest));
	s->shown = calloc(n, sizeof(*s->shown));
	s->bad = calloc(n, sizeof(*s->bad));
	s->named = calloc(n, sizeof(*s->named));
	s->block = malloc(BLOCK_SIZE);
	if (!s->digest || !s->shown || !s->bad || !s->named || !s->block)
		return err_set(err, -ENOMEM, "out of memory for a scrub");
	return scrub_chain_open(&s->chain, err);
}

static void slice_close(struct slice *s)
{
	scrub_chain_close(&s->chain);
	free(s->chain.level);
	free(s->entries);
	free(s->digest);
	free(s->shown);
	free(s->bad);
	free(s->named);
	free(s->block);
}

// --- which digests hold ---

static int digest_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct slice *s = context;
	(void)err;
	s->digest[index - s->first] = *digest;
	s->named[index - s->first] = true;
	return 0;
}

static int base_read(struct slice *s, struct err *err)
{
	const struct replica *r = s->replica;
	AUTO_FILE struct env_file *file = NULL;
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)s->disk, .size = s->chain.level[0].size};
	int rc = replica_open_file(r, ENV_READ, &file, err, "base/%s.digests", r->prot.disk[s->disk].name);
	if (rc)
		return rc;
	rc = digest_table_range(file, &of, s->first, min_u64(s->end, size_blocks(of.size)), digest_take, s, err);
	return rc ? err_wrap(err, "%s/base/%s.digests", r->name, r->prot.disk[s->disk].name) : 0;
}

// A growth may be writing the first sector just now: digests.c.
static int base_take(struct slice *s, struct err *err)
{
	struct err why = {0};
	int rc = base_read(s, &why);
	if (rc != -EBADMSG)
		return rc ? err_set(err, rc, "%s", why.text) : 0;
	LOCK_SCOPE(&s->replica->lock);
	return base_read(s, err);
}

static int list_take(struct slice *s, size_t at, struct err *err)
{
	const struct replica *r = s->replica;
	AUTO_FILE struct env_file *file = NULL;
	unsigned long long number = s->chain.level[at].number;
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)s->disk, .size = s->chain.level[at].size};
	const char *name = r->prot.disk[s->disk].name;
	int rc = replica_open_file(r, ENV_READ, &file, err, "points/%llu/%s.digests", number, name);
	if (rc)
		return rc;
	rc = digest_list_range(file, &of, s->entries[at], s->first, min_u64(s->end, size_blocks(of.size)), digest_take, s, err);
	return rc ? err_wrap(err, "%s/points/%llu/%s.digests", r->name, number, name) : 0;
}

// What the list says cannot be known: every block of the level is in doubt, and is looked at as none that has a digest is.
static void list_unread(struct slice *s, size_t at, const struct err *why)
{
	uint64_t blocks = min_u64(s->end, size_blocks(s->chain.level[at].size));
	log_error("the digests of a point cannot be read protection=%s point=%llu disk=%s reason=\"%s\"", s->replica->name,
		  (unsigned long long)s->chain.level[at].number, s->replica->prot.disk[s->disk].name, why->text);
	for (uint64_t i = s->first; i < blocks; i++) {
		s->digest[i - s->first] = digest_unknown;
		s->named[i - s->first] = true;
	}
}

// Lays level `at` over what is there: `digest` and `shown` are as it shows them. What its disk has and the one before had not is zeros.
static int level_take(struct slice *s, size_t at, struct err *err)
{
	uint64_t blocks = min_u64(s->end, size_blocks(s->chain.level[at].size));
	memset(s->named, 0, (size_t)(s->end - s->first) * sizeof(*s->named));
	struct err why = {0};
	int rc = at == 0 ? base_take(s, &why) : 0;
	if (rc == 0)
		rc = list_take(s, at, &why);
	if (rc == -EIO) {
		list_unread(s, at, &why);
		rc = 0;
	} else if (rc) {
		return err_set(err, rc, "%s", why.text);
	}
	for (uint64_t i = s->first; rc == 0 && i < blocks; i++) {
		s->named[i - s->first] |= s->shown[i - s->first] == 0;
		if (s->named[i - s->first])
			s->shown[i - s->first] = s->chain.level[at].number;
	}
	return rc;
}

// --- proving ---

// Whether the block is what its digest says, as level `at` shows it. An error other than -ENOMEM is an answer: what cannot be read is
// damaged.
static int prove(struct slice *s, size_t at, uint64_t index, bool *ret_sound, struct err *err)
{
	const struct digest *wanted = &s->digest[index - s->first];
	struct err why = {0};
	int rc = scrub_chain_read(&s->chain, at, index, s->block, &why);
	if (rc == -ENOENT || chain_lacks(rc))
		return err_set(err, rc, "%s", why.text);
	struct digest found = digest_of(&s->replica->prot.digest, (uint16_t)s->disk, index, s->block);
	*ret_sound = rc == 0 && digest_equal(&found, wanted);
	s->proofs++;
	s->bytes += digest_is_zero(wanted) ? PIECE_SIZE : BLOCK_SIZE; // zeros are holes, which cost no reading
	if (!*ret_sound && s->replica->scrub.pass.mismatches + damage_blocks(&s->found) < SCRUB_LOGGED) // of a pass: a disk that dies has millions
		log_error("a block is not what its digest says protection=%s point=%llu disk=%s block=%llu reason=\"%s\"", s->replica->name,
			  (unsigned long long)s->chain.level[at].number, s->replica->prot.disk[s->disk].name, (unsigned long long)index,
			  rc ? why.text : "its digest differs");
	if (!*ret_sound && s->replica->scrub.pass.mismatches + damage_blocks(&s->found) == 0) // the first of a pass; its end tells how many
		event_emit(EVENT_CRITICAL, "damage", s->replica->name, NULL, "block %llu of disk %s of %s is damaged, as point %llu shows it", (unsigned long long)index,
			   s->replica->prot.disk[s->disk].name, s->replica->name, (unsigned long long)s->chain.level[at].number);
	return 0;
}

// The version of the block that is in doubt ends before level `at`, or with no level there is yet.
static void bad_end(struct slice *s, uint64_t index, uint64_t to)
{
	uint64_t from = s->bad[index - s->first];
	const struct damage run = {.disk = (uint16_t)s->disk, .first = index, .count = 1, .from = from, .to = to};
	if (from)
		damage_add(&s->found, &run);
	s->bad[index - s->first] = 0;
}

// Whether the tables of level `at` have nothing of a block that its list does not name: else who reads through it sees something else than the
// version below, or nothing at all where the table cannot be read. An error as in prove().
static int pass_through(struct slice *s, size_t at, uint64_t index, bool *ret_sound, struct err *err)
{
	struct err why = {0};
	bool holds = false;
	int rc = scrub_chain_holds(&s->chain, at, index, &holds, &why);
	if (rc == -ENOENT || chain_lacks(rc))
		return err_set(err, rc, "%s", why.text);
	*ret_sound = rc == 0 && !holds;
	if (!*ret_sound && s->replica->scrub.pass.mismatches + damage_blocks(&s->found) + s->unread++ < SCRUB_LOGGED)
		log_error("a block is shown by a table that should not have it protection=%s point=%llu disk=%s block=%llu reason=\"%s\"",
			  s->replica->name, (unsigned long long)s->chain.level[at].number, s->replica->prot.disk[s->disk].name,
			  (unsigned long long)index, rc ? why.text : "the list does not name it");
	return 0;
}

static int level_prove(struct slice *s, size_t at, struct err *err)
{
	uint64_t blocks = size_blocks(s->chain.level[at].size);
	int rc = level_take(s, at, err);
	for (uint64_t i = s->first; rc == 0 && i < s->end; i++) {
		bool sound = true;
		if (!s->named[i - s->first]) {
			rc = i < blocks && !s->bad[i - s->first] ? pass_through(s, at, i, &sound, err) : 0;
			if (rc == 0 && !sound)
				s->bad[i - s->first] = s->chain.level[at].number;
			continue;
		}
		if (at)
			bad_end(s, i, s->chain.level[at - 1].number);
		rc = prove(s, at, i, &sound, err);
		if (rc == 0 && !sound)
			s->bad[i - s->first] = s->chain.level[at].number;
	}
	return rc;
}

// Every version of every block of the slice.
static int versions_prove(struct slice *s, struct err *err)
{
	int rc = 0;
	for (size_t at = 0; rc == 0 && at < s->chain.count; at++)
		rc = level_prove(s, at, err);
	for (uint64_t i = s->first; rc == 0 && i < s->end; i++)
		bad_end(s, i, DAMAGE_OPEN);
	return rc;
}

// The blocks as one point shows them. -EUCLEAN with the first that is not sound, in `ret_bad`.
static int point_prove(struct slice *s, uint64_t number, struct err *err)
{
	size_t at = 0;
	while (at < s->chain.count && s->chain.level[at].number != number)
		at++;
	if (at == s->chain.count)
		return err_set(err, -ENOENT, "point %llu is there no more", (unsigned long long)number);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i <= at; i++)
		rc = level_take(s, i, err);
	for (uint64_t i = s->first; rc == 0 && i < s->end; i++) {
		bool sound = true;
		if (s->shown[i - s->first])
			rc = prove(s, at, i, &sound, err);
		if (rc == 0 && !sound)
			rc = err_set(err, -EUCLEAN, "block %llu differs", (unsigned long long)i);
	}
	return rc;
}

// A slice of its own: `point` 0 for every version. What is damaged in one point is looked at in all.
static int slice_run(struct slice *s, uint64_t point, struct err *err)
{
	struct replica *r = s->replica;
	unsigned disk = s->disk;
	uint64_t first = s->first, end = s->end;
	int rc = slice_open(s, err);
	if (rc == 0)
		rc = point ? point_prove(s, point, err) : versions_prove(s, err);
	slice_close(s);
	if (rc != -EUCLEAN)
		return rc;
	*s = (struct slice){.replica = r, .disk = disk, .first = first, .end = end};
	*err = (struct err){0};
	rc = slice_open(s, err);
	if (rc == 0)
		rc = versions_prove(s, err);
	slice_close(s);
	return rc;
}

// --- taking in what was found ---

static int state_save(struct replica *r, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char path[REPLICA_PATH_SIZE];
	int rc = scrub_encode(&r->scrub, &r->prot, &text, &len);
	replica_file(r, path, "scrub.json");
	if (rc == 0)
		rc = env_replace(r->root, r->name, path, text, len);
	if (rc)
		return err_sys(err, rc, "%s: replace", path);
	r->scrub_unsaved = false;
	r->scrub_saved_ns = env_mono_ns(r->root->env);
	return 0;
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
	scrub_poison(r);
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
	r->scrub.last = r->scrub.pass;
	r->scrub.ended_ns = env_wall_ns(r->root->env);
	log_info("scrub of every point ended protection=%s blocks=%llu mismatches=%llu", r->name,
		 (unsigned long long)r->scrub.last.proven, (unsigned long long)r->scrub.last.mismatches);
	if (r->scrub.last.mismatches)
		event_emit(EVENT_CRITICAL, "damage", r->name, NULL, "a scrub of %s has ended: %llu blocks are damaged, and points that show them are in quarantine",
			   r->name, (unsigned long long)r->scrub.last.mismatches);
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
		uint64_t blocks = size_blocks(r->prot.disk[r->scrub.pass.disk].size);
		point = r->scrub.pass.point;
		s->replica = r;
		s->disk = r->scrub.pass.disk;
		s->first = min_u64(r->scrub.pass.block, blocks);
		s->end = min_u64(blocks, s->first + min_u64(r->scrub_range, max_u64(1, r->scrub.pass.rate / BLOCK_SIZE))); // a second at most
	}
	int rc = slice_run(s, point, err);
	LOCK_SCOPE(&r->lock);
	if (rc == -EBADMSG) { // a digest file: docs/store.md, "Errors while running"
		struct err why = *err;
		return replica_break(r, &why, err);
	}
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
	if (r->point_count == 0)
		return err_set(err, -ENOENT, "%s has no point yet", r->name);
	if (point && !replica_point(r, point))
		return err_set(err, -ENOENT, "%s has no point %llu; list them with 'kagami points %s'", r->name, (unsigned long long)point,
			       r->name);
	struct scrub_state before = r->scrub;
	r->scrub.open = true;
	r->scrub.pass = (struct scrub_pass){.point = point, .rate = rate, .asked = asked, .began_ns = env_wall_ns(r->root->env)};
	int rc = state_save(r, err);
	if (rc)
		r->scrub = before;
	r->scrub_run_ns = env_mono_ns(r->root->env);
	r->scrub_run_from = 0;
	r->scrub_held = r->scrub_late_told = false;
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
