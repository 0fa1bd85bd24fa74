// SPDX-License-Identifier: Apache-2.0
// The dirty map of one disk: one bit per 4 KiB piece.
//
// Kept in regions of 4 MiB (1024 bits). A region costs memory only while part of it is dirty: a clean one is a NULL
// pointer, a wholly dirty one a shared marker. So marking never fails: a region whose bits cannot be allocated
// becomes coarse, dirty by pairs of blocks (128 KiB), which is a superset and therefore true, and costs nothing but its pointer.
//
// Memory: 8 bytes a region (2 MiB a TiB), and 144 for each partly dirty region (128 of bits, 16 of malloc's). A map and the set
// that its cut left beside it together have bits of their own for at most one and a half times their regions (54 MiB a TiB, not
// 72), or for all of both where the agent's small disks have reserved it (DIRTY_SPARE: 3.5 MiB for all disks together, so 200 GiB of them).
// Beyond, what is marked in a clean region makes it coarse; it takes a set with more than half of all regions in it, and a guest that
// has come to most of the others since.
//
// D1: own of the map + held of the set beside it <= dirty_own_max(). So clearing a block of the set always has its bits.
// Not thread-safe: the owner is the loop thread of the disk's export.
#ifndef KAGAMI_REPLICATOR_DIRTY_H
#define KAGAMI_REPLICATOR_DIRTY_H

#include "base/size.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	DIRTY_REGION_BYTES = PIECES_PER_REGION / 8,
	DIRTY_OWN_MEMORY = DIRTY_REGION_BYTES + 16, // as malloc has it
	DIRTY_SPARE = 25600, // regions with bits of their own beyond the bound, of all maps of the process
};

struct dirty {
	uint64_t size;	  // of the disk, in bytes
	uint64_t regions;
	unsigned char **region; // opaque: see dirty.c. NULL is clean
	uint64_t pieces;  // how many are dirty
	uint64_t held;	  // regions that are not clean
	uint64_t own;	  // those of them with bits of their own
	uint64_t coarsened; // how often a region became coarse for want of bits of its own
	uint64_t spare;	    // of DIRTY_SPARE
	const struct dirty *beside; // the set that was taken from this map, of the same size; NULL: there is none. D1
};

int dirty_init(struct dirty *dirty, uint64_t size); // clean; -ENOMEM
void dirty_done(struct dirty *dirty);
// Takes what keeps this map and a set beside it exact in every region from DIRTY_SPARE, if so much is left; else nothing. Again after a growth. Any thread.
void dirty_reserve(struct dirty *dirty);
int dirty_grow(struct dirty *dirty, uint64_t size); // for a larger disk; what is new is clean. -ENOMEM: as it was

// Marks every piece that [off, off + len) touches.
void dirty_mark(struct dirty *dirty, uint64_t off, uint64_t len);
void dirty_mark_all(struct dirty *dirty);
void dirty_reset(struct dirty *dirty); // clean again
// Marks the pieces of block `index` named by `mask`; pieces past the end of the disk are ignored.
void dirty_mark_block(struct dirty *dirty, uint64_t index, uint16_t mask);
uint16_t dirty_mask(const struct dirty *dirty, uint64_t index); // dirty pieces of a block
void dirty_clear_block(struct dirty *dirty, uint64_t index);
// The first block at or after `from` with a dirty piece, or UINT64_MAX.
uint64_t dirty_next(const struct dirty *dirty, uint64_t from);
uint64_t dirty_next_before(const struct dirty *dirty, uint64_t from, uint64_t end); // likewise, of the blocks before `end`
uint64_t dirty_bytes(const struct dirty *dirty);
// The blocks of a region that have a dirty piece, lowest bit first.
uint64_t dirty_region_blocks(const struct dirty *dirty, uint64_t region);
bool dirty_region_full(const struct dirty *dirty, uint64_t region); // every piece of it on the disk is dirty
void dirty_clear_region(struct dirty *dirty, uint64_t region);
uint64_t dirty_blocks(const struct dirty *dirty); // how many blocks have a dirty piece

// Moves everything from `from` to `to`, which must be clean; `from` is clean afterwards. Both of one size. Cannot fail.
void dirty_take(struct dirty *to, struct dirty *from);
// Marks in `to` everything that is marked in `from`, which is clean afterwards. Both of one size. Cannot fail, and allocates nothing.
void dirty_give(struct dirty *to, struct dirty *from);

static inline uint64_t dirty_own_max(const struct dirty *dirty)
{
	return dirty->regions + (dirty->regions + 1) / 2 + dirty->spare;
}
uint64_t dirty_memory(const struct dirty *dirty); // bytes, as malloc has them

// Bits of a region, for the state file: false when it is clean; else DIRTY_REGION_BYTES are stored.
bool dirty_save_region(const struct dirty *dirty, uint64_t region, unsigned char bits[DIRTY_REGION_BYTES]);
// Marks what `bits` names; bits past the end of the disk are ignored.
void dirty_load_region(struct dirty *dirty, uint64_t region, const unsigned char bits[DIRTY_REGION_BYTES]);

#endif
