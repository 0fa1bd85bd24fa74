// SPDX-License-Identifier: Apache-2.0
// Descriptors that are kept for the process itself: its files, its own connections, and an operator who asks what is wrong.
#ifndef KAGAMI_BASE_DESCRIPTOR_H
#define KAGAMI_BASE_DESCRIPTOR_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DESCRIPTORS_SPARE_MAX = 32, DESCRIPTORS_SPARE_PART = 8 };

// Whether `fd`, of somebody who has just connected, is one of the last that the limit allows: DESCRIPTORS_SPARE_MAX, or an eighth of all. The kernel gives the
// lowest that is free, so all others are taken then, and the caller turns whoever it is away.
static inline bool descriptor_spare(int fd)
{
	struct rlimit limit;
	if (fd < 0 || getrlimit(RLIMIT_NOFILE, &limit))
		return false;
	rlim_t spare = limit.rlim_cur / DESCRIPTORS_SPARE_PART;
	if (spare > DESCRIPTORS_SPARE_MAX)
		spare = DESCRIPTORS_SPARE_MAX;
	return (rlim_t)fd >= limit.rlim_cur - spare;
}

// A pipe that does not block, for somebody who has connected and can do without. False: there is none, but of the last that the limit allows.
static inline bool descriptor_pipe(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	if (!descriptor_spare(ends[0]) && !descriptor_spare(ends[1]))
		return true;
	(void)close(ends[0]);
	(void)close(ends[1]);
	return false;
}

#endif
