// SPDX-License-Identifier: Apache-2.0
// The loop that everything of an export runs on: nothing that happens is slept over, and nobody keeps the others waiting.
#include "replicator/holder.h"
#include "replicator/ring.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

struct peer { // one end of a socket that is watched, and the other
	struct ring_watch watch;
	int fd, other;
	unsigned ready;
	bool closed, room;
	struct peer *unwatches; // when it is ready
	bool takes;		// what came, in a task, as a connection does
	struct ring_task task;
};

static struct ring ring;
static bool no_memory; // for the epoll: as when /proc/sys/fs/epoll/max_user_watches is used up

// In place of libc's.
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	if (no_memory && operation == EPOLL_CTL_ADD) {
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event);
}

static int set_up(void **state)
{
	struct err err = {0};
	(void)state;
	if (ring_open(&ring, &err) || ring_init(&ring, &err))
		fail_msg("%s", err.text);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ring_refuse(&ring);
	ring_done(&ring);
	ring_close(&ring);
	return 0;
}

static void on_ready(struct ring_watch *watch, unsigned events)
{
	struct peer *peer = HOLDER(watch, struct peer, watch);
	peer->ready += events & RING_READABLE;
	if (peer->takes && events & RING_READABLE)
		ring_later(&ring, &peer->task);
	peer->room |= events & RING_WRITABLE;
	peer->closed |= events & RING_CLOSED;
	if (peer->unwatches)
		ring_unwatch(&ring, &peer->unwatches->watch);
}

static void on_take(struct ring_task *task)
{
	char byte[16];
	(void)recv(HOLDER(task, struct peer, task)->fd, byte, sizeof(byte), MSG_DONTWAIT);
}

static void peer_open(struct peer *peer)
{
	int fd[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	*peer = (struct peer){.watch = {.ready = on_ready}, .task = {.run = on_take}, .fd = fd[0], .other = fd[1]};
	assert_int_equal(ring_watch(&ring, peer->fd, &peer->watch), 0);
}

static void peer_close(struct peer *peer)
{
	ring_unwatch(&ring, &peer->watch);
	(void)close(peer->fd);
	if (peer->other >= 0)
		(void)close(peer->other);
}

static void peer_says(struct peer *peer)
{
	assert_int_equal(write(peer->other, "x", 1), 1);
}

static void sockets_are_ready_once_for_each_time_that_something_comes(void **state)
{
	struct peer peer;
	(void)state;
	peer_open(&peer);
	for (unsigned n = 1; n <= 3; n++) {
		peer_says(&peer);
		while (peer.ready < n)
			assert_int_equal(ring_turn(&ring), 0);
		assert_int_equal(peer.ready, n); // although nothing was received
	}
	assert_false(peer.closed);
	(void)close(peer.other);
	peer.other = -1;
	while (!peer.closed)
		assert_int_equal(ring_turn(&ring), 0);
	peer_close(&peer);
}

static void room_is_reported_while_it_is_asked_for(void **state)
{
	static char much[1 << 20];
	struct peer peer;
	(void)state;
	peer_open(&peer);
	while (send(peer.fd, much, sizeof(much), MSG_DONTWAIT) > 0)
		continue;
	ring_watch_room(&ring, &peer.watch, true);
	peer_says(&peer);
	while (!peer.ready)
		assert_int_equal(ring_turn(&ring), 0);
	assert_false(peer.room);
	while (recv(peer.other, much, sizeof(much), MSG_DONTWAIT) > 0)
		continue;
	while (!peer.room)
		assert_int_equal(ring_turn(&ring), 0);
	ring_watch_room(&ring, &peer.watch, false);
	peer.room = false;
	assert_int_equal(send(peer.fd, much, 1, MSG_DONTWAIT), 1);
	assert_int_equal(recv(peer.other, much, 1, 0), 1);
	peer_says(&peer);
	for (unsigned before = peer.ready; peer.ready == before;)
		assert_int_equal(ring_turn(&ring), 0);
	assert_false(peer.room);
	peer_close(&peer);
}

// Its end of sending says nothing of the room: else who waits for room would be called for ever.
static void peer_that_only_stopped_sending_has_no_room_for_it(void **state)
{
	static char much[1 << 20];
	struct peer peer;
	(void)state;
	peer_open(&peer);
	while (send(peer.fd, much, sizeof(much), MSG_DONTWAIT) > 0)
		continue;
	assert_int_equal(shutdown(peer.other, SHUT_WR), 0);
	for (unsigned i = 0; i < 3; i++) {
		peer.closed = false;
		ring_watch_room(&ring, &peer.watch, true);
		while (!peer.closed)
			assert_int_equal(ring_turn(&ring), 0);
		assert_false(peer.room);
	}
	assert_int_equal(shutdown(peer.other, SHUT_RD), 0);
	while (!peer.room)
		assert_int_equal(ring_turn(&ring), 0);
	peer_close(&peer);
}

static void socket_that_is_unwatched_meanwhile_is_not_ready_any_more(void **state)
{
	struct peer one, two;
	(void)state;
	peer_open(&one);
	peer_open(&two);
	one.unwatches = &two;
	two.unwatches = &one;
	peer_says(&one);
	peer_says(&two);
	while (!one.ready && !two.ready)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(one.ready + two.ready, 1);
	peer_close(&one);
	peer_close(&two);
}

// ---- sockets that are followed while the thread looks on

static bool in_the_epoll(const struct peer *peer)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = (void *)(uintptr_t)&peer->watch};
	return epoll_ctl(ring.epoll_fd, EPOLL_CTL_MOD, peer->fd, &event) == 0;
}

