// SPDX-License-Identifier: Apache-2.0
// One cycle of a protection around cycle.c: what it begins with, what its point means for the state files and the status, and
// what becomes of the cut when it fails.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "link/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void protection_set_settled(struct protection *p, bool settled)
{
	LOCK_SCOPE(&p->lock);
	p->settled = settled;
}

static void edit_compared(struct protection_config *config, const void *with)
{
	(void)with;
	config->compare = false;
}

// What an operator asked to be compared is a point. Where that cannot be written down it is compared once more.
static void compare_done(struct protection *p)
{
	struct err err = {0};
	LOCK_SCOPE(&p->saving);
	bool stands;
	{
		LOCK_SCOPE(&p->lock);
		stands = p->config.compare && !p->compare; // else it was asked for again since
	}
	if (stands && protection_change(p, edit_compared, NULL, &err))
		log_warning("it could not be written down that everything was compared, the next start does so again protection=%s: %s", p->config.name, err.text);
}

void protection_committed(struct protection *p, uint64_t point, const struct uuid *cut, bool ours)
{
	p->position.point = point;
	p->position.last_cut = *cut;
	memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	p->uncovered &= !ours;
	if (ours)
		images_committed(p);
	tracking_position(p, ours ? SYNC_NONE : p->sync);
	struct err err = {0};
	if (source_keep(p->source, &err)) { // then it is dirty again, and the next cycle looks at it
		log_error("an image could not be brought to stable storage: its blocks stay dirty protection=%s: %s",
			  p->config.name, err.text);
		source_give_back(p->source);
		known_forget(sender_known(ship_sender(p->ship))); // what comes back is much, and most of it is there
	} else if (ours && holes_committed(p)) {
		tracking_position(p, SYNC_NONE); // which named no cut for want of that record
	}
	protection_set_settled(p, true); // either way
	if (ours) {
		compare_done(p);
		doubt_committed(p);
	}
	LOCK_SCOPE(&p->lock);
	if (ours) {
		p->sync = SYNC_NONE;
		memset(p->damaged_bytes, 0, sizeof(p->damaged_bytes)); // it holds them
	}
	backoff_progress(&p->backoff);
}

static void save_syncs(struct protection *p)
{
	struct err err = {0};
	STATE_SCOPE(p);
	if (sync_log_save(p->place.state, p->config.name, &p->syncs, &err))
		log_warning("protection=%s: %s", p->config.name, err.text);
}

// How a try of the sync that stands ended; `point` 0: it came to nothing, for the reason `failure`.
static void record_sync(struct protection *p, const struct cycle_report *report, uint64_t point, const char *failure)
{
	if (p->sync == SYNC_NONE)
		return;
	struct sync_record try = {
		.began_wall_ns = p->cycle_wall_ns,
		.ended_wall_ns = env_wall_ns(p->place.env),
		.duration_ms = (protection_now_ns(p) - p->cycle_mono_ns) / MS_NS,
		.tries = 1,
		.candidate_bytes = report->first_bytes,
		.read_bytes = report->ship.read_bytes,
		.sent_bytes = report->wire_bytes,
		.saved_bytes = report->ship.equal_blocks * BLOCK_SIZE,
		.piece_blocks = report->ship.apart_blocks,
		.kept_bytes = report->ship.kept_pieces * PIECE_SIZE,
		.point = point,
	};
	(void)snprintf(try.reason, sizeof(try.reason), "%s", sync_reason_name(p->sync));
	(void)snprintf(try.failure, sizeof(try.failure), "%.*s", SYNC_FAILURE_SIZE - 1, failure);
	{
		LOCK_SCOPE(&p->lock);
		sync_log_add(&p->syncs, &try);
	}
	save_syncs(p);
	json_t *data = json_pack("{s:s, s:o, s:o, s:o, s:o}", "reason", try.reason, "read_bytes", json_count(try.read_bytes), "sent_bytes", json_count(try.sent_bytes),
				 "duration_ms", json_count(try.duration_ms), "point", json_count(point));
	if (point)
		event_emit(EVENT_INFO, "sync", p->config.name, data, "a sync of %s has ended with point %llu, %s: %llu bytes read, %llu sent", p->config.name,
			   (unsigned long long)point, try.reason, (unsigned long long)try.read_bytes, (unsigned long long)try.sent_bytes);
	else
		event_emit(EVENT_WARNING, "sync", p->config.name, data, "a sync of %s was cut short, and is tried again: %s", p->config.name, failure);
}

