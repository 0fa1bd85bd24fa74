// SPDX-License-Identifier: Apache-2.0
// A note of which state file a disk has, outside of the state directory: RUN_DIR/state/PROTECTION:DISK.
//
//	state_note_open ──► state_note_next ──► (the state file changes) ──► state_note_keep ──► … ──► close, or death
//
// A state directory that was brought back from a copy of the same run has a file that is sound, and lacks the regions that were marked since.
// No position tells where no point came between. The note does: it outlives the process and the state directory, not a reboot.
//
// K1: at any moment the state file is one of the two that the note names, or the note is gone.
// K2: where the note cannot be written it is removed; where neither works it names another file, and all of the disk is compared.
#ifndef KAGAMI_REPLICATOR_STATE_NOTE_H
#define KAGAMI_REPLICATOR_STATE_NOTE_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state_print { // of a state file
	struct uuid instance;
	uint64_t marks; // a digest of them
};

// What is in the file. Valid if and only if it has this length, its check is right and its reserved field is 0.
enum { STATE_NOTE_BYTES = 64 };
struct state_noted {
	uint64_t boot;
	struct state_print print[2]; // what the state file was last durably, and what it was about to become
};
void state_noted_encode(const struct state_noted *noted, unsigned char bytes[STATE_NOTE_BYTES]);
bool state_noted_decode(const unsigned char *bytes, size_t len, struct state_noted *ret_noted);

struct state_note_place {
	struct env *env;
	const char *run_dir;
	uint64_t boot; // a number that another boot of the host does not have; 0: the run directory does not outlive one
	const char *protection, *disk;
};

struct state_note { // zeroed: there is none. One thread at a time
	struct env_root *root;
	struct env_file *file;
	char name[2 * NAME_SIZE + 16];
	uint64_t boot;
	struct state_print now;
};

// Whether the note speaks against the file: names neither it nor one that it was to become. `clean`: of a file that says so its map is the truth, and
// only the instance counts. False where there is no note of this boot. A damaged note speaks against every file.
bool state_note_against(const struct state_note_place *place, const struct state_print *print, bool clean);
// `found`: the file that a start found, and believed; zeroed: none. The note of this boot may have been left between next and keep, and name that as what the file was to become:
// it is what the file is until the first keep (K1). One that was not believed is not named. After a failure there is no note, if the older one could be removed.
int state_note_open(struct state_note *note, const struct state_note_place *place, const struct state_print *found, struct err *err);
// After a failure of these two there is no note any more, which the log says once.
void state_note_next(struct state_note *note, const struct state_print *print); // the file is about to become this
void state_note_keep(struct state_note *note, const struct state_print *print); // it is this
void state_note_close(struct state_note *note);					// stays as it is

#endif
