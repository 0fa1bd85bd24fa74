// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

static int64_t clock_ns(clockid_t id)
{
	struct timespec now;
	(void)clock_gettime(id, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return (uint64_t)clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

struct timespec clock_mono_after(uint64_t ns)
{
	uint64_t at = clock_mono_ns() + ns;
	return (struct timespec){.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
}

int64_t clock_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}
