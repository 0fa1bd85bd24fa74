// SPDX-License-Identifier: Apache-2.0
#include "base/worker.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/thread.h"

static void parts_done(struct worker *worker)
{
	(void)pthread_cond_destroy(&worker->wake);
	(void)pthread_mutex_destroy(&worker->lock);
}

int worker_start(struct worker *worker, const char *name, void *(*run)(void *context), void *context)
{
	worker->woken = worker->stop = false;
	thread_condition_init(&worker->wake);
	(void)pthread_mutex_init(&worker->lock, NULL);
	int rc = -pthread_create(&worker->thread, NULL, run, context);
	if (rc)
		parts_done(worker);
	else
		(void)pthread_setname_np(worker->thread, name);
	return rc;
}

void worker_stop(struct worker *worker)
{
	{
		LOCK_SCOPE(&worker->lock);
		worker->stop = true;
		(void)pthread_cond_signal(&worker->wake);
	}
	(void)pthread_join(worker->thread, NULL);
	parts_done(worker);
}

void worker_wake(struct worker *worker)
{
	LOCK_SCOPE(&worker->lock);
	worker->woken = true;
	(void)pthread_cond_signal(&worker->wake);
}

bool worker_wait(struct worker *worker, uint64_t ns, enum worker_wait kind)
{
	const struct timespec until = clock_mono_after(ns);
	LOCK_SCOPE(&worker->lock);
	while (ns && !worker->stop && !(kind == WORKER_WAKES && worker->woken) && pthread_cond_timedwait(&worker->wake, &worker->lock, &until) == 0)
		;
	if (kind == WORKER_WAKES)
		worker->woken = false;
	return !worker->stop;
}

bool worker_stops(struct worker *worker)
{
	LOCK_SCOPE(&worker->lock);
	return worker->stop;
}
