// SPDX-License-Identifier: Apache-2.0
// How far the cycle under way is: bytes, their rate over the last seconds, and the time that is left. Written by the cycle thread, read by any.
#ifndef KAGAMI_REPLICATOR_PROGRESS_H
#define KAGAMI_REPLICATOR_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_WINDOW_MS = 5000 }; // the rate is of the last one to two of these

struct ship_progress {
	_Atomic uint64_t done_bytes;
	_Atomic uint64_t total_bytes; // of the passes begun so far
	_Atomic uint64_t durable_blocks; // that the receiver's head holds and would still after a crash, as far as it told
	_Atomic unsigned pass;	      // from 1; 0 before the first cut
	_Atomic bool precopy;	      // the pass under way is one of pre-copy
	_Atomic uint64_t yielded_ns;  // to the guest, by passes of pre-copy (yield.h)
	_Atomic uint64_t since_ns, since_bytes; // where the window begins
	_Atomic uint64_t mark_ns, mark_bytes;	// and where the next one will
};

struct progress_view {
	uint64_t done_bytes, total_bytes, rate; // bytes a second; 0: not known yet
	bool whole; // the rate is of a whole window, and no less
	bool left_known;
	uint64_t left_ms;
	unsigned pass;
	bool precopy;
};

void progress_begin_cycle(struct ship_progress *progress, uint64_t now_ns);
void progress_begin_pass(struct ship_progress *progress, bool precopy, uint64_t bytes);
void progress_add(struct ship_progress *progress, uint64_t bytes, uint64_t now_ns);
// `more_bytes`: that will have to be sent besides, as far as is known (what the guest dirtied during a pass of pre-copy).
void progress_view(const struct ship_progress *progress, uint64_t now_ns, uint64_t more_bytes, struct progress_view *ret_view);

#endif
