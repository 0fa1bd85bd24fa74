// SPDX-License-Identifier: Apache-2.0
// What a protection says of itself: where the time of its cycles went, why there is no newer point, and the REPORT that tells the receiver.
#include "replicator/protection_private.h"

#include "base/auto.h"

#include <string.h>

enum { REPORT_EVERY_S = 10, CLOCK_EVERY_S = 10 };

// --- the stage clock: cycle thread ---

void stages_begin(struct protection *p, uint64_t due_ns)
{
	uint64_t now_ns = protection_now_ns(p);
	stage_clock_start(&p->clock, RPO_STAGE_COMPRESS, now_ns);
	stage_clock_add(&p->clock, RPO_STAGE_QUEUE, now_ns - min_u64(due_ns, now_ns));
	memset(p->clock_at_cut, 0, sizeof(p->clock_at_cut));
}

void stages_cut(struct protection *p)
{
	stage_clock_read(&p->clock, protection_now_ns(p), p->clock_at_cut);
}

void stages_end(struct protection *p, bool committed)
{
	uint64_t ns[RPO_STAGES];
	stage_clock_read(&p->clock, protection_now_ns(p), ns);
	LOCK_SCOPE(&p->lock);
	p->clock_ends = true; // what it has is below, from here on
	memcpy(p->clock_took_ns, ns, sizeof(ns));
	for (unsigned i = 0; i < RPO_STAGES; i++) {
		p->stage_total_ns[i] += ns[i];
		// Of the newest point's cut on: what this cycle took since its own cut, or what it took on top of those that failed.
		p->stage_since_ns[i] = committed ? ns[i] - min_u64(p->clock_at_cut[i], ns[i]) : p->stage_since_ns[i] + ns[i];
	}
}

// --- why ---

// Of the newest point's cut on, with the cycle under way, or the wait for a slot. With the lock held.
static void stages_now(const struct protection *p, uint64_t now_ns, uint64_t ret_ns[RPO_STAGES])
{
	uint64_t now[RPO_STAGES] = {0};
	if (p->in_cycle && !p->clock_ends)
		stage_clock_read(&p->clock, now_ns, now);
	else if (!p->in_cycle && p->waits_for_slot)
		now[RPO_STAGE_QUEUE] = now_ns - min_u64(p->next_cut_ns, now_ns);
	for (unsigned i = 0; i < RPO_STAGES; i++)
		ret_ns[i] = p->stage_since_ns[i] + now[i];
}

// For good, so that no point is made: perhaps before this start, or in the middle of a cycle.
static bool a_disk_fails(const struct protection *p)
{
	bool fails = false;
	for (uint16_t i = 0; p->export && i < p->config.disk_count && !fails; i++) {
		struct export_stats stats;
		export_stats(p->export, i, &stats);
		fails = stats.failed || stats.silent_ns >= SILENT_NS;
	}
	return fails;
}

// What stands in the way of a newer point. With the lock held.
static struct rpo_circumstances circumstances(const struct protection *p, uint64_t now_ns)
{
	struct rpo_circumstances c = {
		.paused = p->paused,
		.fenced = p->fenced,
		.target_down = !p->greeted && (p->state == STATE_CONNECTING || p->state == STATE_TARGET_DOWN || p->state == STATE_TARGET_SLOW),
		.space = p->state == STATE_TARGET_FULL || p->state == STATE_QUOTA_REACHED,
		.source_error = p->source_failed || a_disk_fails(p) || protection_state_silent_ns(p) >= SILENT_NS,
		.target_error = p->state == STATE_FAILED || p->state == STATE_VERSION || p->target_failed,
		.syncing = p->sync != SYNC_NONE,
	};
	stages_now(p, now_ns, c.stage_ns);
	return c;
}

enum rpo_cause protection_cause_stands(const struct protection *p, uint64_t now_ns)
{
	struct rpo_circumstances c = circumstances(p, now_ns);
	return rpo_cause_of(&c);
}

