// SPDX-License-Identifier: Apache-2.0
// How often something may be that a peer brings about: so many at once, and from then on one each so often. Pure: time is an argument. All zeros: full.
#ifndef KAGAMI_BASE_ALLOWANCE_H
#define KAGAMI_BASE_ALLOWANCE_H

#include <stdbool.h>
#include <stdint.h>

struct allowance {
	uint64_t paid_ns; // by the monotonic clock: until when what was taken is paid for
};

static inline bool allowance_left(const struct allowance *allowance, uint64_t now_ns, uint64_t each_ns, uint64_t burst)
{
	return allowance->paid_ns <= now_ns || allowance->paid_ns - now_ns <= (burst - 1) * each_ns;
}

static inline void allowance_spend(struct allowance *allowance, uint64_t now_ns, uint64_t each_ns)
{
	allowance->paid_ns = (allowance->paid_ns > now_ns ? allowance->paid_ns : now_ns) + each_ns;
}

static inline bool allowance_take(struct allowance *allowance, uint64_t now_ns, uint64_t each_ns, uint64_t burst)
{
	if (!allowance_left(allowance, now_ns, each_ns, burst))
		return false;
	allowance_spend(allowance, now_ns, each_ns);
	return true;
}

#endif
