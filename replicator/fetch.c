// SPDX-License-Identifier: Apache-2.0
// Reading the cut's set in batches, and its end: keep or give back.
//
// A block leaves the set when its reading begins, and is remembered from then on (group.h, P1). In SET_POINT its content as of the cut
// comes from what guest writes had saved, else from the image. Nobody waits for that read: a write that comes before its end has
// its pieces saved first, and what was saved takes the place of what was read (preserve.h, B).
#include "replicator/group.h"

#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { RUN_BLOCKS_MAX = 8 }; // adjacent blocks in one read

static unsigned char *slot_data(const struct fetch *fetch, unsigned slot)
{
	return fetch->batch->block[slot].data;
}

static void zero_tail(const struct fetch *fetch, unsigned slot)
{
	const struct source_block *block = &fetch->batch->block[slot];
	uint32_t len = size_of_block(fetch->group->volume[block->disk].size, block->index);
	memset(block->data + len, 0, BLOCK_SIZE - len);
}

void fetch_put(struct fetch *fetch)
{
	assert(fetch->pending > 0);
	if (--fetch->pending)
		return;
	struct group *group = fetch->group;
	// Given up meanwhile: a write may have overtaken one of the reads.
	if (group->set == SET_STALE && !fetch->batch->status)
		fetch->batch->status = -ESTALE;
	group->fetches--;
	fetch->done(fetch);
	group_fetched(group);
}

static void on_unspilled(struct aio *aio, int res)
{
	struct preserve_run *run = HOLDER(aio, struct preserve_run, aio);
	struct fetch *fetch = run->fetch;
	if (res < 0)
		group_give_up(fetch->group, LOSS_SPILL, res); // as when the bound is reached: a later cut is taken
	preserve_release(&fetch->group->preserve, run);
	fetch_put(fetch);
}

static void unspill(struct fetch *fetch, unsigned slot, struct preserve_run *run)
{
	struct aio_backend *backend = fetch->group->spill.backend;
	run->fetch = fetch;
	run->slot = slot;
	run->aio = (struct aio){.kind = AIO_READ,
				.background = true,
				.off = run->place,
				.len = preserve_run_bytes(run),
				.data = slot_data(fetch, slot) + (size_t)run->first * PIECE_SIZE,
				.done = on_unspilled};
	fetch->pending++;
	backend->submit(backend, &run->aio);
}

// group.h, P2: what was saved takes the place of what was read.
static void lay_over(struct fetch *fetch, const struct preserve_block *block, struct preserve_run *run)
{
	run->block = NULL;
	if (!block->dropped) {
		block->volume->preserved -= preserve_run_bytes(run);
		if (run->state == PRESERVE_SPILLED) {
			unspill(fetch, block->slot, run);
			return;
		}
		memcpy(slot_data(fetch, block->slot) + (size_t)run->first * PIECE_SIZE, run->data, preserve_run_bytes(run));
	}
	if (run->state != PRESERVE_SPILLING) // the buffer is still being written, for nobody
		preserve_release(&fetch->group->preserve, run);
}

void fetch_step(struct group *group, struct preserve_block *block)
{
	struct fetch *fetch = block->fetch;
	struct preserve_run *next;
	if (block->reading || block->reads)
		return;
	if (!block->dropped)
		preserve_remove(&group->preserve, block);
	for (struct preserve_run *run = block->runs; run; run = next) {
		next = run->next;
		lay_over(fetch, block, run);
	}
	struct volume_request *waiters = preserve_take_waiters(block);
	fetch->taken[block->slot] = NULL;
	if (block != &fetch->block[block->slot])
		preserve_free(&group->preserve, block);
	group_wake(waiters);
	fetch_put(fetch);
}

static void on_run_read(struct aio *aio, int res)
{
	struct fetch_run *run = HOLDER(aio, struct fetch_run, aio);
	struct fetch *fetch = run->fetch;
	struct group *group = fetch->group;
	if (res < 0) {
		fetch->batch->status = -EIO;
		group->incomplete = true;
		group_error(group, &group->volume[fetch->batch->block[run->first].disk], FAULT_COPY, aio->off, res);
	}
	for (unsigned slot = run->first; slot < run->first + run->count; slot++) {
		struct source_block *block = &fetch->batch->block[slot];
		zero_tail(fetch, slot);
		// Read as it is now, the block may hold writes since the cut. They must travel with it, or the receiver would keep
		// a digest of what it does not have. All of them are dirty: a write is marked before it is issued.
		if (group->set == SET_PRECOPY)
			block->mask |= dirty_mask(&group->volume[block->disk].dirty, block->index);
		if (!fetch->taken[slot])
			continue;
		fetch->taken[slot]->reading = false;
		fetch_step(group, fetch->taken[slot]);
	}
	fetch_put(fetch);
}

