// SPDX-License-Identifier: Apache-2.0
// When to cut, over simulated time: the known cases of an RPO, what a failure leads to, and that nothing wraps.
#include "base/size.h"
#include "replicator/schedule.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define RPO_MAX (24 * HOUR)
#define NOON (UINT64_C(12) * HOUR)

// One protection in a world where each transfer takes what it takes. Counts from cut to cut.
struct world {
	struct schedule schedule;
	uint64_t now;
	uint64_t cycles, idle; // idle: time in which nothing was under way
	uint64_t violation;    // time in which the newest point was older than the RPO
	uint64_t worst_age;
	uint64_t first_violation; // when; 0 never
};

// With nothing dirty: what a transfer takes is what it took.
static uint64_t next_cut(const struct schedule *schedule, uint64_t now)
{
	return schedule_next_cut(schedule, &(struct schedule_load){.now_ns = now});
}

static struct world world_at(uint64_t start, uint64_t rpo)
{
	return (struct world){.schedule = {.rpo_ns = rpo}, .now = start};
}

// The time until `commit` was lived with the point cut at `cut`.
static void count_age(struct world *w, uint64_t cut, uint64_t commit)
{
	uint64_t due = cut + w->schedule.rpo_ns;
	w->worst_age = max_u64(w->worst_age, commit - cut);
	if (commit <= due)
		return;
	w->violation += commit - due;
	if (!w->first_violation)
		w->first_violation = due;
}

// Waits as the cycle thread does, cuts, and commits after `transfer`. Returns when it cut.
static uint64_t cycle(struct world *w, uint64_t transfer)
{
	uint64_t due = next_cut(&w->schedule, w->now), cut = max_u64(due, w->now);
	w->idle += cut - w->now;
	if (w->schedule.has_point)
		count_age(w, (uint64_t)w->schedule.last_cut_ns, cut + transfer);
	w->now = cut + transfer;
	schedule_committed(&w->schedule, &(struct schedule_done){.begin_ns = cut, .cut_ns = cut, .commit_ns = w->now});
	w->cycles++;
	return cut;
}

static void first_cut_is_due_at_once(void **state)
{
	(void)state;
	struct schedule s = {.rpo_ns = 15 * MINUTE};
	assert_true(next_cut(&s, NOON) <= NOON);
	assert_true(next_cut(&s, 0) == 0);
}

static void rpo_15_min_transfer_5_min_cuts_again_by_12_10(void **state)
{
	(void)state;
	struct world w = world_at(NOON, 15 * MINUTE);
	assert_true(cycle(&w, 5 * MINUTE) == NOON);
	uint64_t due = next_cut(&w.schedule, w.now);
	assert_true(due <= NOON + 10 * MINUTE);
	assert_true(due >= NOON + 5 * MINUTE); // not before the first is through
	for (int i = 0; i < 1000; i++)
		(void)cycle(&w, 5 * MINUTE);
	assert_true(w.violation == 0);
	assert_true(w.idle > 0);
}

static void rpo_15_min_transfer_7_and_a_half_min_transfers_all_the_time_without_a_violation(void **state)
{
	(void)state;
	struct world w = world_at(NOON, 15 * MINUTE);
	for (int i = 0; i < 1000; i++)
		(void)cycle(&w, 15 * MINUTE / 2);
	assert_true(w.violation == 0);
	assert_true(w.idle == 0);
	assert_true(w.worst_age == 15 * MINUTE); // to the second
}

static void rpo_15_min_transfer_10_min_violates_from_12_15_to_12_20_and_goes_on(void **state)
{
	(void)state;
	struct world w = world_at(NOON, 15 * MINUTE);
	(void)cycle(&w, 10 * MINUTE);
	(void)cycle(&w, 10 * MINUTE);
	assert_true(w.first_violation == NOON + 15 * MINUTE);
	assert_true(w.now == NOON + 20 * MINUTE);
	assert_true(w.violation == 5 * MINUTE);
	for (int i = 0; i < 98; i++)
		(void)cycle(&w, 10 * MINUTE);
	assert_true(w.violation == 99 * 5 * MINUTE); // in each period
	assert_true(w.idle == 0);
	assert_true(w.now == NOON + 1000 * MINUTE); // nothing was left out
}

