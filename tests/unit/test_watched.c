// SPDX-License-Identifier: Apache-2.0
// What the receiver knows of a protection over time (receiver/watched.c), on a clock of the test's: dark sources, clocks that are apart, causes, and the
// events that come of them, each once.
#include "link/events.h"
#include "receiver/watch.h"
#include "receiver/watched.h"
#include "rpo/cause.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NS INT64_C(1000000000)
#define WALL (INT64_C(1790000000) * NS)

struct place {
	struct temp temp;
	struct events *events;
	struct watched *watched;
	struct watched_now now;
	struct replica_pulse pulse;
	uint64_t seen; // events
};

static struct place *place_new(uint64_t rpo_s)
{
	struct place *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	temp_open(&p->temp);
	assert_int_equal(events_open(env_posix(), p->temp.root, &p->events, NULL), 0);
	events_set_default(p->events);
	p->now = (struct watched_now){.mono_ns = 1000 * NS, .wall_ns = WALL};
	p->pulse.rpo_ms = rpo_s * 1000;
	p->watched = calloc(1, sizeof(*p->watched));
	assert_non_null(p->watched);
	ledger_init(&p->watched->ledger, rpo_s * 1000, LEDGER_OBJECTIVE_DEFAULT, p->now.mono_ns, p->now.wall_ns);
	watched_init(p->watched, "vm1", &p->now);
	return p;
}

static void place_free(struct place *p)
{
	events_set_default(NULL);
	events_close(p->events);
	temp_close(&p->temp);
	free(p->watched);
	free(p);
}

static void pass(struct place *p, unsigned seconds)
{
	for (unsigned i = 0; i < seconds; i++) {
		p->now.mono_ns += NS;
		p->now.wall_ns += NS;
		watched_tick(p->watched, &p->now, &p->pulse);
	}
}

static void commit(struct place *p, uint64_t age_s)
{
	p->pulse.last_point++;
	p->pulse.last_cut_wall_ns = p->now.wall_ns - (int64_t)age_s * NS;
	watched_committed(p->watched, &p->now, p->pulse.last_point, p->pulse.last_cut_wall_ns, 4096, 100);
}

static void report(struct place *p, enum wire_report_state state, unsigned cause)
{
	const struct wire_report report = {.state = state, .cause = (uint8_t)cause, .rpo_ms = p->pulse.rpo_ms, .wall_ns = p->now.wall_ns};
	watched_report(p->watched, &p->now, &report);
}

// How many events of the class came since this was asked last; the text of the newest is in `text`.
static unsigned news(struct place *p, const char *class, char text[EVENT_TEXT_SIZE])
{
	struct event event;
	struct event_filter filter = {.since = p->seen, .class = class};
	unsigned count = 0;
	for (; events_next(p->events, &filter, 0, &event) == 1; count++) {
		filter.since = event.id;
		(void)snprintf(text, EVENT_TEXT_SIZE, "%s", event.text);
		event_done(&event);
	}
	return count;
}

static void seen(struct place *p)
{
	p->seen = events_newest(p->events);
}

static void dark_source_is_told_once_and_its_point_ages(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 2);
	pass(p, 20);
	watched_disconnected(p->watched, &p->now);
	pass(p, 59);
	assert_int_equal(news(p, "source-dark", text), 0);
	assert_int_equal(news(p, "rpo-missed", text), 1); // at 30 s, without anybody there
	assert_non_null(strstr(text, "source-down"));
	pass(p, 100);
	assert_int_equal(news(p, "source-dark", text), 1);
	assert_non_null(strstr(text, "kagami forget"));
	assert_int_equal(news(p, "rpo-missed", text), 1);
	assert_true(ledger_age_ms(&p->watched->ledger) == 181000);
	assert_true(p->watched->ledger.miss.cause == RPO_CAUSE_SOURCE_DOWN);
	seen(p);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	assert_int_equal(news(p, "source-dark", text), 1);
	assert_int_equal(news(p, "rpo-kept", text), 0);
	commit(p, 1);
	assert_int_equal(news(p, "rpo-kept", text), 1);
	assert_non_null(strstr(text, "2 min 31 s"));
	place_free(p);
}

