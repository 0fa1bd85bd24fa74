// SPDX-License-Identifier: Apache-2.0
// A list of digests beside the overlay that it is of: both rise, so that one walk over the entries finds whether they name the same blocks.
#ifndef KAGAMI_RECEIVER_LIST_WALK_H
#define KAGAMI_RECEIVER_LIST_WALK_H

#include "base/err.h"
#include "format/qcow2.h"
#include "receiver/digest_file.h"

#include <stdbool.h>
#include <stdint.h>

struct list_walk {
	struct qcow2_reader *overlay;
	uint64_t next; // block of the overlay that was not named yet
	bool over;
};

// Each: -EBADMSG when they differ, or what the overlay cannot be read with.
int list_walk_begin(struct list_walk *walk, struct qcow2_reader *overlay, struct err *err);
// A block whose digest is unknown may be in the list alone: a merge wrote all down that a lost sector may have named.
int list_walk_entry(struct list_walk *walk, uint64_t index, const struct digest *digest, struct err *err);
int list_walk_end(const struct list_walk *walk, struct err *err); // after the last entry

#endif
