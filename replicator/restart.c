// SPDX-License-Identifier: Apache-2.0
#include "replicator/restart.h"

#include "base/size.h"

enum { DOUBLINGS = 6 };
#define SECOND_NS UINT64_C(1000000000)

void restart_failed(struct restart *restart, uint64_t now_ns, uint64_t seen)
{
	uint64_t wait_s = min_u64((uint64_t)RESTART_FIRST_S << restart->failures, RESTART_MOST_S);
	restart->failures += restart->failures < DOUBLINGS;
	restart->not_before_ns = now_ns + wait_s * SECOND_NS;
	restart->seen = seen;
	restart->waits = true;
}

void restart_end(struct restart *restart)
{
	*restart = (struct restart){.waits = false};
}

uint64_t restart_due_ns(const struct restart *restart)
{
	return restart->waits ? restart->not_before_ns : UINT64_MAX;
}

bool restart_settled(struct restart *restart, uint64_t now_ns, uint64_t seen, bool written)
{
	if (restart->seen == seen && !written)
		return true;
	restart->seen = seen;
	restart->not_before_ns = now_ns + RESTART_QUIET_S * SECOND_NS;
	return false;
}
