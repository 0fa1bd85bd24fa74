// SPDX-License-Identifier: Apache-2.0
// A thread for each client of the load generator: cycles while it has a job, pings while it has none. What a job measured is read
// when the team has ended it.
#ifndef KAGAMI_TOOLS_LOAD_WORKER_H
#define KAGAMI_TOOLS_LOAD_WORKER_H

#include "tools/load_client.h"

#include <pthread.h>
#include <stdbool.h>

struct load_job {
	uint64_t cycles; // 0: until load_team_stop()
	uint64_t blocks; // of each
	uint64_t interval_ms; // from the start of one to the start of the next, at least
};

struct load_worker {
	struct load_client client;
	struct load_team *team;
	pthread_t thread;
	bool started; // the thread
	bool busy;
	bool failed; // takes no more jobs
	struct err err;
	struct load_job job;
	// of the newest job:
	struct load_cycle *cycles;
	uint64_t cycle_count, cycle_room;
	uint64_t took_ns; // all of it
};

struct load_team {
	struct load_worker *worker;
	unsigned count;
	pthread_mutex_t lock;
	pthread_cond_t wake; // a worker has something to do
	pthread_cond_t idle; // a worker ended its job
	unsigned busy;
	bool stop, quit;
};

// `workers` with clients that are connected; they stay the caller's. A thread that cannot be started is an error: load_team_done() all the same.
int load_team_start(struct load_team *team, struct load_worker *workers, unsigned count, struct err *err);
void load_team_done(struct load_team *team);

// Forgets what was measured before.
void load_team_give(struct load_team *team, unsigned worker, const struct load_job *job);
// Waits until `workers` at most are busy, or for `ms`. True when so few are.
bool load_team_wait(struct load_team *team, unsigned workers, unsigned ms);
// Jobs without an end end with the cycle under way.
void load_team_stop(struct load_team *team);

#endif
