// SPDX-License-Identifier: Apache-2.0
// The persistent state file of one disk: docs/format-state.md.
//
//	state_file_load ──► state_file_open_run (clean = 0, durable; then serve) ──► state_file_save (clean = 1) ──► close
//
// All I/O through the seam. One thread at a time.
#ifndef KAGAMI_REPLICATOR_STATE_FILE_H
#define KAGAMI_REPLICATOR_STATE_FILE_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "replicator/dirty.h"
#include "replicator/export.h"

#include <stdbool.h>
#include <stdint.h>

// Why a sync cannot rely on the dirty map. The names are in docs/format-state.md and in `kagami status`.
enum sync_reason {
	SYNC_NONE,
	SYNC_INITIAL,
	SYNC_STATE_MISSING,
	SYNC_STATE_UNREADABLE,
	SYNC_STATE_FOREIGN,
	SYNC_UNCLEAN_STOP,
	SYNC_IMAGE_CHANGED,
	SYNC_POSITION,
};
const char *sync_reason_name(enum sync_reason reason); // NULL for SYNC_NONE

struct state_position { // what is known of the receiver
	struct uuid protection;
	struct uuid generation;
	uint64_t point;          // the last that is known to be committed; 0 none
	struct uuid last_cut;    // what that point shows
	struct uuid pending_cut; // a cut whose SEAL was not answered; null: none
};

struct state_file;

// Reads `name` below `root` and decides whether its map is the truth for `expected` (protection and generation), `disk` and
// the image as it is now. SYNC_NONE: `dirty` was filled and *ret_position says what it is relative to. Otherwise `dirty` is
// untouched. `is_new`: the protection has never committed a point. A file that cannot be read is a reason, not an error.
enum sync_reason state_file_load(struct env_root *root, const char *name, const char *disk,
				 const struct state_position *expected, const struct image_identity *identity, bool is_new,
				 struct dirty *dirty, struct state_position *ret_position);

// Makes the file say that a replicator runs (created when it is missing or no good): durable on return.
int state_file_open_run(struct env_root *root, const char *name, const char *disk, const struct state_position *position,
			uint64_t size, struct state_file **ret_file, struct err *err);
// The clean stop: map, then header. On failure the file still says that a replicator runs, or, where only its last write or sync
// failed, may hold the whole truth as if there had been no failure. Nothing may be written to the image afterwards.
int state_file_save(struct state_file *file, const struct state_position *position, const struct image_identity *identity,
		    const struct dirty *dirty, struct err *err);
void state_file_close(struct state_file *file); // takes NULL

#endif
