// SPDX-License-Identifier: Apache-2.0
// The ledger of ages against an oracle that counts second by second: a week with gaps, restarts and clock steps of a year; and one promise at a time.
#include "base/size.h"
#include "rpo/advice.h"
#include "rpo/ledger.h"
#include "rpo/ledger_file.h"
#include "tests/lib/twin.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NS INT64_C(1000000000)
#define BEGAN INT64_C(1790000000) // some second of the wall clock
enum { MINUTE = 60, HOUR = 3600, DAY = 86400, WEEK = 7 * DAY, YEAR = 365 * DAY };
enum { PAUSED = 1, DOWN = 4, READ = 10, NETWORK = 12 };

static struct ledger *ledger_of(uint64_t rpo_s)
{
	struct ledger *l = malloc(sizeof(*l));
	assert_non_null(l);
	ledger_init(l, rpo_s * 1000, LEDGER_OBJECTIVE_DEFAULT, 0, BEGAN * NS);
	return l;
}

static int64_t tick(struct ledger *l, int64_t at_s)
{
	return ledger_tick(l, (uint64_t)at_s * NS, (BEGAN + at_s) * NS);
}

static void commit(struct ledger *l, int64_t at_s, uint64_t number, uint64_t age_s)
{
	(void)tick(l, at_s);
	ledger_point(l, number, age_s * 1000, 4096, 100);
}

static uint64_t bucket_sum(const struct ledger_slot *slot)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < LEDGER_BUCKETS; i++)
		sum += slot->bucket_ms[i];
	return sum;
}

// L1, and L2 as far as one slot shows it.
static void check_slots(const struct ledger *l)
{
	for (enum ledger_scale scale = 0; scale < LEDGER_SCALES; scale++)
		for (size_t i = 0; i < ledger_slot_count(scale); i++) {
			const struct ledger_slot *slot = &l->slot[(scale ? LEDGER_FINE_SLOTS : 0) + i];
			uint64_t missed = 0;
			if (slot->number == LEDGER_EMPTY)
				continue;
			for (unsigned c = 0; c < LEDGER_CAUSES; c++)
				missed += slot->missed_ms[c];
			assert_true((size_t)slot->number % ledger_slot_count(scale) == i);
			assert_true((int64_t)slot->observed_ms + slot->unobserved_ms <= ledger_slot_length_ms(scale));
			assert_true(bucket_sum(slot) == slot->observed_ms);
			assert_true(missed <= slot->observed_ms);
		}
}

// --- the oracle ---

struct second { // that ended at `clock`
	int64_t clock;
	uint64_t age, rpo; // s
	unsigned cause;
	bool observed, missed, commit;
	bool kept; // then the age was within the RPO, by a commit or by another RPO
	uint64_t lead, dirty, wire;
};

struct oracle {
	struct second *at;
	size_t count, room;
};

static struct second *oracle_add(struct oracle *o, int64_t clock)
{
	if (o->count == o->room) {
		o->room = o->room ? 2 * o->room : 1 << 16;
		o->at = realloc(o->at, o->room * sizeof(*o->at));
		assert_non_null(o->at);
	}
	o->at[o->count] = (struct second){.clock = clock};
	return &o->at[o->count++];
}

