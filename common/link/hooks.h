// SPDX-License-Identifier: Apache-2.0
// An executable that is run for an event: docs/hooks.md. No shell, an environment that is all made here, no descriptor but the standard ones, a process
// group of its own that is ended when its time is over.
#ifndef KAGAMI_LINK_HOOKS_H
#define KAGAMI_LINK_HOOKS_H

#include "link/events.h"

#include <stdatomic.h>

enum { HOOK_LIMIT_MS = 10000, HOOK_GRACE_MS = 500, HOOKS_A_MINUTE = 10, HOOK_RATES_MAX = 256 };

// Whether the directory may be used: it is there, and nobody but root and this user writes to it. -EPERM, -ENOTDIR, ... with what to do.
int hooks_check(const char *directory, struct err *err);

// Runs DIRECTORY/name for the event, for `limit_ms` at most, or until *stop_ns (monotonic; 0: never) has passed. `suppressed`: events of the same class and
// protection for which it was not run before this one. 0; -ENOENT: there is none; -EACCES: it is not executable, or others may write to it; -ETIMEDOUT: it was ended; -EREMOTEIO: it failed. With the reason in `err`.
int hook_run(const char *directory, const char *name, const struct event *event, unsigned suppressed, unsigned limit_ms, const _Atomic uint64_t *stop_ns,
	     struct err *err);

// At most HOOKS_A_MINUTE for each protection: pure, time is an argument.
struct hook_rate {
	char protection[NAME_SIZE];
	uint64_t began_ns; // of the minute
	unsigned run, suppressed;
};
struct hook_rates {
	struct hook_rate rate[HOOK_RATES_MAX]; // of one class; where there are more, the oldest makes room
	unsigned count;
};
// Whether it may be run now; if so, *ret_suppressed is how many were not since it was last.
bool hook_rate_take(struct hook_rates *rates, const char *protection, uint64_t mono_ns, unsigned *ret_suppressed);

#endif
