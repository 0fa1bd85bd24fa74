// SPDX-License-Identifier: Apache-2.0
// When a connection is dead: after 30 s in which nothing moved, and not because one frame needs longer. The channel over a line of some
// hundred bytes a second, on a clock that moves only where something waits.
#include "link/channel_transport.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RATE = 400, BODY = 64 << 10 }; // bytes a second: two minutes and a half for one frame

static struct line {
	struct channel_transport transport; // first
	int64_t now_ms;
	int64_t in_until_ms, out_until_ms; // nothing moves from then on
	unsigned char in[2 * BODY];
	size_t in_len, in_at;	// what the peer sends
	int64_t in_from_ms;	// and since when
	uint64_t out, room;	// sent; and as much fits between us and the peer's host
	int64_t out_from_ms;	// since when that takes bytes
	uint64_t answer_at;	// the peer answers when it has so many bytes
	bool dead;		// the host of the peer answers nothing at all: TCP says so
} line;

static struct channel *channel;

static uint64_t passed(int64_t from_ms, int64_t until_ms)
{
	int64_t to_ms = line.now_ms < until_ms ? line.now_ms : until_ms;
	return to_ms > from_ms ? (uint64_t)(to_ms - from_ms) * RATE / 1000 : 0;
}

static uint64_t taken(void)
{
	uint64_t most = passed(line.out_from_ms, line.out_until_ms);
	return most < line.out ? most : line.out;
}

static ssize_t wait_or(ssize_t n, int64_t deadline_ms)
{
	if (n > 0)
		return n;
	if (line.now_ms >= deadline_ms || line.dead)
		return -ETIMEDOUT;
	line.now_ms += 100;
	return 0;
}

static ssize_t line_send(struct channel_transport *transport, const void *data, size_t len, int64_t deadline_ms)
{
	(void)transport, (void)data;
	for (;;) {
		uint64_t left = line.out - taken(), free = line.room > left ? line.room - left : 0;
		if (free < line.room / 3) // as a socket: it says that there is room when a third is free
			free = 0;
		ssize_t n = wait_or((ssize_t)(free < len ? free : len), deadline_ms);
		if (n > 0)
			line.out += (uint64_t)n;
		if (n)
			return n;
	}
}

static ssize_t line_receive(struct channel_transport *transport, void *data, size_t cap, int64_t deadline_ms)
{
	(void)transport;
	for (;;) {
		if (line.answer_at && taken() >= line.answer_at) {
			line.in_from_ms = line.now_ms;
			line.answer_at = 0;
		}
		uint64_t here = line.answer_at ? 0 : passed(line.in_from_ms, line.in_until_ms);
		size_t have = here < line.in_len ? (size_t)here : line.in_len;
		size_t more = have > line.in_at ? have - line.in_at : 0;
		ssize_t n = wait_or((ssize_t)(more < cap ? more : cap), deadline_ms);
		if (n > 0) {
			memcpy(data, line.in + line.in_at, (size_t)n);
			line.in_at += (size_t)n;
		}
		if (n)
			return n;
	}
}

static int64_t line_now(struct channel_transport *transport)
{
	(void)transport;
	return line.now_ms;
}

static void line_nothing(struct channel_transport *transport)
{
	(void)transport;
}

static int line_fd(struct channel_transport *transport)
{
	(void)transport;
	return -1;
}

static uint64_t line_out(struct channel_transport *transport)
{
	(void)transport;
	return line.out;
}

static uint64_t line_in(struct channel_transport *transport)
{
	(void)transport;
	return line.in_at;
}

static uint64_t line_left(struct channel_transport *transport)
{
	(void)transport;
	return line.out - taken();
}

static void line_close(struct channel_transport *transport, bool sound)
{
	(void)transport, (void)sound;
}

static const struct channel_transport_ops line_ops = {
	.send = line_send,
	.receive = line_receive,
	.now_ms = line_now,
	.finish = line_nothing,
	.abort = line_nothing,
	.fd = line_fd,
	.bytes_out = line_out,
	.bytes_in = line_in,
	.bytes_left = line_left,
	.close = line_close,
};

