// SPDX-License-Identifier: Apache-2.0
// The policy of retention: what it keeps, in simulated months, under a flood of points and under a clock that is set.
#include "base/size.h"
#include "receiver/retention.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define BEGIN (20454 * DAY) // 2026-01-01

enum { HISTORY_MAX = 4096 };

// Points as a keeper would have them: one is committed, what the policy does not keep goes at once.
struct history {
	struct retention policy;
	struct retention_point point[HISTORY_MAX];
	int64_t real_ns[HISTORY_MAX]; // when it really was
	size_t count;
	int64_t real; // now
	int64_t step; // by which the clock is wrong
};

static void history_begin(struct history *h, uint32_t points, uint32_t floor_hours, const char *keep)
{
	struct err err = {0};
	memset(h, 0, sizeof(*h));
	h->policy.points = points;
	h->policy.floor_hours = floor_hours;
	if (retention_read(keep, &h->policy, &err))
		fail_msg("%s", err.text);
	h->real = BEGIN;
}

static void history_thin(struct history *h)
{
	size_t kept = 0;
	retention_apply(&h->policy, h->point, h->count);
	for (size_t i = 0; i < h->count; i++)
		if (h->point[i].why) {
			h->point[kept] = h->point[i];
			h->real_ns[kept++] = h->real_ns[i];
		}
	h->count = kept;
}

static void history_commit(struct history *h, bool pinned)
{
	assert_true(h->count < HISTORY_MAX);
	h->point[h->count] = (struct retention_point){.commit_wall_ns = h->real + h->step, .pinned = pinned};
	h->real_ns[h->count++] = h->real;
	history_thin(h);
}

static void history_run(struct history *h, int64_t every, int64_t until)
{
	for (; h->real < until; h->real += every)
		history_commit(h, false);
}

static void the_newest_points_are_kept_and_the_others_go(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	history_begin(h, 3, 0, "");
	history_run(h, MINUTE, BEGIN + HOUR);
	assert_int_equal(h->count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(h->real_ns[i], BEGIN + (57 + (int64_t)i) * MINUTE);
		assert_int_equal(h->point[i].why, KEPT_NEWEST);
	}
	free(h);
}

