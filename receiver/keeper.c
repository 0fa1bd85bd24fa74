// SPDX-License-Identifier: Apache-2.0
#include "receiver/keeper.h"

#include "base/clock.h"
#include "base/worker.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { ROUND_SECONDS = 30, PAUSE_MIN_MS = 20, NS_PER_MS = 1000000 };
#define NS_PER_S UINT64_C(1000000000)

struct keeper {
	struct store *store;
	struct worker worker;
	_Atomic uint64_t rate; // bytes a second
	uint64_t paid_ns;      // the thread's: the time until which what was done is paid for
};

// Each block takes the time that it has at the rate; pauses are made when enough is owed, and are not saved up.
static int spend(void *context, uint64_t bytes)
{
	struct keeper *keeper = context;
	uint64_t now = clock_mono_ns(), wait_ns = 0;
	if (keeper->paid_ns < now)
		keeper->paid_ns = now;
	keeper->paid_ns += bytes * NS_PER_S / keeper->rate;
	if (keeper->paid_ns - now >= PAUSE_MIN_MS * (uint64_t)NS_PER_MS)
		wait_ns = keeper->paid_ns - now;
	return worker_wait(&keeper->worker, wait_ns, WORKER_RESTS) ? 0 : -ECANCELED;
}

// One step for each protection; true while there may be more to do.
static bool round_of_steps(struct keeper *keeper)
{
	bool more = false;
	const struct retain_pace pace = {.spend = spend, .context = keeper};
	struct replica *replica;
	for (size_t n = 0; (replica = store_at(keeper->store, n)) && !worker_stops(&keeper->worker); n++) {
		struct err err = {0};
		(void)replica_mend(replica);
		more |= replica_retain_paced(replica, &pace, &err) == 1; // a failure is logged, and told by the status (stall.c)
	}
	return more;
}

static void *keeper_thread(void *context)
{
	struct keeper *keeper = context;
	while (!worker_stops(&keeper->worker))
		if (!round_of_steps(keeper))
			(void)worker_wait(&keeper->worker, ROUND_SECONDS * NS_PER_S, WORKER_WAKES);
	return NULL;
}

int keeper_start(struct store *store, struct keeper **ret_keeper, struct err *err)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	if (!keeper)
		return err_sys(err, -ENOMEM, "start the retention");
	keeper->store = store;
	keeper->rate = KEEPER_RATE;
	int rc = worker_start(&keeper->worker, "kagami-keeper", keeper_thread, keeper);
	if (rc) {
		free(keeper);
		return err_sys(err, rc, "start the retention");
	}
	*ret_keeper = keeper;
	return 0;
}

void keeper_rate(struct keeper *keeper, uint64_t bytes_per_second)
{
	keeper->rate = bytes_per_second;
}

void keeper_wake(struct keeper *keeper)
{
	worker_wake(&keeper->worker);
}

void keeper_stop(struct keeper *keeper)
{
	if (!keeper)
		return;
	worker_stop(&keeper->worker);
	free(keeper);
}