// One that is tried again is no news.
static void tell_sync(struct protection *p)
{
	const struct sync_record *newest = p->syncs.count ? &p->syncs.record[p->syncs.count - 1] : NULL;
	const char *reason = p->sync == SYNC_NONE ? NULL : sync_reason_name(p->sync);
	if (reason && !(newest && newest->point == 0 && strcmp(newest->reason, reason) == 0))
		event_emit(EVENT_INFO, "sync", p->config.name, json_pack("{s:s}", "reason", reason), "a sync of %s begins: %s", p->config.name, reason);
}

void protection_found_committed(struct protection *p, uint64_t point)
{
	bool news;
	{
		LOCK_SCOPE(&p->lock);
		news = sync_log_found_committed(&p->syncs, point);
	}
	if (news)
		save_syncs(p);
}

static void on_seal(void *context, const struct uuid *cut)
{
	struct protection *p = context;
	holes_sealing(p, p->report->ship.hole_blocks); // audit_record.h, A1
	tracking_seal(p, cut);
}

static void on_stage(void *context, enum cycle_stage stage)
{
	struct protection *p = context;
	pace_pass(p, stage == CYCLE_SHIPPING);
	if (stage == CYCLE_CUTTING)
		stages_cut(p);
	if (stage == CYCLE_SEALING) // so that the receiver knows where the time of this point went
		report_send(p, WIRE_REPORT_RUNNING, REPORT_WITH_WHAT_FOLLOWS);
	enum protection_state state = stage == CYCLE_CUTTING	  ? STATE_CUTTING
				      : stage == CYCLE_COMMITTING ? STATE_COMMITTING
				      : p->sync != SYNC_NONE	  ? STATE_SYNCING
								  : STATE_SHIPPING;
	if (!protection_refused_for_space(p))
		protection_set_state(p, state, "");
}

// False when it was paused, or is to stop, in the moment before: whoever asked for that saw no cycle to end. Or when all is to be compared: who asked was told this
// cycle's number.
static bool cycle_begin(struct protection *p, uint64_t *ret_number)
{
	progress_begin_cycle(&p->progress, protection_now_ns(p));
	p->cycle_wall_ns = env_wall_ns(p->place.env);
	p->cycle_mono_ns = protection_now_ns(p);
	stages_begin(p, p->due_since_ns ? p->due_since_ns : p->cycle_mono_ns);
	p->due_since_ns = 0;
	LOCK_SCOPE(&p->lock);
	if (p->stop || p->paused || p->compare)
		return false;
	p->settled = false;
	p->held = p->clock_ends = false;
	p->in_cycle = true;
	p->was_asked = p->asked;
	p->asked = p->again = false;
	p->hurry = false;
	*ret_number = ++p->cycles_started;
	return true;
}

