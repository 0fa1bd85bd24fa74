// SPDX-License-Identifier: Apache-2.0
// Renews the lease while the agent runs, in a thread of its own: the state directory may not answer, and nobody waits for it. Not before a disk is served: a run
// that fails at its start takes no place in the file from those that served.
#ifndef KAGAMI_REPLICATOR_LEASE_KEEPER_H
#define KAGAMI_REPLICATOR_LEASE_KEEPER_H

#include "base/err.h"
#include "replicator/lease.h"

struct lease_keeper;

// What the runs before left is read on return. -errno: no thread, or no random number.
int lease_keeper_start(struct env_root *state, struct lease_keeper **ret_keeper, struct err *err);
struct lease *lease_keeper_lease(struct lease_keeper *keeper);
// Waits for the renewal under way. Takes NULL.
void lease_keeper_stop(struct lease_keeper *keeper);

#endif
