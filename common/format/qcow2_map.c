// SPDX-License-Identifier: Apache-2.0
// The sparse tables. Invariant: `held` counts the entries, in stored and in zero pages, that hold something; a zero
// page or zero table covers only blocks that the disk has, so the last, partial page of a disk is always stored.
#include "format/qcow2_map.h"

#include <errno.h>
#include <stdlib.h>

struct qcow2_page qcow2_zero_page;
struct qcow2_table qcow2_zero_table = {.page = {[0 ... QCOW2_PAGES - 1] = &qcow2_zero_page}};

static const struct qcow2_entry zero_entry = {0, QCOW2_ZERO_ALL};

int qcow2_map_init(struct qcow2_map *map, uint64_t blocks)
{
	uint32_t count = (uint32_t)((blocks + QCOW2_L2_ENTRIES - 1) / QCOW2_L2_ENTRIES);
	struct qcow2_table **table = calloc(count, sizeof(struct qcow2_table *));
	if (!table)
		return -ENOMEM;
	*map = (struct qcow2_map){.blocks = blocks,
				  .table_count = count,
				  .table = table,
				  .memory = count * sizeof(struct qcow2_table *)};
	return 0;
}

static bool page_stored(const struct qcow2_page *page)
{
	return page && page != &qcow2_zero_page;
}

static void page_drop(struct qcow2_map *map, struct qcow2_page **at)
{
	if (page_stored(*at)) {
		free(*at);
		map->memory -= sizeof(struct qcow2_page);
	}
	*at = NULL;
}

static bool table_stored(const struct qcow2_table *table)
{
	return table && table != &qcow2_zero_table;
}

static void table_drop(struct qcow2_map *map, struct qcow2_table **at)
{
	if (table_stored(*at)) {
		for (unsigned i = 0; i < QCOW2_PAGES; i++)
			page_drop(map, &(*at)->page[i]);
		free(*at);
		map->memory -= sizeof(struct qcow2_table);
	}
	*at = NULL;
}

void qcow2_map_done(struct qcow2_map *map)
{
	for (uint32_t i = 0; i < map->table_count; i++)
		table_drop(map, &map->table[i]);
	free(map->table);
	*map = (struct qcow2_map){0};
}

static struct qcow2_table *table_store(struct qcow2_map *map, struct qcow2_table **at)
{
	if (table_stored(*at))
		return *at;
	struct qcow2_table *table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	if (*at)
		*table = qcow2_zero_table;
	map->memory += sizeof(*table);
	*at = table;
	return table;
}

static struct qcow2_page *page_store(struct qcow2_map *map, struct qcow2_page **at)
{
	if (page_stored(*at))
		return *at;
	struct qcow2_page *page = calloc(1, sizeof(*page));
	if (!page)
		return NULL;
	if (*at == &qcow2_zero_page)
		for (unsigned i = 0; i < QCOW2_PAGE_ENTRIES; i++)
			page->entry[i] = zero_entry;
	map->memory += sizeof(*page);
	*at = page;
	return page;
}

struct qcow2_entry *qcow2_map_slot(struct qcow2_map *map, uint64_t index)
{
	struct qcow2_table *table = table_store(map, &map->table[index / QCOW2_L2_ENTRIES]);
	if (!table)
		return NULL;
	struct qcow2_page *page = page_store(map, &table->page[index % QCOW2_L2_ENTRIES / QCOW2_PAGE_ENTRIES]);
	return page ? &page->entry[index % QCOW2_PAGE_ENTRIES] : NULL;
}

struct qcow2_entry qcow2_map_get(const struct qcow2_map *map, uint64_t index)
{
	const struct qcow2_table *table = map->table[index / QCOW2_L2_ENTRIES];
	const struct qcow2_page *page = table ? table->page[index % QCOW2_L2_ENTRIES / QCOW2_PAGE_ENTRIES] : NULL;
	if (page == &qcow2_zero_page)
		return zero_entry;
	return page ? page->entry[index % QCOW2_PAGE_ENTRIES] : (struct qcow2_entry){0};
}

void qcow2_map_put(struct qcow2_map *map, struct qcow2_entry *slot, struct qcow2_entry entry)
{
	map->held -= qcow2_entry_held(*slot);
	map->held += qcow2_entry_held(entry);
	*slot = entry;
}

static void page_zero(struct qcow2_map *map, struct qcow2_page **at, qcow2_release *release, void *context)
{
	if (*at == &qcow2_zero_page)
		return;
	for (unsigned i = 0; *at && i < QCOW2_PAGE_ENTRIES; i++) {
		struct qcow2_entry old = (*at)->entry[i];
		map->held -= qcow2_entry_held(old);
		release(context, old);
	}
	page_drop(map, at);
	*at = &qcow2_zero_page;
	map->held += QCOW2_PAGE_ENTRIES;
}

static void table_zero(struct qcow2_map *map, struct qcow2_table **at, qcow2_release *release, void *context)
{
	if (*at == &qcow2_zero_table)
		return;
	if (*at) {
		for (unsigned i = 0; i < QCOW2_PAGES; i++)
			page_zero(map, &(*at)->page[i], release, context);
		table_drop(map, at);
	} else {
		map->held += QCOW2_L2_ENTRIES;
	}
	*at = &qcow2_zero_table;
}

static int entry_zero(struct qcow2_map *map, uint64_t index, qcow2_release *release, void *context)
{
	struct qcow2_entry *slot = qcow2_map_slot(map, index);
	if (!slot)
		return -ENOMEM;
	release(context, *slot);
	qcow2_map_put(map, slot, zero_entry);
	return 0;
}

int qcow2_map_zero(struct qcow2_map *map, uint64_t first, uint64_t count, qcow2_release *release, void *context)
{
	while (count) {
		struct qcow2_table **at = &map->table[first / QCOW2_L2_ENTRIES];
		uint64_t step = 1;
		if (first % QCOW2_L2_ENTRIES == 0 && count >= QCOW2_L2_ENTRIES) {
			table_zero(map, at, release, context);
			step = QCOW2_L2_ENTRIES;
		} else if (*at == &qcow2_zero_table) {
			step = min_u64(count, QCOW2_L2_ENTRIES - first % QCOW2_L2_ENTRIES);
		} else if (first % QCOW2_PAGE_ENTRIES == 0 && count >= QCOW2_PAGE_ENTRIES) {
			if (!table_store(map, at))
				return -ENOMEM;
			page_zero(map, &(*at)->page[first % QCOW2_L2_ENTRIES / QCOW2_PAGE_ENTRIES], release, context);
			step = QCOW2_PAGE_ENTRIES;
		} else {
			int rc = entry_zero(map, first, release, context);
			if (rc)
				return rc;
		}
		first += step;
		count -= step;
	}
	return 0;
}

bool qcow2_table_is_zero(const struct qcow2_table *table)
{
	for (unsigned i = 0; table && i < QCOW2_PAGES; i++) {
		const struct qcow2_page *page = table->page[i];
		if (!page)
			return false;
		for (unsigned j = 0; page_stored(page) && j < QCOW2_PAGE_ENTRIES; j++)
			if (page->entry[j].where != 0 || page->entry[j].bits != QCOW2_ZERO_ALL)
				return false;
	}
	return table;
}
