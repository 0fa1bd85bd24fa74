// SPDX-License-Identifier: Apache-2.0
// Inside of a protection, shared by protection.c (life), protection_thread.c (cycles), protection_tracking.c (state files) and
// protection_json.c (status), protection_resize.c.
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
};
const char *protection_state_name(enum protection_state state);

struct last_cycle {
	uint64_t number, point;
	int64_t cut_wall_ns, commit_wall_ns;
	uint64_t duration_ns, hold_ns;
	enum sync_reason sync;
	uint64_t dirty_bytes, read_bytes, sent_blocks, wire_bytes;
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
	struct schedule schedule;
	int64_t cycle_wall_ns; // when the cycle under way began
	uint64_t cycle_mono_ns;
	unsigned connect_failures;
	uint64_t connect_not_before_ns;
	uint64_t heard_ns, pinged_ns;

	struct ship_progress progress; // atomic
	pthread_mutex_t lock;
	bool stop, paused, fenced;
	bool hurry; // an operator did something: the next try to connect, or to cut, need not wait
	bool asked; // for a cycle, which has not begun yet
	enum protection_state state;
	char reason[ERR_TEXT_MAX]; // why it is not well; "" when it is
	struct resize *resize; // asked for, and not taken by the thread yet
	pthread_cond_t resized;	   // one that was taken is done
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
	char last_error[ERR_TEXT_MAX];
};

void *protection_thread(void *protection);
void protection_set_state(struct protection *protection, enum protection_state state, const char *reason);
// protection_resize.c
void resize_init(struct protection *p);
void resize_done(struct protection *p);
// Does what was asked for; cycle thread, between cycles. True when a disk is larger now: the session must be opened anew.
bool resize_serve(struct protection *p);
void protection_wake(struct protection *protection);
// When that instant was, on the monotonic clock: for ages of points of an earlier process. Negative: before this boot.
int64_t protection_mono_of(const struct protection *protection, int64_t wall_ns);

#endif