static void of_each_bucket_the_newest_is_kept_and_empty_buckets_do_not_count(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	history_begin(h, 1, 0, "1h:4");
	static const int64_t minutes[] = {5, 55, 61, 100, 130, 600, 610, 700, 719};
	for (size_t i = 0; i < sizeof(minutes) / sizeof(minutes[0]); i++) {
		h->real = BEGIN + minutes[i] * MINUTE;
		history_commit(h, false);
	}
	static const int64_t kept[] = {100, 130, 610, 719}; // hours 1, 2, 10 and 11; 0 went when 11 came
	assert_int_equal(h->count, 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(h->real_ns[i], BEGIN + kept[i] * MINUTE);
	h->real = BEGIN + 100 * DAY; // nothing goes by age alone
	history_thin(h);
	assert_int_equal(h->count, 4);
	free(h);
}

// Whether the history reaches back as a tier promises: so many intervals, with no gap above two of them.
static void check_reach(const struct history *h, int64_t interval, uint32_t count, int64_t begin)
{
	int64_t reach = ((int64_t)count - 2) * interval, from = h->real - reach;
	if (from < begin)
		from = begin;
	assert_true(h->count > 0);
	int64_t newer = h->real;
	for (size_t i = h->count; i-- > 0 && newer > from;) {
		if (newer - h->real_ns[i] > 2 * interval)
			fail_msg("a gap of %lld minutes where a tier of %lld minutes reaches", (long long)((newer - h->real_ns[i]) / MINUTE),
				 (long long)(interval / MINUTE));
		newer = h->real_ns[i];
	}
	if (newer > from + interval)
		fail_msg("it reaches back %lld minutes only, not %lld", (long long)((h->real - newer) / MINUTE), (long long)(reach / MINUTE));
}

static void check_all_reach(const struct history *h)
{
	check_reach(h, 15 * MINUTE, 24, BEGIN);
	check_reach(h, HOUR, 24, BEGIN);
	check_reach(h, DAY, 14, BEGIN);
	check_reach(h, 7 * DAY, 8, BEGIN);
}

static void months_of_points_are_few_and_reach_back_as_the_tiers_say(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	history_begin(h, 24, 0, "15m:24,1h:24,1d:14,1w:8");
	for (int64_t day = 1; day <= 120; day++) {
		history_run(h, 97 * SECOND, BEGIN + day * DAY);
		check_all_reach(h);
		assert_true(h->count <= 24 + 24 + 24 + 14 + 8);
	}
	assert_true(h->count > 60);
	free(h);
}

static void a_clock_that_is_set_by_a_year_expires_nothing_early(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	for (uint64_t seed = 1; seed <= 40; seed++) {
		uint64_t dice = seed;
		history_begin(h, 24, 0, "15m:24,1h:24,1d:14,1w:8");
		history_run(h, 7 * MINUTE, BEGIN + (int64_t)(30 + draw_below(&dice, 60)) * DAY);
		for (unsigned jump = 0; jump < 3; jump++) {
			static const int64_t years[] = {-365, 365, 366, -1000, 40};
			h->step += years[draw_below(&dice, 5)] * DAY + (int64_t)draw_below(&dice, 7200) * SECOND;
			if (jump == 2)
				h->step = 0; // and somebody notices
			int64_t until = h->real + (int64_t)(1 + draw_below(&dice, 2000)) * 7 * MINUTE;
			while (h->real < until) {
				history_run(h, 7 * MINUTE, h->real + HOUR);
				check_all_reach(h);
			}
		}
		history_run(h, 7 * MINUTE, h->real + 70 * DAY);
		check_all_reach(h);
		assert_true(h->count <= 24 + 24 + 24 + 14 + 8 + 2 * 4 * 4);
	}
	free(h);
}

// A source asks for few points or for many, and cycles each second: the hours before are still there.
static void a_flood_of_points_cannot_age_out_the_floor_s_hours(void **state)
{
	(void)state;
	static const uint32_t asked[] = {1, RETENTION_KEEP_MAX - RETENTION_FLOOR_HOURS + 1, RETENTION_KEEP_MAX, 4096};
	struct history *h = malloc(sizeof(*h));
	for (size_t n = 0; n < COUNT(asked); n++) {
		history_begin(h, 24, RETENTION_FLOOR_HOURS, "");
		history_run(h, MINUTE, BEGIN + 2 * DAY);
		int64_t attack = h->real;
		h->policy.points = asked[n];
		history_run(h, SECOND, attack + 3 * HOUR);
		size_t before = 0;
		for (size_t i = 0; i < h->count; i++)
			before += h->real_ns[i] < attack;
		assert_int_equal(before, 24 - 3);
		assert_true(h->count <= min_u64((uint64_t)asked[n] + 24, RETENTION_KEEP_MAX));
		assert_int_equal(h->real_ns[h->count - 1], h->real - SECOND);
		check_reach(h, HOUR, RETENTION_FLOOR_HOURS, BEGIN);
	}
	free(h);
}

// What is left beside the floor's hours is of the newest.
static void a_wish_beyond_what_a_chain_bears_has_the_newest_and_the_floor(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	history_begin(h, 4096, RETENTION_FLOOR_HOURS, "");
	history_run(h, SECOND, BEGIN + 30 * HOUR);
	const size_t floor = RETENTION_FLOOR_HOURS - 1; // beside the newest, which is both
	assert_int_equal(h->count, RETENTION_KEEP_MAX);
	for (size_t i = 0; i < h->count; i++) {
		int64_t wanted = i < floor ? (7 + (int64_t)i) * HOUR - SECOND : 30 * HOUR - (int64_t)(h->count - i) * SECOND;
		assert_int_equal(h->real_ns[i] - BEGIN, wanted);
	}
	free(h);
}

// Whatever is pinned: the others of a chain are as many as without it.
static void pins_take_no_other_point_s_place(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	history_begin(h, RETENTION_KEEP_MAX - RETENTION_FLOOR_HOURS, RETENTION_FLOOR_HOURS, "");
	history_run(h, HOUR, BEGIN + 2 * DAY);
	for (unsigned i = 0; i < 64; i++, h->real += SECOND)
		history_commit(h, true);
	history_run(h, SECOND, h->real + HOUR);
	size_t pinned = 0;
	for (size_t i = 0; i < h->count; i++)
		pinned += h->point[i].pinned;
	assert_int_equal(pinned, 64);
	assert_int_equal(h->count - pinned, RETENTION_KEEP_MAX - 2); // the newest lie in two hours, and are of the floor's, too
	free(h);
}

static void a_pinned_point_stays_whatever_the_policy(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	history_begin(h, 2, 0, "1h:2");
	history_commit(h, true);
	h->real += MINUTE;
	history_run(h, MINUTE, BEGIN + 30 * DAY);
	assert_int_equal(h->real_ns[0], BEGIN);
	assert_int_equal(h->point[0].why, KEPT_PINNED);
	assert_true(h->count <= 5);
	h->point[0].pinned = false;
	history_thin(h);
	assert_true(h->real_ns[0] > BEGIN);
	free(h);
}

static void applied_again_it_keeps_what_it_kept(void **state)
{
	(void)state;
	static const char *const keeps[] = {"", "1m:3,1h:5", "15m:24,1h:24,1d:14,1w:8", "7m:90,3h:60", "1d:200"};
	struct history *h = malloc(sizeof(*h));
	for (uint64_t seed = 1; seed <= 300; seed++) {
		uint64_t dice = seed;
		history_begin(h, (uint32_t)(1 + draw_below(&dice, draw_below(&dice, 3) ? 40 : 400)), (uint32_t)draw_below(&dice, 30), keeps[draw_below(&dice, 5)]);
		h->count = 1 + draw_below(&dice, 1000);
		int64_t at = BEGIN;
		for (size_t i = 0; i < h->count; i++) {
			at += draw_below(&dice, 40) ? (int64_t)draw_below(&dice, 7200) * SECOND
						    : ((int64_t)draw_below(&dice, 800) - 400) * DAY;
			h->point[i] = (struct retention_point){.commit_wall_ns = at, .pinned = draw_below(&dice, 50) == 0};
		}
		struct retention_point newest = h->point[h->count - 1];
		history_thin(h);
		assert_int_equal(h->point[h->count - 1].commit_wall_ns, newest.commit_wall_ns);
		size_t kept = h->count, unpinned = 0;
		for (size_t i = 0; i < kept; i++)
			unpinned += !h->point[i].pinned;
		assert_true(unpinned <= RETENTION_KEEP_MAX);
		history_thin(h);
		assert_int_equal(h->count, kept);
	}
	free(h);
}

static void times_before_1970_are_times_too(void **state)
{
	(void)state;
	struct history *h = malloc(sizeof(*h));
	history_begin(h, 1, 0, "1h:10");
	h->step = -BEGIN - 3 * HOUR;
	history_run(h, 20 * MINUTE, BEGIN + 6 * HOUR);
	assert_int_equal(h->count, 6);
	free(h);
}

static void tiers_are_read_and_written_back(void **state)
{
	(void)state;
	static const char *const good[] = {"", "15m:24", "15m:24,1h:24,1d:14,1w:8", "1m:1", "90s:200", "36h:2", "400d:1",
					   "1m:1,1m:1,1m:1,1m:1,1m:1,1m:1,1m:1,1m:1"};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct retention policy = {.points = 7}, again = {.points = 7};
		struct err err = {0};
		char text[RETENTION_TEXT_SIZE];
		assert_int_equal(retention_read(good[i], &policy, &err), 0);
		retention_format(&policy, text);
		assert_string_equal(text, good[i]);
		assert_int_equal(retention_read(text, &again, &err), 0);
		assert_memory_equal(&policy, &again, sizeof(policy));
	}
	struct retention policy = {.points = 1};
	struct err err = {0};
	char text[RETENTION_TEXT_SIZE];
	assert_int_equal(retention_read("24h:7,60m:3,14d:2", &policy, &err), 0);
	retention_format(&policy, text);
	assert_string_equal(text, "1d:7,1h:3,2w:2");
}

