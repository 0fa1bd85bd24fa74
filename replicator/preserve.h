// SPDX-License-Identifier: Apache-2.0
// Blocks of the cut's set that are on their way out: their content as of the cut is being read, or is held in memory.
//
//	FETCHING   a batch reads the block from the image, and takes its time
//	SAVING     a guest write wants the block: its old content is being read into `data`; the write waits
//	OVERTAKEN  the same while a batch read it: `data` is the content as of the cut, and takes the place of what the batch read when that
//	           has ended; the image may be overwritten
//	HELD       `data` is the content as of the cut; the image may be overwritten
//	SPILLING   of a block with a place in the spill file (spill.h): `data` is being written there; the write still waits
//	SPILLED    the content as of the cut is in the file; the image may be overwritten
//
// A block that is in the set and not here is untouched: the image holds it as of the cut.
// Memory: at most bytes_max of data over all disks of the protection, spares included: what is spare was in use before, and is wanted again
// when cycles follow each other. Who owns this gives it back some time after the cut (export_loop.c).
#ifndef KAGAMI_REPLICATOR_PRESERVE_H
#define KAGAMI_REPLICATOR_PRESERVE_H

#include "base/size.h"
#include "replicator/aio.h"
#include "replicator/spill.h"

#include <stdbool.h>
#include <stdint.h>

struct volume;
struct volume_request;
struct fetch;

enum preserve_state { PRESERVE_FETCHING, PRESERVE_SAVING, PRESERVE_OVERTAKEN, PRESERVE_HELD, PRESERVE_SPILLING, PRESERVE_SPILLED };

struct preserve_block {
	struct volume *volume;
	uint64_t index;
	enum preserve_state state;
	bool spilled;	// has a place in the spill file, and a buffer only until it is there
	uint64_t place; // of `spilled`
	bool dropped; // the cut is over, what is under way is not: freed when it ends
	struct volume_request *waiters, **waiters_end;
	unsigned char *data; // of SAVING, OVERTAKEN and HELD
	struct fetch *fetch; // that wants the content, in its place `slot`; of SAVING it may be NULL
	unsigned slot;
	bool behind; // SAVING and OVERTAKEN: a read of that batch is under way, and is not to be believed
	struct aio aio;
	struct preserve_block *next; // in its bucket or in the list of spares
	struct preserve_block *older, *newer; // HELD and SPILLED: among those that wait to be handed out
	bool ready;
};

struct preserve {
	struct spill *spill; // of blocks beyond the bound
	uint64_t bytes_max;
	uint64_t bytes; // of buffers that are not spare
	uint64_t count; // blocks in the table
	unsigned bucket_count;
	struct preserve_block **bucket;
	struct preserve_block *oldest, *newest; // HELD and SPILLED, in the order in which they became so
	struct preserve_block *spare; // with their buffers, for the next; freed by preserve_trim()
	uint64_t spare_bytes;
};

int preserve_init(struct preserve *preserve, struct spill *spill, uint64_t bytes_max);
void preserve_done(struct preserve *preserve); // the table is empty
struct preserve_block *preserve_find(const struct preserve *preserve, const struct volume *volume, uint64_t index);
// Adds a block of the caller's memory (volume and index are set).
void preserve_add(struct preserve *preserve, struct preserve_block *block);
void preserve_remove(struct preserve *preserve, struct preserve_block *block);
// The block has become HELD or SPILLED: it is `newest`, until it is removed.
void preserve_ready(struct preserve *preserve, struct preserve_block *block);
struct volume_request *preserve_take_waiters(struct preserve_block *block); // linked by `next`
// The same beyond the bound, with a place in the spill file; SPILL_ROOM was answered. NULL when memory is short.
struct preserve_block *preserve_save_spilled(struct preserve *preserve, struct volume *volume, uint64_t index);
// A block with a buffer, in state SAVING and in the table; NULL when the bound is reached or memory is short.
struct preserve_block *preserve_save(struct preserve *preserve, struct volume *volume, uint64_t index);
// Ends a block that preserve_save() made and preserve_remove() took out: its memory may serve again.
void preserve_release(struct preserve *preserve, struct preserve_block *block);
// The cut is over: forgets all saved content, and what is still being saved when it has been read. Returns the requests
// that waited for any block, linked by `next`. Blocks that a batch is reading, overtaken or not, stay until they were read.
struct volume_request *preserve_drop(struct preserve *preserve);
// Gives spare memory of `most` blocks back to the system, which takes its time. False: there is no more.
bool preserve_trim(struct preserve *preserve, unsigned most);

#endif