static int by_age(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

// Within the bucket of the right age: from it, less the second that the oracle cannot see into, up to its upper bound.
static void check_percentile(const uint64_t *ages, size_t count, unsigned percent, uint64_t got_ms, uint64_t max_ms, uint64_t rpo_min, uint64_t rpo_max)
{
	if (!count) {
		assert_true(got_ms == 0);
		return;
	}
	size_t rank = (count * percent + 99) / 100;
	uint64_t age_ms = ages[rank ? rank - 1 : 0] * 1000, bound;
	unsigned i = ledger_first_bucket(rpo_max * 1000);
	while (ledger_bound_ms(i) < age_ms)
		i++;
	bound = age_ms > 8 * rpo_min * 1000 ? max_ms : min_u64(ledger_bound_ms(i), max_ms);
	assert_true(got_ms + 1000 >= age_ms);
	assert_true(got_ms <= bound);
}

static void check_window(const struct oracle *o, const struct ledger *l, enum ledger_window window, uint64_t rpo_min, uint64_t rpo_max)
{
	struct ledger_summary got, want = {0};
	ledger_sum(l, window, &got);
	uint64_t *ages = malloc((o->count + 1) * sizeof(*ages));
	size_t count = 0;
	assert_non_null(ages);
	for (size_t i = 0; i < o->count; i++) {
		const struct second *s = &o->at[i];
		if (s->clock * 1000 >= got.from_ms && s->commit) { // in the slot that begins with it
			want.points++;
			want.dirty_bytes += s->dirty;
			want.wire_bytes += s->wire;
			want.lead_ms = max_u64(want.lead_ms, s->lead * 1000);
		}
		if (s->clock * 1000 <= got.from_ms)
			continue;
		if (!s->observed) // the first point is at the end of a second that does not count
			continue;
		ages[count++] = s->age;
		want.observed_ms += 1000;
		want.max_ms = max_u64(want.max_ms, s->age * 1000);
		want.missed_ms += s->missed ? 1000 : 0;
		want.missed_by_ms[s->cause] += s->missed ? 1000 : 0;
	}
	assert_true(got.to_ms == l->clock_ms);
	assert_true(got.observed_ms == want.observed_ms);
	assert_true(got.unobserved_ms == want.unobserved_ms);
	assert_true(got.missed_ms == want.missed_ms);
	assert_true(memcmp(got.missed_by_ms, want.missed_by_ms, sizeof(got.missed_by_ms)) == 0);
	assert_true(got.max_ms == want.max_ms);
	assert_true(got.lead_ms == want.lead_ms);
	assert_true(got.points == want.points);
	assert_true(got.dirty_bytes == want.dirty_bytes);
	assert_true(got.wire_bytes == want.wire_bytes);
	qsort(ages, count, sizeof(*ages), by_age);
	check_percentile(ages, count, 50, got.p50_ms, got.max_ms, rpo_min, rpo_max);
	check_percentile(ages, count, 99, got.p99_ms, got.max_ms, rpo_min, rpo_max);
	free(ages);
}

// The newest misses are the newest stretches of missed seconds, and the rest of what the ledger holds of them fits.
static void check_misses(const struct oracle *o, const struct ledger *l)
{
	uint64_t serial = l->miss.serial, checked = 0;
	for (size_t i = o->count; i > 0 && serial > 0 && checked < LEDGER_MISSES - 1;) {
		if (!o->at[i - 1].missed) {
			i--;
			continue;
		}
		size_t end = i;
		uint64_t max = 0, by[LEDGER_CAUSES] = {0};
		for (; i > 0 && o->at[i - 1].missed && (i == end || (o->at[i - 1].clock + 1 == o->at[i].clock && !o->at[i - 1].kept)); i--) {
			max = max_u64(max, o->at[i - 1].age);
			by[o->at[i - 1].cause]++;
		}
		if (i > 0 && o->at[i - 1].clock + 1 < o->at[i].clock) // a gap of a year, of which the oracle has the end
			return;
		bool open = end == o->count && l->missing;
		const struct ledger_miss *miss = open ? &l->miss : &l->ended[serial % LEDGER_MISSES];
		assert_true(miss->serial == serial);
		assert_true(miss->began_ms == (o->at[i].clock - 1) * 1000);
		assert_true(miss->open == open);
		assert_true(open || miss->ended_ms == o->at[end - 1].clock * 1000);
		assert_true(miss->max_ms == max * 1000);
		assert_true(miss->cause == ledger_worst(by));
		serial--;
		checked++;
	}
	assert_true(checked > 0 || l->miss.serial == 0);
}

// --- a week ---

struct week {
	struct oracle oracle;
	struct sim *sim;
	struct env_root *root;
	struct ledger_file file;
	struct ledger *ledger;
	uint64_t seed, mono, number; // mono: s since boot
	int64_t clock, wall, cut;    // s; cut by the ledger's clock
	uint64_t rpo;
	unsigned cause, restarts, steps;
};

static void week_tick(struct week *w)
{
	(void)ledger_tick(w->ledger, w->mono * NS, w->wall * NS);
}

static void week_second(struct week *w)
{
	w->mono++;
	w->wall++;
	w->clock++;
	if (!w->number)
		return;
	struct second *s = oracle_add(&w->oracle, w->clock);
	s->age = (uint64_t)(w->clock - w->cut);
	s->rpo = w->rpo;
	s->observed = true;
	s->missed = s->age > w->rpo;
	s->cause = w->cause;
}

static void week_commit(struct week *w)
{
	uint64_t age = draw_below(&w->seed, 20) ? draw_below(&w->seed, w->rpo) : draw_below(&w->seed, 4 * w->rpo);
	week_tick(w);
	if (w->number && w->clock - (int64_t)age <= w->cut)
		age = (uint64_t)(w->clock - w->cut) > 0 ? (uint64_t)(w->clock - w->cut) - 1 : 0;
	w->number++;
	w->cut = w->clock - (int64_t)age;
	ledger_point(w->ledger, w->number, age * 1000, w->number % 7 * 4096, w->number % 5 * 100);
	struct second *s = w->oracle.count && w->oracle.at[w->oracle.count - 1].clock == w->clock ? &w->oracle.at[w->oracle.count - 1]
												    : oracle_add(&w->oracle, w->clock);
	assert_false(s->commit); // one in a second
	s->commit = true;
	s->kept = age <= w->rpo;
	s->lead = age;
	s->dirty = w->number % 7 * 4096;
	s->wire = w->number % 5 * 100;
}

// Until it is known which point is the newest the gap goes on, for some time.
static void week_unknown(struct week *w)
{
	for (uint64_t n = draw_below(&w->seed, 2) ? draw_below(&w->seed, 60) : 0, i = 0; i < n; i++) {
		week_second(w);
		if (w->number && i < LEDGER_UNKNOWN_MS_MAX / 1000)
			w->oracle.at[w->oracle.count - 1].cause = DOWN;
		if (draw_below(&w->seed, 8) == 0)
			week_tick(w);
	}
	week_tick(w);
}

// Stopped for `down` seconds, in which the wall clock was set by `step`; the next observation finds the same point.
static void week_restart(struct week *w, uint64_t down, int64_t step)
{
	struct err err = {0};
	week_tick(w);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	ledger_file_close(&w->file);
	int64_t before = w->clock, gap = (int64_t)down + step;
	w->wall += gap;
	w->mono = draw_below(&w->seed, 1000); // the host may have booted anew
	w->clock += gap > 0 ? gap : 0;
	ledger_init(w->ledger, 1, 0, 0, 0);
	ledger_file_init(&w->file, w->root, "vm1.ledger");
	assert_int_equal(ledger_file_load(&w->file, w->ledger, &err), 0);
	ledger_resume(w->ledger, DOWN, w->mono * NS, w->wall * NS);
	for (int64_t at = w->clock - before > 9 * DAY ? w->clock - 9 * DAY : before; w->number && at < w->clock; at++) {
		struct second *s = oracle_add(&w->oracle, at + 1);
		s->observed = true;
		s->age = (uint64_t)(at + 1 - w->cut);
		s->missed = s->age > w->rpo;
		s->cause = DOWN;
	}
	w->restarts++;
	week_unknown(w);
	ledger_point(w->ledger, w->number, 0, 0, 0);
}

static void week_restart_plain(struct week *w)
{
	static const int64_t steps[] = {0, 0, 0, 5, -5, -2 * HOUR, 3 * HOUR};
	week_restart(w, draw_below(&w->seed, 4) ? draw_below(&w->seed, 300) : draw_below(&w->seed, 5 * HOUR), steps[draw_below(&w->seed, 7)]);
}

static struct week *week_new(uint64_t seed)
{
	struct week *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->sim = sim_new(seed);
	assert_int_equal(env_root_open(sim_env(w->sim), "/", &w->root), 0);
	w->seed = seed;
	w->rpo = 60;
	w->wall = w->clock = BEGAN;
	w->mono = 1000;
	w->cause = NETWORK;
	w->ledger = malloc(sizeof(*w->ledger));
	assert_non_null(w->ledger);
	ledger_init(w->ledger, w->rpo * 1000, LEDGER_OBJECTIVE_DEFAULT, w->mono * NS, w->wall * NS);
	ledger_cause(w->ledger, w->cause);
	ledger_file_init(&w->file, w->root, "vm1.ledger");
	return w;
}

static void week_free(struct week *w)
{
	ledger_file_close(&w->file);
	env_root_close(w->root);
	sim_free(w->sim);
	free(w->oracle.at);
	free(w->ledger);
	free(w);
}

// What may happen at the end of a second.
static void week_chance(struct week *w)
{
	struct err err = {0};
	bool late = draw_below(&w->seed, 200) == 0; // sometimes nothing comes for long
	if (draw_below(&w->seed, 40) == 0)
		week_commit(w);
	if (late && w->number)
		for (uint64_t n = draw_below(&w->seed, 4 * w->rpo); n > 0; n--)
			week_second(w);
	if (draw_below(&w->seed, 5) == 0)
		week_tick(w);
	if (draw_below(&w->seed, 900) == 0) {
		static const unsigned causes[] = {PAUSED, READ, NETWORK};
		week_tick(w);
		w->cause = causes[draw_below(&w->seed, 3)];
		ledger_cause(w->ledger, w->cause);
	}
	if (draw_below(&w->seed, 20000) == 0) {
		static const uint64_t rpos[] = {15, 60, 300};
		week_tick(w);
		w->rpo = rpos[draw_below(&w->seed, 3)];
		ledger_rpo(w->ledger, w->rpo * 1000);
		if (w->oracle.count)
			w->oracle.at[w->oracle.count - 1].kept |= ledger_age_ms(w->ledger) <= w->rpo * 1000;
	}
	if (draw_below(&w->seed, 30000) == 0) { // by the hand of an operator, or NTP
		static const int64_t steps[] = {YEAR, -YEAR, HOUR, -HOUR, 3, -3};
		int64_t step = steps[w->steps++ % 6];
		week_tick(w);
		w->wall += step;
		assert_true(ledger_tick(w->ledger, w->mono * NS, w->wall * NS) == step * 1000);
	}
	if (draw_below(&w->seed, 600) == 0) {
		week_tick(w);
		assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	}
	if (w->number && draw_below(&w->seed, 20000) == 0)
		week_restart_plain(w);
}

static void check_week(struct week *w)
{
	week_tick(w);
	assert_true(w->ledger->clock_ms == w->clock * 1000);
	check_slots(w->ledger);
	for (enum ledger_window window = 0; window < LEDGER_WINDOWS; window++)
		check_window(&w->oracle, w->ledger, window, 15, 300);
	check_misses(&w->oracle, w->ledger);
	assert_true(ledger_wall_ms(w->ledger, w->ledger->clock_ms) / 1000 - w->wall <= 2 && ledger_wall_ms(w->ledger, w->ledger->clock_ms) / 1000 - w->wall >= -2);
}

static void ledger_of_a_week_with_gaps_restarts_and_steps_is_what_an_oracle_counts(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct week *w = week_new(seed);
		int64_t end = w->clock + WEEK + DAY;
		while (w->clock < end) {
			week_second(w);
			week_chance(w);
			if (draw_below(&w->seed, 50000) == 0)
				check_week(w);
		}
		check_week(w);
		assert_true(w->restarts > 5 && w->steps > 5 && w->ledger->miss.serial > 100);
		week_free(w);
	}
}

