// SPDX-License-Identifier: Apache-2.0
// Overlays of points that cannot be opened, as a whole. docs/store.md, "Overlays that cannot be opened".
#ifndef KAGAMI_RECEIVER_OVERLAYS_H
#define KAGAMI_RECEIVER_OVERLAYS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct replica;

// Looks at each, and makes good what can be: a header is written anew, without loss; else the overlay is moved aside and an empty one takes its place, what it
// held being in quarantine before, durably. `given_up`: what the disk does not give back (EIO) counts as damaged. *ret_mended: something was made good.
// Needs `lock`; at recovery, or later. An error says why it could not be; the files are as they were, or half way on a road that begins anew.
int overlays_mend(struct replica *replica, bool given_up, bool *ret_mended, struct err *err);
// The same for a fold or a merge that met `why`. 1: it was made good, and the step is to be done again; 0: it was none of them; or, with why, what keeps it from being
// made good now: then the step is tried later.
int overlays_were_it(struct replica *replica, const struct err *why, struct err *err);
// The same for who comes by again and again: true when it was made good. After a try that made nothing good there is none for a minute, 2, ... at most an hour.
bool overlays_in_turn(struct replica *replica, const struct err *why);

// --- for overlays.c ---

// manifests.c: writes point.json of number[at] anew, of which and of whose copy reading gave `why`. -EBADMSG, and others as above: it cannot be.
struct manifest {
	struct replica *replica;
	const uint64_t *number; // of the points, rising
	size_t count, at;
};
int manifest_mend(const struct manifest *manifest, const struct err *why, struct err *err);
// tables.c: makes good the bases' tables that are lost as a whole; `oldest` point, 0: there is none.
int tables_mend(struct replica *replica, uint64_t oldest, bool given_up, bool *mended, struct err *err);
// Damaged tables that are kept: looks at what they take; and removes them, when a pass over every point proved all without.
void tables_kept_count(struct replica *replica);
void tables_kept_remove(struct replica *replica);

#endif
