// SPDX-License-Identifier: Apache-2.0
// One io_uring and one epoll, turned by one thread, which sleeps in the epoll alone.
//
// The eventfd in it is the ring's: the kernel writes to it when an operation ends. While the thread runs, that is switched off
// by a flag in shared memory, and completions are found by looking. Messages from other threads come over a list and the
// same eventfd. All are edge-triggered, so nothing has to be read from it.
#include "replicator/ring.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

struct ring_message ring_closed;

enum { RING_ENTRIES = 512, RING_COMPLETIONS = 4096, RING_BUSY_TURNS = 8, RING_NAP_MS = 1 };

int ring_open(struct ring *ring, struct err *err)
{
	*ring = (struct ring){.messages = &ring_closed};
	ring->tasks_end = &ring->tasks;
	ring->epoll_fd = -1;
	ring->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return ring->wake_fd < 0 ? err_sys(err, -errno, "create an eventfd") : 0;
}

void ring_close(struct ring *ring)
{
	assert(atomic_load(&ring->messages) == &ring_closed || !atomic_load(&ring->messages));
	(void)close(ring->wake_fd);
	ring->wake_fd = -1;
}

static int uring_init(struct io_uring *uring)
{
	// With the first set the kernel does its part of an operation's end only when we ask, and a flag in memory says that there
	// is some (Linux 6.1); any kernel with io_uring has the second.
	const unsigned flags[] = {IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
					  IORING_SETUP_TASKRUN_FLAG,
				  IORING_SETUP_CQSIZE};
	int code = -EINVAL;
	for (unsigned i = 0; i < 2 && code == -EINVAL; i++) {
		struct io_uring_params params = {.flags = flags[i], .cq_entries = RING_COMPLETIONS};
		code = io_uring_queue_init_params(RING_ENTRIES, uring, &params);
	}
	return code;
}

static int epoll_init(struct ring *ring)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
	ring->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (ring->epoll_fd < 0 || epoll_ctl(ring->epoll_fd, EPOLL_CTL_ADD, ring->wake_fd, &event) < 0)
		return -errno;
	return io_uring_register_eventfd(&ring->uring, ring->wake_fd);
}

int ring_init(struct ring *ring, struct err *err)
{
	int code = uring_init(&ring->uring);
	if (code)
		return err_sys(err, code, "set up io_uring (is kernel.io_uring_disabled set, or a seccomp filter in place?)");
	code = epoll_init(ring);
	if (code) {
		ring_done(ring);
		return err_sys(err, code, "set up epoll");
	}
	atomic_store(&ring->messages, NULL);
	return 0;
}

