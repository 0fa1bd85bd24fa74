// SPDX-License-Identifier: Apache-2.0
// How pre-copy yields (replicator/yield.h): a share of the time while the guest is there, all of it otherwise, and never for what the line took.
#include "replicator/yield.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static void step_with_a_guest_lasts_as_long_again(void **state)
{
	struct yield yield = {0};
	(void)state;
	yield_begin(&yield, 1000 * MS, 7);
	assert_int_equal(yield_step(&yield, 1030 * MS, 8), 30 * MS);
	assert_int_equal(yield_resume(&yield, 1060 * MS), 30 * MS);
	assert_int_equal(yield_step(&yield, 1070 * MS, 9), 10 * MS); // the pause is no work
	assert_int_equal(yield_resume(&yield, 1082 * MS), 12 * MS); // a pause may last longer than was asked
}

static void step_without_a_guest_is_followed_at_once(void **state)
{
	struct yield yield = {0};
	(void)state;
	yield_begin(&yield, 0, 7);
	assert_int_equal(yield_step(&yield, 30 * MS, 7), 0);
	assert_int_equal(yield_step(&yield, 60 * MS, 8), 30 * MS); // it came back
	(void)yield_resume(&yield, 90 * MS);
	assert_int_equal(yield_step(&yield, 120 * MS, 8), 0); // and is idle again
}

static void line_that_is_the_limit_is_not_slowed(void **state)
{
	struct yield yield = {0};
	(void)state;
	yield_begin(&yield, 0, 0);
	yield_waited(&yield, 60 * MS);
	assert_int_equal(yield_step(&yield, 100 * MS, 1), 0); // 40 ms of work in 100
	yield_waited(&yield, 30 * MS);
	assert_int_equal(yield_step(&yield, 200 * MS, 2), 40 * MS); // 70 in 100: it is to last 140
	(void)yield_resume(&yield, 240 * MS);
	yield_waited(&yield, 500 * MS); // more than passed: a clock that is read in another order
	assert_int_equal(yield_step(&yield, 250 * MS, 3), 0);
}

static void pause_has_an_end(void **state)
{
	struct yield yield = {0};
	(void)state;
	yield_begin(&yield, 0, 0);
	assert_int_equal(yield_step(&yield, 60000 * MS, 1), YIELD_PAUSE_MS_MAX * MS); // a disk that hung for a minute
}

// Over many steps of any length the share is what it is said to be.
static void share_is_kept_over_time(void **state)
{
	struct yield yield = {0};
	uint64_t now = 0, work = 0, yielded = 0, random = 1;
	(void)state;
	yield_begin(&yield, now, 0);
	for (unsigned i = 1; i <= 1000; i++) {
		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		uint64_t step = 1 + (random >> 40) % (100 * MS);
		now += step;
		work += step;
		now += yield_step(&yield, now, i);
		yielded += yield_resume(&yield, now);
	}
	assert_true(work * 100 <= now * YIELD_SHARE_PERCENT);
	assert_int_equal(yielded, now - work);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(step_with_a_guest_lasts_as_long_again), cmocka_unit_test(step_without_a_guest_is_followed_at_once),
		cmocka_unit_test(line_that_is_the_limit_is_not_slowed),	 cmocka_unit_test(pause_has_an_end),
		cmocka_unit_test(share_is_kept_over_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
