// SPDX-License-Identifier: Apache-2.0
// Which regions are marked, who waits, what to clear. It relies on the marker to commit batches in order.
#include "replicator/intent.h"

#include "replicator/group.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void bit_set(uint64_t *bits, uint64_t region)
{
	bits[region / 64] |= UINT64_C(1) << region % 64;
}

static void bit_clear(uint64_t *bits, uint64_t region)
{
	bits[region / 64] &= ~(UINT64_C(1) << region % 64);
}

// ---- a disk's regions

static size_t words(uint64_t regions)
{
	return (size_t)(regions / 64 + 1);
}

int intent_map_init(struct intent_map *map, uint64_t size)
{
	*map = (struct intent_map){.regions = size_regions(size), .whole_next = UINT64_MAX, .free = true};
	map->waiting_end = &map->waiting;
	map->marked = calloc(words(map->regions), sizeof(uint64_t));
	map->asked = calloc(words(map->regions), sizeof(uint64_t));
	map->touched = calloc(words(map->regions), sizeof(uint64_t));
	map->written = calloc(words(map->regions), sizeof(uint64_t));
	return map->marked && map->asked && map->touched && map->written ? 0 : -ENOMEM;
}

void intent_map_done(struct intent_map *map)
{
	free(map->marked);
	free(map->asked);
	free(map->touched);
	free(map->written);
	*map = (struct intent_map){0};
}

uint64_t intent_map_memory(const struct intent_map *map)
{
	return 4 * words(map->regions) * sizeof(uint64_t);
}

static int grow_bits(uint64_t **bits, size_t from, size_t to)
{
	uint64_t *larger = realloc(*bits, to * sizeof(uint64_t));
	if (!larger)
		return -ENOMEM;
	memset(larger + from, 0, (to - from) * sizeof(uint64_t));
	*bits = larger;
	return 0;
}

int intent_map_grow(struct intent_map *map, uint64_t size)
{
	size_t from = words(map->regions), to = words(size_regions(size));
	if (grow_bits(&map->marked, from, to) || grow_bits(&map->asked, from, to) || grow_bits(&map->touched, from, to) ||
	    grow_bits(&map->written, from, to))
		return -ENOMEM; // those that grew have room that nobody uses
	map->regions = size_regions(size);
	return 0;
}

void intent_map_ungrow(struct intent_map *map, uint64_t size)
{
	map->regions = size_regions(size);
}

void intent_enable(struct intent *intent, struct group *group, void (*wanted)(struct intent *))
{
	*intent = (struct intent){.group = group, .wanted = wanted, .hot_max = INTENT_HOT_REGIONS_MAX};
	for (uint16_t d = 0; d < group->count; d++)
		group->volume[d].intent.free = false;
}

void intent_set_marked(struct intent *intent, struct volume *volume, uint64_t region)
{
	struct intent_map *map = &volume->intent;
	if (intent_bit(map->marked, region))
		return;
	bit_set(map->marked, region);
	map->count++;
	intent->count++;
}

// Not touched either: who writes there next comes by intent_wait(), where that is noted.
void intent_emptied(struct intent_map *map, uint64_t first, uint64_t count)
{
	for (uint64_t r = first; !map->free && r < first + count; r++) {
		bit_clear(map->touched, r);
		bit_clear(map->written, r);
	}
}

// ---- requests that wait

static void want(struct intent *intent)
{
	if (intent->wanting || intent->committing)
		return;
	intent->wanting = true;
	intent->wanted(intent);
}

bool intent_wait(struct intent *intent, struct volume_request *request, uint64_t first, uint64_t last)
{
	struct intent_map *map = &request->volume->intent;
	bool missing = false;
	for (uint64_t r = first; r <= last; r++) {
		bit_set(map->touched, r);
		bit_set(map->written, r);
		missing |= !intent_bit(map->marked, r);
	}
	if (!missing)
		return true;
	request->next = NULL;
	*map->waiting_end = request;
	map->waiting_end = &request->next;
	want(intent);
	return false;
}

static void ask_region(struct intent_map *map, uint64_t region, struct intent_batch *batch, size_t *sets)
{
	if (intent_bit(map->marked, region) || intent_bit(map->asked, region))
		return;
	bit_set(map->asked, region);
	batch->set[(*sets)++] = region;
}

