// SPDX-License-Identifier: Apache-2.0
// Blocks made ready for the wire by a crew, and taken in the order in which they were added.
//
//	pack_add() … while not pack_full()      ─►  packed side by side, one block a job
//	pack_take(), sent, pack_release()       ─►  the oldest, whoever was first to be ready
//
// What a block's message says does not depend on how many work: the same blocks give the same bytes. Memory: PACK_SLOTS times a block,
// and a codec's state and a block for each thread. One thread adds and takes.
#ifndef KAGAMI_REPLICATOR_PACK_H
#define KAGAMI_REPLICATOR_PACK_H

#include "base/crew.h"
#include "format/codec.h"
#include "format/digest.h"
#include "format/wire.h"
#include "replicator/source.h"

#include <stdbool.h>
#include <stddef.h>

enum { PACK_SLOTS = 32, PACK_ROOM_BLOCKS = 2, PACK_PIECES_MAX = 8 }; // of a block that differs in more, all of it travels

struct pack_choice { // how to pack
	enum codec codec;
	int level;
	// Digests of the receiver's pieces of that block, PIECES_PER_BLOCK of them, and the key of ours; until it is taken. NULL: they are not known.
	const struct digest *theirs;
	const struct digest_key *key;
};

struct pack_result {
	struct wire_block block; // its payload lies in the slot, or in the source's batch
	size_t plain_len;	 // what it unpacks to
	bool asked;		 // the receiver's pieces were known
	unsigned kept;		 // pieces that need not travel, since the receiver's are equal
};

struct pack;
struct crew *pack_crew(struct pack *pack); // and the kit of the thread that waits
void *pack_kit(struct pack *pack);

// The tools of a thread of the crew, for crew_config.
void *pack_kit_new(void); // NULL: no memory
void pack_kit_free(void *kit);

unsigned char *pack_kit_room(void *kit); // PACK_ROOM_BLOCKS blocks, for the job that runs

int pack_new(struct crew *crew, struct pack **ret_pack); // `crew` may be NULL. -ENOMEM
void pack_free(struct pack *pack);			  // takes NULL; empty
bool pack_full(const struct pack *pack);
bool pack_empty(const struct pack *pack); // for tests
// The block's data stay as they are until its result was released. `whole`: every piece on the disk is dirty, and so it travels
// whole, to be stored as it comes; else the pieces of its mask travel.
void pack_add(struct pack *pack, const struct source_block *block, bool whole, const struct digest *digest, const struct pack_choice *choice);
bool pack_ready(struct pack *pack); // there is an oldest, and it is ready
// The oldest; waits for it, or packs it. Valid until pack_release().
const struct pack_result *pack_take(struct pack *pack);
void pack_release(struct pack *pack);
void pack_drop(struct pack *pack); // all of them; waits for those that are under way

// The digests of a batch's blocks, by the crew. Waits for all of them.
void pack_digests(struct pack *pack, const struct digest_key *key, const struct source_batch *batch, struct digest *ret_digests);

#endif