static void paused_source_is_not_dark(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 0);
	report(p, WIRE_REPORT_PAUSED, RPO_CAUSE_PAUSED);
	watched_disconnected(p->watched, &p->now);
	pass(p, 500);
	assert_int_equal(news(p, "source-dark", text), 0);
	assert_int_equal(news(p, "rpo-missed", text), 1);
	assert_true(p->watched->ledger.miss.cause == RPO_CAUSE_PAUSED);
	struct ledger saved = p->watched->ledger; // we are started again
	memset(p->watched, 0, sizeof(*p->watched));
	p->watched->ledger = saved;
	ledger_resume(&p->watched->ledger, RPO_CAUSE_TARGET_DOWN, p->now.mono_ns, p->now.wall_ns);
	watched_init(p->watched, "vm1", &p->now);
	pass(p, 500);
	assert_int_equal(news(p, "source-dark", text), 0);
	assert_true(p->watched->cause == RPO_CAUSE_PAUSED && p->watched->report.state == WIRE_REPORT_PAUSED);
	watched_connected(p->watched, &p->now, p->now.wall_ns); // and what it said then does not stand any more
	watched_disconnected(p->watched, &p->now);
	pass(p, 61);
	assert_int_equal(news(p, "source-dark", text), 1);
	place_free(p);
}

// Unprotected on purpose: no alarm begins, and one that stood ends, until it is back; a failover counts as ever.
static void source_that_said_goodbye_is_neither_missed_nor_dark(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 2);
	pass(p, 20);
	report(p, WIRE_REPORT_STOPPING, RPO_CAUSE_NONE);
	watched_goodbye(p->watched, &p->now); // its session is not missed yet
	p->pulse.unprotected = true;
	pass(p, 1);
	watched_disconnected(p->watched, &p->now);
	assert_int_equal(news(p, "state", text), 1);
	assert_non_null(strstr(text, "kagami forget vm1"));
	pass(p, 500);
	assert_int_equal(news(p, "source-dark", text), 0);
	assert_int_equal(news(p, "rpo-missed", text), 0);
	assert_int_equal(p->watched->cause, RPO_CAUSE_NONE);
	assert_false(p->watched->ledger.has_point);
	const struct watched_ages ages = watched_ages(p->watched, &p->now);
	assert_true(watched_age_ms(&ages, 1, p->pulse.last_cut_wall_ns) == 523000); // it is told all the same
	p->pulse.fenced = true;
	pass(p, 100);
	assert_int_equal(p->watched->cause, RPO_CAUSE_FENCED);
	p->pulse.fenced = false;
	pass(p, 1);
	assert_int_equal(p->watched->cause, RPO_CAUSE_NONE);
	seen(p);
	p->pulse.unprotected = false; // its state was put back
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	assert_int_equal(news(p, "state", text), 1);
	assert_non_null(strstr(text, "again"));
	pass(p, 2);
	assert_int_equal(news(p, "rpo-missed", text), 1); // as old as it is
	commit(p, 1);
	watched_disconnected(p->watched, &p->now);
	pass(p, 70);
	assert_int_equal(news(p, "source-dark", text), 1);
	assert_int_equal(news(p, "rpo-missed", text), 2);
	seen(p);
	p->pulse.unprotected = true; // ended while it was away
	watched_goodbye(p->watched, &p->now);
	assert_int_equal(news(p, "rpo-kept", text), 1);
	assert_null(strstr(text, "within"));
	pass(p, 500);
	assert_int_equal(news(p, "rpo-missed", text), 0);
	place_free(p);
}

