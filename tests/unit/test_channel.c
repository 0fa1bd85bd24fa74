// SPDX-License-Identifier: Apache-2.0
// Connections: who is let in, what a peer that misbehaves gets, and that a refusal arrives.
// The peer is a thread with a bare socket or an SSL object of its own, so that it can do what a channel would not.
#include "base/bytes.h"
#include "link/channel.h"
#include "link/net.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	struct temp temp;
	struct identity *server, *client;
	SSL_CTX *server_tls, *client_tls;
	int listen_fd;
	char address[NET_ADDRESS_SIZE];
	struct channel *channel; // the accepted side
	struct err err;
	pthread_t thread;
	// What the peer's thread does and found.
	SSL_CTX *peer_tls;
	const unsigned char *junk;
	size_t junk_len;
	struct channel *peer;
	struct err peer_err;
	int peer_rc;
	uint64_t peer_sent;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	temp_open(&f->temp);
	assert_int_equal(identity_load(f->temp.root, "server.pem", &f->server, NULL), 0);
	assert_int_equal(identity_load(f->temp.root, "client.pem", &f->client, NULL), 0);
	f->server_tls = identity_context(f->server, true, NULL);
	f->client_tls = identity_context(f->client, false, NULL);
	assert_true(f->server_tls && f->client_tls);
	f->listen_fd = net_listen("127.0.0.1:0", &f->err);
	assert_true(f->listen_fd >= 0);
	assert_int_equal(net_local(f->listen_fd, f->address, sizeof(f->address)), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	channel_close(f->channel);
	channel_close(f->peer);
	(void)close(f->listen_fd);
	SSL_CTX_free(f->server_tls);
	SSL_CTX_free(f->client_tls);
	SSL_CTX_free(f->peer_tls);
	identity_free(f->server);
	identity_free(f->client);
	temp_close(&f->temp);
	free(f);
	return 0;
}

static int accept_channel(struct fixture *f)
{
	struct pollfd wait = {.fd = f->listen_fd, .events = POLLIN};
	assert_int_equal(poll(&wait, 1, 10000), 1);
	int fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	f->err = (struct err){0};
	return channel_accept(f->server_tls, fd, &f->channel, &f->err);
}

static void peer_start(struct fixture *f, void *(*run)(void *))
{
	assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
}

static void peer_join(struct fixture *f)
{
	assert_int_equal(pthread_join(f->thread, NULL), 0);
}

static void *connect_well(void *context)
{
	struct fixture *f = context;
	f->peer_rc = channel_connect(f->client_tls, f->address, identity_pin(f->server), &f->peer, &f->peer_err);
	return NULL;
}

static void connect_both(struct fixture *f)
{
	peer_start(f, connect_well);
	assert_int_equal(accept_channel(f), 0);
	peer_join(f);
	assert_int_equal(f->peer_rc, 0);
}

static int option_of(const struct channel *channel, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	assert_int_equal(getsockopt(channel_fd(channel), level, name, &value, &len), 0);
	return value;
}

