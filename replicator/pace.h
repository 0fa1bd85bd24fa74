// SPDX-License-Identifier: Apache-2.0
// How a pass of pre-copy yields to the guest: of the time in which it would read, digest and compress, it takes at most PACE_SHARE_PERCENT while
// the guest uses its disks, and all of it while the guest is idle. Pure: time is an argument.
//
// A step is a batch of blocks (SOURCE_BATCH_MAX). What it took is the time since the step before, less what was spent in waiting for the peer or
// in a pause: where the line is the limit nothing is slowed, since the guest has the rest of the time anyway. A pause follows the step that earned
// it, and is PACE_PAUSE_MS_MAX at most, so that a slow step stops nothing for long.
//
// Not for the pass of a point's cut: there the guest's old content is held in bounded memory, and the age of the point grows.
#ifndef KAGAMI_REPLICATOR_PACE_H
#define KAGAMI_REPLICATOR_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { PACE_SHARE_PERCENT = 50, PACE_PAUSE_MS_MAX = 200 };

struct pace {
	bool began;
	uint64_t since_ns;  // the step before, or its pause, ended
	uint64_t waited_ns; // of the time since then: for the peer
	uint64_t served;    // requests of the guest up to then
};

void pace_begin(struct pace *pace, uint64_t now_ns, uint64_t served); // a pass begins
void pace_waited(struct pace *pace, uint64_t ns);		       // so long the peer was waited for
// A step has ended: how long to pause now. `served`: requests that the guest has made so far. The caller says pace_resume() after it.
uint64_t pace_step(struct pace *pace, uint64_t now_ns, uint64_t served);
uint64_t pace_resume(struct pace *pace, uint64_t now_ns); // how long the pause was

#endif
