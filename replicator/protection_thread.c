// SPDX-License-Identifier: Apache-2.0
// The cycle thread: connects, cuts when a cut is due, ships, commits, waits. Deciding when is schedule.c's, what to ship
// is cycle.c's; here is the order of things and what each failure leads to.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "replicator/greet.h"
#include "replicator/site.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define MS_NS UINT64_C(1000000)
enum {
	WAIT_MS_MAX = 60000,
	FENCED_ASK_SECONDS = 60, // how often a fenced source asks whether the failover was taken back
};

const char *protection_state_name(enum protection_state state)
{
	static const char *const names[] = {
		"starting", "connecting", "syncing", "idle", "cutting", "shipping", "committing", "paused", "fenced", "failed",
		"target-full", "quota-reached",
	};
	return names[state];
}

void protection_set_state(struct protection *p, enum protection_state state, const char *reason)
{
	LOCK_SCOPE(&p->lock);
	bool news = p->state != state || strcmp(p->reason, reason) != 0;
	if (!news)
		return;
	bool step = p->state >= STATE_SYNCING && p->state <= STATE_COMMITTING && state >= STATE_SYNCING &&
		    state <= STATE_COMMITTING; // the ordinary round of a cycle
	if (step)
		log_debug("%s -> %s protection=%s", protection_state_name(p->state), protection_state_name(state),
			  p->config.name);
	else if (*reason)
		log_warning("%s -> %s protection=%s reason=\"%s\"", protection_state_name(p->state),
			    protection_state_name(state), p->config.name, reason);
	else
		log_info("%s -> %s protection=%s", protection_state_name(p->state), protection_state_name(state),
			 p->config.name);
	p->state = state;
	(void)snprintf(p->reason, sizeof(p->reason), "%s", reason);
}

// The receiver took no new point, and has not taken one since: trying again is no news.
static bool refused_for_space(const struct protection *p)
{
	return p->state == STATE_TARGET_FULL || p->state == STATE_QUOTA_REACHED;
}

static uint64_t now_ns(const struct protection *p)
{
	return env_mono_ns(p->place.env);
}

int64_t protection_mono_of(const struct protection *p, int64_t wall_ns)
{
	int64_t now_wall_ns = env_wall_ns(p->place.env);
	int64_t age_ns = wall_ns > 0 && wall_ns < now_wall_ns ? now_wall_ns - wall_ns : 0;
	return (int64_t)now_ns(p) - age_ns;
}

static void channel_set(struct protection *p, struct channel *channel)
{
	LOCK_SCOPE(&p->lock);
	p->channel = channel;
}

static void disconnect(struct protection *p)
{
	struct channel *channel = p->channel;
	channel_set(p, NULL);
	channel_close(channel);
}

// What the receiver's refusal means for the protection.
static void refused(struct protection *p, enum wire_error code, const char *text)
{
	switch (code) {
	case WIRE_E_FENCED: {
		LOCK_SCOPE(&p->lock);
		p->fenced = true;
		break;
	}
	case WIRE_E_NO_SPACE:
		protection_set_state(p, STATE_TARGET_FULL, text);
		return;
	case WIRE_E_QUOTA:
		protection_set_state(p, STATE_QUOTA_REACHED, text);
		return;
	case WIRE_E_VERSION:
	case WIRE_E_UNPAIRED:
	case WIRE_E_EXISTS:
	case WIRE_E_GEOMETRY:
		protection_set_state(p, STATE_FAILED, text);
		return;
	default:
		protection_set_state(p, STATE_CONNECTING, text);
		return;
	}
	protection_set_state(p, STATE_FENCED, text);
}

static void connection_lost(struct protection *p, const struct wire_failure *failure, const struct err *err)
{
	disconnect(p);
	p->connect_failures++;
	uint32_t random = 0;
	(void)env_random(p->place.env, &random, sizeof(random));
	p->connect_not_before_ns = now_ns(p) + schedule_backoff_ns(p->connect_failures - 1, random);
	if (failure->code)
		refused(p, failure->code, err->text);
	else if (!p->fenced) // fenced it stays until the receiver says otherwise
		protection_set_state(p, STATE_CONNECTING, err->text);
	if (p->fenced)
		p->connect_not_before_ns = now_ns(p) + FENCED_ASK_SECONDS * 1000 * MS_NS;
}

