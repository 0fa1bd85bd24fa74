// SPDX-License-Identifier: Apache-2.0
// What a death of the host right now would cost: what the next start would examine, and the most that it would send. Pure.
#ifndef KAGAMI_REPLICATOR_PRICE_H
#define KAGAMI_REPLICATOR_PRICE_H

#include "replicator/export.h"

#include <stdbool.h>
#include <stdint.h>

struct price { // sums over the disks; {0} to begin with
	uint64_t dirty_bytes, reread_bytes, unsynced_bytes;
};

// One disk of `size`. With `whole` the marks would not do for it: all of it is examined. `damaged_bytes` of it are damaged at the receiver, which names them again.
void price_add(struct price *price, const struct export_stats *stats, uint64_t size, bool whole, uint64_t damaged_bytes);
// `settled`: what may differ from the newest point is in the dirty maps, and nothing in a cut.
uint64_t price_resend_max(const struct price *price, bool settled);

#endif
