// SPDX-License-Identifier: Apache-2.0
// Whether a thread that has nothing to do should look again for a moment before it sleeps. Pure: the caller looks and counts.
//
// To wake a thread on a core that sleeps costs tens of microseconds, in a virtual machine above all: more than a cached request
// itself. A client with one request at a time pays it twice. Looking on for SPIN_NS saves one of the two, if
// the next request comes within that time and nobody else needs the core. Neither can be known, so it is tried: each try that
// fails doubles the number of sleeps until the next, up to SPIN_SKIP_MAX, each that succeeds halves it. So a thread whose
// tries are in vain spends at most one in SPIN_SKIP_MAX of its sleeps on them.
#ifndef KAGAMI_REPLICATOR_SPIN_H
#define KAGAMI_REPLICATOR_SPIN_H

#include <stdbool.h>

enum { SPIN_NS = 50 * 1000, SPIN_SKIP_MAX = 4095 };

struct spin { // all zero: tries at once
	unsigned skip;	  // sleeps until the next try
	unsigned penalty; // what the next failure is worth
};

// Called before each sleep: whether to try.
static inline bool spin_try(struct spin *spin)
{
	if (!spin->skip)
		return true;
	spin->skip--;
	return false;
}

// What came of it. A try during which the thread was off its core has failed, whatever it found.
static inline void spin_result(struct spin *spin, bool success)
{
	spin->penalty = success ? spin->penalty / 2 : spin->penalty * 2 + 1;
	if (spin->penalty > SPIN_SKIP_MAX)
		spin->penalty = SPIN_SKIP_MAX;
	spin->skip = success ? 0 : spin->penalty;
}

#endif
