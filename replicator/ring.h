// SPDX-License-Identifier: Apache-2.0
// One io_uring and the thread that turns it.
//
//	ring_init ──► ring_turn … (submits what was prepared, waits, calls `done` of what finished) ──► ring_done
//
// Everything is the loop thread's own, except ring_post(), which any thread may call.
#ifndef KAGAMI_REPLICATOR_RING_H
#define KAGAMI_REPLICATOR_RING_H

#include "base/err.h"

#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

// An operation under way; embedded in what it belongs to, which stays until `done` was called with the result
// of the system call (negative errno, or what it returns).
struct ring_op {
	void (*done)(struct ring_op *op, int res);
};

// Work to be done once before the thread sleeps: a round's replies, a list of what finished without the ring.
struct ring_task {
	void (*run)(struct ring_task *task);
	struct ring_task *next;
	bool queued;
};

// Something for the loop thread to run, from any thread; the sender's memory until it ran.
struct ring_message {
	void (*run)(struct ring_message *message);
	struct ring_message *next;
};

struct ring {
	struct io_uring uring;
	struct ring_task *tasks, **tasks_end;

	struct ring_op wake;
	int wake_fd;
	uint64_t wake_value;
	bool wake_armed;

	pthread_mutex_t lock; // over the three below
	struct ring_message *messages, **messages_end;
	bool closed;
};

// By the loop thread itself. -ENOSYS and -EPERM where the kernel or its settings have no io_uring.
int ring_init(struct ring *ring, struct err *err);
// From here on ring_post() refuses. Runs what was posted before.
void ring_refuse(struct ring *ring);
// After ring_refuse(). No operation may be under way.
void ring_done(struct ring *ring);

// Readies the part that ring_post() needs, before the thread starts; and its counterpart after it ended.
int ring_open(struct ring *ring, struct err *err);
void ring_close(struct ring *ring);

// A submission to fill, never NULL; `op` gets the result. Submitted by the next turn.
struct io_uring_sqe *ring_sqe(struct ring *ring, struct ring_op *op);
void ring_later(struct ring *ring, struct ring_task *task);
// Runs tasks, submits, waits for at least one completion if no task is left, and calls `done` for all that are there.
int ring_turn(struct ring *ring);
// False when the loop has ended: the message will not run.
bool ring_post(struct ring *ring, struct ring_message *message);

#endif
