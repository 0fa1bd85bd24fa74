// SPDX-License-Identifier: Apache-2.0
#include "receiver/keeper.h"

#include "base/auto.h"
#include "base/log.h"

#include <errno.h>
#include <time.h>

enum { ROUND_SECONDS = 30 };

struct keeper {
	struct store *store;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool woken, stop;
};

static bool stopping(struct keeper *keeper)
{
	LOCK_SCOPE(&keeper->lock);
	return keeper->stop;
}

// One step for each protection; true while there may be more to do.
static bool round_of_steps(struct keeper *keeper)
{
	bool more = false;
	struct replica *replica;
	for (size_t n = 0; (replica = store_at(keeper->store, n)) && !stopping(keeper); n++) {
		struct err err = {0};
		struct replica_info info;
		int rc = replica_retain(replica, &err);
		if (rc < 0) {
			replica_info(replica, &info);
			log_warning("retention: a point could not be folded protection=%s: %s", info.name, err.text);
		}
		more |= rc == 1;
	}
	return more;
}

static void wait_for_work(struct keeper *keeper)
{
	LOCK_SCOPE(&keeper->lock);
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ROUND_SECONDS;
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