// L3 of docs/invariants.md: it loses at most the history before it, never what comes after.
static void clock_step_of_a_year_while_stopped_costs_at_most_what_was_before(void **state)
{
	(void)state;
	static const int64_t steps[] = {YEAR, -YEAR};
	for (unsigned i = 0; i < 2; i++) {
		struct week *w = week_new(77 + i);
		for (unsigned s = 0; s < 2 * HOUR; s++) {
			week_second(w);
			if (s % 40 == 0)
				week_commit(w);
		}
		week_restart(w, 100, steps[i]);
		for (unsigned s = 0; s < HOUR; s++) {
			week_second(w);
			if (s % 50 == 0)
				week_commit(w);
		}
		check_week(w);
		struct ledger_summary hour;
		ledger_sum(w->ledger, LEDGER_HOUR, &hour);
		assert_true(hour.points >= HOUR / 50 - 1);
		week_free(w);
	}
}

// --- one promise at a time ---

static void ledger_is_the_same_however_often_it_ticks(void **state)
{
	(void)state;
	struct ledger *often = ledger_of(30), *seldom = ledger_of(30);
	uint64_t seed = 5, now_ms = 0, number = 0;
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t next = now_ms + draw_below(&seed, 90000), age = draw_below(&seed, 50000);
		while (now_ms < next) {
			now_ms += 1 + draw_below(&seed, 9999);
			now_ms = min_u64(now_ms, next);
			(void)ledger_tick(often, now_ms * 1000000, BEGAN * NS + (int64_t)now_ms * 1000000);
		}
		(void)ledger_tick(seldom, now_ms * 1000000, BEGAN * NS + (int64_t)now_ms * 1000000);
		number++;
		ledger_point(often, number, age, 1, 2);
		ledger_point(seldom, number, age, 1, 2);
	}
	assert_memory_equal(often, seldom, sizeof(*often));
	free(often);
	free(seldom);
}

