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
		{{0, 0, false, 0}, 0, CYCLE_PASS_POINT}, // a point of no change is a point
		{{0, 0, false, 0}, LITTLE, CYCLE_PASS_POINT},
		{{0, 0, false, 0}, LITTLE + 1, CYCLE_PASS_PRECOPY},
		{{0, 0, false, 0}, UINT64_MAX, CYCLE_PASS_PRECOPY},
		// it shrinks
		{{1, 0, false, 1000 * MIB}, 750 * MIB, CYCLE_PASS_PRECOPY},
		{{1, 0, false, 1000 * MIB}, 65 * MIB, CYCLE_PASS_PRECOPY},
		{{1, 0, false, 1000 * MIB}, 64 * MIB, CYCLE_PASS_POINT},
		// the guest is as fast as we are
		{{1, 0, false, 1000 * MIB}, 751 * MIB, CYCLE_PASS_POINT},
		{{1, 0, false, 1000 * MIB}, 2000 * MIB, CYCLE_PASS_POINT},
		{{1, 0, false, UINT64_MAX}, UINT64_MAX, CYCLE_PASS_POINT},
		// often enough
		{{7, 0, false, 1000 * MIB}, 100 * MIB, CYCLE_PASS_PRECOPY},
		{{8, 0, false, 1000 * MIB}, 100 * MIB, CYCLE_PASS_POINT},
		{{9, 1, false, 1000 * MIB}, 999 * MIB, CYCLE_PASS_POINT},
		// the cut was given up
		{{1, 1, true, 10 * MIB}, 10 * MIB, CYCLE_PASS_PRECOPY},
		{{1, 1, true, 10 * MIB}, 0, CYCLE_PASS_PRECOPY},
		{{9, 3, true, 10 * MIB}, 11 * MIB, CYCLE_PASS_PRECOPY},
		{{2, 1, false, 10 * MIB}, 10 * MIB, CYCLE_PASS_POINT}, // after that pre-copy
		// too often
		{{5, 4, true, 10 * MIB}, 10 * MIB, CYCLE_PASS_FAIL},
		{{5, 4, false, 10 * MIB}, 0, CYCLE_PASS_FAIL},
		{{0, 5, false, 0}, 0, CYCLE_PASS_FAIL},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (cycle_decide(&table[i].history, table[i].dirty) != table[i].expected)
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
			enum cycle_pass pass = cycle_decide(&h, dirty);
			if (pass == CYCLE_PASS_FAIL)
				break;
			bool given_up = pass == CYCLE_PASS_POINT && (guest >> rounds % 6 & 1);
			if (pass == CYCLE_PASS_POINT && !given_up)
				break;
			h = (struct cycle_history){h.passes + 1, h.given_up + given_up, given_up, dirty};
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cycle_decides_by_its_table),
		cmocka_unit_test(cycle_ends_whatever_the_guest_does),
	};
	return cmocka_run_group_tests_name("cycle", tests, NULL, NULL);
}
