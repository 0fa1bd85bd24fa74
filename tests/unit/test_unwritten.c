// SPDX-License-Identifier: Apache-2.0
// What was written since a sync, in pieces (replicator/unwritten.h): each region that was written is in one of them, and none of them is of too much.
#include "replicator/unwritten.h"

#include "base/size.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { REGIONS = 3000 };
#define SIZE ((uint64_t)REGIONS * REGION_SIZE - 512)

// The ranges of all pieces, one after the other.
static struct unwritten_range range[UNWRITTEN_RANGES];
static unsigned range_count, range_at, pieces_taken;

static bool take(struct unwritten *u, uint64_t *ret_off, uint32_t *ret_len)
{
	if (range_at == range_count) {
		range_at = 0;
		range_count = unwritten_take(u, range);
		pieces_taken += range_count > 0;
	}
	if (range_at == range_count)
		return false;
	*ret_off = range[range_at].off;
	*ret_len = range[range_at++].len;
	return true;
}

static uint64_t seed;

static uint64_t any(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void written_in_turn(struct unwritten *u, bool written[REGIONS], unsigned count)
{
	static const uint64_t lens[] = {512, 4096, 65536, 1 << 20, 9 << 20};
	memset(written, 0, REGIONS);
	for (unsigned i = 0; i < count; i++) {
		uint64_t len = lens[any(COUNT(lens))], off = any(SIZE - len);
		unwritten_add(u, off, len);
		for (uint64_t r = off / REGION_SIZE; r <= (off + len - 1) / REGION_SIZE; r++)
			written[r] = true;
	}
}

static void every_region_that_was_written_is_in_a_piece(void **state)
{
	(void)state;
	static bool written[REGIONS];
	struct unwritten u;
	assert_int_equal(unwritten_init(&u, SIZE), 0);
	for (unsigned round = 0; round < 50; round++) {
		seed = round + 1;
		written_in_turn(&u, written, UNWRITTEN_PIECE + (unsigned)any(2000));
		assert_true(unwritten_sync(&u));
		uint64_t off, end = 0;
		uint32_t len;
		while (take(&u, &off, &len)) {
			assert_true(off % REGION_SIZE == 0 && len % REGION_SIZE == 0 && len > 0 && len <= 1u << 30 && off >= end);
			for (uint64_t r = end / REGION_SIZE; r < off / REGION_SIZE; r++)
				assert_false(written[r]);
			assert_true(written[off / REGION_SIZE] && written[(off + len) / REGION_SIZE - 1]); // what nobody wrote is not looked through
			end = off + len;
		}
		for (uint64_t r = end / REGION_SIZE; r < REGIONS; r++)
			assert_false(written[r]);
		assert_false(take(&u, &off, &len)); // once
		assert_false(unwritten_sync(&u));
		assert_false(take(&u, &off, &len));
	}
	unwritten_done(&u);
}

static void ten_in_each(struct unwritten *u, uint64_t from, uint64_t to)
{
	for (uint64_t r = from; r < to; r++)
		for (uint64_t i = 0; i < 10; i++)
			unwritten_add(u, r * REGION_SIZE + i * 65536, 4096);
}

// What is written while the pieces are taken: behind them it is for the next time, and before them it is taken along.
static void what_is_written_meanwhile_is_in_a_piece_of_the_next(void **state)
{
	(void)state;
	struct unwritten u;
	uint64_t off;
	uint32_t len;
	assert_int_equal(unwritten_init(&u, SIZE), 0);
	ten_in_each(&u, 100, 200);
	assert_int_equal(unwritten_sync(&u), 1000);
	assert_true(take(&u, &off, &len) && off == 100 * (uint64_t)REGION_SIZE);
	for (unsigned i = 0; i < UNWRITTEN_PIECE; i++)
		unwritten_add(&u, i % 2 ? 7 * (uint64_t)REGION_SIZE : 101 * (uint64_t)REGION_SIZE, 512);
	while (take(&u, &off, &len))
		assert_true(off > 101 * (uint64_t)REGION_SIZE);
	assert_int_equal(unwritten_sync(&u), UNWRITTEN_PIECE);
	assert_true(take(&u, &off, &len) && off == 7 * (uint64_t)REGION_SIZE && off + len == 102 * (uint64_t)REGION_SIZE);
	assert_false(take(&u, &off, &len));
	unwritten_done(&u);
}

// As many small writes as a disk does in a moment, or a region's worth of large ones.
static void a_piece_is_of_a_bounded_cost(void **state)
{
	(void)state;
	struct unwritten u;
	uint64_t off = 0;
	uint32_t len;
	assert_int_equal(unwritten_init(&u, SIZE), 0);
	ten_in_each(&u, 0, REGIONS);
	assert_true(unwritten_sync(&u));
	pieces_taken = 0;
	while (take(&u, &off, &len))
		assert_true(len / REGION_SIZE * 10 < UNWRITTEN_PIECE + 10);
	assert_int_equal(pieces_taken, (REGIONS + 25) / 26);
	for (uint64_t to = 0; to < 64 * REGION_SIZE; to += 65536) // by the megabyte or the block, a few regions are much
		unwritten_add(&u, to, 65536);
	assert_true(unwritten_sync(&u));
	pieces_taken = 0;
	while (take(&u, &off, &len))
		assert_true(len <= 2 * REGION_SIZE);
	assert_true(pieces_taken >= 32);
	unwritten_done(&u);
}

// Else a disk that could do many at a time would do one after the other.
static void writes_far_apart_are_many_in_a_piece(void **state)
{
	(void)state;
	struct unwritten u;
	uint64_t off;
	uint32_t len;
	assert_int_equal(unwritten_init(&u, UINT64_C(1) << 43), 0);
	for (uint64_t i = 0; i < 512; i++)
		unwritten_add(&u, i << 34, 4096);
	assert_int_equal(unwritten_sync(&u), 512);
	pieces_taken = 0;
	for (uint64_t i = 0; i < 512; i++)
		assert_true(take(&u, &off, &len) && off == i << 34 && len == REGION_SIZE);
	assert_false(take(&u, &off, &len));
	assert_int_equal(pieces_taken, 512 / UNWRITTEN_RANGES);
	unwritten_done(&u);
}

// Else the next large one would go through what was on the disk long ago.
static void a_small_sync_leaves_nothing_behind(void **state)
{
	(void)state;
	struct unwritten u;
	uint64_t off = 0;
	uint32_t len;
	assert_int_equal(unwritten_init(&u, SIZE), 0);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < UNWRITTEN_PIECE - 1; i++)
			unwritten_add(&u, (uint64_t)(round * 100 + i) % REGIONS * REGION_SIZE, 512);
		assert_false(unwritten_sync(&u));
		for (unsigned r = 0; r < REGIONS; r++)
			assert_int_equal(u.cost[r], 0);
	}
	for (unsigned i = 0; i < UNWRITTEN_PIECE; i++)
		unwritten_add(&u, 7 * (uint64_t)REGION_SIZE, 512);
	assert_true(unwritten_sync(&u));
	assert_true(take(&u, &off, &len));
	assert_true(off == 7 * (uint64_t)REGION_SIZE && len == REGION_SIZE);
	assert_false(take(&u, &off, &len));
	unwritten_done(&u);
}

