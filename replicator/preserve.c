// SPDX-License-Identifier: Apache-2.0
// The table of blocks between the cut and their reading, and the bounded memory behind it.
#include "replicator/preserve.h"

#include "replicator/volume.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { BUCKETS_MIN = 256, BUCKETS_MAX = 1 << 16 };

int preserve_init(struct preserve *preserve, struct spill *spill, uint64_t bytes_max)
{
	unsigned buckets = BUCKETS_MIN;
	while (buckets < BUCKETS_MAX && (uint64_t)buckets * PIECE_SIZE < bytes_max)
		buckets *= 2;
	*preserve = (struct preserve){.spill = spill, .bytes_max = bytes_max, .bucket_count = buckets};
	preserve->bucket = calloc(buckets, sizeof(struct preserve_block *));
	return preserve->bucket ? 0 : -ENOMEM;
}

void preserve_done(struct preserve *preserve)
{
	assert(preserve->count == 0 && preserve->bytes == 0);
	(void)preserve_trim(preserve, UINT64_MAX);
	free(preserve->bucket);
	*preserve = (struct preserve){0};
}

// ---- blocks

static struct preserve_block **bucket_of(const struct preserve *preserve, const struct volume *volume, uint64_t index)
{
	uint64_t hash = (index ^ ((uint64_t)(uintptr_t)volume << 20)) * UINT64_C(0x9e3779b97f4a7c15);
	return &preserve->bucket[(hash >> 32) & (preserve->bucket_count - 1)];
}

struct preserve_block *preserve_find(const struct preserve *preserve, const struct volume *volume, uint64_t index)
{
	if (!preserve->count)
		return NULL;
	struct preserve_block *block = *bucket_of(preserve, volume, index);
	while (block && (block->volume != volume || block->index != index))
		block = block->next;
	return block;
}

void preserve_add(struct preserve *preserve, struct preserve_block *block)
{
	assert(!preserve_find(preserve, block->volume, block->index));
	struct preserve_block **bucket = bucket_of(preserve, block->volume, block->index);
	block->waiters = NULL;
	block->waiters_end = &block->waiters;
	block->next = *bucket;
	*bucket = block;
	preserve->count++;
}

struct preserve_block *preserve_new(struct preserve *preserve, struct volume *volume, uint64_t index)
{
	struct preserve_block *block = preserve->dead_blocks;
	if (block)
		preserve->dead_blocks = block->next;
	else
		block = malloc(sizeof(*block));
	if (!block)
		return NULL;
	*block = (struct preserve_block){.volume = volume, .index = index};
	preserve_add(preserve, block);
	return block;
}

void preserve_remove(struct preserve *preserve, struct preserve_block *block)
{
	struct preserve_block **at = bucket_of(preserve, block->volume, block->index);
	while (*at != block)
		at = &(*at)->next;
	*at = block->next;
	preserve->count--;
	preserve_taken(preserve, block);
}

// To free thousands at once would hold the guest up.
void preserve_free(struct preserve *preserve, struct preserve_block *block)
{
	block->next = preserve->dead_blocks;
	preserve->dead_blocks = block;
}

void preserve_ready(struct preserve *preserve, struct preserve_block *block)
{
	assert(block->safe && !block->fetch);
	if (block->ready)
		return;
	block->ready = true;
	block->newer = NULL;
	block->older = preserve->newest;
	*(block->older ? &block->older->newer : &preserve->oldest) = block;
	preserve->newest = block;
}

void preserve_taken(struct preserve *preserve, struct preserve_block *block)
{
	if (!block->ready)
		return;
	*(block->older ? &block->older->newer : &preserve->oldest) = block->newer;
	*(block->newer ? &block->newer->older : &preserve->newest) = block->older;
	block->ready = false;
}

struct volume_request *preserve_take_waiters(struct preserve_block *block)
{
	struct volume_request *list = block->waiters;
	block->waiters = NULL;
	block->waiters_end = &block->waiters;
	return list;
}

// ---- runs

uint64_t preserve_run_bytes(const struct preserve_run *run)
{
	return (uint64_t)run->count * PIECE_SIZE;
}

uint16_t preserve_run_mask(const struct preserve_run *run)
{
	return (uint16_t)(((1u << run->count) - 1) << run->first);
}

static void spare_free(struct preserve *preserve, unsigned of)
{
	struct preserve_run *run = preserve->spare[of];
	preserve->spare[of] = run->next;
	preserve->spare_bytes -= preserve_run_bytes(run);
	free(run);
}

static bool spare_free_any(struct preserve *preserve)
{
	for (unsigned of = PIECES_PER_BLOCK; of-- > 0;)
		if (preserve->spare[of]) {
			spare_free(preserve, of);
			return true;
		}
	return false;
}

