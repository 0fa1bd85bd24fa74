// SPDX-License-Identifier: Apache-2.0
// What a source tells of its clock and the receiver's, and of its own record of ages (replicator/protection_ledger.c), on a simulated clock.
#include "replicator/protection_private.h"

#include "link/events.h"
#include "tests/sim/env_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const int64_t s_ns = INT64_C(1000000000);

struct place {
	struct sim *sim;
	struct env_root *state;
	struct events *events;
	struct protection *p;
	uint64_t seen;
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	assert_non_null(place);
	place->sim = sim_new(1);
	struct env *env = sim_env(place->sim);
	struct env_root *top;
	assert_int_equal(env_root_open(env, "/", &top), 0);
	assert_int_equal(env_mkdir(top, "state"), 0);
	assert_int_equal(env_mkdir(top, "state/protections"), 0);
	env_root_close(top);
	assert_int_equal(env_root_open(env, "/state", &place->state), 0);
	assert_int_equal(events_open(env, place->state, &place->events, NULL), 0);
	events_set_default(place->events);
	struct protection *p = place->p = calloc(1, sizeof(*p));
	assert_non_null(p);
	p->place.env = env;
	p->place.state = place->state;
	p->place.accounts = true;
	(void)snprintf(p->config.name, sizeof(p->config.name), "vm1");
	p->config.rpo_ms = 30000;
	(void)pthread_mutex_init(&p->lock, NULL);
	account_load(p);
	assert_non_null(p->ledger);
	p->greeted = true;
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	account_end(place->p);
	(void)pthread_mutex_destroy(&place->p->lock);
	free(place->p);
	events_set_default(NULL);
	events_close(place->events);
	env_root_close(place->state);
	sim_free(place->sim);
	free(place);
	return 0;
}

// How many events of the class came since this was asked last; the newest's text and severity.
static unsigned news(struct place *place, const char *class, char text[EVENT_TEXT_SIZE], enum event_severity *severity)
{
	struct event event;
	struct event_filter filter = {.since = place->seen, .class = class};
	unsigned count = 0;
	for (; events_next(place->events, &filter, 0, &event) == 1; count++) {
		filter.since = event.id;
		*severity = event.severity;
		(void)snprintf(text, EVENT_TEXT_SIZE, "%s", event.text);
		event_done(&event);
	}
	place->seen = events_newest(place->events);
	return count;
}

static void greeted(struct place *place, int64_t offset_ns, uint64_t error_ns)
{
	account_clock(place->p, &(struct greet_clock){.offset_ns = offset_ns, .error_ns = error_ns});
}

static void clocks_that_are_apart_are_told_once_and_again_when_they_agree(void **state)
{
	struct place *place = *state;
	char text[EVENT_TEXT_SIZE];
	enum event_severity severity;
	greeted(place, 2 * s_ns, 1000000);
	assert_int_equal(news(place, "clock", text, &severity), 0);
	greeted(place, 2 * s_ns + 1000001, 1000000);
	assert_int_equal(news(place, "clock", text, &severity), 1);
	assert_true(severity == EVENT_WARNING && strstr(text, "the clock of the receiver of vm1 is") && strstr(text, "ahead of"));
	greeted(place, 9 * s_ns, 1000000);
	greeted(place, -9 * s_ns, 1000000);
	assert_int_equal(news(place, "clock", text, &severity), 0);
	greeted(place, -3 * s_ns, (uint64_t)s_ns); // that may be two
	assert_int_equal(news(place, "clock", text, &severity), 1);
	assert_true(severity == EVENT_INFO && strstr(text, "agrees"));
	greeted(place, -4 * s_ns, 1000000);
	assert_int_equal(news(place, "clock", text, &severity), 1);
	assert_non_null(strstr(text, "behind"));
	greeted(place, INT64_MIN / 4, UINT64_MAX);
	(void)news(place, "clock", text, &severity);
}