static void a_disk_that_grew_is_known_to_its_end(void **state)
{
	(void)state;
	struct unwritten u;
	uint64_t off = 0;
	uint32_t len = 0;
	assert_int_equal(unwritten_init(&u, REGION_SIZE), 0);
	unwritten_add(&u, 0, REGION_SIZE);
	unwritten_add(&u, REGION_SIZE, 512); // it is not so large yet
	unwritten_grow(&u, 3 * (uint64_t)REGION_SIZE + 512);
	assert_int_equal(unwritten_memory(&u), 4);
	unwritten_add(&u, 0, 4 * (uint64_t)REGION_SIZE);
	assert_true(unwritten_sync(&u));
	while (take(&u, &off, &len))
		;
	assert_int_equal(off + len, 4 * (uint64_t)REGION_SIZE);
	unwritten_done(&u);
	unwritten_add(&u, 0, 1 << 30); // nothing is known
	unwritten_grow(&u, SIZE);
	assert_false(unwritten_sync(&u));
	assert_false(take(&u, &off, &len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_region_that_was_written_is_in_a_piece),
		cmocka_unit_test(what_is_written_meanwhile_is_in_a_piece_of_the_next),
		cmocka_unit_test(a_piece_is_of_a_bounded_cost),
		cmocka_unit_test(writes_far_apart_are_many_in_a_piece),
		cmocka_unit_test(a_small_sync_leaves_nothing_behind),
		cmocka_unit_test(a_disk_that_grew_is_known_to_its_end),
	};
	return cmocka_run_group_tests_name("unwritten", tests, NULL, NULL);
}
