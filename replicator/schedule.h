// SPDX-License-Identifier: Apache-2.0
// When to cut next. Pure: time comes in as an argument.
//
// A point that was cut at C serves until the next one is committed, and must be replaced by C + RPO. A transfer that is
// expected to take D' must therefore be cut at C + RPO - D' at the latest.
#ifndef KAGAMI_REPLICATOR_SCHEDULE_H
#define KAGAMI_REPLICATOR_SCHEDULE_H

#include "replicator/forecast.h"

#include <stdbool.h>
#include <stdint.h>

struct schedule {
	uint64_t rpo_ns;
	bool has_point;
	int64_t last_cut_ns; // of the newest committed point, on the monotonic clock; negative: before that began, with the boot of this host
	struct forecast forecast;
	unsigned failures; // cycles that failed since the last commit
	uint64_t last_failure_ns;
	uint32_t jitter; // of the wait after it
};

struct schedule_load { // what a cut at once would begin with
	uint64_t now_ns;
	uint64_t dirty_bytes;
};

// D': from the decision to cut with so much dirty to the commit, with a quarter in hand, and a little of the objective: both parts of it.
uint64_t schedule_spare_ns(const struct schedule *schedule);
uint64_t schedule_earliest(const struct schedule *schedule); // no cut before that, but what an operator asks for: an eighth of the objective after the last
uint64_t schedule_lead_ns(const struct schedule *schedule, uint64_t dirty_bytes);
// How old the newest point is; 0 when it is not known.
uint64_t schedule_age_ns(const struct schedule *schedule, uint64_t now_ns);
// When the newest point is older than the objective; 0 without a point. 1: that was before this boot.
uint64_t schedule_deadline(const struct schedule *schedule);
// What a cut at `at_ns` is expected to find dirty: what is now, and as much more as it grew until now.
uint64_t schedule_dirty_at(const struct schedule *schedule, const struct schedule_load *load, uint64_t at_ns);
// When the next cut is due; at or before load->now_ns means at once. What is dirty changes: to be asked anew while time passes.
uint64_t schedule_next_cut(const struct schedule *schedule, const struct schedule_load *load);
// When to ask again, before the cut that is due at `due_ns`: earlier where what is dirty may grow faster than it did.
uint64_t schedule_look_again(const struct schedule *schedule, uint64_t now_ns, uint64_t due_ns);

// When the next point is committed by what is expected of the line, without a margin: of a cycle that begins at `cut_ns`, or now when that is past; and of one under
// way, at the earliest. 0: no cycle has shown yet what the line takes.
uint64_t schedule_next_point(const struct schedule *schedule, const struct schedule_load *load, uint64_t cut_ns);
struct schedule_under_way {
	uint64_t left_bytes;
	uint64_t rate; // of the cycle so far, bytes a second; 0: not known
	bool settled;  // it counts alone: seen for long enough, of a cycle that takes its share. Else the line may take what it took before, where that was more
};
uint64_t schedule_point_under_way(const struct schedule *schedule, uint64_t now_ns, const struct schedule_under_way *way);

struct schedule_done {
	uint64_t begin_ns; // of the cycle: the decision to cut
	uint64_t cut_ns, commit_ns;
	uint64_t dirty_bytes; // when it began
	uint64_t cut_bytes;   // in the cut of its point
	bool sync;	      // what it took before the cut says nothing of the next one
};
void schedule_committed(struct schedule *schedule, const struct schedule_done *done);
void schedule_found(struct schedule *schedule, bool has_point, int64_t cut_ns); // what the receiver has as its newest point
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
