// SPDX-License-Identifier: Apache-2.0
// A long pass: which of a great many candidates does the receiver's head not hold, and those to it.
//
//	holes ─► ZEROS            told, not read: the receiver looks in its table where it has something else
//	a stretch ─► ship_set()   compared block by block, and sent from what was read: where much differs nothing is read twice
//	   │ nearly all of it was equal
//	   ▼
//	survey: look ─► digest ─► NODES ─ ─ (round trip) ─ ─ UNEQUAL ─► equal: settled, and done with
//	                                                       └─► NODES below it, COMPARE of the blocks ─► those that differ stay in the set
//	   │ all was looked at, or much differs
//	   ▼
//	ship_set() of what stayed in the set: read again, with digests made at that reading
//
// What is digested in a survey is not kept, only its digests are: so thousands of blocks may be on their way, and a long round trip
// does not slow it. A block is read a second time only if it differed then, and only while most do not. What is sent is always what
// was digested when it was read for sending. Memory: 128 KiB for each thread that reads, and 16 bytes for each of SURVEY_WINDOW_MAX blocks
// at most. For cuts of CUT_PRECOPY; used by the cycle thread.
#ifndef KAGAMI_REPLICATOR_COMPARE_H
#define KAGAMI_REPLICATOR_COMPARE_H

#include "replicator/ship.h"

enum {
	SURVEY_LANES = 16, // batches that are chosen, and of them those that are read: nothing waits for a thread that is late
	SURVEY_READS = 8,
	SURVEY_WINDOW_MIN = 1024,	// blocks without an answer, at first
	SURVEY_WINDOW_MAX = 1 << 18,	// and at most: 16 GiB of disk
	SURVEY_QUESTIONS_MAX = 512,	// messages without an answer: their answers fit into any socket's buffers
	SURVEY_UNEQUAL_MAX = 4096,	// differing blocks that are left for later before they are sent
	STRETCH_BLOCKS_MIN = 256,	// compared block by block, to see how much differs
	STRETCH_BLOCKS_MAX = 1 << 16,
};

struct compare {
	struct ship *ship;
	struct source *source;
	struct channel *channel;
	enum codec codec;
	const struct digest_key *key;
	uint64_t stretch_min; // 0: STRETCH_BLOCKS_MIN
	bool nodes; // both sides know NODES, and much of the set may be equal
	struct ship_stats *stats;
	struct ship_progress *progress;
};

// Ships the whole set of the last cut. Returns as ship_set() does.
int compare_ship(const struct compare *compare, struct wire_failure *ret_failure, struct err *err);

// survey.c: looks at the set from where it was looked at last, and settles what is equal. Ends when all was looked at (*ret_all), or when
// so much differs that it is to be sent first. Stores how many blocks were looked at, and how many of them differ.
int survey_run(const struct compare *compare, bool *ret_all, uint64_t *ret_looked, uint64_t *ret_unequal,
	       struct wire_failure *ret_failure, struct err *err);

#endif
