// SPDX-License-Identifier: Apache-2.0
// How pre-copy yields (replicator/pace.h): a share of the time while the guest is there, all of it otherwise, and never for what the line took.
#include "replicator/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static void step_with_a_guest_lasts_as_long_again(void **state)
{
	struct pace pace = {0};
	(void)state;
	pace_begin(&pace, 1000 * MS, 7);
	assert_int_equal(pace_step(&pace, 1030 * MS, 8), 30 * MS);
	assert_int_equal(pace_resume(&pace, 1060 * MS), 30 * MS);
	assert_int_equal(pace_step(&pace, 1070 * MS, 9), 10 * MS); // the pause is no work
	assert_int_equal(pace_resume(&pace, 1082 * MS), 12 * MS); // a pause may last longer than was asked
}

static void step_without_a_guest_is_followed_at_once(void **state)
{
	struct pace pace = {0};
	(void)state;
	pace_begin(&pace, 0, 7);
	assert_int_equal(pace_step(&pace, 30 * MS, 7), 0);
	assert_int_equal(pace_step(&pace, 60 * MS, 8), 30 * MS); // it came back
	(void)pace_resume(&pace, 90 * MS);
	assert_int_equal(pace_step(&pace, 120 * MS, 8), 0); // and is idle again
}

static void line_that_is_the_limit_is_not_slowed(void **state)
{
	struct pace pace = {0};
	(void)state;
	pace_begin(&pace, 0, 0);
	pace_waited(&pace, 60 * MS);
	assert_int_equal(pace_step(&pace, 100 * MS, 1), 0); // 40 ms of work in 100
	pace_waited(&pace, 30 * MS);
	assert_int_equal(pace_step(&pace, 200 * MS, 2), 40 * MS); // 70 in 100: it is to last 140
	(void)pace_resume(&pace, 240 * MS);
	pace_waited(&pace, 500 * MS); // more than passed: a clock that is read in another order
	assert_int_equal(pace_step(&pace, 250 * MS, 3), 0);
}

static void pause_has_an_end(void **state)
{
	struct pace pace = {0};
	(void)state;
	pace_begin(&pace, 0, 0);
	assert_int_equal(pace_step(&pace, 60000 * MS, 1), PACE_PAUSE_MS_MAX * MS); // a disk that hung for a minute
}

// Over many steps of any length the share is what it is said to be.
static void share_is_kept_over_time(void **state)
{
	struct pace pace = {0};
	uint64_t now = 0, work = 0, yielded = 0, random = 1;
	(void)state;
	pace_begin(&pace, now, 0);
	for (unsigned i = 1; i <= 1000; i++) {
		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		uint64_t step = 1 + (random >> 40) % (100 * MS);
		now += step;
		work += step;
		now += pace_step(&pace, now, i);
		yielded += pace_resume(&pace, now);
	}
	assert_true(work * 100 <= now * PACE_SHARE_PERCENT);
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
