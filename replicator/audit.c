// SPDX-License-Identifier: Apache-2.0
#include "replicator/audit.h"

#include "replicator/group.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void audit_map_done(struct audit_map *map)
{
	free(map->units);
	map->units = NULL;
	map->count = 0;
	map->carried = false;
}

int audit_map_grow(struct audit_map *map, uint64_t size)
{
	uint64_t regions = size_regions(size);
	if (!map->units || regions <= map->regions) // larger already: what was to grow with it did not
		return 0;
	unsigned char *units = realloc(map->units, regions);
	if (!units)
		return -ENOMEM;
	memset(units + map->regions, 0, regions - map->regions);
	map->units = units;
	map->regions = regions;
	return 0;
}

bool audit_map_room(struct audit_map *map, uint64_t size)
{
	if (map->units)
		return true;
	map->regions = size_regions(size);
	map->units = calloc(map->regions, 1);
	return map->units != NULL;
}

uint64_t audit_map_memory(const struct audit_map *map)
{
	return map->units ? map->regions : 0;
}

uint64_t audit_map_bytes(const struct audit_map *map, uint64_t size)
{
	uint64_t tail = size % AUDIT_UNIT_SIZE, last = size / AUDIT_UNIT_SIZE * AUDIT_UNIT_BLOCKS; // the disk ends within a unit
	uint64_t bytes = map->count * AUDIT_UNIT_SIZE;
	return tail && audit_unproven(map, last) ? bytes - AUDIT_UNIT_SIZE + tail : bytes;
}

static void unit_leave(struct audit_map *map, uint64_t unit)
{
	map->units[unit / 8] &= (unsigned char)~(1u << unit % 8);
	map->count--;
}

// Once all is proven no memory is kept; what is told later, this process told.
static void map_rest(struct audit_map *map)
{
	if (map->count == 0)
		audit_map_done(map);
}

static uint64_t volume_units(const struct volume *volume)
{
	return volume->size / AUDIT_UNIT_SIZE + (volume->size % AUDIT_UNIT_SIZE != 0);
}

void audit_told(struct volume *volume, uint64_t region)
{
	struct audit_map *map = &volume->audit;
	uint64_t units = min_u64(8, volume_units(volume) - region * 8);
	unsigned char all = (unsigned char)((1u << units) - 1);
	map->count += units - (uint64_t)__builtin_popcount(map->units[region]);
	map->units[region] = all;
}

bool audit_carry(struct volume *volume, uint64_t region, uint64_t count)
{
	uint64_t regions = size_regions(volume->size);
	if (region >= regions || count == 0)
		return true;
	if (!audit_map_room(&volume->audit, volume->size))
		return false;
	volume->audit.carried = true; // nothing was told yet
	for (uint64_t end = region + min_u64(count, regions - region); region < end; region++)
		if (!dirty_region_full(&volume->dirty, region)) // else its cycle reads it
			audit_told(volume, region);
	map_rest(&volume->audit);
	return true;
}

// U2. What is dirty is for the next cycle to read, and is not unproven any more.
static void unit_dirty(struct volume *volume, uint64_t unit)
{
	unit_leave(&volume->audit, unit);
	dirty_mark(&volume->dirty, unit * AUDIT_UNIT_SIZE, min_u64(AUDIT_UNIT_SIZE, volume->size - unit * AUDIT_UNIT_SIZE));
}

void audit_written(struct volume *volume, uint64_t off, uint64_t len)
{
	struct audit_map *map = &volume->audit;
	for (uint64_t unit = off / AUDIT_UNIT_SIZE; unit <= (off + len - 1) / AUDIT_UNIT_SIZE; unit++) {
		if (!(map->units[unit / 8] >> unit % 8 & 1))
			continue;
		unit_dirty(volume, unit);
	}
	map_rest(map);
}

void audit_given_back(struct volume *volume, uint64_t region, uint64_t blocks)
{
	for (unsigned i = 0; volume->audit.units && i < 8; i++)
		if (volume->audit.units[region] >> i & 1 && blocks >> i * AUDIT_UNIT_BLOCKS & ((1u << AUDIT_UNIT_BLOCKS) - 1))
			unit_dirty(volume, region * 8 + i);
	if (volume->audit.units)
		map_rest(&volume->audit);
}

// ---- what is read next

static uint64_t run_blocks(const struct volume *volume, uint64_t first, unsigned most)
{
	uint64_t end = min_u64(size_blocks(volume->size), first + most), block = first;
	while (block < end && audit_unproven(&volume->audit, block))
		block++;
	return block - first;
}

