// SPDX-License-Identifier: Apache-2.0
// When to cut next. Pure: time comes in as an argument.
//
// A point that was cut at C serves until the next one is committed, and must be replaced by C + RPO. A transfer that is
// expected to take D' must therefore be cut at C + RPO - D' at the latest.
#ifndef KAGAMI_REPLICATOR_SCHEDULE_H
#define KAGAMI_REPLICATOR_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

struct schedule {
	uint64_t rpo_ns;
	bool has_point;
	uint64_t last_cut_ns;	// of the newest committed point, on the monotonic clock
	uint64_t transfer_ns;	// how long the recent cycles took, from cut to commit: a decaying maximum
	unsigned failures;	// cycles that failed since the last commit
	uint64_t last_failure_ns;
	uint32_t jitter; // of the wait after it
};

// When the next cut is due. At or before `now_ns` means at once.
uint64_t schedule_next_cut(const struct schedule *schedule, uint64_t now_ns);

void schedule_committed(struct schedule *schedule, uint64_t cut_ns, uint64_t commit_ns);
void schedule_failed(struct schedule *schedule, uint64_t now_ns, uint32_t random);

// How long to wait before try number `failures` + 1: 1 s doubling to 30 s, less up to a quarter by `random` (jitter).
uint64_t schedule_backoff_ns(unsigned failures, uint32_t random);

// Connecting again. What counts as success is progress, a committed point: a receiver that takes the connection and then
// refuses, or a line that breaks under each cycle, is tried more and more seldom.
struct backoff {
	unsigned failures; // since there was progress
	uint64_t not_before_ns;
};
void backoff_failed(struct backoff *backoff, uint64_t now_ns, uint32_t random);
void backoff_progress(struct backoff *backoff);

#endif