// RPO 15 min, and a transfer of 10 min all the time: a miss from 12:15 to 12:20 in each period.
static void transfer_of_two_thirds_of_the_rpo_is_missed_for_a_third(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(15 * MINUTE);
	ledger_cause(l, NETWORK);
	for (unsigned i = 1; i <= 144; i++)
		commit(l, (int64_t)i * 10 * MINUTE, i, 10 * MINUTE);
	struct ledger_summary day;
	ledger_sum(l, LEDGER_DAY, &day);
	assert_true(day.max_ms == 20 * MINUTE * 1000);
	assert_true(day.missed_by_ms[NETWORK] == UINT64_C(143) * 5 * MINUTE * 1000);
	assert_true(day.missed_ms == day.missed_by_ms[NETWORK]);
	assert_true(l->miss.serial == 143 && !l->missing);
	const struct ledger_miss *miss = &l->ended[143 % LEDGER_MISSES];
	assert_true(miss->ended_ms - miss->began_ms == 5 * MINUTE * 1000 && miss->cause == NETWORK);
	assert_true(day.p50_ms >= 15 * MINUTE * 1000 && day.p50_ms <= 18 * MINUTE * 1000);
	assert_true(ledger_budget_left_ms(l) < 0);
	free(l);
}

static void nothing_is_counted_before_the_first_point(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(1);
	struct ledger_summary hour;
	(void)tick(l, 1000);
	ledger_sum(l, LEDGER_HOUR, &hour);
	assert_true(hour.observed_ms == 0 && hour.missed_ms == 0 && hour.p99_ms == 0 && !l->missing);
	commit(l, 1001, 1, 0);
	ledger_no_point(l);
	(void)tick(l, 2000);
	ledger_sum(l, LEDGER_HOUR, &hour);
	assert_true(hour.observed_ms == 0 && hour.points == 1);
	free(l);
}

