// SPDX-License-Identifier: Apache-2.0
// The last part of the way: blocks that differ become BLOCK and ZEROS on a connection, packed by the crew, sent in order.
//
//	sender_block(), sender_zeros()  ─►  pack.c  ─►  the channel        what was put is what known.c says the head will hold
//
// What is under way is bounded by PACK_SLOTS; a block's data stay where they are until sender_until() has passed its number.
// Used by the cycle thread alone; another thread may call sender_view().
#ifndef KAGAMI_REPLICATOR_SENDER_H
#define KAGAMI_REPLICATOR_SENDER_H

#include "base/crew.h"
#include "base/env.h"
#include "base/err.h"
#include "format/codec.h"
#include "link/channel.h"
#include "replicator/known.h"
#include "replicator/source.h"
#include "replicator/tune.h"
#include "rpo/stage_clock.h"
#include "replicator/worth.h"

#include <stdbool.h>
#include <stdint.h>

struct sender_config {
	struct env *env;    // for its clock
	struct crew *crew;  // NULL: all is done by who calls
	size_t known_bytes; // of the table of known digests; 0: none
	bool adapt;	    // the codec's level, by what is measured
	void (*turn)(void *context, uint64_t now_ns); // called with each block that leaves; may be NULL
	void *context;
	struct stage_clock *clock; // of the cycle thread; NULL: nobody wants to know
};

struct sender_stats { // of one pass
	uint64_t blocks, zero_blocks;
	uint64_t plain_blocks; // of them those that went as they are: no codec made them smaller
	uint64_t apart_blocks; // of them those of which pieces were kept at home, and how many
	uint64_t kept_pieces;
};

struct sender_view {
	int level;
	enum tune_limit limit;
	uint64_t known_entries;
};

struct sender;

int sender_new(const struct sender_config *config, struct sender **ret_sender); // -ENOMEM
void sender_free(struct sender *sender);					 // takes NULL
struct known *sender_known(struct sender *sender);
struct pack *sender_pack(struct sender *sender);
struct worth *sender_pieces(struct sender *sender);   // of asking for pieces
struct worth *sender_question(struct sender *sender); // of asking at all
void sender_view(const struct sender *sender, struct sender_view *ret_view); // any thread

// A pass: everything before is out or dropped.
void sender_begin(struct sender *sender, struct source *source, struct channel *channel, enum codec codec,
		  const struct digest_key *key, struct sender_stats *stats);
// `theirs`: digests of the receiver's pieces of it, which stay where they are as the data do; NULL: not known.
int sender_block(struct sender *sender, const struct source_block *block, const struct digest *digest, const struct digest *theirs,
		 struct err *err);
int sender_zeros(struct sender *sender, uint16_t disk, uint64_t first, uint64_t count, struct err *err);
uint64_t sender_number(const struct sender *sender);		       // of blocks that were added in this pass
int sender_until(struct sender *sender, uint64_t number, struct err *err); // puts all before this one
int sender_ready(struct sender *sender, struct err *err);		       // puts what need not be waited for
uint64_t sender_sent_ns(const struct sender *sender); // in sending, of all passes
uint64_t sender_now_ns(const struct sender *sender);
// The clock goes on in `stage`; returns the stage before. What is in none of the others' hands is the thread's own work, and so packing.
enum rpo_stage sender_stage(const struct sender *sender, enum rpo_stage stage);
void sender_end(struct sender *sender); // of the pass, however it ended: nothing is under way

#endif
