// SPDX-License-Identifier: Apache-2.0
// Both halves in one process: a source in memory, a real cycle over TLS on loopback, a real receiver over a store in a temporary
// directory, and a model of what each point must show. Positions are kept as the protection's thread keeps them.
#ifndef KAGAMI_TESTS_LIB_REPLICATION_H
#define KAGAMI_TESTS_LIB_REPLICATION_H

#include "receiver/pairing.h"
#include "receiver/server.h"
#include "receiver/store.h"
#include "replicator/cycle.h"
#include "replicator/pack.h"
#include "tests/lib/memory_source.h"
#include "tests/lib/twin.h"

enum { REPLICATION_POINTS_MAX = 512 };

struct replication {
	struct temp temp; // the store is in it, and the two states
	struct env_root *store_root;
	char store_dir[512];
	struct store *store;
	struct identity *source_identity, *receiver_identity;
	struct pairing *pairing;
	struct server *server;

	uint64_t seed;
	struct memory_source memory;
	struct wire_open open;
	enum codec codec; // on the wire
	bool seeded;	  // as with protect --seed
	bool nodes;	  // as if a sync had a reason
	bool written;	  // as if it had none
	bool pieces;	  // likewise: what differs is asked about by pieces
	SSL_CTX *tls;
	struct crew *crew; // NULL with an even seed
	struct ship *ship;
	struct channel *channel; // NULL: not connected
	struct ship_progress progress;
	struct cycle_report report; // of the newest cycle
	struct err err;		    // and why it failed

	uint64_t position; // as the protection knows it
	struct uuid last_cut, pending_cut, head;
	unsigned found_committed; // the answer was lost, the point was there

	struct {
		struct uuid cut;
		unsigned char *disk[MEMORY_DISKS_MAX]; // as the source had it at the cut
	} point[REPLICATION_POINTS_MAX];
};

// Everything running and paired; nothing connected, and every disk dirty.
void replication_begin(struct replication *r, uint16_t disks, const uint64_t *sizes, uint64_t seed);
void replication_end(struct replication *r);

// Connects at `address` (NULL: the receiver's own) and finds out where the receiver stands. 0, or what it failed with; then
// `failure`, unless NULL, has the receiver's refusal.
int replication_connect(struct replication *r, const char *address, struct wire_failure *failure);
void replication_disconnect(struct replication *r);
// A cycle and what follows from its outcome. After a failure that costs the connection there is none.
int replication_cycle(struct replication *r);

// The same, where anything but success fails the test.
void replication_connect_now(struct replication *r);
void replication_cycle_now(struct replication *r);

// Whether every point that the store lists shows what the source had at its cut; how many there are.
size_t replication_check(struct replication *r);

#endif