// A block of SET_POINT is the batch's from now on. False: memory or the spill file has all of it, or will.
static bool slot_take(struct fetch *fetch, unsigned slot)
{
	struct group *group = fetch->group;
	const struct source_block *want = &fetch->batch->block[slot];
	struct volume *volume = &group->volume[want->disk];
	struct preserve_block *block = preserve_find(&group->preserve, volume, want->index);
	if (block) {
		preserve_taken(&group->preserve, block);
	} else {
		block = &fetch->block[slot];
		*block = (struct preserve_block){.volume = volume, .index = want->index};
		preserve_add(&group->preserve, block);
	}
	block->fetch = fetch;
	block->slot = slot;
	block->reading = (volume_pieces(volume, want->index) & ~(block->safe | block->saving)) != 0;
	if (!block->reading)
		zero_tail(fetch, slot);
	fetch->taken[slot] = block;
	fetch->pending++;
	return block->reading;
}

// P1: the block is remembered before it leaves the set.
static void block_leave(struct group *group, struct volume *volume, uint64_t index, struct source_block *ret_block)
{
	*ret_block = (struct source_block){
		.disk = (uint16_t)(volume - group->volume), .mask = dirty_mask(&volume->set, index), .index = index};
	volume_remember(volume, index);
	dirty_clear_block(&volume->set, index);
}

// What the guest had preserved goes first, the oldest first: its memory or place in the file is what a cut is given up for. What
// is still being saved waits for its turn.
static bool next_block(struct group *group, struct source_block *ret_block)
{
	struct preserve_block *saved = group->set == SET_POINT ? group->preserve.oldest : NULL;
	if (saved) {
		block_leave(group, saved->volume, saved->index, ret_block);
		return true;
	}
	for (; group->next_disk < group->count; group->next_disk++, group->next_block = 0) {
		struct volume *volume = &group->volume[group->next_disk];
		uint64_t index = dirty_next(&volume->set, group->next_block);
		if (group->bounded && (group->next_disk > group->look_disk ||
				       (group->next_disk == group->look_disk && index >= group->look_block)))
			return false;
		if (index == UINT64_MAX)
			continue;
		block_leave(group, volume, index, ret_block);
		group->next_block = index + 1;
		return true;
	}
	return false;
}

// The next block of the set that was not come to yet, or UINT64_MAX.
static uint64_t look_next(struct group *group)
{
	group->bounded = true;
	for (; group->look_disk < group->count; group->look_disk++, group->look_block = 0) {
		uint64_t index = dirty_next(&group->volume[group->look_disk].set, group->look_block);
		if (index != UINT64_MAX)
			return index;
	}
	return UINT64_MAX;
}

uint64_t group_reach(struct group *group, uint64_t blocks)
{
	uint64_t count = 0;
	for (; count < blocks && look_next(group) != UINT64_MAX; count++)
		group->look_block = look_next(group) + 1;
	return count;
}

void group_settle(struct group *group, uint16_t disk, uint64_t first, uint64_t count, const unsigned char *unequal)
{
	struct volume *volume = &group->volume[disk];
	if (group->set != SET_PRECOPY)
		return;
	for (uint64_t i = 0; i < count; i++) {
		if ((unequal && unequal[i / 8] >> i % 8 & 1) || !dirty_mask(&volume->set, first + i))
			continue;
		volume_remember(volume, first + i);
		dirty_clear_block(&volume->set, first + i);
	}
}

// The same for a look: the block stays, and the place moves.
static bool look_block(struct group *group, struct source_block *ret_block)
{
	uint64_t index = look_next(group);
	if (index == UINT64_MAX)
		return false;
	*ret_block = (struct source_block){.disk = group->look_disk, .index = index};
	group->look_block = index + 1;
	return true;
}

