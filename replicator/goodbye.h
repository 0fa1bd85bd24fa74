// SPDX-License-Identifier: Apache-2.0
// Tells a receiver that a protection was ended here on purpose (docs/protocol.md, "Goodbye"): once, and nobody waits longer than GOODBYE_WAIT_MS for it.
//
//	said ──► PARTED, or a refusal: known
//	  └───► GOODBYE_WAIT_MS are over: the operator is told that the receiver was not; the try goes on in its place until it ends by the limits of a connection
//
// A thread for each, since a name that is looked up and a host that is away hold whoever asks, and at most GOODBYES_MAX at a time. Threads: any.
#ifndef KAGAMI_REPLICATOR_GOODBYE_H
#define KAGAMI_REPLICATOR_GOODBYE_H

#include "base/env.h"
#include "base/err.h"
#include "format/wire.h"
#include "link/identity.h"
#include "replicator/site.h"

#include <pthread.h>

enum { GOODBYE_WAIT_MS = 5000, GOODBYES_MAX = 8 };

struct goodbye;
struct goodbyes { // of an agent
	pthread_mutex_t lock;
	struct goodbye *place[GOODBYES_MAX];
};
void goodbyes_init(struct goodbyes *goodbyes);
// Ends those that nobody waits for any more: a connection at once, the making of one within its limits.
void goodbyes_done(struct goodbyes *goodbyes);

// 0: the receiver has noted it durably, or has nothing that waits for this source: no replica, or one whose failover is final. Else it was not told, as far as is known:
// -ETIMEDOUT; -EPROTONOSUPPORT, it is too old; -EREMOTEIO, it refused; -EBUSY, too many wait.
int goodbyes_say(struct goodbyes *goodbyes, struct env *env, const struct identity *identity, const struct site *site, const struct wire_goodbye *what, struct err *err);

#endif
