// SPDX-License-Identifier: Apache-2.0
// Two lanes, each a buffer that is filled from one side and emptied to the other. A lane that is full is not filled: a side that
// takes nothing slows down the other one, and nothing else.
//
// The client's end closes the lane up: what it sent before still reaches the disk, whose answers still reach it.
#include "replicator/nbd_pump.h"

#include "base/clock.h"
#include "replicator/nbd_gone.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <openssl/err.h>

struct lane {
	unsigned char *data;
	size_t start, end;
	bool ended; // no more comes
};

struct pump {
	SSL *ssl;
	int plain_fd;
	int gone_ms;
	struct nbd_gone gone;
	struct lane up;	  // from the client
	struct lane down; // to the client
	short tls_wants, plain_wants;
	bool moved; // since the last wait
	bool shut;
	int broken;
};

static size_t lane_room(const struct lane *lane)
{
	return lane->ended ? 0 : NBD_PUMP_LANE_SIZE - lane->end;
}

static size_t lane_len(const struct lane *lane)
{
	return lane->end - lane->start;
}

static void lane_filled(struct pump *p, struct lane *lane, size_t len)
{
	lane->end += len;
	p->moved = true;
}

static void lane_emptied(struct pump *p, struct lane *lane, size_t len)
{
	lane->start += len;
	if (lane->start == lane->end)
		lane->start = lane->end = 0;
	p->moved = true;
}

// What TLS waits for after a call that did not succeed. False: it is over.
static bool tls_waits(struct pump *p)
{
	switch (SSL_get_error(p->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
		p->tls_wants |= POLLIN;
		return true;
	case SSL_ERROR_WANT_WRITE:
		p->tls_wants |= POLLOUT;
		return true;
	case SSL_ERROR_ZERO_RETURN:
		return false;
	default:
		p->broken = -ECONNRESET;
		return false;
	}
}

static void pull_tls(struct pump *p)
{
	size_t got;
	while (lane_room(&p->up)) {
		ERR_clear_error();
		if (SSL_read_ex(p->ssl, p->up.data + p->up.end, lane_room(&p->up), &got)) {
			lane_filled(p, &p->up, got);
			continue;
		}
		if (!tls_waits(p)) {
			p->up.ended = true;
			p->moved = true;
		}
		return;
	}
}

static void push_tls(struct pump *p)
{
	size_t put;
	while (lane_len(&p->down)) {
		ERR_clear_error();
		if (!SSL_write_ex(p->ssl, p->down.data + p->down.start, lane_len(&p->down), &put)) {
			if (!tls_waits(p) && !p->broken)
				p->broken = -ECONNRESET;
			return;
		}
		lane_emptied(p, &p->down, put);
	}
}

static void pull_plain(struct pump *p)
{
	while (lane_room(&p->down)) {
		ssize_t got = recv(p->plain_fd, p->down.data + p->down.end, lane_room(&p->down), MSG_DONTWAIT);
		if (got > 0) {
			lane_filled(p, &p->down, (size_t)got);
			continue;
		}
		if (got == 0) {
			p->down.ended = true;
			p->moved = true;
		} else if (errno == EAGAIN) {
			p->plain_wants |= POLLIN;
		} else if (errno != EINTR) {
			p->broken = -errno;
		}
		return;
	}
}

static void push_plain(struct pump *p)
{
	while (lane_len(&p->up)) {
		ssize_t put = send(p->plain_fd, p->up.data + p->up.start, lane_len(&p->up), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (put < 0) {
			if (errno == EAGAIN)
				p->plain_wants |= POLLOUT;
			else if (errno == EPIPE) // it takes no more, but what it answered is still to come
				lane_emptied(p, &p->up, lane_len(&p->up));
			else if (errno != EINTR)
				p->broken = -errno;
			return;
		}
		lane_emptied(p, &p->up, (size_t)put);
	}
	if (p->up.ended && !p->shut) {
		p->shut = true;
		(void)shutdown(p->plain_fd, SHUT_WR);
	}
}

// All is sent: that no more comes is said as TLS does, else the client cannot tell it from a line that was cut. There may be no room for it yet.
static int say_end(struct pump *p, int stop_fd)
{
	struct pollfd fds[] = {{.fd = SSL_get_fd(p->ssl), .events = POLLOUT}, {.fd = stop_fd, .events = POLLIN}};
	for (;;) {
		ERR_clear_error();
		int said = SSL_shutdown(p->ssl);
		if (said >= 0 || SSL_get_error(p->ssl, said) != SSL_ERROR_WANT_WRITE)
			return 0;
		int events = poll(fds, 2, p->gone_ms / 5);
		if (events < 0 && errno != EINTR)
			return -errno;
		if (events == 0 && nbd_gone(&p->gone, fds[0].fd, clock_mono_ms(), p->gone_ms))
			return -ETIMEDOUT;
		if (fds[1].revents)
			return -ESHUTDOWN;
	}
}

static int pump_run(struct pump *p, int stop_fd)
{
	struct pollfd fds[] = {
		{.fd = SSL_get_fd(p->ssl)},
		{.fd = p->plain_fd},
		{.fd = stop_fd, .events = POLLIN},
	};
	while (!(p->down.ended && !lane_len(&p->down))) {
		p->tls_wants = p->plain_wants = 0;
		p->moved = false;
		pull_tls(p);
		push_plain(p);
		pull_plain(p);
		push_tls(p);
		if (p->broken)
			return p->broken;
		// When something moved, this only looks for the stop.
		fds[0].events = p->moved ? 0 : p->tls_wants;
		fds[1].events = p->moved ? 0 : p->plain_wants;
		fds[0].fd = fds[0].events ? SSL_get_fd(p->ssl) : -1; // a hang-up nobody asks about would wake us for ever
		fds[1].fd = fds[1].events ? p->plain_fd : -1;
		int events = poll(fds, 3, p->moved ? 0 : p->gone_ms / 5);
		if (events < 0 && errno != EINTR)
			return -errno;
		if (events == 0 && !p->moved && nbd_gone(&p->gone, SSL_get_fd(p->ssl), clock_mono_ms(), p->gone_ms))
			return -ETIMEDOUT;
		if (fds[2].revents)
			return -ESHUTDOWN;
	}
	return say_end(p, stop_fd);
}

int nbd_pump(SSL *ssl, int plain_fd, int stop_fd, int gone_ms)
{
	struct pump p = {.ssl = ssl, .plain_fd = plain_fd, .gone_ms = gone_ms};
	p.up.data = malloc(NBD_PUMP_LANE_SIZE);
	p.down.data = malloc(NBD_PUMP_LANE_SIZE);
	int code = p.up.data && p.down.data ? pump_run(&p, stop_fd) : -ENOMEM;
	free(p.up.data);
	free(p.down.data);
	return code;
}
