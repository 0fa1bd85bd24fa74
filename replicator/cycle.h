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
};

// What the next pass is. Pure.
enum cycle_pass cycle_decide(const struct cycle_history *history, uint64_t dirty_bytes);

enum cycle_stage { CYCLE_CUTTING, CYCLE_SHIPPING, CYCLE_COMMITTING };

struct cycle {
	struct env *env;
	struct source *source;
	struct channel *channel;
	struct ship *ship;
	bool nodes; // the receiver knows NODES, and much of what is dirty may be equal
	enum codec codec;
	const struct digest_key *key;
	uint64_t predecessor; // the receiver's last point
	struct uuid head;     // the receiver's head
	struct ship_progress *progress;
	void (*on_stage)(void *context, enum cycle_stage stage); // called as the cycle goes on
	// Called before SEAL leaves with the cut that it names: from here on the outcome may be unknown.
	void (*on_seal)(void *context, const struct uuid *cut);
	void *context;
};

struct cycle_report {
	struct uuid cut;
	struct source_cut at;	 // the cut of the point
	uint64_t dirty_bytes;	 // of all passes
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
