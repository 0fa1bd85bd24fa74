// SPDX-License-Identifier: Apache-2.0
// A TCP proxy on loopback that cuts connections after a number of bytes, or has what goes through it wait: for the tests of what a lost connection leads to.
// It serves one connection at a time, in a thread of its own.
#ifndef KAGAMI_TESTS_LIB_CUT_PROXY_H
#define KAGAMI_TESTS_LIB_CUT_PROXY_H

#include <stdint.h>

enum proxy_way { PROXY_UP, PROXY_DOWN }; // from the client; to it
#define PROXY_NEVER UINT64_MAX

struct cut_proxy;

struct cut_proxy *cut_proxy_start(const char *target);
void cut_proxy_stop(struct cut_proxy *proxy);
const char *cut_proxy_address(const struct cut_proxy *proxy);
// From the next connection on: cut when so many bytes have gone that way; the byte after them never does.
void cut_proxy_limit(struct cut_proxy *proxy, enum proxy_way way, uint64_t bytes);
// From the next connection on: what comes waits so long before it goes on, either way, and what comes behind it does not wait for it: a long
// line, not a narrow one.
void cut_proxy_delay(struct cut_proxy *proxy, unsigned ms);
// From the next connection on: the socket that the client sends to takes so many bytes ahead (SO_RCVBUF), and so little is lost with the proxy.
void cut_proxy_buffer(struct cut_proxy *proxy, unsigned bytes);
// How often on the newest connection something went up after something had gone down: round trips that somebody waited for, at most.
uint64_t cut_proxy_turns(struct cut_proxy *proxy);
// That went over the newest connection so far.
uint64_t cut_proxy_bytes(struct cut_proxy *proxy, enum proxy_way way);

#endif
