// SPDX-License-Identifier: Apache-2.0
#include "replicator/schedule.h"

#include "base/size.h"

#include <limits.h>

enum { BACKOFF_DOUBLINGS = 5 };
#define SECOND_NS UINT64_C(1000000000)

uint64_t schedule_next_cut(const struct schedule *schedule, uint64_t now_ns)
{
	if (schedule->failures) // a failure is not retried in a tight loop, however late the point is
		return schedule->last_failure_ns + schedule_backoff_ns(schedule->failures - 1, schedule->jitter);
	if (!schedule->has_point)
		return now_ns;
	// A quarter in hand, and a little of the objective: the next transfer is not the last one's twin, and a busy host is late.
	uint64_t spare_ns = schedule->rpo_ns / 20 + min_u64(schedule->rpo_ns / 10, SECOND_NS / 2);
	uint64_t expected_ns = schedule->transfer_ns + schedule->transfer_ns / 4 + spare_ns;
	return schedule->last_cut_ns + schedule->rpo_ns - min_u64(expected_ns, schedule->rpo_ns);
}

void schedule_committed(struct schedule *schedule, uint64_t cut_ns, uint64_t commit_ns)
{
	uint64_t took_ns = commit_ns - cut_ns;
	schedule->transfer_ns = max_u64(took_ns, schedule->transfer_ns - schedule->transfer_ns / 8);
	schedule->has_point = true;
	schedule->last_cut_ns = cut_ns;
	schedule->failures = 0;
}

void schedule_failed(struct schedule *schedule, uint64_t now_ns, uint32_t random)
{
	schedule->jitter = random;
	schedule->failures++;
	schedule->last_failure_ns = now_ns;
}

uint64_t schedule_backoff_ns(unsigned failures, uint32_t random)
{
	unsigned doublings = failures < BACKOFF_DOUBLINGS ? failures : BACKOFF_DOUBLINGS;
	uint64_t whole_ns = min_u64(SECOND_NS << doublings, 30 * SECOND_NS);
	uint64_t jitter_us = whole_ns / 4000 * random / UINT32_MAX; // in microseconds the product has room
	return whole_ns - jitter_us * 1000;
}

void backoff_failed(struct backoff *backoff, uint64_t now_ns, uint32_t random)
{
	backoff->not_before_ns = now_ns + schedule_backoff_ns(backoff->failures, random);
	backoff->failures += backoff->failures < UINT_MAX;
}

void backoff_progress(struct backoff *backoff)
{
	*backoff = (struct backoff){.failures = 0};
}