static void rpo_30_min_done_within_half_is_kept_whatever_the_moment(void **state)
{
	(void)state;
	static const uint64_t rpos[] = {SECOND, 15 * SECOND, 30 * MINUTE, RPO_MAX};
	for (size_t r = 0; r < sizeof(rpos) / sizeof(rpos[0]); r++)
		for (uint64_t part = 0; part <= 50; part++) {
			struct world w = world_at(NOON, rpos[r]);
			for (int i = 0; i < 300; i++)
				(void)cycle(&w, rpos[r] * part / 100);
			assert_true(w.violation == 0);
			assert_true(w.worst_age <= rpos[r]);
		}
}

static void transfer_that_takes_a_quarter_longer_than_the_last_keeps_the_rpo(void **state)
{
	(void)state;
	struct world w = world_at(NOON, 15 * MINUTE);
	for (uint64_t transfer = SECOND; transfer < 6 * MINUTE; transfer += transfer / 4)
		(void)cycle(&w, transfer);
	assert_true(w.violation == 0);
}

static void transfers_that_vary_within_what_was_seen_lately_keep_the_rpo(void **state)
{
	(void)state;
	uint64_t seed = 3;
	struct world w = world_at(NOON, 15 * MINUTE);
	(void)cycle(&w, 6 * MINUTE);
	for (int week = 0; week < 2000; week++)
		(void)cycle(&w, w.schedule.forecast.longest_ns - w.schedule.forecast.longest_ns * draw_below(&seed, 100) / 400 +
					10 * SECOND);
	assert_true(w.violation == 0);
}

static void one_long_transfer_is_forgotten_after_a_while(void **state)
{
	(void)state;
	struct world w = world_at(NOON, 15 * MINUTE);
	(void)cycle(&w, 10 * HOUR);
	for (int i = 0; i < 60; i++)
		(void)cycle(&w, SECOND);
	uint64_t cut = cycle(&w, SECOND);
	assert_true(next_cut(&w.schedule, w.now) - cut > 14 * MINUTE);
}

static void idle_protection_does_not_cut_more_often_than_it_must(void **state)
{
	(void)state;
	struct world w = world_at(NOON, 15 * MINUTE);
	for (int i = 0; i < 101; i++)
		(void)cycle(&w, 0);
	assert_true(w.now - NOON >= 100 * (15 * MINUTE * 9 / 10));
}

// --- what is dirty ---

// A guest that writes `growth` bytes a second to new places, a line that takes `rate`, and a host that looks when it is told to.
struct line {
	struct world w;
	uint64_t growth, rate, fixed;
	uint64_t since;	    // the last cut
	uint64_t precopy;   // time that each cycle spends before its cut
	uint64_t looks;
};

static uint64_t dirty_at(const struct line *line, uint64_t now)
{
	return (now - line->since) / 1000 * line->growth / 1000000;
}

// As the cycle thread does: asks, sleeps until it is to ask again, cuts when it is due. Returns when it began.
static uint64_t live(struct line *line)
{
	struct world *w = &line->w;
	for (;; line->looks++) {
		struct schedule_load load = {.now_ns = w->now, .dirty_bytes = dirty_at(line, w->now)};
		uint64_t due = schedule_next_cut(&w->schedule, &load);
		if (due <= w->now)
			break;
		w->now = schedule_look_again(&w->schedule, w->now, due);
	}
	uint64_t begin = w->now, bytes = dirty_at(line, begin), cut = begin + line->precopy;
	uint64_t commit = cut + line->fixed + bytes * 1000 / line->rate * 1000000;
	if (w->schedule.has_point)
		count_age(w, (uint64_t)w->schedule.last_cut_ns, commit);
	line->since = cut;
	w->now = commit;
	schedule_committed(&w->schedule, &(struct schedule_done){.begin_ns = begin, .cut_ns = cut, .commit_ns = commit, .dirty_bytes = bytes});
	w->cycles++;
	return begin;
}

