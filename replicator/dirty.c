// SPDX-License-Identifier: Apache-2.0
// The dirty map of one disk. It promises to be a superset of what was marked, whatever malloc says, and whatever its bound
// of memory is.
//
//	region pointer        meaning                         leaves by
//	NULL                  clean                           mark
//	all_ones (DIRTY_ALL)  every piece is dirty            clear_block (becomes bits)
//	own bits              some pieces are dirty           the last piece marked, or the last one cleared
//	coarse                some pairs of blocks are        the last pair marked; clear_block (becomes bits)
//	                      dirty, each in all its pieces
//
// A coarse region has no bits of its own: its 32 pairs of blocks are in the upper half of the word that would be the pointer, and the lowest bit
// tells it from one. Own bits never name a piece past the end of the disk; all_ones and a pair may, so what is read of them is clipped.
#include "replicator/dirty.h"

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Shared by all maps and never written: that it holds real bits lets every reader treat it like a region of its own.
static unsigned char all_ones[DIRTY_REGION_BYTES] = {[0 ... DIRTY_REGION_BYTES - 1] = 0xff};

// What disks below DIRTY_SPARE have reserved of the spare bits.
static _Atomic uint64_t spare_taken;

enum { PAIRS = 32, COARSE = 1 };
_Static_assert(BLOCKS_PER_REGION == 2 * PAIRS && sizeof(uintptr_t) == 8, "a region's pairs of blocks fit in half a pointer");

static bool is_coarse(const unsigned char *region)
{
	return ((uintptr_t)region & COARSE) != 0;
}

static bool is_own(const unsigned char *region)
{
	return region && region != all_ones && !is_coarse(region);
}

static uint32_t coarse_pairs(const unsigned char *region)
{
	return (uint32_t)((uintptr_t)region >> PAIRS);
}

static unsigned char *coarse_region(uint32_t pairs)
{
	return (unsigned char *)((uintptr_t)pairs << PAIRS | COARSE); // NOLINT(performance-no-int-to-ptr)
}

// The dirty pieces of a block of the region, not clipped to the disk.
static uint16_t region_mask(const unsigned char *region, uint64_t block)
{
	if (!region)
		return 0;
	if (is_coarse(region))
		return coarse_pairs(region) >> block / 2 & 1 ? MASK_FULL : 0;
	return get_le16(region + 2 * block);
}

static uint64_t map_pieces(const struct dirty *dirty)
{
	return dirty->size / PIECE_SIZE + (dirty->size % PIECE_SIZE != 0);
}

static unsigned region_pieces(const struct dirty *dirty, uint64_t region)
{
	return (unsigned)min_u64(PIECES_PER_REGION, map_pieces(dirty) - region * PIECES_PER_REGION);
}

// The pieces of block `index` that lie on the disk.
static uint16_t block_pieces(const struct dirty *dirty, uint64_t index)
{
	uint64_t first = index * PIECES_PER_BLOCK;
	uint64_t pieces = map_pieces(dirty);
	if (first >= pieces)
		return 0;
	return pieces - first >= PIECES_PER_BLOCK ? MASK_FULL : (uint16_t)((1u << (pieces - first)) - 1);
}

static unsigned count_bits(const unsigned char *bits)
{
	unsigned count = 0;
	for (unsigned i = 0; i < DIRTY_REGION_BYTES; i += 8)
		count += (unsigned)__builtin_popcountll(get_le64(bits + i));
	return count;
}

static unsigned coarse_count(const struct dirty *dirty, uint64_t region)
{
	unsigned count = 0;
	for (uint32_t left = coarse_pairs(dirty->region[region]); left; left &= left - 1) {
		uint64_t block = region * BLOCKS_PER_REGION + 2 * (unsigned)__builtin_ctz(left);
		count += (unsigned)__builtin_popcount(block_pieces(dirty, block)) + (unsigned)__builtin_popcount(block_pieces(dirty, block + 1));
	}
	return count;
}

static unsigned region_count(const struct dirty *dirty, uint64_t region)
{
	const unsigned char *bits = dirty->region[region];
	if (!bits)
		return 0;
	if (is_coarse(bits))
		return coarse_count(dirty, region);
	return bits == all_ones ? region_pieces(dirty, region) : count_bits(bits);
}