enum rpo_cause protection_cause(const struct protection *p, uint64_t now_ns)
{
	struct rpo_circumstances c = circumstances(p, now_ns);
	int64_t age_ns = (int64_t)now_ns - p->point_cut_mono_ns;
	bool missed = !p->has_point || (age_ns > 0 && (uint64_t)age_ns > p->config.rpo_ms * MS_NS);
	bool stands = c.paused || c.fenced || c.target_down || c.space || c.source_error || c.target_error || c.syncing;
	return stands || missed ? rpo_cause_of(&c) : RPO_CAUSE_NONE;
}

// --- REPORT: cycle thread ---

static void fill(struct protection *p, enum wire_report_state state, bool mid_cycle, uint64_t now_ns, struct wire_report *ret_report)
{
	uint64_t stage_ns[RPO_STAGES];
	LOCK_SCOPE(&p->lock);
	stages_now(p, now_ns, stage_ns);
	*ret_report = (struct wire_report){
		.state = state,
		.cause = (uint8_t)protection_cause(p, now_ns),
		.rpo_ms = p->config.rpo_ms,
		.wall_ns = env_wall_ns(p->place.env),
		.clock_offset_ns = greet_offset_less(p->clock_offset.offset_ns, p->clock_steps_ns / (int64_t)MS_NS), // those the receiver counts itself
		.clock_error_ns = p->clock_offset.error_ns,
		.dirty_bytes = source_dirty_bytes(p->source),
		.next_cut_ms = state != WIRE_REPORT_RUNNING ? WIRE_REPORT_NO_CUT
			       : mid_cycle		    ? 0
							    : (p->next_cut_ns - min_u64(p->next_cut_ns, now_ns)) / MS_NS,
	};
	for (unsigned i = 0; i < RPO_STAGES; i++)
		ret_report->stage_ms[i] = (uint32_t)min_u64(stage_ns[i] / MS_NS, UINT32_MAX);
}

void report_hear(struct protection *p)
{
	struct channel_time told;
	if (!channel_take_time(p->channel, &told))
		return;
	LOCK_SCOPE(&p->lock);
	account_time(p, &told);
}

static void ask_time(struct protection *p, uint64_t now_ns)
{
	if (!(p->features & WIRE_FEATURE_CLOCK) || (p->clock_asked_ns && now_ns - p->clock_asked_ns < CLOCK_EVERY_S * 1000 * MS_NS))
		return;
	p->clock_asked_ns = now_ns;
	channel_ask_time(p->channel);
}

void report_send(struct protection *p, enum wire_report_state state, enum report_when when)
{
	uint64_t now_ns = protection_now_ns(p);
	struct wire_report report;
	if (!(p->features & WIRE_FEATURE_REPORT) || !p->channel)
		return;
	if (when == REPORT_IF_DUE && p->reported_ns && now_ns - p->reported_ns < REPORT_EVERY_S * 1000 * MS_NS)
		return;
	report_hear(p);
	fill(p, state, p->in_cycle, now_ns, &report);
	void *to = channel_room(p->channel, WIRE_FRAME_MAX);
	if (!to || channel_put(p->channel, wire_put_report(to, WIRE_FRAME_MAX, &report)))
		return; // the connection is lost, and whoever uses it next finds out
	p->reported_ns = now_ns;
	if (state == WIRE_REPORT_RUNNING)
		ask_time(p, now_ns);
	if (when != REPORT_WITH_WHAT_FOLLOWS)
		(void)channel_flush(p->channel, NULL);
}

// With each block that leaves: a long cycle is heard of like others, and once more when it makes the newest point too old.
void report_turn(struct protection *p, uint64_t now_ns)
{
	uint64_t deadline_ns = p->schedule.has_point ? schedule_deadline(&p->schedule) : 0;
	bool too_old = deadline_ns && p->reported_ns < deadline_ns && now_ns >= deadline_ns;
	if (p->reported_ns && (too_old || now_ns - p->reported_ns >= REPORT_EVERY_S * 1000 * MS_NS))
		report_send(p, WIRE_REPORT_RUNNING, REPORT_WITH_WHAT_FOLLOWS);
}
