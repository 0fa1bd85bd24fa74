// SPDX-License-Identifier: Apache-2.0
// A protection is judged by its promise: over whole periods of the real scheduler one that keeps it is well at every moment, and one that will not is a warning
// before it is late.
#include "base/size.h"
#include "link/health.h"
#include "replicator/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

// A guest that writes steadily, and a line: a cycle takes `fixed_ns`, and its bytes over `rate`.
struct world {
	struct schedule schedule;
	uint64_t now_ns, from_ns; // what is dirty was written since
	uint64_t written, rate, fixed_ns;
	unsigned judged[HEALTH_CRITICAL + 1];
	enum health first_unwell;
	double oldest; // age of the newest point, in parts of the RPO
	char why[HEALTH_WHY];
};

static uint64_t dirty(const struct world *w)
{
	return forecast_bytes_in(w->written, w->now_ns - w->from_ns);
}

static void judge(struct world *w, const char *state, uint64_t next_point_ns)
{
	uint64_t age_ms = schedule_age_ns(&w->schedule, w->now_ns) / MS, rpo_ms = w->schedule.rpo_ns / MS;
	json_t *json = json_pack("{s:s, s:s, s:I, s:I, s:o}", "name", "vm", "state", state, "age_ms", (json_int_t)age_ms, "rpo_ms", (json_int_t)rpo_ms,
				 "next_point_in_ms", next_point_ns ? json_integer((json_int_t)((next_point_ns - w->now_ns) / MS)) : json_null());
	char why[HEALTH_WHY];
	enum health health = health_of(json, false, health_limits_default, why);
	if (health != HEALTH_OK && w->first_unwell == HEALTH_OK) {
		w->first_unwell = health;
		memcpy(w->why, why, sizeof(why));
	}
	w->judged[health]++;
	w->oldest = health_age(json) > w->oldest ? health_age(json) : w->oldest;
	json_decref(json);
}

// A period as it is lived: the wait for the cut, the transfer, the commit; looked at two hundred times in each.
static void period(struct world *w)
{
	const uint64_t step_ns = w->schedule.rpo_ns / 200;
	uint64_t due_ns;
	for (;; w->now_ns += min_u64(step_ns, due_ns - w->now_ns)) {
		struct schedule_load load = {.now_ns = w->now_ns, .dirty_bytes = dirty(w)};
		due_ns = schedule_next_cut(&w->schedule, &load);
		if (w->schedule.has_point)
			judge(w, "idle", schedule_next_point(&w->schedule, &load, due_ns));
		if (due_ns <= w->now_ns)
			break;
	}
	uint64_t bytes = dirty(w), cut_ns = w->now_ns, end_ns = cut_ns + w->fixed_ns + forecast_time_of(w->rate, bytes);
	for (w->from_ns = cut_ns; w->now_ns < end_ns; w->now_ns += min_u64(step_ns, end_ns - w->now_ns)) {
		uint64_t sent = min_u64(forecast_bytes_in(w->rate, w->now_ns - cut_ns), bytes);
		if (w->schedule.has_point)
			judge(w, "shipping", schedule_point_under_way(&w->schedule, w->now_ns, &(struct schedule_under_way){.left_bytes = bytes - sent, .rate = w->rate, .settled = true}));
	}
	schedule_committed(&w->schedule, &(struct schedule_done){.begin_ns = cut_ns, .cut_ns = cut_ns, .commit_ns = end_ns, .dirty_bytes = bytes, .cut_bytes = bytes});
}

static struct world world_of(uint64_t rpo_ns, uint64_t written, uint64_t rate, uint64_t fixed_ns)
{
	return (struct world){.schedule = {.rpo_ns = rpo_ns}, .now_ns = 1000 * SECOND, .from_ns = 1000 * SECOND, .written = written, .rate = rate, .fixed_ns = fixed_ns};
}

