// SPDX-License-Identifier: Apache-2.0
// Cuts that guests overtook: given up after they were taken, since what was overwritten could not be kept. Counted and told, each in the log, and as an
// event at most once in OVERTAKEN_EVENT_NS.
#ifndef KAGAMI_REPLICATOR_OVERTAKEN_H
#define KAGAMI_REPLICATOR_OVERTAKEN_H

#include "replicator/group.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OVERTAKEN_EVENT_NS UINT64_C(600000000000)

enum { OVERTAKEN_TEXT_SIZE = 256 };

struct overtaken {
	_Atomic uint64_t count;	 // any thread
	_Atomic uint64_t newest; // its loss, and below it the error's number
	uint64_t event_ns;	 // the loop's: when an event told of one; 0: none did
};

// By the loop.
void overtaken_note(struct overtaken *overtaken, const char *protection, enum group_loss loss, int res, uint64_t now_ns);
// Any thread: why the newest was, and what helps; of one that was noted.
void overtaken_why(struct overtaken *overtaken, char text[OVERTAKEN_TEXT_SIZE]);

#endif