static void cut_is_aged_by_the_offset_of_the_clocks(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	const int64_t ahead = 3600 * NS; // ours is an hour ahead of the source's
	watched_connected(p->watched, &p->now, p->now.wall_ns - ahead);
	assert_int_equal(news(p, "clock", text), 1);
	assert_non_null(strstr(text, "1 h behind"));
	struct wire_report report = {.state = WIRE_REPORT_RUNNING, .rpo_ms = 30000, .wall_ns = p->now.wall_ns - ahead, .clock_offset_ns = ahead, .clock_error_ns = 1000000};
	watched_report(p->watched, &p->now, &report);
	watched_committed(p->watched, &p->now, 1, p->now.wall_ns - ahead - 5 * NS, 1, 1);
	assert_true(ledger_age_ms(&p->watched->ledger) == 5000);
	// The source's clock is set right while the session is open: its next report is off by as much.
	report.wall_ns = p->now.wall_ns;
	watched_report(p->watched, &p->now, &report);
	assert_true(p->watched->clock_offset_ns == 0);
	assert_int_equal(news(p, "clock", text), 2);
	watched_committed(p->watched, &p->now, 2, p->now.wall_ns - 4 * NS, 1, 1);
	assert_true(ledger_age_ms(&p->watched->ledger) == 4000);
	place_free(p);
}

static uint64_t age(struct place *p, uint64_t number, int64_t cut_wall_ns)
{
	const struct watched_ages ages = watched_ages(p->watched, &p->now);
	return watched_age_ms(&ages, number, cut_wall_ns);
}

static void point_is_as_old_as_the_newest_and_the_time_between_their_cuts(void **state)
{
	(void)state;
	for (int64_t ahead = -7200 * NS; ahead <= 7200 * NS; ahead += 7200 * NS) { // ours, of the source's
		struct place *p = place_new(30);
		watched_connected(p->watched, &p->now, p->now.wall_ns - ahead);
		int64_t first = p->now.wall_ns - ahead - 5 * NS;
		assert_true(age(p, 1, first) == 5000); // the ledger has not heard of it yet
		p->pulse.last_point = 1;
		p->pulse.last_cut_wall_ns = first;
		watched_committed(p->watched, &p->now, 1, first, 1, 1);
		pass(p, 10);
		assert_true(age(p, 1, first) == 15000);
		int64_t second = p->now.wall_ns - ahead - 2 * NS;
		assert_true(age(p, 2, second) == 2000);
		assert_true(age(p, 2, second + 3 * NS) == 0); // made after we were asked
		p->pulse.last_point = 2;
		p->pulse.last_cut_wall_ns = second;
		watched_committed(p->watched, &p->now, 2, second, 1, 1);
		watched_disconnected(p->watched, &p->now);
		p->now.wall_ns += 365 * 86400 * NS; // our clock is set, with nobody there to measure it against
		pass(p, 10);
		assert_true(age(p, 2, second) == 12000);
		assert_true(age(p, 1, first) == 25000);
		assert_true(age(p, 1, second + NS) == 12000); // the source's was set back between the two
		// The receiver begins anew, and its source is gone: the ledger knows what its clock does not.
		watched_init(p->watched, "vm1", &p->now);
		p->watched->clock_known = p->watched->known = false;
		ledger_resume(&p->watched->ledger, RPO_CAUSE_TARGET_DOWN, p->now.mono_ns, p->now.wall_ns);
		pass(p, 3);
		assert_true(age(p, 2, second) == 15000);
		assert_true(age(p, 1, first) == 28000);
		place_free(p);
	}
}

// A report of a source whose clock agrees, that left `late_s` ago; `quiet`: outside a cycle.
static void report_late(struct place *p, int64_t late_s, bool quiet)
{
	const struct wire_report report = {.state = WIRE_REPORT_RUNNING, .rpo_ms = p->pulse.rpo_ms, .wall_ns = p->now.wall_ns - late_s * NS,
					   .clock_error_ns = 1000000, .next_cut_ms = quiet ? 5000 : 0};
	assert_true(watched_report(p->watched, &p->now, &report));
}

