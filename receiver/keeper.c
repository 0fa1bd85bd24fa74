// SPDX-License-Identifier: Apache-2.0
#include "receiver/keeper.h"

#include "base/auto.h"
#include "base/clock.h"

#include <errno.h>
#include <time.h>

enum { ROUND_SECONDS = 30, PAUSE_MIN_MS = 20, NS_PER_MS = 1000000 };
#define NS_PER_S UINT64_C(1000000000)

struct keeper {
	struct store *store;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool woken, stop;
	uint64_t rate;	  // bytes a second
	uint64_t paid_ns; // the time until which what was done is paid for
};

static bool stopping(struct keeper *keeper)
{
	LOCK_SCOPE(&keeper->lock);
	return keeper->stop;
}

// Each block takes the time that it has at the rate; pauses are made when enough is owed, and are not saved up.
static int spend(void *context, uint64_t bytes)
{
	struct keeper *keeper = context;
	LOCK_SCOPE(&keeper->lock);
	uint64_t now = clock_mono_ns();
	if (keeper->paid_ns < now)
		keeper->paid_ns = now;
	keeper->paid_ns += bytes * NS_PER_S / keeper->rate;
	if (keeper->paid_ns - now < PAUSE_MIN_MS * (uint64_t)NS_PER_MS)
		return keeper->stop ? -ECANCELED : 0;
	struct timespec until = {.tv_sec = (time_t)(keeper->paid_ns / NS_PER_S), .tv_nsec = (long)(keeper->paid_ns % NS_PER_S)};
	while (!keeper->stop && pthread_cond_timedwait(&keeper->wake, &keeper->lock, &until) == 0)
		;
	return keeper->stop ? -ECANCELED : 0;
}

// One step for each protection; true while there may be more to do.
static bool round_of_steps(struct keeper *keeper)
{
	bool more = false;
	const struct retain_pace pace = {.spend = spend, .context = keeper};
	struct replica *replica;
	for (size_t n = 0; (replica = store_at(keeper->store, n)) && !stopping(keeper); n++) {
		struct err err = {0};
		(void)replica_mend(replica);
		more |= replica_retain_paced(replica, &pace, &err) == 1; // a failure is logged, and told by the status (stall.c)
	}
	return more;
}

static void wait_for_work(struct keeper *keeper)
{
	LOCK_SCOPE(&keeper->lock);
	struct timespec until = clock_mono_after((uint64_t)ROUND_SECONDS * NS_PER_S);
	while (!keeper->woken && !keeper->stop && pthread_cond_timedwait(&keeper->wake, &keeper->lock, &until) == 0)
		;
	keeper->woken = false;
}

static void *keeper_thread(void *context)
{
	struct keeper *keeper = context;
	while (!stopping(keeper))
		if (!round_of_steps(keeper))
			wait_for_work(keeper);
	return NULL;
}

int keeper_start(struct store *store, struct keeper **ret_keeper, struct err *err)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	if (!keeper)
		return err_sys(err, -ENOMEM, "start the retention");
	keeper->store = store;
	keeper->rate = KEEPER_RATE;
	(void)pthread_mutex_init(&keeper->lock, NULL);
	pthread_condattr_t attr;
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&keeper->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	int rc = -pthread_create(&keeper->thread, NULL, keeper_thread, keeper);
	if (rc) {
		free(keeper);
		return err_sys(err, rc, "start the retention");
	}
	*ret_keeper = keeper;
	return 0;
}

void keeper_rate(struct keeper *keeper, uint64_t bytes_per_second)
{
	LOCK_SCOPE(&keeper->lock);
	keeper->rate = bytes_per_second;
}

void keeper_wake(struct keeper *keeper)
{
	LOCK_SCOPE(&keeper->lock);
	keeper->woken = true;
	(void)pthread_cond_signal(&keeper->wake);
}

void keeper_stop(struct keeper *keeper)
{
	if (!keeper)
		return;
	{
		LOCK_SCOPE(&keeper->lock);
		keeper->stop = true;
		(void)pthread_cond_signal(&keeper->wake);
	}
	(void)pthread_join(keeper->thread, NULL);
	(void)pthread_mutex_destroy(&keeper->lock);
	(void)pthread_cond_destroy(&keeper->wake);
	free(keeper);
}
