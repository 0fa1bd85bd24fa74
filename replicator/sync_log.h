// SPDX-License-Identifier: Apache-2.0
// The record of a protection's syncs: STATE/protections/<name>/syncs.json, replaced as a whole, the newest SYNC_LOG_MAX.
//
// A sync is one record from its first try until its point is committed: a try that fails adds its cost to the record and says
// why, so that a receiver which is away for a day does not push out what came before. Format: docs/format-state.md.
#ifndef KAGAMI_REPLICATOR_SYNC_LOG_H
#define KAGAMI_REPLICATOR_SYNC_LOG_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { SYNC_LOG_MAX = 100, SYNC_REASON_SIZE = 32, SYNC_FAILURE_SIZE = 256, SYNC_LOG_SPEED_OF = 8 };

struct sync_record {
	char reason[SYNC_REASON_SIZE]; // sync_reason_name()
	int64_t began_wall_ns, ended_wall_ns;
	uint64_t duration_ms; // of all tries together, from the first cut of each to its end
	uint64_t tries;
	uint64_t candidate_bytes; // that were to be compared when a try began; the most of its tries
	uint64_t read_bytes, sent_bytes;
	uint64_t saved_bytes;		 // read, found equal by digest, and not sent
	uint64_t piece_blocks;		 // that differed and went by their unequal pieces alone
	uint64_t kept_bytes;		 // of them, that did not travel for that
	uint64_t point;			 // that it ended with; 0: it has none
	char failure[SYNC_FAILURE_SIZE]; // why the newest try came to nothing; "" when it is committed
};

struct sync_log {
	unsigned count;
	struct sync_record record[SYNC_LOG_MAX]; // oldest first
};

// An absent file is an empty log. A damaged one is an error, and an empty log: the record is for people, nothing depends on it.
int sync_log_load(struct env_root *state, const char *protection, struct sync_log *ret_log, struct err *err);
// Replaces the file: durable on return.
int sync_log_save(struct env_root *state, const char *protection, const struct sync_log *log, struct err *err);
// Takes in how one try ended: a new record, or more of the newest one when that has no point yet and the same reason. Pure.
void sync_log_add(struct sync_log *log, const struct sync_record *try);
// The newest record was a try whose answer was lost; it turns out that its point is committed. False: it was not open. Pure.
bool sync_log_found_committed(struct sync_log *log, uint64_t point);
// Bytes a second that the newest SYNC_LOG_SPEED_OF committed syncs examined; 0: never measured. Pure.
uint64_t sync_log_speed(const struct sync_log *log);
// {"syncs": [...]}, newest first, as docs/control.md has it; a new reference.
json_t *sync_log_json(const struct sync_log *log);

#endif