static void tiers_that_make_no_sense_are_refused_and_change_nothing(void **state)
{
	(void)state;
	static const char *const bad[] = {"15", "15m", "15m:", "15m:0", "15m:201", "0m:3", "59s:3", "401d:1", "15m:24,", ",15m:24", "15m:24 1h:2",
					  "15x:3", "-1m:3", "15m:-3", "15m:3,,1h:3", "99999999999999999999999d:1", "1h:99999999999999999999999",
					  "1m:1,1m:1,1m:1,1m:1,1m:1,1m:1,1m:1,1m:1,1m:1", " ", "15m :3", "15 m:3"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct retention policy = {.points = 7, .tier_count = 1, .tier = {{60, 1}}}, was = policy;
		struct err err = {0};
		if (retention_read(bad[i], &policy, &err) != -EINVAL || !err.text[0])
			fail_msg("\"%s\" was taken", bad[i]);
		assert_memory_equal(&policy, &was, sizeof(policy));
	}
}

static void a_policy_that_keeps_more_than_a_chain_bears_is_refused(void **state)
{
	(void)state;
	struct err err = {0};
	struct retention policy = {.points = 100, .floor_hours = 24, .tier_count = 1, .tier = {{3600, 76}}};
	assert_int_equal(retention_check(&policy, &err), 0);
	policy.points = 101;
	assert_int_equal(retention_check(&policy, &err), -EINVAL);
	policy.points = 0;
	assert_int_equal(retention_check(&policy, &err), -EINVAL);
}

