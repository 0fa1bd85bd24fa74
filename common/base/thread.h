// SPDX-License-Identifier: Apache-2.0
// Threads and conditions as all of ours are.
#ifndef KAGAMI_BASE_THREAD_H
#define KAGAMI_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <time.h>

// One that no signal interrupts, for those are the main thread's, and that is called `name` in the system's lists (15 bytes; NULL: as its starter). 0 or a negative errno.
static inline int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *context), void *context)
{
	sigset_t all, old;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = -pthread_create(ret_thread, NULL, run, context);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0 && name)
		(void)pthread_setname_np(*ret_thread, name);
	return rc;
}

// One whose timed waits go by the monotonic clock (clock_mono_after()): a step of the wall clock neither ends nor prolongs them.
static inline void thread_condition_init(pthread_cond_t *condition)
{
	pthread_condattr_t monotonic;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(condition, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
}

#endif