static bool followed(const struct peer *peer)
{
	for (unsigned i = 0; i < ring.followed_count; i++)
		if (ring.followed[i] == &peer->watch)
			return true;
	return false;
}

static void turns_until_ready(struct peer *peer, unsigned times)
{
	while (peer->ready < times || ring.tasks)
		assert_int_equal(ring_turn(&ring), 0);
}

// Whether it does can depend on the machine, which may take the processor away just then: so it is said again until it is.
static void peer_is_followed(struct peer *peer)
{
	peer->takes = true;
	for (unsigned i = 0; i < 1000 && !followed(peer); i++) {
		ring.spin = (struct spin){0};
		peer_says(peer);
		turns_until_ready(peer, peer->ready + 1);
	}
	assert_true(followed(peer));
	assert_false(in_the_epoll(peer));
}

static void *say_later(void *fd)
{
	(void)usleep(20 * 1000); // long after the loop went to sleep, most of the time; either way the result is the same
	assert_int_equal(write(*(int *)fd, "x", 1), 1);
	return NULL;
}

static void socket_that_is_followed_is_back_before_the_thread_sleeps(void **state)
{
	struct peer peer;
	pthread_t thread;
	(void)state;
	peer_open(&peer);
	for (unsigned n = 0; n < 5; n++) {
		peer_is_followed(&peer);
		unsigned ready = peer.ready;
		assert_int_equal(pthread_create(&thread, NULL, say_later, &peer.other), 0);
		turns_until_ready(&peer, ready + 1);
		(void)pthread_join(thread, NULL);
		assert_int_equal(peer.ready, ready + 1);
	}
	peer_close(&peer);
}

static void socket_that_is_followed_tells_of_room_and_of_its_end(void **state)
{
	struct peer peer;
	(void)state;
	peer_open(&peer);
	bool looking_on = false; // and not by the epoll, when the thread would sleep: if that looked on in vain, or lost its processor, once more
	for (unsigned i = 0; i < 1000 && !looking_on; i++) {
		peer_is_followed(&peer);
		peer.room = false;
		ring_watch_room(&ring, &peer.watch, true);
		ring.spin = (struct spin){0};
		assert_int_equal(ring_turn(&ring), 0);
		assert_true(peer.room);
		looking_on = ring.spin.penalty == 0;
		ring_watch_room(&ring, &peer.watch, false);
	}
	assert_true(looking_on);
	peer_is_followed(&peer);
	(void)close(peer.other);
	peer.other = -1;
	while (!peer.closed)
		assert_int_equal(ring_turn(&ring), 0);
	peer_close(&peer);
}

// A connection with enough under way leaves in the socket what comes. The thread must be able to sleep then.
static void what_nobody_takes_up_is_told_no_more_than_twice(void **state)
{
	struct peer peer, other;
	pthread_t thread;
	(void)state;
	peer_open(&peer);
	peer_open(&other);
	peer_is_followed(&peer);
	peer.takes = false;
	unsigned ready = peer.ready;
	peer_says(&peer);
	assert_int_equal(pthread_create(&thread, NULL, say_later, &other.other), 0);
	unsigned turns = 0;
	for (; !other.ready; turns++)
		assert_int_equal(ring_turn(&ring), 0);
	(void)pthread_join(thread, NULL);
	assert_true(peer.ready == ready + 1 || peer.ready == ready + 2);
	assert_true(turns < 20);
	assert_false(followed(&peer));
	assert_true(in_the_epoll(&peer));
	peer_close(&peer);
	peer_close(&other);
}

