// SPDX-License-Identifier: Apache-2.0
// Limits of bandwidth: how they are read, when they hold, and that the bucket keeps them to within 5 % over any 10 s.
#include "base/size.h"
#include "rpo/meter.h"
#include "rpo/shaper.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define MS (SECOND / 1000)

enum { MON, TUE, WED, THU, FRI, SAT, SUN };

static uint64_t rate_at(const char *const *rules, unsigned day, unsigned hour, unsigned minute)
{
	struct bandwidth all = {.count = 0};
	struct err err;
	for (; rules[all.count]; all.count++)
		assert_int_equal(bandwidth_rule_read(rules[all.count], &all.rule[all.count], &err), 0);
	return bandwidth_at(&all, &(struct bandwidth_time){.day = day, .minute = hour * 60 + minute});
}

static void rates_are_read_in_every_unit(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t rate;
	} cases[] = {
		{"64000bit", 8000},	{"64kbit", 8000},      {"50mbit", 6250000},	{"1gbit", 125000000},	{"8000byte", 8000},
		{"8kbyte", 8000},	{"4mbyte", 4000000},   {"8kib", 8192},		{"1mib", 1048576},	{"2gib", UINT64_C(2) << 30},
		{"1024gib", UINT64_C(1) << 40}, {"unlimited", BANDWIDTH_UNLIMITED},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bandwidth_rule rule;
		struct err err;
		assert_int_equal(bandwidth_rule_read(cases[i].text, &rule, &err), 0);
		assert_true(rule.rate == cases[i].rate);
		assert_true(rule.window.days == 0x7f && rule.window.from == 0 && rule.window.to == DAY_MINUTES);
	}
}

static void what_is_no_rule_is_refused_with_what_to_write(void **state)
{
	(void)state;
	static const char *const bad[] = {"", " ", "20", "mbit", "20 mbit", "-20mbit", "20mbits", "20Mb", "20mb", "20M", "63kbit", "1025gib",
		"99999999999999999999gbit", "18446744073709551616bit", "mon-fri", "mon-fri 08:00-18:00", "08:00 20mbit", "8-18 20mbit",
		"08:00-08:00 20mbit", "24:00-06:00 20mbit", "08:60-09:00 20mbit", "25:00-26:00 20mbit", "8:0-9:00 20mbit",
		"mon- 20mbit", "mon,, 20mbit", "mon,20mbit", "monday 20mbit", "08:00-18:00 mon-fri 20mbit", "mon-fri 08:00-18:00 20mbit x",
		"mon-fri\t20mbit", "08:00-18:00-20:00 20mbit", "mon-tue-wed 1mbit", "24:01-23:00 1mbit"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct bandwidth_rule rule = {.rate = 77};
		struct err err = {0};
		assert_int_equal(bandwidth_rule_read(bad[i], &rule, &err), -EINVAL);
		assert_true(rule.rate == 77 && strlen(err.text) > 20);
	}
}

static void capital_letters_are_taken_as_small_ones(void **state)
{
	(void)state;
	static const char *const same[][2] = {
		{"50Mbit", "50mbit"}, {"50MBIT", "50mbit"}, {"4MByte", "4mbyte"}, {"2GiB", "2gib"}, {"64KBit", "64kbit"}, {"Unlimited", "unlimited"},
		{"Mon-Fri 08:00-18:00 20Mbit", "mon-fri 08:00-18:00 20mbit"}, {"SAT,Sun 1GBIT", "sat,sun 1gbit"}, {"Daily 1Mbit", "1mbit"},
	};
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		struct bandwidth_rule rule;
		char text[BANDWIDTH_TEXT_SIZE];
		assert_int_equal(bandwidth_rule_read(same[i][0], &rule, NULL), 0);
		bandwidth_rule_format(&rule, text);
		struct bandwidth_rule small;
		char small_text[BANDWIDTH_TEXT_SIZE];
		assert_int_equal(bandwidth_rule_read(same[i][1], &small, NULL), 0);
		bandwidth_rule_format(&small, small_text);
		assert_string_equal(text, small_text);
	}
	struct bandwidth_window window;
	assert_int_equal(bandwidth_window_read("Mon-Fri 22:00-06:00", &window, NULL), 0);
	assert_int_equal(window.days, 0x1f);
}