static int setup(void **state)
{
	(void)state;
	const struct pin peer = {.bytes = {1}};
	line = (struct line){.transport = {.ops = &line_ops}, .now_ms = 1000, .in_until_ms = INT64_MAX, .out_until_ms = INT64_MAX, .room = 64 << 10};
	assert_int_equal(channel_over(&line.transport, &peer, &channel, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	channel_close(channel);
	return 0;
}

// The peer says a PONG, and a DIFFERS that is as long as the largest frames are.
static void peer_sends_a_large_frame(void)
{
	line.in_len = wire_put_empty(line.in, sizeof(line.in), WIRE_PONG);
	size_t at = line.in_len;
	line.in_len += wire_put_empty(line.in + at, sizeof(line.in) - at, WIRE_COMMITTED);
	const uint32_t body = BODY;
	for (unsigned i = 0; i < 4; i++)
		line.in[at + i] = (unsigned char)(body >> 8 * i);
	line.in_len += BODY;
	line.in_from_ms = line.now_ms;
}

static int expect(int timeout_ms)
{
	struct wire_frame frame;
	struct wire_failure failure;
	return channel_expect(channel, WIRE_COMMITTED, timeout_ms, &frame, &failure, NULL);
}

// So much is put, and leaves or does not.
static int send_bytes(size_t len)
{
	void *to = channel_room(channel, len);
	assert_non_null(to);
	memset(to, 0, len);
	assert_int_equal(channel_put(channel, len), 0);
	return channel_flush(channel, NULL);
}

// --- the tests ---

static void a_large_frame_that_trickles_in_is_waited_for(void **state)
{
	(void)state;
	peer_sends_a_large_frame();
	assert_int_equal(expect(CHANNEL_STALL_MS), 0);
	assert_true(line.now_ms > 4 * CHANNEL_STALL_MS);
}

static void a_frame_of_which_nothing_comes_any_more_is_given_up_after_30_s(void **state)
{
	(void)state;
	peer_sends_a_large_frame();
	line.in_until_ms = 70 * 1000;
	assert_int_equal(expect(CHANNEL_STALL_MS), -ETIMEDOUT);
	assert_in_range(line.now_ms, 70 * 1000 + CHANNEL_STALL_MS - 1000, 70 * 1000 + CHANNEL_STALL_MS + 1000);
}

static void what_trickles_out_is_waited_for(void **state)
{
	(void)state;
	line.out_from_ms = line.now_ms;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(send_bytes(BODY), 0); // more than there is room for
	assert_true(line.now_ms > 4 * CHANNEL_STALL_MS);
}

static void an_answer_is_waited_for_while_the_question_trickles_out(void **state)
{
	(void)state;
	line.out_from_ms = line.now_ms;
	line.answer_at = BODY;
	line.in_len = wire_put_empty(line.in, sizeof(line.in), WIRE_PONG);
	assert_int_equal(send_bytes(BODY), 0);
	assert_true(line.now_ms < 2000); // it is on its way, all of it
	assert_int_equal(expect(CHANNEL_STALL_MS), -ETIMEDOUT); // PONG is no answer
	assert_true(line.in_at == line.in_len);
	assert_in_range(line.now_ms, BODY * 1000 / RATE + CHANNEL_STALL_MS, BODY * 1000 / RATE + CHANNEL_STALL_MS + 3000);
}

// So that a thin line is not taken for a receiver that is slow to commit.
static void what_is_on_its_way_is_waited_for_and_no_longer(void **state)
{
	(void)state;
	line.room = BODY;
	line.out_from_ms = line.now_ms;
	assert_int_equal(send_bytes(BODY), 0);
	assert_true(line.now_ms < 2000);
	line.in_len = wire_put_empty(line.in, sizeof(line.in), WIRE_PONG); // is no answer, as an ACK is none
	line.in_from_ms = line.now_ms;
	channel_drain(channel);
	int64_t all_ms = 1000 + (int64_t)BODY * 1000 / RATE;
	assert_in_range(line.now_ms, all_ms - CHANNEL_SMALL * 1000 / RATE - 1000, all_ms + 1000);
	int64_t then_ms = line.now_ms;
	channel_drain(channel);
	assert_true(line.now_ms == then_ms);
	assert_int_equal(expect(CHANNEL_STALL_MS), -ETIMEDOUT); // the connection lives, and the answer may still come
}

static void what_is_on_its_way_to_nobody_is_waited_for_30_s(void **state)
{
	(void)state;
	line.room = BODY;
	line.out_from_ms = line.now_ms;
	line.out_until_ms = 50 * 1000;
	assert_int_equal(send_bytes(BODY), 0);
	channel_drain(channel);
	assert_in_range(line.now_ms, 50 * 1000 + CHANNEL_STALL_MS - 1000, 50 * 1000 + CHANNEL_STALL_MS + 1000);
	line.dead = true;
	int64_t then_ms = line.now_ms;
	channel_drain(channel);
	assert_true(line.now_ms == then_ms);
}

// A refusal may come while much is still unsent.
static void answer_ends_the_wait_for_what_is_on_its_way(void **state)
{
	(void)state;
	line.room = BODY;
	line.out_from_ms = line.now_ms;
	assert_int_equal(send_bytes(BODY), 0);
	line.in_len = wire_put_empty(line.in, sizeof(line.in), WIRE_PONG); // which is none
	line.in_len += wire_put_empty(line.in + line.in_len, sizeof(line.in) - line.in_len, WIRE_COMMITTED);
	line.in_from_ms = line.out_from_ms = line.now_ms;
	channel_drain(channel);
	assert_true(line.now_ms < 3000 && line.in_at == line.in_len);
	assert_int_equal(expect(1), 0);
}

static void a_peer_that_takes_nothing_is_given_up_after_30_s(void **state)
{
	(void)state;
	line.out_from_ms = line.now_ms;
	line.out_until_ms = 50 * 1000;
	assert_int_equal(send_bytes(BODY), 0);
	assert_int_equal(send_bytes(BODY), -ETIMEDOUT);
	assert_in_range(line.now_ms, 50 * 1000 + CHANNEL_STALL_MS - 1000, 50 * 1000 + CHANNEL_STALL_MS + 1000);
}

// Its host takes every PING, and nobody is there who answers.
static void small_messages_that_are_taken_are_no_sign_of_life(void **state)
{
	(void)state;
	line.out_from_ms = line.now_ms;
	(void)channel_moves(channel);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(send_bytes(WIRE_HEADER_SIZE), 0);
		assert_false(channel_moves(channel)); // on its way
		line.now_ms += 10;
		assert_false(channel_moves(channel)); // some of it is there
		line.now_ms += 10 * 1000;
		assert_false(channel_moves(channel)); // all of it
	}
}

static void a_host_that_tcp_says_is_gone_is_not_waited_for(void **state)
{
	(void)state;
	line.dead = true;
	line.room = 0;
	assert_int_equal(expect(CHANNEL_STALL_MS), -ETIMEDOUT);
	assert_int_equal(line.now_ms, 1000);
	teardown(NULL);
	setup(NULL);
	line.dead = true;
	line.room = 0;
	assert_int_equal(send_bytes(100), -ETIMEDOUT);
	assert_int_equal(line.now_ms, 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_large_frame_that_trickles_in_is_waited_for),
		TEST(a_frame_of_which_nothing_comes_any_more_is_given_up_after_30_s),
		TEST(what_trickles_out_is_waited_for),
		TEST(an_answer_is_waited_for_while_the_question_trickles_out),
		TEST(what_is_on_its_way_is_waited_for_and_no_longer),
		TEST(what_is_on_its_way_to_nobody_is_waited_for_30_s),
		TEST(answer_ends_the_wait_for_what_is_on_its_way),
		TEST(a_peer_that_takes_nothing_is_given_up_after_30_s),
		TEST(small_messages_that_are_taken_are_no_sign_of_life),
		TEST(a_host_that_tcp_says_is_gone_is_not_waited_for),
	};
	return cmocka_run_group_tests_name("silence", tests, NULL, NULL);
}
