// SPDX-License-Identifier: Apache-2.0
// What the receiver does by itself about what is brought up. Failovers that are taken back by themselves: counts their time, and does it when it is over. Tests and
// mounts of an earlier receiver that could not be listed: tries again. The store that is not at its path any more: says so.
//
// The time is that of the monotonic clock while a receiver runs: a clock that is set changes nothing, a receiver that is down
// makes it later, never earlier. What is left is saved once a minute (fence.c).
#include "receiver/failover_control.h"

#include "base/auto.h"
#include "base/log.h"
#include "base/worker.h"

#include <errno.h>

enum { ROUND_MS = 1000, NS_PER_MS = 1000000, WARN_SECONDS = 60, LOOK_ROUNDS = 30 };

struct rollback_timer {
	struct recovery *recovery;
	struct worker worker;
	uint64_t warned_ns; // a store that is full would fill the log too
};

static bool in_use(const struct recovery *recovery, const struct replica_info *info, int64_t *ret_written_ns)
{
	AUTO_FREE struct failover_info *failover = malloc(sizeof(*failover));
	int rc = failover ? failover_load(recovery->store, info->name, failover, NULL) : -ENOMEM;
	if (rc == -ENOENT) // a failover or a rollback was cut short: there are no disks to open
		return false;
	return rc || failover_unused(recovery->store, failover, NULL) || // what cannot be asked counts as open
	       failover_written_last(recovery->store, failover, ret_written_ns, NULL);
}

static void warn(struct rollback_timer *timer, const struct replica_info *info, const struct err *err)
{
	uint64_t now_ns = env_mono_ns(timer->recovery->env);
	if (timer->warned_ns && now_ns - timer->warned_ns < WARN_SECONDS * 1000 * (uint64_t)NS_PER_MS)
		return;
	timer->warned_ns = now_ns;
	log_warning("the time of a failover cannot be kept, or it cannot be taken back; it is tried again "
		    "protection=%s: %s",
		    info->name, err->text);
}

static void step(struct rollback_timer *timer, struct replica *replica, const struct replica_info *info,
		 uint64_t passed_ms)
{
	struct recovery *recovery = timer->recovery;
	struct err err = {.code = 0};
	struct rollback_result result;
	const struct rollback_ask ask = {.number = info->fenced_point};
	bool due = false;
	int64_t written_ns = 0;
	bool used = in_use(recovery, info, &written_ns);
	int rc = replica_fence_tick(replica, passed_ms, used, written_ns, &due, &err);
	if (rc == 0 && due)
		rc = failover_roll_back(recovery, replica, &ask, &result, &err);
	if (rc && rc != -EBUSY) // in use since: then it is not due any more
		warn(timer, info, &err);
}

static void steps(struct rollback_timer *timer, uint64_t passed_ms)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct replica *replica;
	for (size_t n = 0; info && (replica = store_at(timer->recovery->store, n)); n++) {
		replica_info(replica, info);
		if (info->rollback_in_ms)
			step(timer, replica, info, passed_ms);
	}
}

static void *timer_thread(void *context)
{
	struct rollback_timer *timer = context;
	struct env *env = timer->recovery->env;
	uint64_t seen_ns = env_mono_ns(env);
	unsigned rounds = 0;
	while (worker_wait(&timer->worker, ROUND_MS * (uint64_t)NS_PER_MS, WORKER_RESTS)) {
		uint64_t passed_ms = (env_mono_ns(env) - seen_ns) / NS_PER_MS;
		seen_ns += passed_ms * NS_PER_MS;
		steps(timer, passed_ms);
		if (++rounds % LOOK_ROUNDS)
			continue;
		(void)store_look(timer->recovery->store, NULL);
		mounts_look(timer->recovery->mounts);
		tests_look(timer->recovery->tests);
	}
	return NULL;
}

int rollback_timer_start(struct recovery *recovery, struct rollback_timer **ret_timer, struct err *err)
{
	struct rollback_timer *timer = calloc(1, sizeof(*timer));
	if (!timer)
		return err_sys(err, -ENOMEM, "start the rollback timer");
	timer->recovery = recovery;
	int rc = worker_start(&timer->worker, "kagami-rollback", timer_thread, timer);
	if (rc) {
		free(timer);
		return err_sys(err, rc, "start the rollback timer");
	}
	*ret_timer = timer;
	return 0;
}

void rollback_timer_stop(struct rollback_timer *timer)
{
	if (!timer)
		return;
	worker_stop(&timer->worker);
	free(timer);
}
