// SPDX-License-Identifier: Apache-2.0
// The listening side: accepts connections within limits, a thread each, and ends them all when asked to.
//
// Limits: SERVER_CONNECTIONS_MAX in all; of peers that have not shown a known key yet, SERVER_STRANGERS_MAX in all and
// SERVER_STRANGERS_PER_ADDRESS of one address; of one peer that is known, server_peer_most(). What is over a limit is closed at once.
#ifndef KAGAMI_RECEIVER_SERVER_H
#define KAGAMI_RECEIVER_SERVER_H

#include "base/err.h"
#include "link/identity.h"
#include "receiver/pairing.h"
#include "receiver/store.h"
#include "receiver/watch.h"

enum { SERVER_CONNECTIONS_MAX = 1024, SERVER_STRANGERS_MAX = 64, SERVER_STRANGERS_PER_ADDRESS = 8, SERVER_PEER_MAX = 640, SERVER_PEER_SPARE = 64 };

struct server;

// Listens at `address` and serves until server_stop(). `store`, `pairing` and `identity` must outlive it.
int server_start(const char *address, const struct identity *identity, struct store *store, struct pairing *pairing,
		 struct watch *watch, struct server **ret_server, struct err *err);
// Has retention look for work, and how many bytes a second it may take. Any thread.
void server_retain(struct server *server);
void server_retention_rate(struct server *server, uint64_t bytes_per_second);
// How many connections a peer with so many protections may have: two for each, since the older ends only when the newer has been opened, and
// SERVER_PEER_SPARE for those that it begins and for what it says beside them; at most SERVER_PEER_MAX, so that others have room.
size_t server_peer_most(size_t protections);
// Ends every connection of this peer, which is not paired any more, and waits for them, 20 s at most: how many are left.
size_t server_cut(struct server *server, const struct pin *peer);
void server_stop(struct server *server); // takes NULL; returns when no session runs any more
// What it listens on, with the port that was chosen for port 0.
const char *server_address(const struct server *server);

#endif