static void miss_has_the_cause_that_has_the_most_of_it(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(10);
	commit(l, 10, 1, 0);
	ledger_cause(l, READ);
	(void)tick(l, 30); // missed for 10 s
	ledger_cause(l, NETWORK);
	(void)tick(l, 45); // 15 s
	ledger_cause(l, PAUSED);
	commit(l, 50, 2, 1); // 5 s
	const struct ledger_miss *miss = &l->ended[1];
	assert_true(miss->cause == NETWORK && miss->max_ms == 40000);
	assert_true(miss->began_ms == (BEGAN + 20) * 1000 && miss->ended_ms == (BEGAN + 50) * 1000);
	assert_true(l->total_missed_ms[READ] == 10000 && l->total_missed_ms[NETWORK] == 15000 && l->total_missed_ms[PAUSED] == 5000);
	free(l);
}

static void point_that_is_old_at_its_commit_ends_no_miss(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(10);
	commit(l, 10, 1, 0);
	commit(l, 40, 2, 12);
	assert_true(l->missing && l->misses_ended == 0);
	commit(l, 41, 3, 10); // as old as the objective is within it
	assert_true(!l->missing && l->misses_ended == 1 && l->ended[1].max_ms == 30000);
	free(l);
}

static void longer_rpo_ends_a_miss_and_a_shorter_one_begins_it(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(10);
	commit(l, 10, 1, 0);
	(void)tick(l, 30);
	assert_true(l->missing);
	ledger_rpo(l, 25000);
	assert_true(!l->missing && l->ended[1].ended_ms == (BEGAN + 30) * 1000);
	ledger_rpo(l, 5000);
	(void)tick(l, 31);
	assert_true(l->missing && l->miss.began_ms == (BEGAN + 30) * 1000);
	free(l);
}

