// SPDX-License-Identifier: Apache-2.0
// Inside of the agent: agent.c keeps the protections, routes.c answers for them.
#ifndef KAGAMI_REPLICATOR_AGENT_PRIVATE_H
#define KAGAMI_REPLICATOR_AGENT_PRIVATE_H

#include "replicator/agent.h"
#include "replicator/protection.h"
#include "link/events.h"

#include <pthread.h>

enum { PROTECTIONS_MAX = 1024 };

struct seat { // a protection that is configured; `running` is NULL when it could not be started
	struct protection_config config;
	struct protection *running;
	char reason[ERR_TEXT_MAX];
	bool leaving; // a request stops it, without the lock: it is to be shown, and nothing else
	bool starting; // likewise, one that starts it
	int64_t starting_since_ms;   // by the monotonic clock
	_Atomic(unsigned) opening; // then: of which disk the image is being opened, from 1; 0: none is
};

struct agent {
	struct protection_place place;
	struct env_file *lock_file;
	struct identity *identity;
	struct lease_keeper *lease;
	struct crew *crew;
	struct desk *desk;
	struct limiter *limiter;
	_Atomic(uint64_t) audit_turn_ns; // of all protections
	pthread_t ticker; // of the records of ages
	bool ticks;
	pthread_cond_t ended;
	bool over; // the ticker is to end
	pthread_mutex_t saving_lock; // taken inside of `lock`, or alone
	pthread_cond_t saved;
	struct protection *saving; // whose record the ticker writes now, without `lock`: it is not freed meanwhile
	struct agent_settings settings;
	unsigned cycles, syncs; // where they are not set
	char *run_dir, *state_dir;
	char host[NAME_SIZE]; // what a receiver calls us
	struct events *events;
	pthread_mutex_t settings_lock; // over their file, which may hang; taken before `lock`
	unsigned starting; // seats; under the lock
	bool unsaved; // one of them was started for nothing, and its state could not be saved
	pthread_cond_t started;
	pthread_mutex_t lock; // over all below, for as long as a request works with it
	struct ender *ender; // one for each that runs, at the end
	struct seat *seat[PROTECTIONS_MAX];
	size_t seats; // sorted by name
};

// Replaces the agent's own settings, with `settings_lock` held, and `lock` not. Durable on return.
int agent_set(struct agent *agent, const struct agent_settings *settings, struct err *err);
struct seat *agent_find(struct agent *agent, const char *name); // under the lock; NULL when there is none
// Makes a protection durable and starts it. `raw`: its images are, however they begin (protect_check.h). The configuration's UUIDs and secret are filled in here. The lock is let go while its disks are opened.
int agent_protect(struct agent *agent, struct protection_config *config, bool raw, struct seat **ret_seat, struct err *err);
// Stops it and removes its state. The points at the receiver stay. The lock is let go while its disks end, and its state is removed.
int agent_unprotect(struct agent *agent, struct seat *seat, struct err *err);
// Reads the configuration of a protection that does not run, and starts it. Likewise.
int agent_restart_seat(struct agent *agent, struct seat *seat, struct err *err);

#endif
