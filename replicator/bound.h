// SPDX-License-Identifier: Apache-2.0
// A moment by which something must have ended, on the ring's thread. Set again and again it costs one timeout of the ring
// at a time: one that comes too early for the newest moment is set anew.
#ifndef KAGAMI_REPLICATOR_BOUND_H
#define KAGAMI_REPLICATOR_BOUND_H

#include "base/size.h" // first: liburing brings a macro BLOCK_SIZE
#include "replicator/ring.h"

#include <stdbool.h>
#include <stdint.h>

struct bound {
	struct ring *ring;
	void (*expired)(struct bound *bound);
	uint64_t since_ns, due_ns; // on the monotonic clock; due 0: nothing is waited for
	bool armed;
	struct ring_op op;
	struct __kernel_timespec time;
};

void bound_init(struct bound *bound, struct ring *ring, void (*expired)(struct bound *bound));
// From now on for `ms`. Not shorter than the one before, where that may still be armed.
void bound_begin(struct bound *bound, unsigned ms);
void bound_end(struct bound *bound); // in time: `expired` is not called

#endif
