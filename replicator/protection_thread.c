// SPDX-License-Identifier: Apache-2.0
// The cycle thread: connects, cuts when a cut is due, ships, commits, waits. Deciding when is schedule.c's, what to ship
// is cycle.c's; here is the order of things. What each failure leads to is in protection_connection.c and protection_cycle.c.
#include "replicator/priority.h"
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "link/json.h"

#include <stdio.h>
#include <string.h>

#define PAUSE_HEARD_MS UINT64_C(3000) // `kagami resize` waits for longer

const char *protection_state_name(enum protection_state state)
{
	static const char *const names[] = {
		"starting", "connecting", "syncing", "idle", "cutting", "shipping", "committing", "paused", "fenced", "failed",
		"target-full", "quota-reached", "target-down", "target-slow", "version-mismatch", "waiting-for-seed",
	};
	return names[state];
}

void protection_set_state(struct protection *p, enum protection_state state, const char *reason)
{
	LOCK_SCOPE(&p->lock);
	bool news = p->state != state || strcmp(p->reason, reason) != 0;
	if (!news || (p->telling && p->paused && state != STATE_FENCED))
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
	if (*reason || *p->reason)
		event_emit(*reason ? EVENT_WARNING : EVENT_INFO, "state", p->config.name,
			   json_pack("{s:s, s:s, s:o}", "from", protection_state_name(p->state), "to", protection_state_name(state), "reason", json_text(reason)),
			   "%s is %s%s%s", p->config.name, protection_state_name(state), *reason ? ": " : "", reason);
	p->state = state;
	p->commit_asked_ns = protection_now_ns(p);
	(void)snprintf(p->reason, sizeof(p->reason), "%s", reason);
}

// The receiver took no new point, and has not taken one since: trying again is no news.
bool protection_refused_for_space(const struct protection *p)
{
	return p->state == STATE_TARGET_FULL || p->state == STATE_QUOTA_REACHED;
}

uint32_t protection_random(const struct protection *p)
{
	uint32_t random = 0;
	(void)env_random(p->place.env, &random, sizeof(random));
	return random;
}

int64_t protection_mono_of(const struct protection *p, int64_t wall_ns)
{
	int64_t now_wall_ns = env_wall_ns(p->place.env);
	int64_t age_ns = wall_ns > 0 && wall_ns < now_wall_ns ? now_wall_ns - wall_ns : 0;
	return (int64_t)protection_now_ns(p) - age_ns;
}

static void idle(struct protection *p, bool asked, bool again)
{
	if (!connection_check(p))
		return;
	struct schedule_load load = {.now_ns = protection_now_ns(p), .dirty_bytes = source_dirty_bytes(p->source)};
	uint64_t due_ns = slot_due(p, &load), ping_ns = min_u64(p->pinged_ns + CHANNEL_PING_MS * MS_NS, dirt_look(p, &load));
	{
		LOCK_SCOPE(&p->lock);
		p->next_cut_ns = due_ns;
		p->shown = p->schedule;
	}
	bool due = asked || again || load.now_ns >= due_ns;
	p->ready_since_ns = p->ready_since_ns ? p->ready_since_ns : load.now_ns;
	if (due)
		p->due_since_ns = p->due_since_ns ? p->due_since_ns : min_u64(max_u64(due_ns, max_u64(p->cycle_end_ns, p->ready_since_ns)), load.now_ns);
	else
		p->due_since_ns = 0;
	report_send(p, WIRE_REPORT_RUNNING, REPORT_IF_DUE);
	ping_ns = min_u64(ping_ns, holes_turn(p, due));
	if (!settings_off_peak(p)) {
		p->ready_since_ns = p->due_since_ns = 0;
		slot_unused(p); // it asked within its window, perhaps
		protection_wait(p, ping_ns);
	} else if (!due) {
		slot_unused(p); // its objective was changed, perhaps
		protection_wait(p, min_u64(schedule_look_again(&p->schedule, load.now_ns, due_ns), ping_ns));
	} else if (!slot_take(p, &load, asked)) {
		protection_wait(p, min_u64(ping_ns, load.now_ns + max_u64(p->schedule.rpo_ns / 8, 1000 * MS_NS))); // one may be lent by then
	} else {
		protection_cycle_once(p);
		slot_end(p);
	}
}

static bool telling(struct protection *p, bool is)
{
	LOCK_SCOPE(&p->lock);
	bool was = p->telling;
	p->telling = is;
	return was;
}