// A gap is not observed until the point is known; then it was kept or missed all along, or stays unknown.
static void gap_counts_when_the_point_before_it_is_still_the_newest(void **state)
{
	(void)state;
	for (unsigned newer = 0; newer < 2; newer++) {
		struct ledger *l = ledger_of(60);
		struct ledger_summary day;
		commit(l, 100, 7, 0);
		(void)tick(l, 130);
		ledger_resume(l, DOWN, 5, (BEGAN + 1130) * NS); // another boot
		ledger_sum(l, LEDGER_DAY, &day);
		assert_true(day.observed_ms == 30000 && day.unobserved_ms == 1000000 && day.missed_ms == 0);
		(void)ledger_tick(l, 20 * NS + 5, (BEGAN + 1150) * NS);
		ledger_point(l, newer ? 8 : 7, newer ? 500000 : 0, 0, 0);
		ledger_sum(l, LEDGER_DAY, &day);
		check_slots(l);
		if (newer) {
			assert_true(day.unobserved_ms == 1020000 && day.observed_ms == 30000 && day.missed_ms == 0);
			assert_true(!l->missing && l->miss.serial == 0);
		} else {
			assert_true(day.unobserved_ms == 0 && day.observed_ms == 1050000);
			assert_true(day.missed_by_ms[DOWN] == 990000 && day.missed_ms == 990000);
			assert_true(l->missing && l->miss.began_ms == (BEGAN + 160) * 1000 && l->miss.cause == DOWN);
		}
		free(l);
	}
}

static void point_that_nobody_names_counts_again_after_half_a_minute(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(60);
	struct ledger_summary day;
	commit(l, 100, 7, 0);
	(void)tick(l, 130);
	ledger_resume(l, DOWN, 0, (BEGAN + 131) * NS);
	ledger_cause(l, NETWORK);
	(void)ledger_tick(l, 29 * NS, (BEGAN + 160) * NS);
	(void)ledger_tick(l, 34 * NS, (BEGAN + 165) * NS);
	ledger_sum(l, LEDGER_DAY, &day);
	assert_true(day.unobserved_ms == 31000 && day.observed_ms == 34000);
	assert_true(l->missing && day.missed_by_ms[NETWORK] == 4000 && day.missed_ms == 4000);
	ledger_point(l, 7, 0, 0, 0);
	ledger_sum(l, LEDGER_DAY, &day);
	assert_true(day.unobserved_ms == 0 && day.observed_ms == 65000 && day.missed_by_ms[DOWN] == 1000 && day.missed_by_ms[NETWORK] == 4000);
	check_slots(l);
	free(l);
}

// L3: what was missed after that half a minute is of the miss that was open.
static void miss_that_went_on_while_nobody_named_a_point_ends_when_one_is_named(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(60);
	commit(l, 100, 7, 0);
	(void)tick(l, 200);
	assert_true(l->missing && !ledger_unknown(l));
	ledger_resume(l, DOWN, 0, (BEGAN + 300) * NS);
	assert_true(ledger_unknown(l));
	(void)ledger_tick(l, 20 * NS, (BEGAN + 320) * NS);
	assert_true(ledger_unknown(l));
	(void)ledger_tick(l, 40 * NS, (BEGAN + 340) * NS);
	assert_false(ledger_unknown(l));
	ledger_point(l, 9, 3000, 0, 0);
	assert_true(!l->missing && l->ended[1].ended_ms == (BEGAN + 340) * 1000);
	free(l);
}

static void miss_of_before_a_gap_ends_with_it_when_a_newer_point_is_found(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(60);
	commit(l, 100, 7, 0);
	(void)tick(l, 200);
	assert_true(l->missing);
	ledger_resume(l, DOWN, 0, (BEGAN + 5000) * NS);
	ledger_point(l, 9, 3000, 0, 0);
	assert_true(!l->missing && l->ended[1].ended_ms == (BEGAN + 200) * 1000);
	free(l);
}

static void step_of_a_year_changes_no_age_and_history_is_shown_by_the_clock_of_today(void **state)
{
	(void)state;
	struct ledger *l = ledger_of(3600);
	struct ledger_summary hour;
	commit(l, 100, 1, 0);
	assert_true(ledger_tick(l, UINT64_C(160) * NS, (BEGAN + 160 + YEAR) * NS) == INT64_C(1000) * YEAR);
	assert_true(ledger_age_ms(l) == 60000);
	assert_true(ledger_tick(l, UINT64_C(220) * NS, (BEGAN + 220 + YEAR) * NS) == 0);
	ledger_sum(l, LEDGER_HOUR, &hour);
	assert_true(hour.observed_ms == 120000 && hour.unobserved_ms == 0 && hour.max_ms == 120000);
	assert_true(ledger_wall_ms(l, hour.to_ms) == (BEGAN + 220 + YEAR) * 1000);
	free(l);
}