static struct line line_of(uint64_t rpo, uint64_t growth, uint64_t rate)
{
	return (struct line){.w = world_at(NOON, rpo), .growth = growth, .rate = rate, .fixed = SECOND / 20, .since = NOON};
}

// At 100 MB/s on the line, whatever a guest writes up to a third of it keeps every objective.
static void rpo_is_kept_at_any_steady_load_that_the_line_can_take(void **state)
{
	(void)state;
	static const uint64_t rpos[] = {SECOND, 15 * SECOND, 15 * MINUTE, RPO_MAX};
	for (size_t r = 0; r < sizeof(rpos) / sizeof(rpos[0]); r++)
		for (uint64_t growth = 0; growth <= 33000000; growth += 3000000) {
			struct line line = line_of(rpos[r], growth, 100000000);
			for (int i = 0; i < 500; i++)
				(void)live(&line);
			assert_true(line.w.violation == 0);
			assert_true(line.w.worst_age <= rpos[r]);
			assert_true(line.looks < 500 * 80);
		}
}

// Ten times the load from one moment on: it is seen while it grows, not after the cycle that came too late.
static void cut_comes_earlier_when_a_guest_begins_to_write_more(void **state)
{
	(void)state;
	struct line line = line_of(15 * MINUTE, 2000000, 100000000);
	for (int i = 0; i < 50; i++)
		(void)live(&line);
	uint64_t calm = (uint64_t)line.w.schedule.last_cut_ns;
	line.growth = 30000000;
	uint64_t begin = live(&line);
	assert_true(begin - calm < 13 * MINUTE);
	for (int i = 0; i < 50; i++)
		(void)live(&line);
	assert_true(line.w.violation == 0);
}

// The due time is where waiting longer would be too long, with what becomes dirty meanwhile: to within a hundredth.
static void due_is_where_the_transfer_of_what_will_be_dirty_just_fits(void **state)
{
	(void)state;
	struct schedule s = {.rpo_ns = 15 * MINUTE, .has_point = true, .last_cut_ns = NOON, .forecast = {.fixed_ns = SECOND, .rate = 100000000}};
	struct schedule_load load = {.now_ns = NOON + 5 * MINUTE, .dirty_bytes = UINT64_C(9000000000)}; // 30 MB/s
	uint64_t due = schedule_next_cut(&s, &load), deadline = schedule_deadline(&s);
	uint64_t ends = due + schedule_lead_ns(&s, schedule_dirty_at(&s, &load, due)) + schedule_spare_ns(&s);
	assert_true(due > load.now_ns && ends <= deadline + SECOND && ends >= deadline - 9 * SECOND);
}

static void fast_guest_is_not_cut_at_once_after_each_commit(void **state)
{
	(void)state;
	struct line line = line_of(15 * MINUTE, 10000000, 100000000);
	for (int i = 0; i < 50; i++)
		(void)live(&line);
	uint64_t begin = line.w.now;
	for (int i = 0; i < 50; i++)
		(void)live(&line);
	assert_true(line.w.now - begin > 50 * 11 * MINUTE); // of 15: the transfer, its quarter, the spare minute
}

