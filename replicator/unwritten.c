// SPDX-License-Identifier: Apache-2.0
// A byte for each region: 256 KiB for a TiB. Small syncs are many, and do not go through all of it: as long as there is no more than a piece, the regions stand in a list as well.
#include "replicator/unwritten.h"

#include "base/size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COST_STEP = 32 << 10, RANGE_REGIONS_MAX = 256 };

int unwritten_init(struct unwritten *unwritten, uint64_t size)
{
	*unwritten = (struct unwritten){.regions = size_regions(size)};
	unwritten->cost = calloc(unwritten->regions, 1);
	if (unwritten->cost)
		return 0;
	unwritten->regions = 0;
	return -ENOMEM;
}

void unwritten_grow(struct unwritten *unwritten, uint64_t size)
{
	uint64_t regions = size_regions(size);
	uint8_t *cost = unwritten->cost ? realloc(unwritten->cost, regions) : NULL;
	if (!cost) {
		unwritten_done(unwritten);
		return;
	}
	memset(cost + unwritten->regions, 0, regions - unwritten->regions);
	unwritten->cost = cost;
	unwritten->regions = regions;
}

void unwritten_done(struct unwritten *unwritten)
{
	free(unwritten->cost);
	*unwritten = (struct unwritten){.cost = NULL};
}

static void add(struct unwritten *unwritten, uint64_t region, uint64_t more)
{
	uint8_t was = unwritten->cost[region];
	if (was == 0 && unwritten->few_count < UNWRITTEN_PIECE)
		unwritten->few[unwritten->few_count++] = (uint32_t)region;
	unwritten->cost[region] = (uint8_t)min_u64(was + more, UINT8_MAX);
	unwritten->from = unwritten->total ? min_u64(unwritten->from, region) : region;
	unwritten->to = unwritten->total ? max_u64(unwritten->to, region + 1) : region + 1;
	unwritten->total += more;
}

void unwritten_add(struct unwritten *unwritten, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	while (unwritten->cost && off < end) {
		uint64_t region = off / REGION_SIZE, here = min_u64(end, (region + 1) * REGION_SIZE) - off;
		if (region >= unwritten->regions)
			return;
		add(unwritten, region, 1 + here / COST_STEP);
		off += here;
	}
}

uint64_t unwritten_sync(struct unwritten *unwritten)
{
	uint64_t total = unwritten->total;
	bool much = total >= UNWRITTEN_PIECE;
	if (!much)
		for (unsigned i = 0; i < unwritten->few_count; i++)
			unwritten->cost[unwritten->few[i]] = 0;
	unwritten->at = unwritten->from;
	unwritten->end = much ? unwritten->to : unwritten->from;
	unwritten->total = 0;
	unwritten->few_count = 0;
	return much ? total : 0;
}

static uint64_t next_written(const struct unwritten *unwritten)
{
	static const uint8_t none[64];
	uint64_t region = unwritten->at;
	while (region + sizeof(none) <= unwritten->end && memcmp(unwritten->cost + region, none, sizeof(none)) == 0)
		region += sizeof(none);
	while (region < unwritten->end && unwritten->cost[region] == 0)
		region++;
	return region;
}

// Adds to *cost what it costs, and ends where that is a piece. False: nothing is left.
static bool take_range(struct unwritten *unwritten, uint64_t *cost, struct unwritten_range *ret_range)
{
	uint64_t first = next_written(unwritten), end = first;
	if (first >= unwritten->end)
		return false;
	for (uint64_t region = first; region < unwritten->end && region < first + RANGE_REGIONS_MAX && *cost < UNWRITTEN_PIECE; region++) {
		if (unwritten->cost[region] == 0)
			continue;
		*cost += unwritten->cost[region];
		unwritten->cost[region] = 0;
		end = region + 1;
	}
	unwritten->at = end;
	*ret_range = (struct unwritten_range){.off = first * REGION_SIZE, .len = (uint32_t)((end - first) * REGION_SIZE)};
	return true;
}

unsigned unwritten_take(struct unwritten *unwritten, struct unwritten_range ret_range[UNWRITTEN_RANGES])
{
	uint64_t cost = 0;
	unsigned count = 0;
	while (count < UNWRITTEN_RANGES && cost < UNWRITTEN_PIECE && take_range(unwritten, &cost, &ret_range[count]))
		count++;
	return count;
}

uint64_t unwritten_memory(const struct unwritten *unwritten)
{
	return unwritten->regions;
}