static void cycle_committed(struct protection *p, uint64_t number, const struct cycle_report *report)
{
	stages_end(p, true);
	dirt_committed(p, report->at.mono_ns, report->dirty_bytes, report->wire_bytes, p->sync != SYNC_NONE);
	p->cycle_end_ns = protection_now_ns(p);
	p->head = report->committed.head;
	schedule_committed(&p->schedule, &(struct schedule_done){.begin_ns = p->cycle_mono_ns,
								 .cut_ns = report->at.mono_ns,
								 .commit_ns = report->commit_mono_ns,
								 .dirty_bytes = report->first_bytes,
								 .cut_bytes = report->point_bytes,
								 .sync = p->sync != SYNC_NONE});
	struct last_cycle last = {
		.number = number,
		.point = report->committed.number,
		.cut_wall_ns = report->at.wall_ns,
		.commit_wall_ns = report->committed.commit_wall_ns,
		.duration_ns = report->commit_mono_ns - report->at.mono_ns,
		.hold_ns = report->at.hold_ns,
		.sync = p->sync,
		.dirty_bytes = report->dirty_bytes,
		.read_bytes = report->ship.read_bytes,
		.sent_blocks = report->ship.sent_blocks + report->ship.zero_blocks,
		.wire_bytes = report->wire_bytes,
		.known_blocks = report->ship.known_blocks,
		.unasked_blocks = report->ship.unasked_blocks,
		.piece_blocks = report->ship.apart_blocks,
		.plain_blocks = report->ship.plain_blocks,
		.point_bytes = report->point_bytes,
		.precopies = report->precopies,
		.why = report->why,
	};
	log_info("point committed protection=%s point=%llu cycle=%llu ms=%llu dirty_bytes=%llu read_bytes=%llu wire_bytes=%llu sync=%s precopies=%llu cut_because=%s cycle_ms=%llu",
		 p->config.name, (unsigned long long)last.point, (unsigned long long)number,
		 (unsigned long long)(last.duration_ns / MS_NS), (unsigned long long)last.dirty_bytes, (unsigned long long)last.read_bytes,
		 (unsigned long long)last.wire_bytes, last.sync ? sync_reason_name(last.sync) : "none",
		 (unsigned long long)last.precopies, cycle_why_name(last.why),
		 (unsigned long long)((report->commit_mono_ns - p->cycle_mono_ns) / MS_NS));
	record_sync(p, report, report->committed.number, "");
	p->position.last_cut_wall_ns = report->at.wall_ns;
	account_committed(p, report->committed.number, (int64_t)report->at.mono_ns, report->dirty_bytes, report->wire_bytes);
	protection_committed(p, report->committed.number, &report->committed.cut, true);
	LOCK_SCOPE(&p->lock);
	p->in_cycle = false;
	p->cycles_committed = number;
	p->source_failed = p->target_failed = false;
	p->last = last;
	memcpy(p->last.stage_ns, p->clock_took_ns, sizeof(p->last.stage_ns));
	p->totals.committed++;
	p->totals.wire_bytes += last.wire_bytes;
	p->totals.read_bytes += last.read_bytes;
	p->last_error[0] = 0;
}

// Whether the receiver's answer to SEAL says that there is no such point. An error of its store does not: it may have come
// after the point was in place.
static bool seal_refused(enum wire_error code)
{
	return code == WIRE_E_POSITION || code == WIRE_E_NO_SPACE || code == WIRE_E_QUOTA || code == WIRE_E_FENCED || code == WIRE_E_PROTOCOL;
}

// A failure of the disks, or of the cut of them: the connection is sound, and the next try waits.
static bool by_source(int code)
{
	return code == -ESTALE || code == -EIO || code == -EAGAIN;
}

static bool was_held(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	return p->held;
}