// A line that stood still in its first cycle shows a longest cycle that each of the next ones forgets only in part, and a rate that no cycle with little
// would ever correct if it said nothing of rates: cuts would come earlier, each would have less to ship, and so it would stay.
static void line_that_stood_still_at_first_makes_no_storm_of_cuts(void **state)
{
	(void)state;
	struct line line = line_of(4 * SECOND, 200000, 40000000);
	line.growth = 2000000; // so that the first cycle has much
	line.rate = 50000;
	line.w.now += SECOND;
	(void)live(&line);
	assert_true(line.w.now - line.since > 30 * SECOND);
	line.since = line.w.now; // as if nothing was written meanwhile
	line.growth = 200000;
	line.rate = 40000000;
	uint64_t from = line.w.now, cycles = line.w.cycles;
	while (line.w.now - from < 2 * MINUTE) {
		(void)live(&line);
		assert_true(line.w.now - line.since < SECOND);
	}
	assert_true(line.w.cycles - cycles < 50); // the objective alone asks for 30
	assert_true(line.w.schedule.forecast.rate > 1000000);
}

// Cycles of the next `objectives` objectives, after one in which the line stood still for `still` beside what it takes else.
static uint64_t cycles_after_standstill(struct line *line, uint64_t still, unsigned objectives)
{
	uint64_t fixed = line->fixed;
	line->fixed += still;
	(void)live(line);
	line->fixed = fixed;
	uint64_t from = line->w.now, cycles = line->w.cycles;
	while (line->w.now - from < objectives * line->w.schedule.rpo_ns)
		(void)live(line);
	return line->w.cycles - cycles;
}

// Whatever the load, and however long it was: cut does not follow upon cut.
static void line_that_stood_still_once_makes_no_storm_of_cuts(void **state)
{
	(void)state;
	static const uint64_t rpos[] = {SECOND, 15 * SECOND, 15 * MINUTE, HOUR};
	static const uint64_t growths[] = {0, 10000, 1000000, 10000000};
	for (size_t r = 0; r < sizeof(rpos) / sizeof(rpos[0]); r++)
		for (size_t g = 0; g < sizeof(growths) / sizeof(growths[0]); g++)
			for (uint64_t still = rpos[r]; still <= 64 * rpos[r]; still *= 4) {
				struct line line = line_of(rpos[r], growths[g], 100000000);
				for (int i = 0; i < 50; i++)
					(void)live(&line);
				uint64_t calm = cycles_after_standstill(&line, 0, 10);
				assert_true(cycles_after_standstill(&line, still, 10) <= calm + 8); // of which there are 11 to 15
			}
}

// A second one after a while is a standstill as well; what comes twice in a row is what cycles take now.
static void cycles_that_take_longer_for_good_are_believed_with_the_second(void **state)
{
	(void)state;
	struct line line = line_of(15 * MINUTE, 0, 100000000);
	for (int i = 0; i < 50; i++)
		(void)live(&line);
	line.fixed = 6 * MINUTE;
	(void)live(&line);
	(void)live(&line);
	uint64_t violation = line.w.violation;
	for (int i = 0; i < 100; i++)
		(void)live(&line);
	assert_true(line.w.violation == violation);
}

// What a cycle does before its cut is time in which the older point ages.
static void time_of_precopy_counts_as_part_of_the_transfer(void **state)
{
	(void)state;
	struct line line = line_of(15 * MINUTE, 1000000, 100000000);
	line.precopy = 4 * MINUTE;
	for (int i = 0; i < 100; i++)
		(void)live(&line);
	assert_true(line.w.violation == 0);
}

static void sync_of_hours_does_not_make_the_next_cycles_early(void **state)
{
	(void)state;
	struct schedule s = {.rpo_ns = 15 * MINUTE};
	schedule_committed(&s, &(struct schedule_done){.begin_ns = NOON,
						       .cut_ns = NOON + 10 * HOUR,
						       .commit_ns = NOON + 10 * HOUR + SECOND,
						       .dirty_bytes = UINT64_C(1) << 40,
						       .sync = true});
	struct schedule_load load = {.now_ns = NOON + 10 * HOUR + SECOND};
	assert_true(schedule_next_cut(&s, &load) > NOON + 10 * HOUR + 13 * MINUTE);
}