static void policy_that_is_asked_for_has_each_interval_once(void **state)
{
	(void)state;
	static const char *const good[] = {"", "1h:24", "15m:24,1h:24,1d:14,1w:8"}, *const bad[] = {"15m:24,15m:3", "1h:24,60m:3", "1h:1,1d:2,24h:3", "1w:1,15m:2,7d:1"};
	struct retention policy = {.points = 1};
	struct err err;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(retention_read(good[i], &policy, &err), 0);
		assert_int_equal(retention_distinct(&policy, &err), 0);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(retention_read(bad[i], &policy, &err), 0); // what a store has from before is read
		assert_int_equal(retention_distinct(&policy, &err), -EINVAL);
	}
	assert_string_equal(err.text, "keep: a tier before 1w:1 has the same interval: give each interval once");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_points_are_kept_and_the_others_go),
		cmocka_unit_test(of_each_bucket_the_newest_is_kept_and_empty_buckets_do_not_count),
		cmocka_unit_test(months_of_points_are_few_and_reach_back_as_the_tiers_say),
		cmocka_unit_test(a_clock_that_is_set_by_a_year_expires_nothing_early),
		cmocka_unit_test(a_flood_of_points_cannot_age_out_the_floor_s_hours),
		cmocka_unit_test(a_wish_beyond_what_a_chain_bears_has_the_newest_and_the_floor),
		cmocka_unit_test(pins_take_no_other_point_s_place),
		cmocka_unit_test(a_pinned_point_stays_whatever_the_policy),
		cmocka_unit_test(applied_again_it_keeps_what_it_kept),
		cmocka_unit_test(times_before_1970_are_times_too),
		cmocka_unit_test(tiers_are_read_and_written_back),
		cmocka_unit_test(tiers_that_make_no_sense_are_refused_and_change_nothing),
		cmocka_unit_test(a_policy_that_keeps_more_than_a_chain_bears_is_refused),
		cmocka_unit_test(policy_that_is_asked_for_has_each_interval_once),
	};
	return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