// What TCP asks by itself finds a dead host where no message would: while a commit is waited for.
static void a_host_that_is_gone_is_found_within_30_s(void **state)
{
	struct fixture *f = *state;
	connect_both(f);
	struct channel *const both[] = {f->channel, f->peer};
	for (int i = 0; i < 2; i++) {
		int asks_s = option_of(both[i], IPPROTO_TCP, TCP_KEEPINTVL) * option_of(both[i], IPPROTO_TCP, TCP_KEEPCNT);
		assert_int_equal(option_of(both[i], SOL_SOCKET, SO_KEEPALIVE), 1);
		assert_true(asks_s > 0 && option_of(both[i], IPPROTO_TCP, TCP_KEEPIDLE) + asks_s <= 30);
		assert_int_equal(option_of(both[i], IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
	}
}

static int blocking_socket(struct fixture *f)
{
	int fd = net_connect(f->address, 10000, NULL);
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		abort();
	return fd;
}

// --- who is let in ---

static void both_sides_know_the_other_by_its_key(void **state)
{
	struct fixture *f = *state;
	connect_both(f);
	assert_true(pin_equal(channel_peer(f->channel), identity_pin(f->client)));
	assert_true(pin_equal(channel_peer(f->peer), identity_pin(f->server)));
	assert_false(pin_equal(identity_pin(f->server), identity_pin(f->client)));
}

static void *connect_to_another_pin(void *context)
{
	struct fixture *f = context;
	f->peer_rc = channel_connect(f->client_tls, f->address, identity_pin(f->client), &f->peer, &f->peer_err);
	return NULL;
}

static void server_with_another_key_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	peer_start(f, connect_to_another_pin);
	(void)accept_channel(f);
	peer_join(f);
	assert_int_equal(f->peer_rc, -EKEYREJECTED);
	assert_null(f->peer);
	assert_non_null(strstr(f->peer_err.text, f->address));
	assert_non_null(strstr(f->peer_err.text, "another key"));
}

// A handshake with an SSL object of its own, in whatever way `peer_tls` says.
static void *handshake_somehow(void *context)
{
	struct fixture *f = context;
	int fd = blocking_socket(f);
	SSL *ssl = SSL_new(f->peer_tls);
	char byte;
	if (!ssl || SSL_set_fd(ssl, fd) != 1)
		abort();
	// TLS 1.3: the client is done before the server has looked at its certificate; a read shows what it thought of it.
	f->peer_rc = SSL_connect(ssl) == 1 && SSL_read(ssl, &byte, 1) == 1 ? 0 : -EPROTO;
	SSL_free(ssl);
	(void)close(fd);
	return NULL;
}

static void is_refused(struct fixture *f)
{
	peer_start(f, handshake_somehow);
	int rc = accept_channel(f);
	peer_join(f);
	assert_int_equal(rc, -EPROTO);
	assert_int_equal(f->peer_rc, -EPROTO);
	assert_null(f->channel);
	assert_true(f->err.text[0]);
}

static void tls_1_2_is_refused(void **state)
{
	struct fixture *f = *state;
	f->peer_tls = identity_context(f->client, false, NULL);
	assert_true(SSL_CTX_set_min_proto_version(f->peer_tls, TLS1_2_VERSION));
	assert_true(SSL_CTX_set_max_proto_version(f->peer_tls, TLS1_2_VERSION));
	is_refused(f);
}

static void another_protocol_or_none_is_refused(void **state)
{
	struct fixture *f = *state;
	static const unsigned char other[] = "\x08kagami/2", http[] = "\x02h2\x08http/1.1";
	f->peer_tls = identity_context(f->client, false, NULL);
	assert_int_equal(SSL_CTX_set_alpn_protos(f->peer_tls, other, sizeof(other) - 1), 0);
	is_refused(f);
	assert_int_equal(SSL_CTX_set_alpn_protos(f->peer_tls, http, sizeof(http) - 1), 0);
	is_refused(f);
	assert_int_equal(SSL_CTX_set_alpn_protos(f->peer_tls, NULL, 0), 0);
	is_refused(f);
}

static void client_without_a_certificate_is_refused(void **state)
{
	struct fixture *f = *state;
	static const unsigned char ours[] = "\x08kagami/1";
	f->peer_tls = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_set_alpn_protos(f->peer_tls, ours, sizeof(ours) - 1), 0);
	is_refused(f);
}

