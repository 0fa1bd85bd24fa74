// SPDX-License-Identifier: Apache-2.0
// Who watches every replica: a ledger of ages for each, fed every second, whether or not its source is there, and kept in a file of its own in the
// protection's directory (STORE/<protection>/history.ledger).
//
// Two threads. One counts, and never waits for a disk: a replica that is busy is asked again a second later. The other writes the files.
// What is told by sessions takes a lock of one entry's for some microseconds. All functions take a watch of NULL, and then do nothing.
#ifndef KAGAMI_RECEIVER_WATCH_H
#define KAGAMI_RECEIVER_WATCH_H

#include "link/control.h"
#include "receiver/store.h"
#include "receiver/watched.h"

struct watch;

struct watch_config {
	uint32_t objective_ppm; // of the time within the RPO
	bool points;		// a point is an event, too
};

// Over the replicas that the store has, and those that come. The store outlives it.
int watch_start(struct env *env, struct store *store, const struct watch_config *config, struct watch **ret_watch, struct err *err);
// Writes what is not written. No session may be under way.
void watch_stop(struct watch *watch);

// By sessions: opened, closed, told, committed.
void watch_connected(struct watch *watch, struct replica *replica, int64_t their_wall_ns, const char *peer);
void watch_disconnected(struct watch *watch, struct replica *replica, const char *reason);
void watch_report(struct watch *watch, struct replica *replica, const struct wire_report *report);
// What answers CLOCK, as of now. False: there is no entry of it yet.
bool watch_time(struct watch *watch, struct replica *replica, struct wire_time *ret_time);
void watch_goodbye(struct watch *watch, struct replica *replica);
void watch_committed(struct watch *watch, struct replica *replica, const struct wire_seal *seal, const struct wire_committed *committed);

// What of a replica only the watch knows.
struct watch_view {
	bool has_point;
	uint64_t age_ms; // by the ledger: no step of the clock changes it
	uint64_t rpo_ms;
	bool missing;
	const char *cause; // that stands; also while nothing is missed
	bool clock_known;
	int64_t clock_offset_ns;
	uint64_t clock_error_ns;
	bool reported; // the rest is what the source said last
	bool paused;
	uint64_t dirty_bytes;
};
// Counts up to now first. False: there is no entry of it yet.
bool watch_look(struct watch *watch, struct replica *replica, struct watch_view *ret_view);
// Of its points as of now: watched_age_ms(). By the wall clock of `env` alone where there is no watch, or no entry.
struct watched_ages watch_ages(struct watch *watch, struct env *env, struct replica *replica);
// The members of a replica's status: "rpo", "deadline_in_ms", "clock_offset_ns" ... NULL when there is none, or no memory.
json_t *watch_json(struct watch *watch, struct replica *replica);
json_t *watch_history_json(struct watch *watch, struct replica *replica, const char *name, const char *window, struct err *err);

// For tests: how many replicas it has a record of. Of those that were removed none is left a moment later.
size_t watch_count(struct watch *watch);

#endif
