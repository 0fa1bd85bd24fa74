// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/cut_proxy.h"

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

struct cut_proxy {
	char target[NET_ADDRESS_SIZE], address[NET_ADDRESS_SIZE];
	int listen_fd, stop_fd;
	pthread_t thread;
	_Atomic uint64_t limit[2], bytes[2];
};

static bool readable(struct cut_proxy *p, int fd, int other, struct pollfd wait[3])
{
	wait[0] = (struct pollfd){.fd = p->stop_fd, .events = POLLIN};
	wait[1] = (struct pollfd){.fd = fd, .events = POLLIN};
	wait[2] = (struct pollfd){.fd = other, .events = POLLIN};
	while (poll(wait, 3, -1) < 0)
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
	p->bytes[way] += (uint64_t)n; // before: whoever got them may ask at once
	return n > 0 && send_all(to, buffer, (size_t)n);
}

static void serve(struct cut_proxy *p, int client)
{
	uint64_t limit[2] = {p->limit[PROXY_UP], p->limit[PROXY_DOWN]};
	struct pollfd wait[3];
	int server = net_connect(p->target, 10000, NULL);
	p->bytes[PROXY_UP] = p->bytes[PROXY_DOWN] = 0;
	bool on = server >= 0;
	while (on && readable(p, client, server, wait)) {
		if (wait[1].revents)
			on = forward(p, PROXY_UP, limit[PROXY_UP], client, server);
		if (on && wait[2].revents)
			on = forward(p, PROXY_DOWN, limit[PROXY_DOWN], server, client);
	}
	(void)close(client);
	if (server >= 0)
		(void)close(server);
}

static void *proxy_thread(void *context)
{
	struct cut_proxy *p = context;
	struct pollfd wait[3];
	while (readable(p, p->listen_fd, -1, wait)) {
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

uint64_t cut_proxy_bytes(struct cut_proxy *p, enum proxy_way way)
{
	return p->bytes[way];
}
