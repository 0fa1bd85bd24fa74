// SPDX-License-Identifier: Apache-2.0
// How hard to compress, by what was measured: `--codec auto`. A pure function of what it saw; the clock is its caller's.
//
//	the link is the limit	(most of the time went by in sending)	─► compress harder: fewer bytes for the same link
//	the cores are the limit	(most of it in waiting for packed blocks)	─► compress less
//	neither		(the disk, the receiver's answers, or there was little to do)	─► stay
//
// A step is tried after TUNE_PATIENCE_MIN samples in a row that ask for it, and then judged: when fewer bytes of the disk got away in a
// second than before, it is taken back, and the next try in that direction takes twice as many samples, up to TUNE_PATIENCE_MAX. So a link that
// looks busy because the receiver is slow costs a try now and then, and nothing swings.
//
// All steps are levels of zstd, so that what is whole is stored at the receiver as it came.
#ifndef KAGAMI_REPLICATOR_TUNE_H
#define KAGAMI_REPLICATOR_TUNE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	TUNE_STEPS = 5,
	TUNE_PATIENCE_MIN = 2,
	TUNE_PATIENCE_MAX = 64,
	TUNE_BOUND_PERCENT = 60,      // of the time: then it is the limit
	TUNE_LOSS_PERCENT = 5,	      // of the rate: then a step is taken back
	TUNE_SAMPLE_BYTES = 1 << 20,  // of the disk, and
	TUNE_SAMPLE_MS = 200,	      // so long: what a sample is made of at least
};

enum tune_limit { TUNE_NONE, TUNE_LINK, TUNE_CORES };
const char *tune_limit_name(enum tune_limit limit);

struct tune_sample {
	uint64_t plain_bytes;	// of the disk, that were sent as data
	uint64_t wire_bytes;	// that they took
	uint64_t send_ns;	// in sending
	uint64_t pack_ns;	// in waiting for packed blocks
	uint64_t wall_ns;	// of all
};

struct tune {
	unsigned step;		// 0: the fastest
	enum tune_limit limit;	// by the last sample
	unsigned in_row;	// samples that said so
	unsigned patience[2];	// samples in a row before a step down, up
	bool trying;		// the step is the last sample's, and not judged yet
	bool up;		// which way
	uint64_t rate_before;	// bytes of the disk a second, before the try
	uint64_t rate;		// by the last sample
	unsigned steps_kept, steps_taken_back;
};

void tune_init(struct tune *tune);
int tune_level(const struct tune *tune);
bool tune_sample_full(const struct tune_sample *sample);
void tune_take(struct tune *tune, const struct tune_sample *sample);

#endif
