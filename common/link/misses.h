// SPDX-License-Identifier: Apache-2.0
// The events rpo-missed and rpo-kept, from what a change of a ledger did: each side tells them of its own ledger.
#ifndef KAGAMI_LINK_MISSES_H
#define KAGAMI_LINK_MISSES_H

#include "rpo/ledger.h"

struct misses { // the ledger's counters, before
	uint64_t begun, ended;
};
struct misses misses_of(const struct ledger *ledger);
void misses_emit(const char *protection, const struct ledger *ledger, struct misses before);

#endif