// The one place where a region's pointer changes: the counts of D1 follow it. What it pointed to is not freed.
static void region_set(struct dirty *dirty, uint64_t region, unsigned char *bits)
{
	const unsigned char *old = dirty->region[region];
	dirty->held += (bits != NULL) - (uint64_t)(old != NULL);
	dirty->own += is_own(bits) - (uint64_t)is_own(old);
	dirty->region[region] = bits;
}

static void region_drop(struct dirty *dirty, uint64_t region)
{
	unsigned char *old = dirty->region[region];
	region_set(dirty, region, NULL);
	if (is_own(old))
		free(old);
}

static void region_fill(struct dirty *dirty, uint64_t region)
{
	dirty->pieces += region_pieces(dirty, region) - region_count(dirty, region);
	region_drop(dirty, region);
	region_set(dirty, region, all_ones);
}

// D1. Every region that `beside` holds may come to need bits of its own, since blocks are cleared in it one by one.
static bool region_room(const struct dirty *dirty)
{
	uint64_t taken = dirty->own + (dirty->beside ? dirty->beside->held : 0);
	return taken < dirty_own_max(dirty);
}

// What the bound is short of all regions twice.
static uint64_t spare_wanted(const struct dirty *dirty)
{
	return dirty->regions / 2;
}

void dirty_reserve(struct dirty *dirty)
{
	atomic_fetch_sub(&spare_taken, dirty->spare);
	dirty->spare = 0;
	uint64_t wanted = spare_wanted(dirty), before = atomic_load(&spare_taken);
	while (before + wanted <= DIRTY_SPARE)
		if (atomic_compare_exchange_weak(&spare_taken, &before, before + wanted)) {
			dirty->spare = wanted;
			return;
		}
}

int dirty_init(struct dirty *dirty, uint64_t size)
{
	assert(size_disk_ok(size));
	*dirty = (struct dirty){.size = size, .regions = size_regions(size)};
	dirty->region = calloc(dirty->regions, sizeof(*dirty->region));
	return dirty->region ? 0 : -ENOMEM;
}

void dirty_done(struct dirty *dirty)
{
	for (uint64_t r = 0; dirty->region && r < dirty->regions; r++)
		region_drop(dirty, r);
	free(dirty->region);
	atomic_fetch_sub(&spare_taken, dirty->spare);
	*dirty = (struct dirty){0};
}

// A marker or a NULL cannot say that a region is dirty up to where the disk ended.
static int own_last_region(struct dirty *dirty)
{
	uint64_t last = dirty->regions - 1;
	if (!dirty->region[last] || is_own(dirty->region[last]) || region_pieces(dirty, last) == PIECES_PER_REGION)
		return 0;
	unsigned char *own = malloc(DIRTY_REGION_BYTES);
	if (!own)
		return -ENOMEM;
	(void)dirty_save_region(dirty, last, own);
	region_set(dirty, last, own);
	return 0;
}

int dirty_grow(struct dirty *dirty, uint64_t size)
{
	assert(size_disk_ok(size) && size >= dirty->size);
	uint64_t regions = size_regions(size);
	unsigned char **region = realloc(dirty->region, regions * sizeof(*region));
	if (!region)
		return -ENOMEM;
	memset(region + dirty->regions, 0, (regions - dirty->regions) * sizeof(*region));
	dirty->region = region;
	if (own_last_region(dirty))
		return -ENOMEM;
	dirty->size = size;
	dirty->regions = regions;
	return 0;
}

// The region's own bits, to add to; NULL when it has none: it is wholly dirty, or (for want of memory, or by the bound) coarse.
static unsigned char *region_bits(struct dirty *dirty, uint64_t region)
{
	if (dirty->region[region])
		return is_own(dirty->region[region]) ? dirty->region[region] : NULL;
	unsigned char *own = region_room(dirty) ? calloc(1, DIRTY_REGION_BYTES) : NULL;
	if (own)
		region_set(dirty, region, own);
	return own;
}

// Pairs [first, end) of a region that has no bits of its own.
static void region_mark_pairs(struct dirty *dirty, uint64_t region, unsigned first, unsigned end)
{
	const unsigned char *old = dirty->region[region];
	if (old == all_ones)
		return;
	uint32_t before = old ? coarse_pairs(old) : 0, pairs = before | (uint32_t)((UINT64_C(1) << end) - (UINT64_C(1) << first));
	if (pairs == before)
		return;
	dirty->coarsened += !old;
	unsigned had = region_count(dirty, region);
	region_set(dirty, region, coarse_region(pairs));
	unsigned has = region_count(dirty, region);
	dirty->pieces += has - had;
	if (has == region_pieces(dirty, region))
		region_set(dirty, region, all_ones);
}

