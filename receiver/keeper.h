// SPDX-License-Identifier: Apache-2.0
// The keeper: a thread that brings every protection to its retention, one step at a time, after each commit and now and
// then besides (a hold may have ended).
#ifndef KAGAMI_RECEIVER_KEEPER_H
#define KAGAMI_RECEIVER_KEEPER_H

#include "base/err.h"
#include "receiver/store.h"

struct keeper;

int keeper_start(struct store *store, struct keeper **ret_keeper, struct err *err);
void keeper_wake(struct keeper *keeper); // any thread
void keeper_stop(struct keeper *keeper); // takes NULL; returns after the step under way

#endif
