// SPDX-License-Identifier: Apache-2.0
// The newest point of a protection that does not run, as its state files have it.
#ifndef KAGAMI_REPLICATOR_POINT_KNOWN_H
#define KAGAMI_REPLICATOR_POINT_KNOWN_H

#include "replicator/protection_config.h"

#include <stdbool.h>
#include <stdint.h>

struct point_known {
	bool known;	     // else nothing says whether there is one
	uint64_t point;	     // 0: there is none
	int64_t cut_wall_ns; // 0: not known
};

// Reads them, whatever is wrong with the disks or with what the files say of them: waits for the state directory. That there is none is known only if each file
// says so, and none names a cut whose end it did not learn.
struct point_known point_known_read(struct env_root *state, const struct protection_config *config);

#endif