static void cycle_failed(struct protection *p, const struct cycle_report *report, const struct err *err)
{
	struct err over = {0};
	bool held = was_held(p);
	if (held) {
		(void)err_set(&over, -ECANCELED, "its off-peak window is over; it goes on at the next");
		err = &over;
	}
	stages_end(p, false);
	dirt_forget(p);
	p->cycle_end_ns = protection_now_ns(p);
	bool unknown = report->sealed && !seal_refused(report->failure.code);
	if (!unknown) { // otherwise the next connection tells
		source_give_back(p->source);
		protection_set_settled(p, true);
		memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	}
	record_sync(p, report, 0, err->text);
	// A broken connection has its own back-off; once there is another, the cycle is due at once.
	bool again_at_once = !report->failure.code && !by_source(err->code);
	if (!again_at_once)
		schedule_failed(&p->schedule, protection_now_ns(p), protection_random(p));
	bool asked_to_stop, news;
	{
		LOCK_SCOPE(&p->lock);
		asked_to_stop = p->stop || p->paused;
		news = !p->source_failed;
		p->source_failed = by_source(err->code) && report->failure.code == 0;
		p->target_failed = report->failure.code == WIRE_E_STORE;
		p->in_cycle = false;
		p->again |= again_at_once;
		p->asked |= again_at_once && p->was_asked; // what an operator asked for stands until it had its chance
		p->totals.failed += !held;
		asked_to_stop |= held;
		if (!asked_to_stop)
			(void)snprintf(p->last_error, sizeof(p->last_error), "%s", err->text);
	}
	if (asked_to_stop) {
		connection_close(p);
		return;
	}
	log_warning("cycle failed protection=%s: %s", p->config.name, err->text);
	if (!by_source(err->code) || report->failure.code) {
		connection_lost(p, &report->failure, err);
		return;
	}
	protection_set_state(p, STATE_IDLE, err->text);
	if (news) // or the receiver books what follows to the stages
		report_send(p, WIRE_REPORT_RUNNING, REPORT_NOW);
}

// The state files name no cut until a point is committed (protection_tracking.h, T1).
static void mark_all(struct protection *p, enum sync_reason why)
{
	p->uncovered = true;
	tracking_position(p, why);
	source_mark_all(p->source);
}

// Whoever asks may know of a change that no dirty bit tells, so that is kept as strictly. A reason that stands and costs all of a disk already goes on standing.
void protection_compare_all(struct protection *p)
{
	enum sync_reason reason = sync_reason_whole(p->sync) ? p->sync : SYNC_ASKED;
	dirt_forget(p);
	mark_all(p, reason);
	LOCK_SCOPE(&p->lock);
	p->compare = false;
	p->sync = reason;
}

static struct wire_doubted on_certain(void *context)
{
	return doubt_certain(context);
}

// Once the images were looked at: what they lost makes a sync of it (docs/protocol.md, "In a sync it always asks").
static int cycle_try(struct protection *p, struct cycle_report *report, struct err *err)
{
	const struct cycle cycle = {
		.env = p->place.env,
		.source = p->source,
		.channel = p->channel,
		.ship = p->ship,
		.stretch_blocks = p->stretch_blocks,
		.nodes = p->sync != SYNC_NONE && p->features & WIRE_FEATURE_NODES,
		.written = protection_all_written(p),
		.pieces = p->sync != SYNC_NONE && p->features & WIRE_FEATURE_PIECES,
		.codec = p->config.codec,
		.key = &p->config.digest,
		.predecessor = p->position.point,
		.head = p->head,
		.progress = &p->progress,
		.rest = {.rest = pace_rest, .context = p},
		.lore = &p->lore,
		.on_stage = on_stage,
		.on_seal = on_seal,
		.certain = on_certain,
		.context = p,
	};
	return cycle_run(&cycle, report, err);
}

void protection_cycle_once(struct protection *p)
{
	struct err err = {0};
	struct cycle_report report = {.sealed = false};
	uint64_t number;
	if (!cycle_begin(p, &number))
		return;
	pace_cycle_begin(p);
	report_send(p, WIRE_REPORT_RUNNING, REPORT_IF_DUE);
	p->report = &report;
	p->audit.stepped = false;
	(void)stage_clock_enter(&p->clock, RPO_STAGE_READ, protection_now_ns(p)); // one of them may hang
	bool whole = images_look(p, &err) == 0;
	tell_sync(p);
	whole = whole && images_fresh(p, &err) == 0;
	(void)stage_clock_enter(&p->clock, RPO_STAGE_COMPRESS, protection_now_ns(p));
	bool done = whole && cycle_try(p, &report, &err) == 0;
	pace_cycle_end(p); // what follows is the state files', and theirs who wait for them
	if (done) {
		cycle_committed(p, number, &report);
		p->heard_ns = p->pinged_ns = protection_now_ns(p);
		protection_set_state(p, STATE_IDLE, "");
	} else {
		cycle_failed(p, &report, &err);
	}
	p->report = NULL;
}