static void buckets_are_bounds_of_a_quarter_octave(void **state)
{
	(void)state;
	for (unsigned i = 16; i < LEDGER_SCALE_MAX; i++) {
		assert_true(ledger_bound_ms(i + 1) > ledger_bound_ms(i));
		assert_true((double)ledger_bound_ms(i + 1) <= (double)ledger_bound_ms(i) * 1.1893 + 2);
	}
	assert_true(ledger_bound_ms(40) == 1024);
	for (uint64_t rpo = 1; rpo <= UINT64_C(86400000) * 400; rpo *= 3)
		assert_true(ledger_first_bucket(rpo) + LEDGER_BUCKETS - 1 <= LEDGER_SCALE_MAX);
}

// --- advice ---

static bool advised(uint64_t rpo_s, uint64_t lead_s, uint64_t every_s, unsigned cause, unsigned hours, struct advice *ret_advice)
{
	struct ledger *l = ledger_of(rpo_s);
	ledger_cause(l, cause);
	uint64_t number = 0;
	for (uint64_t at = every_s; at < hours * (uint64_t)HOUR; at += every_s)
		commit(l, (int64_t)at, ++number, lead_s);
	bool advice = advice_of(l, 1u << PAUSED | 1u << DOWN, ret_advice);
	free(l);
	return advice;
}

static void advice_follows_its_rule(void **state)
{
	(void)state;
	struct advice a;
	assert_false(advised(60, 10, 40, NETWORK, 24, &a)); // kept, with no room for a quarter of it
	assert_true(advised(60, 20, 60, NETWORK, 24, &a)); // ages of 20 to 80 s
	assert_true(a.rpo_ms == 120000);
	assert_non_null(strstr(a.why, "2 min would have been kept"));
	assert_false(advised(60, 20, 60, PAUSED, 24, &a)); // an outage
	assert_false(advised(60, 20, 60, NETWORK, 1, &a)); // too little is known
	assert_true(advised(900, 1, 890, NETWORK, 24, &a));
	assert_true(a.rpo_ms == 5000);
	assert_non_null(strstr(a.why, "within 1 s of its cut: 5 s would be kept"));
	assert_false(advised(900, 100, 700, NETWORK, 24, &a)); // 250 s of 900
	assert_true(advice_step_ms(0) == 1000 && advice_step_ms(1001) == 2000 && advice_step_ms(UINT64_MAX) == 86400000);
}

// --- the file ---

static void saved_ledger_comes_back_as_it_was(void **state)
{
	(void)state;
	struct week *w = week_new(99);
	struct ledger *other = ledger_of(1);
	struct ledger_file file;
	struct err err = {0};
	for (unsigned s = 0; s < 3 * DAY; s++) {
		week_second(w);
		if (s % 70 == 3)
			week_commit(w);
		if (s % 5000 == 0 || s == 3 * DAY - 1) {
			week_tick(w);
			assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
		}
	}
	ledger_file_init(&file, w->root, "vm1.ledger");
	assert_int_equal(ledger_file_load(&file, other, &err), 0);
	ledger_file_close(&file);
	other->mono_ms = w->ledger->mono_ms; // is none of the next run's
	other->misses_ended = w->ledger->misses_ended;
	other->miss.ended_ms = w->ledger->miss.ended_ms; // of one that ended: it is in the list
	other->miss.changed = w->ledger->miss.changed;
	assert_memory_equal(other, w->ledger, sizeof(*other));
	free(other);
	week_free(w);
}

static void file_that_cannot_be_written_is_made_anew(void **state)
{
	(void)state;
	struct week *w = week_new(3);
	struct err err = {0};
	week_second(w);
	week_commit(w);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	sim_fail_at(w->sim, sim_ops(w->sim), -EIO, false);
	week_second(w);
	week_tick(w);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), -EIO);
	assert_true(!w->file.file && !w->file.made);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	ledger_file_close(&w->file); // and the descriptor given back
	week_second(w);
	week_tick(w);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	week_restart(w, 0, 0);
	check_week(w);
	week_free(w);
}

