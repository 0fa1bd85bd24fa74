// SPDX-License-Identifier: Apache-2.0
// The set of known damage (receiver/damage.h) against a plain table of what was said: never less, and exactly that while there is room.
#include "receiver/damage.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DISKS = 2, BLOCKS = 400, POINTS = 6, ROUNDS = 300 };

static bool truth[DISKS][BLOCKS][POINTS + 2]; // [point]; the last one stands for all to come

static void add(struct damage_set *set, uint16_t disk, uint64_t first, uint64_t count, uint64_t from, uint64_t to)
{
	const struct damage run = {.disk = disk, .first = first, .count = count, .from = from, .to = to};
	damage_add(set, &run);
	for (uint64_t b = first; b < first + count; b++)
		for (uint64_t p = from; p <= POINTS + 1; p++)
			if (p <= to)
				truth[disk][b][p] = true;
}

static void clear(struct damage_set *set, uint16_t disk, uint64_t first, uint64_t count)
{
	damage_clear(set, disk, first, count);
	memset(truth[disk][first], 0, count * sizeof(truth[disk][first]));
}

static void close_open(struct damage_set *set, uint16_t disk, uint64_t first, uint64_t count, uint64_t last)
{
	damage_close(set, disk, first, count, last);
	for (uint64_t b = first; b < first + count; b++)
		if (truth[disk][b][POINTS + 1])
			for (uint64_t p = last + 1; p <= POINTS + 1; p++)
				truth[disk][b][p] = false;
}

static bool claims(const struct damage_set *set, uint16_t disk, uint64_t block, uint64_t point)
{
	for (unsigned i = 0; i < set->count; i++) {
		const struct damage *run = &set->run[i];
		if (run->disk == disk && run->first <= block && block < run->first + run->count && run->from <= point && point <= run->to)
			return true;
	}
	return false;
}

static void compare(const struct damage_set *set, bool exact)
{
	assert_true(set->count <= DAMAGE_MAX);
	for (uint16_t d = 0; d < DISKS; d++)
		for (uint64_t b = 0; b < BLOCKS; b++)
			for (uint64_t p = 1; p <= POINTS + 1; p++) {
				bool said = claims(set, d, b, p);
				if (truth[d][b][p] ? !said : exact && said)
					fail_msg("disk %u block %llu point %llu", d, (unsigned long long)b, (unsigned long long)p);
				if (p == POINTS + 1 && truth[d][b][p])
					assert_true(damage_is_open(set, d, b) && damage_touches(set, d, b) && damage_has_open(set));
				if (truth[d][b][p])
					assert_non_null(damage_of_point(set, p));
			}
}

static void damage_is_what_was_said_while_there_is_room(void **state)
{
	(void)state;
	uint64_t seed = 5;
	for (unsigned round = 0; round < 60; round++) {
		struct damage_set set = {.count = 0};
		memset(truth, 0, sizeof(truth));
		for (unsigned i = 0; i < 25; i++) {
			uint16_t disk = (uint16_t)draw_below(&seed, DISKS);
			uint64_t first = draw_below(&seed, BLOCKS), count = 1 + draw_below(&seed, BLOCKS - first < 9 ? BLOCKS - first : 9);
			uint64_t from = 1 + draw_below(&seed, POINTS), to = from + draw_below(&seed, POINTS + 1 - from);
			unsigned what = (unsigned)draw_below(&seed, 5);
			if (what == 0)
				clear(&set, disk, first, count);
			else if (what == 1 && !claims(&set, disk, first, POINTS + 1))
				clear(&set, disk, first, count), add(&set, disk, first, count, from, DAMAGE_OPEN); // versions do not overlap
			else if (what == 2)
				close_open(&set, disk, first, count, POINTS);
			else
				clear(&set, disk, first, count), add(&set, disk, first, count, from, to);
			compare(&set, true);
		}
	}
}

static void full_set_claims_more_and_never_less(void **state)
{
	(void)state;
	struct damage_set set = {.count = 0};
	uint64_t seed = 6;
	memset(truth, 0, sizeof(truth));
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t from = 1 + draw_below(&seed, POINTS);
		add(&set, (uint16_t)draw_below(&seed, DISKS), draw_below(&seed, BLOCKS), 1, from, i % 3 ? from : DAMAGE_OPEN);
		compare(&set, false);
	}
	assert_int_equal(set.count, DAMAGE_MAX);
	clear(&set, 0, 100, 1); // in the middle of what may be one run: it may stay
	compare(&set, false);
	clear(&set, 0, 0, BLOCKS);
	clear(&set, 1, 0, BLOCKS);
	assert_int_equal(set.count, 0);
}

struct numbers { // of the points that there are
	uint64_t number[4];
	unsigned count;
};

static bool shown(const void *context, uint64_t from, uint64_t to)
{
	const struct numbers *n = context;
	for (unsigned i = 0; i < n->count; i++)
		if (from <= n->number[i] && n->number[i] <= to)
			return true;
	return false;
}

static void damage_of_points_that_went_is_forgotten(void **state)
{
	(void)state;
	struct damage_set set = {.count = 0};
	const struct numbers points = {.number = {2, 5, 9}, .count = 3};
	memset(truth, 0, sizeof(truth));
	add(&set, 0, 1, 1, 1, 1); // folded
	add(&set, 0, 3, 1, 3, 4); // merged into 5
	add(&set, 0, 5, 1, 6, 9); // begins in a gap, and 9 shows it
	add(&set, 0, 7, 1, 1, 2);
	add(&set, 1, 1, 1, 7, 8); // merged into 9
	assert_true(damage_prune(&set, shown, &points));
	assert_int_equal(set.count, 2);
	assert_non_null(damage_of_point(&set, 9));
	assert_non_null(damage_of_point(&set, 2));
	assert_null(damage_of_point(&set, 5));
	assert_false(damage_prune(&set, shown, &points));
}

static void neighbours_become_one_run(void **state)
{
	(void)state;
	struct damage_set set = {.count = 0};
	memset(truth, 0, sizeof(truth));
	for (unsigned b = 0; b < BLOCKS; b++)
		add(&set, 1, b, 1, 2, DAMAGE_OPEN);
	assert_int_equal(set.count, 1);
	assert_int_equal(damage_blocks_of_point(&set, 4), BLOCKS);
	assert_int_equal(damage_blocks_of_point(&set, 1), 0);
	close_open(&set, 1, 0, BLOCKS, 3);
	assert_false(damage_has_open(&set));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(damage_is_what_was_said_while_there_is_room),
		cmocka_unit_test(full_set_claims_more_and_never_less),
		cmocka_unit_test(damage_of_points_that_went_is_forgotten),
		cmocka_unit_test(neighbours_become_one_run),
	};
	return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
