// SPDX-License-Identifier: Apache-2.0
// The persistent state file of one disk: docs/format-state.md.
//
//	state_file_load ──► state_file_open_run (durable; then serve) ──┬─► state_file_save ──► close     a clean stop
//	                      ▲ marks, position, grow ──────────────────┤
//	                      └─────────────────────────────────────────┴─► (crash)   or   state_file_lose ──► close
//
// All I/O through the seam. One thread at a time, not always the same: the caller puts the calls on one file in order.
#ifndef KAGAMI_REPLICATOR_STATE_FILE_H
#define KAGAMI_REPLICATOR_STATE_FILE_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "replicator/dirty.h"
#include "replicator/export.h"
#include "replicator/state_note.h"

#include <stdbool.h>
#include <stdint.h>

// Why a sync cannot rely on the dirty map. The names are in docs/format-state.md and in `kagami status`; the numbers are in state files.
enum sync_reason {
	SYNC_NONE,
	SYNC_INITIAL,
	SYNC_STATE_MISSING,
	SYNC_STATE_UNREADABLE,
	SYNC_STATE_FOREIGN,
	SYNC_UNCLEAN_STOP,
	SYNC_IMAGE_CHANGED,
	SYNC_POSITION,
	SYNC_TRACKING_LOST, // writes went by that the file does not know
	SYNC_RESIZED,	    // the disk was found larger than when it was left
	SYNC_REPLICA_DAMAGED, // the receiver named blocks that its scrub found damaged
	SYNC_TRACKING_DOUBT,  // the receiver was told that tracking was lost, and the state file does not know
	SYNC_ASKED,	    // an operator wants all of it compared
	SYNC_FALSE_HOLE,    // what a file system told as a hole is not zero (audit.h): that region
	SYNC_LAST = SYNC_FALSE_HOLE,
};
const char *sync_reason_name(enum sync_reason reason); // NULL for SYNC_NONE
bool sync_reason_whole(enum sync_reason reason);	// costs all of a disk

struct state_position { // what is known of the receiver
	struct uuid protection;
	struct uuid generation;
	uint64_t point;          // the last that is known to be committed; 0 none
	struct uuid last_cut;    // what that point shows
	int64_t last_cut_wall_ns; // when that was; 0 unknown
	struct uuid pending_cut; // a cut whose SEAL was not answered; null: none
	enum sync_reason owed;   // a sync whose point is not committed: why the map, or the marks, hold more than was written
};

extern const struct uuid state_no_cut; // in the place of last_cut: no point shows it

struct state_run { // of the replicator that makes a file
	uint64_t number; // lease.h
	struct state_note *note;
};

struct state_file;

// Reads `name` below `root` and decides what it proves for `expected` (protection and generation), `disk` and the image as it
// is now. `dirty` may hold something already; it is added to.
//	SYNC_NONE          a clean stop: `dirty` has its exact map, *ret_position says what it is relative to, and which sync it owes.
//	SYNC_UNCLEAN_STOP  `dirty` has all pieces of the regions that were marked, and no other; *ret_position as above.
//	any other          `dirty` and *ret_position are untouched: the whole disk is a candidate.
// `is_new`: the protection has never committed a point. A file that cannot be read is a reason, not an error.
enum sync_reason state_file_load(struct env_root *root, const char *name, const char *disk,
				 const struct state_position *expected, const struct image_identity *identity, bool is_new,
				 struct dirty *dirty, struct state_position *ret_position);
// The number of the run that made a file which says `runs` (lease.h); 0 where it cannot be read.
uint64_t state_file_run(struct env_root *root, const char *name);
// What a file says of the receiver, whatever it is worth for its disk; false where it cannot be read.
bool state_file_told(struct env_root *root, const char *name, struct state_position *ret_position);
// The least size that the image of `disk` may have, by what the file says: less was cut off by somebody. 0 where no file of `expected` (protection and generation) and `disk` says.
uint64_t state_file_least_size(struct env_root *root, const char *name, const char *disk, const struct state_position *expected);
// Of a file that state_file_load() took: false where it is another than the note says, one that was brought back from a copy. What it is, otherwise.
bool state_file_noted(struct env_root *root, const char *name, const struct state_note_place *place, struct state_print *ret_print);

// A new file in the place of whatever `name` was, which says that a replicator runs, and in which the regions of `dirty` are
// marked; `dirty` must hold all that is relative to `position`. Durable on return. After a failure the old file or the new
// one is there, either true as long as nothing is written to the image; who serves all the same calls state_file_lose(NULL, ...) first.
// `run`: its note is open, and says what the file is from here to its close (state_note.h, K1). NULL: of no run, and without a note.
int state_file_open_run(struct env_root *root, const char *name, const char *disk, const struct state_position *position,
			const struct image_identity *identity, const struct dirty *dirty, const struct state_run *run,
			struct state_file **ret_file, struct err *err);

// Marks and unmarks regions of the disk, given in any order; one that is in both lists is marked. On return all of `set` is
// durable; what is only cleared is not synced, nor is anything when all of `set` was marked before. One write for
// each run of touched sectors and one sync at most.
// After a failure of this or the next the file is BROKEN: every later call but lose and close fails with -EIO.
int state_file_marks(struct state_file *file, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears,
		     struct err *err);
// What is known of the receiver from now on: durable on return. pending_cut goes in before its SEAL leaves, last_cut and
// point after COMMITTED and before any mark is cleared for it.
int state_file_position(struct state_file *file, const struct state_position *position, struct err *err);
// How the image was last seen, for the next position: an image whose time is clearly before that was taken back to an earlier one.
void state_file_saw(struct state_file *file, const struct image_identity *identity);
uint64_t state_file_marked(const struct state_file *file); // for tests: regions

// In the place of the file one for a larger disk, with the same marks and position, in which all regions that reach past the
// old end are marked (B6): durable on return, and *file is it. Call it before the image grows: then a crash at any point finds the
// image at one of the two sizes and costs the marked regions; found larger before that, it costs a sync (SYNC_RESIZED).
// `identity`: of the image as it is. After a failure *file is the old one: good when only the writing of the new one failed, else BROKEN.
int state_file_grow(struct state_file **file, struct env_root *root, const char *name, uint64_t new_size,
		    const struct image_identity *identity, struct err *err);

// The image could not grow after state_file_grow(): in the place of the file one for `old_size` again, with the marks that it
// has. Errors as there.
int state_file_ungrow(struct state_file **file, struct env_root *root, const char *name, uint64_t old_size,
		      const struct image_identity *identity, struct err *err);
// The image has that size, durably: from here on one that is smaller was cut (state_file_least_size). Durable on return.
int state_file_grown(struct state_file *file, struct err *err);
bool state_file_broken(const struct state_file *file);

// The clean stop: map, then header. `dirty` is of the file's size. On failure the file still says that a replicator runs, or,
// where only its last writes or syncs failed, may say the whole truth as if there had been no failure. Nothing may be written to
// the image afterwards.
int state_file_save(struct state_file *file, const struct state_position *position, const struct image_identity *identity,
		    const struct dirty *dirty, struct err *err);
// Writes go by that the file does not know: a later load says tracking-lost, or state-missing when the file could only be
// removed. Durable on return. Opens the file anew, so it works on a BROKEN one and, with `file` NULL, on one that could not be opened
// to run. `file`, if any, is BROKEN afterwards. On failure the file may yet be believed: the caller keeps a note elsewhere.
int state_file_lose(struct state_file *file, struct env_root *root, const char *name, struct err *err);
void state_file_close(struct state_file *file); // takes NULL

#endif
