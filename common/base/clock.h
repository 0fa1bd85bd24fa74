// SPDX-License-Identifier: Apache-2.0
// The clocks of this machine, for what lives outside of the simulated world: sockets, helpers, io_uring. The core asks its env.
#ifndef KAGAMI_BASE_CLOCK_H
#define KAGAMI_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_mono_ns(void); // never steps; for durations and timers
int64_t clock_mono_ms(void);  // the same, for deadlines of poll()
struct timespec clock_mono_after(uint64_t ns); // so long from now, for waits on a condition of that clock
int64_t clock_wall_ns(void);  // since 1970, UTC; for what a person reads

#endif