static void rate_of_nothing_is_refused_with_what_is_meant_instead(void **state)
{
	(void)state;
	static const char *const nothing[] = {"0", "00", "0mbit", "0Mbit", "mon-fri 0", "mon-fri 08:00-18:00 0kib"};
	for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++) {
		struct bandwidth_rule rule;
		struct err err = {0};
		assert_int_equal(bandwidth_rule_read(nothing[i], &rule, &err), -EINVAL);
		assert_non_null(strstr(err.text, "would let nothing go"));
		assert_non_null(strstr(err.text, "kagami pause"));
	}
}

static bool same_window(const struct bandwidth_window *a, const struct bandwidth_window *b)
{
	return a->days == b->days && a->from == b->from && a->to == b->to;
}

static void rule_that_was_formatted_reads_as_the_same(void **state)
{
	(void)state;
	uint64_t seed = 4;
	for (int i = 0; i < 50000; i++) {
		struct bandwidth_rule rule = {.window = {.days = (uint8_t)(1 + draw_below(&seed, 127)),
							 .from = (uint16_t)draw_below(&seed, DAY_MINUTES),
							 .to = (uint16_t)(1 + draw_below(&seed, DAY_MINUTES))},
					      .rate = (BANDWIDTH_RATE_MIN + (draw(&seed) >> draw_below(&seed, 64))) % BANDWIDTH_RATE_MAX};
		struct bandwidth_rule back;
		struct bandwidth_window window;
		struct err err;
		char text[BANDWIDTH_TEXT_SIZE];
		if (rule.rate < BANDWIDTH_RATE_MIN)
			rule.rate = BANDWIDTH_UNLIMITED;
		rule.window.to += rule.window.to == rule.window.from && rule.window.to < DAY_MINUTES;
		bandwidth_rule_format(&rule, text);
		assert_int_equal(bandwidth_rule_read(text, &back, &err), 0);
		assert_true(back.rate == rule.rate && same_window(&back.window, &rule.window));
		bandwidth_window_format(&rule.window, text);
		assert_int_equal(bandwidth_window_read(text, &window, &err), 0);
		assert_true(same_window(&window, &rule.window));
	}
}

static void first_rule_whose_window_holds_counts(void **state)
{
	(void)state;
	static const char *const rules[] = {"mon-fri 08:00-18:00 20mbit", "sat,sun 4mbyte", "22:00-06:00 unlimited", "50mbit", NULL};
	assert_true(rate_at(rules, MON, 8, 0) == 2500000);
	assert_true(rate_at(rules, FRI, 17, 59) == 2500000);
	assert_true(rate_at(rules, FRI, 18, 0) == 6250000);
	assert_true(rate_at(rules, MON, 7, 59) == 6250000);
	assert_true(rate_at(rules, SAT, 12, 0) == 4000000);
	assert_true(rate_at(rules, SUN, 23, 59) == 4000000);
	assert_true(rate_at(rules, TUE, 23, 0) == BANDWIDTH_UNLIMITED);
	assert_true(rate_at(rules, TUE, 5, 59) == BANDWIDTH_UNLIMITED);
	assert_true(rate_at(rules, TUE, 6, 0) == 6250000);
	static const char *const none[] = {"mon 1mbit", NULL};
	assert_true(rate_at(none, TUE, 0, 0) == BANDWIDTH_UNLIMITED);
}

static void window_may_end_at_either_name_of_midnight(void **state)
{
	(void)state;
	struct bandwidth_window as_0, as_24;
	struct err err;
	assert_int_equal(bandwidth_window_read("fri 23:00-00:00", &as_0, &err), 0);
	assert_int_equal(bandwidth_window_read("fri 23:00-24:00", &as_24, &err), 0);
	assert_true(same_window(&as_0, &as_24));
	assert_int_equal(bandwidth_window_read("00:00-00:00", &as_0, &err), -EINVAL);
}