static void set_settled(struct protection *p, bool settled)
{
	LOCK_SCOPE(&p->lock);
	p->settled = settled;
}

// The cut is a point: known to the state files before keep clears a mark for it (T2). With `ours` it was this process that
// sealed it, and so it ends the sync; a cut of the process before says nothing of what this start found.
static void committed(struct protection *p, uint64_t point, const struct uuid *cut, int64_t cut_mono_ns, bool ours)
{
	p->position.point = point;
	p->position.last_cut = *cut;
	memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	p->position_known = true;
	p->uncovered &= !ours;
	tracking_position(p);
	struct err err = {0};
	if (source_keep(p->source, &err)) { // then it is dirty again, and the next cycle looks at it
		log_error("an image could not be brought to stable storage: its blocks stay dirty protection=%s: %s",
			  p->config.name, err.text);
		source_give_back(p->source);
	} else {
		set_settled(p, true);
	}
	LOCK_SCOPE(&p->lock);
	if (ours)
		p->sync = SYNC_NONE;
	p->has_point = true;
	p->point_cut_mono_ns = cut_mono_ns;
}

static void save_syncs(struct protection *p)
{
	struct err err = {0};
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
		.duration_ms = (now_ns(p) - p->cycle_mono_ns) / MS_NS,
		.tries = 1,
		.read_bytes = report->ship.read_bytes,
		.sent_bytes = report->wire_bytes,
		.saved_bytes = report->ship.equal_blocks * BLOCK_SIZE,
		.point = point,
	};
	(void)snprintf(try.reason, sizeof(try.reason), "%s", sync_reason_name(p->sync));
	(void)snprintf(try.failure, sizeof(try.failure), "%.*s", SYNC_FAILURE_SIZE - 1, failure);
	{
		LOCK_SCOPE(&p->lock);
		sync_log_add(&p->syncs, &try);
	}
	save_syncs(p);
}

static void found_committed(struct protection *p, uint64_t point)
{
	bool news;
	{
		LOCK_SCOPE(&p->lock);
		news = sync_log_found_committed(&p->syncs, point);
	}
	if (news)
		save_syncs(p);
}

// Where the receiver stands against what the dirty maps are relative to.
static void take_position(struct protection *p, const struct wire_opened *opened)
{
	bool pending = !uuid_is_zero(&p->position.pending_cut);
	int64_t cut_mono_ns = protection_mono_of(p, opened->last_cut_wall_ns);
	p->head = opened->head;
	if (pending && uuid_equal(&opened->last_cut, &p->position.pending_cut)) {
		log_info("the point whose answer was lost is committed protection=%s point=%llu", p->config.name,
			 (unsigned long long)opened->last_point);
		if (p->sealed_here && p->sync != SYNC_NONE)
			found_committed(p, opened->last_point);
		p->position.last_cut_wall_ns = opened->last_cut_wall_ns;
		committed(p, opened->last_point, &opened->last_cut, cut_mono_ns, p->sealed_here);
		return;
	}
	source_give_back(p->source); // what the lost connection carried; nothing when it carried nothing
	set_settled(p, true);
	memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	bool same = uuid_equal(&opened->last_cut, &p->position.last_cut);
	if (!same && p->position_known) {
		p->uncovered = true;
		source_mark_all(p->source);
		LOCK_SCOPE(&p->lock);
		p->sync = SYNC_POSITION;
		log_warning("the receiver is at another point than known here: syncing by digests protection=%s known=%llu "
			    "receiver=%llu",
			    p->config.name, (unsigned long long)p->position.point, (unsigned long long)opened->last_point);
	}
	p->position.point = opened->last_point;
	p->position.last_cut = opened->last_cut;
	p->position.last_cut_wall_ns = opened->last_cut_wall_ns;
	p->position_known = true;
	LOCK_SCOPE(&p->lock);
	p->has_point = opened->last_point > 0;
	p->point_cut_mono_ns = cut_mono_ns;
	p->schedule.has_point = p->has_point;
	p->schedule.last_cut_ns = cut_mono_ns > 0 ? (uint64_t)cut_mono_ns : 0;
}

