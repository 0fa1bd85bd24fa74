// SPDX-License-Identifier: Apache-2.0
// The dirty map against a plain array of pieces.
#include "replicator/dirty.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MODEL_PIECES = 3 * PIECES_PER_REGION + 37 };
#define MODEL_SIZE ((uint64_t)MODEL_PIECES * PIECE_SIZE - 1024) // the last piece, block and region are partial

struct model {
	struct dirty map;
	bool piece[MODEL_PIECES];
};

static uint64_t state;

static uint64_t roll(uint64_t below)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (state >> 33) % below;
}

static struct model *model_new(void)
{
	struct model *m = calloc(1, sizeof(*m));
	assert_non_null(m);
	assert_int_equal(dirty_init(&m->map, MODEL_SIZE), 0);
	return m;
}

static void model_free(struct model *m)
{
	dirty_done(&m->map);
	free(m);
}

static uint16_t model_mask(const struct model *m, uint64_t index)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++) {
		uint64_t p = index * PIECES_PER_BLOCK + i;
		if (p < MODEL_PIECES && m->piece[p])
			mask |= (uint16_t)(1u << i);
	}
	return mask;
}

static void model_check(const struct model *m)
{
	uint64_t pieces = 0, blocks = 0, next = dirty_next(&m->map, 0);
	for (uint64_t b = 0; b < size_blocks(MODEL_SIZE); b++) {
		uint16_t mask = model_mask(m, b);
		assert_int_equal(dirty_mask(&m->map, b), mask);
		pieces += (unsigned)__builtin_popcount(mask);
		if (!mask)
			continue;
		blocks++;
		assert_int_equal(next, b);
		next = dirty_next(&m->map, b + 1);
	}
	assert_true(next == UINT64_MAX);
	assert_int_equal(dirty_bytes(&m->map), pieces * PIECE_SIZE);
	assert_int_equal(dirty_blocks(&m->map), blocks);
}

static void model_mark(struct model *m, uint64_t off, uint64_t len)
{
	dirty_mark(&m->map, off, len);
	for (uint64_t p = off / PIECE_SIZE; len && p * PIECE_SIZE < off + len && p < MODEL_PIECES; p++)
		m->piece[p] = true;
}

static void model_mark_block(struct model *m, uint64_t index, uint16_t mask)
{
	dirty_mark_block(&m->map, index, mask);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask & 1u << i && index * PIECES_PER_BLOCK + i < MODEL_PIECES)
			m->piece[index * PIECES_PER_BLOCK + i] = true;
}

static void model_clear_block(struct model *m, uint64_t index)
{
	dirty_clear_block(&m->map, index);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (index * PIECES_PER_BLOCK + i < MODEL_PIECES)
			m->piece[index * PIECES_PER_BLOCK + i] = false;
}

static void model_step(struct model *m)
{
	uint64_t off = roll(MODEL_SIZE);
	switch (roll(8)) {
	case 0:
		model_mark(m, off, roll(6 * REGION_SIZE / 4));
		break;
	case 1:
		model_mark(m, off / REGION_SIZE * REGION_SIZE, REGION_SIZE);
		break;
	case 2:
	case 3:
		model_mark(m, off, 1 + roll(3 * PIECE_SIZE));
		break;
	case 4:
		model_mark_block(m, off / BLOCK_SIZE, (uint16_t)roll(0x10000));
		break;
	default:
		for (uint64_t b = off / BLOCK_SIZE, n = roll(40); n-- && b < size_blocks(MODEL_SIZE); b++)
			model_clear_block(m, b);
	}
}

static void dirty_agrees_with_a_plain_array_under_random_operations(void **unused)
{
	(void)unused;
	for (unsigned seed = 1; seed <= 20; seed++) {
		state = seed;
		struct model *m = model_new();
		for (unsigned i = 0; i < 200; i++) {
			model_step(m);
			if (i % 10 == 9)
				model_check(m);
		}
		model_free(m);
	}
}

