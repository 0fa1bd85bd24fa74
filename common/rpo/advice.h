// SPDX-License-Identifier: Apache-2.0
// Whether another objective would fit better, by rule, from the ledger of the last day: docs/rpo.md, "Advice". Recommended, never done.
//
//	down: the objective is missed for more than its budget allows, because the pipeline is too slow. The RPO that would have been kept.
//	up:   nothing was missed for that reason, and every point was committed so soon that a much smaller RPO would be kept.
//
// An outage (paused, fenced, a side that is down, no space, an error) is no reason to go down: no RPO cures it.
#ifndef KAGAMI_RPO_ADVICE_H
#define KAGAMI_RPO_ADVICE_H

#include "rpo/ledger.h"

enum { ADVICE_TEXT_SIZE = 200, ADVICE_OBSERVED_MIN_MS = 7200000, ADVICE_POINTS_MIN = 12 };

struct advice {
	uint64_t rpo_ms;
	char why[ADVICE_TEXT_SIZE];
};

// False: the RPO fits, or too little is known. `outages`: one bit for each cause that is an outage.
bool advice_of(const struct ledger *ledger, uint32_t outages, struct advice *ret_advice);

// The smallest of 1, 2, 5, 10, 15, 30 s, the same in minutes, 1, 2, 4, 8, 12 and 24 h that is at least so much; 24 h above.
uint64_t advice_step_ms(uint64_t at_least_ms);
// "15 s", "5 min", "1 h 30 min": for people.
void advice_duration(uint64_t ms, char text[32]);

#endif
