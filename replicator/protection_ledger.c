// SPDX-License-Identifier: Apache-2.0
// The source's own account of the age of its newest point: a ledger, fed by the agent's ticks and by commits, in STATE/protections/<name>/ledger.
// It is history: what cannot be loaded is begun anew, and what cannot be written stops nothing. All but loading takes the lock.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/clock_note.h"
#include "link/history.h"
#include "link/misses.h"
#include "replicator/point_known.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SAVE_EVERY_S = 60 };

static uint32_t objective_of(const struct protection *p)
{
	uint64_t ppm = p->config.settings.objective_ppm;
	return (uint32_t)(ppm ? ppm : OBJECTIVE_PPM_DEFAULT);
}

// With the lock held: counts up to now, and says what is to blame from here on.
static void tick(struct protection *p);

// The point that the state files have, before an image is looked at, which may hang or not be there: what is counted and told meanwhile is of that one.
static void name_point(struct protection *p)
{
	struct point_known known = point_known_read(p->place.state, &p->config);
	if (!known.point || !known.cut_wall_ns || (p->ledger->has_point && known.point < p->ledger->point)) // of a state directory that was brought back
		return;
	LOCK_SCOPE(&p->lock);
	p->has_point = true;
	p->point = known.point;
	p->point_cut_mono_ns = protection_mono_of(p, known.cut_wall_ns);
	tick(p);
}

// Before anything runs. Without memory for it there is none.
void account_load(struct protection *p)
{
	struct err err = {0};
	char name[LEDGER_PATH_SIZE];
	uint64_t now_ns = protection_now_ns(p);
	int64_t wall_ns = env_wall_ns(p->place.env);
	if (!p->place.accounts)
		return;
	p->ledger = malloc(sizeof(*p->ledger));
	if (!p->ledger)
		return;
	(void)snprintf(name, sizeof(name), "protections/%s/ledger", p->config.name);
	ledger_file_init(&p->ledger_file, p->place.state, name);
	int rc = ledger_file_load(&p->ledger_file, p->ledger, &err);
	if (rc && rc != -ENOENT)
		log_warning("the record of ages is begun anew protection=%s: %s", p->config.name, err.text);
	if (rc)
		ledger_init(p->ledger, p->config.rpo_ms, objective_of(p), now_ns, wall_ns);
	else
		ledger_resume(p->ledger, p->config.paused ? RPO_CAUSE_PAUSED : RPO_CAUSE_SOURCE_DOWN, now_ns, wall_ns);
	p->ledger_saved_ns = now_ns;
	if (rc == 0)
		name_point(p);
}

// On the monotonic clock, on which a cut before the boot of this host was at a negative time.
static uint64_t age_ms(int64_t cut_mono_ns, uint64_t now_ns)
{
	int64_t age_ns = (int64_t)now_ns - cut_mono_ns;
	return age_ns > 0 ? (uint64_t)age_ns / MS_NS : 0;
}

// With the lock held. A step of this host's clock, by itself, moves the receiver's away from it by as much.
static void count_to(struct protection *p, uint64_t now_ns)
{
	int64_t step_ms = ledger_tick(p->ledger, now_ns, env_wall_ns(p->place.env));
	if (step_ms && p->greeted)
		account_clock(p, &(struct greet_clock){.offset_ns = greet_offset_less(p->clock_offset.offset_ns, step_ms), .error_ns = p->clock_offset.error_ns});
}

void account_clock(struct protection *p, const struct greet_clock *clock)
{
	p->clock_offset = *clock;
	clock_note(p->config.name, CLOCK_AT_SOURCE, clock->offset_ns, clock->error_ns, &p->clock_told);
}

void account_greeted(struct protection *p, const struct greet_clock *clock)
{
	p->clock_steps_ns = 0;
	account_clock(p, clock);
}

// What this host's clock was set by until now is in what is known first: the measure is by the clock of now.
void account_time(struct protection *p, const struct channel_time *told)
{
	if (p->ledger)
		count_to(p, protection_now_ns(p));
	const int64_t step_ms = (told->time.steps_ns - p->clock_steps_ns) / (int64_t)MS_NS; // both within a quarter of the range
	const struct greet_clock known = {.offset_ns = greet_offset_less(p->clock_offset.offset_ns, -step_ms), .error_ns = p->clock_offset.error_ns};
	uint64_t round_ns = min_u64(told->round_ms + 1, INT64_MAX / 4 / MS_NS) * MS_NS, ago_ns = min_u64(told->ago_ms, INT64_MAX / 4 / MS_NS) * MS_NS;
	const struct greet_clock again = greet_clock_of(greet_offset_less(env_wall_ns(p->place.env), (int64_t)((round_ns + ago_ns) / MS_NS)), round_ns, told->time.wall_ns);
	p->clock_steps_ns = told->time.steps_ns;
	const struct greet_clock better = greet_clock_better(known, again);
	account_clock(p, &better);
}