static void open_message(const struct protection *p, struct wire_open *ret_open)
{
	const struct protection_config *config = &p->config;
	memset(ret_open, 0, sizeof(*ret_open));
	ret_open->protection = config->uuid;
	ret_open->generation = config->generation;
	memcpy(ret_open->name, config->name, NAME_SIZE);
	ret_open->digest = config->digest;
	ret_open->codec = config->codec == CODEC_ZLIB ? CODEC_ZLIB : CODEC_ZSTD;
	ret_open->points_keep = config->points_keep;
	ret_open->rpo_ms = config->rpo_ms;
	ret_open->disk_count = config->disk_count;
	for (unsigned i = 0; i < config->disk_count; i++) {
		memcpy(ret_open->disk[i].name, config->disk[i].name, NAME_SIZE);
		ret_open->disk[i].size = export_disk_size(p->export, (uint16_t)i);
	}
}

static int open_session(struct protection *p, struct channel *channel, struct wire_failure *failure, struct err *err)
{
	struct wire_hello theirs;
	struct wire_open open;
	struct wire_opened opened;
	int rc = greet(channel, &theirs, err);
	if (rc)
		return rc;
	open_message(p, &open);
	rc = greet_open(channel, &open, &opened, failure, err);
	if (rc)
		return rc;
	take_position(p, &opened);
	return 0;
}

static void connect_once(struct protection *p)
{
	struct err err = {0};
	struct wire_failure failure = {.code = 0};
	struct channel *channel = NULL;
	struct site site;
	{
		LOCK_SCOPE(&p->lock);
		p->hurry = false;
	}
	if (p->state == STATE_STARTING || p->state == STATE_PAUSED)
		protection_set_state(p, STATE_CONNECTING, "");
	int rc = site_load(p->place.state, p->config.site, &site, &err);
	if (rc == 0)
		rc = channel_connect(p->tls, site.address, &site.pin, &channel, &err);
	if (rc == 0) {
		channel_set(p, channel);
		rc = open_session(p, channel, &failure, &err);
	}
	if (rc) {
		connection_lost(p, &failure, &err);
		return;
	}
	p->connect_failures = 0;
	p->heard_ns = p->pinged_ns = now_ns(p);
	{
		LOCK_SCOPE(&p->lock);
		p->fenced = false; // the failover was taken back
	}
	if (!refused_for_space(p))
		protection_set_state(p, STATE_IDLE, "");
}

static void on_stage(void *context, enum cycle_stage stage)
{
	struct protection *p = context;
	enum protection_state state = stage == CYCLE_CUTTING	  ? STATE_CUTTING
				      : stage == CYCLE_COMMITTING ? STATE_COMMITTING
				      : p->sync != SYNC_NONE	  ? STATE_SYNCING
								  : STATE_SHIPPING;
	if (!refused_for_space(p))
		protection_set_state(p, state, "");
}

static void cycle_begin(struct protection *p, uint64_t *ret_number)
{
	atomic_store(&p->progress.done_bytes, 0);
	atomic_store(&p->progress.total_bytes, 0);
	p->cycle_wall_ns = env_wall_ns(p->place.env);
	p->cycle_mono_ns = now_ns(p);
	set_settled(p, false);
	LOCK_SCOPE(&p->lock);
	p->in_cycle = true;
	p->asked = false;
	p->hurry = false;
	*ret_number = ++p->cycles_started;
}