static void damaged_header_costs_one_save(void **state)
{
	(void)state;
	struct week *w = week_new(4);
	struct ledger *other = ledger_of(1);
	struct env_file *file = NULL;
	struct err err = {0};
	char damage = 1;
	week_second(w);
	week_commit(w);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	week_second(w);
	week_tick(w);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	assert_int_equal(env_open(w->root, "vm1.ledger", ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, &damage, 1, w->file.sequence % LEDGER_HEADERS * LEDGER_SECTOR + 50), 0);
	env_close(file);
	ledger_file_close(&w->file);
	assert_int_equal(ledger_file_load(&w->file, other, &err), 0);
	assert_true(other->clock_ms == (w->clock - 1) * 1000);
	free(other);
	week_free(w);
}

static void file_that_could_not_be_read_is_kept_aside(void **state)
{
	(void)state;
	struct week *w = week_new(5);
	struct ledger *other = ledger_of(1);
	struct ledger_file file;
	struct env_stat st;
	struct err err = {0};
	week_second(w);
	week_commit(w);
	assert_int_equal(ledger_file_save(&w->file, w->ledger, &err), 0);
	ledger_file_close(&w->file);
	for (unsigned op = 0; op < 2; op++) { // the opening, and the read
		ledger_file_init(&file, w->root, "vm1.ledger");
		sim_fail_at(w->sim, sim_ops(w->sim) + op, -EIO, false);
		assert_int_equal(ledger_file_load(&file, other, &err), -EIO);
		assert_true(sim_has_failed(w->sim) && file.unread);
		sim_fail_at(w->sim, SIM_NEVER, 0, false);
	}
	ledger_init(other, 15000, 0, 0, 0);
	assert_int_equal(ledger_file_save(&file, other, &err), 0);
	ledger_file_close(&file);
	ledger_file_init(&file, w->root, "vm1.ledger" LEDGER_UNREAD); // as it was
	assert_int_equal(ledger_file_load(&file, other, &err), 0);
	assert_true(other->clock_ms == w->ledger->clock_ms);
	ledger_file_close(&file);
	ledger_file_init(&file, w->root, "vm1.ledger"); // but damage is none that anybody needs
	struct env_file *raw = NULL;
	assert_int_equal(env_open(w->root, "vm1.ledger", ENV_WRITE, &raw), 0);
	assert_int_equal(env_truncate(raw, 100), 0);
	env_close(raw);
	assert_int_equal(env_unlink(w->root, "vm1.ledger" LEDGER_UNREAD), 0);
	assert_int_equal(ledger_file_load(&file, other, &err), -EBADMSG);
	assert_int_equal(ledger_file_save(&file, w->ledger, &err), 0);
	ledger_file_close(&file);
	assert_int_equal(env_stat(w->root, "vm1.ledger" LEDGER_UNREAD, &st), -ENOENT);
	free(other);
	week_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ledger_of_a_week_with_gaps_restarts_and_steps_is_what_an_oracle_counts),
		cmocka_unit_test(clock_step_of_a_year_while_stopped_costs_at_most_what_was_before),
		cmocka_unit_test(ledger_is_the_same_however_often_it_ticks),
		cmocka_unit_test(transfer_of_two_thirds_of_the_rpo_is_missed_for_a_third),
		cmocka_unit_test(nothing_is_counted_before_the_first_point),
		cmocka_unit_test(miss_has_the_cause_that_has_the_most_of_it),
		cmocka_unit_test(point_that_is_old_at_its_commit_ends_no_miss),
		cmocka_unit_test(longer_rpo_ends_a_miss_and_a_shorter_one_begins_it),
		cmocka_unit_test(gap_counts_when_the_point_before_it_is_still_the_newest),
		cmocka_unit_test(point_that_nobody_names_counts_again_after_half_a_minute),
		cmocka_unit_test(miss_of_before_a_gap_ends_with_it_when_a_newer_point_is_found),
		cmocka_unit_test(miss_that_went_on_while_nobody_named_a_point_ends_when_one_is_named),
		cmocka_unit_test(step_of_a_year_changes_no_age_and_history_is_shown_by_the_clock_of_today),
		cmocka_unit_test(buckets_are_bounds_of_a_quarter_octave),
		cmocka_unit_test(advice_follows_its_rule),
		cmocka_unit_test(saved_ledger_comes_back_as_it_was),
		cmocka_unit_test(file_that_cannot_be_written_is_made_anew),
		cmocka_unit_test(damaged_header_costs_one_save),
		cmocka_unit_test(file_that_could_not_be_read_is_kept_aside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
