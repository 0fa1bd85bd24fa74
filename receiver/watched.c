// SPDX-License-Identifier: Apache-2.0
#include "receiver/watched.h"

#include "base/size.h"
#include "link/clock_note.h"
#include "link/events.h"
#include "link/json.h"
#include "link/misses.h"
#include "rpo/advice.h"
#include "rpo/cause.h"

#include <stdio.h>

#define MS_NS INT64_C(1000000)
#define S_NS UINT64_C(1000000000)

void watched_init(struct watched *w, const char *name, const struct watched_now *now)
{
	(void)snprintf(w->name, sizeof(w->name), "%s", name);
	w->since_ns = now->mono_ns;
	if (w->ledger.cause == RPO_CAUSE_PAUSED) // it said so before we were started again, and comes back when that is over
		w->report.state = WIRE_REPORT_PAUSED;
}

// --- what may be told ---

// One more event, from the allowance of its kind; what was left out before is told with it.
static bool may_tell(struct watched *w, struct allowance *kind, const struct watched_now *now)
{
	if (!allowance_take(kind, now->mono_ns, WATCHED_EVENT_EACH_S * S_NS, WATCHED_EVENTS_BURST)) {
		w->left_out++;
		return false;
	}
	if (w->left_out)
		event_emit(EVENT_WARNING, "state", w->name, json_pack("{s:o}", "left_out", json_count(w->left_out)),
			   "%llu events of %s were left out: its source brings about too many", (unsigned long long)w->left_out, w->name);
	w->left_out = 0;
	return true;
}

bool watched_may_tell(struct watched *w, const struct watched_now *now)
{
	return may_tell(w, &w->comings, now);
}

// --- why there is no newer point ---

static enum rpo_cause cause_connected(const struct watched *w)
{
	struct rpo_circumstances c = {.paused = w->report.state == WIRE_REPORT_PAUSED};
	if (w->report.cause != RPO_CAUSE_NONE)
		return w->report.cause < RPO_CAUSES ? (enum rpo_cause)w->report.cause : RPO_CAUSE_UNKNOWN;
	for (unsigned i = 0; i < RPO_STAGES; i++)
		c.stage_ns[i] = w->report.stage_ms[i] * (uint64_t)MS_NS;
	return rpo_cause_of(&c);
}

// One that is refused for want of room goes, and comes again to ask: it is down once it stays away.
static enum rpo_cause cause_away(const struct watched *w, const struct watched_now *now)
{
	if (w->pulse.unprotected) // whatever it said before
		return RPO_CAUSE_NONE;
	if (w->report.state == WIRE_REPORT_PAUSED)
		return RPO_CAUSE_PAUSED;
	bool dark = now->mono_ns - w->since_ns >= WATCHED_DARK_SECONDS * S_NS;
	return w->pulse.limited && !dark ? RPO_CAUSE_SPACE : RPO_CAUSE_SOURCE_DOWN;
}

static enum rpo_cause cause_of(const struct watched *w, const struct watched_now *now)
{
	if (w->pulse.fenced)
		return RPO_CAUSE_FENCED;
	if (w->pulse.broken)
		return RPO_CAUSE_TARGET_ERROR;
	if (!w->connected)
		return cause_away(w, now);
	if (w->pulse.limited)
		return RPO_CAUSE_SPACE;
	return w->reported ? cause_connected(w) : RPO_CAUSE_UNKNOWN;
}

static void cause_set(struct watched *w, const struct watched_now *now)
{
	w->cause = cause_of(w, now);
	ledger_cause(&w->ledger, w->cause);
}

// No objective binds it until it is back.
static bool is_over(const struct watched *w)
{
	return w->pulse.unprotected && !w->pulse.fenced && !w->connected;
}

// What a call changed, as events, as many as there may be.
static void tell_misses(struct watched *w, const struct watched_now *now, struct misses before)
{
	bool news = w->ledger.miss.serial > before.begun || w->ledger.misses_ended > before.ended;
	if (news && may_tell(w, &w->objectives, now))
		misses_emit(w->name, &w->ledger, before);
}

// Within WIRE_CLOCK_OFFSET_MAX, whatever a source says.
static int64_t distance(int64_t ours_ns, int64_t theirs_ns)
{
	int64_t difference;
	if (__builtin_sub_overflow(ours_ns, theirs_ns, &difference) || difference > WIRE_CLOCK_OFFSET_MAX)
		return WIRE_CLOCK_OFFSET_MAX;
	return difference < -WIRE_CLOCK_OFFSET_MAX ? -WIRE_CLOCK_OFFSET_MAX : difference;
}

static void count_to(struct watched *w, const struct watched_now *now)
{
	int64_t step_ms = ledger_tick(&w->ledger, now->mono_ns, now->wall_ns);
	int64_t step_ns;
	if (step_ms && w->clock_known) { // our own clock was set: what we know of the distance moves with it
		if (__builtin_mul_overflow(step_ms, -MS_NS, &step_ns))
			step_ns = step_ms > 0 ? INT64_MIN : INT64_MAX;
		w->clock_offset_ns = distance(w->clock_offset_ns, step_ns);
		w->own_steps_ns = distance(w->own_steps_ns, step_ns);
	}
}