static void *send_junk(void *context)
{
	struct fixture *f = context;
	int fd = blocking_socket(f);
	char sink[4096];
	(void)!send(fd, f->junk, f->junk_len, MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	while (recv(fd, sink, sizeof(sink), 0) > 0)
		;
	(void)close(fd);
	return NULL;
}

static void garbage_instead_of_a_handshake_ends_the_connection(void **state)
{
	struct fixture *f = *state;
	static const unsigned char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	static const unsigned char record[] = {0x16, 3,	   1,	 0x40, 0, 1,
					       0,    0x3f, 0xfc, 3,    3}; // a hello that does not come
	unsigned char noise[5000];
	uint64_t seed = 9;
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (unsigned char)draw(&seed);
	const struct {
		const unsigned char *data;
		size_t len;
	} cases[] = {{http, sizeof(http) - 1}, {record, sizeof(record)}, {noise, sizeof(noise)}, {noise, 0}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		f->junk = cases[i].data;
		f->junk_len = cases[i].len;
		peer_start(f, send_junk);
		int rc = accept_channel(f);
		peer_join(f);
		assert_true(rc == -EPROTO || rc == -ECONNRESET);
		assert_null(f->channel);
		assert_true(f->err.text[0]);
	}
}

// --- frames ---

static void put_zeros(struct channel *channel, uint64_t first)
{
	struct wire_zeros zeros = {.first = first, .count = 1};
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	assert_non_null(to);
	assert_int_equal(channel_put(channel, wire_put_zeros(to, WIRE_FRAME_MAX, &zeros)), 0);
}

static void frames_arrive_whole_and_in_order(void **state)
{
	struct fixture *f = *state;
	connect_both(f);
	for (uint64_t i = 0; i < 5000; i++)
		put_zeros(f->peer, i);
	assert_int_equal(channel_flush(f->peer, &f->err), 0);
	for (uint64_t i = 0; i < 5000; i++) {
		struct wire_frame frame;
		struct wire_zeros zeros;
		assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), 1);
		assert_int_equal(wire_get_zeros(&frame, &zeros), 0);
		assert_true(zeros.first == i);
	}
	struct wire_frame frame;
	assert_int_equal(channel_get(f->channel, 0, &frame, &f->err), 0);
	assert_true(channel_bytes_in(f->channel) == channel_bytes_out(f->peer));
}

static void *send_a_large_frame(void *context)
{
	struct fixture *f = context;
	unsigned char *to = channel_room(f->peer, WIRE_FRAME_MAX);
	if (!to)
		abort();
	put_le32(to, WIRE_BODY_MAX);
	put_le32(to + 4, WIRE_BLOCK);
	for (size_t i = 0; i < WIRE_BODY_MAX; i++)
		to[WIRE_HEADER_SIZE + i] = (unsigned char)(i * 7 >> 3);
	f->peer_rc = channel_put(f->peer, WIRE_FRAME_MAX);
	if (f->peer_rc == 0)
		f->peer_rc = channel_flush(f->peer, &f->peer_err);
	return NULL;
}

static void largest_frame_passes(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	connect_both(f);
	for (int round = 0; round < 3; round++) {
		peer_start(f, send_a_large_frame);
		assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), 1);
		peer_join(f);
		assert_int_equal(f->peer_rc, 0);
		assert_int_equal(frame.len, WIRE_BODY_MAX);
		for (size_t i = 0; i < WIRE_BODY_MAX; i++)
			assert_int_equal(frame.body[i], (unsigned char)(i * 7 >> 3));
	}
	assert_null(channel_room(f->peer, WIRE_FRAME_MAX + 1));
}

static void put_raw(struct channel *channel, const void *data, size_t len)
{
	void *to = channel_room(channel, len);
	assert_non_null(to);
	memcpy(to, data, len);
	assert_int_equal(channel_put(channel, len), 0);
	assert_int_equal(channel_flush(channel, NULL), 0);
}

// A frame of `len` bytes, header and all, of no type that anybody asks for.
static void put_large(struct channel *channel, uint32_t len)
{
	unsigned char *to = channel_room(channel, len);
	assert_non_null(to);
	memset(to, 0, len);
	(void)wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_COMPARE);
	put_le32(to, len - WIRE_HEADER_SIZE);
	assert_int_equal(channel_put(channel, len), 0);
	assert_int_equal(channel_flush(channel, NULL), 0);
}

static bool moves_within_10_s(struct channel *channel, bool moves)
{
	for (unsigned i = 0; i < 1000; i++) {
		if (channel_moves(channel) == moves)
			return true;
		(void)usleep(10000);
	}
	return false;
}

