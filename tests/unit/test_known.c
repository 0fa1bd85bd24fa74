// SPDX-License-Identifier: Apache-2.0
// What the head is known to hold: only what was told, about one head of one connection, within its bound.
#include "replicator/known.h"

#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct uuid heads[] = {{{1}}, {{2}}};

static struct digest digest_with(uint64_t value)
{
	struct digest digest = {{0}};
	for (unsigned i = 0; i < 8; i++)
		digest.bytes[i] = (unsigned char)(value >> 8 * i);
	return digest;
}

static void known_answers_only_what_it_was_told_last(void **state)
{
	(void)state;
	struct known *known = NULL;
	assert_int_equal(known_new(64 * KNOWN_ENTRY_BYTES, &known), 0); // full soon
	known_bind(known, &heads[0], 1);
	enum { DISKS = 3, BLOCKS = 200 };
	uint64_t told[DISKS][BLOCKS] = {{0}}, seed = 9;
	unsigned found_count = 0;
	for (unsigned i = 0; i < 20000; i++) {
		uint16_t disk = (uint16_t)draw_below(&seed, DISKS);
		uint64_t index = draw_below(&seed, BLOCKS);
		const struct digest *found = known_find(known, disk, index);
		struct digest want = digest_with(told[disk][index]);
		if (found)
			assert_true(told[disk][index] && digest_equal(found, &want));
		found_count += found != NULL;
		told[disk][index] = i + 1;
		want = digest_with(i + 1);
		known_set(known, disk, index, &want);
		assert_non_null(known_find(known, disk, index));
		assert_true(known_count(known) <= 64);
	}
	assert_true(found_count > 1000);
	known_free(known);
}

static void known_is_of_one_head_of_one_connection(void **state)
{
	(void)state;
	struct known *known = NULL;
	struct digest digest = digest_with(5);
	assert_int_equal(known_new(KNOWN_BYTES_DEFAULT, &known), 0);
	known_set(known, 0, 7, &digest); // bound to nothing
	assert_null(known_find(known, 0, 7));

	known_bind(known, &heads[0], 1);
	known_set(known, 0, 7, &digest);
	known_bind(known, &heads[0], 1);
	assert_non_null(known_find(known, 0, 7));
	known_bind(known, &heads[0], 2); // another connection: what was on its way in the first is not known to be there
	assert_null(known_find(known, 0, 7));

	known_set(known, 0, 7, &digest);
	known_bind(known, &heads[1], 2); // another head
	assert_null(known_find(known, 0, 7));

	known_set(known, 0, 7, &digest);
	known_follow(known, &heads[0]); // the point was committed
	known_bind(known, &heads[0], 2);
	assert_non_null(known_find(known, 0, 7));
	known_forget(known);
	assert_null(known_find(known, 0, 7));
	known_set(known, 0, 7, &digest); // and learns nothing until it is bound
	assert_null(known_find(known, 0, 7));
	known_free(known);
}

static void known_follows_over_a_new_connection_while_nothing_was_told(void **state)
{
	(void)state;
	struct known *known = NULL;
	struct digest digest = digest_with(5);
	for (unsigned bytes = 0; bytes <= KNOWN_BYTES_DEFAULT; bytes += KNOWN_BYTES_DEFAULT) { // also where nothing has room
		assert_int_equal(known_new(bytes, &known), 0);
		known_bind(known, &heads[0], 1);
		assert_false(known_follows(known)); // whatever a process before this one sent
		known_set(known, 0, 7, &digest);
		known_follow(known, &heads[1]);
		assert_true(known_follows(known));
		known_bind(known, &heads[1], 2); // the line broke between two cycles
		assert_true(known_follows(known));
		assert_null(known_find(known, 0, 7));
		known_set(known, 0, 8, &digest); // on its way when that one broke
		known_bind(known, &heads[1], 3);
		assert_false(known_follows(known));
		known_follow(known, &heads[0]);
		known_bind(known, &heads[1], 4); // started anew
		assert_false(known_follows(known));
		known_follow(known, &heads[0]);
		known_forget(known); // a pass that told nothing here
		known_bind(known, &heads[0], 5);
		assert_false(known_follows(known));
		known_free(known);
	}
}

static void known_without_memory_knows_nothing(void **state)
{
	(void)state;
	struct known *known = NULL;
	struct digest digest = digest_with(5);
	assert_int_equal(known_new(0, &known), 0);
	known_bind(known, &heads[0], 1);
	known_set(known, 0, 7, &digest);
	assert_null(known_find(known, 0, 7));
	known_forget(known);
	known_free(known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers_only_what_it_was_told_last),
		cmocka_unit_test(known_is_of_one_head_of_one_connection),
		cmocka_unit_test(known_follows_over_a_new_connection_while_nothing_was_told),
		cmocka_unit_test(known_without_memory_knows_nothing),
	};
	return cmocka_run_group_tests_name("known", tests, NULL, NULL);
}