// --- the other clock ---

static void clock_take(struct watched *w, const struct watched_now *now, int64_t offset_ns, uint64_t error_ns)
{
	bool told = w->clock_told;
	w->clock_known = true;
	w->clock_offset_ns = offset_ns;
	w->clock_error_ns = error_ns;
	if (!allowance_left(&w->clocks, now->mono_ns, WATCHED_EVENT_EACH_S * S_NS, WATCHED_EVENTS_BURST))
		return; // what was told stands until there may be another event
	clock_note(w->name, CLOCK_AT_TARGET, offset_ns, error_ns, &w->clock_told);
	if (w->clock_told != told)
		allowance_spend(&w->clocks, now->mono_ns, WATCHED_EVENT_EACH_S * S_NS);
}

// A REPORT that leaves while nothing else is under way: only a link or a receiver that stands still makes it late.
static bool is_quiet(const struct wire_report *report)
{
	return report->state == WIRE_REPORT_RUNNING && report->next_cut_ms != 0;
}

// How far the source's clock is behind what it says of it. A REPORT that is late looks the same, and what waits in the buffers of a thin line makes
// each of a long cycle late: so it is believed of the least of several on a quiet line, that do not come all at once. That it is ahead no delay can feign.
static int64_t behind_take(struct watched *w, const struct watched_now *now, int64_t off_ns, int64_t doubt_ns, bool quiet)
{
	struct watched_behind *b = &w->behind;
	if (off_ns <= doubt_ns) {
		*b = (struct watched_behind){.reports = 0};
		return off_ns < -doubt_ns ? off_ns : 0;
	}
	if (b->believed_ns > off_ns)
		b->believed_ns = off_ns;
	if (b->reports && b->least_ns > off_ns)
		b->least_ns = off_ns;
	if (!quiet || (b->reports && now->mono_ns - b->newest_ns < WATCHED_BEHIND_PACE_S * S_NS))
		return b->believed_ns;
	if (b->reports++ == 0) {
		b->since_ns = now->mono_ns;
		b->least_ns = off_ns;
	}
	b->newest_ns = now->mono_ns;
	if (b->reports >= WATCHED_BEHIND_REPORTS && now->mono_ns - b->since_ns >= WATCHED_BEHIND_SECONDS * S_NS)
		*b = (struct watched_behind){.believed_ns = b->least_ns};
	return b->believed_ns;
}

// What S measured last, and what either clock was set by since: S has its own steps in its offset, ours of this session are beside it, whenever it measured.
static void clock_report(struct watched *w, const struct watched_now *now, const struct wire_report *report)
{
	int64_t said_ns = distance(report->clock_offset_ns, -w->own_steps_ns);
	int64_t off_ns = distance(distance(now->wall_ns, report->wall_ns), said_ns);
	int64_t doubt_ns = CLOCK_NOTE_NS + (int64_t)min_u64(report->clock_error_ns, INT64_MAX / 2);
	int64_t step_ns = behind_take(w, now, off_ns, doubt_ns, is_quiet(report));
	clock_take(w, now, distance(said_ns, -step_ns), step_ns ? S_NS : report->clock_error_ns);
}

// --- what happens ---

static void over_end(struct watched *w, const struct watched_now *now)
{
	w->pulse.unprotected = false;
	if (may_tell(w, &w->comings, now))
		event_emit(EVENT_INFO, "state", w->name, NULL, "%s is protected at its source again", w->name);
}

static void over_take(struct watched *w)
{
	if (w->ledger.has_point)
		ledger_no_point(&w->ledger);
}

void watched_goodbye(struct watched *w, const struct watched_now *now)
{
	struct misses before = misses_of(&w->ledger);
	count_to(w, now);
	w->pulse.unprotected = true;
	if (may_tell(w, &w->comings, now))
		event_emit(EVENT_INFO, "state", w->name, NULL, "%s was unprotected at its source; its points are kept until `kagami forget %s`", w->name, w->name);
	if (is_over(w))
		over_take(w);
	cause_set(w, now);
	tell_misses(w, now, before);
}

void watched_connected(struct watched *w, const struct watched_now *now, int64_t their_wall_ns)
{
	count_to(w, now);
	if (w->pulse.unprotected)
		over_end(w, now);
	w->connected = true;
	w->reported = false;
	w->since_ns = now->mono_ns;
	w->report = (struct wire_report){.state = WIRE_REPORT_RUNNING};
	w->own_steps_ns = 0;
	w->behind = (struct watched_behind){.reports = 0};
	// What a HELLO says is late by its way here, which its source measures and reports; a second is more than any link that works.
	clock_take(w, now, distance(now->wall_ns, their_wall_ns), S_NS);
	if (w->dark_told)
		event_emit(EVENT_INFO, "source-dark", w->name, NULL, "the source of %s is heard of again", w->name);
	w->dark_told = false;
	cause_set(w, now);
}

void watched_disconnected(struct watched *w, const struct watched_now *now)
{
	count_to(w, now);
	w->connected = false;
	w->since_ns = now->mono_ns;
	cause_set(w, now);
}