// Never later because of more that is dirty, never before the last cut, never after the deadline; whatever is in the forecast.
static void due_is_between_cut_and_deadline_and_sinks_with_what_is_dirty(void **state)
{
	(void)state;
	uint64_t seed = 11;
	for (int i = 0; i < 20000; i++) {
		uint64_t cut = draw_below(&seed, UINT64_MAX / 2);
		struct schedule s = {.rpo_ns = SECOND + draw_below(&seed, RPO_MAX),
				     .has_point = true,
				     .last_cut_ns = (int64_t)cut,
				     .forecast = {.fixed_ns = draw_below(&seed, HOUR) >> draw_below(&seed, 40),
						  .rate = draw(&seed) >> draw_below(&seed, 64),
						  .growth = draw(&seed) >> draw_below(&seed, 64),
						  .longest_ns = draw_below(&seed, HOUR) >> draw_below(&seed, 40)}};
		uint64_t now = cut + draw_below(&seed, 2 * s.rpo_ns), before = UINT64_MAX;
		for (uint64_t dirty = 0; dirty < UINT64_C(1) << 60; dirty = dirty * 8 + draw_below(&seed, 4096)) {
			struct schedule_load load = {.now_ns = now, .dirty_bytes = dirty};
			uint64_t due = schedule_next_cut(&s, &load);
			assert_true(due >= cut && due <= cut + s.rpo_ns);
			assert_true(due <= before);
			assert_true(schedule_dirty_at(&s, &load, now) == dirty);
			before = due;
		}
	}
}

// The host was started since: on its clock the cut was before 0.
static void point_of_before_this_boot_is_due_by_its_age(void **state)
{
	(void)state;
	struct schedule s = {.rpo_ns = HOUR, .has_point = true, .last_cut_ns = -55 * (int64_t)MINUTE, .forecast = {.fixed_ns = SECOND, .rate = 100000000}};
	struct schedule_load load = {.now_ns = MINUTE};
	uint64_t due = schedule_next_cut(&s, &load);
	assert_true(schedule_age_ns(&s, MINUTE) == 56 * MINUTE && schedule_deadline(&s) == 5 * MINUTE);
	assert_true(due > MINUTE && due < 5 * MINUTE);
	load.dirty_bytes = UINT64_C(1) << 40;
	assert_true(schedule_next_cut(&s, &load) <= MINUTE);
	for (s.last_cut_ns = -(int64_t)HOUR; s.last_cut_ns > -(int64_t)(900 * HOUR); s.last_cut_ns *= 2) { // it is late already
		assert_true(schedule_deadline(&s) == 1 && schedule_next_cut(&s, &load) <= MINUTE);
		load.dirty_bytes = 0;
		assert_true(schedule_next_cut(&s, &load) <= MINUTE);
	}
	schedule_committed(&s, &(struct schedule_done){.begin_ns = MINUTE, .cut_ns = MINUTE + 1, .commit_ns = MINUTE + SECOND, .dirty_bytes = 1 << 20});
	assert_true(s.last_cut_ns == (int64_t)MINUTE + 1 && schedule_deadline(&s) == HOUR + MINUTE + 1);
}

// --- failures ---

static void backoff_doubles_from_1_s_to_30_s(void **state)
{
	(void)state;
	static const uint64_t seconds[] = {1, 2, 4, 8, 16, 30, 30, 30};
	for (unsigned n = 0; n < 8; n++)
		assert_true(schedule_backoff_ns(n, 0) == seconds[n] * SECOND);
	assert_true(schedule_backoff_ns(1000, 0) == 30 * SECOND);
	assert_true(schedule_backoff_ns(UINT32_MAX, 0) == 30 * SECOND);
}

static void backoff_is_less_by_up_to_a_quarter_in_step_with_chance(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		uint64_t whole = schedule_backoff_ns(n, 0), before = whole;
		for (uint64_t random = 0; random <= UINT32_MAX; random += UINT32_MAX / 1000) {
			uint64_t wait = schedule_backoff_ns(n, (uint32_t)random);
			assert_true(wait <= before && wait >= whole / 4 * 3);
			before = wait;
		}
		assert_true(schedule_backoff_ns(n, UINT32_MAX) == whole / 4 * 3);
	}
}

