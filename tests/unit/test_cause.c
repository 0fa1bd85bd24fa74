// SPDX-License-Identifier: Apache-2.0
// The causes of a miss: their names and numbers, and which one it is.
#include "rpo/cause.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

// They are in files and on the wire.
static void numbers_and_names_of_causes_are_for_ever(void **state)
{
	(void)state;
	static const char *const names[] = {"none",	    "paused", "fenced", "source-down", "target-down", "space",	 "source-error", "target-error",
					    "sync", "queue",  "read",	"compress",    "network",     "apply",	 "throttled",	 "unknown"};
	assert_int_equal(RPO_CAUSES, sizeof(names) / sizeof(names[0]));
	for (unsigned i = 0; i < RPO_CAUSES; i++) {
		enum rpo_cause back = RPO_CAUSES;
		assert_string_equal(rpo_cause_name((enum rpo_cause)i), names[i]);
		assert_true(rpo_cause_read(names[i], &back));
		assert_int_equal(back, i);
	}
	assert_string_equal(rpo_cause_name((enum rpo_cause)16), "unknown");
	assert_string_equal(rpo_cause_name((enum rpo_cause)255), "unknown");
	enum rpo_cause same = RPO_CAUSE_READ;
	assert_false(rpo_cause_read("", &same));
	assert_false(rpo_cause_read("Network", &same));
	assert_false(rpo_cause_read("network ", &same));
	assert_int_equal(same, RPO_CAUSE_READ);
}

static void stage_has_the_name_of_its_cause(void **state)
{
	(void)state;
	static const char *const names[RPO_STAGES] = {"queue", "read", "compress", "network", "apply", "throttled"};
	for (unsigned i = 0; i < RPO_STAGES; i++) {
		assert_string_equal(rpo_stage_name((enum rpo_stage)i), names[i]);
		assert_string_equal(rpo_cause_name(rpo_cause_of_stage((enum rpo_stage)i)), names[i]);
	}
}

static void miss_is_booked_to_the_stage_that_took_the_most_time(void **state)
{
	(void)state;
	for (unsigned most = 0; most < RPO_STAGES; most++) {
		struct rpo_circumstances c = {.paused = false};
		for (unsigned i = 0; i < RPO_STAGES; i++)
			c.stage_ns[i] = i == most ? 3 * SECOND : 3 * SECOND - 1;
		assert_int_equal(rpo_cause_of(&c), rpo_cause_of_stage((enum rpo_stage)most));
	}
	struct rpo_circumstances tie = {.stage_ns = {[RPO_STAGE_READ] = 5, [RPO_STAGE_APPLY] = 5}};
	assert_int_equal(rpo_cause_of(&tie), RPO_CAUSE_READ);
}

// Every set of circumstances: the first of the order counts, whatever the stages say.
static void what_somebody_did_comes_before_any_stage_in_its_order(void **state)
{
	(void)state;
	static const enum rpo_cause order[8] = {RPO_CAUSE_PAUSED, RPO_CAUSE_FENCED,	  RPO_CAUSE_SOURCE_DOWN,  RPO_CAUSE_TARGET_DOWN,
						RPO_CAUSE_SPACE,  RPO_CAUSE_SOURCE_ERROR, RPO_CAUSE_TARGET_ERROR, RPO_CAUSE_SYNC};
	for (unsigned set = 0; set < 256; set++) {
		struct rpo_circumstances c = {
			.paused = set & 1,
			.fenced = set & 2,
			.source_down = set & 4,
			.target_down = set & 8,
			.space = set & 16,
			.source_error = set & 32,
			.target_error = set & 64,
			.syncing = set & 128,
			.stage_ns = {[RPO_STAGE_NETWORK] = 100 * SECOND},
		};
		enum rpo_cause due = RPO_CAUSE_NETWORK;
		for (unsigned i = 8; i-- > 0;)
			due = set >> i & 1 ? order[i] : due;
		assert_int_equal(rpo_cause_of(&c), due);
	}
}

static void miss_without_evidence_is_unknown_and_never_none(void **state)
{
	(void)state;
	struct rpo_circumstances nothing = {.paused = false};
	assert_int_equal(rpo_cause_of(&nothing), RPO_CAUSE_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_and_names_of_causes_are_for_ever),
		cmocka_unit_test(stage_has_the_name_of_its_cause),
		cmocka_unit_test(miss_is_booked_to_the_stage_that_took_the_most_time),
		cmocka_unit_test(what_somebody_did_comes_before_any_stage_in_its_order),
		cmocka_unit_test(miss_without_evidence_is_unknown_and_never_none),
	};
	return cmocka_run_group_tests_name("cause", tests, NULL, NULL);
}
