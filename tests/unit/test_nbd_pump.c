// SPDX-License-Identifier: Apache-2.0
// What becomes of a client over TCP whose host dies, or that takes nothing, with answers on their way to it.
#include "replicator/nbd_pump.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { GONE_MS = 500, ROOM = 16 << 10, CHUNK = 64 << 10 };

struct line {
	int client_fd, server_fd; // TCP
	int disk_fd, plain_fd;	  // of the disk, and the pump's
	int stop_fd;
	SSL_CTX *context[2];
	SSL *client, *server;
	pthread_t thread;
	atomic_bool ended;
	int code;
};

static void *pump(void *argument)
{
	struct line *line = argument;
	line->code = nbd_pump(line->server, line->plain_fd, line->stop_fd, GONE_MS);
	line->ended = true;
	return NULL;
}

static void *accept_tls(void *argument)
{
	struct line *line = argument;
	line->code = SSL_accept(line->server);
	return NULL;
}

static void connect_tcp(struct line *line)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	const int room = ROOM;
	int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	line->client_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(line->client_fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listen_fd, 1), 0);
	assert_int_equal(getsockname(listen_fd, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(line->client_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	line->server_fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(line->server_fd >= 0);
	assert_int_equal(setsockopt(line->server_fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	(void)close(listen_fd);
}

// Without certificates: who speaks is not what is tested.
static SSL *tls_over(int fd, const SSL_METHOD *method, SSL_CTX **ret_context)
{
	*ret_context = SSL_CTX_new(method);
	assert_int_equal(SSL_CTX_set_max_proto_version(*ret_context, TLS1_2_VERSION), 1);
	assert_int_equal(SSL_CTX_set_cipher_list(*ret_context, "AECDH-AES256-SHA:@SECLEVEL=0"), 1);
	(void)SSL_CTX_set_mode(*ret_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL *ssl = SSL_new(*ret_context);
	assert_non_null(ssl);
	assert_int_equal(SSL_set_fd(ssl, fd), 1);
	return ssl;
}

static void line_open(struct line *line)
{
	pthread_t thread;
	int plain[2];
	memset(line, 0, sizeof(*line));
	connect_tcp(line);
	line->client = tls_over(line->client_fd, TLS_client_method(), &line->context[0]);
	line->server = tls_over(line->server_fd, TLS_server_method(), &line->context[1]);
	assert_int_equal(pthread_create(&thread, NULL, accept_tls, line), 0);
	assert_int_equal(SSL_connect(line->client), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(line->code, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, plain), 0);
	line->disk_fd = plain[0];
	line->plain_fd = plain[1];
	line->stop_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(fcntl(line->server_fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(pthread_create(&line->thread, NULL, pump, line), 0);
}

static bool ends_within_ms(struct line *line, int64_t ms)
{
	int64_t until_ms = clock_mono_ms() + ms;
	while (!line->ended && clock_mono_ms() < until_ms)
		(void)usleep(10000);
	return line->ended;
}

static void line_close(struct line *line)
{
	const uint64_t one = 1;
	assert_int_equal(write(line->stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(line->thread, NULL), 0);
	SSL_free(line->client);
	SSL_free(line->server);
	SSL_CTX_free(line->context[0]);
	SSL_CTX_free(line->context[1]);
	const int fds[] = {line->client_fd, line->server_fd, line->disk_fd, line->plain_fd, line->stop_fd};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		(void)close(fds[i]);
}

// From here on its TCP hears nothing, and so says nothing.
static void host_dies(const struct line *line)
{
	struct sock_filter drop = {.code = BPF_RET | BPF_K};
	const struct sock_fprog program = {.len = 1, .filter = &drop};
	assert_int_equal(setsockopt(line->client_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
}

// The disk answers until nothing more is taken. How much it was.
static size_t answer_all(const struct line *line)
{
	static const char answers[CHUNK];
	size_t sent = 0;
	for (unsigned i = 0; i < 20; i++) { // until nothing moves any more
		ssize_t put;
		while ((put = send(line->disk_fd, answers, sizeof(answers), MSG_NOSIGNAL)) > 0) {
			sent += (size_t)put;
			i = 0;
		}
		(void)usleep(10000);
	}
	return sent;
}

static void host_that_dies_with_answers_on_their_way_is_noticed(void **unused)
{
	(void)unused;
	struct line line;
	line_open(&line);
	host_dies(&line);
	assert_int_equal(SSL_write(line.client, "request", 7), 7); // and sent again all the time: it hears of no arrival
	assert_int_equal(send(line.disk_fd, "answer", 6, 0), 6);
	assert_true(ends_within_ms(&line, 20000));
	assert_int_equal(line.code, -ETIMEDOUT);
	line_close(&line);
}

static void host_that_dies_without_room_for_answers_is_noticed(void **unused)
{
	(void)unused;
	struct line line;
	line_open(&line);
	assert_true(answer_all(&line) > 0);
	assert_false(ends_within_ms(&line, 200));
	host_dies(&line);
	assert_true(ends_within_ms(&line, 30000));
	assert_int_equal(line.code, -ETIMEDOUT);
	line_close(&line);
}

// A machine that is stopped for a while: nothing of what was answered is lost.
static void client_that_takes_nothing_stays(void **unused)
{
	(void)unused;
	struct line line;
	line_open(&line);
	size_t sent = answer_all(&line), got = 0;
	assert_false(ends_within_ms(&line, 8 * GONE_MS));
	assert_int_equal(shutdown(line.disk_fd, SHUT_WR), 0);
	char *data = malloc(CHUNK);
	for (int some = 1; some > 0; got += some > 0 ? (size_t)some : 0)
		some = SSL_read(line.client, data, CHUNK);
	free(data);
	assert_true(got == sent);
	assert_true(ends_within_ms(&line, 10000));
	assert_int_equal(line.code, 0);
	line_close(&line);
}

static void client_that_says_nothing_stays(void **unused)
{
	(void)unused;
	struct line line;
	line_open(&line);
	assert_false(ends_within_ms(&line, 3 * GONE_MS));
	line_close(&line);
	assert_int_equal(line.code, -ESHUTDOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_that_dies_with_answers_on_their_way_is_noticed),
		cmocka_unit_test(host_that_dies_without_room_for_answers_is_noticed),
		cmocka_unit_test(client_that_takes_nothing_stays),
		cmocka_unit_test(client_that_says_nothing_stays),
	};
	(void)signal(SIGPIPE, SIG_IGN); // as the agent has it
	return cmocka_run_group_tests(tests, NULL, NULL);
}
