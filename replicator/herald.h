// SPDX-License-Identifier: Apache-2.0
// Tells the next start that the marks of a disk were given up, on a thread of its own: what it says it to may hang too, and
// neither the loop thread nor the next disk's news may wait for that.
#ifndef KAGAMI_REPLICATOR_HERALD_H
#define KAGAMI_REPLICATOR_HERALD_H

#include "base/err.h"
#include "replicator/export.h"
#include "replicator/ring.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct herald {
	struct export_marker config;
	struct ring *ring;
	uint16_t disk;
	char why[ERR_TEXT_MAX];
	void (*noted)(struct herald *herald); // on the ring's thread: note() has returned. Not called when the loop has ended
	struct ring_message message;
	pthread_t thread;
	bool running;
};

// Calls config->note(), then `noted`, then config->lose().
int herald_start(struct herald *herald, const struct export_marker *config, struct ring *ring, uint16_t disk, const char *why,
		 void (*noted)(struct herald *));
void herald_stop(struct herald *herald); // waits for its end; does nothing when it was not started

#endif