static void cycle_committed(struct protection *p, uint64_t number, const struct cycle_report *report)
{
	p->head = report->committed.head;
	schedule_committed(&p->schedule, report->at.mono_ns, report->commit_mono_ns);
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
	};
	log_info("point committed protection=%s point=%llu cycle=%llu ms=%llu dirty_bytes=%llu wire_bytes=%llu sync=%s",
		 p->config.name, (unsigned long long)last.point, (unsigned long long)number,
		 (unsigned long long)(last.duration_ns / MS_NS), (unsigned long long)last.dirty_bytes,
		 (unsigned long long)last.wire_bytes, last.sync ? sync_reason_name(last.sync) : "none");
	record_sync(p, report, report->committed.number, "");
	p->position.last_cut_wall_ns = report->at.wall_ns;
	committed(p, report->committed.number, &report->committed.cut, (int64_t)report->at.mono_ns, true);
	LOCK_SCOPE(&p->lock);
	p->in_cycle = false;
	p->cycles_committed = number;
	p->last = last;
	p->last_error[0] = 0;
}

// Whether the receiver's answer to SEAL says that there is no such point. An error of its store does not: it may have come
// after the point was in place.
static bool seal_refused(enum wire_error code)
{
	return code == WIRE_E_POSITION || code == WIRE_E_NO_SPACE || code == WIRE_E_QUOTA || code == WIRE_E_FENCED || code == WIRE_E_PROTOCOL;
}

static void cycle_failed(struct protection *p, const struct cycle_report *report, const struct err *err)
{
	bool unknown = report->sealed && !seal_refused(report->failure.code);
	if (!unknown) { // otherwise the next connection tells
		source_give_back(p->source);
		set_settled(p, true);
		memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	}
	record_sync(p, report, 0, err->text);
	// A broken connection has its own back-off; once there is another, the cycle is due at once.
	bool again_at_once = !report->failure.code && err->code != -ESTALE && err->code != -EIO;
	if (!again_at_once)
		schedule_failed(&p->schedule, now_ns(p));
	bool asked_to_stop;
	{
		LOCK_SCOPE(&p->lock);
		asked_to_stop = p->stop || p->paused;
		p->in_cycle = false;
		p->asked |= again_at_once;
		if (!asked_to_stop)
			(void)snprintf(p->last_error, sizeof(p->last_error), "%s", err->text);
	}
	if (asked_to_stop) {
		disconnect(p);
		return;
	}
	log_warning("cycle failed protection=%s: %s", p->config.name, err->text);
	bool by_source = (err->code == -ESTALE || err->code == -EIO) && report->failure.code == 0; // the connection is sound
	if (by_source)
		protection_set_state(p, STATE_IDLE, err->text);
	else
		connection_lost(p, &report->failure, err);
}

// An image that was cut short behind our back: what it held there is gone, and no point may say otherwise.
static int images_whole(struct protection *p, struct err *err)
{
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		struct image_identity identity;
		uint64_t size = export_disk_size(p->export, (uint16_t)i);
		int rc = export_identity(p->export, (uint16_t)i, &identity, err);
		if (rc)
			return rc;
		if (identity.size < size)
			return err_set(err, -EIO, "the image of disk %s was cut from %llu to %llu bytes while it is served: restore it, then restart",
				       p->config.disk[i].name, (unsigned long long)size, (unsigned long long)identity.size);
	}
	return 0;
}

// What an image lost behind our back, no dirty bit tells: from here on everything is compared, also when it has its size
// again, and the state files name no cut until a point is committed (T1).
static void image_lost(struct protection *p)
{
	if (p->sync == SYNC_IMAGE_CHANGED && p->uncovered)
		return;
	p->uncovered = true;
	tracking_position(p);
	source_mark_all(p->source);
	LOCK_SCOPE(&p->lock);
	p->sync = SYNC_IMAGE_CHANGED;
}

static void cycle_once(struct protection *p)
{
	struct err err = {0};
	struct cycle_report report;
	struct cycle cycle = {
		.env = p->place.env,
		.source = p->source,
		.channel = p->channel,
		.ship = p->ship,
		.codec = p->config.codec,
		.key = &p->config.digest,
		.predecessor = p->position.point,
		.head = p->head,
		.progress = &p->progress,
		.on_stage = on_stage,
		.on_seal = tracking_seal,
		.context = p,
	};
	uint64_t number;
	cycle_begin(p, &number);
	report = (struct cycle_report){.sealed = false};
	bool whole = images_whole(p, &err) == 0;
	if (!whole)
		image_lost(p);
	if (whole && cycle_run(&cycle, &report, &err) == 0) {
		cycle_committed(p, number, &report);
		p->heard_ns = p->pinged_ns = now_ns(p);
		protection_set_state(p, STATE_IDLE, "");
	} else {
		cycle_failed(p, &report, &err);
	}
}

