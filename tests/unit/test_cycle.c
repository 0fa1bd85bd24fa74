// SPDX-License-Identifier: Apache-2.0
// What the next pass of a cycle is: the table of cycle_decide(). The passes themselves: test_replication.c.
#include "replicator/cycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MIB UINT64_C(1048576)
#define LITTLE ((uint64_t)CYCLE_PRECOPY_BYTES)

static void cycle_decides_by_its_table(void **state)
{
	(void)state;
	static const struct {
		struct cycle_history history; // passes, given up, the last was, dirty before it
		uint64_t dirty;
		enum cycle_pass expected;
	} table[] = {
		// the first pass
		{{.passes = 0, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 0}, 0, CYCLE_PASS_POINT}, // a point of no change is a point
		{{.passes = 0, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 0}, LITTLE, CYCLE_PASS_POINT},
		{{.passes = 0, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 0}, LITTLE + 1, CYCLE_PASS_PRECOPY},
		{{.passes = 0, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 0}, UINT64_MAX, CYCLE_PASS_PRECOPY},
		// it shrinks
		{{.passes = 1, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 750 * MIB, CYCLE_PASS_PRECOPY},
		{{.passes = 1, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 65 * MIB, CYCLE_PASS_PRECOPY},
		{{.passes = 1, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 64 * MIB, CYCLE_PASS_POINT},
		// the guest is as fast as we are
		{{.passes = 1, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 751 * MIB, CYCLE_PASS_POINT},
		{{.passes = 1, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 2000 * MIB, CYCLE_PASS_POINT},
		{{.passes = 1, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = UINT64_MAX}, UINT64_MAX, CYCLE_PASS_POINT},
		// often enough
		{{.passes = 7, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 100 * MIB, CYCLE_PASS_PRECOPY},
		{{.passes = 8, .given_up = 0, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 100 * MIB, CYCLE_PASS_POINT},
		{{.passes = 9, .given_up = 1, .last_was_given_up = false, .last_dirty_bytes = 1000 * MIB}, 999 * MIB, CYCLE_PASS_POINT},
		// the cut was given up
		{{.passes = 1, .given_up = 1, .last_was_given_up = true, .last_dirty_bytes = 10 * MIB}, 10 * MIB, CYCLE_PASS_PRECOPY},
		{{.passes = 1, .given_up = 1, .last_was_given_up = true, .last_dirty_bytes = 10 * MIB}, 0, CYCLE_PASS_PRECOPY},
		{{.passes = 9, .given_up = 3, .last_was_given_up = true, .last_dirty_bytes = 10 * MIB}, 11 * MIB, CYCLE_PASS_PRECOPY},
		{{.passes = 2, .given_up = 1, .last_was_given_up = false, .last_dirty_bytes = 10 * MIB}, 10 * MIB, CYCLE_PASS_POINT}, // after that pre-copy
		// too often
		{{.passes = 5, .given_up = 4, .last_was_given_up = true, .last_dirty_bytes = 10 * MIB}, 10 * MIB, CYCLE_PASS_FAIL},
		{{.passes = 5, .given_up = 4, .last_was_given_up = false, .last_dirty_bytes = 10 * MIB}, 0, CYCLE_PASS_FAIL},
		{{.passes = 0, .given_up = 5, .last_was_given_up = false, .last_dirty_bytes = 0}, 0, CYCLE_PASS_FAIL},
	};
	enum cycle_why why;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (cycle_decide(&table[i].history, table[i].dirty, &why) != table[i].expected)
			fail_msg("row %zu", i);
}

// Whatever the guest does, a cycle comes to its end: the rule is applied as reach_point() does.
static void cycle_ends_whatever_the_guest_does(void **state)
{
	(void)state;
	for (unsigned guest = 0; guest < 1u << 12;
	     guest++) { // a bit a pass: the cut is given up or not; dirty is much or little
		struct cycle_history h = {0};
		unsigned rounds = 0;
		for (;; rounds++) {
			assert_true(rounds <= CYCLE_PASSES_MAX + 2 * CYCLE_GIVEN_UP_MAX);
			uint64_t dirty = guest >> (6 + rounds % 6) & 1 ? (10000 * MIB) >> (rounds / 2) : MIB;
			enum cycle_why why;
			enum cycle_pass pass = cycle_decide(&h, dirty, &why);
			if (pass == CYCLE_PASS_FAIL)
				break;
			bool given_up = pass == CYCLE_PASS_POINT && (guest >> rounds % 6 & 1);
			if (pass == CYCLE_PASS_POINT && !given_up)
				break;
			h = (struct cycle_history){.passes = h.passes + 1, .given_up = h.given_up + given_up, .last_was_given_up = given_up, .last_dirty_bytes = dirty};
		}
	}
}

static void cycle_says_why_it_cuts(void **state)
{
	(void)state;
	static const struct {
		struct cycle_history history;
		uint64_t dirty;
		enum cycle_pass pass;
		enum cycle_why why;
	} table[] = {
		{{.passes = 0}, LITTLE, CYCLE_PASS_POINT, CYCLE_WHY_LITTLE},
		{{.passes = 0}, LITTLE + 1, CYCLE_PASS_PRECOPY, CYCLE_WHY_NONE},
		{{.little_bytes = 2 * MIB}, 2 * MIB, CYCLE_PASS_POINT, CYCLE_WHY_LITTLE},
		{{.little_bytes = 2 * MIB}, 2 * MIB + 1, CYCLE_PASS_PRECOPY, CYCLE_WHY_NONE},
		{{.little_bytes = 2 * MIB, .resting = true}, 3 * MIB, CYCLE_PASS_POINT, CYCLE_WHY_RESTING},
		{{.little_bytes = 2 * MIB, .resting = true}, LITTLE + 1, CYCLE_PASS_PRECOPY, CYCLE_WHY_NONE}, // much is pre-copied all the same
		{{.little_bytes = 2 * MIB, .passes = 1, .last_dirty_bytes = 8 * MIB}, 7 * MIB, CYCLE_PASS_POINT, CYCLE_WHY_STEADY},
		{{.little_bytes = 2 * MIB, .passes = 1, .last_dirty_bytes = 8 * MIB}, 6 * MIB, CYCLE_PASS_PRECOPY, CYCLE_WHY_NONE},
		{{.passes = CYCLE_PASSES_MAX, .last_dirty_bytes = 1000 * MIB}, 100 * MIB, CYCLE_PASS_POINT, CYCLE_WHY_PASSES},
		{{.given_up = 1, .last_was_given_up = true}, 0, CYCLE_PASS_PRECOPY, CYCLE_WHY_NONE},
		{{.given_up = CYCLE_GIVEN_UP_MAX}, 0, CYCLE_PASS_FAIL, CYCLE_WHY_NONE},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		enum cycle_why why;
		if (cycle_decide(&table[i].history, table[i].dirty, &why) != table[i].pass || why != table[i].why)
			fail_msg("row %zu", i);
	}
}

// What takes half a second to ship is little: so much less over a slow link.
static void cycle_learns_from_the_rate_what_is_little(void **state)
{
	(void)state;
	struct cycle_lore lore = {0};
	assert_int_equal(cycle_little(NULL), CYCLE_PRECOPY_BYTES);
	assert_int_equal(cycle_little(&lore), CYCLE_PRECOPY_BYTES);
	cycle_learn(&lore, &(struct cycle_report){.dirty_bytes = 40 * MIB, .ship_ns = UINT64_C(4000000000)});
	assert_int_equal(lore.rate, 10 * MIB);
	assert_int_equal(cycle_little(&lore), 10 * MIB / 1000 * 500);
	cycle_learn(&lore, &(struct cycle_report){.dirty_bytes = 4096, .ship_ns = UINT64_C(1000000000)}); // too little to tell
	assert_int_equal(lore.rate, 10 * MIB);
	cycle_learn(&lore, &(struct cycle_report){.dirty_bytes = 1 * MIB, .ship_ns = UINT64_C(10000000000)});
	assert_int_equal(cycle_little(&lore), CYCLE_LITTLE_BYTES_MIN);
	cycle_learn(&lore, &(struct cycle_report){.dirty_bytes = 4000 * MIB, .ship_ns = UINT64_C(1000000000)});
	assert_int_equal(cycle_little(&lore), CYCLE_PRECOPY_BYTES);
}

// A guest that dirties the same blocks again: pre-copy is tried ever more seldom; once it pays it is back.
static void precopy_that_does_not_pay_rests(void **state)
{
	(void)state;
	struct cycle_lore lore = {0};
	unsigned tried = 0, cycles = 1000;
	for (unsigned i = 0; i < cycles; i++) {
		struct cycle_report report = {.first_bytes = 30 * MIB, .point_bytes = 30 * MIB, .why = CYCLE_WHY_RESTING};
		if (!lore.rest) {
			report.precopies = 1;
			report.point_bytes = 15 * MIB + 1;
			report.why = CYCLE_WHY_STEADY;
			tried++;
		}
		cycle_learn(&lore, &report);
	}
	assert_true(tried >= cycles / CYCLE_REST_MAX && tried <= cycles / CYCLE_REST_MAX + 8);
	lore.rest = 0;
	cycle_learn(&lore, &(struct cycle_report){.first_bytes = 30 * MIB, .point_bytes = 15 * MIB, .precopies = 1, .why = CYCLE_WHY_LITTLE});
	assert_int_equal(lore.rest, 0);
	cycle_learn(&lore, &(struct cycle_report){.first_bytes = 30 * MIB, .point_bytes = 20 * MIB, .precopies = 1, .why = CYCLE_WHY_STEADY});
	assert_int_equal(lore.rest, 1);
}

#define SECONDS UINT64_C(1000000000)

static void progress_tells_rate_and_time_left_of_the_last_seconds(void **state)
{
	(void)state;
	struct ship_progress progress;
	struct progress_view view;
	progress_begin_cycle(&progress, 100 * SECONDS);
	progress_view(&progress, 101 * SECONDS, 0, &view);
	assert_false(view.left_known || view.whole);
	assert_int_equal(view.pass, 0);
	progress_begin_pass(&progress, true, 1000 * MIB);
	for (unsigned second = 1; second <= 20; second++) // 10 MiB a second, then 40
		progress_add(&progress, (second <= 10 ? 10 : 40) * MIB, (100 + second) * SECONDS);
	progress_view(&progress, 120 * SECONDS, 0, &view);
	assert_int_equal(view.done_bytes, 500 * MIB);
	assert_int_equal(view.rate, 40 * MIB);
	assert_int_equal(view.left_ms, 12500);
	assert_true(view.whole);
	assert_true(view.precopy);
	progress_view(&progress, 120 * SECONDS, 100 * MIB, &view); // and what the guest dirtied meanwhile
	assert_int_equal(view.left_ms, 15000);
	progress_begin_pass(&progress, false, 100 * MIB);
	progress_view(&progress, 120 * SECONDS, 0, &view);
	assert_int_equal(view.pass, 2);
	assert_int_equal(view.total_bytes, 1100 * MIB);
	assert_false(view.precopy);
	progress_begin_cycle(&progress, 200 * SECONDS);
	progress_view(&progress, 200 * SECONDS, 0, &view);
	assert_int_equal(view.done_bytes + view.total_bytes + view.rate, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cycle_decides_by_its_table),
		cmocka_unit_test(cycle_ends_whatever_the_guest_does),
		cmocka_unit_test(cycle_says_why_it_cuts),
		cmocka_unit_test(cycle_learns_from_the_rate_what_is_little),
		cmocka_unit_test(precopy_that_does_not_pay_rests),
		cmocka_unit_test(progress_tells_rate_and_time_left_of_the_last_seconds),
	};
	return cmocka_run_group_tests_name("cycle", tests, NULL, NULL);
}