static void protection_that_keeps_its_rpo_is_well_at_every_moment(void **state)
{
	static const uint64_t rpos[] = {1, 5, 15, 60, 900, 3600, 24 * 3600};
	static const unsigned parts[] = {0, 1, 10, 25, 40}; // of the line, in percent: what the guest writes
	(void)state;
	for (size_t i = 0; i < COUNT(rpos); i++)
		for (size_t j = 0; j < COUNT(parts); j++) {
			const uint64_t rate = 100 << 20;
			struct world w = world_of(rpos[i] * SECOND, rate / 100 * parts[j], rate, 20 * MS);
			for (unsigned n = 0; n < 50; n++)
				period(&w);
			assert_string_equal(w.why, "");
			assert_int_equal(w.judged[HEALTH_WARNING] + w.judged[HEALTH_CRITICAL], 0);
			assert_true(w.judged[HEALTH_OK] > 50 * 100);
			assert_true(w.oldest <= 1);
			if (parts[j] <= 10 && rpos[i] >= 60)
				assert_true(w.oldest > 0.8); // so near to its RPO it comes, by design
		}
}

static void point_that_will_be_late_is_a_warning_before_it_is(void **state)
{
	(void)state;
	const uint64_t rate = 100 << 20;
	struct world w = world_of(60 * SECOND, rate / 10, rate, 20 * MS);
	for (unsigned n = 0; n < 10; n++)
		period(&w);
	assert_int_equal(w.first_unwell, HEALTH_OK);
	w.from_ns -= 3600 * SECOND; // a burst: six minutes of the line
	period(&w);
	assert_int_equal(w.first_unwell, HEALTH_WARNING);
	assert_non_null(strstr(w.why, "the next point is expected in 6 min"));
	assert_true(w.judged[HEALTH_CRITICAL] > 0); // and then it is
}

static void judged(enum health health, int age_ms, int next_point_in_ms, struct health_limits limits)
{
	char why[HEALTH_WHY];
	json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:i}", "name", "vm", "state", "idle", "age_ms", age_ms, "rpo_ms", 10000, "next_point_in_ms", next_point_in_ms);
	assert_int_equal(health_of(json, false, limits, why), health);
	if (health == HEALTH_WARNING && limits.warning >= 100)
		assert_non_null(strstr(why, "the next point is expected in"));
	json_decref(json);
}

static void next_point_is_judged_by_the_rpo_or_by_a_wider_limit(void **state)
{
	const struct health_limits usual = health_limits_default, wide = {.warning = 200, .critical = 300, .given = true};
	const struct health_limits narrow = {.warning = 50, .critical = 100, .given = true};
	(void)state;
	judged(HEALTH_OK, 9000, 1500, usual); // 105 %: what a forecast errs by
	judged(HEALTH_WARNING, 9000, 1501, usual);
	judged(HEALTH_CRITICAL, 10001, 0, usual);
	judged(HEALTH_OK, 9000, 11500, wide);
	judged(HEALTH_WARNING, 9000, 11501, wide);
	judged(HEALTH_OK, 5000, 5000, narrow);
	judged(HEALTH_WARNING, 5001, 0, narrow);
}

static void next_point_is_not_known_before_a_cycle_has_shown_the_line(void **state)
{
	struct schedule schedule = {.rpo_ns = 60 * SECOND, .has_point = true, .last_cut_ns = (int64_t)SECOND};
	struct schedule_load load = {.now_ns = 10 * SECOND, .dirty_bytes = UINT64_C(1) << 40};
	(void)state;
	assert_int_equal(schedule_next_point(&schedule, &load, 50 * SECOND), 0);
	assert_int_equal(schedule_point_under_way(&schedule, load.now_ns, &(struct schedule_under_way){.left_bytes = 1}), 0);
	schedule.forecast.fixed_ns = SECOND; // of cycles with next to nothing
	assert_int_equal(schedule_next_point(&schedule, &load, 50 * SECOND), 0);
	load.dirty_bytes = 4096;
	assert_int_equal(schedule_next_point(&schedule, &load, 50 * SECOND), 51 * SECOND);
	assert_int_equal(schedule_next_point(&schedule, &load, 5 * SECOND), 11 * SECOND); // due already
	schedule.forecast.longest_ns = 3600 * SECOND; // one that stood still says nothing of the next
	assert_int_equal(schedule_next_point(&schedule, &load, 50 * SECOND), 51 * SECOND);
}

