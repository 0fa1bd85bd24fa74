// SPDX-License-Identifier: Apache-2.0
// The units of the house and arithmetic that cannot wrap.
//
// A disk is a whole number of 512-byte sectors. It is tracked in pieces of 4 KiB, and compared, sent and stored in
// blocks of 64 KiB. The last block and the last piece of a disk may reach past its end: what is past it is zero.
#ifndef KAGAMI_BASE_SIZE_H
#define KAGAMI_BASE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	SECTOR_SIZE = 512,
	PIECE_SIZE = 4096,
	PIECES_PER_BLOCK = 16,
	BLOCK_SIZE = PIECE_SIZE * PIECES_PER_BLOCK,
	REGION_SIZE = 4 << 20,
	BLOCKS_PER_REGION = REGION_SIZE / BLOCK_SIZE,
	PIECES_PER_REGION = REGION_SIZE / PIECE_SIZE,
	MASK_FULL = 0xffff, // a sector mask with all sixteen pieces of a block
	DISKS_MAX = 64,	    // disks of one protection
};
#define PLURAL(n) ((n) == 1 ? "" : "s") // of a word behind a number
#define ARE(n) ((n) == 1 ? "is" : "are")
#define COUNT(array) (sizeof(array) / sizeof((array)[0])) // its elements
#define DISK_SIZE_MAX (UINT64_C(1) << 46) // 64 TiB

static inline uint64_t size_blocks(uint64_t bytes)
{
	return bytes / BLOCK_SIZE + (bytes % BLOCK_SIZE != 0);
}

static inline uint64_t size_regions(uint64_t bytes)
{
	return bytes / REGION_SIZE + (bytes % REGION_SIZE != 0);
}

static inline uint64_t size_round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

// Whether [off, off + len) lies within `size`. The one bounds check for every number that came from outside.
static inline bool size_within(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline bool size_disk_ok(uint64_t bytes)
{
	return bytes > 0 && bytes <= DISK_SIZE_MAX && bytes % SECTOR_SIZE == 0;
}

// Bytes of block `index` that lie on a disk of `size` bytes.
static inline uint32_t size_of_block(uint64_t size, uint64_t index)
{
	return (uint32_t)min_u64(BLOCK_SIZE, size - index * BLOCK_SIZE);
}

#endif