static void region_mark_mask(struct dirty *dirty, unsigned char *bits, unsigned block, uint16_t mask)
{
	unsigned char *at = bits + 2 * block;
	uint16_t old = get_le16(at);
	if ((old & mask) == mask)
		return;
	put_le16(at, old | mask);
	dirty->pieces += (unsigned)__builtin_popcount(mask & ~old);
}

static void region_close(struct dirty *dirty, uint64_t region)
{
	if (memcmp(dirty->region[region], all_ones, DIRTY_REGION_BYTES) == 0)
		region_fill(dirty, region);
}

// Marks pieces [first, end) of a region.
static void region_mark(struct dirty *dirty, uint64_t region, unsigned first, unsigned end)
{
	if (end - first == region_pieces(dirty, region)) {
		region_fill(dirty, region);
		return;
	}
	unsigned char *bits = region_bits(dirty, region);
	if (!bits) {
		region_mark_pairs(dirty, region, first / (2 * PIECES_PER_BLOCK), (end - 1) / (2 * PIECES_PER_BLOCK) + 1);
		return;
	}
	uint64_t before = dirty->pieces;
	for (unsigned block = first / PIECES_PER_BLOCK; block * PIECES_PER_BLOCK < end; block++) {
		unsigned base = block * PIECES_PER_BLOCK;
		unsigned from = first > base ? first - base : 0;
		unsigned to = end - base < PIECES_PER_BLOCK ? end - base : PIECES_PER_BLOCK;
		region_mark_mask(dirty, bits, block, (uint16_t)((1u << to) - (1u << from)));
	}
	if (dirty->pieces != before)
		region_close(dirty, region);
}

void dirty_mark(struct dirty *dirty, uint64_t off, uint64_t len)
{
	if (off >= dirty->size || len == 0)
		return;
	len = min_u64(len, dirty->size - off);
	uint64_t first = off / PIECE_SIZE;
	uint64_t end = (off + len - 1) / PIECE_SIZE + 1;
	for (uint64_t region = first / PIECES_PER_REGION; region * PIECES_PER_REGION < end; region++) {
		uint64_t base = region * PIECES_PER_REGION;
		region_mark(dirty, region, (unsigned)(max_u64(first, base) - base),
			    (unsigned)min_u64(end - base, PIECES_PER_REGION));
	}
}

void dirty_mark_all(struct dirty *dirty)
{
	for (uint64_t r = 0; r < dirty->regions; r++)
		region_fill(dirty, r);
}

void dirty_reset(struct dirty *dirty)
{
	for (uint64_t r = 0; dirty->held && r < dirty->regions; r++) {
		dirty->pieces -= region_count(dirty, r);
		region_drop(dirty, r);
	}
}

void dirty_mark_block(struct dirty *dirty, uint64_t index, uint16_t mask)
{
	mask &= block_pieces(dirty, index);
	if (!mask)
		return;
	uint64_t region = index / BLOCKS_PER_REGION;
	unsigned block = (unsigned)(index % BLOCKS_PER_REGION);
	unsigned char *bits = region_bits(dirty, region);
	if (!bits) {
		region_mark_pairs(dirty, region, block / 2, block / 2 + 1);
		return;
	}
	region_mark_mask(dirty, bits, block, mask);
	region_close(dirty, region);
}

uint16_t dirty_mask(const struct dirty *dirty, uint64_t index)
{
	uint64_t region = index / BLOCKS_PER_REGION;
	if (region >= dirty->regions || !dirty->region[region])
		return 0;
	return region_mask(dirty->region[region], index % BLOCKS_PER_REGION) & block_pieces(dirty, index);
}

void dirty_clear_block(struct dirty *dirty, uint64_t index)
{
	uint16_t mask = dirty_mask(dirty, index);
	if (!mask)
		return;
	uint64_t region = index / BLOCKS_PER_REGION;
	if (!is_own(dirty->region[region])) {
		unsigned char bits[DIRTY_REGION_BYTES];
		(void)dirty_save_region(dirty, region, bits);
		unsigned char *own = malloc(sizeof(bits));
		if (!own)
			return; // it stays dirty, which is a superset
		region_set(dirty, region, memcpy(own, bits, sizeof(bits)));
	}
	put_le16(dirty->region[region] + 2 * (index % BLOCKS_PER_REGION), 0);
	dirty->pieces -= (unsigned)__builtin_popcount(mask);
	if (bytes_zero(dirty->region[region], DIRTY_REGION_BYTES))
		region_drop(dirty, region);
}