static void socket_that_is_unwatched_is_followed_no_more(void **state)
{
	struct peer one, two;
	(void)state;
	peer_open(&one);
	peer_open(&two);
	for (unsigned i = 0; i < 1000 && !(followed(&one) && followed(&two)); i++) {
		peer_is_followed(&one);
		peer_is_followed(&two);
	}
	one.ready = two.ready = 0;
	one.unwatches = &two;
	two.unwatches = &one;
	peer_says(&one);
	peer_says(&two);
	while (!one.ready && !two.ready)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(one.ready + two.ready, 1);
	assert_true(!followed(&one) || !followed(&two));
	peer_close(&one);
	peer_close(&two);
	assert_int_equal(ring.followed_count, 0);
}

static void no_more_are_followed_than_there_is_room_for(void **state)
{
	struct peer peer[RING_FOLLOWED_MAX + 2];
	(void)state;
	for (unsigned i = 0; i < RING_FOLLOWED_MAX + 2; i++) {
		peer_open(&peer[i]);
		peer[i].takes = true;
	}
	for (unsigned n = 1; n <= 50; n++) {
		ring.spin = (struct spin){0};
		for (unsigned i = 0; i < RING_FOLLOWED_MAX + 2; i++)
			peer_says(&peer[i]);
		for (unsigned i = 0; i < RING_FOLLOWED_MAX + 2; i++) {
			turns_until_ready(&peer[i], n);
			assert_int_equal(peer[i].ready, n);
			assert_true(followed(&peer[i]) != in_the_epoll(&peer[i]));
		}
	}
	for (unsigned i = 0; i < RING_FOLLOWED_MAX + 2; i++)
		peer_close(&peer[i]);
}

// Then the thread sleeps in short naps, and goes on trying.
static void socket_that_cannot_be_put_back_is_not_forgotten(void **state)
{
	struct peer peer;
	pthread_t thread;
	(void)state;
	peer_open(&peer);
	peer_is_followed(&peer);
	no_memory = true;
	for (unsigned n = 0; n < 3; n++) {
		unsigned ready = peer.ready;
		ring.spin.skip = UINT_MAX; // it does not look on
		assert_int_equal(pthread_create(&thread, NULL, say_later, &peer.other), 0);
		turns_until_ready(&peer, ready + 1);
		(void)pthread_join(thread, NULL);
		assert_true(ring.spin.skip > 0);
		assert_true(followed(&peer));
	}
	no_memory = false;
	struct peer other;
	peer_open(&other);
	assert_int_equal(pthread_create(&thread, NULL, say_later, &other.other), 0);
	while (!other.ready)
		assert_int_equal(ring_turn(&ring), 0);
	(void)pthread_join(thread, NULL);
	assert_true(in_the_epoll(&peer));
	peer_close(&peer);
	peer_close(&other);
}

// ---- operations and messages

struct pipe_read {
	struct ring_op op;
	int res;
	char byte;
};

static void on_read(struct ring_op *op, int res)
{
	HOLDER(op, struct pipe_read, op)->res = res;
}

static void operation_that_ends_while_the_loop_sleeps_wakes_it(void **state)
{
	int fd[2];
	pthread_t thread;
	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (unsigned n = 0; n < 5; n++) {
		struct pipe_read read = {.op = {.done = on_read}};
		io_uring_prep_read(ring_sqe(&ring, &read.op), fd[0], &read.byte, 1, (__u64)-1);
		assert_int_equal(pthread_create(&thread, NULL, say_later, &fd[1]), 0);
		while (!read.res)
			assert_int_equal(ring_turn(&ring), 0);
		assert_int_equal(read.res, 1);
		(void)pthread_join(thread, NULL);
	}
	(void)close(fd[0]);
	(void)close(fd[1]);
}

struct note {
	struct ring_message message;
	bool ran;
};

static void on_note(struct ring_message *message)
{
	HOLDER(message, struct note, message)->ran = true;
}

static void *post_later(void *note)
{
	(void)usleep(20 * 1000);
	assert_true(ring_post(&ring, &((struct note *)note)->message));
	return NULL;
}

static void message_of_another_thread_wakes_the_loop(void **state)
{
	pthread_t thread;
	(void)state;
	for (unsigned n = 0; n < 5; n++) {
		struct note note = {.message = {.run = on_note}};
		assert_int_equal(pthread_create(&thread, NULL, post_later, &note), 0);
		while (!note.ran)
			assert_int_equal(ring_turn(&ring), 0);
		(void)pthread_join(thread, NULL);
	}
}

struct numbered {
	struct ring_message message;
	unsigned number;
};

static unsigned next_number;

static void on_numbered(struct ring_message *message)
{
	assert_int_equal(HOLDER(message, struct numbered, message)->number, next_number++);
}

// A cycle's keep after its batches, a stop after all.
static void messages_run_in_the_order_in_which_they_were_posted(void **state)
{
	struct numbered message[5];
	(void)state;
	next_number = 0;
	for (unsigned n = 0; n < 5; n++) {
		message[n] = (struct numbered){.message = {.run = on_numbered}, .number = n};
		assert_true(ring_post(&ring, &message[n].message));
	}
	while (next_number < 5)
		assert_int_equal(ring_turn(&ring), 0);
}

