// SPDX-License-Identifier: Apache-2.0
// For overlays.c alone: one overlay that is looked at, and the two ways in which it is made good.
#ifndef KAGAMI_RECEIVER_OVERLAY_MEND_H
#define KAGAMI_RECEIVER_OVERLAY_MEND_H

#include "format/qcow2.h"
#include "receiver/replica.h"

struct mend {
	struct replica *r;
	bool given_up;
	uint64_t *number; // of the directories in points/, rising
	size_t count, at;
	struct point_file point; // number[at]
	unsigned disk;
	char path[REPLICA_PATH_SIZE]; // of its overlay
	bool mended;
};

// What the overlay stands on; false where nobody knows.
bool overlay_backing(const struct mend *m, char backing[REPLICA_PATH_SIZE], enum qcow2_backing *ret_kind);
// overlay_header.c: writes its header anew. -EBADMSG: it cannot be known; -EIO: it was not written.
int overlay_header_rebuild(struct mend *m, struct err *err);
// overlay_replace.c: puts what it held in quarantine, durably, moves it aside, and an empty one to its place. -EBUSY: somebody stands on it.
int overlay_replace(struct mend *m, const struct err *why, struct err *err);

#endif
