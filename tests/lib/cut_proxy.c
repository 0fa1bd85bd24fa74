// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/cut_proxy.h"

#include "base/clock.h"
#include "base/size.h"
#include "link/net.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct chunk { // on its way
	struct chunk *next;
	int64_t due_ms;
	size_t len;
	unsigned char data[];
};

struct cut_proxy {
	char target[NET_ADDRESS_SIZE], address[NET_ADDRESS_SIZE];
	int listen_fd, stop_fd;
	pthread_t thread;
	_Atomic uint64_t limit[2], bytes[2], turns;
	_Atomic unsigned delay_ms;
	enum proxy_way last;
	struct line {
		struct chunk *head, **end;
		bool over; // nothing comes any more
	} line[2];
};

static bool readable(struct cut_proxy *p, int fd, int other, struct pollfd wait[3], int timeout_ms)
{
	wait[0] = (struct pollfd){.fd = p->stop_fd, .events = POLLIN};
	wait[1] = (struct pollfd){.fd = fd, .events = POLLIN};
	wait[2] = (struct pollfd){.fd = other, .events = POLLIN};
	while (poll(wait, 3, timeout_ms) < 0)
		assert(errno == EINTR);
	return !wait[0].revents;
}

static bool send_all(int fd, const unsigned char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		struct pollfd wait = {.fd = fd, .events = POLLOUT};
		if (n < 0 && errno == EAGAIN)
			(void)poll(&wait, 1, -1);
		else if (n < 0)
			return false;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

static bool line_put(struct line *line, const unsigned char *data, size_t len, int64_t due_ms)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + len);
	assert(chunk);
	*chunk = (struct chunk){.due_ms = due_ms, .len = len};
	memcpy(chunk->data, data, len);
	*line->end = chunk;
	line->end = &chunk->next;
	return true;
}

static struct chunk *line_take(struct line *line)
{
	struct chunk *chunk = line->head;
	line->head = chunk ? chunk->next : NULL;
	if (!line->head)
		line->end = &line->head;
	return chunk;
}

static void line_clear(struct line *line)
{
	line->end = line->head ? line->end : &line->head;
	for (struct chunk *chunk; (chunk = line_take(line));)
		free(chunk);
	line->over = false;
}

// Sends what is due. False when the connection is over.
static bool line_run(struct line *line, int to)
{
	while (line->head && line->head->due_ms <= clock_mono_ms()) {
		struct chunk *chunk = line_take(line);
		bool sent = send_all(to, chunk->data, chunk->len);
		free(chunk);
		if (!sent)
			return false;
	}
	return line->head || !line->over;
}

static int line_wait_ms(const struct cut_proxy *p)
{
	int64_t wait_ms = -1;
	for (int way = 0; way < 2; way++)
		if (p->line[way].head) {
			int64_t left = p->line[way].head->due_ms - clock_mono_ms();
			left = left > 0 ? left : 0;
			wait_ms = wait_ms < 0 || left < wait_ms ? left : wait_ms;
		}
	return (int)wait_ms;
}

// Moves what is there. False when the connection is over.
static bool forward(struct cut_proxy *p, enum proxy_way way, uint64_t limit, int from, int to)
{
	static unsigned char buffer[65536];
	uint64_t left = limit - p->bytes[way];
	if (left == 0)
		return false;
	ssize_t n = recv(from, buffer, (size_t)min_u64(left, sizeof(buffer)), 0);
	if (n < 0)
		return errno == EAGAIN;
	p->turns += n > 0 && way == PROXY_UP && p->last == PROXY_DOWN;
	p->last = n > 0 ? way : p->last;
	p->bytes[way] += (uint64_t)n; // before: whoever got them may ask at once
	if (n > 0 && p->delay_ms)
		return line_put(&p->line[way], buffer, (size_t)n, clock_mono_ms() + p->delay_ms);
	if (n == 0 && p->delay_ms)
		p->line[way].over = true;
	return p->delay_ms || (n > 0 && send_all(to, buffer, (size_t)n));
}

static void serve(struct cut_proxy *p, int client)
{
	uint64_t limit[2] = {p->limit[PROXY_UP], p->limit[PROXY_DOWN]};
	struct pollfd wait[3];
	int server = net_connect(p->target, 10000, NULL);
	p->bytes[PROXY_UP] = p->bytes[PROXY_DOWN] = p->turns = 0;
	p->last = PROXY_UP;
	line_clear(&p->line[PROXY_UP]);
	line_clear(&p->line[PROXY_DOWN]);
	bool on = server >= 0;
	while (on && readable(p, p->line[PROXY_UP].over ? -1 : client, p->line[PROXY_DOWN].over ? -1 : server, wait, line_wait_ms(p))) {
		if (wait[1].revents)
			on = forward(p, PROXY_UP, limit[PROXY_UP], client, server);
		if (on && wait[2].revents)
			on = forward(p, PROXY_DOWN, limit[PROXY_DOWN], server, client);
		if (on && p->delay_ms)
			on = line_run(&p->line[PROXY_UP], server) && line_run(&p->line[PROXY_DOWN], client);
	}
	line_clear(&p->line[PROXY_UP]);
	line_clear(&p->line[PROXY_DOWN]);
	(void)close(client);
	if (server >= 0)
		(void)close(server);
}

static void *proxy_thread(void *context)
{
	struct cut_proxy *p = context;
	struct pollfd wait[3];
	while (readable(p, p->listen_fd, -1, wait, -1)) {
		int client = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client >= 0)
			serve(p, client);
	}
	return NULL;
}

struct cut_proxy *cut_proxy_start(const char *target)
{
	struct cut_proxy *p = calloc(1, sizeof(*p));
	assert(p);
	(void)snprintf(p->target, sizeof(p->target), "%s", target);
	p->limit[PROXY_UP] = p->limit[PROXY_DOWN] = PROXY_NEVER;
	p->stop_fd = eventfd(0, EFD_CLOEXEC);
	p->listen_fd = net_listen("127.0.0.1:0", NULL);
	assert(p->listen_fd >= 0);
	int rc = net_local(p->listen_fd, p->address, sizeof(p->address));
	assert(rc == 0);
	rc = pthread_create(&p->thread, NULL, proxy_thread, p);
	assert(rc == 0);
	return p;
}

void cut_proxy_stop(struct cut_proxy *p)
{
	uint64_t one = 1;
	(void)!write(p->stop_fd, &one, sizeof(one));
	(void)pthread_join(p->thread, NULL);
	(void)close(p->listen_fd);
	(void)close(p->stop_fd);
	free(p);
}

const char *cut_proxy_address(const struct cut_proxy *p)
{
	return p->address;
}

void cut_proxy_limit(struct cut_proxy *p, enum proxy_way way, uint64_t bytes)
{
	p->limit[way] = bytes;
}

void cut_proxy_buffer(struct cut_proxy *p, unsigned bytes)
{
	int size = (int)bytes;
	int rc = setsockopt(p->listen_fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)); // accepted sockets inherit it
	assert(rc == 0);
	(void)rc;
}

void cut_proxy_delay(struct cut_proxy *p, unsigned ms)
{
	p->delay_ms = ms;
}

uint64_t cut_proxy_turns(struct cut_proxy *p)
{
	return p->turns;
}

uint64_t cut_proxy_bytes(struct cut_proxy *p, enum proxy_way way)
{
	return p->bytes[way];
}