static void late_report_is_no_step_of_the_clock(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 0);
	report_late(p, 0, true);
	pass(p, 40);
	report_late(p, 16, true);
	assert_true(p->watched->clock_offset_ns == 0);
	commit(p, 40); // cut before it: the miss goes on
	assert_true(p->watched->ledger.missing && ledger_age_ms(&p->watched->ledger) == 40000);
	for (unsigned i = 0; i < 60; i++) { // a long cycle over a thin line: all are late, by what waits in the buffers
		pass(p, 10);
		report_late(p, 16, false);
		assert_true(p->watched->clock_offset_ns == 0);
	}
	for (unsigned i = 0; i < 7; i++) // those of 70 s in which the receiver stood still come all at once
		report_late(p, 70 - 10 * (int64_t)i, true);
	pass(p, 10);
	report_late(p, 0, true);
	assert_true(p->watched->clock_offset_ns == 0);
	assert_int_equal(news(p, "clock", text), 0);
	place_free(p);
}

static void clock_set_back_is_believed_of_the_least_of_several(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	for (unsigned i = 0; i < 7; i++) {
		report_late(p, i == 3 ? 3600 : 3620, true);
		assert_true(p->watched->clock_offset_ns == (i < 6 ? 0 : 3600 * NS)); // i = 6: a minute after the first
		pass(p, 10);
	}
	assert_int_equal(news(p, "clock", text), 1);
	assert_non_null(strstr(text, "1 h behind"));
	commit(p, 3600 + 5);
	assert_true(ledger_age_ms(&p->watched->ledger) == 5000);
	report_late(p, 3590, false); // nearer is seen at once
	assert_true(p->watched->clock_offset_ns == 3590 * NS);
	report_late(p, 0, false); // and so is that it was set right
	assert_true(p->watched->clock_offset_ns == 0);
	report_late(p, -3600, false); // or ahead
	assert_true(p->watched->clock_offset_ns == -3600 * NS);
	place_free(p);
}

// The source goes on to say what it measured at HELLO.
static void step_of_our_own_clock_is_not_one_of_the_source(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	report_late(p, 0, true);
	p->now.wall_ns += 3600 * NS;
	report_late(p, 3600, true);
	assert_true(p->watched->clock_offset_ns == 3600 * NS);
	report_late(p, 3600 + 16, true); // that one is late
	assert_true(p->watched->clock_offset_ns == 3600 * NS);
	place_free(p);
}

// A source that measured after it knows of the step, and one whose measure was under way when another came.
static void step_of_our_own_clock_counts_once_whenever_its_source_measured(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	report_late(p, 0, true);
	p->now.wall_ns += 3600 * NS; // seen first by who is asked for the time
	struct wire_time time = watched_time(p->watched, &p->now);
	assert_true(time.wall_ns == p->now.wall_ns && time.steps_ns == 3600 * NS);
	struct wire_report report = {.state = WIRE_REPORT_RUNNING, .rpo_ms = 30000, .wall_ns = p->now.wall_ns - 3600 * NS, .clock_error_ns = 1000000, .next_cut_ms = 5000,
				     .clock_offset_ns = 3600 * NS - time.steps_ns};
	assert_true(watched_report(p->watched, &p->now, &report));
	assert_true(p->watched->clock_offset_ns == 3600 * NS);
	p->now.wall_ns += 60 * NS; // after that answer
	assert_true(watched_report(p->watched, &p->now, &report));
	assert_true(p->watched->clock_offset_ns == 3660 * NS);
	time = watched_time(p->watched, &p->now);
	assert_true(time.steps_ns == 3660 * NS);
	place_free(p);
}

static void step_of_our_own_clock_changes_no_age(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 1);
	pass(p, 10);
	p->now.wall_ns += 365 * 86400 * NS;
	pass(p, 1);
	assert_true(ledger_age_ms(&p->watched->ledger) == 12000);
	// A cut that the source made just now, by its own clock.
	watched_committed(p->watched, &p->now, 2, p->now.wall_ns - 365 * 86400 * NS - 3 * NS, 1, 1);
	assert_true(ledger_age_ms(&p->watched->ledger) == 3000);
	place_free(p);
}

