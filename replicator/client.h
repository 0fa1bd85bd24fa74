// SPDX-License-Identifier: Apache-2.0
// One NBD connection, from its greeting to its end. Loop thread only.
#ifndef KAGAMI_REPLICATOR_CLIENT_H
#define KAGAMI_REPLICATOR_CLIENT_H

#include "replicator/group.h"
#include "replicator/image.h"
#include "replicator/nbd.h"
#include "replicator/nbd_seats.h"
#include "replicator/pool.h"
#include "replicator/ring.h"

#include <stdatomic.h>

struct client;

// What all connections of an export share; arrays by disk.
struct client_host {
	struct ring *ring;
	struct pool *pool;
	struct group *group;
	struct image *image;
	const struct nbd_export *exports;
	unsigned count;
	_Atomic unsigned *attached; // connections past their handshake
	uint64_t bytes;		    // of payloads under way, of all of them
	const char *protection;	    // for the log
	struct nbd_word strange;    // of those that greeted in no way that is served
	void (*ended)(struct client_host *host, struct client *client); // its memory goes after this
};

// Takes over `fd` and greets. NULL when there is no memory; then fd is closed.
struct client *client_new(struct client_host *host, int fd);
// No more requests are taken; it ends when those under way are answered.
void client_finish(struct client *client);
// Ends without waiting for the peer to take its answers.
void client_kill(struct client *client);

// When a connection began that has chosen no disk; UINT64_MAX of one that has, or was killed. One that ended its handshake, and does not take its answers, is one of those.
uint64_t client_greeted_ns(const struct client *client);

// A list of the host's: the next of all connections.
struct client *client_next(struct client *client);
void client_link(struct client **list, struct client *client);
void client_unlink(struct client **list, struct client *client);

#endif
