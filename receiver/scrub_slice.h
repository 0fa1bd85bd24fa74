// SPDX-License-Identifier: Apache-2.0
// The proving half of a scrub: a range of blocks of one disk, as points show them, read and held against the digests. It changes nothing, and needs retain_lock,
// so that no point goes away under it.
#ifndef KAGAMI_RECEIVER_SCRUB_SLICE_H
#define KAGAMI_RECEIVER_SCRUB_SLICE_H

#include "receiver/damage.h"
#include "receiver/scrub_chain.h"

struct slice {
	struct replica *replica;
	unsigned disk;
	uint64_t first, end; // blocks
	struct scrub_chain chain;
	uint64_t *entries;	 // of the list of each level
	struct digest *digest;	 // of each block, as the level that was taken in last shows it
	uint64_t *shown;	 // the point whose version that is; 0: the disk does not reach so far yet
	uint64_t *bad;		 // the point from which the version is damaged; 0: it is sound, or not looked at
	bool *named;		 // by the level that was taken in last
	unsigned char *block;
	struct damage_set found;
	uint64_t bytes, proofs;
	uint64_t unread; // blocks in whose place a table had something else, or could not be read
	uint64_t newest; // point, when the slice began
	bool open_first; // -EILSEQ where an overlay is damaged so that it cannot be opened, before anything is looked at
};

// `replica`, `disk`, `first` and `end` are given; `point` 0: every version of each block. What is damaged in one point is looked at in all. What was found is in
// `found`, `bytes`, `proofs` and `newest`. Errors say that it could not be looked at: -EBADMSG is a digest file, -ENOENT a point that is gone.
int slice_run(struct slice *s, uint64_t point, struct err *err);

#endif
