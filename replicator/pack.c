// SPDX-License-Identifier: Apache-2.0
#include "replicator/pack.h"

#include "format/entropy.h"
#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST_JOB_BLOCKS = 8, DIGEST_JOBS = (SOURCE_BATCH_MAX + DIGEST_JOB_BLOCKS - 1) / DIGEST_JOB_BLOCKS };

struct kit {
	struct codec_context *codec;
	unsigned char *pieces; // a block's dirty pieces, one behind the other; or the blocks that a job reads
};

struct slot {
	struct crew_job job;
	const unsigned char *data;
	struct pack_choice choice;
	struct pack_result result;
	unsigned char *packed; // BLOCK_SIZE
};

struct pack {
	struct crew *crew;
	struct kit *kit; // of the thread that waits
	struct slot slot[PACK_SLOTS];
	unsigned first, count; // slots in use, in order
	unsigned char *memory;
};

void *pack_kit_new(void)
{
	struct kit *kit = calloc(1, sizeof(*kit));
	if (!kit)
		return NULL;
	kit->codec = codec_new();
	kit->pieces = malloc((size_t)PACK_ROOM_BLOCKS * BLOCK_SIZE);
	if (kit->codec && kit->pieces)
		return kit;
	pack_kit_free(kit);
	return NULL;
}

void pack_kit_free(void *context)
{
	struct kit *kit = context;
	if (!kit)
		return;
	codec_free(kit->codec);
	free(kit->pieces);
	free(kit);
}

unsigned char *pack_kit_room(void *context)
{
	struct kit *kit = context;
	return kit->pieces;
}

struct crew *pack_crew(struct pack *pack)
{
	return pack->crew;
}

void *pack_kit(struct pack *pack)
{
	return pack->kit;
}

int pack_new(struct crew *crew, struct pack **ret_pack)
{
	struct pack *pack = calloc(1, sizeof(*pack));
	if (!pack)
		return -ENOMEM;
	pack->crew = crew;
	pack->kit = pack_kit_new();
	pack->memory = malloc((size_t)PACK_SLOTS * BLOCK_SIZE);
	if (!pack->kit || !pack->memory) {
		pack_free(pack);
		return -ENOMEM;
	}
	for (size_t i = 0; i < PACK_SLOTS; i++)
		pack->slot[i].packed = pack->memory + i * BLOCK_SIZE;
	*ret_pack = pack;
	return 0;
}

void pack_free(struct pack *pack)
{
	if (!pack)
		return;
	assert(pack->count == 0);
	pack_kit_free(pack->kit);
	free(pack->memory);
	free(pack);
}

bool pack_full(const struct pack *pack)
{
	return pack->count == PACK_SLOTS;
}

bool pack_empty(const struct pack *pack)
{
	return pack->count == 0;
}

// The dirty pieces, one behind the other.
static size_t gather(const unsigned char *block, uint16_t mask, unsigned char *to)
{
	size_t len = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1) {
			memcpy(to + len, block + (size_t)i * PIECE_SIZE, PIECE_SIZE);
			len += PIECE_SIZE;
		}
	return len;
}

// Of the pieces that would travel those that the receiver has otherwise.
static uint16_t unequal_pieces(const struct slot *slot)
{
	const struct wire_block *m = &slot->result.block;
	struct digest ours[PIECES_PER_BLOCK];
	uint16_t unequal = 0;
	digest_pieces(slot->choice.key, m->disk, m->index, slot->data, ours);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (!digest_equal(&ours[i], &slot->choice.theirs[i]))
			unequal |= (uint16_t)(1u << i);
	return unequal & m->mask;
}

// Leaves at home what the receiver has. A block that differs has a piece that does; where none was found all of it travels.
static void keep_equal(struct slot *slot)
{
	uint16_t unequal = slot->choice.theirs ? unequal_pieces(slot) : 0;
	slot->result.kept = 0;
	if (!unequal || __builtin_popcount(unequal) > PACK_PIECES_MAX)
		return;
	slot->result.kept = (unsigned)(__builtin_popcount(slot->result.block.mask) - __builtin_popcount(unequal));
	slot->result.block.mask = unequal;
}