static void window_over_midnight_belongs_to_the_day_on_which_it_began(void **state)
{
	(void)state;
	static const char *const rules[] = {"fri 22:00-06:00 1mbit", NULL};
	assert_true(rate_at(rules, FRI, 21, 59) == BANDWIDTH_UNLIMITED);
	assert_true(rate_at(rules, FRI, 22, 0) == 125000);
	assert_true(rate_at(rules, SAT, 5, 59) == 125000);
	assert_true(rate_at(rules, SAT, 6, 0) == BANDWIDTH_UNLIMITED);
	assert_true(rate_at(rules, FRI, 3, 0) == BANDWIDTH_UNLIMITED); // that night began on Thursday
	assert_true(rate_at(rules, SAT, 23, 0) == BANDWIDTH_UNLIMITED);
	static const char *const over_sunday[] = {"sun-mon 23:00-01:00 1mbit", NULL};
	assert_true(rate_at(over_sunday, MON, 0, 30) == 125000);
	assert_true(rate_at(over_sunday, TUE, 0, 30) == 125000);
	assert_true(rate_at(over_sunday, SUN, 0, 30) == BANDWIDTH_UNLIMITED);
	static const char *const around[] = {"fri-mon 1mbit", NULL};
	for (unsigned day = 0; day < 7; day++)
		assert_int_equal(rate_at(around, day, 12, 0) == 125000, day >= FRI || day == MON);
}

// For every minute of the week: it opens in as many minutes as have to pass until it holds.
static void window_opens_when_it_is_said_to(void **state)
{
	static const char *const texts[] = {"22:00-06:00", "sat,sun", "mon-fri 20:00-06:00", "wed 12:00-12:01", "sun 23:59-00:01", "daily", "mon,tue 00:00-24:00"};
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct bandwidth_window window;
		struct err err;
		unsigned until = 0;
		assert_int_equal(bandwidth_window_read(texts[i], &window, &err), 0);
		for (int at = 3 * 7 * DAY_MINUTES - 1; at >= 0; at--) { // backwards from where it is known
			const struct bandwidth_time time = {.day = (unsigned)at / DAY_MINUTES % 7, .minute = (unsigned)at % DAY_MINUTES};
			until = bandwidth_window_holds(&window, &time) ? 0 : until + 1;
			if (at < 2 * 7 * DAY_MINUTES)
				assert_int_equal(bandwidth_window_opens(&window, &time), until);
		}
	}
}

// A window is of the clock on the wall: on the night when it is put forward an hour of it is missing, and when it is put back it is there twice.
static void windows_follow_the_wall_clock_over_changes_of_summer_time(void **state)
{
	(void)state;
	struct bandwidth_window night;
	struct err err;
	assert_int_equal(setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1), 0);
	tzset();
	assert_int_equal(bandwidth_window_read("sun 01:00-04:00", &night, &err), 0);
	static const struct {
		int64_t midnight_utc; // of that Sunday, 00:00 CET or CEST
		unsigned minutes;
	} nights[] = {{1774738800, 120}, {1792879200, 240}, {1775340000, 180}}; // 2026-03-29, 2026-10-25, an ordinary one (2026-04-05)
	for (int n = 0; n < 3; n++) {
		unsigned minutes = 0;
		for (int64_t m = -60; m < 8 * 60; m++) {
			struct bandwidth_time time = bandwidth_local((nights[n].midnight_utc + m * 60) * (int64_t)SECOND);
			minutes += bandwidth_window_holds(&night, &time);
		}
		assert_int_equal(minutes, nights[n].minutes);
	}
	assert_int_equal(unsetenv("TZ"), 0);
	tzset();
}

// --- the bucket ---

