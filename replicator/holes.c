// SPDX-License-Identifier: Apache-2.0
// Regions of a set that are holes of their image: zeros, without reading them.
//
// What a file system says of holes is believed under these conditions alone, and everything else is read:
//
// H1: the image is a regular file on a file system whose SEEK_DATA counts what is in the page cache only (image.c lists them).
// H2: no write came to the region since the disk was opened, or since a guest's TRIM or WRITE_ZEROES made a hole of all of it while nothing that puts data
//     anywhere on the disk was under way: what its file system says of it does not depend on anything that is
//     on its way. Where no marks are kept, writes are not noted by region, and nothing is believed.
// H3: the region is wholly in the set, which was taken by a cut that waited for all writes; what is written from here on is dirty,
//     since that is marked before it is issued.
// H4: all that was written to the image before it was opened is on stable storage (image_settle(), before the first question): what the file
//     system says then does not depend on blocks that it has yet to allocate. Where that fails, nothing is believed.
//
// What is told under these is unproven until it was read (audit.h): the sync does not wait for the reading of 99 GiB of nothing, the proof of it does. Where there
// is no memory to note that, the region is not told.
#include "replicator/group.h"

enum { SEEKS_MAX = 256, REGIONS_MAX = 8192 }; // in one call: guests wait for the loop thread
enum { WAITS_MAX = 4 };			      // for one region, a millisecond each: in about that time it is read

static bool region_quiet(const struct volume *volume, uint64_t region)
{
	const struct intent_map *map = &volume->intent;
	return !map->free && !map->lost && !intent_bit(map->written, region) && dirty_region_blocks(&volume->dirty, region) == 0;
}

static uint64_t region_blocks(const struct volume *volume, uint64_t region)
{
	return min_u64(BLOCKS_PER_REGION, size_blocks(volume->size) - region * BLOCKS_PER_REGION);
}

static void region_leave(struct volume *volume, uint64_t region)
{
	volume_remember_region(volume, region); // P1
	audit_told(volume, region);
	dirty_clear_region(&volume->set, region);
}

// Adds the region to the runs; false when there is no room.
static bool runs_add(struct source_run *runs, unsigned most, unsigned *count, uint16_t disk, uint64_t first, uint64_t blocks)
{
	struct source_run *last = *count ? &runs[*count - 1] : NULL;
	if (last && last->disk == disk && last->first + last->count == first) {
		last->count += blocks;
		return true;
	}
	if (*count == most)
		return false;
	runs[(*count)++] = (struct source_run){.disk = disk, .first = first, .count = blocks};
	return true;
}

struct budget { // of one call
	unsigned seeks, regions;
};

// A file system that cannot be asked just now is asked again for some time; then the region is read.
static bool wait_for_more(struct group *group, bool said)
{
	bool wait = !said && group->hole_waits < WAITS_MAX;
	group->hole_waits = wait ? group->hole_waits + 1 : 0;
	return wait;
}

// Goes on in the disk; false when the call is to end here.
static bool disk_holes(struct group *group, struct source_run *runs, unsigned most, unsigned *count, struct budget *left)
{
	struct volume *volume = &group->volume[group->hole_disk];
	uint64_t regions = size_regions(volume->size), until = 0;
	bool hole = false;
	if (!volume->backend->hole)
		return true;
	for (; group->hole_region < regions; group->hole_region++) {
		uint64_t region = group->hole_region, off = region * REGION_SIZE;
		uint64_t end = min_u64(off + REGION_SIZE, volume->size);
		if (left->regions-- == 0)
			return false;
		if (!dirty_region_full(&volume->set, region) || !region_quiet(volume, region))
			continue;
		if (until <= off || (hole && until < end)) {
			if (left->seeks-- == 0)
				return false;
			hole = volume->backend->hole(volume->backend, off, &until);
			if (wait_for_more(group, until > off))
				return false;
		}
		if (!hole || until < end)
			continue;
		if (!audit_map_room(&volume->audit, volume->size))
			return true;
		if (!runs_add(runs, most, count, group->hole_disk, region * BLOCKS_PER_REGION, region_blocks(volume, region)))
			return false;
		region_leave(volume, region);
	}
	return true;
}

unsigned group_holes(struct group *group, struct source_run *runs, unsigned most, bool *ret_all)
{
	struct budget left = {.seeks = SEEKS_MAX, .regions = REGIONS_MAX};
	unsigned count = 0;
	*ret_all = group->set != SET_PRECOPY || group->hole_disk >= group->count;
	while (!*ret_all) {
		if (!disk_holes(group, runs, most, &count, &left))
			return count;
		group->hole_region = 0;
		*ret_all = ++group->hole_disk >= group->count;
	}
	return count;
}
