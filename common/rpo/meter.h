// SPDX-License-Identifier: Apache-2.0
// How much went lately: a ring of sums, one for each stretch of time, a second unless it is told otherwise. Pure.
#ifndef KAGAMI_RPO_METER_H
#define KAGAMI_RPO_METER_H

#include <stdint.h>

enum { METER_SUMS = 10 };

struct meter {		     // zeroed to begin with, but for the first
	uint64_t stretch_ns; // 0: a second
	uint64_t stretch;    // the newest that has a sum
	uint64_t bytes[METER_SUMS + 1]; // of stretch s at s mod the count
};

void meter_add(struct meter *meter, uint64_t now_ns, uint64_t bytes);
// Of the last ten whole stretches: what goes in the present one counts from the next on.
uint64_t meter_sum(const struct meter *meter, uint64_t now_ns);
uint64_t meter_rate(const struct meter *meter, uint64_t now_ns); // likewise; bytes a stretch

#endif
