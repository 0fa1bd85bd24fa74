// SPDX-License-Identifier: Apache-2.0
// Until when the replicator that runs may have changed images: STATE/lease, docs/format-state.md, "The lease".
//
//	lease_begin (what the runs before left is read) ──► lease_use ──► lease_renew, every LEASE_RENEW_S ──► lease_end, or death
//
// After a reboot nothing is left of the run directory, and its notes of rest. Then an image's own time tells who changed it last: if that is after the
// lease of the run that served it, somebody else did.
//
// L1: a lease that is durable ends at most LEASE_S after it was written. So what others change later than that after a run's death has a time that the lease
//     of that run does not cover.
// L2: it binds nobody. A renewal that is late, or fails, costs a comparison if the host dies meanwhile, and no guest waits for one.
// L3: each run has a number of its own, which the state files that it makes have as well. What is known of the runs before is carried on: a run that died before
//     it made a disk's file anew takes nothing from the one that had served it.
#ifndef KAGAMI_REPLICATOR_LEASE_H
#define KAGAMI_REPLICATOR_LEASE_H

#include "base/env.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	LEASE_S = 15,
	LEASE_RENEW_S = 5,
	LEASE_RUNS_MAX = 31, // in the file, which is one sector
	LEASE_BYTES = 512,
};

struct lease_run {
	uint64_t run;	  // not 0
	int64_t until_ns; // wall clock, since 1970
};

struct lease_book { // the content of the file; newest first
	unsigned count;
	struct lease_run of[LEASE_RUNS_MAX];
};

void lease_encode(const struct lease_book *book, unsigned char sector[LEASE_BYTES]);
// False for anything that the document does not call valid. The checksum's place in `sector` is zeroed.
bool lease_decode(unsigned char sector[LEASE_BYTES], struct lease_book *ret_book);

struct lease {
	struct env_root *state;
	struct env_file *file; // NULL until it could be opened
	struct lease_book book; // this run first; its number and the others do not change
	_Atomic bool used;
};

// A file that is absent or damaged says nothing of the runs before. -errno: no random number could be drawn.
int lease_begin(struct lease *lease, struct env_root *state, struct err *err);
// Durable on return. One thread.
int lease_renew(struct lease *lease, struct err *err);
void lease_end(struct lease *lease); // takes a zeroed one; what it said stands

// The number of this run, for a state file that is about to be made: from here on there is something that the lease is for. 0 of NULL. Any thread.
uint64_t lease_use(struct lease *lease);
bool lease_used(const struct lease *lease);
// Whether a change at that time may be one of that run, one before this. False where nothing is known of it. Any thread.
bool lease_covers(const struct lease *lease, uint64_t run, int64_t changed_ns);

#endif
