// SPDX-License-Identifier: Apache-2.0
// One limit of bandwidth shared by flows, each with a limit of its own and a weight: start-time fair queueing over token buckets. Pure.
//
// A flow wants to send a piece. It may when its own bucket and the total's have the bytes, and no other flow that could send now has had less
// for its weight. So those that want share the total by their weights, whoever does not want costs nothing, and nobody starves: what a
// flow had counts from the moment it began to want.
//
// A thread that gets no processor asks late, and is not to lose its share by that:
//
// S1 Who has not asked again 10 ms after it could have is not waited for.
// S2 For as long as a flow asked within SHAPER_CREDIT_MS, what it may still have until it is where the one that asks is stays in the total's bucket for
//    it, and the others send from what is above that; from all of it while the bucket is three quarters full. So nothing of the total is lost by this.
// S3 What it missed it gets when it comes, before the others: at most its share of what all sent in the last SHAPER_CREDIT_MS.
// S4 Over any stretch of time no more goes than the total's bucket lets go.
#ifndef KAGAMI_RPO_SHAPER_H
#define KAGAMI_RPO_SHAPER_H

#include "rpo/bandwidth.h"
#include "rpo/meter.h"

enum { SHAPER_CREDIT_MS = 250 };

struct shaper_flow { // the caller's memory; zeroed, then shaper_join()
	struct bucket bucket;
	unsigned weight;
	double start, finish; // on the virtual clock: of the piece that is wanted, and of the one before
	uint64_t wants; // bytes; 0: nothing
	uint64_t asked_ns, again_ns; // when it asked last, and when it is to ask again
	struct shaper_flow *next, *previous;
};

struct shaper { // zeroed
	struct bucket total;
	struct meter went; // in the last SHAPER_CREDIT_MS, of what asked
	double virtual_now;
	struct shaper_flow *flows;
};

void shaper_join(struct shaper *shaper, struct shaper_flow *flow, unsigned weight); // weight at least 1
void shaper_leave(struct shaper *shaper, struct shaper_flow *flow);
// 0: `bytes` may go, and are taken. Else ns after which to ask again, or when another flow has sent, left, or gave up: whichever is first.
uint64_t shaper_ask(struct shaper *shaper, struct shaper_flow *flow, uint64_t bytes, uint64_t now_ns);
void shaper_give_up(struct shaper_flow *flow); // it wants nothing any more
void shaper_charge(struct shaper *shaper, struct shaper_flow *flow, uint64_t bytes, uint64_t now_ns); // went without asking

#endif
