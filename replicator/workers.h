// SPDX-License-Identifier: Apache-2.0
// Whether the kernel has worker threads for a ring. It makes one when an operation needs it, and keeps the last one for good: so once there is one, no limit
// on threads (pids.max of a control group, RLIMIT_NPROC) takes it away. But where the first cannot be made it cancels the operation, after some 70 ms of tries.
// So workers are asked for before any operation needs one, with operations that touch no file: one of each of the two kinds that the kernel keeps apart.
//
//	ASKED ──both were done──► THERE ──an operation was cancelled (ring->cancelled)──► MISSING
//	  │                         ▲                                                        │
//	  └──one was cancelled──► MISSING ──WORKERS_AGAIN_MS, twice as long each time up to WORKERS_AGAIN_MS_MAX: asked again──┘
//
// ring->workerless is set in all states but THERE. The ring's thread's own, but for what is said to be any thread's.
#ifndef KAGAMI_REPLICATOR_WORKERS_H
#define KAGAMI_REPLICATOR_WORKERS_H

#include "replicator/bound.h"
#include "replicator/ring.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { WORKERS_AGAIN_MS = 1000, WORKERS_AGAIN_MS_MAX = 8000 };

struct workers {
	struct ring *ring;
	void (*changed)(struct workers *workers); // they are missing from now on, or are there again; NULL: nobody asks
	_Atomic bool missing; // read by any thread
	bool asked; // and not answered yet
	unsigned again_ms; // until the next time
	struct bound again;
	struct ring_op bounded, unbounded; // the kernel's names of the two kinds
};

// Before anything is submitted to the ring. *workers stays until the ring is done.
void workers_begin(struct workers *workers, struct ring *ring, void (*changed)(struct workers *workers));
// The kernel may make so many, at least, for what works on files. Without it (before Linux 5.15) there are four a processor. Of the ring's thread.
void workers_allow(struct ring *ring, unsigned count);
void workers_cancelled(struct workers *workers); // an operation was, for want of one

#endif
