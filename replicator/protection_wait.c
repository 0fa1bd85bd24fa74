// SPDX-License-Identifier: Apache-2.0
// What the cycle thread of a protection is, and how it sleeps: a thread, and an eventfd beside its socket; and the thread of doubt.c. The simulation of the tests has
// this file's functions, too: there it is a fiber on a simulated clock.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/thread.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS_MAX = 60000 };

int protection_wait_init(struct protection *p)
{
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return p->wake_fd < 0 ? -EMFILE : 0;
}

void protection_wait_done(struct protection *p)
{
	if (p->wake_fd >= 0)
		(void)close(p->wake_fd);
}

void protection_wake(struct protection *p)
{
	uint64_t one = 1;
	(void)!write(p->wake_fd, &one, sizeof(one));
}

void protection_wait(struct protection *p, uint64_t deadline_ns)
{
	uint64_t now = protection_now_ns(p);
	uint64_t ms = deadline_ns > now ? (deadline_ns - now + MS_NS - 1) / MS_NS : 0;
	struct pollfd wait[2] = {{.fd = p->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
	if (p->channel)
		wait[1].fd = channel_fd(p->channel);
	(void)poll(wait, 2, (int)min_u64(ms, WAIT_MS_MAX));
	uint64_t count;
	(void)!read(p->wake_fd, &count, sizeof(count));
}

void protection_rest(void *context, uint64_t ns)
{
	struct timespec time = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	(void)context;
	(void)nanosleep(&time, NULL);
}

int protection_thread_start(struct protection *p)
{
	int code = -pthread_create(&p->thread, NULL, protection_thread, p);
	if (code == 0)
		(void)pthread_setname_np(p->thread, "kagami-cycle");
	return code;
}

void protection_thread_join(struct protection *p)
{
	(void)pthread_join(p->thread, NULL);
}

// ---- doubt.c

void doubt_init(struct protection *p)
{
	(void)pthread_mutex_init(&p->doubt.lock, NULL);
	thread_condition_init(&p->doubt.changed);
}

void doubt_done(struct protection *p)
{
	(void)pthread_cond_destroy(&p->doubt.changed);
	(void)pthread_mutex_destroy(&p->doubt.lock);
}

int doubt_thread_start(struct protection *p)
{
	return thread_start(&p->doubt_thread, "kagami-doubt", doubt_thread, p);
}

void doubt_thread_join(struct protection *p)
{
	(void)pthread_join(p->doubt_thread, NULL);
}

bool doubt_pause(struct protection *p, uint64_t until_ns)
{
	if (until_ns == UINT64_MAX)
		return pthread_cond_wait(&p->doubt.changed, &p->doubt.lock) == 0;
	struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
	(void)pthread_cond_timedwait(&p->doubt.changed, &p->doubt.lock, &until);
	return true;
}

void doubt_sleep(struct protection *p, uint64_t until_ns)
{
	LOCK_SCOPE(&p->doubt.lock);
	if (!p->doubt.woken)
		(void)doubt_pause(p, until_ns);
	p->doubt.woken = false;
}

void doubt_wake(struct protection *p)
{
	p->doubt.woken = true;
	(void)pthread_cond_broadcast(&p->doubt.changed);
}