static void run_pack(struct crew_job *job, void *context)
{
	struct slot *slot = HOLDER(job, struct slot, job);
	struct kit *kit = context;
	struct wire_block *m = &slot->result.block;
	keep_equal(slot);
	const unsigned char *from = slot->data;
	size_t len = BLOCK_SIZE, packed = 0;
	if (m->mask != MASK_FULL) {
		len = gather(from, m->mask, kit->pieces);
		from = kit->pieces;
	}
	// What shrinks by less than a sixteenth is not worth the unpacking.
	if (slot->choice.codec != CODEC_NONE && !entropy_full(from, len))
		packed = codec_pack_level(kit->codec, slot->choice.codec, slot->choice.level, from, len, slot->packed, len - len / 16);
	if (!packed && from == kit->pieces)
		memcpy(slot->packed, from, len); // the kit is the next job's
	m->codec = packed ? slot->choice.codec : CODEC_NONE;
	m->payload = packed || from == kit->pieces ? slot->packed : from;
	m->len = (uint32_t)(packed ? packed : len);
	slot->result.plain_len = len;
}

void pack_add(struct pack *pack, const struct source_block *block, bool whole, const struct digest *digest, const struct pack_choice *choice)
{
	assert(!pack_full(pack));
	struct slot *slot = &pack->slot[(pack->first + pack->count++) % PACK_SLOTS];
	slot->data = block->data;
	slot->choice = *choice;
	slot->result.asked = choice->theirs != NULL;
	slot->result.block = (struct wire_block){
		.disk = block->disk, .index = block->index, .digest = *digest, .mask = whole ? MASK_FULL : block->mask};
	slot->job.run = run_pack;
	crew_start(pack->crew, &slot->job);
}

bool pack_ready(struct pack *pack)
{
	return pack->count && crew_ended(pack->crew, &pack->slot[pack->first].job);
}

const struct pack_result *pack_take(struct pack *pack)
{
	assert(pack->count);
	struct slot *slot = &pack->slot[pack->first];
	crew_wait(pack->crew, &slot->job, pack->kit);
	return &slot->result;
}

void pack_release(struct pack *pack)
{
	assert(pack->count);
	pack->first = (pack->first + 1) % PACK_SLOTS;
	pack->count--;
}

void pack_drop(struct pack *pack)
{
	while (pack->count) {
		(void)pack_take(pack);
		pack_release(pack);
	}
}

struct digest_job {
	struct crew_job job;
	const struct digest_key *key;
	const struct source_block *block;
	unsigned count;
	struct digest *ret_digests;
};

static void run_digests(struct crew_job *job, void *kit)
{
	const struct digest_job *d = HOLDER(job, struct digest_job, job);
	(void)kit;
	for (unsigned i = 0; i < d->count; i++)
		d->ret_digests[i] = digest_of(d->key, d->block[i].disk, d->block[i].index, d->block[i].data);
}

void pack_digests(struct pack *pack, const struct digest_key *key, const struct source_batch *batch, struct digest *ret_digests)
{
	struct digest_job part[DIGEST_JOBS];
	unsigned parts = 0;
	for (unsigned at = 0; at < batch->count; at += DIGEST_JOB_BLOCKS, parts++) {
		unsigned count = batch->count - at < DIGEST_JOB_BLOCKS ? batch->count - at : DIGEST_JOB_BLOCKS;
		part[parts] = (struct digest_job){
			.job = {.run = run_digests}, .key = key, .block = &batch->block[at], .count = count, .ret_digests = ret_digests + at};
		crew_start(pack->crew, &part[parts].job);
	}
	for (unsigned i = 0; i < parts; i++)
		crew_wait(pack->crew, &part[i].job, pack->kit);
}