static void cycle_under_way_is_judged_by_its_own_rate_once_that_has_settled(void **state)
{
	struct schedule schedule = {.rpo_ns = 60 * SECOND, .has_point = true, .forecast = {.rate = 100}};
	struct schedule_under_way way = {.left_bytes = 1000};
	(void)state;
	assert_int_equal(schedule_point_under_way(&schedule, 7 * SECOND, &way), 17 * SECOND);
	way.rate = 10; // the line became slower, or has only begun
	assert_int_equal(schedule_point_under_way(&schedule, 7 * SECOND, &way), 17 * SECOND);
	way.settled = true;
	assert_int_equal(schedule_point_under_way(&schedule, 7 * SECOND, &way), 107 * SECOND);
	way.rate = 200; // or faster
	assert_int_equal(schedule_point_under_way(&schedule, 7 * SECOND, &way), 12 * SECOND);
	way.settled = false;
	assert_int_equal(schedule_point_under_way(&schedule, 7 * SECOND, &way), 12 * SECOND);
	way.left_bytes = 0;
	assert_int_equal(schedule_point_under_way(&(struct schedule){.rpo_ns = 1}, 7 * SECOND, &way), 7 * SECOND);
}

static void budget_that_is_overdrawn_is_a_warning(void **state)
{
	char why[HEALTH_WHY];
	(void)state;
	json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:{s:i}}", "name", "vm", "state", "idle", "age_ms", 1, "rpo_ms", 1000, "rpo", "budget_left_ms", 0);
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_OK);
	(void)json_object_set_new(json_object_get(json, "rpo"), "budget_left_ms", json_integer(-90000));
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_WARNING);
	assert_string_equal(why, "the RPO was missed for 1 min 30 s more in a week than the objective allows: `kagami history vm` says when and why");
	(void)json_object_set_new(json, "state", json_string("broken")); // which of a replica that is failed over takes the place of that
	(void)json_object_set_new(json, "fenced", json_true());
	assert_true(health_age(json) < 0);
	(void)json_object_set_new(json, "fenced", json_false());
	assert_true(health_age(json) > 0);
	(void)json_object_set_new(json, "state", json_string("failed-over")); // no objective binds it any more
	(void)json_object_set_new(json, "last_point", json_integer(1));
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_OK);
	json_decref(json);
}

// No objective binds what its source has ended; what is wrong with the points themselves is said all the same.
static void replica_of_an_ended_protection_is_well(void **state)
{
	(void)state;
	char why[HEALTH_WHY];
	json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:{s:i}, s:{s:i}, s:b}", "name", "vm", "state", "unprotected", "reason", "", "age_ms", 99999, "rpo_ms", 1000, "last_point", 3,
				 "rpo", "budget_left_ms", -90000, "scrub", "damaged_blocks", 0, "source_paused", 0);
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_OK);
	assert_int_equal(health_of(json, true, (struct health_limits){.warning = 1, .critical = 2, .given = true}, why), HEALTH_OK);
	(void)json_object_set_new(json, "last_point", json_null()); // none is to come
	(void)json_object_set_new(json, "age_ms", json_null());
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_OK);
	(void)json_object_set_new(json_object_get(json, "scrub"), "damaged_blocks", json_integer(2));
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_CRITICAL);
	json_decref(json);
}

static void disk_judged(enum health health, int ago_ms, int errors, bool failed, const char *says)
{
	char why[HEALTH_WHY];
	json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:[{s:s, s:s, s:i, s:b, s:i}]}", "name", "vm", "state", "idle", "age_ms", 10, "rpo_ms", 10000, "disks", "name", "vda",
				 "error", "then: write", "errors", errors, "failed", (int)failed, "error_ms_ago", ago_ms);
	assert_int_equal(health_of(json, false, health_limits_default, why), health);
	if (!strstr(why, says))
		fail_msg("it says \"%s\"", why);
	json_decref(json);
}