// What TCP says: of that which waits for the peer, its host took some.
static void what_the_peers_host_takes_of_much_is_seen_to_move(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	int room = 1 << 20;
	connect_both(f);
	assert_int_equal(setsockopt(channel_fd(f->channel), SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	room = 32 << 10;
	assert_int_equal(setsockopt(channel_fd(f->peer), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
	for (unsigned i = 0; i < 4; i++)
		put_large(f->channel, 64 << 10);
	assert_true(moves_within_10_s(f->channel, false)); // nobody reads
	assert_int_equal(channel_get(f->peer, 10000, &frame, &f->err), 1);
	assert_true(moves_within_10_s(f->channel, true));
	assert_true(moves_within_10_s(f->channel, false));
	while (channel_get(f->peer, 1000, &frame, &f->err) == 1)
		;
	assert_true(moves_within_10_s(f->channel, false)); // all is there
	put_zeros(f->peer, 1);
	assert_int_equal(channel_flush(f->peer, &f->err), 0);
	assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), 1);
	assert_true(channel_moves(f->channel));
}

static void half_a_frame_and_then_silence_is_no_frame(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	unsigned char whole[64];
	struct wire_zeros zeros = {.disk = 3, .first = 4, .count = 5};
	size_t len = wire_put_zeros(whole, sizeof(whole), &zeros);
	connect_both(f);
	for (size_t at = 0; at < len; at++) { // byte by byte
		assert_int_equal(channel_get(f->channel, 1, &frame, &f->err), 0);
		put_raw(f->peer, whole + at, 1);
	}
	assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), 1);
	assert_int_equal(wire_get_zeros(&frame, &zeros), 0);
	assert_int_equal(zeros.disk, 3);
}

static void header_that_names_too_much_is_refused_before_its_body_comes(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	static const uint32_t lengths[] = {WIRE_BODY_MAX + 1, 1u << 31, UINT32_MAX};
	for (size_t i = 0; i < 3; i++) {
		unsigned char header[WIRE_HEADER_SIZE] = {0};
		connect_both(f);
		put_le32(header, lengths[i]);
		header[4] = WIRE_BLOCK;
		put_raw(f->peer, header, sizeof(header));
		assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), -EBADMSG);
		assert_true(f->err.text[0]);
		assert_true(channel_get(f->channel, 0, &frame, &f->err) < 0); // and stays so
		channel_close(f->channel);
		channel_close(f->peer);
		f->channel = f->peer = NULL;
	}
}

static void peer_that_is_gone_is_told_from_one_that_is_silent(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	connect_both(f);
	assert_int_equal(channel_get(f->channel, 1, &frame, &f->err), 0);
	channel_close(f->peer);
	f->peer = NULL;
	assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), -ECONNRESET);
	assert_null(channel_room(f->channel, WIRE_FRAME_MAX));
	assert_true(channel_flush(f->channel, &f->err) < 0);
}

static void *wait_for_a_frame(void *context)
{
	struct fixture *f = context;
	struct wire_frame frame;
	f->peer_rc = channel_get(f->peer, 60000, &frame, &f->peer_err);
	return NULL;
}

static void abort_wakes_the_thread_that_waits(void **state)
{
	struct fixture *f = *state;
	connect_both(f);
	peer_start(f, wait_for_a_frame);
	channel_abort(f->peer);
	peer_join(f); // at once, not after a minute: the runner's own limit is the judge
	assert_int_equal(f->peer_rc, -ECONNRESET);
}

static void expect_answers_ping_skips_pong_and_takes_an_error_for_what_it_says(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	struct wire_failure failure;
	connect_both(f);
	unsigned char text[600] = {0};
	put_raw(f->peer, text, wire_put_empty(text, sizeof(text), WIRE_PING));
	put_raw(f->peer, text, wire_put_empty(text, sizeof(text), WIRE_PONG));
	put_zeros(f->peer, 7);
	assert_int_equal(channel_flush(f->peer, NULL), 0);
	assert_int_equal(channel_expect(f->channel, WIRE_ZEROS, 10000, &frame, &failure, &f->err), 0);
	assert_int_equal(channel_get(f->peer, 10000, &frame, &f->err), 1);
	assert_int_equal(frame.type, WIRE_PONG);
	put_raw(f->peer, text, wire_put_error(text, sizeof(text), WIRE_E_NO_SPACE, "the store is full"));
	assert_int_equal(channel_expect(f->channel, WIRE_ZEROS, 10000, &frame, &failure, &f->err), -EREMOTEIO);
	assert_int_equal(failure.code, WIRE_E_NO_SPACE);
	assert_string_equal(f->err.text, "the store is full");
	put_raw(f->peer, text, wire_put_empty(text, sizeof(text), WIRE_SEAL)); // not what is due
	assert_int_equal(channel_expect(f->channel, WIRE_ZEROS, 10000, &frame, &failure, &f->err), -EBADMSG);
	assert_int_equal(failure.code, 0);
	assert_non_null(strstr(f->err.text, "SEAL"));
}