static void dirty_mark_touches_every_piece_it_overlaps_and_no_other(void **unused)
{
	(void)unused;
	struct model *m = model_new();
	model_mark(m, PIECE_SIZE - 1, 2); // the last byte of one piece and the first of the next
	assert_int_equal(dirty_mask(&m->map, 0), 3);
	model_mark(m, REGION_SIZE - 1, 2);
	assert_int_equal(dirty_mask(&m->map, BLOCKS_PER_REGION - 1), 0x8000);
	assert_int_equal(dirty_mask(&m->map, BLOCKS_PER_REGION), 1);
	dirty_mark(&m->map, 3 * PIECE_SIZE, 0);
	dirty_mark(&m->map, MODEL_SIZE, 4096);
	model_check(m);
	model_mark(m, MODEL_SIZE - 1, 1);
	dirty_mark(&m->map, MODEL_SIZE - 1, UINT64_MAX / 2); // clipped, not wrapped
	model_check(m);
	model_free(m);
}

static void dirty_take_moves_everything_and_leaves_a_clean_map(void **unused)
{
	(void)unused;
	struct model *m = model_new();
	struct dirty set;
	assert_int_equal(dirty_init(&set, MODEL_SIZE), 0);
	model_mark(m, 5 * BLOCK_SIZE, 100);
	model_mark(m, REGION_SIZE, REGION_SIZE);
	dirty_take(&set, &m->map);
	assert_int_equal(dirty_bytes(&m->map), 0);
	assert_true(dirty_next(&m->map, 0) == UINT64_MAX);
	assert_int_equal(dirty_bytes(&set), PIECE_SIZE + REGION_SIZE);
	dirty_mark(&m->map, 7 * BLOCK_SIZE, 1); // what arrives later is in the new map alone
	assert_int_equal(dirty_mask(&set, 7), 0);
	dirty_merge(&m->map, &set);
	model_mark(m, 7 * BLOCK_SIZE, 1);
	model_check(m);
	dirty_done(&set);
	model_free(m);
}

static void dirty_regions_survive_save_and_load(void **unused)
{
	(void)unused;
	for (unsigned seed = 1; seed <= 10; seed++) {
		state = seed;
		struct model *m = model_new();
		struct dirty copy;
		assert_int_equal(dirty_init(&copy, MODEL_SIZE), 0);
		for (unsigned i = 0; i < 12; i++)
			model_step(m);
		for (uint64_t r = 0; r < m->map.regions; r++) {
			unsigned char bits[DIRTY_REGION_BYTES];
			if (dirty_save_region(&m->map, r, bits))
				dirty_load_region(&copy, r, bits);
		}
		struct dirty old = m->map;
		m->map = copy;
		model_check(m);
		dirty_done(&old);
		model_free(m);
	}
}

static void dirty_load_ignores_bits_past_the_end_of_the_disk(void **unused)
{
	(void)unused;
	struct model *m = model_new();
	unsigned char bits[DIRTY_REGION_BYTES];
	memset(bits, 0xff, sizeof(bits));
	dirty_load_region(&m->map, 3, bits);
	for (unsigned p = 3 * PIECES_PER_REGION; p < MODEL_PIECES; p++)
		m->piece[p] = true;
	model_check(m);
	dirty_mark_all(&m->map);
	assert_int_equal(dirty_bytes(&m->map), (uint64_t)MODEL_PIECES * PIECE_SIZE);
	dirty_reset(&m->map);
	assert_int_equal(dirty_bytes(&m->map), 0);
	assert_true(dirty_next(&m->map, 0) == UINT64_MAX);
	model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dirty_agrees_with_a_plain_array_under_random_operations),
		cmocka_unit_test(dirty_mark_touches_every_piece_it_overlaps_and_no_other),
		cmocka_unit_test(dirty_take_moves_everything_and_leaves_a_clean_map),
		cmocka_unit_test(dirty_regions_survive_save_and_load),
		cmocka_unit_test(dirty_load_ignores_bits_past_the_end_of_the_disk),
	};
	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
