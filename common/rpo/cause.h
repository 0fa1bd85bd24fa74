// SPDX-License-Identifier: Apache-2.0
// Why the newest point is older than the objective: one name for it, the same at both ends, in JSON, metrics, tables and on the wire.
//
// A miss has one cause. What somebody or something else did comes first, in the order of the enum; where there is nothing of the kind, it is the
// stage that has the most of the time of the cycles that ran from the newest point's cut on. Pure.
#ifndef KAGAMI_RPO_CAUSE_H
#define KAGAMI_RPO_CAUSE_H

#include <stdbool.h>
#include <stdint.h>

// Numbers are for ever: they travel (docs/protocol.md, REPORT), and are in files.
enum rpo_cause {
	RPO_CAUSE_NONE = 0, // nothing is wrong
	RPO_CAUSE_PAUSED = 1, // by the operator
	RPO_CAUSE_FENCED = 2, // failed over
	RPO_CAUSE_SOURCE_DOWN = 3, // only a receiver can say so
	RPO_CAUSE_TARGET_DOWN = 4, // not reachable, or it stops
	RPO_CAUSE_SPACE = 5, // the receiver has no room, or the quota is reached
	RPO_CAUSE_SOURCE_ERROR = 6, // an image cannot be read, or the state directory does not take what it must
	RPO_CAUSE_TARGET_ERROR = 7, // it refuses for another reason, or its store fails
	RPO_CAUSE_SYNC = 8, // a compare of whole disks has not ended yet
	// The stages of a cycle.
	RPO_CAUSE_QUEUE = 9,
	RPO_CAUSE_READ = 10,
	RPO_CAUSE_COMPRESS = 11,
	RPO_CAUSE_NETWORK = 12,
	RPO_CAUSE_APPLY = 13,
	RPO_CAUSE_THROTTLED = 14,
	RPO_CAUSE_UNKNOWN = 15, // nothing of the above was seen
	RPO_CAUSES = 16,
};

// What the pipeline waited for.
enum rpo_stage {
	RPO_STAGE_QUEUE,     // the cut was due, and there was no slot, or the host was late
	RPO_STAGE_READ,	     // the source's disks: the cut, blocks of it, and what the state directory notes before a point
	RPO_STAGE_COMPRESS,  // digests and compression
	RPO_STAGE_NETWORK,   // bytes on their way, and answers to questions
	RPO_STAGE_APPLY,     // the receiver: from SEAL to COMMITTED
	RPO_STAGE_THROTTLED, // a limit of bandwidth
	RPO_STAGES,
};

// "queue", "source-down" ...; "none". Any number that is no cause is "unknown".
const char *rpo_cause_name(enum rpo_cause cause);
// For tests: false, and nothing stored, when it is no name of a cause.
bool rpo_cause_read(const char *name, enum rpo_cause *ret_cause);
const char *rpo_stage_name(enum rpo_stage stage);
enum rpo_cause rpo_cause_of_stage(enum rpo_stage stage);

struct rpo_circumstances {
	bool paused, fenced, source_down, target_down, space, source_error, target_error, syncing;
	uint64_t stage_ns[RPO_STAGES]; // of the cycles that ran from the newest point's cut until now
};

// Of a miss. Never RPO_CAUSE_NONE. Of stages with as much time the first one counts.
enum rpo_cause rpo_cause_of(const struct rpo_circumstances *circumstances);

#endif