static void nothing_in_time_is_a_failure_of_the_connection(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	struct wire_failure failure;
	connect_both(f);
	assert_int_equal(channel_expect(f->channel, WIRE_ZEROS, 1, &frame, &failure, &f->err), -ETIMEDOUT);
	assert_null(channel_room(f->channel, WIRE_FRAME_MAX)); // an answer that comes late would be taken for another
}

// --- refusals ---

// Sends without end and looks for nothing, as a source does that is in the midst of its blocks; then for what it was told.
static void *send_without_end(void *context)
{
	struct fixture *f = context;
	struct wire_frame frame;
	struct wire_failure failure;
	unsigned char *to;
	while (f->peer_sent < (24u << 20) && (to = channel_room(f->peer, WIRE_FRAME_MAX))) {
		put_le32(to, WIRE_BODY_MAX);
		put_le32(to + 4, WIRE_BLOCK);
		if (channel_put(f->peer, WIRE_FRAME_MAX) || channel_flush(f->peer, NULL))
			break;
		f->peer_sent += WIRE_FRAME_MAX;
	}
	f->peer_rc = channel_expect(f->peer, WIRE_COMMITTED, 10000, &frame, &failure, &f->peer_err);
	channel_close(f->peer); // so that the other side need not linger
	f->peer = NULL;
	return NULL;
}

static void refusal_reaches_a_peer_that_is_still_sending(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	connect_both(f);
	peer_start(f, send_without_end);
	assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), 1);
	channel_refuse(f->channel, WIRE_E_FENCED, "vm1 was failed over");
	channel_close(f->channel);
	f->channel = NULL;
	peer_join(f);
	assert_true(f->peer_sent > (16u << 20)); // far more than fits between the two
	assert_int_equal(f->peer_rc, -EREMOTEIO);
	assert_string_equal(f->peer_err.text, "vm1 was failed over");
}

// Sends what is no frame of ours, and looks for what it is told.
static void *send_a_bad_frame(void *context)
{
	struct fixture *f = context;
	static const unsigned char bad[WIRE_HEADER_SIZE] = {0xff, 0xff, 0xff, 0xff, WIRE_BLOCK};
	struct wire_frame frame;
	struct wire_failure failure;
	put_raw(f->peer, bad, sizeof(bad));
	f->peer_rc = channel_expect(f->peer, WIRE_COMMITTED, 10000, &frame, &failure, &f->peer_err);
	channel_close(f->peer);
	f->peer = NULL;
	return NULL;
}

static void refusal_over_a_bad_frame_says_so(void **state)
{
	struct fixture *f = *state;
	struct wire_frame frame;
	connect_both(f);
	peer_start(f, send_a_bad_frame);
	assert_int_equal(channel_get(f->channel, 10000, &frame, &f->err), -EBADMSG);
	channel_refuse(f->channel, WIRE_E_PROTOCOL, f->err.text);
	peer_join(f);
	assert_int_equal(f->peer_rc, -EREMOTEIO);
	assert_string_equal(f->peer_err.text, f->err.text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		TEST(a_host_that_is_gone_is_found_within_30_s),
		TEST(both_sides_know_the_other_by_its_key),
		TEST(server_with_another_key_is_refused_by_name),
		TEST(tls_1_2_is_refused),
		TEST(another_protocol_or_none_is_refused),
		TEST(client_without_a_certificate_is_refused),
		TEST(garbage_instead_of_a_handshake_ends_the_connection),
		TEST(frames_arrive_whole_and_in_order),
		TEST(largest_frame_passes),
		TEST(what_the_peers_host_takes_of_much_is_seen_to_move),
		TEST(half_a_frame_and_then_silence_is_no_frame),
		TEST(header_that_names_too_much_is_refused_before_its_body_comes),
		TEST(peer_that_is_gone_is_told_from_one_that_is_silent),
		TEST(abort_wakes_the_thread_that_waits),
		TEST(expect_answers_ping_skips_pong_and_takes_an_error_for_what_it_says),
		TEST(nothing_in_time_is_a_failure_of_the_connection),
		TEST(refusal_reaches_a_peer_that_is_still_sending),
		TEST(refusal_over_a_bad_frame_says_so),
	};
	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
