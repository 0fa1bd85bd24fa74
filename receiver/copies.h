// SPDX-License-Identifier: Apache-2.0
// Files that are kept twice: protection.json, pins.json, scrub.json, each point.json, and failover.json, beside which lies a copy, byte for byte. docs/store.md, "Copies".
#ifndef KAGAMI_RECEIVER_COPIES_H
#define KAGAMI_RECEIVER_COPIES_H

#include "base/env.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define COPY_SUFFIX ".copy"

struct replica;

// Whether the copy of `path`, of which reading or decoding gave `rc`, may stand in for it: it is gone, the disk does not give it back, or it is not
// what was written. False of one that is whole and says something that nobody wants.
bool copies_stand_in(struct env_root *root, const char *path, int rc);

enum copies_done {
	COPIES_NONE,	 // both are whole and alike, or neither is whole
	COPIES_COPIED,	 // the copy is written anew
	COPIES_RESTORED, // the file is, from its copy; what it was lies beside it as <path>.damaged
};
// What reading each gives: 0, it is whole. For whoever only looks.
struct copies_state {
	int file, copy;
	bool alike; // when both are
};
void copies_state(struct env_root *root, const char *path, struct copies_state *ret_state);

// Of the replica's protection.json, at recovery: an error means that the file itself is damaged and cannot be restored. Needs `lock`.
int copies_mend_protection(struct replica *replica, struct err *err);
enum { COPIES_LOOKED = 64, COPIES_WRITTEN = 8 }; // pairs of files, in a round
// Of every file of the replica that is kept twice, when somebody met a damaged one, or looks for them: a few in a round, in order; the next round goes on from there, also
// past one that cannot be written, which the pass after this one tries again. Where protection.json, pins.json or scrub.json and its copy are both damaged, what memory says is saved. The keeper's;
// takes `lock`, for a file at a time.
void copies_round(struct replica *replica);
void copies_look(const struct replica *replica); // the next round does; any thread
// Replaces the file and its copy, so that a copy that is there always says what the file does. *ret_changed: the file is replaced, durably, whatever became
// of the copy.
int copies_replace(struct env_root *root, const char *dir, const char *path, const char *text, size_t len, bool *ret_changed);
// The same of two that are whole and differ, whose union the text is: the copy first, and neither is removed, so that whatever ends it the two say together what they said.
int copies_rejoin(struct env_root *root, const char *dir, const char *path, const char *text, size_t len);
// Moves a damaged file to <path>.damaged, where there is none from an earlier time; not certain until its directory is synced.
int copies_aside(struct env_root *root, const char *path);
// Writes text to the new files `path` and its copy, and syncs them; their names are the caller's to sync.
int copies_create(struct env_root *root, const char *path, const char *text, size_t len, struct err *err);

#endif
