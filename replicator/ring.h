// SPDX-License-Identifier: Apache-2.0
// One io_uring, one epoll, and the thread that turns them.
//
//	ring_init ──► ring_turn … (submits what was prepared, sleeps, calls `done` of what finished) ──► ring_done
//
// Files are read and written by the ring; sockets are watched by epoll, and their owner receives by itself. The thread sleeps in
// epoll because of how a socket wakes a sleeper there: with the hint that the sender is about to sleep, so that a client with one
// request at a time and this thread share a core instead of waking one another's (docs/performance.md).
//
// While the thread looks on instead of sleeping, the sockets on which something came are followed: taken out of the epoll, and looked at
// one by one. A socket in an epoll has whoever sends to it run a call of the epoll's, with its locks, at each send, whether anybody sleeps
// there or not: a twentieth and more of what a small write costs the client. Before the thread sleeps they are put back.
//
// Everything is the loop thread's own, except ring_post(), which any thread may call.
#ifndef KAGAMI_REPLICATOR_RING_H
#define KAGAMI_REPLICATOR_RING_H

#include "base/err.h"
#include "replicator/spin.h"

#include <liburing.h>
#undef BLOCK_SIZE // the kernel's, of 1024 bytes, which would take the place of ours
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

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

// A socket that is watched; embedded in what it belongs to.
struct ring_watch {
	// Of enum ring_event, what happened since the last call: once for each time that something comes, not for as long as it is there.
	void (*ready)(struct ring_watch *watch, unsigned events);
	int fd;	   // from here on the ring's
	bool room; // RING_WRITABLE is asked for
};

enum ring_event { RING_READABLE = 1, RING_WRITABLE = 2, RING_CLOSED = 4 };

enum { RING_EVENTS_MAX = 64, RING_FOLLOWED_MAX = 4 };

extern struct ring_message ring_closed;

struct ring {
	struct io_uring uring;
	struct ring_task *tasks, **tasks_end;

	int epoll_fd;
	int wake_fd; // an eventfd: written by ring_post(), and by the kernel when an operation ends while the thread sleeps
	struct epoll_event event[RING_EVENTS_MAX]; // the ones being looked at: from `event_at` on they are still to come
	unsigned event_at, events;
	struct ring_watch *followed[RING_FOLLOWED_MAX]; // and not in the epoll
	unsigned followed_count;
	struct spin spin;
	void (*sleeps)(struct ring *ring); // runs when the thread is about to sleep, and must not begin anything; NULL: nothing
	unsigned turn; // busy turns: every RING_BUSY_TURNS-th looks at the sockets, too

	// What may need a worker thread of the kernel's is not to be submitted (workers.h): it would be cancelled.
	bool workerless;
	void (*cancelled)(struct ring *ring); // an operation was, since there is no worker; NULL: nobody asks

	// The newest first; &ring_closed when none is taken. Without a lock: who posts may have no claim to a processor just then.
	_Atomic(struct ring_message *) messages, returned;
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
// Watches the socket `fd` until ring_unwatch(), which must come before it is closed. `ready` is set; it is followed where it queues a task.
// Negative errno.
int ring_watch(struct ring *ring, int fd, struct ring_watch *watch);
// Whether RING_WRITABLE is reported, too: only while the socket was found full, else each reply that is taken would wake the thread.
void ring_watch_room(struct ring *ring, struct ring_watch *watch, bool on);
void ring_unwatch(struct ring *ring, struct ring_watch *watch);
// Runs tasks, submits, calls `done` of what ended; when there was nothing of that, sleeps until something happens. Then `ready` and
// messages run. It may return without any of them.
int ring_turn(struct ring *ring);
// False when the loop has ended: the message will not run.
bool ring_post(struct ring *ring, struct ring_message *message);
// The answer to what the loop thread asked of another thread, and waits for before it ends: runs also after ring_refuse().
void ring_return(struct ring *ring, struct ring_message *message);

#endif
