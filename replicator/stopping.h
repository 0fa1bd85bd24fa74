// SPDX-License-Identifier: Apache-2.0
// The stop of the agent, within bounds: whatever its state directory or an image does, it ends.
#ifndef KAGAMI_REPLICATOR_STOPPING_H
#define KAGAMI_REPLICATOR_STOPPING_H

#include "replicator/roll.h"

#include <stdbool.h>

enum { STOP_WAIT_S_DEFAULT = 60, STOP_WAIT_S_MAX = 3600, STOP_ORDERLY_MS_MAX = 5000 };

struct stopping {
	struct roll *roll;
	unsigned wait_s; // for how long nothing may go on while guests are served; half of it once they are not
	void (*close)(void *context); // stops everything in its order, and may hang
	void *context;
};

// Guests are served until what they have written is on the disks, or until none of these has gone on for `wait_s`; only then `close` is called.
// True: it has returned. False: it was given up after half of `wait_s` in which no export ended, nothing was saved, nothing closed, and no image had less to be
// written back than before (roll.h, owes). Then the log
// says what was left, and the process may only be ended, by _exit(): threads of it still wait for a disk.
bool stopping_run(const struct stopping *stopping);

#endif