// Sends pieces as fast as it is let, for `seconds`; checks every stretch of 10 s that ends with a piece, from below too where nothing else kept it busy in that.
static void pour(uint64_t rate, uint64_t seed, uint64_t seconds, uint64_t busy_one_in, uint64_t *ret_whole)
{
	enum { PAST = 1 << 20 };
	static struct {
		uint64_t at, sum;
	} past[PAST];
	struct bucket bucket = {.rate = 0};
	uint64_t now = SECOND, sum = 0, end = now + seconds * SECOND, first = 0, count = 0, busy_until = now;
	bucket_set(&bucket, rate, now);
	while (now < end) {
		uint64_t bytes = 1 + draw_below(&seed, bucket_piece(rate)), wait = bucket_wait_ns(&bucket, now, bytes);
		now += wait;
		assert_true(bucket_wait_ns(&bucket, now, bytes) == 0);
		bucket_take(&bucket, now, bytes);
		past[count % PAST].at = now;
		past[count % PAST].sum = sum;
		count++;
		sum += bytes;
		for (; now - past[first % PAST].at > 10 * SECOND; first++)
			;
		assert_true(count - first < PAST);
		uint64_t went = sum - past[first % PAST].sum;
		assert_true((double)went <= 1.05 * 10 * (double)rate + 1024);
		bool whole = now - busy_until > 10 * SECOND; // `first` may be a piece's time short of 10 s
		assert_true(!whole || (double)(went + bucket_piece(rate)) >= 0.95 * 10 * (double)rate);
		*ret_whole += whole;
		if (draw_below(&seed, busy_one_in) == 0) {
			now += draw_below(&seed, 3 * SECOND); // it was busy with something else: no more than the depth is caught up
			busy_until = now;
		}
	}
}

static void bucket_holds_within_5_percent_over_any_10_seconds(void **state)
{
	(void)state;
	static const uint64_t rates[] = {BANDWIDTH_RATE_MIN, 125000, 2500000, 125000000};
	uint64_t whole = 0;
	for (int r = 0; r < 4; r++) {
		pour(rates[r], (uint64_t)r + 1, rates[r] > 100000000 ? 40 : 300, 1000, &whole);
		pour(rates[r], (uint64_t)r + 1, rates[r] > 100000000 ? 40 : 300, 100000, &whole);
	}
	assert_true(whole > 100000); // stretches that were held against both sides
}

static void bucket_gives_what_its_rate_says_and_no_less(void **state)
{
	(void)state;
	static const uint64_t rates[] = {BANDWIDTH_RATE_MIN, 125000, 2500000, 125000000, 5000000000};
	for (int r = 0; r < 5; r++) {
		struct bucket bucket = {.rate = 0};
		uint64_t now = SECOND, sum = 0, piece = bucket_piece(rates[r]);
		bucket_set(&bucket, rates[r], now);
		while (now < 11 * SECOND) {
			now += bucket_wait_ns(&bucket, now, piece);
			bucket_take(&bucket, now, piece);
			sum += piece;
		}
		assert_true((double)sum >= 0.99 * 10 * (double)rates[r]);
	}
}

static void debt_is_paid_before_anything_else_goes(void **state)
{
	(void)state;
	struct bucket bucket = {.rate = 0};
	bucket_set(&bucket, 1000000, SECOND);
	bucket_take(&bucket, SECOND, 1100000); // a second and the depth
	assert_true(bucket_wait_ns(&bucket, SECOND, 1) >= SECOND);
	assert_true(bucket_wait_ns(&bucket, 2 * SECOND + 1000, 1) == 0);
	bucket_take(&bucket, 2 * SECOND + 1000, 1);
	assert_true(bucket_wait_ns(&bucket, SECOND, 1) > 0); // a clock that went back
}

static void change_of_a_limit_gives_no_second_burst(void **state)
{
	(void)state;
	struct bucket bucket = {.rate = 0};
	uint64_t now = SECOND, sum = 0;
	for (int i = 0; i < 10000; i++) {
		bucket_set(&bucket, 1000000 + (uint64_t)(i % 2), now);
		while (bucket_wait_ns(&bucket, now, 1024) == 0) {
			bucket_take(&bucket, now, 1024);
			sum += 1024;
		}
		now += MS;
	}
	assert_true(sum <= 10 * 1050000 && sum >= 10 * 950000);
}

