// SPDX-License-Identifier: Apache-2.0
// Whether a cycle may live on what nobody else wants of the processors, or takes its share. Pure: the caller looks, and acts.
//
//	SPARE ──late, or the cut in danger──► SHARE, to the cycle's end
//	   └──starved──► SHARE for PACE_HOLD_MS ──► SPARE
//
// I1: an objective is never missed for want of a processor that the cycle did not ask for. Late: after an eighth of the time that it
// has, less is done than would end it within nine tenths. Without a point to be replaced in time (the first one, or one that is late
// already) it takes its share from the beginning.
#ifndef KAGAMI_REPLICATOR_PACE_H
#define KAGAMI_REPLICATOR_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { PACE_LOOK_MS = 100, PACE_WINDOW_MS = 500, PACE_HOLD_MS = 10000 };

enum pace_why {
	PACE_SPARE,   // no hurry
	PACE_OVERDUE, // there is no point, or it should have been replaced by now
	PACE_LATE,    // it would be replaced too late
	PACE_CROWDED, // what the guest had preserved fills half of its room, or the cut was given up for that
	PACE_STARVED, // for PACE_WINDOW_MS the cycle had next to no processor
};
const char *pace_why_name(enum pace_why why);

struct pace {
	uint64_t begin_ns, due_ns;
	enum pace_why why;
	uint64_t until_ns; // of PACE_STARVED
	uint64_t looked_ns;
	uint64_t window_ns, window_waited_ns; // where the window began, and what the thread had waited by then
};

struct pace_view {
	uint64_t now_ns;
	uint64_t waited_ns; // for a processor, by the thread that copies
	uint64_t done_bytes, total_bytes;
	bool crowded;
};

// The cycle begins; its point is due at `due_ns`, 0: there is none to be replaced.
void pace_begin(struct pace *pace, uint64_t now_ns, uint64_t due_ns, uint64_t waited_ns);
// Whether it is time for pace_step(): a look costs some.
bool pace_due(const struct pace *pace, uint64_t now_ns);
void pace_step(struct pace *pace, const struct pace_view *view);

// Whether the cycle may yield to the guest by resting: not while an objective hangs on it (I1). The first point replaces none.
bool pace_may_rest(const struct pace *pace);

#endif
