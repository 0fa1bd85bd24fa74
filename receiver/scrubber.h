// SPDX-License-Identifier: Apache-2.0
// The scrubber: a thread that scrubs, one slice of one protection after the other, at a bounded rate: what was asked for, and by itself every
// protection once in `interval_ns`.
#ifndef KAGAMI_RECEIVER_SCRUBBER_H
#define KAGAMI_RECEIVER_SCRUBBER_H

#include "receiver/scrub.h"
#include "rpo/bandwidth.h"

enum { SCRUBBER_DAYS_DEFAULT = 7 };

struct scrubber_config {
	uint64_t rate;	     // bytes a second, of all passes together that began by themselves
	int64_t interval_ns; // 0: none begins by itself
	bool has_window;     // passes that begin by themselves run in `window` only
	struct bandwidth_window window;
};

struct scrubber;

int scrubber_start(struct env *env, struct store *store, const struct scrubber_config *config, struct scrubber **ret_scrubber,
		   struct err *err);
void scrubber_wake(struct scrubber *scrubber); // something was asked for; any thread; takes NULL
void scrubber_stop(struct scrubber *scrubber); // takes NULL; returns after the slice under way, with every position durable
const struct scrubber_config *scrubber_config(const struct scrubber *scrubber);

// In how many minutes the window of a pass opens (`info` without one: of the pass that would begin by itself); 0: it may run now. One that was asked
// for by hand does not wait, nor what ends a doubt in all points. Pure, but for the host's time zone.
unsigned scrubber_waits(const struct scrubber_config *config, const struct scrub_info *info, int64_t wall_ns);

// What the thread does between two waits: begins what is due, then one slice of the next protection that has a pass, from *cursor on. A pass whose
// window is over is held, with its position durable, and goes on at the next.
// Returns how long to wait before the next step, in nanoseconds.
uint64_t scrubber_step(struct env *env, struct store *store, const struct scrubber_config *config, size_t *cursor);

#endif
