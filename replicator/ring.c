// SPDX-License-Identifier: Apache-2.0
// One io_uring, turned by one thread. A turn is one system call however many operations it submits and reaps.
//
// Messages from other threads come over a list and an eventfd whose read is an operation like any other, so the thread
// sleeps in one place only.
#include "replicator/ring.h"

#include "base/auto.h"
#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

enum { RING_ENTRIES = 512, RING_COMPLETIONS = 4096, RING_TASKS_MAX = 16 };

int ring_open(struct ring *ring, struct err *err)
{
	*ring = (struct ring){.lock = PTHREAD_MUTEX_INITIALIZER, .closed = true};
	ring->tasks_end = &ring->tasks;
	ring->messages_end = &ring->messages;
	ring->wake_fd = eventfd(0, EFD_CLOEXEC);
	return ring->wake_fd < 0 ? err_sys(err, -errno, "create an eventfd") : 0;
}

void ring_close(struct ring *ring)
{
	assert(!ring->messages);
	(void)close(ring->wake_fd);
	ring->wake_fd = -1;
	(void)pthread_mutex_destroy(&ring->lock);
}

int ring_init(struct ring *ring, struct err *err)
{
	// The first set saves interrupts of a busy thread (Linux 6.1); any kernel with io_uring has the second.
	const unsigned flags[] = {IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
				  IORING_SETUP_CQSIZE};
	int code = -EINVAL;
	for (unsigned i = 0; i < 2 && code == -EINVAL; i++) {
		struct io_uring_params params = {.flags = flags[i], .cq_entries = RING_COMPLETIONS};
		code = io_uring_queue_init_params(RING_ENTRIES, &ring->uring, &params);
	}
	if (code)
		return err_sys(err, code, "set up io_uring (is kernel.io_uring_disabled set, or a seccomp filter in place?)");
	LOCK_SCOPE(&ring->lock);
	ring->closed = false;
	ring->wake_armed = false;
	return 0;
}

static struct ring_message *take_messages(struct ring *ring, bool close)
{
	LOCK_SCOPE(&ring->lock);
	struct ring_message *first = ring->messages;
	ring->messages = NULL;
	ring->messages_end = &ring->messages;
	ring->closed |= close;
	return first;
}

static void run_messages(struct ring_message *message)
{
	while (message) {
		struct ring_message *next = message->next; // running it may free it
		message->run(message);
		message = next;
	}
}

void ring_refuse(struct ring *ring)
{
	run_messages(take_messages(ring, true));
}

void ring_done(struct ring *ring)
{
	io_uring_queue_exit(&ring->uring); // ends the read of the eventfd, too
}

struct io_uring_sqe *ring_sqe(struct ring *ring, struct ring_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
	while (!sqe) {
		(void)io_uring_submit(&ring->uring); // fails only for want of memory, or completions to reap: try on
		sqe = io_uring_get_sqe(&ring->uring);
	}
	io_uring_sqe_set_data(sqe, op);
	return sqe;
}

void ring_later(struct ring *ring, struct ring_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*ring->tasks_end = task;
	ring->tasks_end = &task->next;
}

// A task may queue the next one: a connection whose requests never leave memory could go on for as long as it has some.
// After RING_TASKS_MAX the others' completions have their turn.
static void run_tasks(struct ring *ring)
{
	for (unsigned n = 0; ring->tasks && n < RING_TASKS_MAX; n++) {
		struct ring_task *task = ring->tasks;
		ring->tasks = task->next;
		if (!ring->tasks)
			ring->tasks_end = &ring->tasks;
		task->queued = false;
		task->run(task);
	}
}

static void on_wake(struct ring_op *op, int res)
{
	struct ring *ring = HOLDER(op, struct ring, wake);
	(void)res; // whatever ended the read: look at the list and read again
	ring->wake_armed = false;
	run_messages(take_messages(ring, false));
}

static void wake_arm(struct ring *ring)
{
	if (ring->wake_armed)
		return;
	ring->wake_armed = true;
	ring->wake.done = on_wake;
	io_uring_prep_read(ring_sqe(ring, &ring->wake), ring->wake_fd, &ring->wake_value, sizeof(ring->wake_value), 0);
}

static void reap(struct ring *ring)
{
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
		struct ring_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;
		io_uring_cqe_seen(&ring->uring, cqe);
		if (op)
			op->done(op, res);
	}
}

int ring_turn(struct ring *ring)
{
	wake_arm(ring);
	run_tasks(ring);
	int code = ring->tasks ? io_uring_submit_and_get_events(&ring->uring) : io_uring_submit_and_wait(&ring->uring, 1);
	if (code < 0 && code != -EINTR && code != -EAGAIN && code != -EBUSY)
		return code;
	reap(ring);
	return 0;
}

bool ring_post(struct ring *ring, struct ring_message *message)
{
	{
		LOCK_SCOPE(&ring->lock);
		if (ring->closed)
			return false;
		message->next = NULL;
		*ring->messages_end = message;
		ring->messages_end = &message->next;
	}
	const uint64_t one = 1;
	ssize_t wrote;
	do
		wrote = write(ring->wake_fd, &one, sizeof(one));
	while (wrote < 0 && errno == EINTR);
	assert(wrote == sizeof(one)); // only a counter at its limit could block it
	return true;
}
