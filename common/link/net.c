// SPDX-License-Identifier: Apache-2.0
#include "link/net.h"

#include "base/auto.h"
#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

struct host_port {
	char host[NET_ADDRESS_SIZE];
	char port[8];
};

static int address_split(const char *address, struct host_port *ret, struct err *err)
{
	const char *colon = strrchr(address, ':');
	const char *host = address, *host_end = colon;
	char *rest = NULL;
	unsigned long port = colon ? strtoul(colon + 1, &rest, 10) : 0;
	if (colon && address[0] == '[' && colon > address && colon[-1] == ']') {
		host++;
		host_end--;
	} else if (colon && memchr(address, ':', (size_t)(colon - address))) {
		colon = NULL; // an IPv6 address without brackets
	}
	if (!colon || host_end <= host || !colon[1] || *rest || port > UINT16_MAX || colon[1] == '-' || colon[1] == '+' ||
	    (size_t)(host_end - host) >= sizeof(ret->host))
		return err_set(err, -EINVAL, "\"%s\" is not an address: write HOST:PORT or [IPV6]:PORT", address);
	memcpy(ret->host, host, (size_t)(host_end - host));
	ret->host[host_end - host] = 0;
	(void)snprintf(ret->port, sizeof(ret->port), "%lu", port);
	return 0;
}

int net_check(const char *address, struct err *err)
{
	struct host_port parts;
	return address_split(address, &parts, err);
}

int net_check_option(const char *option, const char *address, struct err *err)
{
	int rc = net_check(address, err);
	return rc && err ? err_wrap(err, "--%s", option) : rc;
}

bool net_is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
	return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

bool net_is_elsewhere(const char *address)
{
	struct host_port parts;
	struct addrinfo *list = NULL;
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	if (address_split(address, &parts, NULL) || getaddrinfo(parts.host, parts.port, &hints, &list))
		return false;
	bool elsewhere = !net_is_loopback(list->ai_addr);
	freeaddrinfo(list);
	return elsewhere;
}

static int resolve(const char *address, int flags, struct addrinfo **ret_list, struct err *err)
{
	struct host_port parts;
	int rc = address_split(address, &parts, err);
	if (rc)
		return rc;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
	int gai = getaddrinfo(parts.host, parts.port, &hints, ret_list);
	if (gai)
		return err_set(err, -EADDRNOTAVAIL, "%s: %s", parts.host, gai_strerror(gai));
	return 0;
}

int net_listen(const char *address, struct err *err)
{
	struct addrinfo *list = NULL;
	int rc = resolve(address, AI_PASSIVE, &list, err);
	if (rc)
		return rc;
	AUTO_CLOSE int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, SOMAXCONN))
		rc = -errno;
	freeaddrinfo(list);
	if (rc == -EADDRINUSE)
		return err_set(err, rc, "%s is in use by another program: choose another port", address);
	if (rc == -EADDRNOTAVAIL)
		return err_set(err, rc, "listen on %s: this host has no such address; take one of its own, or 0.0.0.0 for all", address);
	if (rc)
		return err_sys(err, rc, "listen on %s", address);
	int taken = fd;
	fd = -1;
	return taken;
}

void net_format(const struct sockaddr *peer, socklen_t len, char *address, size_t cap)
{
	char host[INET6_ADDRSTRLEN + 16], port[8];
	if (getnameinfo(peer, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		(void)snprintf(address, cap, "unknown");
	else
		(void)snprintf(address, cap, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

int net_local(int fd, char *address, size_t cap)
{
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	if (getsockname(fd, (struct sockaddr *)&local, &len))
		return -errno;
	net_format((struct sockaddr *)&local, len, address, cap);
	return 0;
}

static int connect_one(const struct addrinfo *to, int64_t deadline_ms)
{
	AUTO_CLOSE int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int one = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, to->ai_addr, to->ai_addrlen)) {
		if (errno != EINPROGRESS)
			return -errno;
		struct pollfd wait = {.fd = fd, .events = POLLOUT};
		int64_t left = deadline_ms - clock_mono_ms();
		int ready = poll(&wait, 1, left > 0 ? (int)left : 0);
		int failure = 0;
		socklen_t len = sizeof(failure);
		if (ready <= 0)
			return ready ? -errno : -ETIMEDOUT;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) || failure)
			return failure ? -failure : -errno;
	}
	int taken = fd;
	fd = -1;
	return taken;
}

int net_connect(const char *address, int timeout_ms, struct err *err)
{
	struct addrinfo *list = NULL;
	int rc = resolve(address, AI_ADDRCONFIG, &list, err);
	if (rc)
		return rc;
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	rc = -EADDRNOTAVAIL;
	for (const struct addrinfo *at = list; at && rc < 0; at = at->ai_next)
		rc = connect_one(at, deadline_ms);
	freeaddrinfo(list);
	return rc < 0 ? err_sys(err, rc, "connect to %s", address) : rc;
}
