// SPDX-License-Identifier: Apache-2.0
// The region marks of a state file, kept in memory as they lie in the file: docs/format-state.md, "Mark sector".
//
// A mark is a bit of a sector that checks itself and is written in place: a sector survives whole or not at all, so there is
// no torn one, and one that does not check is damage.
// Memory: 512 bytes for each 15 GiB of the disk.
#ifndef KAGAMI_REPLICATOR_STATE_MARKS_H
#define KAGAMI_REPLICATOR_STATE_MARKS_H

#include "replicator/state_header.h"

struct state_marks {
	uint64_t regions, sectors;
	uint64_t marked;	  // regions
	unsigned char *bytes;	  // the sectors; checksums are right only in those that are not touched
	unsigned char *touched;	  // one byte a sector: other than in the file
	uint64_t touched_first, touched_end;
};

// No region is marked, and every sector is touched. -ENOMEM.
int state_marks_init(struct state_marks *marks, uint64_t size, const struct uuid *instance);
uint64_t state_marks_memory(uint64_t size); // bytes of them, of a disk of `size`
void state_marks_done(struct state_marks *marks);

void state_marks_put(struct state_marks *marks, uint64_t region, bool on); // a region of the disk
bool state_marks_has(const struct state_marks *marks, uint64_t region);
// Gives the touched sectors their checksums; they are touched no more.
void state_marks_seal(struct state_marks *marks);
// A digest of which regions are marked: of `sectors` of them as they lie in a file or in memory, whatever their checksums.
uint64_t state_marks_digest(const unsigned char *bytes, uint64_t sectors);
// Of a file whose header is that: true unless it cannot be read.
bool state_marks_digest_of(struct env_file *file, const struct state_header *header, uint64_t *ret_digest);
bool state_marks_differ(const struct state_marks *marks); // whether any sector is touched
// Seals the touched sectors and writes them, one write for each run of them. Not synced.
int state_marks_write(struct state_marks *marks, struct env_file *file);

// Marks in `dirty` all pieces of the regions that are marked. False when a sector does not check; `dirty` is untouched then.
bool state_marks_load(struct env_file *file, const struct state_header *header, struct dirty *dirty);

#endif
