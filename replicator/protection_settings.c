// SPDX-License-Identifier: Apache-2.0
// What can be changed of a protection while it runs, and the gate that keeps its limits of bandwidth.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "replicator/limiter.h"
#include "replicator/settings_change.h"

#include <errno.h>
#include <stdio.h>

static const unsigned weights[] = {[PRIORITY_LOW] = 1, [PRIORITY_NORMAL] = 2, [PRIORITY_HIGH] = 4};

unsigned protection_weight(enum priority priority)
{
	return weights[priority];
}

// --- off-peak: what has no point yet waits for its window ---

// With the lock held. In how many minutes it opens; 0: there is nothing to wait for.
static unsigned window_opens(const struct protection *p)
{
	if (!p->config.settings.has_offpeak || p->has_point || p->waived)
		return 0;
	const struct bandwidth_time local = bandwidth_local(env_wall_ns(p->place.env));
	return bandwidth_window_opens(&p->config.settings.offpeak, &local);
}

// An initial sync under way ends with its window. With the lock held.
static void hold_outside_window(struct protection *p)
{
	if (!p->in_cycle || p->held || !p->channel || window_opens(p) == 0)
		return;
	log_info("the off-peak window is over protection=%s", p->config.name);
	p->held = true;
	channel_abort(p->channel); // what the receiver has of it stays there
}

bool settings_off_peak(struct protection *p)
{
	char window[BANDWIDTH_TEXT_SIZE], why[ERR_TEXT_MAX];
	{
		LOCK_SCOPE(&p->lock);
		unsigned minutes = window_opens(p);
		if (minutes == 0)
			return true;
		bandwidth_window_format(&p->config.settings.offpeak, window);
		p->next_cut_ns = protection_now_ns(p) + minutes * 60 * 1000 * MS_NS;
	}
	(void)snprintf(why, sizeof(why), "its initial sync waits for its off-peak window (%s): `kagami cycle %s` begins it now", window, p->config.name);
	protection_set_state(p, STATE_IDLE, why);
	return false;
}

void settings_tick(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	hold_outside_window(p);
}

// --- what an operator sets, while it runs ---

static void edit_settings(struct protection_config *config, const void *with)
{
	const struct protection_settings *settings = with;
	config->settings = *settings;
	config->rpo_ms = settings->rpo_ms;
}

// Nothing where all is as it was.
static void say_settings(const struct protection *p, const struct protection_settings *was, const struct protection_settings *is)
{
	char what[SETTINGS_CHANGE_SIZE];
	json_t *data = settings_change(was, is, what);
	if (data)
		event_emit(EVENT_INFO, "settings", p->config.name, data, "the settings of %s were changed: %s", p->config.name, what);
}

int protection_set(struct protection *p, protection_settings_edit *edit, const void *with, struct err *err)
{
	LOCK_SCOPE(&p->saving);
	const struct protection_settings was = p->config.settings; // whoever changes them has that lock
	struct protection_settings settings = was;
	int rc = edit(&settings, with, err);
	if (rc == 0)
		rc = protection_change(p, edit_settings, &settings, err);
	if (rc)
		return rc;
	say_settings(p, &was, &settings);
	LOCK_SCOPE(&p->lock);
	p->resettle = true; // the thread's own copies
	if (p->flow)
		limiter_flow_set(p->flow, &settings.bandwidth, weights[settings.priority]);
	log_info("settings changed protection=%s rpo_ms=%llu", p->config.name, (unsigned long long)settings.rpo_ms);
	hold_outside_window(p);
	protection_wake(p);
	return 0;
}

void protection_was_set(struct protection *p, struct protection_config *config)
{
	LOCK_SCOPE(&p->lock);
	config->settings = p->config.settings;
	config->rpo_ms = p->config.rpo_ms;
	config->paused = p->config.paused;
	config->seed_since_wall_ns = p->config.seed_since_wall_ns;
}

void settings_apply(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	if (!p->resettle)
		return;
	p->resettle = false;
	p->reported_ns = 0; // the receiver learns the RPO at once
	p->schedule.rpo_ns = p->config.rpo_ms * MS_NS;
}

// --- the gate: cycle thread ---

static size_t gate_piece(void *context)
{
	const struct protection *p = context;
	return limiter_piece(p->flow);
}

static int gate_pass(void *context, size_t bytes, bool may_wait, const atomic_bool *over)
{
	struct protection *p = context;
	if (!may_wait) {
		limiter_charge(p->flow, bytes);
		return 0;
	}
	enum rpo_stage was = stage_clock_enter(&p->clock, RPO_STAGE_THROTTLED, protection_now_ns(p));
	int rc = limiter_pass(p->flow, bytes, over);
	(void)stage_clock_enter(&p->clock, was, protection_now_ns(p));
	return rc;
}

void settings_gate(struct protection *p, struct channel *channel)
{
	if (p->flow)
		channel_gate(channel, &(struct channel_gate){.piece = gate_piece, .pass = gate_pass, .context = p});
}

int settings_join(struct protection *p)
{
	const struct protection_settings *settings = &p->config.settings;
	return p->place.limiter ? limiter_join(p->place.limiter, &settings->bandwidth, weights[settings->priority], &p->flow) : 0;
}

void settings_leave(struct protection *p)
{
	limiter_leave(p->flow);
	p->flow = NULL;
}
