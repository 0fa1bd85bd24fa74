// SPDX-License-Identifier: Apache-2.0
// One connection from a source: which message is allowed when, and what each does to the store.
//
//	            HELLO          PAIR, DOUBT, GOODBYE
//	 START ──────────► READY ────────► (answered, closed)
//	                     │ OPEN (while it is answered the source hears PONG)
//	                     ▼
//	                   OPEN ──┐ COMPARE, NODES, EXAMINE, BLOCK, ZEROS, CERTAIN, SEAL
//	                     ▲────┘
//	PING is allowed in OPEN, and CLOCK. Anything else ends the connection with ERROR.
#ifndef KAGAMI_RECEIVER_SESSION_H
#define KAGAMI_RECEIVER_SESSION_H

#include "link/channel.h"
#include "receiver/pairing.h"
#include "receiver/store.h"
#include "receiver/watch.h"

struct session_host { // what all sessions of a receiver share
	struct env *env;
	struct store *store;
	struct pairing *pairing;
	// A session of `replica` is about to begin: ends another one that is open, and waits until it has. False: it would not end.
	bool (*take_over)(void *context, struct replica *replica);
	void (*opened)(void *context, struct replica *replica); // the session has it from now on; its digests are yet to be loaded
	void (*committed)(void *context);			 // there may be something to fold
	void *context;
	struct watch *watch; // is told what its sources do; NULL: nobody is
};

// Serves the connection until it ends; the channel stays the caller's. One thread per session.
void session_run(const struct session_host *host, struct channel *channel, const char *peer_address);

#endif