static struct preserve_run *run_spare(struct preserve *preserve, unsigned count)
{
	struct preserve_run *run = preserve->spare[count - 1];
	if (run) {
		preserve->spare[count - 1] = run->next;
		preserve->spare_bytes -= preserve_run_bytes(run);
	}
	return run;
}

// A buffer of `len` behind it.
static struct preserve_run *run_new(uint64_t len)
{
	struct preserve_run *run = malloc(sizeof(*run) + len);
	if (run)
		run->data = (unsigned char *)(run + 1);
	return run;
}

static void run_begin(struct preserve_block *block, struct preserve_run *run, unsigned first, unsigned count)
{
	*run = (struct preserve_run){
		.block = block, .volume = block->volume, .state = PRESERVE_SAVING, .first = first, .count = count, .data = run->data, .next = block->runs};
	block->runs = run;
	block->saving |= preserve_run_mask(run);
	block->reads++;
	block->volume->preserved += preserve_run_bytes(run);
}

struct preserve_run *preserve_save(struct preserve *preserve, struct preserve_block *block, unsigned first, unsigned count)
{
	uint64_t len = (uint64_t)count * PIECE_SIZE;
	if (preserve->bytes + len > preserve->bytes_max)
		return NULL;
	struct preserve_run *run = run_spare(preserve, count);
	if (!run) { // at most as many as there are pieces in a block
		while (preserve->bytes + preserve->spare_bytes + len > preserve->bytes_max && spare_free_any(preserve))
			continue;
		run = run_new(len);
	}
	if (!run)
		return NULL;
	preserve->bytes += len;
	run_begin(block, run, first, count);
	return run;
}

static void run_dies(struct preserve *preserve, struct preserve_run *run)
{
	run->next = preserve->dead_runs;
	preserve->dead_runs = run;
}

struct preserve_run *preserve_save_spilled(struct preserve *preserve, struct preserve_block *block, unsigned first, unsigned count)
{
	struct preserve_run *run = preserve->dead_runs;
	if (run)
		preserve->dead_runs = run->next;
	else
		run = malloc(sizeof(*run));
	if (!run)
		return NULL;
	run->data = malloc((size_t)count * PIECE_SIZE);
	if (!run->data) {
		run_dies(preserve, run);
		return NULL;
	}
	run_begin(block, run, first, count);
	spill_place(preserve->spill, run);
	return run;
}

void preserve_release(struct preserve *preserve, struct preserve_run *run)
{
	if (run->spilled) {
		if (run->data)
			spill_buffer_free(preserve->spill, run);
		spill_leave(preserve->spill);
		run->volume->spilled -= preserve_run_bytes(run);
		run_dies(preserve, run);
		return;
	}
	preserve->bytes -= preserve_run_bytes(run);
	run->next = preserve->spare[run->count - 1];
	preserve->spare[run->count - 1] = run;
	preserve->spare_bytes += preserve_run_bytes(run);
}

// ---- the end of a cut

static void drop_block(struct preserve *preserve, struct preserve_block *block)
{
	struct preserve_run *next;
	for (struct preserve_run *run = block->runs; run; run = next) {
		next = run->next;
		run->block = NULL;
		if (run->state == PRESERVE_SAVED || run->state == PRESERVE_SPILLED)
			preserve_release(preserve, run);
	}
	preserve_free(preserve, block);
}

struct volume_request *preserve_drop(struct preserve *preserve)
{
	struct volume_request *all = NULL, **end = &all;
	for (unsigned i = 0; preserve->count && i < preserve->bucket_count; i++)
		while (preserve->bucket[i]) {
			struct preserve_block *block = preserve->bucket[i];
			if (block->waiters) {
				*end = block->waiters;
				end = block->waiters_end;
				(void)preserve_take_waiters(block);
			}
			preserve_remove(preserve, block);
			if (block->fetch)
				block->dropped = true;
			else
				drop_block(preserve, block);
		}
	return all;
}

bool preserve_has_spare(const struct preserve *preserve)
{
	return preserve->spare_bytes || preserve->dead_runs || preserve->dead_blocks;
}

static void free_dead(struct preserve *preserve)
{
	struct preserve_run *run = preserve->dead_runs;
	struct preserve_block *block = preserve->dead_blocks;
	if (run)
		preserve->dead_runs = run->next;
	if (block)
		preserve->dead_blocks = block->next;
	free(run);
	free(block);
}

// To free the least thing takes as long as a few pieces.
bool preserve_trim(struct preserve *preserve, uint64_t most)
{
	enum { EACH = 4 * PIECE_SIZE };
	for (uint64_t done = 0; done < most && preserve_has_spare(preserve); done += EACH) {
		uint64_t before = preserve->spare_bytes;
		free_dead(preserve);
		(void)spare_free_any(preserve);
		done += before - preserve->spare_bytes;
	}
	return preserve_has_spare(preserve);
}
