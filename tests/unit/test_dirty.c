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
	dirty_give(&m->map, &set);
	assert_int_equal(dirty_bytes(&set), 0);
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

// ---- a map and its set under one bound (D1)

enum { PAIR_REGIONS = 12, PAIR_PIECES = (PAIR_REGIONS - 1) * PIECES_PER_REGION + 37 };
#define PAIR_SIZE ((uint64_t)PAIR_PIECES * PIECE_SIZE - 1024)

// `map` and `set` share their memory; what they hold, to the piece, is in the plain arrays. A region that became dirty when the bound was reached
// is `wide`: what is marked in it is marked by pairs of blocks, until a block of it is cleared, or all of it is dirty or clean.
struct pair {
	struct dirty map, set;
	bool piece[PAIR_PIECES], cut[PAIR_PIECES];
	bool wide[PAIR_REGIONS], wide_cut[PAIR_REGIONS];
	unsigned coarsened;
};

static struct pair *pair_new(void)
{
	struct pair *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	assert_int_equal(dirty_init(&p->map, PAIR_SIZE), 0);
	assert_int_equal(dirty_init(&p->set, PAIR_SIZE), 0);
	p->map.beside = &p->set;
	return p;
}

static void pair_free(struct pair *p)
{
	dirty_done(&p->map);
	dirty_done(&p->set);
	free(p);
}

static uint16_t plain_mask(const bool *piece, uint64_t block)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK && block * PIECES_PER_BLOCK + i < PAIR_PIECES; i++)
		mask |= (uint16_t)(piece[block * PIECES_PER_BLOCK + i] << i);
	return mask;
}

static unsigned plain_count(const bool *piece, uint64_t region)
{
	unsigned count = 0;
	for (uint64_t i = region * PIECES_PER_REGION; i < (region + 1) * PIECES_PER_REGION && i < PAIR_PIECES; i++)
		count += piece[i];
	return count;
}

static unsigned plain_pieces(uint64_t region)
{
	return (unsigned)min_u64(PIECES_PER_REGION, PAIR_PIECES - region * PIECES_PER_REGION);
}

static void plain_mark(bool *piece, bool *wide, uint64_t i)
{
	enum { PAIR = 2 * PIECES_PER_BLOCK };
	uint64_t r = i / PIECES_PER_REGION, first = wide[r] ? i / PAIR * PAIR : i, end = wide[r] ? first + PAIR : i + 1;
	for (i = first; i < end && i < PAIR_PIECES; i++)
		piece[i] = true;
	wide[r] &= plain_count(piece, r) < plain_pieces(r);
}

static void check_holds(const struct dirty *map, const bool *piece)
{
	uint64_t pieces = 0, held = 0;
	for (uint64_t b = 0; b < size_blocks(PAIR_SIZE); b++) {
		assert_int_equal(dirty_mask(map, b), plain_mask(piece, b)); // B1, and no more than the bound asks for
		pieces += (unsigned)__builtin_popcount(dirty_mask(map, b));
	}
	for (uint64_t r = 0; r < PAIR_REGIONS; r++) {
		uint64_t blocks = dirty_region_blocks(map, r);
		unsigned char bits[DIRTY_REGION_BYTES];
		assert_int_equal(dirty_save_region(map, r, bits), blocks != 0);
		assert_int_equal(dirty_region_full(map, r), plain_count(piece, r) == plain_pieces(r));
		held += blocks != 0;
	}
	assert_int_equal(dirty_bytes(map), pieces * PIECE_SIZE);
	assert_int_equal(map->held, held);
	assert_true(map->own <= held);
}

static void pair_check(const struct pair *p)
{
	check_holds(&p->map, p->piece);
	check_holds(&p->set, p->cut);
	assert_true(p->map.own + p->set.held <= dirty_own_max(&p->map)); // D1
	assert_int_equal(dirty_memory(&p->map) + dirty_memory(&p->set),
			 2 * PAIR_REGIONS * sizeof(void *) + (p->map.own + p->set.own) * DIRTY_OWN_MEMORY);
}

static void pair_mark(struct pair *p, uint64_t off, uint64_t len)
{
	for (uint64_t r = off / REGION_SIZE; r <= (off + len - 1) / REGION_SIZE && r < PAIR_REGIONS; r++) {
		uint64_t from = r * REGION_SIZE > off ? r * REGION_SIZE : off;
		uint64_t to = min_u64((r + 1) * REGION_SIZE, off + len);
		bool part = to - from <= REGION_SIZE - BLOCK_SIZE;
		if (p->map.own + p->set.held >= dirty_own_max(&p->map) && plain_count(p->piece, r) == 0 && part) {
			p->wide[r] = true;
			p->coarsened++;
		}
		dirty_mark(&p->map, from, to - from);
		for (uint64_t at = from / PIECE_SIZE; at * PIECE_SIZE < to && at < PAIR_PIECES; at++)
			plain_mark(p->piece, p->wide, at);
	}
}

// Reads blocks of the set from `block` on, as a cycle does.
static void pair_read(struct pair *p, uint64_t block, uint64_t count)
{
	for (uint64_t b = dirty_next(&p->set, block); count-- && b != UINT64_MAX; b = dirty_next(&p->set, b + 1)) {
		dirty_clear_block(&p->set, b);
		assert_int_equal(dirty_mask(&p->set, b), 0); // whatever the bound is: else it would be read for ever
		for (unsigned i = 0; i < PIECES_PER_BLOCK && b * PIECES_PER_BLOCK + i < PAIR_PIECES; i++)
			p->cut[b * PIECES_PER_BLOCK + i] = false;
		p->wide_cut[b / BLOCKS_PER_REGION] = false;
	}
}