static void step_of_our_own_clock_moves_the_offset_and_is_told(void **state)
{
	struct place *place = *state;
	struct protection *p = place->p;
	char text[EVENT_TEXT_SIZE];
	enum event_severity severity;
	greeted(place, 100000000, 1000000);
	sim_clock_advance(place->sim, (uint64_t)s_ns);
	protection_tick(p);
	assert_true(p->clock_offset.offset_ns == 100000000);
	sim_clock_step(place->sim, 3600 * s_ns); // an hour ahead: the receiver is behind by as much
	sim_clock_advance(place->sim, (uint64_t)s_ns);
	protection_tick(p);
	assert_true(llabs(p->clock_offset.offset_ns + 3600 * s_ns - 100000000) < 1000000);
	assert_int_equal(news(place, "clock", text, &severity), 1);
	assert_non_null(strstr(text, "behind"));
	sim_clock_step(place->sim, -3600 * s_ns);
	protection_tick(p);
	assert_int_equal(news(place, "clock", text, &severity), 1);
	assert_true(severity == EVENT_INFO);
	p->greeted = false; // without a session nothing is known of the other
	sim_clock_step(place->sim, 3600 * s_ns);
	protection_tick(p);
	assert_int_equal(news(place, "clock", text, &severity), 0);
}

// The receiver's clock is `ahead_ns` of ours now, and was seen to be set by `steps_ns`; the answer took `round_ms`, and came `ago_ms` ago.
static void told(struct place *place, int64_t ahead_ns, int64_t steps_ns, uint64_t round_ms, uint64_t ago_ms)
{
	const uint64_t since_ns = (ago_ms + round_ms / 2) * (uint64_t)(s_ns / 1000); // of times that are none, something
	const int64_t wall_ns = (int64_t)((uint64_t)env_wall_ns(place->p->place.env) + (uint64_t)ahead_ns - since_ns);
	account_time(place->p, &(struct channel_time){.time = {.wall_ns = wall_ns, .steps_ns = steps_ns}, .round_ms = round_ms, .ago_ms = ago_ms});
}

static bool known_as(const struct place *place, int64_t offset_ns)
{
	return llabs(place->p->clock_offset.offset_ns - offset_ns) <= (int64_t)place->p->clock_offset.error_ns + s_ns / 1000;
}

// In one long session: of a receiver that sees its clock set, and of one that does not.
static void clock_that_is_set_at_the_receiver_is_told_and_so_is_that_it_was_set_right(void **state)
{
	struct place *place = *state;
	char text[EVENT_TEXT_SIZE];
	enum event_severity severity;
	for (int64_t sees = 0; sees < 2; sees++) {
		account_greeted(place->p, &(struct greet_clock){.offset_ns = 0, .error_ns = 1000000});
		told(place, 0, 0, 4, 0);
		assert_int_equal(news(place, "clock", text, &severity), 0);
		told(place, 3600 * s_ns, sees * 3600 * s_ns, 40, 5);
		assert_true(known_as(place, 3600 * s_ns));
		assert_int_equal(news(place, "clock", text, &severity), 1);
		assert_non_null(strstr(text, "ahead of"));
		assert_true(place->p->clock_steps_ns == sees * 3600 * s_ns);
		told(place, 0, 0, 4, 0);
		assert_true(known_as(place, 0));
		assert_int_equal(news(place, "clock", text, &severity), 1);
		assert_true(severity == EVENT_INFO);
	}
}