// A full disk that has space again is no alarm for ever; one that takes no flush is, as long as the agent runs.
static void error_of_a_disk_is_critical_then_a_warning_then_past(void **state)
{
	(void)state;
	disk_judged(HEALTH_CRITICAL, 0, 1, false, "disk vda: then: write");
	disk_judged(HEALTH_CRITICAL, 599000, 3, false, "disk vda: 3 errors, the last one 9 min ago: then: write");
	disk_judged(HEALTH_CRITICAL, 59999, 3, false, "disk vda: 3 errors, the last one within a minute: then: write");
	disk_judged(HEALTH_WARNING, 600000, 1, false, "disk vda: then: write");
	disk_judged(HEALTH_WARNING, 86399000, 1, false, "disk vda: then: write");
	disk_judged(HEALTH_OK, 86400000, 1, false, "");
	disk_judged(HEALTH_CRITICAL, 200000000, 1, true, "disk vda failed");
}

static void error_that_an_older_daemon_tells_is_critical(void **state)
{
	(void)state;
	json_t *disk = json_pack("{s:s}", "error", "then: write");
	assert_int_equal(health_of_disk_error(disk), HEALTH_CRITICAL);
	json_decref(disk);
}

static void point_of_which_nothing_is_known_is_not_said_not_to_be(void **state)
{
	char why[HEALTH_WHY];
	(void)state;
	json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:b, s:n, s:n}", "name", "vm", "state", "idle", "reason", "", "rpo_ms", 1000, "point_known", 1, "point", "age_ms");
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_WARNING);
	assert_string_equal(why, "there is no point yet");
	(void)json_object_set_new(json, "point_known", json_false());
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_OK);
	(void)json_object_set_new(json, "point_known", json_true()); // there is one, and nothing says how old it is
	(void)json_object_set_new(json, "point", json_integer(3));
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_OK);
	json_decref(json);
}

static void store_without_room_for_a_failover_is_critical_and_below_its_reserve_a_warning(void **state)
{
	(void)state;
	static const struct {
		int free_bytes;
		enum health health;
		const char *says;
	} cases[] = {{100, HEALTH_OK, ""}, {99, HEALTH_WARNING, "reserve"}, {10, HEALTH_WARNING, "reserve"}, {9, HEALTH_CRITICAL, "no room for a failover"}, {0, HEALTH_CRITICAL, "no room"}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char why[HEALTH_WHY];
		json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "name", "vm", "state", "connected", "age_ms", 1, "rpo_ms", 1000, "last_point", 1, "store_free_bytes",
					 cases[i].free_bytes, "store_reserve_bytes", 100, "failover_bytes", 10);
		assert_int_equal(health_of(json, true, health_limits_default, why), cases[i].health);
		assert_non_null(strstr(why, cases[i].says));
		(void)json_object_set_new(json, "store_free_bytes", json_null()); // nobody says
		assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_OK);
		json_decref(json);
	}
}

static void test_that_cannot_be_used_any_more_is_a_warning(void **state)
{
	char why[HEALTH_WHY];
	(void)state;
	json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:i, s:n}", "name", "vm", "state", "connected", "age_ms", 1, "rpo_ms", 1000, "last_point", 1, "test_error");
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_OK);
	(void)json_object_set_new(json, "test_error", json_string("the test a cannot be used"));
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_WARNING);
	assert_string_equal(why, "the test a cannot be used");
	json_decref(json);
}

// No point is to come; what its virtual machine writes does.
static void failed_over_into_less_than_the_reserve_is_critical(void **state)
{
	char why[HEALTH_WHY];
	(void)state;
	json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:{s:b}}", "name", "vm", "state", "failed-over", "last_point", 1, "rpo_ms", 1000, "store_free_bytes", 99,
				 "store_reserve_bytes", 100, "failover_bytes", 0, "failover", "final", 0);
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_CRITICAL);
	assert_non_null(strstr(why, "its virtual machine's writes will fail"));
	(void)json_object_set_new(json, "state", json_string("broken"));
	(void)json_object_set_new(json, "reason", json_string("gone"));
	json_t *all = health_why(json, true), *one;
	size_t i, found = 0;
	json_array_foreach(all, i, one)
		found += strstr(json_string_value(json_object_get(one, "text")), "writes will fail") != NULL;
	json_decref(all);
	assert_int_equal(found, 1);
	(void)json_object_set_new(json, "state", json_string("failed-over"));
	(void)json_object_set_new(json, "reason", json_string(""));
	(void)json_object_set_new(json, "store_free_bytes", json_integer(100));
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_OK);
	json_decref(json);
}