static void pair_give(struct pair *p)
{
	dirty_give(&p->map, &p->set);
	for (uint64_t r = 0; r < PAIR_REGIONS; r++)
		if (plain_count(p->piece, r) == 0)
			p->wide[r] = p->wide_cut[r];
	for (uint64_t i = 0; i < PAIR_PIECES; i++)
		if (p->cut[i])
			plain_mark(p->piece, p->wide, i);
	memset(p->cut, 0, sizeof(p->cut));
	memset(p->wide_cut, 0, sizeof(p->wide_cut));
	assert_true(p->set.held == 0 && dirty_bytes(&p->set) == 0);
}

static void pair_cut(struct pair *p)
{
	pair_give(p); // what is left of the cut before
	dirty_take(&p->set, &p->map);
	memcpy(p->cut, p->piece, sizeof(p->cut));
	memcpy(p->wide_cut, p->wide, sizeof(p->wide_cut));
	memset(p->piece, 0, sizeof(p->piece));
	memset(p->wide, 0, sizeof(p->wide));
}

static void pair_step(struct pair *p)
{
	uint64_t off = roll(PAIR_SIZE);
	switch (roll(40)) {
	case 0:
		pair_cut(p);
		break;
	case 1:
		pair_give(p);
		break;
	case 2:
		pair_mark(p, off / REGION_SIZE * REGION_SIZE, min_u64(REGION_SIZE, PAIR_SIZE - off / REGION_SIZE * REGION_SIZE));
		break;
	case 3:
	case 4:
		pair_read(p, off / BLOCK_SIZE, roll(100));
		break;
	default:
		pair_mark(p, off, 1 + roll(min_u64(3 * PIECE_SIZE, PAIR_SIZE - off)));
	}
}

static void dirty_map_and_set_hold_all_that_was_marked_within_their_bound(void **unused)
{
	(void)unused;
	unsigned coarsened = 0;
	for (unsigned seed = 1; seed <= 40; seed++) {
		state = seed;
		print_message("seed %u\n", seed); // the last one printed is the one that failed
		struct pair *p = pair_new();
		for (unsigned i = 0; i < 400; i++) {
			pair_step(p);
			if (i % 5 == 4)
				pair_check(p);
		}
		coarsened += p->coarsened;
		pair_free(p);
	}
	assert_true(coarsened > 100); // or the bound was hardly met
	print_message("%u regions coarsened\n", coarsened);
}

static void dirty_map_alone_is_exact_in_every_region(void **unused)
{
	(void)unused;
	struct pair *p = pair_new();
	for (uint64_t r = 0; r < PAIR_REGIONS; r++)
		pair_mark(p, r * REGION_SIZE + 5 * PIECE_SIZE, 1);
	assert_int_equal(dirty_bytes(&p->map), PAIR_REGIONS * PIECE_SIZE);
	pair_cut(p);
	for (uint64_t r = 0; r < PAIR_REGIONS / 2; r++) // half of them again, all being in the set: exact still
		pair_mark(p, r * REGION_SIZE, 1);
	assert_int_equal(dirty_bytes(&p->map), PAIR_REGIONS / 2 * PIECE_SIZE);
	pair_mark(p, (PAIR_REGIONS - 2) * (uint64_t)REGION_SIZE, 1);
	assert_int_equal(dirty_bytes(&p->map), PAIR_REGIONS / 2 * PIECE_SIZE + 2 * BLOCK_SIZE); // beyond, a pair of blocks
	assert_true(p->wide[PAIR_REGIONS - 2]);
	pair_check(p);
	pair_give(p);
	pair_check(p);
	pair_free(p);
}

// Small disks are exact in every region of map and set, until what they may take together is taken; then the next one has the bound alone.
static void small_disks_are_exact_in_map_and_set(void **unused)
{
	(void)unused;
	struct pair *p = pair_new();
	dirty_reserve(&p->map);
	assert_int_equal(p->map.spare, PAIR_REGIONS / 2);
	for (unsigned i = 0; i < 2; i++) {
		for (uint64_t r = 0; r < PAIR_REGIONS; r++)
			pair_mark(p, r * REGION_SIZE + 5 * PIECE_SIZE, 1);
		assert_int_equal(dirty_bytes(&p->map), PAIR_REGIONS * PIECE_SIZE);
		pair_check(p);
		if (i == 0)
			pair_cut(p);
	}
	assert_int_equal(p->coarsened, 0);
	struct dirty large, larger;
	assert_int_equal(dirty_init(&large, (uint64_t)(2 * (DIRTY_SPARE - PAIR_REGIONS / 2)) * REGION_SIZE), 0);
	assert_int_equal(dirty_init(&larger, (uint64_t)(2 * (DIRTY_SPARE - PAIR_REGIONS / 2) + 2) * REGION_SIZE), 0);
	dirty_reserve(&larger);
	assert_int_equal(larger.spare, 0);
	dirty_reserve(&large);
	dirty_reserve(&large); // nothing twice
	assert_int_equal(large.spare, DIRTY_SPARE - PAIR_REGIONS / 2);
	pair_free(p);
	dirty_done(&large);
	dirty_reserve(&larger); // what ended has given back
	assert_int_equal(larger.spare, DIRTY_SPARE - PAIR_REGIONS / 2 + 1);
	dirty_done(&larger);
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
		cmocka_unit_test(dirty_map_and_set_hold_all_that_was_marked_within_their_bound),
		cmocka_unit_test(dirty_map_alone_is_exact_in_every_region),
		cmocka_unit_test(small_disks_are_exact_in_map_and_set),
		cmocka_unit_test(dirty_load_ignores_bits_past_the_end_of_the_disk),
	};
	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
