// SPDX-License-Identifier: Apache-2.0
// What the first words of a session say of the two clocks.
#include "replicator/greet.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)
#define NOW (1770000000 * SECOND)

static void offset_of_clocks_is_true_within_its_error_whatever_the_way_took(void **state)
{
	(void)state;
	uint64_t seed = 6;
	for (int i = 0; i < 100000; i++) {
		int64_t truth = (int64_t)draw_below(&seed, (uint64_t)(400 * SECOND)) - 200 * SECOND;
		uint64_t there = draw_below(&seed, (uint64_t)SECOND), back = draw_below(&seed, (uint64_t)SECOND);
		int64_t theirs = NOW + (int64_t)there + truth;
		struct greet_clock clock = greet_clock_of(NOW, there + back, theirs);
		int64_t off = clock.offset_ns - truth;
		assert_true((uint64_t)(off < 0 ? -off : off) <= clock.error_ns);
		assert_true(clock.error_ns <= (there + back + 1) / 2);
	}
}

static void offset_of_clocks_a_year_apart_and_of_any_numbers_stays_in_its_limits(void **state)
{
	(void)state;
	struct greet_clock year = greet_clock_of(NOW, 0, NOW + 365 * 86400 * SECOND);
	assert_true(year.offset_ns == 365 * 86400 * SECOND && year.error_ns == 0);
	static const int64_t walls[] = {INT64_MIN, -1, 0, NOW, INT64_MAX};
	static const uint64_t trips[] = {0, 1, UINT64_MAX / 2, UINT64_MAX};
	for (int a = 0; a < 5; a++)
		for (int b = 0; b < 5; b++)
			for (int t = 0; t < 4; t++) {
				struct greet_clock clock = greet_clock_of(walls[a], trips[t], walls[b]);
				assert_true(clock.offset_ns <= WIRE_CLOCK_OFFSET_MAX && clock.offset_ns >= -WIRE_CLOCK_OFFSET_MAX);
				assert_true(clock.error_ns <= WIRE_CLOCK_OFFSET_MAX);
				assert_true(greet_offset_less(walls[a], walls[b]) <= WIRE_CLOCK_OFFSET_MAX && greet_offset_less(walls[a], walls[b]) >= -WIRE_CLOCK_OFFSET_MAX);
			}
	assert_true(greet_offset_less(5 * SECOND, 3000) == 2 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offset_of_clocks_is_true_within_its_error_whatever_the_way_took),
		cmocka_unit_test(offset_of_clocks_a_year_apart_and_of_any_numbers_stays_in_its_limits),
	};
	return cmocka_run_group_tests_name("greet", tests, NULL, NULL);
}
