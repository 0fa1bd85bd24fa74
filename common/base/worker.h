// SPDX-License-Identifier: Apache-2.0
// A thread that works in rounds, waits between them, and is told to end.
//
//	static void *run(void *context)
//	{
//		struct thing *thing = context;
//		while (worker_wait(&thing->worker, ROUND_NS, WORKER_WAKES))
//			… a round …
//		return NULL;
//	}
//
// The owner has the memory, from worker_start() until worker_stop() has returned. What both sides use besides has a lock of its own.
#ifndef KAGAMI_BASE_WORKER_H
#define KAGAMI_BASE_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct worker {
	pthread_t thread;
	pthread_mutex_t lock; // for what follows
	pthread_cond_t wake;
	bool woken, stop;
};

// `name`: of the thread, as the system shows it; at most 15 characters. -EAGAIN: there is none, and nothing is to be stopped.
int worker_start(struct worker *worker, const char *name, void *(*run)(void *context), void *context);
// Tells it to end, and waits until it has.
void worker_stop(struct worker *worker);
// Any thread: the wait under way that may be woken, or the next one, is over.
void worker_wake(struct worker *worker);

// The thread's own.
enum worker_wait { WORKER_RESTS, WORKER_WAKES }; // the latter ends by worker_wake(), too; one that rests leaves that for the next
// False: it is to end.
bool worker_wait(struct worker *worker, uint64_t ns, enum worker_wait kind);
bool worker_stops(struct worker *worker);

#endif
