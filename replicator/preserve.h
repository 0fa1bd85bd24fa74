// SPDX-License-Identifier: Apache-2.0
// Copy-before-write: what a guest overwrites of the cut's set is saved first, by runs of pieces of 4 KiB, as many as the write touches. So a small
// write costs a small copy, and the bounds hold the old content of that many writes, not of the blocks around them.
//
//	block  a block of the set of which something is saved, or one that a batch reads from the image
//	run    pieces of it, side by side, that one write wanted
//
//	SAVING ──old content read──► SAVED ───────────────────────┐
//	   │                                                      ├──► the batch that reads the block: over what it read (B)
//	   └─ beyond the bound of memory ──► SPILLING ──► SPILLED ─┘
//	      a write of these pieces waits until SAVED, or SPILLED (spill.h)
//
// B: a batch reads the block from the image as it is, while guests write there. What of it was not saved by the end of that read was not
// overwritten before; what was saved, or is being saved then, takes the place of what was read.
// A block that is in the set and not here is untouched: the image holds it as of the cut.
// Memory: at most bytes_max of content over all disks of the protection, spares included: what is spare was in use before, and is wanted again
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
struct preserve_block;

enum preserve_state { PRESERVE_SAVING, PRESERVE_SAVED, PRESERVE_SPILLING, PRESERVE_SPILLED };

struct preserve_run {
	struct preserve_block *block; // NULL: nobody wants it any more; freed when what is under way ends
	struct volume *volume;
	enum preserve_state state;
	unsigned first, count; // pieces of the block
	bool spilled;	// has a place in the spill file, and a buffer only until it is there
	uint64_t place; // of `spilled`
	unsigned char *data;
	struct fetch *fetch; // SPILLED: reads it back, into its place `slot`
	unsigned slot;
	struct aio aio;
	struct preserve_run *next; // of its block, or among the spares
};

struct preserve_block {
	struct volume *volume;
	uint64_t index;
	uint16_t safe;	 // pieces that are SAVED or SPILLED: the image may be overwritten there
	uint16_t saving; // those on their way there
	unsigned reads;	 // runs SAVING
	struct preserve_run *runs;
	struct volume_request *waiters, **waiters_end; // for pieces that are on their way
	struct fetch *fetch; // the batch that the block is for, in its place `slot`; NULL: it is in the set
	unsigned slot;
	bool reading; // that batch's read of the image is under way
	bool dropped; // the cut is over, and the block is not in the table; what the batch waits for is not over
	struct preserve_block *next; // in its bucket
	struct preserve_block *older, *newer; // among those that wait to be handed out
	bool ready;
};

struct preserve {
	struct spill *spill; // of runs beyond the bound
	uint64_t bytes_max;
	uint64_t bytes; // of runs that are neither spare nor spilled
	uint64_t count; // blocks in the table
	unsigned bucket_count;
	struct preserve_block **bucket;
	struct preserve_block *oldest, *newest; // with something safe, in the order in which they had it first
	struct preserve_run *spare[PIECES_PER_BLOCK]; // of so many pieces and one, for the next; all that is spare is freed by preserve_trim()
	uint64_t spare_bytes;
	struct preserve_run *dead_runs; // of the spill file, and blocks: for the next, too
	struct preserve_block *dead_blocks;
};

int preserve_init(struct preserve *preserve, struct spill *spill, uint64_t bytes_max);
void preserve_done(struct preserve *preserve); // the table is empty, and nothing under way
struct preserve_block *preserve_find(const struct preserve *preserve, const struct volume *volume, uint64_t index);
// A block without anything, in the table; NULL when memory is short.
struct preserve_block *preserve_new(struct preserve *preserve, struct volume *volume, uint64_t index);
// Adds a block of the caller's memory (volume and index are set).
void preserve_add(struct preserve *preserve, struct preserve_block *block);
void preserve_remove(struct preserve *preserve, struct preserve_block *block);
void preserve_free(struct preserve *preserve, struct preserve_block *block); // that preserve_new() made and preserve_remove() took out
// Something of the block is safe: it is `newest`, until it is removed, or taken by a batch. Does nothing when it was before.
void preserve_ready(struct preserve *preserve, struct preserve_block *block);
void preserve_taken(struct preserve *preserve, struct preserve_block *block);
struct volume_request *preserve_take_waiters(struct preserve_block *block); // linked by `next`
// A run in state SAVING with a buffer, which the block has from now on; NULL when the bound is reached or memory is short.
struct preserve_run *preserve_save(struct preserve *preserve, struct preserve_block *block, unsigned first, unsigned count);
// The same beyond the bound, with a place in the spill file; SPILL_ROOM was answered. NULL when memory is short.
struct preserve_run *preserve_save_spilled(struct preserve *preserve, struct preserve_block *block, unsigned first, unsigned count);
uint64_t preserve_run_bytes(const struct preserve_run *run);
uint16_t preserve_run_mask(const struct preserve_run *run);
// Ends a run that its block has not any more: its memory may serve again.
void preserve_release(struct preserve *preserve, struct preserve_run *run);
// The cut is over: forgets all saved content, and what is on its way when it has come. Returns the requests
// that waited for any block, linked by `next`. Blocks that a batch waits for are `dropped`, and stay until it does not.
struct volume_request *preserve_drop(struct preserve *preserve);
// Gives at least `most` bytes of spare memory back to the system, which takes its time. False: there is no more.
bool preserve_trim(struct preserve *preserve, uint64_t most);
bool preserve_has_spare(const struct preserve *preserve);

#endif