static void messages_are_refused_after_the_end_and_run_before_it(void **state)
{
	struct note before = {.message = {.run = on_note}}, after = {.message = {.run = on_note}};
	(void)state;
	assert_true(ring_post(&ring, &before.message));
	ring_refuse(&ring);
	assert_true(before.ran);
	assert_false(ring_post(&ring, &after.message));
	assert_false(after.ran);
}

// ---- a busy loop

struct busy {
	struct ring_task task;
	unsigned runs;
};

static void on_busy(struct ring_task *task)
{
	HOLDER(task, struct busy, task)->runs++;
	ring_later(&ring, task);
}

static void on_last(struct ring_task *task)
{
	HOLDER(task, struct busy, task)->runs++;
}

static void work_without_end_keeps_neither_sockets_nor_operations_waiting(void **state)
{
	struct busy busy = {.task = {.run = on_busy}};
	struct pipe_read read = {.op = {.done = on_read}};
	struct peer peer;
	int fd[2];
	(void)state;
	assert_int_equal(pipe(fd), 0);
	peer_open(&peer);
	ring_later(&ring, &busy.task);
	peer_says(&peer);
	io_uring_prep_read(ring_sqe(&ring, &read.op), fd[0], &read.byte, 1, (__u64)-1);
	assert_int_equal(write(fd[1], "x", 1), 1);
	unsigned turns = 0;
	for (; turns < 1000 && !(peer.ready && read.res); turns++)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(peer.ready, 1);
	assert_int_equal(read.res, 1);
	assert_true(busy.runs >= turns); // it went on all the while
	peer_close(&peer);
	(void)close(fd[0]);
	(void)close(fd[1]);
}

static void work_that_is_queued_meanwhile_comes_with_the_next_turn(void **state)
{
	struct busy one = {.task = {.run = on_busy}}, other = {.task = {.run = on_busy}};
	(void)state;
	ring_later(&ring, &one.task);
	ring_later(&ring, &other.task);
	for (unsigned turn = 1; turn <= 3; turn++) {
		assert_int_equal(ring_turn(&ring), 0);
		assert_int_equal(one.runs, turn);
		assert_int_equal(other.runs, turn);
	}
	one.task.run = other.task.run = on_last;
	assert_int_equal(ring_turn(&ring), 0);
}

// ---- looking on before sleep

static unsigned tries_in(struct spin *spin, unsigned sleeps, bool success)
{
	unsigned tries = 0;
	for (unsigned i = 0; i < sleeps; i++) {
		if (!spin_try(spin))
			continue;
		tries++;
		spin_result(spin, success);
	}
	return tries;
}

static void spinning_goes_on_while_it_succeeds(void **state)
{
	struct spin spin = {0};
	(void)state;
	assert_int_equal(tries_in(&spin, 1000, true), 1000);
}

static void spinning_in_vain_becomes_rare(void **state)
{
	struct spin spin = {0};
	(void)state;
	(void)tries_in(&spin, 2 * (SPIN_SKIP_MAX + 1), false);
	assert_int_equal(tries_in(&spin, 10 * (SPIN_SKIP_MAX + 1), false), 10);
	(void)tries_in(&spin, SPIN_SKIP_MAX, false); // however long it was in vain, it is tried again, and one success is enough to go on
	while (!spin_try(&spin))
		continue;
	spin_result(&spin, true);
	assert_true(spin_try(&spin));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sockets_are_ready_once_for_each_time_that_something_comes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(room_is_reported_while_it_is_asked_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(peer_that_only_stopped_sending_has_no_room_for_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(socket_that_is_unwatched_meanwhile_is_not_ready_any_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(socket_that_is_followed_is_back_before_the_thread_sleeps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(socket_that_is_followed_tells_of_room_and_of_its_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_nobody_takes_up_is_told_no_more_than_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(socket_that_is_unwatched_is_followed_no_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_more_are_followed_than_there_is_room_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(socket_that_cannot_be_put_back_is_not_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(operation_that_ends_while_the_loop_sleeps_wakes_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(message_of_another_thread_wakes_the_loop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(messages_run_in_the_order_in_which_they_were_posted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(messages_are_refused_after_the_end_and_run_before_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(work_without_end_keeps_neither_sockets_nor_operations_waiting, set_up, tear_down),
		cmocka_unit_test_setup_teardown(work_that_is_queued_meanwhile_comes_with_the_next_turn, set_up, tear_down),
		cmocka_unit_test(spinning_goes_on_while_it_succeeds),
		cmocka_unit_test(spinning_in_vain_becomes_rare),
	};
	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
