// SPDX-License-Identifier: Apache-2.0
// Where the time of a cycle goes: at each moment it is in one stage, so that the stages add up to all of it. One thread runs it; any other may read it
// meanwhile.
#ifndef KAGAMI_RPO_STAGE_CLOCK_H
#define KAGAMI_RPO_STAGE_CLOCK_H

#include "rpo/cause.h"

#include <stdatomic.h>

struct stage_clock {
	_Atomic uint64_t at_ns; // since when it is in `stage`
	_Atomic(enum rpo_stage) stage;
	_Atomic uint64_t ns[RPO_STAGES];
};

static inline void stage_clock_start(struct stage_clock *clock, enum rpo_stage stage, uint64_t now_ns)
{
	for (unsigned i = 0; i < RPO_STAGES; i++)
		atomic_store_explicit(&clock->ns[i], 0, memory_order_relaxed);
	atomic_store_explicit(&clock->at_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&clock->stage, stage, memory_order_relaxed);
}

static inline void stage_clock_add(struct stage_clock *clock, enum rpo_stage stage, uint64_t ns)
{
	uint64_t had = atomic_load_explicit(&clock->ns[stage], memory_order_relaxed); // nobody else writes
	atomic_store_explicit(&clock->ns[stage], had + ns, memory_order_relaxed);
}

// Goes on in `stage`; returns the one that it was in, to go back to.
static inline enum rpo_stage stage_clock_enter(struct stage_clock *clock, enum rpo_stage stage, uint64_t now_ns)
{
	enum rpo_stage was = atomic_load_explicit(&clock->stage, memory_order_relaxed);
	uint64_t at_ns = atomic_load_explicit(&clock->at_ns, memory_order_relaxed);
	stage_clock_add(clock, was, now_ns > at_ns ? now_ns - at_ns : 0);
	atomic_store_explicit(&clock->at_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&clock->stage, stage, memory_order_relaxed);
	return was;
}

// Until now. Beside the thread that runs it a stretch that ends just now may be counted twice, or in the stage that follows.
static inline void stage_clock_read(const struct stage_clock *clock, uint64_t now_ns, uint64_t ret_ns[RPO_STAGES])
{
	uint64_t at_ns = atomic_load_explicit(&clock->at_ns, memory_order_relaxed);
	for (unsigned i = 0; i < RPO_STAGES; i++)
		ret_ns[i] = atomic_load_explicit(&clock->ns[i], memory_order_relaxed);
	ret_ns[atomic_load_explicit(&clock->stage, memory_order_relaxed)] += now_ns > at_ns ? now_ns - at_ns : 0;
}

#endif
