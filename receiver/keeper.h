// SPDX-License-Identifier: Apache-2.0
// The keeper: a thread that brings every protection to its retention, one step at a time, after each commit and now and
// then besides (a hold may have ended).
#ifndef KAGAMI_RECEIVER_KEEPER_H
#define KAGAMI_RECEIVER_KEEPER_H

#include "base/err.h"
#include "receiver/store.h"

struct keeper;

enum { KEEPER_RATE = 64 << 20 };

int keeper_start(struct store *store, struct keeper **ret_keeper, struct err *err);
// At most so many bytes of blocks a second from now on; at first KEEPER_RATE.
void keeper_rate(struct keeper *keeper, uint64_t bytes_per_second);
void keeper_wake(struct keeper *keeper); // any thread
void keeper_stop(struct keeper *keeper); // takes NULL; a step under way ends at its next block, and is done again another time

#endif
