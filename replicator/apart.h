// SPDX-License-Identifier: Apache-2.0
// Whether it pays to ask for the pieces of blocks that differ (EXAMINE, docs/protocol.md). Pure.
//
//	asking ──APART_SAMPLE blocks that differed kept fewer than a quarter of their pieces at home──► resting
//	   ▲──── so many blocks differed without being asked about that way: 64, then twice as many each time, up to 4096 ───┘
//
// An answer costs the receiver a read of the block, and the line 260 bytes; a piece that is kept at home saves up to 4 KiB. An initial sync, and a disk
// that was written anew, find out after 32 blocks that there is nothing to save, and again after ever more.
#ifndef KAGAMI_REPLICATOR_APART_H
#define KAGAMI_REPLICATOR_APART_H

#include <stdbool.h>

enum { APART_SAMPLE = 32, APART_REST_MIN = 64, APART_REST_MAX = 4096 };

struct apart {
	unsigned seen, kept; // of the sample: blocks, and pieces of them that need not travel
	unsigned rest;	     // blocks that differ to go without asking
	unsigned next_rest;  // after the next sample that did not pay; 0: APART_REST_MIN
};

bool apart_asks(const struct apart *apart);
void apart_asked(struct apart *apart, unsigned pieces_kept); // a block that differed and was asked about so
void apart_not_asked(struct apart *apart);		       // one that was not

#endif
