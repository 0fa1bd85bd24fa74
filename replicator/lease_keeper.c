// SPDX-License-Identifier: Apache-2.0
#include "replicator/lease_keeper.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define FIRST_LOOK_NS UINT64_C(100000000) // until there is something to renew it for

struct lease_keeper {
	struct lease lease;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t ends;
	bool over;    // under the lock
	bool failing, renewed; // the thread's
};

static void renew(struct lease_keeper *keeper)
{
	struct err err = {0};
	bool failed = lease_renew(&keeper->lease, &err) != 0;
	if (failed && !keeper->failing)
		log_warning("should the host die now, the whole of each disk that was written meanwhile is compared: the state directory takes no lease: %s", err.text);
	if (!failed && keeper->failing)
		log_info("the state directory takes the lease again");
	keeper->failing = failed;
	keeper->renewed = true;
}

static bool wait_turn(struct lease_keeper *keeper)
{
	const struct timespec until = clock_mono_after(keeper->renewed ? LEASE_RENEW_S * UINT64_C(1000000000) : FIRST_LOOK_NS);
	int rc = 0;
	LOCK_SCOPE(&keeper->lock);
	while (!keeper->over && rc == 0)
		rc = pthread_cond_timedwait(&keeper->ends, &keeper->lock, &until);
	return !keeper->over;
}

static void *run_keeper(void *context)
{
	struct lease_keeper *keeper = context;
	while (wait_turn(keeper))
		if (lease_used(&keeper->lease))
			renew(keeper);
	return NULL;
}

static void keeper_free(struct lease_keeper *keeper)
{
	lease_end(&keeper->lease);
	(void)pthread_cond_destroy(&keeper->ends);
	(void)pthread_mutex_destroy(&keeper->lock);
	free(keeper);
}

int lease_keeper_start(struct env_root *state, struct lease_keeper **ret_keeper, struct err *err)
{
	struct lease_keeper *keeper = calloc(1, sizeof(*keeper));
	if (!keeper)
		return err_sys(err, -ENOMEM, "start");
	pthread_condattr_t monotonic;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&keeper->ends, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	(void)pthread_mutex_init(&keeper->lock, NULL);
	int rc = lease_begin(&keeper->lease, state, err);
	if (rc == 0) {
		rc = -pthread_create(&keeper->thread, NULL, run_keeper, keeper);
		if (rc)
			(void)err_sys(err, rc, "start a thread");
	}
	if (rc)
		keeper_free(keeper);
	else
		*ret_keeper = keeper;
	return rc;
}

struct lease *lease_keeper_lease(struct lease_keeper *keeper)
{
	return &keeper->lease;
}

void lease_keeper_stop(struct lease_keeper *keeper)
{
	if (!keeper)
		return;
	{
		LOCK_SCOPE(&keeper->lock);
		keeper->over = true;
		(void)pthread_cond_signal(&keeper->ends);
	}
	(void)pthread_join(keeper->thread, NULL);
	keeper_free(keeper);
}
