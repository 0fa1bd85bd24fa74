// SPDX-License-Identifier: Apache-2.0
// Inside of a protection, shared by protection.c (life), protection_thread.c (the order of things), protection_connection.c,
// protection_cycle.c, protection_tracking.c (state files), protection_resize.c and protection_json.c (status).
//
// Locking: what stands under `lock` is read and written with it held. The rest is set before the thread starts, or
// belongs to the cycle thread alone until it has been joined.
#ifndef KAGAMI_REPLICATOR_PROTECTION_PRIVATE_H
#define KAGAMI_REPLICATOR_PROTECTION_PRIVATE_H

#include "replicator/cycle.h"
#include "replicator/export.h"
#include "replicator/protection.h"
#include "replicator/protection_tracking.h"
#include "replicator/schedule.h"
#include "replicator/sync_log.h"

#include <pthread.h>

enum protection_state {
	STATE_STARTING,
	STATE_CONNECTING,
	STATE_SYNCING,
	STATE_IDLE,
	STATE_CUTTING,
	STATE_SHIPPING,
	STATE_COMMITTING,
	STATE_PAUSED,
	STATE_FENCED,
	STATE_FAILED,
	STATE_TARGET_FULL,   // the receiver took no new point for want of space, or of quota;
	STATE_QUOTA_REACHED, // so it stays until a point is committed
	STATE_TARGET_DOWN,   // nobody listens there, or the receiver said that it stops
	STATE_TARGET_SLOW,   // in a session it took or said nothing in time, or it is busy
	STATE_VERSION,	     // one side must be upgraded
};
const char *protection_state_name(enum protection_state state);

struct last_cycle {
	uint64_t number, point;
	int64_t cut_wall_ns, commit_wall_ns;
	uint64_t duration_ns, hold_ns;
	enum sync_reason sync;
	uint64_t dirty_bytes, read_bytes, sent_blocks, wire_bytes;
	uint64_t known_blocks, plain_blocks, point_bytes;
	unsigned precopies;
	enum cycle_why why;
};

struct cycle_totals { // since this start; for counters, which only rise
	uint64_t committed, failed;
	uint64_t wire_bytes, read_bytes; // of those that were committed
};

struct resize { // asked ──► taken by the thread ──► done. One caller at a time: it holds the agent's lock
	uint16_t disk;
	uint64_t size;
	bool asked, done;
	struct err err; // of it; code 0: it is larger
};

struct protection {
	struct protection_place place;
	struct protection_config config;
	struct export *export;
	struct source *source;
	struct tracking tracking[DISKS_MAX];
	pthread_t thread;
	int wake_fd; // an eventfd: something under the lock changed

	// The cycle thread's own.
	SSL_CTX *tls;
	struct ship *ship;
	struct state_position position;
	bool position_known; // a map is relative to it; otherwise everything is dirty and any position will do
	bool uncovered;	       // the maps hold more than the marks do: protection_tracking.h, T1
	struct uuid nowhere;   // names no cut
	bool sealed_here;      // position.pending_cut was sealed by this process
	struct uuid head;
	uint32_t features; // of the receiver
	struct schedule schedule;
	struct cycle_lore lore;
	int64_t cycle_wall_ns; // when the cycle under way began
	uint64_t cycle_mono_ns;
	struct backoff backoff; // of the connection; written with the lock held
	uint64_t heard_ns, pinged_ns;

	struct ship_progress progress; // atomic
	pthread_mutex_t lock;
	bool stop, paused, fenced;
	bool hurry; // an operator did something: the next try to connect, or to cut, need not wait
	bool asked; // for a cycle, which has not begun yet
	enum protection_state state;
	char reason[ERR_TEXT_MAX]; // why it is not well; "" when it is
	struct resize resize;
	pthread_cond_t resized;	   // one that was taken is done
	bool greeted;		   // the channel carries an open session
	struct channel *channel;   // set and cleared by the thread; others may only abort it
	enum sync_reason sync;	   // stands until a point is committed
	uint64_t cycles_started, cycles_committed;
	bool in_cycle;
	bool settled;		// all that may differ from the newest point is in the dirty maps: nothing is in a cut, nothing unanswered
	struct sync_log syncs;	// written by the thread alone
	bool has_point;
	int64_t point_cut_mono_ns; // of the newest point
	uint64_t next_cut_ns;
	struct last_cycle last;
	struct cycle_totals totals;
	char last_error[ERR_TEXT_MAX];
};

#define MS_NS UINT64_C(1000000)

// protection_wait.c; with another implementation in the simulation of the tests
int protection_wait_init(struct protection *p); // -EMFILE
void protection_wait_done(struct protection *p);
// Sleeps until `deadline_ns`, a wake-up, or something from the peer. Cycle thread.
void protection_wait(struct protection *p, uint64_t deadline_ns);
void protection_wake(struct protection *p); // any thread
int protection_thread_start(struct protection *p); // a negative errno, without a thread
void protection_thread_join(struct protection *p);
// protection_thread.c
void *protection_thread(void *protection);
void protection_set_state(struct protection *protection, enum protection_state state, const char *reason);
bool protection_refused_for_space(const struct protection *protection);
static inline uint64_t protection_now_ns(const struct protection *protection)
{
	return env_mono_ns(protection->place.env);
}
uint32_t protection_random(const struct protection *p); // for jitter
// protection_connection.c; cycle thread
void connection_open(struct protection *p); // tries once; without success, the next try is not before p->backoff says
void connection_close(struct protection *p);
void connection_lost(struct protection *p, const struct wire_failure *failure, const struct err *err);
// What an idle connection has to say, and a sign of life to it. False when it is lost.
bool connection_check(struct protection *p);
// protection_cycle.c; cycle thread
void protection_cycle_once(struct protection *p);
void protection_set_settled(struct protection *p, bool settled);
// The cut is a point: known to the state files before keep clears a mark for it (T2). With `ours` it was this process that
// sealed it, and so it ends the sync; a cut of the process before says nothing of what this start found.
void protection_committed(struct protection *p, uint64_t point, const struct uuid *cut, int64_t cut_mono_ns, bool ours);
// A point whose answer was lost is there: the sync that was recorded as failed has ended well.
void protection_found_committed(struct protection *p, uint64_t point);
// protection_resize.c
void resize_init(struct protection *p);
void resize_done(struct protection *p);
// Does what was asked for; cycle thread, between cycles. True when a disk is larger now: the session must be opened anew.
bool resize_serve(struct protection *p);
// When that instant was, on the monotonic clock: for ages of points of an earlier process. Negative: before this boot.
int64_t protection_mono_of(const struct protection *protection, int64_t wall_ns);

#endif
