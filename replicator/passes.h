// SPDX-License-Identifier: Apache-2.0
// How often the images of guests that write on are synced before a stop: each pass has what they wrote during the one before, so that the last sync, for which they wait, has little.
#ifndef KAGAMI_REPLICATOR_PASSES_H
#define KAGAMI_REPLICATOR_PASSES_H

#include <stdbool.h>
#include <stdint.h>

enum { PASS_LONG_MS = 1000, PASSES_MAX = 20, PASSES_VAIN_MAX = 3 };

struct passes { // zeroed: none yet
	unsigned count; // that took long
	unsigned vain;	// of those, that took no tenth less than the shortest before: the guest writes about as fast as its disk
	int64_t best_ms;
	bool given_up;
};

// A pass took so long. Whether another is to follow at once.
static inline bool passes_again(struct passes *passes, int64_t took_ms)
{
	if (took_ms < PASS_LONG_MS || passes->given_up)
		return false;
	passes->vain += passes->count && took_ms > passes->best_ms / 10 * 9;
	if (!passes->count++ || took_ms < passes->best_ms)
		passes->best_ms = took_ms;
	passes->given_up = passes->vain >= PASSES_VAIN_MAX || passes->count >= PASSES_MAX;
	return !passes->given_up;
}

#endif
