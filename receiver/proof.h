// SPDX-License-Identifier: Apache-2.0
// One reading of a point from end to end, in slices: every block of every disk as the point shows it, proven against the digests that were
// committed with it. What it finds damaged goes into quarantine at once, as the scrub has it (receiver/scrub.h).
//
// The caller holds the point from proof_open() to proof_close(): so neither folds nor merges change its chain, and no slice waits for them; only
// taking damage in does. One thread at a time.
#ifndef KAGAMI_RECEIVER_PROOF_H
#define KAGAMI_RECEIVER_PROOF_H

#include "receiver/store.h"

enum {
	PROOF_SLICE_BLOCKS = 256,  // 16 MiB
	PROOF_DAMAGE_MAX = 1000,   // then the reading ends: the point is not to be used, and a scrub tells the rest
};

struct proof;

struct proof_info {
	uint64_t done_bytes, total_bytes; // of the disks
	uint64_t damaged_blocks;
	bool ended;
};

// -ENOENT without such a point; -EUCLEAN where its point.json is damaged: it is in quarantine then; -ENOMEM and others, as proof_slice().
int proof_open(struct replica *replica, uint64_t point, struct proof **ret_proof, struct err *err);
void proof_close(struct proof *proof); // takes NULL
// The next slice. -EUCLEAN, with the file, where the digests or an overlay's tables are damaged: it is in quarantine then, and there is nothing to go on with. Anything else: it could not be read now, and the same slice may be asked for again.
int proof_slice(struct proof *proof, struct err *err);
void proof_info(const struct proof *proof, struct proof_info *ret_info);

#endif
