// SPDX-License-Identifier: Apache-2.0
// Overlays of points that cannot be opened, as a whole. docs/store.md, "Overlays that cannot be opened".
#ifndef KAGAMI_RECEIVER_OVERLAYS_H
#define KAGAMI_RECEIVER_OVERLAYS_H

#include "base/err.h"

#include <stdbool.h>

struct replica;

// Looks at each, and makes good what can be: a header is written anew, without loss; else the overlay is moved aside and an empty one takes its place, what it
// held being in quarantine before, durably. `given_up`: what the disk does not give back (EIO) counts as damaged. *ret_mended: something was made good.
// Needs `lock`; at recovery, or later. An error says why it could not be; the files are as they were, or half way on a road that begins anew.
int overlays_mend(struct replica *replica, bool given_up, bool *ret_mended, struct err *err);
// The same for whoever met `why`: true when it was made good, and is to be tried again.
bool overlays_were_it(struct replica *replica, const struct err *why);

#endif
