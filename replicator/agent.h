// SPDX-License-Identifier: Apache-2.0
// The agent: the protections and sites of one source host, and what the control socket asks of them.
#ifndef KAGAMI_REPLICATOR_AGENT_H
#define KAGAMI_REPLICATOR_AGENT_H

#include "base/err.h"
#include "link/control.h"

#include <stdbool.h>

struct agent;

// Opens the state directory (-EBUSY when another replicator has it), loads or makes the key, and starts every protection in
// it. A protection that cannot start is logged, listed as "failed", and tried again by itself, or when asked to resume. After an error there may be an agent, too, which waits for
// what it had started when it is closed: an image may not answer, and whoever closes it has a bound (stopping.h). Else *ret_agent is as it was.
struct agent_config {
	const char *state_path, *run_dir;
	unsigned threads;	// that digest and compress for all protections
	unsigned cycles, syncs; // that may be under way at once
	struct roll *roll;	// of its exports; outlives it
	unsigned start_wait_s;	// for how long protections are waited for before the others are served; 0: 10
	size_t known_bytes;	// of each protection, for what the receiver is known to hold
};
int agent_open(const struct agent_config *config, struct agent **ret_agent, struct err *err);
// Stops every protection cleanly, all at the same time: none waits for another's disks. Waits for the state directory and for the images (stopping.h
// bounds that). Requests find none that runs from then on. False: the state of one could not be saved.
bool agent_stop(struct agent *agent);
void agent_close(struct agent *agent); // takes NULL; agent_stop() before, when that was not called

struct nbd_front_export;
// The n-th disk of all protections that run; false when there are not so many. Of struct nbd_front_exports.
bool agent_nbd_export(void *agent, unsigned n, struct nbd_front_export *ret_export);

extern const struct control_route agent_routes[]; // their context is the agent
extern const size_t agent_route_count;

#endif