// A receiver that takes every connection and refuses every cycle, at once: only a committed point ends the growing of the waits.
static void backoff_grows_until_there_is_progress(void **state)
{
	(void)state;
	struct backoff backoff = {0};
	uint64_t now = NOON, most = 0;
	for (unsigned n = 0; n < 20; n++) {
		backoff_failed(&backoff, now, (uint32_t)(n * 214748364u));
		uint64_t wait = backoff.not_before_ns - now, whole = schedule_backoff_ns(n, 0);
		assert_true(wait <= whole && wait >= whole / 4 * 3);
		most = max_u64(most, wait);
		now = backoff.not_before_ns; // connected, opened, refused
	}
	assert_true(most > 22 * SECOND);
	backoff_progress(&backoff);
	assert_true(backoff.not_before_ns == 0);
	backoff_failed(&backoff, now, 0);
	assert_true(backoff.not_before_ns == now + SECOND);
	backoff.failures = UINT32_MAX;
	backoff_failed(&backoff, now, 0);
	assert_true(backoff.not_before_ns == now + 30 * SECOND);
}

// Two protections whose receiver came back do not knock in step for ever.
static void waits_of_failed_cycles_have_jitter(void **state)
{
	(void)state;
	struct world w = world_at(NOON, SECOND);
	for (unsigned n = 0; n < 6; n++) {
		struct schedule other = w.schedule;
		schedule_failed(&w.schedule, w.now, 0);
		schedule_failed(&other, w.now, UINT32_MAX);
		uint64_t whole = next_cut(&w.schedule, w.now) - w.now;
		assert_true(next_cut(&other, w.now) - w.now == whole / 4 * 3);
	}
}

static void failures_never_make_a_tight_loop(void **state)
{
	(void)state;
	struct world w = world_at(NOON, SECOND);
	(void)cycle(&w, SECOND / 10);
	unsigned tries = 0;
	for (uint64_t end = w.now + HOUR; w.now < end;
	     tries++) { // each cycle fails at once; the point is hopelessly late
		uint64_t due = next_cut(&w.schedule, w.now);
		w.now = max_u64(w.now, due);
		schedule_failed(&w.schedule, w.now, 0);
		assert_true(next_cut(&w.schedule, w.now) >= w.now + SECOND * 3 / 4);
		assert_true(next_cut(&w.schedule, w.now) <= w.now + 30 * SECOND);
	}
	assert_true(tries <= 3600 / 30 + 8);
	assert_true(tries >= 3600 / 30); // nor does it give up
	w.schedule.failures = UINT32_MAX - 1;
	schedule_failed(&w.schedule, w.now, 0);
	assert_true(next_cut(&w.schedule, w.now) == w.now + 30 * SECOND);
}

static void commit_ends_the_backoff(void **state)
{
	(void)state;
	struct world w = world_at(NOON, 15 * MINUTE);
	for (int i = 0; i < 9; i++)
		schedule_failed(&w.schedule, w.now, 0);
	assert_true(next_cut(&w.schedule, w.now) == w.now + 30 * SECOND);
	uint64_t cut = cycle(&w, MINUTE);
	assert_int_equal(w.schedule.failures, 0);
	assert_true(next_cut(&w.schedule, w.now) > cut + 10 * MINUTE);
}

// --- limits ---

