// SPDX-License-Identifier: Apache-2.0
// A note that the tracking of a disk was lost: RUN_DIR/lost/PROTECTION:DISK, with the reason as text, or empty where there was no room for that.
//
// It stands beside what the state file says, for the case that the state directory takes no write at all: then a run directory,
// which is usually in memory, still does. It outlives the replicator, not a reboot. Removed when the state file is good again.
#ifndef KAGAMI_REPLICATOR_LOST_NOTE_H
#define KAGAMI_REPLICATOR_LOST_NOTE_H

#include "base/env.h"
#include "base/err.h"

#include <stdbool.h>

// Durable on return, as far as the run directory is.
int lost_note_write(struct env *env, const char *run_dir, const char *protection, const char *disk, const char *why,
		    struct err *err);
// Whether there is one; also true when that cannot be found out, since then nothing may be trusted.
bool lost_note_stands(struct env *env, const char *run_dir, const char *protection, const char *disk);
void lost_note_remove(struct env *env, const char *run_dir, const char *protection, const char *disk);

#endif