// Asks for what the request misses, as far as there is room in the batch.
static void ask_for(struct intent_map *map, const struct volume_request *request, struct intent_batch *batch, size_t *sets)
{
	uint64_t last = (request->off + request->len - 1) / REGION_SIZE;
	for (uint64_t r = request->from / REGION_SIZE; r <= last && *sets < INTENT_BATCH_MAX; r++)
		ask_region(map, r, batch, sets);
}

// ---- a whole disk

static bool whole_wanted(const struct intent_map *map)
{
	return !map->free && map->whole_next < map->regions;
}

void intent_mark_whole(struct intent *intent, struct volume *volume)
{
	if (!intent->wanted || intent->ending || volume->intent.free)
		return;
	volume->intent.whole_next = 0;
	want(intent);
}

void intent_hold(struct intent *intent, struct volume *volume, bool hold)
{
	volume->intent.held = hold;
	if (hold)
		intent_mark_whole(intent, volume);
}

bool intent_marked_whole(const struct intent_map *map)
{
	return !map->free && map->count == map->regions;
}

// What has its mark keeps it as long as it is dirty (M2), so each region is looked at once.
static void ask_whole(struct intent_map *map, struct intent_batch *batch, size_t *sets)
{
	size_t end = min_u64(*sets + INTENT_WHOLE_MAX, INTENT_BATCH_MAX);
	for (unsigned looked = 0; whole_wanted(map) && *sets < end && looked < INTENT_SWEEP_MAX; looked++)
		ask_region(map, map->whole_next++, batch, sets);
}

static bool any_whole_wanted(const struct intent *intent)
{
	for (uint16_t d = 0; d < intent->group->count; d++)
		if (whole_wanted(&intent->group->volume[d].intent))
			return true;
	return false;
}

// ---- clearing

// M2.
static bool region_clean(const struct volume *volume, uint64_t region)
{
	return !volume->dirty.region[region] && !volume->set.region[region] && !volume->remembered[region];
}

// M6.
static bool region_cut_short(const struct volume *volume, uint64_t region)
{
	return region == volume->size / REGION_SIZE;
}

// Second chance: a region that is written again and again keeps its mark, as long as there are few of them.
static bool region_cold(const struct intent *intent, const struct intent_map *map, uint64_t region)
{
	return !intent_bit(map->touched, region) || intent->count > intent->hot_max;
}

static unsigned sweep_word(struct intent *intent, struct volume *volume, uint64_t word, struct intent_batch *batch, size_t *clears)
{
	struct intent_map *map = &volume->intent;
	unsigned looked = 0;
	for (uint64_t left = map->marked[word]; left; left &= left - 1, looked++) {
		uint64_t region = word * 64 + (unsigned)__builtin_ctzll(left);
		if (!region_clean(volume, region) || !region_cold(intent, map, region) || region_cut_short(volume, region))
			continue;
		bit_clear(map->marked, region);
		map->count--;
		intent->count--;
		batch->clear[(*clears)++] = region;
	}
	map->touched[word] = 0;
	return looked;
}

// The sweep goes through the words of all disks, a bounded number of regions with each batch. Adds to the disk's part.
static void sweep_disk(struct intent *intent, struct volume *volume, struct intent_batch *batch, size_t *clears, unsigned *looked)
{
	uint64_t end = volume->intent.free || volume->intent.held ? 0 : words(volume->intent.regions);
	while (intent->sweep_word < end) {
		if (*clears + 64 > INTENT_BATCH_MAX || *looked > INTENT_SWEEP_MAX)
			return;
		*looked += sweep_word(intent, volume, intent->sweep_word++, batch, clears);
	}
	intent->sweep_disk++;
	intent->sweep_word = 0;
}

static bool rests(const struct intent *intent)
{
	return intent->resting && intent->count <= intent->hot_max;
}

bool intent_sweeps(const struct intent *intent)
{
	return !intent->wanted || intent->sweeping || !rests(intent);
}

void intent_sweep(struct intent *intent)
{
	if (!intent->wanted || intent->ending || rests(intent))
		return;
	intent->sweeping = true;
	intent->sweep_disk = 0;
	intent->sweep_word = 0;
	want(intent);
}