// Sleeps until `deadline_ns`, a wake-up, or something from the peer.
static void wait_until(struct protection *p, uint64_t deadline_ns)
{
	uint64_t now = now_ns(p);
	uint64_t ms = deadline_ns > now ? (deadline_ns - now + MS_NS - 1) / MS_NS : 0;
	struct pollfd wait[2] = {{.fd = p->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
	if (p->channel)
		wait[1].fd = channel_fd(p->channel);
	(void)poll(wait, 2, (int)min_u64(ms, WAIT_MS_MAX));
	uint64_t count;
	(void)!read(p->wake_fd, &count, sizeof(count));
}

// What an idle connection has to say, and a sign of life to it. False when it is lost.
static bool idle_check(struct protection *p)
{
	struct err err = {0};
	struct wire_failure failure = {.code = 0};
	struct wire_frame frame;
	int rc;
	while ((rc = channel_get(p->channel, 0, &frame, &err)) == 1) {
		p->heard_ns = now_ns(p);
		if (frame.type == WIRE_ERROR && wire_get_error(&frame, &failure) == 0)
			rc = err_set(&err, -EREMOTEIO, "%s", failure.text);
		else if (frame.type != WIRE_PONG)
			rc = err_set(&err, -EBADMSG, "%s came while idle", wire_type_name(frame.type));
		if (rc < 0)
			break;
	}
	uint64_t now = now_ns(p);
	if (rc == 0 && now - p->heard_ns > CHANNEL_STALL_MS * MS_NS)
		rc = err_set(&err, -ETIMEDOUT, "the receiver has been silent for %d s", CHANNEL_STALL_MS / 1000);
	if (rc == 0 && now - p->pinged_ns >= CHANNEL_PING_MS * MS_NS) {
		void *to = channel_room(p->channel, WIRE_HEADER_SIZE);
		if (to)
			(void)channel_put(p->channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_PING));
		rc = channel_flush(p->channel, &err);
		p->pinged_ns = now;
	}
	if (rc < 0)
		connection_lost(p, &failure, &err);
	return rc == 0;
}

static void idle(struct protection *p, bool asked)
{
	if (!idle_check(p))
		return;
	uint64_t due_ns = schedule_next_cut(&p->schedule, now_ns(p));
	{
		LOCK_SCOPE(&p->lock);
		p->next_cut_ns = due_ns;
	}
	if (asked || now_ns(p) >= due_ns)
		cycle_once(p);
	else
		wait_until(p, min_u64(due_ns, p->pinged_ns + CHANNEL_PING_MS * MS_NS));
}

void *protection_thread(void *context)
{
	struct protection *p = context;
	for (;;) {
		bool stop, paused, fenced, asked, hurry;
		{
			LOCK_SCOPE(&p->lock);
			stop = p->stop;
			paused = p->paused;
			fenced = p->fenced;
			hurry = p->hurry;
			asked = p->asked;
		}
		if (stop)
			break;
		if (resize_serve(p)) {
			disconnect(p); // its OPEN named the old size
			continue;
		}
		if (paused) {
			disconnect(p);
			p->connect_failures = 0;
			p->connect_not_before_ns = 0;
			if (!fenced)
				protection_set_state(p, STATE_PAUSED, "");
			wait_until(p, UINT64_MAX);
		} else if (p->channel) {
			idle(p, asked);
		} else if (now_ns(p) < p->connect_not_before_ns && !hurry) {
			wait_until(p, p->connect_not_before_ns);
		} else {
			connect_once(p);
		}
	}
	disconnect(p);
	return NULL;
}
