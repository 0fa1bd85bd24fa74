// SPDX-License-Identifier: Apache-2.0
// When a protection that could not start is tried again: after 1 s, doubling to 60 s. Pure.
//
//	could not start ──► due ──► what stands at its images' paths is as it was, and nobody writes there ──► a try ──► it runs; or restart_failed()
//	                     ▲  └──► else somebody may be copying an image to its place. Looked at again after 5 s
//	                     └───────────┘
//
// R1: nobody's half of a copy is opened: by itself a try is made only of images that two looks at them found alike, and that no program of this host has open for writing, as far as can be known:
//     a copy may stall for longer than any time between two looks.
#ifndef KAGAMI_REPLICATOR_RESTART_H
#define KAGAMI_REPLICATOR_RESTART_H

#include <stdbool.h>
#include <stdint.h>

enum { RESTART_FIRST_S = 1, RESTART_MOST_S = 60, RESTART_QUIET_S = 5 };

struct restart { // zeros: it is not tried by itself
	bool waits;
	unsigned failures;
	uint64_t not_before_ns;
	uint64_t seen; // a digest of what stood at the paths of its images at the last look
};

// A start came to nothing. `seen`: what there was.
void restart_failed(struct restart *restart, uint64_t now_ns, uint64_t seen);
// Not by itself any more: it runs, or is to be gone.
void restart_end(struct restart *restart);
// When the next try is; UINT64_MAX: none is.
uint64_t restart_due_ns(const struct restart *restart);
// It is due. False: what there is has changed since the last look, or is open for writing, and is looked at again.
bool restart_settled(struct restart *restart, uint64_t now_ns, uint64_t seen, bool written);

#endif
