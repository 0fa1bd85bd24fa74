// SPDX-License-Identifier: Apache-2.0
#include "replicator/lease_keeper.h"

#include "base/log.h"
#include "base/worker.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define FIRST_LOOK_NS UINT64_C(100000000) // until there is something to renew it for

struct lease_keeper {
	struct lease lease;
	struct worker worker;
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
	return worker_wait(&keeper->worker, keeper->renewed ? LEASE_RENEW_S * UINT64_C(1000000000) : FIRST_LOOK_NS, WORKER_RESTS);
}

static void *run_keeper(void *context)
{
	struct lease_keeper *keeper = context;
	while (wait_turn(keeper))
		if (lease_used(&keeper->lease))
			renew(keeper);
	return NULL;
}

int lease_keeper_start(struct env_root *state, struct lease_keeper **ret_keeper, struct err *err)
{
	struct lease_keeper *keeper = calloc(1, sizeof(*keeper));
	if (!keeper)
		return err_sys(err, -ENOMEM, "start");
	int rc = lease_begin(&keeper->lease, state, err);
	if (rc == 0 && (rc = worker_start(&keeper->worker, "kagami-lease", run_keeper, keeper))) {
		lease_end(&keeper->lease);
		(void)err_sys(err, rc, "start a thread");
	}
	if (rc)
		free(keeper);
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
	worker_stop(&keeper->worker);
	lease_end(&keeper->lease);
	free(keeper);
}