static void cause_is_what_stands_in_the_order_of_what_matters(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 0);
	report(p, WIRE_REPORT_RUNNING, RPO_CAUSE_NETWORK);
	assert_true(p->watched->cause == RPO_CAUSE_NETWORK);
	struct wire_report stages = p->watched->report;
	stages.cause = 0;
	stages.stage_ms[RPO_STAGE_READ] = 50;
	watched_report(p->watched, &p->now, &stages);
	assert_true(p->watched->cause == RPO_CAUSE_READ);
	stages.cause = 200; // of a newer source
	watched_report(p->watched, &p->now, &stages);
	assert_true(p->watched->cause == RPO_CAUSE_UNKNOWN);
	p->pulse.limited = true;
	pass(p, 1);
	assert_true(p->watched->cause == RPO_CAUSE_SPACE);
	p->pulse.broken = true;
	pass(p, 1);
	assert_true(p->watched->cause == RPO_CAUSE_TARGET_ERROR);
	p->pulse.fenced = true;
	pass(p, 1);
	assert_true(p->watched->cause == RPO_CAUSE_FENCED);
	place_free(p);
}

// Its source is refused, goes, and asks again after a while: both ends name the same cause.
static void want_of_room_is_the_cause_while_its_source_comes_again(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 0);
	p->pulse.limited = true;
	for (unsigned i = 0; i < 3; i++) {
		watched_connected(p->watched, &p->now, p->now.wall_ns);
		pass(p, 1);
		watched_disconnected(p->watched, &p->now);
		pass(p, 40);
		assert_true(p->watched->cause == RPO_CAUSE_SPACE);
	}
	assert_int_equal(news(p, "rpo-missed", text), 1);
	assert_non_null(strstr(text, "space"));
	pass(p, 20);
	assert_true(p->watched->cause == RPO_CAUSE_SOURCE_DOWN);
	assert_int_equal(news(p, "source-dark", text), 1);
	place_free(p);
}

static void rpo_of_a_report_takes_the_place_of_that_of_open(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	commit(p, 0);
	pass(p, 20);
	p->pulse.rpo_ms = 10000;
	report(p, WIRE_REPORT_RUNNING, 0);
	pass(p, 1);
	assert_true(p->watched->ledger.missing && p->watched->ledger.rpo_ms == 10000);
	place_free(p);
}

static void pulse_from_before_a_commit_takes_nothing_back(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	struct replica_pulse old = p->pulse;
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	watched_tick(p->watched, &p->now, &old);
	commit(p, 3);
	commit(p, 1);
	old.last_point = 1;
	old.last_cut_wall_ns = p->now.wall_ns - 3 * NS;
	watched_tick(p->watched, &p->now, &old);
	assert_true(p->watched->ledger.point == 2 && ledger_age_ms(&p->watched->ledger) == 1000);
	old.last_point = 0;
	watched_tick(p->watched, &p->now, &old);
	assert_true(p->watched->ledger.has_point);
	place_free(p);
}

static void source_that_reports_without_end_makes_no_flood(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	unsigned taken = 0;
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	for (unsigned i = 0; i < 1000; i++) { // and its clock is now an hour behind, now right
		struct wire_report of = {.state = WIRE_REPORT_RUNNING, .rpo_ms = 30000, .wall_ns = p->now.wall_ns - (i % 2 ? 3600 * NS : 0)};
		of.clock_offset_ns = p->now.wall_ns - of.wall_ns;
		taken += watched_report(p->watched, &p->now, &of);
	}
	assert_int_equal(taken, WATCHED_REPORTS_BURST);
	pass(p, 5);
	for (unsigned i = 0; i < 100; i++)
		taken += watched_report(p->watched, &p->now, &p->watched->report);
	assert_int_equal(taken, WATCHED_REPORTS_BURST + 5);
	for (unsigned i = 0; i < 600; i++) { // one a second: all are taken
		struct wire_report of = {.state = WIRE_REPORT_RUNNING, .rpo_ms = 30000, .wall_ns = p->now.wall_ns - (i % 2 ? 3600 * NS : 0)};
		of.clock_offset_ns = p->now.wall_ns - of.wall_ns;
		pass(p, 1);
		assert_true(watched_report(p->watched, &p->now, &of));
	}
	unsigned told = news(p, "clock", text);
	assert_true(told >= WATCHED_EVENTS_BURST && told <= WATCHED_EVENTS_BURST + 605 / WATCHED_EVENT_EACH_S);
	assert_true(p->watched->clock_offset_ns == 3600 * NS); // which is known all the same
	place_free(p);
}

