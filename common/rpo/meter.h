// SPDX-License-Identifier: Apache-2.0
// How much went in the last seconds: a ring of sums, one a second. Pure.
#ifndef KAGAMI_RPO_METER_H
#define KAGAMI_RPO_METER_H

#include <stdint.h>

enum { METER_SECONDS = 10 };

struct meter {		   // zeroed to begin with
	uint64_t second;   // of the newest sum
	uint64_t bytes[METER_SECONDS + 1]; // of second s at s mod the count
};

void meter_add(struct meter *meter, uint64_t now_ns, uint64_t bytes);
// Bytes a second over the last ten whole seconds: what goes in the present one counts from the next on.
uint64_t meter_rate(const struct meter *meter, uint64_t now_ns);

#endif
