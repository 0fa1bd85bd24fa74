// SPDX-License-Identifier: Apache-2.0
// A cycle: from what is dirty to a committed point.
//
//	            dirty is much and shrinks
//	          ┌──────────────────────────┐
//	          ▼                          │
//	begin ─► decide ─► PRECOPY: cut, ship as it is now
//	           │  ▲
//	           │  └─────── the cut was given up (bound of preserved blocks)
//	           ▼           │
//	         POINT: cut, ship as of the cut ─► SEAL ─► COMMITTED ─► keep
//	           │                                │
//	           └── failed: give back            └── no answer: unknown, asked for at the next connection
//
// Used by the cycle thread of a protection.
#ifndef KAGAMI_REPLICATOR_CYCLE_H
#define KAGAMI_REPLICATOR_CYCLE_H

#include "base/env.h"
#include "base/err.h"
#include "link/channel.h"
#include "replicator/ship.h"
#include "replicator/source.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	CYCLE_PRECOPY_BYTES = 64 << 20, // less than this is cut at once
	CYCLE_PASSES_MAX = 8,
	CYCLE_GIVEN_UP_MAX = 4, // cuts given up before the cycle is
};

enum cycle_pass { CYCLE_PASS_PRECOPY, CYCLE_PASS_POINT, CYCLE_PASS_FAIL };

struct cycle_history { // of the passes so far
	unsigned passes;
	unsigned given_up;
	bool last_was_given_up;
	uint64_t last_dirty_bytes; // that the last pass began with
	uint64_t little_bytes;	   // below this a point is cut at once; 0: CYCLE_PRECOPY_BYTES
	bool resting;		   // pre-copy has not paid: only where there is much
};

enum cycle_why { // a point is cut
	CYCLE_WHY_NONE,	     // it is no cut of a point
	CYCLE_WHY_LITTLE,    // the dirty remainder is small
	CYCLE_WHY_STEADY,    // it stopped shrinking: the guest is as fast as we are
	CYCLE_WHY_PASSES,    // often enough
	CYCLE_WHY_RESTING,   // pre-copy did not pay in the cycles before
};
const char *cycle_why_name(enum cycle_why why);
// What the next pass is, and why. Pure.
enum cycle_pass cycle_decide(const struct cycle_history *history, uint64_t dirty_bytes, enum cycle_why *ret_why);

// What cycles learn from those before: where pre-copy pays. Pure.
//
// A pass of pre-copy keeps the bytes that it moves out of the time between cut and commit, which is the age of the point when it is there;
// it costs those that the guest dirties again meanwhile. So it begins where shipping all would take more than CYCLE_LITTLE_MS at the
// rate of the cycles before; and when what was left was more than half of what there was, the next cycles go without, ever more of them.
enum { CYCLE_LITTLE_MS = 500, CYCLE_LITTLE_BYTES_MIN = 64 << 10, CYCLE_SHOWS_BYTES = 1 << 20, CYCLE_REST_MAX = 64 };
struct cycle_lore {
	uint64_t rate;	   // dirty bytes a second that the newest cycle of CYCLE_SHOWS_BYTES shipped; 0: none has
	unsigned rest;	   // cycles to go without pre-copy
	unsigned next_rest; // after the next one that did not pay
};
uint64_t cycle_little(const struct cycle_lore *lore); // bytes; NULL: CYCLE_PRECOPY_BYTES
struct cycle_report;
void cycle_learn(struct cycle_lore *lore, const struct cycle_report *report);

enum cycle_stage { CYCLE_CUTTING, CYCLE_SHIPPING, CYCLE_SEALING, CYCLE_COMMITTING }; // sealing: the line still carries; committing: the receiver has it all

struct cycle {
	struct env *env;
	struct source *source;
	struct channel *channel;
	struct ship *ship;
	uint64_t stretch_blocks; // see compare.h; 0: as it has it
	bool nodes; // the receiver knows NODES, and much of what is dirty may be equal
	bool written; // what is dirty was written by a guest since the last point: no sync
	bool pieces; // the receiver knows EXAMINE, and what changed within a block is not known
	enum codec codec;
	const struct digest_key *key;
	uint64_t predecessor; // the receiver's last point
	struct uuid head;     // the receiver's head
	struct ship_progress *progress;
	struct ship_rest rest;	 // how passes of pre-copy yield; none: they do not
	struct cycle_lore *lore; // NULL: none
	void (*on_stage)(void *context, enum cycle_stage stage); // called as the cycle goes on
	// Called before SEAL leaves with the cut that it names: from here on the outcome may be unknown.
	void (*on_seal)(void *context, const struct uuid *cut);
	// After it: what of the receiver's doubt the point ends; disks 0: nothing. NULL: never.
	struct wire_doubted (*certain)(void *context);
	void *context;
};

struct cycle_report {
	struct uuid cut;
	struct source_cut at;	 // the cut of the point
	uint64_t dirty_bytes;	 // of all passes
	uint64_t first_bytes, point_bytes; // dirty when it began, and in the cut of the point
	uint64_t ship_ns;	 // in passes, until the peer's host had what they shipped
	unsigned precopies;	 // passes of pre-copy
	enum cycle_why why;	 // the point was cut then
	struct ship_stats ship;
	uint64_t wire_bytes;
	uint64_t commit_mono_ns;
	struct wire_committed committed;
	struct wire_failure failure; // what the receiver refused with; code 0 when it did not
	bool sealed;		 // SEAL left: the outcome is known only when the call succeeds or `failure` is set
};

// Runs one cycle. 0: the point is committed and the source may keep. Otherwise the caller gives back (unless it was sealed and the
// outcome must be asked for). Neither keep nor give_back is called here.
int cycle_run(const struct cycle *cycle, struct cycle_report *ret_report, struct err *err);

#endif