static void points_that_are_late_and_not_by_turns_make_no_flood(void **state)
{
	(void)state;
	char text[EVENT_TEXT_SIZE];
	struct place *p = place_new(30);
	watched_connected(p->watched, &p->now, p->now.wall_ns);
	for (unsigned i = 0; i < 200; i++) {
		commit(p, 3600);
		pass(p, 1);
		commit(p, 0);
	}
	unsigned told = news(p, "rpo-missed", text) + news(p, "rpo-kept", text);
	assert_int_equal(told, WATCHED_EVENTS_BURST);
	assert_true(p->watched->ledger.miss.serial == 200); // the account has every one
	p->now.mono_ns += WATCHED_EVENT_EACH_S * NS;
	p->now.wall_ns += WATCHED_EVENT_EACH_S * NS;
	seen(p);
	pass(p, 1);
	assert_int_equal(news(p, "state", text), 1);
	assert_non_null(strstr(text, "events of vm1 were left out"));
	place_free(p);
}

static void clocks_and_cuts_of_any_value_stay_in_their_bounds(void **state)
{
	(void)state;
	static const int64_t walls[] = {INT64_MIN, -WIRE_CLOCK_OFFSET_MAX, 0, WALL, WIRE_CLOCK_OFFSET_MAX, INT64_MAX};
	static const int64_t offsets[] = {-WIRE_CLOCK_OFFSET_MAX, 0, WIRE_CLOCK_OFFSET_MAX};
	enum { WALLS = sizeof(walls) / sizeof(walls[0]), OFFSETS = sizeof(offsets) / sizeof(offsets[0]) };
	for (unsigned i = 0; i < WALLS * WALLS * OFFSETS; i++) {
		struct place *p = place_new(30);
		const struct wire_report of = {.state = WIRE_REPORT_RUNNING, .rpo_ms = 30000, .wall_ns = walls[i % WALLS],
					       .clock_offset_ns = offsets[i / WALLS % OFFSETS], .clock_error_ns = WIRE_CLOCK_OFFSET_MAX};
		watched_connected(p->watched, &p->now, walls[i / WALLS / OFFSETS]);
		(void)watched_report(p->watched, &p->now, &of);
		watched_committed(p->watched, &p->now, 1, walls[i / WALLS / OFFSETS], 1, 1);
		p->now.wall_ns += i % 2 ? 365 * 86400 * NS : -365 * 86400 * NS; // and our own is set
		p->now.mono_ns += NS;
		watched_tick(p->watched, &p->now, NULL);
		assert_true(llabs(p->watched->clock_offset_ns) <= WIRE_CLOCK_OFFSET_MAX);
		place_free(p);
	}
	struct place *p = place_new(30); // the cut is as far in the past as it can be, and so is the source's clock ahead
	watched_connected(p->watched, &p->now, INT64_MAX);
	watched_committed(p->watched, &p->now, 1, INT64_MIN, 1, 1);
	assert_true(ledger_age_ms(&p->watched->ledger) > 0); // not 0, as the difference wrapped around would have it
	place_free(p);
}

static void sessions_that_come_and_go_make_no_flood(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	unsigned told = 0;
	for (unsigned i = 0; i < 1000; i++)
		told += watched_may_tell(p->watched, &p->now);
	assert_int_equal(told, WATCHED_EVENTS_BURST);
	p->now.mono_ns += WATCHED_EVENT_EACH_S * NS - 1;
	assert_false(watched_may_tell(p->watched, &p->now));
	p->now.mono_ns++;
	assert_true(watched_may_tell(p->watched, &p->now));
	place_free(p);
}

