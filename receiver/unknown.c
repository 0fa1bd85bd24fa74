// SPDX-License-Identifier: Apache-2.0
// Digests that are lost: which points show the blocks that they were of. What it promises: before a session, a fold or a merge goes on over a list or a table that is
// damaged, every point that shows a block whose digest nobody knows is in quarantine, durably; and of the newest one, the source is told to send it whole.
//
// Works on digests alone and reads no block. docs/store.md, "Lost digests".
#include "receiver/replica.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <string.h>

// The walk over the base's table, then each list, oldest first.
struct walk {
	const struct newest *newest;
	const struct digest_rest *rest;
	struct table *state; // NULL: not wanted
	struct table since;  // in place of digests: the point from which that of the block is unknown, 0: it is known
	struct damage_set *found;
	uint16_t disk;
	uint64_t number, before; // of the point whose version comes, and of the one below it
};

static struct digest point_put(uint64_t number)
{
	struct digest as = {{0}};
	memcpy(as.bytes, &number, sizeof(number));
	return as;
}

static uint64_t point_get(const struct digest *as)
{
	uint64_t number = 0;
	if (as)
		memcpy(&number, as->bytes, sizeof(number));
	return number;
}

// The versions of the block from `since` to `to` are unknown; what was known already is told by whoever adds them up.
static void version_end(struct walk *w, uint64_t index, uint64_t to)
{
	const struct damage run = {.disk = w->disk, .first = index, .count = 1, .from = point_get(table_get(&w->since, index)), .to = to};
	if (run.from && run.from <= to) // else no point shows it: the oldest one names the block itself
		damage_add(w->found, &run);
}

static int version_take(struct walk *w, uint64_t index, bool unknown, struct err *err)
{
	const struct digest *since = table_get(&w->since, index);
	struct digest next = point_put(unknown ? w->number : 0);
	if (point_get(since) && unknown) // already
		return 0;
	if (point_get(since))
		version_end(w, index, w->before);
	if (!unknown && !since)
		return 0;
	return table_set(&w->since, index, &next) ? err_set(err, -ENOMEM, "out of memory for digests") : 0;
}

static int state_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct walk *w = context;
	int rc = version_take(w, index, digest_is_unknown(digest), err);
	if (rc || !w->state || (digest_is_zero(digest) && !table_get(w->state, index)))
		return rc;
	uint64_t chunks = w->state->chunk_count;
	if (table_set(w->state, index, digest))
		return err_set(err, -ENOMEM, "out of memory for digests");
	return w->state->chunk_count > chunks && w->rest && w->rest->grown ? w->rest->grown(w->rest->context, err) : 0;
}

static void list_forget(void *context)
{
	struct walk *w = context;
	if (w->state)
		table_clear(w->state);
	table_clear(&w->since);
}

// A list that is laid over nothing, as that of a first sync is, can be undone: it is read once.
static int list_walk(const struct replica *r, struct walk *w, struct point_file *point, struct err *err)
{
	bool first = w->since.set == 0 && (!w->state || w->state->set == 0);
	const struct digests_taker to = {.each = state_take, .undo = first ? list_forget : NULL, .rest = w->rest, .context = w};
	int rc = replica_read_point(r, w->number, point, err);
	return rc ? rc : digests_take_point(r, point, w->disk, &to, err);
}

static int disk_walk(const struct replica *r, struct walk *w, struct point_file *point, struct err *err)
{
	const struct digests_taker to = {.each = state_take, .rest = w->rest, .context = w};
	w->number = w->newest->count ? w->newest->number[0] : 0; // without a point the next sync compares all
	int rc = digests_take_base(r, w->disk, w->newest->size[w->disk], &to, err);
	for (size_t p = 0; rc == 0 && p < w->newest->count; p++) {
		w->before = p ? w->number : 0;
		w->number = w->newest->number[p];
		rc = list_walk(r, w, point, err);
	}
	for (uint64_t b = table_next(&w->since, 0); rc == 0 && b != TABLE_END; b = table_next(&w->since, b + 1))
		version_end(w, b, DAMAGE_OPEN);
	return rc;
}

