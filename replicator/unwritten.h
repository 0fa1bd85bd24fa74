// SPDX-License-Identifier: Apache-2.0
// Where an image was written since its last sync began, and about how much a disk has to do for that: so a sync of much is done in pieces.
//
// The kernel lets no process end in the midst of a sync. One that was killed while a slow disk has a gigabyte to write would stay until that has ended, with its sockets and locks: its
// guests would see neither an end nor an answer, and the next agent would be refused. Between two pieces it can end.
//
// Rough, and never relied on: what the pieces leave out is written by the sync that follows them.
//
// One thread.
#ifndef KAGAMI_REPLICATOR_UNWRITTEN_H
#define KAGAMI_REPLICATOR_UNWRITTEN_H

#include <stdbool.h>
#include <stdint.h>

// The cost of a write is 1, and 1 more for each 32 KiB of it: what a disk writes in about the time of one small write.
enum { UNWRITTEN_PIECE = 256 }; // a piece goes on to the end of the region in which it costs so much: less than a region more. What costs less in all needs none
enum { UNWRITTEN_RANGES = 32 }; // of a piece, where what was written lies far apart

struct unwritten_range {
	uint64_t off;
	uint32_t len; // at most 1 GiB, and not past the end of the disk by more than a region
};

struct unwritten { // zeroed: nothing is known, and no sync is done in pieces
	uint8_t *cost; // of each region, up to 255
	uint64_t regions;
	uint64_t total; // since the last sync began
	uint64_t from, to; // the regions within which that was
	uint64_t at, end; // those that are still to be taken
	uint32_t few[UNWRITTEN_PIECE]; // the regions whose cost is not 0, as long as there is no more than a piece
	unsigned few_count;
};

int unwritten_init(struct unwritten *unwritten, uint64_t size); // -ENOMEM: stays zeroed
void unwritten_grow(struct unwritten *unwritten, uint64_t size); // where there is no memory for it: zeroed
void unwritten_done(struct unwritten *unwritten);
void unwritten_add(struct unwritten *unwritten, uint64_t off, uint64_t len);
// A sync begins. What it is of, where that is so much that it is done in pieces; else 0.
uint64_t unwritten_sync(struct unwritten *unwritten);
// The next piece of it, in the order of the disk. Returns of how many ranges it is; 0: there is none.
unsigned unwritten_take(struct unwritten *unwritten, struct unwritten_range ret_range[UNWRITTEN_RANGES]);
uint64_t unwritten_memory(const struct unwritten *unwritten); // bytes

#endif
