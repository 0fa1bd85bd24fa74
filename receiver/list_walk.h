// SPDX-License-Identifier: Apache-2.0
// A list of digests beside the overlay that it is of: both rise, so that one walk over the entries finds whether they name the same blocks.
#ifndef KAGAMI_RECEIVER_LIST_WALK_H
#define KAGAMI_RECEIVER_LIST_WALK_H

#include "base/err.h"
#include "format/qcow2.h"

#include <stdbool.h>
#include <stdint.h>

struct list_walk {
	struct qcow2_reader *overlay;
	uint64_t next; // block of the overlay that was not named yet
	bool over;
};

// Each: -EBADMSG when they differ, or what the overlay cannot be read with.
int list_walk_begin(struct list_walk *walk, struct qcow2_reader *overlay, struct err *err);
int list_walk_entry(struct list_walk *walk, uint64_t index, struct err *err);
// Whether the overlay has nothing of the block, and of all before it what was named.
bool list_walk_lacks(const struct list_walk *walk, uint64_t index);
int list_walk_end(const struct list_walk *walk, struct err *err); // after the last entry

#endif
