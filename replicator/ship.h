// SPDX-License-Identifier: Apache-2.0
// Shipping: takes one cut's set from the source to the receiver's head.
//
//	fetch ─► digest ─► known? ─► COMPARE ─ ─ (round trip) ─ ─ DIFFERS ─► compress ─► BLOCK / ZEROS
//	                     │ equal: settled     differs, or was written and is hardly ever equal: sent without asking ─┘
//
// Several batches are under way, so that reading, digesting, the round trip and compressing overlap; digests and compression
// are the crew's work (sender.h), in order. A block is read once: what was digested is what is sent. Memory: SHIP_BATCHES batches of 4 MiB,
// and what sender.h has. Long passes of which most may be equal are surveyed first (compare.h). Used by the cycle thread alone.
#ifndef KAGAMI_REPLICATOR_SHIP_H
#define KAGAMI_REPLICATOR_SHIP_H

#include "base/err.h"
#include "format/codec.h"
#include "format/digest.h"
#include "link/channel.h"
#include "replicator/progress.h"
#include "replicator/sender.h"
#include "replicator/source.h"

#include <stdatomic.h>
#include <stdint.h>

enum {
	SHIP_BATCHES = 5,   // 4 MiB each
	SHIP_ASKED_MAX = 3, // of them, that wait for the receiver's answer
};


struct ship_stats {
	uint64_t read_bytes;
	uint64_t equal_blocks; // candidates that the head holds already
	uint64_t sent_blocks;  // as data
	uint64_t zero_blocks;  // as ranges of zeros
	uint64_t hole_blocks;  // likewise, and not read for that
	uint64_t known_blocks; // of the equal ones, those that needed no question
	uint64_t plain_blocks; // of the sent ones, those that no codec made smaller
	uint64_t unasked_blocks; // of the sent ones, those that the receiver was not asked about though nothing was known of them
	uint64_t apart_blocks; // of the sent ones, those that went by their unequal pieces alone
	uint64_t kept_pieces;  // that did not travel for that
};

struct ship;

int ship_new(const struct sender_config *config, struct ship **ret_ship); // -ENOMEM
void ship_free(struct ship *ship);					   // takes NULL
struct sender *ship_sender(struct ship *ship);
// How passes of pre-copy yield: between ship_yield_begin() and ship_yield_end() each step of a passage yields to the guest of `source` with `rest`, which
// sleeps for at most so long. NULL: nothing yields.
struct ship_rest {
	void (*rest)(void *context, uint64_t ns);
	void *context;
};
void ship_yield_begin(struct ship *ship, struct source *source, const struct ship_rest *rest, struct ship_progress *progress);
void ship_yield_end(struct ship *ship);
void ship_step(struct ship *ship); // a batch is done with
// What channel_expect() does; the yielding knows that the peer was waited for.
int ship_expect(struct ship *ship, struct channel *channel, enum wire_type type, struct wire_frame *ret_frame, struct wire_failure *ret_failure,
		struct err *err);

// Whether to ask by EXAMINE, where it pays (worth.h): the receiver knows it, and of the blocks it is not known which pieces changed. False at first.
void ship_by_pieces(struct ship *ship, bool by_pieces);

// Whether the set is what a guest wrote since the last point, and no candidates of a sync: such blocks may go without a question, where they were
// hardly ever equal. False at first.
void ship_written(struct ship *ship, bool written);

// Ships the whole set of the last cut. -ESTALE: the cut was given up; -EREMOTEIO: the receiver refused, *ret_failure says how; other codes:
// the source or the connection failed. In every case no batch is left under way. Adds to `stats` and `progress`.
int ship_set(struct ship *ship, struct source *source, struct channel *channel, enum codec codec,
	     const struct digest_key *key, struct ship_stats *stats, struct ship_progress *progress,
	     struct wire_failure *ret_failure, struct err *err);

#endif
