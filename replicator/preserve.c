// SPDX-License-Identifier: Apache-2.0
// The table of blocks between the cut and their reading, and the bounded memory behind it.
#include "replicator/preserve.h"

#include "replicator/volume.h"

#include <assert.h>
#include <limits.h>
#include <errno.h>
#include <stdlib.h>

enum { BUCKETS_MIN = 256, BUCKETS_MAX = 1 << 16 };

int preserve_init(struct preserve *preserve, struct spill *spill, uint64_t bytes_max)
{
	unsigned buckets = BUCKETS_MIN;
	while (buckets < BUCKETS_MAX && (uint64_t)buckets * BLOCK_SIZE < bytes_max)
		buckets *= 2;
	*preserve = (struct preserve){.spill = spill, .bytes_max = bytes_max, .bucket_count = buckets};
	preserve->bucket = calloc(buckets, sizeof(struct preserve_block *));
	return preserve->bucket ? 0 : -ENOMEM;
}

void preserve_done(struct preserve *preserve)
{
	assert(preserve->count == 0 && preserve->bytes == 0);
	(void)preserve_trim(preserve, UINT_MAX);
	free(preserve->bucket);
	*preserve = (struct preserve){0};
}

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

void preserve_remove(struct preserve *preserve, struct preserve_block *block)
{
	struct preserve_block **at = bucket_of(preserve, block->volume, block->index);
	while (*at != block)
		at = &(*at)->next;
	*at = block->next;
	preserve->count--;
	if (!block->ready)
		return;
	*(block->older ? &block->older->newer : &preserve->oldest) = block->newer;
	*(block->newer ? &block->newer->older : &preserve->newest) = block->older;
	block->ready = false;
}

void preserve_ready(struct preserve *preserve, struct preserve_block *block)
{
	assert(!block->ready && (block->state == PRESERVE_HELD || block->state == PRESERVE_SPILLED));
	block->ready = true;
	block->newer = NULL;
	block->older = preserve->newest;
	*(block->older ? &block->older->newer : &preserve->oldest) = block;
	preserve->newest = block;
}

static struct preserve_block *block_new(void)
{
	struct preserve_block *block = malloc(sizeof(*block));
	if (!block)
		return NULL;
	block->data = aligned_alloc(PIECE_SIZE, BLOCK_SIZE);
	if (block->data)
		return block;
	free(block);
	return NULL;
}

struct preserve_block *preserve_save(struct preserve *preserve, struct volume *volume, uint64_t index)
{
	if (preserve->bytes + BLOCK_SIZE > preserve->bytes_max)
		return NULL;
	struct preserve_block *block = preserve->spare;
	if (block) {
		preserve->spare = block->next;
		preserve->spare_bytes -= BLOCK_SIZE;
	} else {
		block = block_new();
	}
	if (!block)
		return NULL;
	*block = (struct preserve_block){
		.volume = volume, .index = index, .state = PRESERVE_SAVING, .data = block->data};
	preserve->bytes += BLOCK_SIZE;
	preserve_add(preserve, block);
	return block;
}

struct preserve_block *preserve_save_spilled(struct preserve *preserve, struct volume *volume, uint64_t index)
{
	struct preserve_block *block = block_new();
	if (!block)
		return NULL;
	*block = (struct preserve_block){
		.volume = volume, .index = index, .state = PRESERVE_SAVING, .data = block->data};
	spill_place(preserve->spill, block);
	preserve_add(preserve, block);
	return block;
}

struct volume_request *preserve_take_waiters(struct preserve_block *block)
{
	struct volume_request *list = block->waiters;
	block->waiters = NULL;
	block->waiters_end = &block->waiters;
	return list;
}

void preserve_release(struct preserve *preserve, struct preserve_block *block)
{
	if (block->spilled) {
		if (block->data)
			spill_buffer_free(preserve->spill, block);
		spill_leave(preserve->spill);
		block->volume->spilled--;
		free(block);
		return;
	}
	preserve->bytes -= BLOCK_SIZE;
	block->next = preserve->spare;
	preserve->spare = block;
	preserve->spare_bytes += BLOCK_SIZE;
}

static void drop_block(struct preserve *preserve, struct preserve_block *block)
{
	preserve_remove(preserve, block);
	if (block->state == PRESERVE_HELD || block->state == PRESERVE_SPILLED)
		preserve_release(preserve, block);
	else
		block->dropped = true;
}

struct volume_request *preserve_drop(struct preserve *preserve)
{
	struct volume_request *all = NULL, **end = &all;
	for (unsigned i = 0; preserve->count && i < preserve->bucket_count; i++) {
		struct preserve_block *next;
		for (struct preserve_block *block = preserve->bucket[i]; block; block = next) {
			next = block->next;
			if (block->waiters) {
				*end = block->waiters;
				end = block->waiters_end;
				block->waiters = NULL;
				block->waiters_end = &block->waiters;
			}
			if (block->state == PRESERVE_OVERTAKEN)
				block->dropped = true;
			else if (block->state != PRESERVE_FETCHING)
				drop_block(preserve, block);
		}
	}
	return all;
}

bool preserve_trim(struct preserve *preserve, unsigned most)
{
	for (; preserve->spare && most; most--) {
		struct preserve_block *block = preserve->spare;
		preserve->spare = block->next;
		preserve->spare_bytes -= BLOCK_SIZE;
		free(block->data);
		free(block);
	}
	return preserve->spare != NULL;
}
