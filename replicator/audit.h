// SPDX-License-Identifier: Apache-2.0
// The audit of holes: what a file system told as a hole is read afterwards, since a sync that believed metadata is not verified by any other metadata.
//
//	unit (512 KiB)   meaning                                              leaves by
//	unproven         a sync told it as zeros without reading it           read, and zero ──► proven
//	                                                                      a guest's write, or its cycle comes to nothing ──► its blocks are dirty, whole
//	                                                                      read, and not zero ──► it is dirty; where the file system was wrong, its region
//
// U1: a unit leaves at the first write to it, before that is issued, and all of its blocks are dirty from then on: so their own cycle reads them, not
//     only the pieces that the guest wrote. What is read of an unproven unit is therefore what was there when the hole was told.
// U2: a block that is not zero is dirty when audited() returns.
// U3: after a start, what the process before had not read is unproven again (audit_record.h), with what its guest has written since. There a block that is not
//     zero is held against the file system only while that still calls all of it a hole. Dirty it is either way.
//
// At every moment: what differs between image and last kept point is dirty, in the set, remembered (group.h, P1), or unproven.
//
// Memory: a byte a region (256 KiB a TiB), while anything is unproven. Pure; loop thread.
#ifndef KAGAMI_REPLICATOR_AUDIT_H
#define KAGAMI_REPLICATOR_AUDIT_H

#include "base/size.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	AUDIT_UNIT_BLOCKS = 8,
	AUDIT_UNIT_SIZE = AUDIT_UNIT_BLOCKS * BLOCK_SIZE,
	AUDIT_REGIONS_MAX = 1 << 16, // looked through in one turn: guests wait for the loop thread
};
_Static_assert(AUDIT_UNIT_BLOCKS * 8 == BLOCKS_PER_REGION, "the units of a region are a byte");

struct volume;

struct audit_map { // of a volume
	unsigned char *units; // a byte a region, lowest bit first; NULL: nothing is unproven
	uint64_t regions;
	uint64_t count; // of unproven units
	bool carried;	// U3
};

void audit_map_done(struct audit_map *map);
int audit_map_grow(struct audit_map *map, uint64_t size); // -ENOMEM: as it was
bool audit_map_room(struct audit_map *map, uint64_t size); // for audit_told(); false: no memory
uint64_t audit_map_memory(const struct audit_map *map);
uint64_t audit_map_bytes(const struct audit_map *map, uint64_t size); // unproven, of a disk of `size`

// The region was told as a hole; there is room.
void audit_told(struct volume *volume, uint64_t region);
// What the process before had not read, between open and start, once the dirty map is loaded; false: no memory.
bool audit_carry(struct volume *volume, uint64_t region, uint64_t count);
// A write is about to be issued; its pieces are dirty.
void audit_written(struct volume *volume, uint64_t off, uint64_t len);

// Blocks of the region are dirty again, since their cycle came to nothing.
void audit_given_back(struct volume *volume, uint64_t region, uint64_t blocks);

static inline bool audit_unproven(const struct audit_map *map, uint64_t block)
{
	return map->units && map->units[block / BLOCKS_PER_REGION] >> block % BLOCKS_PER_REGION / AUDIT_UNIT_BLOCKS & 1;
}

#endif