static void far_clocks_and_long_objectives_do_not_wrap(void **state)
{
	(void)state;
	static const uint64_t rpos[] = {SECOND, 15 * MINUTE, RPO_MAX};
	static const uint64_t starts[] = {
		0, 1, NOON, UINT64_MAX / 4, UINT64_MAX / 2 - RPO_MAX, UINT64_MAX / 2};
	static const uint64_t transfers[] = {0, 1, SECOND, 7 * MINUTE, RPO_MAX, 100 * RPO_MAX, UINT64_MAX / 4};
	for (size_t r = 0; r < 3; r++)
		for (size_t s = 0; s < 6; s++)
			for (size_t t = 0; t < 7; t++) {
				struct world w = world_at(starts[s], rpos[r]);
				uint64_t cut = cycle(&w, transfers[t]);
				uint64_t due = next_cut(&w.schedule, w.now);
				assert_true(cut == starts[s]);
				assert_true(due >= cut && due <= cut + rpos[r]);
				schedule_failed(&w.schedule, w.now, 0);
				due = next_cut(&w.schedule, w.now);
				assert_true(due == w.now + SECOND);
			}
}

static void transfer_of_any_length_moves_the_cut_earlier_and_never_later(void **state)
{
	(void)state;
	uint64_t before = UINT64_MAX;
	for (uint64_t transfer = 0; transfer < 20 * MINUTE; transfer += 7 * SECOND) {
		struct world w = world_at(NOON, 15 * MINUTE);
		(void)cycle(&w, transfer);
		uint64_t due = next_cut(&w.schedule, w.now);
		assert_true(due <= before && due >= NOON + 15 * MINUTE / 8);
		before = due;
	}
	assert_true(before == NOON + 15 * MINUTE / 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_cut_is_due_at_once),
		cmocka_unit_test(rpo_15_min_transfer_5_min_cuts_again_by_12_10),
		cmocka_unit_test(rpo_15_min_transfer_7_and_a_half_min_transfers_all_the_time_without_a_violation),
		cmocka_unit_test(rpo_15_min_transfer_10_min_violates_from_12_15_to_12_20_and_goes_on),
		cmocka_unit_test(rpo_30_min_done_within_half_is_kept_whatever_the_moment),
		cmocka_unit_test(transfer_that_takes_a_quarter_longer_than_the_last_keeps_the_rpo),
		cmocka_unit_test(transfers_that_vary_within_what_was_seen_lately_keep_the_rpo),
		cmocka_unit_test(one_long_transfer_is_forgotten_after_a_while),
		cmocka_unit_test(idle_protection_does_not_cut_more_often_than_it_must),
		cmocka_unit_test(rpo_is_kept_at_any_steady_load_that_the_line_can_take),
		cmocka_unit_test(cut_comes_earlier_when_a_guest_begins_to_write_more),
		cmocka_unit_test(due_is_where_the_transfer_of_what_will_be_dirty_just_fits),
		cmocka_unit_test(fast_guest_is_not_cut_at_once_after_each_commit),
		cmocka_unit_test(line_that_stood_still_at_first_makes_no_storm_of_cuts),
		cmocka_unit_test(line_that_stood_still_once_makes_no_storm_of_cuts),
		cmocka_unit_test(cycles_that_take_longer_for_good_are_believed_with_the_second),
		cmocka_unit_test(time_of_precopy_counts_as_part_of_the_transfer),
		cmocka_unit_test(sync_of_hours_does_not_make_the_next_cycles_early),
		cmocka_unit_test(due_is_between_cut_and_deadline_and_sinks_with_what_is_dirty),
		cmocka_unit_test(point_of_before_this_boot_is_due_by_its_age),
		cmocka_unit_test(backoff_doubles_from_1_s_to_30_s),
		cmocka_unit_test(backoff_is_less_by_up_to_a_quarter_in_step_with_chance),
		cmocka_unit_test(backoff_grows_until_there_is_progress),
		cmocka_unit_test(waits_of_failed_cycles_have_jitter),
		cmocka_unit_test(failures_never_make_a_tight_loop),
		cmocka_unit_test(commit_ends_the_backoff),
		cmocka_unit_test(far_clocks_and_long_objectives_do_not_wrap),
		cmocka_unit_test(transfer_of_any_length_moves_the_cut_earlier_and_never_later),
	};
	return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
