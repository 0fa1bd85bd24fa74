// SPDX-License-Identifier: Apache-2.0
// Carries bytes between a client inside TLS and a plain socket, both ways, in bounded memory.
#ifndef KAGAMI_REPLICATOR_NBD_PUMP_H
#define KAGAMI_REPLICATOR_NBD_PUMP_H

#include <openssl/ssl.h>

enum { NBD_PUMP_LANE_SIZE = 256 << 10 }; // twice for each client

// Both sockets are non-blocking. Returns when the plain side has ended and the client has all of it, when either side broke, or
// when `stop_fd` becomes readable. 0, or a negative errno of what broke; -ETIMEDOUT: for `gone_ms` the client's
// host has acknowledged nothing of what was sent to it (nbd_gone.h), which is looked for five times as often. The sockets stay the caller's.
int nbd_pump(SSL *ssl, int plain_fd, int stop_fd, int gone_ms);

#endif