int newest_of(const struct replica *r, struct newest *ret_newest, struct err *err)
{
	ret_newest->count = r->point_count;
	ret_newest->number = calloc(r->point_count ? r->point_count : 1, sizeof(*ret_newest->number));
	if (!ret_newest->number)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t p = 0; p < r->point_count; p++)
		ret_newest->number[p] = r->points[p].number;
	for (unsigned i = 0; i < r->prot.disk_count; i++)
		ret_newest->size[i] = r->prot.disk[i].size;
	return 0;
}

void newest_done(struct newest *newest)
{
	free(newest->number);
	newest->number = NULL;
}

int digests_of_newest(const struct replica *r, const struct newest *newest, struct table *state, struct damage_set *ret_unknown, const struct digest_rest *rest,
		      struct err *err)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	int rc = point ? 0 : err_set(err, -ENOMEM, "out of memory");
	ret_unknown->count = 0;
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++) {
		struct walk w = {.newest = newest, .rest = rest, .state = state ? &state[i] : NULL, .found = ret_unknown, .disk = (uint16_t)i};
		table_init(&w.since, size_blocks(newest->size[i]));
		rc = disk_walk(r, &w, point, err);
		table_done(&w.since);
	}
	return rc;
}

// What was known before is not noted again: the set would get coarser each time.
static bool runs_add(struct replica *r, const struct damage_set *unknown)
{
	bool news = false;
	for (unsigned i = 0; i < unknown->count; i++)
		if (!damage_covers(&r->scrub.damage, &unknown->run[i])) {
			damage_add(&r->scrub.damage, &unknown->run[i]);
			news = true;
		}
	return news;
}

int unknown_note(struct replica *r, const struct damage_set *unknown, struct err *err)
{
	struct err why = {0};
	bool news = runs_add(r, unknown);
	if (news) {
		r->scrub_unsaved = true;
		(void)scrub_poison(r, NULL);
		r->reopen = r->reopen || (r->session_open && damage_has_open(unknown));
		log_error("digests are lost, and points that show what they were of are in quarantine protection=%s blocks=%llu", r->name,
			  (unsigned long long)damage_blocks(unknown));
		event_emit(EVENT_CRITICAL, "damage", r->name, NULL, "digests of %llu block%s of %s are damaged: points that show them are in quarantine",
			   (unsigned long long)damage_blocks(unknown), PLURAL(damage_blocks(unknown)), r->name);
	}
	if (unknown->count == 0 || !r->scrub_unsaved)
		return 0;
	int rc = scrub_record(r, &why);
	if (no_space(rc))
		return err_set(err, -ENOSPC, "the target's store %s is full: free space there; %s", r->store_path, why.text);
	return rc ? err_set(err, -EAGAIN, "%s: what is damaged cannot be noted: %s", r->name, why.text) : 0;
}

// What is unknown of the newest point, quarantined: for whoever met a digest that is.
static int unknown_find(struct replica *r, struct err *err)
{
	AUTO_FREE struct damage_set *unknown = calloc(1, sizeof(*unknown));
	struct newest newest = {.count = 0};
	int rc = unknown ? newest_of(r, &newest, err) : err_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = digests_of_newest(r, &newest, NULL, unknown, NULL, err);
	newest_done(&newest);
	return rc ? rc : unknown_note(r, unknown, err);
}

bool unknown_noted(const struct replica *r, unsigned disk, uint64_t index, uint64_t point)
{
	const struct damage run = {.disk = (uint16_t)disk, .first = index, .count = 1, .from = point, .to = point};
	return damage_covers(&r->scrub.damage, &run);
}

static uint64_t unknown_next(const struct table *digests, uint64_t from)
{
	uint64_t b = table_next(digests, from);
	while (b != TABLE_END && !digest_is_unknown(table_get(digests, b)))
		b = table_next(digests, b + 1);
	return b;
}

int unknown_settle(struct replica *r, unsigned disk, const struct table *digests, uint64_t point, bool lost, struct err *err)
{
	uint64_t b = unknown_next(digests, 0);
	if (b == TABLE_END && !lost)
		return 0;
	int rc = unknown_find(r, err);
	for (; rc == 0 && b != TABLE_END; b = unknown_next(digests, b + 1))
		if (!unknown_noted(r, disk, b, point))
			rc = err_set(err, -EIO, "digests of disk %s could not be read where they can be now", r->prot.disk[disk].name);
	return rc;
}
