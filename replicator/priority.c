// SPDX-License-Identifier: Apache-2.0
#include "replicator/priority.h"

#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TURN_NS = 100 * 1000, COPY_NICE = 5, CREW_NICE = 10, NICE_MOST = 19 };

struct attributes { // of sched_setattr(2), its first version; glibc 2.36 has no wrapper
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

// A short turn of the one who copies is soon over for those who wait behind it, too.
static void set(int32_t nice, uint32_t policy)
{
	struct attributes attributes = {.size = sizeof(attributes)};
	if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0)
		return;
	attributes.policy = policy;
	attributes.runtime = TURN_NS;
	attributes.nice = attributes.nice + nice < NICE_MOST ? attributes.nice + nice : NICE_MOST;
	(void)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void priority_guest(void)
{
	set(0, SCHED_OTHER);
}

void priority_copy(void)
{
	set(COPY_NICE, SCHED_OTHER);
}

void priority_crew(void)
{
	set(CREW_NICE, SCHED_BATCH);
}