static void fetch_choose(struct fetch *fetch)
{
	struct source_batch *batch = fetch->batch;
	struct group *group = fetch->group;
	while (batch->count < SOURCE_BATCH_MAX) {
		unsigned slot = batch->count;
		struct source_block *block = &batch->block[slot];
		if (!(batch->look ? look_block(group, block) : next_block(group, block)))
			return;
		// No memory to take it out of a set that is wholly dirty there: it would be handed out again, without its preserved content.
		if (group->set == SET_POINT && dirty_mask(&group->volume[block->disk].set, block->index))
			group_give_up(group, LOSS_MEMORY, 0);
		block->data = batch->memory ? batch->memory + (size_t)slot * BLOCK_SIZE : NULL;
		batch->count++;
		fetch->taken[slot] = NULL;
		fetch->from_image[slot] = batch->memory && (group->set != SET_POINT || slot_take(fetch, slot));
	}
}

// How many blocks from `first` on lie side by side on the image.
static unsigned run_length(const struct fetch *fetch, unsigned first)
{
	const struct source_block *block = fetch->batch->block;
	unsigned count = 1;
	while (count < RUN_BLOCKS_MAX && first + count < fetch->batch->count && fetch->from_image[first + count] &&
	       block[first + count].disk == block[first].disk && block[first + count].index == block[first].index + count)
		count++;
	return count;
}

static void fetch_read(struct fetch *fetch, unsigned first, unsigned count)
{
	const struct source_block *block = &fetch->batch->block[first];
	struct volume *volume = &fetch->group->volume[block->disk];
	struct fetch_run *run = &fetch->run[first];
	uint64_t off = block->index * BLOCK_SIZE;
	*run = (struct fetch_run){.fetch = fetch, .first = first, .count = count};
	run->aio = (struct aio){.kind = AIO_READ,
				.background = true,
				.off = off,
				.len = min_u64((uint64_t)count * BLOCK_SIZE, volume->size - off),
				.data = block->data,
				.done = on_run_read};
	fetch->pending++;
	volume->backend->submit(volume->backend, &run->aio);
}

void group_fetch(struct group *group, struct fetch *fetch, struct source_batch *batch)
{
	fetch->group = group;
	fetch->batch = batch;
	fetch->pending = 1; // ours, until all reads are begun
	batch->count = 0;
	// Without a cut there is nothing to read, and that must not look like a set that was read to its end.
	batch->status = group->set == SET_NONE || group->set == SET_STALE || (batch->look && group->set != SET_PRECOPY) ? -ESTALE : 0;
	assert(batch->memory || batch->look);
	group->fetches++;
	if (!batch->status)
		fetch_choose(fetch);
	for (unsigned slot = 0, step; slot < batch->count; slot += step) {
		step = fetch->from_image[slot] ? run_length(fetch, slot) : 1;
		if (fetch->from_image[slot])
			fetch_read(fetch, slot, step);
		else if (fetch->taken[slot])
			fetch_step(group, fetch->taken[slot]);
	}
	fetch_put(fetch);
}

static void keep_put(struct group_keep *keep)
{
	struct group *group = keep->group;
	if (--keep->pending)
		return;
	group->keeps--;
	if (keep->res == 0)
		group_kept(group, keep->synced);
	if (keep->res == 0 && keep->synced)
		intent_sweep(&group->intent);
	keep->done(keep, keep->res);
}

static void on_keep_synced(struct volume_sync *sync, int res)
{
	struct keep_sync *member = HOLDER(sync, struct keep_sync, sync);
	if (res < 0 && member->keep->res == 0)
		member->keep->res = res;
	keep_put(member->keep);
}

void group_keep(struct group *group, struct group_keep *keep)
{
	assert(group->fetches == 0 && !group->cut);
	keep->group = group;
	keep->res = group->set == SET_STALE || group->incomplete ? -ESTALE : 0;
	keep->pending = 1;
	keep->synced = intent_sweeps(&group->intent);
	group->keeps++;
	for (uint16_t d = 0; keep->res == 0 && d < group->count; d++) {
		if (!keep->synced && !group->volume[d].failed)
			continue;
		keep->member[d] = (struct keep_sync){.sync = {.done = on_keep_synced}, .keep = keep};
		keep->pending++;
		volume_sync(&group->volume[d], &keep->member[d].sync);
	}
	keep_put(keep);
}