// --- the watch over a store ---

static struct replica *new_replica(struct store *store, const char *name, uint8_t id)
{
	struct wire_open open = {.protection = {{id}}, .generation = {{2}}, .digest = {.kind = DIGEST_XXH3}, .codec = CODEC_ZSTD, .points_keep = 2,
				 .rpo_ms = 15000, .disk_count = 1, .disk = {{.name = "vda", .size = 1 << 20}}};
	static const unsigned char owner[OWNER_PIN_SIZE] = {9};
	struct replica *replica;
	(void)snprintf(open.name, sizeof(open.name), "%s", name);
	assert_int_equal(store_create(store, &open, owner, &replica, NULL), 0);
	return replica;
}

static void wait_for_count(struct watch *watch, size_t count)
{
	for (unsigned tries = 0; watch_count(watch) != count; tries++) { // the ticker comes by each second
		assert_true(tries < 6000);
		(void)usleep(10000);
	}
}

static void record_of_a_removed_replica_is_freed_and_its_name_begins_anew(void **state)
{
	(void)state;
	struct place *p = place_new(30);
	struct store *store;
	struct watch *watch = NULL;
	struct watch_view view;
	const struct watch_config config = {.objective_ppm = LEDGER_OBJECTIVE_DEFAULT};
	char dir[300];
	(void)snprintf(dir, sizeof(dir), "%s/store", p->temp.dir);
	assert_int_equal(env_mkdir(p->temp.root, "store"), 0);
	assert_int_equal(store_open(env_posix(), dir, &store, NULL), 0);
	struct replica *old = new_replica(store, "vm1", 1);
	(void)new_replica(store, "vm2", 2);
	assert_int_equal(watch_start(env_posix(), store, &config, &watch, NULL), 0);
	wait_for_count(watch, 2);
	watch_connected(watch, old, p->now.wall_ns, "127.0.0.1");
	assert_int_equal(store_forget(store, "vm1", NULL), 0);
	wait_for_count(watch, 1);
	watch_disconnected(watch, old, "it was removed"); // by a session that still has it
	assert_false(watch_look(watch, old, &view));
	assert_int_equal(watch_count(watch), 1);
	struct replica *next = new_replica(store, "vm1", 3);
	wait_for_count(watch, 2);
	assert_true(watch_look(watch, next, &view) && !watch_look(watch, old, &view));
	watch_stop(watch);
	store_close(store);
	place_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dark_source_is_told_once_and_its_point_ages),
		cmocka_unit_test(paused_source_is_not_dark),
		cmocka_unit_test(source_that_said_goodbye_is_neither_missed_nor_dark),
		cmocka_unit_test(cut_is_aged_by_the_offset_of_the_clocks),
		cmocka_unit_test(point_is_as_old_as_the_newest_and_the_time_between_their_cuts),
		cmocka_unit_test(late_report_is_no_step_of_the_clock),
		cmocka_unit_test(clock_set_back_is_believed_of_the_least_of_several),
		cmocka_unit_test(step_of_our_own_clock_is_not_one_of_the_source),
		cmocka_unit_test(step_of_our_own_clock_counts_once_whenever_its_source_measured),
		cmocka_unit_test(step_of_our_own_clock_changes_no_age),
		cmocka_unit_test(cause_is_what_stands_in_the_order_of_what_matters),
		cmocka_unit_test(want_of_room_is_the_cause_while_its_source_comes_again),
		cmocka_unit_test(rpo_of_a_report_takes_the_place_of_that_of_open),
		cmocka_unit_test(pulse_from_before_a_commit_takes_nothing_back),
		cmocka_unit_test(source_that_reports_without_end_makes_no_flood),
		cmocka_unit_test(points_that_are_late_and_not_by_turns_make_no_flood),
		cmocka_unit_test(clocks_and_cuts_of_any_value_stay_in_their_bounds),
		cmocka_unit_test(sessions_that_come_and_go_make_no_flood),
		cmocka_unit_test(record_of_a_removed_replica_is_freed_and_its_name_begins_anew),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
