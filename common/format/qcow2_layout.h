// SPDX-License-Identifier: Apache-2.0
// The numbers of qcow2 as we write it, and what one L2 entry says. Shared by writer and reader.
// Source: docs/interop/qcow2.txt of QEMU ("L1 table entry", "Extended L2 Entries", "Compressed Clusters Descriptor").
//
// An extended L2 entry is two big-endian words: where the cluster lies, and a bitmap over its 32 subclusters of 2
// KiB.
//
//	where                              bitmap                     the block is
//	0                                  0                          not held: reads through
//	0                                  zero bits                  zeros in those subclusters
//	COPIED | cluster offset            allocation and zero bits   plain: data, zeros, the rest reads through
//	PACKED | sectors - 1 | byte offset 0                          packed: one compressed stream
#ifndef KAGAMI_FORMAT_QCOW2_LAYOUT_H
#define KAGAMI_FORMAT_QCOW2_LAYOUT_H

#include "base/bytes.h"
#include "base/size.h"

#include <assert.h>

enum {
	QCOW2_CLUSTER_BITS = 16,
	QCOW2_CLUSTER_SIZE = 1 << QCOW2_CLUSTER_BITS,
	QCOW2_ENTRY_SIZE = 16,
	QCOW2_L2_ENTRIES = QCOW2_CLUSTER_SIZE / QCOW2_ENTRY_SIZE, // one L2 table maps 256 MiB
	QCOW2_L1_PER_CLUSTER = QCOW2_CLUSTER_SIZE / 8,
	QCOW2_REFCOUNT_ORDER = 4, // 16 bits each
	QCOW2_REFCOUNT_MAX = 0xffff,
	QCOW2_REFBLOCK_ENTRIES = QCOW2_CLUSTER_SIZE / 2,
	QCOW2_PACKED_SECTORS_MAX = 256,
	QCOW2_SUBCLUSTER_SIZE = 2048,
	QCOW2_SUBCLUSTERS = 32,
};
static_assert((int)QCOW2_CLUSTER_SIZE == (int)BLOCK_SIZE, "a cluster is a block");

#define QCOW2_COPIED (UINT64_C(1) << 63) // the refcount is exactly one
#define QCOW2_PACKED (UINT64_C(1) << 62)
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define QCOW2_PACKED_SHIFT 54 // 62 - (cluster_bits - 8): sectors above it, byte offset below
#define QCOW2_PACKED_OFFSET_MASK ((UINT64_C(1) << QCOW2_PACKED_SHIFT) - 1)
#define QCOW2_ZERO_ALL (UINT64_C(0xffffffff) << 32)

struct qcow2_entry {
	uint64_t where;
	uint64_t bits; // low half: allocated; high half: reads as zeros
};

static inline struct qcow2_entry qcow2_entry_get(const void *from)
{
	return (struct qcow2_entry){get_be64(from), get_be64((const char *)from + 8)};
}

static inline void qcow2_entry_put(void *to, struct qcow2_entry entry)
{
	put_be64(to, entry.where);
	put_be64((char *)to + 8, entry.bits);
}

static inline bool qcow2_entry_packed(struct qcow2_entry entry)
{
	return entry.where & QCOW2_PACKED;
}

static inline bool qcow2_entry_held(struct qcow2_entry entry)
{
	return entry.bits != 0 || qcow2_entry_packed(entry);
}

static inline uint32_t qcow2_entry_allocated(struct qcow2_entry entry)
{
	return (uint32_t)entry.bits;
}

static inline uint32_t qcow2_entry_zero(struct qcow2_entry entry)
{
	return (uint32_t)(entry.bits >> 32);
}

// Where a plain cluster lies; 0 when there is none.
static inline uint64_t qcow2_entry_offset(struct qcow2_entry entry)
{
	return qcow2_entry_packed(entry) ? 0 : entry.where & QCOW2_OFFSET_MASK;
}

static inline struct qcow2_entry qcow2_entry_plain(uint64_t offset, uint32_t allocated, uint32_t zero)
{
	return (struct qcow2_entry){QCOW2_COPIED | offset, (uint64_t)zero << 32 | allocated};
}

// A stream of `len` bytes at byte `offset`, in the sectors that it touches.
static inline struct qcow2_entry qcow2_entry_pack(uint64_t offset, uint64_t len)
{
	uint64_t more = (offset + len - 1) / SECTOR_SIZE - offset / SECTOR_SIZE;
	return (struct qcow2_entry){QCOW2_PACKED | more << QCOW2_PACKED_SHIFT | offset, 0};
}

static inline uint64_t qcow2_packed_offset(struct qcow2_entry entry)
{
	return entry.where & QCOW2_PACKED_OFFSET_MASK;
}

// From the offset to the end of the last sector: the stream, with less than a sector behind it.
static inline uint32_t qcow2_packed_bytes(struct qcow2_entry entry)
{
	uint32_t sectors = (uint32_t)(entry.where >> QCOW2_PACKED_SHIFT & (QCOW2_PACKED_SECTORS_MAX - 1)) + 1;
	return sectors * SECTOR_SIZE - (uint32_t)(entry.where & (SECTOR_SIZE - 1));
}

// Whether an entry that is not trusted may be followed in a file of `file_size` bytes: no reserved bit, and nothing outside.
bool qcow2_l1_entry_sound(uint64_t entry, uint64_t file_size); // 0, no table, is not
bool qcow2_entry_sound(struct qcow2_entry entry, uint64_t file_size);

// The subclusters of the pieces in `mask`: two bits for each.
static inline uint32_t qcow2_mask_spread(uint16_t mask)
{
	uint32_t bits = mask;
	bits = (bits | bits << 8) & 0x00ff00ff;
	bits = (bits | bits << 4) & 0x0f0f0f0f;
	bits = (bits | bits << 2) & 0x33333333;
	bits = (bits | bits << 1) & 0x55555555;
	return bits | bits << 1;
}

// The pieces of block `index` that a disk of `size` bytes has: all sixteen but for its last block.
static inline uint16_t qcow2_pieces_of(uint64_t size, uint64_t index)
{
	uint32_t pieces = (size_of_block(size, index) + PIECE_SIZE - 1) / PIECE_SIZE;
	return (uint16_t)((1u << pieces) - 1);
}

static inline uint32_t qcow2_l1_entries(uint64_t size)
{
	return (uint32_t)((size_blocks(size) + QCOW2_L2_ENTRIES - 1) / QCOW2_L2_ENTRIES);
}

#endif
