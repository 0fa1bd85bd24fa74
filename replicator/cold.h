// SPDX-License-Identifier: Apache-2.0
// Reads of an image by other threads than the loop's: how many are under way, and whether those that wait for the disk go on.
//
// Written by any thread, looked at by the loop's, which must know that a disk hangs although it asked for nothing itself.
#ifndef KAGAMI_REPLICATOR_COLD_H
#define KAGAMI_REPLICATOR_COLD_H

#include "base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cold {
	_Atomic unsigned reads;	   // under way, of what is in memory too
	_Atomic unsigned waiting;  // of those, for the disk
	_Atomic uint64_t moved_ns; // when the first of those that wait began, or the newest ended
};

static inline void cold_wait_begins(struct cold *cold)
{
	if (atomic_load(&cold->waiting) == 0)
		atomic_store(&cold->moved_ns, clock_mono_ns()); // before it counts
	(void)atomic_fetch_add(&cold->waiting, 1);
}

static inline void cold_wait_ends(struct cold *cold)
{
	atomic_store(&cold->moved_ns, clock_mono_ns());
	(void)atomic_fetch_sub(&cold->waiting, 1);
}

static inline bool cold_hangs(const struct cold *cold, uint64_t now_ns, uint64_t most_ns)
{
	return atomic_load_explicit(&cold->waiting, memory_order_relaxed) && now_ns > atomic_load(&cold->moved_ns) + most_ns;
}

// Since when nothing has come of those that wait; 0: none does.
static inline uint64_t cold_since_ns(const struct cold *cold)
{
	return atomic_load(&cold->waiting) ? atomic_load(&cold->moved_ns) : 0;
}

#endif