uint64_t dirty_next(const struct dirty *dirty, uint64_t from)
{
	return dirty_next_before(dirty, from, size_blocks(dirty->size));
}

uint64_t dirty_next_before(const struct dirty *dirty, uint64_t from, uint64_t end)
{
	while (from < end) {
		const unsigned char *bits = dirty->region[from / BLOCKS_PER_REGION];
		if (!bits) {
			from = (from / BLOCKS_PER_REGION + 1) * BLOCKS_PER_REGION;
			continue;
		}
		if (region_mask(bits, from % BLOCKS_PER_REGION))
			return from;
		from++;
	}
	return UINT64_MAX;
}

uint64_t dirty_bytes(const struct dirty *dirty)
{
	return dirty->pieces * PIECE_SIZE;
}

uint64_t dirty_region_blocks(const struct dirty *dirty, uint64_t region)
{
	const unsigned char *bits = dirty->region[region];
	uint64_t blocks = min_u64(BLOCKS_PER_REGION, size_blocks(dirty->size) - region * BLOCKS_PER_REGION);
	uint64_t word = 0;
	for (unsigned b = 0; bits && b < blocks; b++)
		word |= (uint64_t)(region_mask(bits, b) != 0) << b;
	return word;
}

bool dirty_region_full(const struct dirty *dirty, uint64_t region)
{
	return region_count(dirty, region) == region_pieces(dirty, region);
}

void dirty_clear_region(struct dirty *dirty, uint64_t region)
{
	dirty->pieces -= region_count(dirty, region);
	region_drop(dirty, region);
}

uint64_t dirty_blocks(const struct dirty *dirty)
{
	uint64_t count = 0;
	for (uint64_t r = 0; r < dirty->regions; r++)
		if (dirty->region[r])
			count += (unsigned)__builtin_popcountll(dirty_region_blocks(dirty, r));
	return count;
}

void dirty_take(struct dirty *to, struct dirty *from)
{
	assert(to->size == from->size && to->pieces == 0);
	unsigned char **clean = to->region; // all NULL: a map without dirty pieces has no regions
	to->region = from->region;
	to->pieces = from->pieces;
	to->held = from->held;
	to->own = from->own;
	from->region = clean;
	from->pieces = from->held = from->own = 0;
}

// Where `to` is clean the region changes hands as it is, so that none is coarsened by a move, and nothing is allocated.
static void region_move(struct dirty *to, struct dirty *from, uint64_t region)
{
	unsigned char *bits = from->region[region];
	unsigned count = region_count(from, region);
	region_set(from, region, NULL);
	from->pieces -= count;
	if (bits == all_ones) {
		region_fill(to, region);
	} else if (!to->region[region]) {
		region_set(to, region, bits);
		to->pieces += count;
	} else {
		for (unsigned b = 0; b < BLOCKS_PER_REGION; b++)
			dirty_mark_block(to, region * BLOCKS_PER_REGION + b, region_mask(bits, b));
		if (is_own(bits))
			free(bits);
	}
}

void dirty_give(struct dirty *to, struct dirty *from)
{
	assert(to->size == from->size);
	for (uint64_t r = 0; from->held && r < from->regions; r++)
		if (from->region[r])
			region_move(to, from, r);
}

uint64_t dirty_memory(const struct dirty *dirty)
{
	return dirty->regions * sizeof(*dirty->region) + dirty->own * DIRTY_OWN_MEMORY;
}

bool dirty_save_region(const struct dirty *dirty, uint64_t region, unsigned char bits[DIRTY_REGION_BYTES])
{
	if (!dirty->region[region])
		return false;
	for (unsigned b = 0; b < BLOCKS_PER_REGION; b++)
		put_le16(bits + (size_t)2 * b, dirty_mask(dirty, region * BLOCKS_PER_REGION + b));
	return true;
}

void dirty_load_region(struct dirty *dirty, uint64_t region, const unsigned char bits[DIRTY_REGION_BYTES])
{
	for (unsigned b = 0; b < BLOCKS_PER_REGION; b++)
		dirty_mark_block(dirty, region * BLOCKS_PER_REGION + b, get_le16(bits + (size_t)2 * b));
}
