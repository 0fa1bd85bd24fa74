// SPDX-License-Identifier: Apache-2.0
// How a pass of pre-copy yields to the guest: of the time in which it would read, digest and compress, it takes at most YIELD_SHARE_PERCENT while
// the guest uses its disks, and all of it while the guest is idle. Pure: time is an argument.
//
// A step is a batch of blocks (SOURCE_BATCH_MAX). What it took is the time since the step before, less what was spent in waiting for the peer or
// in a pause: where the line is the limit nothing is slowed, since the guest has the rest of the time anyway. A pause follows the step that earned
// it, and is YIELD_PAUSE_MS_MAX at most, so that a slow step stops nothing for long.
//
// Not for the pass of a point's cut: there the guest's old content is held in bounded memory, and the age of the point grows.
#ifndef KAGAMI_REPLICATOR_YIELD_H
#define KAGAMI_REPLICATOR_YIELD_H

#include <stdbool.h>
#include <stdint.h>

enum { YIELD_SHARE_PERCENT = 50, YIELD_PAUSE_MS_MAX = 200 };

struct yield {
	bool began;
	uint64_t since_ns;  // the step before, or its pause, ended
	uint64_t waited_ns; // of the time since then: for the peer
	uint64_t served;    // requests of the guest up to then
};

void yield_begin(struct yield *yield, uint64_t now_ns, uint64_t served); // a pass begins
void yield_waited(struct yield *yield, uint64_t ns);		       // so long the peer was waited for
// A step has ended: how long to pause now. `served`: requests that the guest has made so far. The caller says yield_resume() after it.
uint64_t yield_step(struct yield *yield, uint64_t now_ns, uint64_t served);
uint64_t yield_resume(struct yield *yield, uint64_t now_ns); // how long the pause was

#endif