// Against a list of all that went.
static void meter_tells_what_went_in_the_last_ten_seconds(void **state)
{
	(void)state;
	static uint64_t at[20000], bytes[20000];
	struct meter meter = {.stretch = 0};
	uint64_t seed = 5, now = draw_below(&seed, 30 * SECOND);
	assert_true(meter_rate(&meter, now) == 0);
	for (unsigned n = 0; n < 20000; n++) {
		now += draw_below(&seed, n % 500 ? SECOND / 20 : 30 * SECOND);
		at[n] = now / SECOND;
		bytes[n] = draw_below(&seed, 100000);
		meter_add(&meter, now, bytes[n]);
		uint64_t asked = now + (n % 7 ? 0 : draw_below(&seed, 15 * SECOND)), sum = 0;
		for (unsigned i = n + 1; i-- > 0 && at[i] + 10 >= asked / SECOND;)
			sum += at[i] < asked / SECOND ? bytes[i] : 0;
		assert_true(meter_rate(&meter, asked) == sum / 10);
	}
}

// --- sharing ---

enum { FLOWS = 6 };

struct share {
	struct shaper shaper;
	struct shaper_flow flow[FLOWS];
	uint64_t sent[FLOWS];
	bool wants[FLOWS];
};

// All that want send pieces for so long, asking in an order drawn anew.
static void run(struct share *s, uint64_t *now, uint64_t for_ns, uint64_t *seed)
{
	size_t piece = bucket_piece(s->shaper.total.rate);
	for (uint64_t end = *now + for_ns; *now < end;) {
		uint64_t wait = SECOND / 100;
		for (unsigned i = 0, at = (unsigned)draw_below(seed, FLOWS); i < FLOWS; i++, at = (at + 1) % FLOWS) {
			if (!s->wants[at])
				continue;
			uint64_t ns = shaper_ask(&s->shaper, &s->flow[at], piece, *now);
			s->sent[at] += ns ? 0 : piece;
			wait = min_u64(wait, ns);
		}
		*now += wait;
	}
}

static void share_begin(struct share *s, uint64_t rate, const unsigned weights[FLOWS], uint64_t now)
{
	memset(s, 0, sizeof(*s));
	bucket_set(&s->shaper.total, rate, now);
	for (int i = 0; i < FLOWS; i++) {
		shaper_join(&s->shaper, &s->flow[i], weights[i]);
		s->wants[i] = true;
	}
}

static void total_is_shared_by_weight_and_held(void **state)
{
	(void)state;
	static const unsigned weights[FLOWS] = {1, 2, 4, 1, 2, 4};
	struct share s;
	uint64_t now = SECOND, seed = 1, sum = 0;
	share_begin(&s, 10000000, weights, now);
	run(&s, &now, 10 * SECOND, &seed);
	for (int i = 0; i < FLOWS; i++)
		sum += s.sent[i];
	assert_true(sum <= 105000000 && sum >= 95000000);
	for (int i = 0; i < FLOWS; i++) {
		double part = (double)s.sent[i] * 14 / (double)sum / weights[i];
		assert_true(part > 0.95 && part < 1.05);
	}
}

static void who_wants_nothing_leaves_its_share_to_others_and_saves_nothing_up(void **state)
{
	(void)state;
	static const unsigned weights[FLOWS] = {1, 1, 1, 1, 1, 1};
	struct share s;
	uint64_t now = SECOND, seed = 2;
	share_begin(&s, 10000000, weights, now);
	for (int i = 1; i < FLOWS; i++)
		s.wants[i] = i == 1;
	run(&s, &now, 10 * SECOND, &seed);
	assert_true(s.sent[0] > 47000000 && s.sent[1] > 47000000);
	s.wants[2] = true;
	run(&s, &now, SECOND, &seed);
	assert_true(s.sent[2] < 4250000 && s.sent[2] > 3000000); // a third of a second's and of the credit, not ten seconds' worth
}

static void flow_with_a_limit_of_its_own_keeps_it_and_holds_up_nobody(void **state)
{
	(void)state;
	static const unsigned weights[FLOWS] = {4, 1, 1, 1, 1, 1};
	struct share s;
	uint64_t now = SECOND, seed = 3;
	share_begin(&s, 10000000, weights, now);
	bucket_set(&s.flow[0].bucket, 500000, now);
	for (int i = 2; i < FLOWS; i++)
		s.wants[i] = false;
	run(&s, &now, 10 * SECOND, &seed);
	assert_true(s.sent[0] <= 5250000 && s.sent[0] >= 4700000);
	assert_true(s.sent[1] >= 90000000);
}

