// SPDX-License-Identifier: Apache-2.0
// What known damage means for everybody else: which points are refused, what a session is told, and when a block is whole again.
// docs/store.md, "Scrub".
#include "receiver/scrub.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/copies.h"
#include "receiver/json_file.h"
#include "receiver/replica.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define NS_PER_S UINT64_C(1000000000)

static uint64_t bytes_before(const struct replica *r, const struct scrub_pass *pass)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < pass->disk; i++)
		bytes += r->prot.disk[i].size;
	return bytes + min_u64(pass->block * BLOCK_SIZE, r->prot.disk[pass->disk].size);
}

// --- coming into memory ---

static int record_read(struct replica *r, const char *path, struct scrub_state *ret_state, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(r->root, path, JSON_FILE_MAX, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s", path);
	rc = scrub_decode(text, len, &r->prot, ret_state, err);
	return rc ? err_wrap(err, "%s", path) : 0;
}

static bool is_there(const struct replica *r, const char *path)
{
	struct env_stat st;
	return env_stat(r->root, path, &st) != -ENOENT;
}

// Whether anything was ever found, of a replica that has neither the record nor its copy: what could not be used is kept beside.
static bool was_there(struct replica *r)
{
	AUTO_FREE uint64_t *number = NULL;
	size_t count = 0;
	char path[REPLICA_PATH_SIZE];
	replica_file(r, path, "scrub.json.damaged");
	bool found = is_there(r, path);
	if (!found)
		(void)replica_numbers(r, &number, &count, NULL); // the points are not in memory yet
	for (unsigned d = 0; !found && d < r->prot.disk_count; d++) {
		replica_file(r, path, "base/%s.digests.damaged", r->prot.disk[d].name);
		found = is_there(r, path);
		for (size_t i = 0; !found && i < count; i++) {
			replica_file(r, path, "points/%llu/%s.qcow2.damaged", (unsigned long long)number[i], r->prot.disk[d].name);
			found = is_there(r, path);
		}
	}
	return found;
}

static void record_lose(struct replica *r, const struct err *why)
{
	r->scrub = (struct scrub_state){.suspect = true};
	r->scrub_why = *why;
	log_error("the record of scrubs is lost: every point is in doubt until it is proven protection=%s reason=\"%s\"", r->name, why->text);
	event_emit(EVENT_CRITICAL, "damage", r->name, NULL, "the record of scrubs of %s is lost: every point is in doubt until it is proven", r->name);
}

// The record was read. A copy that is there says the same, unless somebody put one of the two back: then what either claims is damaged.
static void copy_join(struct replica *r, const char *path, const char *copy_path)
{
	struct copies_state state;
	AUTO_FREE struct scrub_state *copy = malloc(sizeof(*copy));
	copies_state(r->root, path, &state);
	if (state.copy || state.alike || !copy || record_read(r, copy_path, copy, NULL))
		return;
	for (unsigned i = 0; i < copy->damage.count; i++)
		damage_add(&r->scrub.damage, &copy->damage.run[i]);
	r->scrub.suspect |= copy->suspect;
	r->scrub.open = false; // a pass of one of them says nothing of what the other one doubts
	r->scrub_apart = r->scrub_unsaved = true;
	log_warning("scrub.json and its copy differ, and what either claims is damaged is in quarantine protection=%s", r->name);
	event_emit(EVENT_WARNING, "damage", r->name, NULL, "%s and its copy differed: an older one was put back; what either claims is damaged is in quarantine until a scrub has proven it", path);
}

// A record that is lost would let a quarantined point pass: then every point is in doubt, until a pass has proven them all.
static void record_load(struct replica *r)
{
	char path[REPLICA_PATH_SIZE], copy_path[REPLICA_PATH_SIZE];
	struct err why = {0};
	replica_file(r, path, "scrub.json");
	replica_file(r, copy_path, "scrub.json" COPY_SUFFIX);
	int rc = record_read(r, path, &r->scrub, &why);
	if (rc == 0) {
		copy_join(r, path, copy_path);
		return;
	}
	int copy = copies_stand_in(r->root, path, rc) ? record_read(r, copy_path, &r->scrub, NULL) : rc;
	if (copy && !(rc == -ENOENT && copy == -ENOENT && !was_there(r)))
		record_lose(r, &why);
}

bool scrub_known(const struct replica *r)
{
	const struct scrub_state *s = &r->scrub;
	return s->open || s->ended || s->suspect || s->damage.count;
}

void scrub_load(struct replica *r)
{
	r->scrub = (struct scrub_state){.open = false};
	r->scrub_apart = false;
	r->scrub_range = SCRUB_PROOFS / 4;
	r->scrub_saved_ns = r->scrub_run_ns = env_mono_ns(r->root->env);
	record_load(r);
	r->scrub_run_from = r->scrub.open ? bytes_before(r, &r->scrub.pass) : 0;
}

// --- points go ---

// A point from `from` to `to`: numbers rise, with gaps.
static bool point_shows(const void *context, uint64_t from, uint64_t to)
{
	const struct replica *r = context;
	size_t at = replica_point_from(r, from);
	return to == DAMAGE_OPEN || (at < r->point_count && r->points[at].number <= to);
}

void scrub_forget(struct replica *r)
{
	if (damage_prune(&r->scrub.damage, point_shows, r))
		r->scrub_unsaved = true; // the scrub makes it durable; until then a crash brings back a claim about no point
}

// --- a session ---

static int poison(struct replica *r, struct table *state, uint64_t block, struct err *err)
{
	uint64_t chunks = state->chunk_count;
	if (table_set(state, block, &digest_unknown))
		return err_set(err, -ENOMEM, "out of memory for digests");
	return state->chunk_count > chunks ? memory_reserve(r, BUDGET_POINTS, err) : 0;
}

int scrub_poison(struct replica *r, struct err *err)
{
	int rc = 0;
	for (unsigned i = 0; rc == 0 && r->session_open && i < r->scrub.damage.count; i++) {
		const struct damage *run = &r->scrub.damage.run[i];
		struct table *state = &r->state[run->disk];
		uint64_t end = min_u64(run->first + run->count, state->blocks);
		for (uint64_t b = run->first; rc == 0 && run->to == DAMAGE_OPEN && b < end; b++)
			rc = poison(r, state, b, err);
	}
	r->reopen = r->reopen || rc; // without memory for what differs no answer would be right
	return rc;
}

static bool whole_in_head(const struct replica *r, unsigned disk, uint64_t index)
{
	const struct qcow2_writer *writer = r->head.disk[disk].writer;
	return writer && qcow2_writer_mask(writer, index) == MASK_FULL;
}

bool scrub_wants(const struct replica *r, uint16_t disk, uint64_t index)
{
	return r->scrub.damage.count && damage_is_open(&r->scrub.damage, disk, index) && !whole_in_head(r, disk, index);
}

void replica_damaged(struct replica *r, struct wire_damaged *ret_damaged)
{
	static_assert((int)DAMAGE_MAX <= (int)WIRE_DAMAGED_MAX, "all of it fits into one message");
	LOCK_SCOPE(&r->lock);
	ret_damaged->count = 0;
	for (unsigned i = 0; i < r->scrub.damage.count; i++) {
		const struct damage *run = &r->scrub.damage.run[i];
		uint64_t blocks = size_blocks(r->prot.disk[run->disk].size);
		if (run->to != DAMAGE_OPEN || run->first >= blocks)
			continue;
		ret_damaged->run[ret_damaged->count++] =
			(struct wire_run){.disk = run->disk, .first = run->first, .count = min_u64(run->count, blocks - run->first)};
	}
}

// Closes the blocks of an open run that the head holds whole, a row of them at a time.
static bool run_close(struct replica *r, const struct damage *run, uint64_t before)
{
	uint64_t end = min_u64(run->first + run->count, size_blocks(r->prot.disk[run->disk].size));
	bool any = false;
	for (uint64_t b = run->first; b < end; b++) {
		uint64_t stop = b;
		while (stop < end && whole_in_head(r, run->disk, stop))
			stop++;
		if (stop == b)
			continue;
		damage_close(&r->scrub.damage, run->disk, b, stop - b, before);
		any = true;
		b = stop;
	}
	return any;
}

void scrub_sealed(struct replica *r, uint64_t before)
{
	const struct damage_set set = r->scrub.damage;
	bool any = false;
	for (unsigned i = 0; i < set.count; i++)
		any = (set.run[i].to == DAMAGE_OPEN && run_close(r, &set.run[i], before)) || any;
	if (!any)
		return;
	r->scrub_unsaved = true; // the scrub makes it durable; until then a crash leaves the new point in quarantine, which is no harm
	log_info("damaged blocks came whole from the source protection=%s point=%llu open=%d", r->name, (unsigned long long)before + 1,
		 damage_has_open(&r->scrub.damage));
	event_emit(EVENT_INFO, "damage", r->name, NULL, "damaged blocks of %s came whole from the source with point %llu%s", r->name, (unsigned long long)before + 1,
		   damage_has_open(&r->scrub.damage) ? "; others are still damaged" : "");
}

// --- who asks whether a point is sound ---

// The newest point before `number` that is sound, 0 when there is none.
static uint64_t sound_before(const struct replica *r, uint64_t number)
{
	for (size_t i = r->point_count; i-- > 0;)
		if (r->points[i].number < number && !damage_of_point(&r->scrub.damage, r->points[i].number))
			return r->points[i].number;
	return 0;
}

int point_sound(struct replica *r, uint64_t number, struct err *err)
{
	const struct damage *run = damage_of_point(&r->scrub.damage, number);
	unsigned long long n = number, sound = sound_before(r, number);
	char instead[96] = "no older point is sound";
	if (!run && !r->scrub.suspect)
		return 0;
	if (!run)
		return err_set(err, -EUCLEAN,
			       "point %llu of %s is in doubt, since the record of damage was lost: 'kagami scrub %s' proves all points; --damaged "
			       "takes it as it is",
			       n, r->name, r->name);
	if (sound)
		(void)snprintf(instead, sizeof(instead), "point %llu is the newest sound one before it", sound);
	uint64_t blocks = damage_blocks_of_point(&r->scrub.damage, number);
	return err_set(err, -EUCLEAN,
		       "point %llu of %s is in quarantine: %llu of its blocks %s damaged, the first in disk %s at byte %llu; %s; the next sync "
		       "repairs what the newest point shows; --damaged takes it as it is",
		       n, r->name, (unsigned long long)blocks, ARE(blocks), r->prot.disk[run->disk].name,
		       (unsigned long long)run->first * BLOCK_SIZE, instead);
}

int replica_sound(struct replica *r, uint64_t number, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	if (number == 0)
		number = r->prot.fenced ? r->prot.fenced_point : replica_last_point(r);
	return replica_point(r, number) ? point_sound(r, number, err) : 0; // whoever asks says that there is none
}

uint64_t replica_damaged_blocks(struct replica *r, uint64_t number)
{
	LOCK_SCOPE(&r->lock);
	return damage_blocks_of_point(&r->scrub.damage, number);
}

// --- status ---

void scrub_info(struct replica *r, struct scrub_info *ret_info)
{
	LOCK_SCOPE(&r->lock);
	const struct scrub_state *s = &r->scrub;
	*ret_info = (struct scrub_info){
		.open = s->open,
		.point = s->pass.point,
		.rate = s->pass.rate,
		.asked = s->pass.asked,
		.began_ns = s->pass.began_ns,
		.done_bytes = s->open ? bytes_before(r, &s->pass) : 0,
		.mismatches = s->pass.mismatches,
		.ended = s->ended,
		.last_began_ns = s->last.began_ns,
		.last_ended_ns = s->ended_ns,
		.last_proven = s->last.proven,
		.last_mismatches = s->last.mismatches,
		.suspect = s->suspect,
		.damaged_blocks = damage_blocks(&s->damage),
	};
	uint64_t now_ns = env_mono_ns(r->root->env), ran_ns = now_ns - r->scrub_run_ns;
	for (unsigned i = 0; i < r->prot.disk_count; i++)
		ret_info->total_bytes += r->prot.disk[i].size;
	ret_info->rest_ns = now_ns - r->scrub_saved_ns;
	if (s->open && ran_ns > NS_PER_S && ret_info->done_bytes > r->scrub_run_from) // in KiB: no product wraps
		ret_info->bytes_per_second = (ret_info->done_bytes - r->scrub_run_from) / 1024 * 1000 / (ran_ns / 1000000) * 1024;
	(void)snprintf(ret_info->error, sizeof(ret_info->error), "%s", r->scrub_why.text);
}

bool scrub_is_due(const struct scrub_info *info, int64_t now_ns, int64_t interval_ns)
{
	if (info->open || info->suspect)
		return !info->open;
	if (info->rest_ns < (uint64_t)SCRUB_REST_SECONDS * NS_PER_S)
		return false;
	return !info->ended || now_ns < info->last_began_ns || now_ns - info->last_began_ns >= interval_ns;
}

bool scrub_is_late(const struct scrub_info *info, int64_t now_ns, int64_t interval_ns)
{
	return info->open && !info->asked && interval_ns && now_ns - info->began_ns > interval_ns;
}

bool scrub_tell_late(struct replica *r)
{
	LOCK_SCOPE(&r->lock);
	bool news = !r->scrub_late_told;
	r->scrub_late_told = true;
	return news;
}

int scrub_hold(struct replica *r, bool held, struct err *err)
{
	{
		LOCK_SCOPE(&r->lock);
		if (r->scrub_held == held || !r->scrub.open)
			return 0;
		r->scrub_held = held;
		r->scrub_run_ns = env_mono_ns(r->root->env);
		r->scrub_run_from = bytes_before(r, &r->scrub.pass);
	}
	return held ? scrub_save(r, err) : 0;
}