// From the cursor on in its disk; a disk that hangs is passed by.
static bool disk_next(struct group *group, unsigned most, struct source_run *ret_run, uint64_t *left)
{
	const struct volume *volume = &group->volume[group->audit_disk];
	const struct audit_map *map = &volume->audit;
	uint64_t block = group->audit_block - group->audit_block % AUDIT_UNIT_BLOCKS, end = size_blocks(volume->size); // the cursor may stand where the disk ended
	if (!map->units || volume->stalled_ns)
		return false;
	while (block < end && !audit_unproven(map, block) && *left) {
		bool region = block % BLOCKS_PER_REGION == 0 && !map->units[block / BLOCKS_PER_REGION];
		uint64_t step = region ? BLOCKS_PER_REGION : AUDIT_UNIT_BLOCKS - block % AUDIT_UNIT_BLOCKS;
		block += step;
		--*left;
	}
	group->audit_block = block;
	if (block >= end || !*left)
		return false;
	*ret_run = (struct source_run){.disk = group->audit_disk, .first = block, .count = run_blocks(volume, block, most)};
	group->audit_block = block + ret_run->count;
	return true;
}

bool group_audit_next(struct group *group, unsigned most, struct source_run *ret_run)
{
	uint64_t left = AUDIT_REGIONS_MAX;
	bool any = false;
	*ret_run = (struct source_run){.count = 0};
	for (uint16_t d = 0; d < group->count; d++)
		any |= group->volume[d].audit.count != 0;
	for (unsigned turn = 0; any && turn <= group->count && left; turn++) { // the first disk twice: from the cursor on, and from its beginning
		if (disk_next(group, most, ret_run, &left) || !left)
			break;
		group->audit_disk = (uint16_t)((group->audit_disk + 1) % group->count);
		group->audit_block = 0;
	}
	return any;
}

// ---- what was read

// U3. A block that begins with a hole, and has data behind it, is none.
static bool is_false(const struct volume *volume, uint64_t block)
{
	uint64_t until, off = block * BLOCK_SIZE;
	if (!volume->audit.carried)
		return true;
	return volume->backend->hole && volume->backend->hole(volume->backend, off, &until) && until >= min_u64(off + BLOCK_SIZE, volume->size);
}

// U2, where a file system was wrong: what else it says of the region is not worth more.
static void region_dirty(struct volume *volume, uint64_t region)
{
	uint64_t off = region * REGION_SIZE;
	dirty_mark(&volume->dirty, off, min_u64(REGION_SIZE, volume->size - off));
	volume->audit.count -= (uint64_t)__builtin_popcount(volume->audit.units[region]);
	volume->audit.units[region] = 0;
}

static bool is_unequal(const struct volume *volume, const struct source_run *run, const unsigned char *unequal, uint64_t i)
{
	return unequal[i / 8] >> i % 8 & 1 && audit_unproven(&volume->audit, run->first + i); // else a guest wrote there meanwhile
}

void group_audited(struct group *group, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited)
{
	struct volume *volume = &group->volume[run->disk];
	struct audit_map *map = &volume->audit;
	uint64_t end = run->first + run->count;
	*ret_audited = (struct source_audited){.false_blocks = 0};
	assert(run->first % AUDIT_UNIT_BLOCKS == 0 && (end % AUDIT_UNIT_BLOCKS == 0 || end == size_blocks(volume->size)));
	for (uint64_t i = 0; i < run->count; i++) {
		if (!is_unequal(volume, run, unequal, i))
			continue;
		if (!is_false(volume, run->first + i))
			ret_audited->other_blocks++;
		else if (ret_audited->false_blocks++ == 0)
			ret_audited->first = run->first + i;
	}
	if (ret_audited->false_blocks)
		volume->backend->hole = NULL;
	for (uint64_t i = 0; i < run->count; i++) {
		if (!is_unequal(volume, run, unequal, i))
			continue;
		if (ret_audited->false_blocks)
			region_dirty(volume, (run->first + i) / BLOCKS_PER_REGION);
		else
			unit_dirty(volume, (run->first + i) / AUDIT_UNIT_BLOCKS);
	}
	for (uint64_t block = run->first; block < end; block += AUDIT_UNIT_BLOCKS)
		if (audit_unproven(map, block))
			unit_leave(map, block / AUDIT_UNIT_BLOCKS);
	map_rest(map);
}