void intent_end(struct intent *intent)
{
	intent->ending = true;
	intent->sweeping = false;
	for (uint16_t d = 0; intent->group && d < intent->group->count; d++)
		intent->group->volume[d].intent.whole_next = UINT64_MAX;
}

// ---- the batch

static struct intent_part *part_of(struct intent_batch *batch, uint16_t disk)
{
	for (unsigned i = 0; i < batch->parts; i++)
		if (batch->part[i].disk == disk)
			return &batch->part[i];
	struct intent_part *part = &batch->part[batch->parts++];
	*part = (struct intent_part){.disk = disk};
	return part;
}

static void take_sets(struct intent *intent, struct intent_batch *batch)
{
	struct group *group = intent->group;
	size_t sets = 0;
	for (uint16_t i = 0; i < group->count && sets < INTENT_BATCH_MAX; i++) {
		uint16_t disk = (uint16_t)((intent->first_disk + i) % group->count);
		struct intent_map *map = &group->volume[disk].intent;
		size_t before = sets;
		for (struct volume_request *r = map->waiting; r && sets < INTENT_BATCH_MAX; r = r->next)
			ask_for(map, r, batch, &sets);
		ask_whole(map, batch, &sets);
		if (sets == before)
			continue;
		struct intent_part *part = part_of(batch, disk);
		part->set = batch->set + before;
		part->sets = sets - before;
	}
	uint16_t next = (uint16_t)(intent->first_disk + 1);
	intent->first_disk = next < group->count ? next : 0;
}

static void take_clears(struct intent *intent, struct intent_batch *batch)
{
	struct group *group = intent->group;
	size_t clears = 0;
	unsigned looked = 0;
	while (intent->sweeping) {
		uint16_t disk = intent->sweep_disk;
		size_t before = clears;
		sweep_disk(intent, &group->volume[disk], batch, &clears, &looked);
		if (clears > before) {
			struct intent_part *part = part_of(batch, disk);
			part->clear = batch->clear + before;
			part->clears = clears - before;
		}
		if (intent->sweep_disk == disk)
			return; // enough for now
		intent->sweeping = intent->sweep_disk < group->count;
	}
}

bool intent_take(struct intent *intent, struct intent_batch *batch)
{
	assert(!intent->committing);
	intent->wanting = false;
	batch->parts = 0;
	take_sets(intent, batch); // first: what is cleared below is not asked for in the same batch
	take_clears(intent, batch);
	intent->committing = batch->parts != 0 || intent->sweeping || any_whole_wanted(intent);
	return intent->committing;
}

static void part_ended(struct intent *intent, const struct intent_part *part)
{
	struct volume *volume = &intent->group->volume[part->disk];
	for (size_t i = 0; i < part->sets; i++) {
		bit_clear(volume->intent.asked, part->set[i]);
		if (part->res == 0 && !volume->intent.lost)
			intent_set_marked(intent, volume, part->set[i]);
	}
	if (part->res)
		volume->intent.free = volume->intent.lost = true; // M4
}

static bool admit_again(struct group *group, struct volume *volume)
{
	struct intent_map *map = &volume->intent;
	struct volume_request *list = map->waiting;
	map->waiting = NULL;
	map->waiting_end = &map->waiting;
	while (list) {
		struct volume_request *next = list->next;
		list->next = NULL;
		group_admit(group, list); // M1: tests it again
		list = next;
	}
	return map->waiting != NULL;
}

void intent_resume(struct group *group, struct volume *volume)
{
	(void)admit_again(group, volume);
}

void intent_lose(struct intent *intent, uint16_t disk)
{
	struct volume *volume = &intent->group->volume[disk];
	volume->intent.free = volume->intent.lost = true;
	(void)admit_again(intent->group, volume); // nobody waits any more: everything counts as marked
}

void intent_committed(struct intent *intent, const struct intent_batch *batch)
{
	assert(intent->committing);
	for (unsigned i = 0; i < batch->parts; i++)
		part_ended(intent, &batch->part[i]);
	bool more = intent->sweeping;
	for (uint16_t d = 0; d < intent->group->count; d++)
		more |= admit_again(intent->group, &intent->group->volume[d]);
	more |= any_whole_wanted(intent);
	intent->committing = false;
	if (more)
		want(intent);
}