// Its thread gets no processor: the others go on, and of what it missed it gets no more than the credit (tests/unit/test_shaper.c).
static void who_does_not_come_back_is_not_waited_for(void **state)
{
	(void)state;
	static const unsigned weights[FLOWS] = {1, 1, 1, 1, 1, 1};
	struct share s;
	uint64_t now = SECOND, seed = 4;
	share_begin(&s, 10000000, weights, now);
	for (int i = 3; i < FLOWS; i++)
		s.wants[i] = false;
	run(&s, &now, SECOND, &seed);
	while (s.flow[0].wants == 0 || s.flow[1].start < s.flow[0].start) // until it is its turn
		run(&s, &now, SECOND / 1000, &seed);
	s.wants[0] = false; // it asked, and is not heard of
	memset(s.sent, 0, sizeof(s.sent));
	run(&s, &now, 10 * SECOND, &seed);
	assert_true(s.sent[1] > 47000000 && s.sent[2] > 47000000);
	s.wants[0] = true;
	run(&s, &now, SECOND, &seed);
	assert_true(s.sent[0] > 3000000 && s.sent[0] < 4250000);
}

static void what_goes_without_asking_is_charged_to_all_limits(void **state)
{
	(void)state;
	static const unsigned weights[FLOWS] = {1, 1, 1, 1, 1, 1};
	struct share s;
	uint64_t now = SECOND, seed = 5, small = 0;
	share_begin(&s, 1000000, weights, now);
	for (int i = 1; i < FLOWS; i++)
		s.wants[i] = false;
	for (int i = 0; i < 1000; i++) { // an answer every 10 ms
		shaper_charge(&s.shaper, &s.flow[1], 2000, now);
		small += 2000;
		run(&s, &now, SECOND / 100, &seed);
	}
	double due = (double)(now - SECOND) / (double)SECOND * 1000000;
	assert_true((double)(s.sent[0] + small) <= due * 1.05 && (double)(s.sent[0] + small) >= due * 0.95);
	s.wants[0] = false;
	shaper_give_up(&s.flow[0]);
	shaper_leave(&s.shaper, &s.flow[3]);
	shaper_leave(&s.shaper, &s.flow[0]);
	shaper_leave(&s.shaper, &s.flow[5]);
	s.wants[1] = true;
	run(&s, &now, SECOND, &seed);
	assert_true(s.sent[1] > 900000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_are_read_in_every_unit),
		cmocka_unit_test(what_is_no_rule_is_refused_with_what_to_write),
		cmocka_unit_test(capital_letters_are_taken_as_small_ones),
		cmocka_unit_test(rate_of_nothing_is_refused_with_what_is_meant_instead),
		cmocka_unit_test(rule_that_was_formatted_reads_as_the_same),
		cmocka_unit_test(first_rule_whose_window_holds_counts),
		cmocka_unit_test(window_may_end_at_either_name_of_midnight),
		cmocka_unit_test(window_over_midnight_belongs_to_the_day_on_which_it_began),
		cmocka_unit_test(window_opens_when_it_is_said_to),
		cmocka_unit_test(windows_follow_the_wall_clock_over_changes_of_summer_time),
		cmocka_unit_test(bucket_holds_within_5_percent_over_any_10_seconds),
		cmocka_unit_test(bucket_gives_what_its_rate_says_and_no_less),
		cmocka_unit_test(debt_is_paid_before_anything_else_goes),
		cmocka_unit_test(change_of_a_limit_gives_no_second_burst),
		cmocka_unit_test(meter_tells_what_went_in_the_last_ten_seconds),
		cmocka_unit_test(total_is_shared_by_weight_and_held),
		cmocka_unit_test(who_wants_nothing_leaves_its_share_to_others_and_saves_nothing_up),
		cmocka_unit_test(flow_with_a_limit_of_its_own_keeps_it_and_holds_up_nobody),
		cmocka_unit_test(who_does_not_come_back_is_not_waited_for),
		cmocka_unit_test(what_goes_without_asking_is_charged_to_all_limits),
	};
	return cmocka_run_group_tests_name("bandwidth", tests, NULL, NULL);
}
