// SPDX-License-Identifier: Apache-2.0
// Where the time of a cycle goes: at each moment it is in one stage, so that the stages add up to all of it. Owned by one thread.
#ifndef KAGAMI_RPO_STAGE_CLOCK_H
#define KAGAMI_RPO_STAGE_CLOCK_H

#include "rpo/cause.h"

#include <string.h>

struct stage_clock {
	uint64_t at_ns; // since when it is in `stage`
	enum rpo_stage stage;
	uint64_t ns[RPO_STAGES];
};

static inline void stage_clock_start(struct stage_clock *clock, enum rpo_stage stage, uint64_t now_ns)
{
	memset(clock, 0, sizeof(*clock));
	clock->stage = stage;
	clock->at_ns = now_ns;
}

// Goes on in `stage`; returns the one that it was in, to go back to.
static inline enum rpo_stage stage_clock_enter(struct stage_clock *clock, enum rpo_stage stage, uint64_t now_ns)
{
	enum rpo_stage was = clock->stage;
	clock->ns[was] += now_ns > clock->at_ns ? now_ns - clock->at_ns : 0;
	clock->at_ns = now_ns;
	clock->stage = stage;
	return was;
}

#endif
