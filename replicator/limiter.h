// SPDX-License-Identifier: Apache-2.0
// The limits of bandwidth of an agent, for the threads that send: rules by the host's local time, and a wait for a piece's turn.
// The arithmetic is rpo/shaper.h's. Any thread; the lock is the last that anybody takes, and is never held over a wait.
#ifndef KAGAMI_REPLICATOR_LIMITER_H
#define KAGAMI_REPLICATOR_LIMITER_H

#include "rpo/bandwidth.h"

#include <stdatomic.h>

enum { LIMITER_LOOK_MS = 100 }; // a wait that is over for another reason ends within it

struct limiter;
struct limiter_flow;

int limiter_new(struct limiter **ret_limiter); // without limits. -ENOMEM
void limiter_free(struct limiter *limiter);    // takes NULL; all flows are gone
void limiter_set(struct limiter *limiter, const struct bandwidth *total);
uint64_t limiter_rate(struct limiter *limiter); // of the total, now; BANDWIDTH_UNLIMITED
uint64_t limiter_used(struct limiter *limiter); // bytes a second that went, of all flows, over the last 10 s

int limiter_join(struct limiter *limiter, const struct bandwidth *own, unsigned weight, struct limiter_flow **ret_flow); // -ENOMEM
void limiter_leave(struct limiter_flow *flow); // takes NULL; nobody waits in it
void limiter_flow_set(struct limiter_flow *flow, const struct bandwidth *own, unsigned weight);
uint64_t limiter_flow_rate(struct limiter_flow *flow);
uint64_t limiter_flow_used(struct limiter_flow *flow);
// How much is to be passed at once.
size_t limiter_piece(struct limiter_flow *flow);
// Waits until so many bytes may go. -ECONNRESET when *over becomes true first.
int limiter_pass(struct limiter_flow *flow, size_t bytes, const atomic_bool *over);
// They go now, whatever the limits say, and are paid for by what comes after.
void limiter_charge(struct limiter_flow *flow, size_t bytes);

#endif