struct wire_time watched_time(struct watched *w, const struct watched_now *now)
{
	count_to(w, now); // a step that this call is the first to see is in both
	return (struct wire_time){.wall_ns = now->wall_ns, .steps_ns = w->own_steps_ns};
}

bool watched_report(struct watched *w, const struct watched_now *now, const struct wire_report *report)
{
	if (!allowance_take(&w->reports, now->mono_ns, WATCHED_REPORT_EACH_S * S_NS, WATCHED_REPORTS_BURST))
		return false;
	struct misses before = misses_of(&w->ledger);
	count_to(w, now);
	w->report = *report;
	w->reported = true;
	clock_report(w, now, report);
	if (w->ledger.rpo_ms != report->rpo_ms)
		ledger_rpo(&w->ledger, report->rpo_ms);
	w->pulse.rpo_ms = report->rpo_ms;
	cause_set(w, now);
	tell_misses(w, now, before);
	return true;
}

// --- ages ---

static uint64_t passed_ms(int64_t ns)
{
	return ns > 0 ? (uint64_t)(ns / MS_NS) : 0;
}

uint64_t watched_age_ms(const struct watched_ages *ages, uint64_t number, int64_t cut_wall_ns)
{
	if (ages->newest == 0 || number > ages->newest)
		return passed_ms(distance(distance(ages->wall_ns, cut_wall_ns), ages->offset_ns));
	return ages->newest_age_ms + (number < ages->newest ? passed_ms(distance(ages->newest_cut_wall_ns, cut_wall_ns)) : 0);
}

static struct watched_ages ages_by_the_clocks(const struct watched *w, const struct watched_now *now)
{
	return (struct watched_ages){.wall_ns = now->wall_ns, .offset_ns = w->clock_known ? w->clock_offset_ns : 0};
}

struct watched_ages watched_ages(const struct watched *w, const struct watched_now *now)
{
	struct watched_ages ages = ages_by_the_clocks(w, now);
	if (w->ledger.has_point && w->ledger.point == w->pulse.last_point) { // else its cut is not at hand
		ages.newest = w->ledger.point;
		ages.newest_cut_wall_ns = w->pulse.last_cut_wall_ns;
		ages.newest_age_ms = ledger_age_ms(&w->ledger);
	}
	return ages;
}

// Of one that the ledger is only now told.
static uint64_t age_of(const struct watched *w, const struct watched_now *now, int64_t cut_wall_ns)
{
	const struct watched_ages ages = ages_by_the_clocks(w, now);
	return watched_age_ms(&ages, 0, cut_wall_ns);
}

void watched_committed(struct watched *w, const struct watched_now *now, uint64_t number, int64_t cut_wall_ns, uint64_t dirty_bytes, uint64_t wire_bytes)
{
	struct misses before = misses_of(&w->ledger);
	count_to(w, now);
	w->known = true;
	w->pulse.last_point = number;
	w->pulse.last_cut_wall_ns = cut_wall_ns;
	w->pulse.limited = false;
	ledger_point(&w->ledger, number, age_of(w, now, cut_wall_ns), dirty_bytes, wire_bytes);
	cause_set(w, now);
	tell_misses(w, now, before);
}

static void dark_check(struct watched *w, const struct watched_now *now)
{
	if (w->connected || w->dark_told || !w->ledger.has_point || w->cause != RPO_CAUSE_SOURCE_DOWN ||
	    now->mono_ns - w->since_ns < WATCHED_DARK_SECONDS * S_NS)
		return;
	char age[32];
	advice_duration(ledger_age_ms(&w->ledger), age);
	w->dark_told = true;
	event_emit(EVENT_WARNING, "source-dark", w->name, json_pack("{s:o}", "age_ms", json_count(ledger_age_ms(&w->ledger))),
		   "the source of %s has not been heard of for %d s; its newest point is %s old; if it was unprotected there for good, `kagami forget %s` ends this", w->name,
		   WATCHED_DARK_SECONDS, age, w->name);
}

static void pulse_take(struct watched *w, const struct watched_now *now, const struct replica_pulse *pulse)
{
	// Numbers rise: one that is lower was read before a commit of which we have been told since.
	bool news = pulse->last_point && (!w->ledger.has_point || !w->known || pulse->last_point > w->ledger.point);
	w->pulse = *pulse;
	if (pulse->rpo_ms && pulse->rpo_ms != w->ledger.rpo_ms)
		ledger_rpo(&w->ledger, pulse->rpo_ms);
	if (is_over(w))
		over_take(w);
	else if (news)
		ledger_point(&w->ledger, pulse->last_point, age_of(w, now, pulse->last_cut_wall_ns), 0, 0);
	w->known = true;
}

void watched_tick(struct watched *w, const struct watched_now *now, const struct replica_pulse *pulse)
{
	struct misses before = misses_of(&w->ledger);
	count_to(w, now);
	if (pulse)
		pulse_take(w, now, pulse);
	cause_set(w, now);
	tell_misses(w, now, before);
	dark_check(w, now);
}
