// SPDX-License-Identifier: Apache-2.0
// Looking at blocks: read and digested by the crew, part by part in a buffer that stays in the cache of its processor, and kept nowhere.
//
//	source_look() of a batch without memory ─► look_start() ─► look_wait(): its digests
//
// The copy out of the page cache and the digest are all the work of a survey: here they are done by all processors at once, of data that
// do not go out to memory in between. Several may be under way. What is read is the image as it is now: for sets of CUT_PRECOPY.
#ifndef KAGAMI_REPLICATOR_LOOK_H
#define KAGAMI_REPLICATOR_LOOK_H

#include "base/crew.h"
#include "format/digest.h"
#include "replicator/source.h"

enum {
	LOOK_JOB_BLOCKS = 16,
	LOOK_JOBS = (SOURCE_BATCH_MAX + LOOK_JOB_BLOCKS - 1) / LOOK_JOB_BLOCKS,
	LOOK_READ_BLOCKS = 2, // at once: 128 KiB
};

struct look {
	struct source_batch batch; // without memory
	struct digest digest[SOURCE_BATCH_MAX];
	struct look_part {
		struct crew_job job;
		struct look *look;
		struct source *source;
		const struct digest_key *key;
		unsigned first, end; // of the batch
		unsigned failed;     // the block that could not be read
		int code;
	} part[LOOK_JOBS];
	unsigned parts;
};

// Begins with what was chosen into the batch; nothing of `look` may move until it was waited for.
void look_start(struct look *look, struct crew *crew, const struct digest_key *key, struct source *source);
// Waits; works while it does. 0: the digests are there; else the code of a read, and which block it was.
int look_wait(struct look *look, struct crew *crew, void *kit, const struct source_block **ret_failed);

#endif
