// SPDX-License-Identifier: Apache-2.0
#include "replicator/priority.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

// The kernel takes 0.1 to 100 ms. Of those who may run, the one whose turn is to end first goes first: so a long turn comes late. How long it
// really lasts is another question: a turn's end is looked for at wake-ups and at the clock's ticks.
enum { GUEST_TURN_NS = 1000 * 1000, COPY_TURN_NS = 100 * 1000 * 1000 };
enum { COPY_NICE = 5, CREW_NICE = 10, NICE_MOST = 19 };

struct attributes { // of sched_setattr(2), its first version; glibc 2.36 has no wrapper
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

enum wish { WISH_NONE, WISH_SHARE, WISH_SPARE };

static _Atomic unsigned hurries;
static _Thread_local enum wish wish;
static _Thread_local int32_t share_nice; // what the thread's share is, once it asked for one

static bool set_turn(int32_t nice, uint32_t policy, uint64_t turn_ns)
{
	struct attributes attributes = {.size = sizeof(attributes)};
	if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0)
		return false;
	attributes.policy = policy;
	attributes.runtime = turn_ns;
	attributes.nice = nice < NICE_MOST ? nice : NICE_MOST;
	return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

static bool set(int32_t nice, uint32_t policy)
{
	return set_turn(nice, policy, COPY_TURN_NS);
}

static int32_t own_nice(void)
{
	struct attributes attributes = {.size = sizeof(attributes)};
	return syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0 ? 0 : attributes.nice;
}

void priority_guest(void)
{
	(void)set_turn(own_nice(), SCHED_OTHER, GUEST_TURN_NS);
}

// ---- what nobody else wants, and back

static bool returns; // from there

static void *try_return(void *unused)
{
	int32_t nice = own_nice() + COPY_NICE;
	(void)unused;
	returns = set(nice, SCHED_OTHER) && set(nice, SCHED_IDLE) && set(nice, SCHED_OTHER);
	return NULL;
}

// By a thread that ends with it.
static void find_out(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, try_return, NULL) == 0)
		(void)pthread_join(thread, NULL);
}

static bool may_return(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, find_out);
	return returns;
}

// At first the share, which is what a thread falls back to.
static void ask(bool spare, int32_t nice, uint32_t policy)
{
	enum wish now = spare ? WISH_SPARE : WISH_SHARE;
	if (wish == WISH_NONE) {
		share_nice = own_nice() + nice;
		(void)set(share_nice, policy);
		wish = WISH_SHARE;
	}
	if (now == wish || !may_return())
		return;
	(void)set(share_nice, spare ? SCHED_IDLE : policy);
	wish = now;
}

void priority_copy(bool spare)
{
	ask(spare, COPY_NICE, SCHED_OTHER);
}

void priority_reader(bool hurry)
{
	ask(!hurry, COPY_NICE, SCHED_OTHER);
}

void priority_crew(void)
{
	ask(atomic_load_explicit(&hurries, memory_order_relaxed) == 0, CREW_NICE, SCHED_BATCH);
}

void priority_hurry(bool on)
{
	(void)atomic_fetch_add_explicit(&hurries, on ? 1 : -1u, memory_order_relaxed);
}

// The second of three numbers.
uint64_t priority_waited_ns(void)
{
	char text[96];
	int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t len = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[len > 0 ? len : 0] = 0;
	char *end;
	(void)strtoull(text, &end, 10);
	return strtoull(end, NULL, 10);
}
