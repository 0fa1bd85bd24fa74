// SPDX-License-Identifier: Apache-2.0
// The stages of a cycle add up to all of its time.
#include "rpo/stage_clock.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void every_moment_is_in_exactly_one_stage(void **state)
{
	(void)state;
	uint64_t seed = 8, now = 1000, begun = now, due[RPO_STAGES] = {0};
	struct stage_clock clock;
	stage_clock_start(&clock, RPO_STAGE_COMPRESS, now);
	enum rpo_stage in = RPO_STAGE_COMPRESS;
	for (int i = 0; i < 100000; i++) {
		uint64_t ns = draw_below(&seed, 1000);
		due[in] += ns;
		now += ns;
		enum rpo_stage next = (enum rpo_stage)draw_below(&seed, RPO_STAGES);
		assert_int_equal(stage_clock_enter(&clock, next, now), in);
		in = next;
	}
	uint64_t sum = 0;
	for (unsigned i = 0; i < RPO_STAGES; i++) {
		assert_true(clock.ns[i] == due[i]);
		sum += clock.ns[i];
	}
	assert_true(sum == now - begun);
}

static void stage_within_a_stage_is_taken_out_of_it(void **state)
{
	(void)state;
	struct stage_clock clock;
	stage_clock_start(&clock, RPO_STAGE_COMPRESS, 0);
	enum rpo_stage outer = stage_clock_enter(&clock, RPO_STAGE_NETWORK, 10);
	enum rpo_stage inner = stage_clock_enter(&clock, RPO_STAGE_THROTTLED, 15);
	(void)stage_clock_enter(&clock, inner, 115);
	(void)stage_clock_enter(&clock, outer, 120);
	(void)stage_clock_enter(&clock, outer, 121);
	assert_true(clock.ns[RPO_STAGE_COMPRESS] == 11 && clock.ns[RPO_STAGE_NETWORK] == 10 && clock.ns[RPO_STAGE_THROTTLED] == 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_moment_is_in_exactly_one_stage),
		cmocka_unit_test(stage_within_a_stage_is_taken_out_of_it),
	};
	return cmocka_run_group_tests_name("stage_clock", tests, NULL, NULL);
}