// A question that waited behind blocks tells less than what is known; that clocks have moved it tells all the same. Our own step is in no measure twice.
static void measure_that_took_long_takes_no_better_one_away(void **state)
{
	struct place *place = *state;
	struct protection *p = place->p;
	account_greeted(p, &(struct greet_clock){.offset_ns = 100000000, .error_ns = 1000000});
	told(place, 900000000, 0, 8000, 0);
	assert_true(p->clock_offset.offset_ns == 100000000 && p->clock_offset.error_ns == 1000000);
	told(place, 100000000, 0, 1, 0);
	assert_true(p->clock_offset.error_ns <= 1000000 && known_as(place, 100000000));
	told(place, 9 * s_ns, 0, 8000, 0);
	assert_true(known_as(place, 9 * s_ns) && p->clock_offset.error_ns >= 4 * (uint64_t)s_ns);
	told(place, 9 * s_ns, 0, 2, 0);
	protection_tick(p);
	sim_clock_step(place->sim, 3600 * s_ns); // seen by nobody before the answer is taken
	told(place, 9 * s_ns - 3600 * s_ns, 0, 2, 0);
	assert_true(known_as(place, 9 * s_ns - 3600 * s_ns));
	protection_tick(p);
	assert_true(known_as(place, 9 * s_ns - 3600 * s_ns));
	told(place, INT64_MAX / 2, WIRE_CLOCK_OFFSET_MAX, UINT64_MAX - 1, UINT64_MAX); // anything
	told(place, INT64_MIN / 2, -WIRE_CLOCK_OFFSET_MAX, 0, UINT64_MAX);
}

static void source_tells_what_it_missed_by_its_own_record(void **state)
{
	struct place *place = *state;
	struct protection *p = place->p;
	char text[EVENT_TEXT_SIZE];
	enum event_severity severity;
	p->has_point = p->position_known = true;
	p->point_cut_mono_ns = (int64_t)env_mono_ns(p->place.env);
	account_committed(p, 1, env_mono_ns(p->place.env), 0, 0);
	sim_clock_advance(place->sim, 29 * (uint64_t)s_ns);
	protection_tick(p);
	assert_int_equal(news(place, "rpo-missed", text, &severity), 0);
	sim_clock_advance(place->sim, 2 * (uint64_t)s_ns);
	protection_tick(p);
	protection_tick(p);
	assert_int_equal(news(place, "rpo-missed", text, &severity), 1);
	assert_true(severity == EVENT_CRITICAL && strstr(text, "vm1"));
	p->point_cut_mono_ns = (int64_t)env_mono_ns(p->place.env);
	account_committed(p, 2, env_mono_ns(p->place.env), 0, 0);
	assert_int_equal(news(place, "rpo-kept", text, &severity), 1);
	assert_true(severity == EVENT_INFO);
}

// Neither the tick before a failover nor the one after a rollback says when it was.
static void miss_before_a_failover_and_after_its_rollback_is_not_booked_to_it(void **state)
{
	struct place *place = *state;
	struct protection *p = place->p;
	uint64_t now = env_mono_ns(p->place.env);
	p->has_point = p->position_known = true;
	p->state = STATE_TARGET_DOWN;
	p->point_cut_mono_ns = (int64_t)now - 40 * s_ns;
	account_committed(p, 1, p->point_cut_mono_ns, 0, 0);
	protection_tick(p);
	sim_clock_advance(place->sim, 2 * (uint64_t)s_ns);
	account_fenced(p, true);
	assert_true(p->fenced);
	assert_int_equal(p->ledger->total_missed_ms[RPO_CAUSE_FENCED], 0);
	assert_true(p->ledger->miss.cause != RPO_CAUSE_NONE);
	sim_clock_advance(place->sim, 3 * (uint64_t)s_ns);
	account_fenced(p, false);
	uint64_t fenced_ms = p->ledger->total_missed_ms[RPO_CAUSE_FENCED];
	assert_int_equal(fenced_ms, 3000);
	sim_clock_advance(place->sim, 4 * (uint64_t)s_ns);
	protection_tick(p);
	assert_int_equal(p->ledger->total_missed_ms[RPO_CAUSE_FENCED], fenced_ms);
}