static void store_that_is_not_at_its_path_is_critical(void **state)
{
	char why[HEALTH_WHY];
	(void)state;
	json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:i, s:n}", "name", "vm", "state", "connected", "age_ms", 1, "rpo_ms", 1000, "last_point", 1, "store_displaced");
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_OK);
	(void)json_object_set_new(json, "store_displaced", json_string("it was moved"));
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_CRITICAL);
	assert_string_equal(why, "it was moved");
	json_decref(json);
}

static void image_without_its_name_is_critical(void **state)
{
	char why[HEALTH_WHY];
	(void)state;
	json_t *json = json_pack("{s:s, s:s, s:i, s:i, s:[{s:s, s:s}]}", "name", "vm", "state", "idle", "age_ms", 1, "rpo_ms", 1000, "disks", "name", "vda", "displaced", "");
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_OK);
	(void)json_object_set_new(json_array_get(json_object_get(json, "disks"), 0), "displaced", json_string("its image is gone"));
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_CRITICAL);
	assert_string_equal(why, "disk vda: its image is gone");
	json_decref(json);
}

static void source_that_may_be_gone_for_good_is_told_with_what_ends_that(void **state)
{
	(void)state;
	char why[HEALTH_WHY];
	json_t *json = json_pack("{s:s, s:s, s:I, s:I, s:b, s:{s:s}}", "name", "vm", "state", "idle", "age_ms", (json_int_t)90000, "rpo_ms", (json_int_t)30000, "source_paused", 0,
				 "rpo", "missing", "source-down");
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_CRITICAL);
	assert_non_null(strstr(why, "source-down"));
	assert_non_null(strstr(why, "kagami forget"));
	assert_int_equal(json_object_set_new(json, "state", json_string("connected")), 0); // it has just come back
	assert_int_equal(health_of(json, true, health_limits_default, why), HEALTH_CRITICAL);
	assert_non_null(strstr(why, "source-down: its source was away"));
	assert_null(strstr(why, "kagami forget"));
	assert_int_equal(json_object_set_new(json, "state", json_string("disconnected")), 0);
	assert_int_equal(json_object_del(json, "source_paused"), 0);
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_CRITICAL);
	assert_null(strstr(why, "kagami forget"));
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replica_of_an_ended_protection_is_well),
		cmocka_unit_test(source_that_may_be_gone_for_good_is_told_with_what_ends_that),
		cmocka_unit_test(error_of_a_disk_is_critical_then_a_warning_then_past),
		cmocka_unit_test(error_that_an_older_daemon_tells_is_critical),
		cmocka_unit_test(protection_that_keeps_its_rpo_is_well_at_every_moment),
		cmocka_unit_test(point_that_will_be_late_is_a_warning_before_it_is),
		cmocka_unit_test(next_point_is_judged_by_the_rpo_or_by_a_wider_limit),
		cmocka_unit_test(next_point_is_not_known_before_a_cycle_has_shown_the_line),
		cmocka_unit_test(cycle_under_way_is_judged_by_its_own_rate_once_that_has_settled),
		cmocka_unit_test(budget_that_is_overdrawn_is_a_warning),
		cmocka_unit_test(point_of_which_nothing_is_known_is_not_said_not_to_be),
		cmocka_unit_test(store_without_room_for_a_failover_is_critical_and_below_its_reserve_a_warning),
		cmocka_unit_test(test_that_cannot_be_used_any_more_is_a_warning),
		cmocka_unit_test(image_without_its_name_is_critical),
		cmocka_unit_test(failed_over_into_less_than_the_reserve_is_critical),
		cmocka_unit_test(store_that_is_not_at_its_path_is_critical),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
