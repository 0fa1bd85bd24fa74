// SPDX-License-Identifier: Apache-2.0
// TCP addresses written as HOST:PORT or [IPV6]:PORT, and sockets for them. All sockets are non-blocking.
#ifndef KAGAMI_LINK_NET_H
#define KAGAMI_LINK_NET_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { NET_ADDRESS_SIZE = 300 };

// -EINVAL unless `address` is HOST:PORT with a port of 0 to 65535.
int net_check(const char *address, struct err *err);
int net_check_option(const char *option, const char *address, struct err *err); // which is named then
// Whether it is written as a number that is no loopback address. What a name leads to is known when it is listened on.
bool net_is_elsewhere(const char *address);
// A listening socket, or a negative errno; `err` names the address and what to do, and the caller the option.
int net_listen(const char *address, struct err *err);
// The address that a listening socket has, with the port that the kernel chose for port 0.
int net_local(int fd, char *address, size_t cap);
bool net_is_loopback(const struct sockaddr *address);
// A connected socket, trying each address of the host in turn within `timeout_ms` all told.
int net_connect(const char *address, int timeout_ms, struct err *err);
// What a peer is called in logs.
void net_format(const struct sockaddr *peer, socklen_t len, char *address, size_t cap);

#endif