// That it has left says little on a line that may be dead: the receiver has heard of it once it answers what comes behind it.
static bool pause_heard(struct protection *p)
{
	struct wire_frame frame;
	if (!(p->features & WIRE_FEATURE_REPORT)) // it cannot be told
		return true;
	report_send(p, WIRE_REPORT_PAUSED, REPORT_WITH_WHAT_FOLLOWS);
	void *to = channel_room(p->channel, WIRE_HEADER_SIZE);
	if (!to || channel_put(p->channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_PING)) || channel_flush(p->channel, NULL))
		return false;
	uint64_t until_ns = protection_now_ns(p) + PAUSE_HEARD_MS * MS_NS, now_ns;
	while ((now_ns = protection_now_ns(p)) < until_ns) {
		int rc = channel_get(p->channel, (int)((until_ns - now_ns) / MS_NS) + 1, &frame, NULL);
		if (rc == 1 && frame.type == WIRE_PONG)
			return true;
		if (rc < 0 || (rc == 1 && !channel_notes(p->channel, &frame)))
			return false;
	}
	return false;
}

static void pause_tell(struct protection *p, bool made_for_it)
{
	bool told = pause_heard(p);
	uint64_t now_ns = protection_now_ns(p);
	uint32_t random = protection_random(p);
	LOCK_SCOPE(&p->lock);
	p->pause_told = told;
	if (told)
		backoff_progress(&p->backoff); // whoever resumes wants to know at once
	else if (made_for_it)
		backoff_failed(&p->backoff, now_ns, random);
}

// Tells the receiver once that it is paused, or that would call the source down: where a pause ended a cycle, came while there was no connection, or was found at a start, over
// a connection that is made for that alone. A fenced one goes on asking whether the failover was taken back.
static void paused_turn(struct protection *p, bool fenced, bool hurry)
{
	bool told, made_for_it = telling(p, false);
	if (!fenced)
		protection_set_state(p, STATE_PAUSED, "");
	if (p->channel)
		pause_tell(p, made_for_it);
	connection_close(p);
	{
		LOCK_SCOPE(&p->lock);
		told = p->pause_told;
	}
	if (told) {
		protection_wait(p, UINT64_MAX);
	} else if (protection_now_ns(p) < p->backoff.not_before_ns && !hurry) {
		protection_wait(p, p->backoff.not_before_ns);
	} else {
		(void)telling(p, true);
		connection_open(p);
	}
}

// It was resumed, perhaps while its receiver was told.
static void pause_over(struct protection *p)
{
	{
		LOCK_SCOPE(&p->lock);
		p->pause_told = p->telling = false;
	}
	if (p->state == STATE_PAUSED)
		protection_set_state(p, p->channel ? STATE_IDLE : STATE_CONNECTING, "");
}

// The next thing that it does after such a start, but for what is asked of it: beside that it connects, and keeps the connection. What is due waits, as for a slot.
static void drop_turn(struct protection *p, bool paused, bool fenced, bool hurry)
{
	if (paused && !fenced)
		protection_set_state(p, STATE_PAUSED, "");
	images_drop(p);
	if (paused)
		return;
	if (!p->channel) {
		if (protection_now_ns(p) >= p->backoff.not_before_ns || hurry)
			connection_open(p);
		return;
	}
	if (!connection_check(p))
		return;
	if (!protection_refused_for_space(p))
		protection_set_state(p, p->stale ? STATE_SYNCING : STATE_IDLE, "");
	p->ready_since_ns = p->ready_since_ns ? p->ready_since_ns : protection_now_ns(p);
	report_send(p, WIRE_REPORT_RUNNING, REPORT_IF_DUE);
}

void *protection_thread(void *context)
{
	struct protection *p = context;
	priority_copy(false);
	for (;;) {
		bool stop, unborn, paused, fenced, asked, again, hurry, compare;
		{
			LOCK_SCOPE(&p->lock);
			stop = p->stop;
			unborn = p->unborn;
			paused = p->paused;
			fenced = p->fenced;
			hurry = p->hurry;
			asked = p->asked;
			again = p->again;
			compare = p->compare;
		}
		if (stop)
			break;
		if (unborn) {
			protection_wait(p, UINT64_MAX);
			continue;
		}
		if (paused || !p->channel) { // others need not wait for it, and it waits for none of them
			slot_end(p);
			p->ready_since_ns = p->due_since_ns = 0;
		}
		settings_apply(p);
		if (resize_serve(p)) {
			connection_close(p); // its OPEN named the old size
			continue;
		}
		if (p->stale) {
			drop_turn(p, paused, fenced, hurry);
			continue;
		}
		if (paused) {
			paused_turn(p, fenced, hurry);
			continue;
		}
		pause_over(p);
		if (p->channel) {
			if (compare)
				protection_compare_all(p);
			idle(p, asked, again);
		} else if (protection_now_ns(p) < p->backoff.not_before_ns && !hurry) {
			protection_wait(p, p->backoff.not_before_ns);
		} else {
			connection_open(p);
		}
	}
	slot_end(p);
	report_send(p, WIRE_REPORT_STOPPING, REPORT_NOW);
	dirt_save(p);
	connection_close(p);
	return NULL;
}