// The cycle before it waited for the receiver; this one is held up by a limit, and its miss begins between two ticks.
static void miss_in_a_long_cycle_is_booked_to_what_it_waits_for(void **state)
{
	struct place *place = *state;
	struct protection *p = place->p;
	char text[EVENT_TEXT_SIZE];
	enum event_severity severity;
	uint64_t now = env_mono_ns(p->place.env);
	p->has_point = p->position_known = true;
	p->stage_since_ns[RPO_STAGE_APPLY] = (uint64_t)s_ns;
	p->point_cut_mono_ns = (int64_t)now;
	account_committed(p, 1, now, 0, 0);
	p->in_cycle = true;
	stages_begin(p, now);
	(void)stage_clock_enter(&p->clock, RPO_STAGE_THROTTLED, now);
	for (unsigned i = 0; i < 100; i++) {
		sim_clock_advance(place->sim, (uint64_t)s_ns + i * 1000000);
		protection_tick(p);
	}
	assert_int_equal(news(place, "rpo-missed", text, &severity), 1);
	assert_non_null(strstr(text, "throttled"));
	assert_true(p->ledger->miss.cause == RPO_CAUSE_THROTTLED);
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		assert_true((p->ledger->total_missed_ms[i] > 0) == (i == RPO_CAUSE_THROTTLED));
	stages_end(p, true); // and once it has ended it is not counted twice
	assert_true(p->stage_since_ns[RPO_STAGE_THROTTLED] / 1000000 == p->stage_total_ns[RPO_STAGE_THROTTLED] / 1000000);
	assert_true(protection_cause(p, env_mono_ns(p->place.env)) == RPO_CAUSE_THROTTLED);
}

static void initial_sync_keeps_to_its_window_unless_it_is_asked_for(void **state)
{
	struct place *place = *state;
	struct protection *p = place->p;
	(void)setenv("TZ", "UTC", 1);
	tzset();
	sim_clock_step(place->sim, 1772452800 * s_ns - env_wall_ns(p->place.env)); // Monday noon
	assert_true(settings_off_peak(p));
	assert_int_equal(bandwidth_window_read("22:00-06:00", &p->config.settings.offpeak, NULL), 0);
	p->config.settings.has_offpeak = true;
	uint64_t before_ns = env_mono_ns(p->place.env);
	assert_false(settings_off_peak(p));
	assert_true(p->state == STATE_IDLE && strstr(p->reason, "off-peak window (22:00-06:00)"));
	uint64_t opens_ns = p->next_cut_ns - 36000 * (uint64_t)s_ns; // whoever writes events moves the clock of the simulation meanwhile
	assert_true(opens_ns >= before_ns && opens_ns <= env_mono_ns(p->place.env));
	sim_clock_step(place->sim, 36000 * s_ns);
	assert_true(settings_off_peak(p));
	sim_clock_step(place->sim, 8 * 3600 * s_ns);
	assert_false(settings_off_peak(p));
	p->waived = true;
	assert_true(settings_off_peak(p));
	p->waived = false;
	p->has_point = true; // there is an RPO to keep
	assert_true(settings_off_peak(p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(clocks_that_are_apart_are_told_once_and_again_when_they_agree, setup, teardown),
		cmocka_unit_test_setup_teardown(step_of_our_own_clock_moves_the_offset_and_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(clock_that_is_set_at_the_receiver_is_told_and_so_is_that_it_was_set_right, setup, teardown),
		cmocka_unit_test_setup_teardown(measure_that_took_long_takes_no_better_one_away, setup, teardown),
		cmocka_unit_test_setup_teardown(miss_before_a_failover_and_after_its_rollback_is_not_booked_to_it, setup, teardown),
		cmocka_unit_test_setup_teardown(miss_in_a_long_cycle_is_booked_to_what_it_waits_for, setup, teardown),
		cmocka_unit_test_setup_teardown(initial_sync_keeps_to_its_window_unless_it_is_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(source_tells_what_it_missed_by_its_own_record, setup, teardown),
	};
	return cmocka_run_group_tests_name("source_clock", tests, NULL, NULL);
}