// In the order in which they were posted.
static struct ring_message *oldest_first(struct ring_message *newest)
{
	struct ring_message *oldest = NULL;
	while (newest) {
		struct ring_message *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

static struct ring_message *take_messages(struct ring *ring, bool close)
{
	if (atomic_load(&ring->messages) == &ring_closed)
		return NULL; // and so it stays: nobody else opens or closes it
	return oldest_first(atomic_exchange(&ring->messages, close ? &ring_closed : NULL));
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
	io_uring_queue_exit(&ring->uring);
	if (ring->epoll_fd >= 0)
		(void)close(ring->epoll_fd);
	ring->epoll_fd = -1;
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

// A task may queue the next one: a connection whose requests never leave memory could go on for as long as it has some. What is queued
// meanwhile comes with the next turn, after the others' completions.
static bool run_tasks(struct ring *ring)
{
	struct ring_task **end = ring->tasks_end;
	bool any = ring->tasks != NULL, last = !any;
	while (!last) {
		struct ring_task *task = ring->tasks;
		assert(task); // `end` is in one of the list's
		last = &task->next == end;
		ring->tasks = task->next;
		if (!ring->tasks)
			ring->tasks_end = &ring->tasks;
		task->queued = false;
		task->run(task);
	}
	return any;
}

static bool reap(struct ring *ring)
{
	struct io_uring_cqe *cqe;
	bool any = false;
	while (io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
		struct ring_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;
		io_uring_cqe_seen(&ring->uring, cqe);
		any = true;
		if (op)
			op->done(op, res);
	}
	return any;
}

// ---- sockets: each is in the epoll, or followed

enum { WATCHED = EPOLLIN | EPOLLRDHUP };

// What is there already is reported, too.
static int epoll_do(struct ring *ring, int operation, struct ring_watch *watch)
{
	struct epoll_event event = {.events = WATCHED | EPOLLET | (watch->room ? EPOLLOUT : 0u), .data.ptr = watch};
	return epoll_ctl(ring->epoll_fd, operation, watch->fd, &event) < 0 ? -errno : 0;
}

static unsigned followed_at(const struct ring *ring, const struct ring_watch *watch) // followed_count: it is not
{
	unsigned i = 0;
	while (i < ring->followed_count && ring->followed[i] != watch)
		i++;
	return i;
}

int ring_watch(struct ring *ring, int fd, struct ring_watch *watch)
{
	watch->fd = fd;
	watch->room = false;
	return epoll_do(ring, EPOLL_CTL_ADD, watch);
}

void ring_watch_room(struct ring *ring, struct ring_watch *watch, bool on)
{
	watch->room = on;
	if (followed_at(ring, watch) < ring->followed_count)
		return;
	int code = epoll_do(ring, EPOLL_CTL_MOD, watch);
	assert(code == 0);
	(void)code;
}

void ring_unwatch(struct ring *ring, struct ring_watch *watch)
{
	unsigned at = followed_at(ring, watch);
	if (at < ring->followed_count)
		ring->followed[at] = ring->followed[--ring->followed_count];
	else
		(void)epoll_ctl(ring->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	for (unsigned i = 0; i < ring->events; i++)
		if (ring->event[i].data.ptr == watch)
			ring->event[i].events = 0; // its owner may be gone when its turn comes, or when it would be followed
}

static void follow(struct ring *ring, struct ring_watch *watch)
{
	if (ring->followed_count == RING_FOLLOWED_MAX || followed_at(ring, watch) < ring->followed_count ||
	    epoll_ctl(ring->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL) < 0)
		return;
	ring->followed[ring->followed_count++] = watch;
}

// False where one could not be put back, for want of memory: it stays followed.
static bool unfollow_all(struct ring *ring)
{
	while (ring->followed_count && epoll_do(ring, EPOLL_CTL_ADD, ring->followed[ring->followed_count - 1]) == 0)
		ring->followed_count--;
	return ring->followed_count == 0;
}

static void look_at(struct ring *ring, const struct epoll_event *event)
{
	if (event->events == 0)
		return;
	if (!event->data.ptr) {
		if (atomic_load(&ring->returned)) // seldom: the exchange is saved
			run_messages(oldest_first(atomic_exchange(&ring->returned, NULL)));
		run_messages(take_messages(ring, false));
		return;
	}
	struct ring_watch *watch = event->data.ptr;
	// Of a peer that has closed its side alone, nothing is known of the room: it may still not take what is sent.
	bool broken = event->events & (EPOLLHUP | EPOLLERR), closed = broken || event->events & EPOLLRDHUP;
	watch->ready(watch, (closed ? RING_CLOSED : 0) | (closed || event->events & EPOLLIN ? RING_READABLE : 0) |
				    (broken || event->events & EPOLLOUT ? RING_WRITABLE : 0));
}

static void look_at_events(struct ring *ring, unsigned count)
{
	ring->events = count;
	for (ring->event_at = 0; ring->event_at < ring->events;)
		look_at(ring, &ring->event[ring->event_at++]);
}

static void look_at_sockets(struct ring *ring, int timeout)
{
	int count = epoll_wait(ring->epoll_fd, ring->event, RING_EVENTS_MAX, timeout);
	look_at_events(ring, count > 0 ? (unsigned)count : 0); // less: a signal
}

_Static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP && POLLRDHUP == EPOLLRDHUP,
	       "what poll() says is what epoll says");

// Unlike the epoll, this tells what is there each time it looks. So what nobody takes up, since enough is under way, is not followed any
// more: the epoll tells it once more, and then is silent.
static void look_at_followed(struct ring *ring)
{
	struct pollfd look[RING_FOLLOWED_MAX];
	unsigned count = 0;
	for (unsigned i = 0; i < ring->followed_count; i++)
		look[i] = (struct pollfd){.fd = ring->followed[i]->fd, .events = (short)(WATCHED | (ring->followed[i]->room ? POLLOUT : 0))};
	if (ring->followed_count && poll(look, ring->followed_count, 0) > 0)
		for (unsigned i = 0; i < ring->followed_count; i++)
			if (look[i].revents)
				ring->event[count++] = (struct epoll_event){.events = (uint32_t)look[i].revents, .data.ptr = ring->followed[i]};
	look_at_events(ring, count);
	if (count && !ring->tasks)
		(void)unfollow_all(ring);
}

// Those of the last look on which something came that is taken up.
static void follow_events(struct ring *ring)
{
	for (unsigned i = 0; i < ring->events && ring->tasks; i++)
		if (ring->event[i].data.ptr && ring->event[i].events & EPOLLIN)
			follow(ring, ring->event[i].data.ptr);
}

// ---- a turn

static bool operation_ended(const struct ring *ring)
{
	return io_uring_cq_ready(&ring->uring) || IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_TASKRUN;
}

// At what is followed, and else, or every so often, at all others.
static bool look_once(struct ring *ring, unsigned look)
{
	look_at_followed(ring);
	if (ring->events == 0 && (ring->followed_count == 0 || look % RING_BUSY_TURNS == 0)) {
		look_at_sockets(ring, 0);
		follow_events(ring);
	}
	return ring->events || operation_ended(ring);
}

// Looks on for a moment; true when something came.
static bool ring_spin(struct ring *ring)
{
	uint64_t begin = clock_mono_ns(), last = begin, now = begin;
	bool came = false, away = false;
	for (unsigned look = 1; !came && now - begin < SPIN_NS; look++) {
		came = look_once(ring, look);
		now = clock_mono_ns();
		away |= now - last > SPIN_NS / 4;
		last = now;
	}
	spin_result(&ring->spin, came && !away);
	return came;
}

// From the toggle on an operation's end writes to the eventfd; one that ended before is seen by looking once more.
static void ring_sleep(struct ring *ring)
{
	if (spin_try(&ring->spin) && ring_spin(ring))
		return;
	if (ring->sleeps)
		ring->sleeps(ring);
	bool all = unfollow_all(ring);
	(void)io_uring_cq_eventfd_toggle(&ring->uring, true);
	atomic_thread_fence(memory_order_seq_cst);
	look_at_sockets(ring, operation_ended(ring) ? 0 : all ? -1 : RING_NAP_MS);
	if (!all)
		look_at_followed(ring);
	(void)io_uring_cq_eventfd_toggle(&ring->uring, false);
}

int ring_turn(struct ring *ring)
{
	bool any = run_tasks(ring);
	int code = io_uring_sq_ready(&ring->uring) ? io_uring_submit(&ring->uring) : 0;
	if (code < 0 && code != -EINTR && code != -EAGAIN && code != -EBUSY)
		return code;
	any |= reap(ring);
	if (!any && !ring->tasks && !io_uring_sq_ready(&ring->uring))
		ring_sleep(ring);
	else if (++ring->turn % RING_BUSY_TURNS == 0) {
		look_at_followed(ring);
		look_at_sockets(ring, 0);
	}
	return 0;
}

// Also behind others: whoever posted those may not have come to it yet.
static void wake(struct ring *ring)
{
	const uint64_t one = 1;
	ssize_t wrote;
	do
		wrote = write(ring->wake_fd, &one, sizeof(one));
	while (wrote < 0 && errno == EINTR);
	assert(wrote == sizeof(one)); // only a counter at its limit could block it
}

bool ring_post(struct ring *ring, struct ring_message *message)
{
	struct ring_message *newest = atomic_load(&ring->messages);
	do {
		if (newest == &ring_closed)
			return false;
		message->next = newest;
	} while (!atomic_compare_exchange_weak(&ring->messages, &newest, message));
	wake(ring);
	return true;
}

void ring_return(struct ring *ring, struct ring_message *message)
{
	message->next = atomic_load(&ring->returned);
	while (!atomic_compare_exchange_weak(&ring->returned, &message->next, message))
		continue;
	wake(ring);
}
