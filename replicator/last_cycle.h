// SPDX-License-Identifier: Apache-2.0
// What is told of the newest cycle that was committed; kept with the dirty history, so that it is known again right after a start.
#ifndef KAGAMI_REPLICATOR_LAST_CYCLE_H
#define KAGAMI_REPLICATOR_LAST_CYCLE_H

#include "replicator/cycle.h"
#include "replicator/state_file.h"
#include "rpo/cause.h"

#include <jansson.h>

struct last_cycle {
	uint64_t number, point; // number 0: of the agent's run before this one; point 0: there is none
	int64_t cut_wall_ns, commit_wall_ns;
	uint64_t duration_ns, hold_ns;
	enum sync_reason sync;
	uint64_t dirty_bytes, read_bytes, sent_blocks, wire_bytes;
	uint64_t known_blocks, unasked_blocks, piece_blocks, plain_blocks, point_bytes;
	uint64_t precopies;
	enum cycle_why why;
	uint64_t stage_ns[RPO_STAGES]; // from the moment it was due
};

// As docs/control.md has it; null when there is none.
json_t *last_cycle_json(const struct last_cycle *last);
json_t *last_cycle_stages_json(const uint64_t ns[RPO_STAGES]); // {"queue": 0, "read": 12, ...}, ms

// As docs/format-state.md has it, in history.json.
json_t *last_cycle_encode(const struct last_cycle *last);
// What was encoded, with number 0. -EINVAL: it is not what was encoded, and *ret_last is untouched.
int last_cycle_decode(const json_t *json, struct last_cycle *ret_last, struct err *err);

#endif
