// SPDX-License-Identifier: Apache-2.0
// Inside of the agent: agent.c keeps the protections, agent_start.c starts them, agent_lookout.c and agent_keep.c see to it that what their next start needs is there,
// agent_nbd.c lists their disks for NBD over TCP, routes.c answers for them.
#ifndef KAGAMI_REPLICATOR_AGENT_PRIVATE_H
#define KAGAMI_REPLICATOR_AGENT_PRIVATE_H

#include "base/worker.h"
#include "replicator/agent.h"
#include "replicator/goodbye.h"
#include "replicator/point_known.h"
#include "replicator/protection.h"
#include "replicator/restart.h"
#include "replicator/site.h"
#include "link/events.h"

#include <pthread.h>

enum { PROTECTIONS_MAX = 1024 };
#define AGENT_KEY_FILE "identity.pem"

struct seat_end {
	const char *why; // a sentence's beginning
	struct protection *protection; // until its disks have ended and its state is saved; NULL: nothing of it ran
	bool done; // so it is, and the agent's stop goes on
	int64_t since_ms;	// by the monotonic clock; 0: it does not end
	int64_t state_since_ms; // that the state directory is asked about it without it; 0: it is not
};

struct seat { // a protection that is configured; `running` is NULL when it could not be started
	struct protection_config config;
	struct protection *running;
	char reason[ERR_TEXT_MAX];
	bool leaving; // a request stops it without the lock, or the agent does: it is to be shown, and nothing else
	struct seat_end ends; // how far that is
	bool starting; // likewise, a request starts it
	bool trying; // likewise, by itself: it could not before
	struct restart restart;	  // of one that could not start
	struct point_known point; // likewise, as it was found then
	char said[ERR_TEXT_MAX];  // why it could not, as it was logged and told; "" since it runs
	int64_t starting_since_ms;   // by the monotonic clock
	_Atomic(unsigned) opening; // then: of which disk the image is being opened, from 1; 0: none is
};

struct seat_left { // what there is of a protection that could not start
	uint64_t seen; // restart.h
	bool missing;  // an image is not there
	bool written;  // a program has one open for writing
	struct err loop; // by a loop device: what to do; "": by none
	struct point_known point;
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
	struct worker lookout; // of agent_lookout.c
	bool looks;
	pthread_cond_t ended; // or when a protection is tried again has changed
	bool over; // the ticker is to end
	pthread_mutex_t saving_lock; // taken inside of `lock`, or alone
	pthread_cond_t saved;
	struct protection *saving; // whose record the ticker writes now, without `lock`: it is not freed meanwhile
	struct agent_settings settings;
	unsigned cycles, syncs; // where they are not set
	char *run_dir, *state_dir;
	char host[NAME_SIZE]; // what a receiver calls us
	struct events *events;
	struct goodbyes goodbyes;
	pthread_mutex_t settings_lock; // over their file, and those of sites, which may hang; taken before `lock`
	bool unkept; // under it: the key or a site was removed, and could not be written anew
	unsigned starting; // threads that start a seat, or are about to; under the lock
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
// Likewise; the lock is let go for a moment where it is just being tried again by itself, for 2 s at the most.
struct seat *agent_find_settled(struct agent *agent, const char *name);
struct seat *agent_add(struct agent *agent, const struct protection_config *config); // under the lock; NULL: there is no room
// Makes a protection durable and starts it. `raw`: its images are, however they begin (protect_check.h). The configuration's UUIDs and secret are filled in here. The lock is let go while its disks are opened.
int agent_protect(struct agent *agent, struct protection_config *config, bool raw, struct seat **ret_seat, struct err *err);
// Stops it, removes its state, and tells its receiver, which may come to nothing. The points at the receiver stay. The lock is let go while its disks end, its state is
// removed, and the receiver is told.
struct parting {
	bool told;
	char untold[ERR_TEXT_MAX]; // why the receiver was not; ""
};
int agent_unprotect(struct agent *agent, struct seat *seat, struct parting *ret_parting, struct err *err);
// Reads the configuration of a protection that does not run, and starts it. Likewise.
int agent_restart_seat(struct agent *agent, struct seat *seat, struct err *err);

// Of one that ends, with the lock held: what keeps it is shown until agent_end(), which returns what protection_end() does, and frees it, without the lock.
void agent_end_begin(struct seat *seat, struct protection *running, const char *why);
bool agent_end(struct agent *agent, struct seat *seat, struct protection *running, bool forgotten);

// agent_start.c
// With the lock held, which is let go until the second: the seat is to be shown meanwhile, and nothing else, and stays. What was started when a stop had begun is
// stopped again, before that goes on. `left` NULL: one that fails is not tried again.
int agent_start_begin(struct agent *agent, struct seat *seat, struct err *err);
int agent_start_end(struct agent *agent, struct seat *seat, struct protection *running, int rc, const struct seat_left *left, struct err *err);
// In between.
int agent_seat_start(struct agent *agent, struct seat *seat, const struct protection_config *config, bool is_new, struct protection **ret_running,
		     struct err *err);
// Those that could not start and are due are tried again, each in a thread of its own. Returns when the next is. With the lock held.
uint64_t agent_restart_due(struct agent *agent, uint64_t now_ns);
void agent_start_one(struct agent *agent, const char *name);	    // what lies in the state directory; without the lock
void agent_wait_started(struct agent *agent, unsigned seconds); // most are there before anybody can ask; the others are shown as they are. 0: 10 s

// agent_keep.c: the files that the next start needs of the agent itself, where somebody removed them while it runs.
struct agent_sites { // as they are in memory
	struct site *site; // NULL: there was no memory for them
	size_t count;
};
// Those of the protections that run, each once. Waits for nothing.
void agent_sites_take(struct agent *agent, struct agent_sites *ret_sites);
void agent_sites_done(struct agent_sites *sites);
// Looks for the key and for these sites, and writes what is gone anew, with an event; what is there stays as it is. Waits for the state directory, without the lock.
// False: one is gone, and could not be written, which is told once.
bool agent_keep(struct agent *agent, const struct agent_sites *sites);

// agent_lookout.c
void agent_look(struct agent *agent); // one round of it
int agent_lookout_start(struct agent *agent, struct err *err); // -EAGAIN
void agent_lookout_stop(struct agent *agent);		       // waits for the look under way; does nothing when it was not started

#endif
