// SPDX-License-Identifier: Apache-2.0
// What follows a failover: it is taken back, by an operator or when its time is over, or committed. API: docs/control.md.
#ifndef KAGAMI_RECEIVER_FAILOVER_CONTROL_H
#define KAGAMI_RECEIVER_FAILOVER_CONTROL_H

#include "receiver/recovery.h"

struct rollback_result {
	char name[NAME_SIZE];
	uint64_t point;		// that it was failed over to
	uint64_t last_point;	// from which the source goes on
	uint64_t written_bytes; // to the failover's disks: gone
	bool broken;		// the replica is: its source can go on when it is not any more
};

struct rollback_ask {
	uint64_t number; // the point that it was failed over to; 0: whichever it is
	bool dry_run;	 // says what would happen, and why not
	bool discard;	 // its disks may go, though their record does not read
};

// Takes a failover back (see replica_unfence(), -EBUSY while a program has a disk open, and -EUCLEAN where its record does not read, unless `discard` is said).
// One at a time with failovers and removals of the same replica.
int failover_roll_back(struct recovery *recovery, struct replica *replica, const struct rollback_ask *ask, struct rollback_result *ret_result, struct err *err);

// Routes of a table whose context is a struct recovery.
control_handler post_failover_rollback, post_failover_commit;

// A thread that takes failovers back whose time is over.
struct rollback_timer;
int rollback_timer_start(struct recovery *recovery, struct rollback_timer **ret_timer, struct err *err);
void rollback_timer_stop(struct rollback_timer *timer); // takes NULL; returns after the step under way

#endif