static void tick(struct protection *p)
{
	uint64_t now_ns = protection_now_ns(p);
	struct misses before = misses_of(p->ledger);
	count_to(p, now_ns);
	ledger_rpo(p->ledger, p->config.rpo_ms);
	p->ledger->objective_ppm = objective_of(p);
	ledger_cause(p->ledger, protection_cause_stands(p, now_ns)); // of a miss that begins before the next tick, too
	if (p->position_known && !p->has_point)
		ledger_no_point(p->ledger);
	else if (p->has_point) // also the same one: after a start it says what the time away was
		ledger_point(p->ledger, p->point, age_ms(p->point_cut_mono_ns, now_ns), 0, 0);
	misses_emit(p->config.name, p->ledger, before);
}

void account_fenced(struct protection *p, bool fenced)
{
	bool turn = p->fenced != fenced;
	p->fenced = fenced;
	if (turn && p->ledger)
		tick(p);
}

// What stood in the way until now does no more.
void account_opened(struct protection *p)
{
	if (p->ledger)
		tick(p);
}

void account_committed(struct protection *p, uint64_t point, int64_t cut_mono_ns, uint64_t dirty_bytes, uint64_t wire_bytes)
{
	uint64_t now_ns = protection_now_ns(p);
	LOCK_SCOPE(&p->lock);
	p->point = point; // all at once: a tick that comes before the images are synced finds the point, its cut, and no other
	p->point_cut_mono_ns = cut_mono_ns;
	p->has_point = p->position_known = true;
	if (!p->ledger)
		return;
	struct misses before = misses_of(p->ledger);
	count_to(p, now_ns);
	ledger_point(p->ledger, point, age_ms(cut_mono_ns, now_ns), dirty_bytes, wire_bytes);
	misses_emit(p->config.name, p->ledger, before);
}

// The disk is not waited for with the lock held: a copy is written. Not while it is unknown which point is the newest: what was saved before tells more of the time between.
static void save(struct protection *p)
{
	struct err err = {0};
	AUTO_FREE struct ledger *copy = malloc(sizeof(*copy));
	if (!copy)
		return;
	{
		LOCK_SCOPE(&p->lock);
		if (ledger_unknown(p->ledger))
			return;
		memcpy(copy, p->ledger, sizeof(*copy));
		for (unsigned i = 0; i < LEDGER_SLOTS; i++)
			p->ledger->slot[i].changed = false;
		for (unsigned i = 0; i < LEDGER_MISSES; i++)
			p->ledger->ended[i].changed = false;
	}
	STATE_SCOPE(p);
	if (ledger_file_save(&p->ledger_file, copy, &err) == 0)
		return;
	log_warning("the record of ages is not written protection=%s: %s", p->config.name, err.text);
	LOCK_SCOPE(&p->lock);
	ledger_changed(p->ledger);
}

bool protection_tick(struct protection *p)
{
	uint64_t now_ns = protection_now_ns(p);
	settings_tick(p);
	if (!p->ledger)
		return false;
	{
		LOCK_SCOPE(&p->lock);
		tick(p);
	}
	if (now_ns - p->ledger_saved_ns < SAVE_EVERY_S * 1000 * MS_NS)
		return false;
	p->ledger_saved_ns = now_ns;
	return true;
}

void protection_save(struct protection *p)
{
	save(p);
}

// Nobody ticks any more.
void account_end(struct protection *p)
{
	if (!p->ledger)
		return;
	{
		LOCK_SCOPE(&p->lock);
		tick(p);
	}
	save(p);
	ledger_file_close(&p->ledger_file);
	free(p->ledger);
	p->ledger = NULL;
}

// With the lock held.
json_t *account_rpo_json(struct protection *p)
{
	if (!p->ledger)
		return json_null();
	tick(p);
	return history_rpo_json(p->ledger);
}

json_t *protection_history_json(struct protection *p, const char *window, struct err *err)
{
	enum ledger_window which;
	if (history_window_read(window, &which, err))
		return NULL;
	LOCK_SCOPE(&p->lock);
	if (!p->ledger) {
		(void)err_set(err, -ENOMEM, "there is no record of ages of %s: the replicator had no memory for it", p->config.name);
		return NULL;
	}
	tick(p);
	json_t *json = history_json(p->ledger, p->config.name, which);
	if (!json)
		(void)err_set(err, -ENOMEM, "out of memory");
	return json;
}
