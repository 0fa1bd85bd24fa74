// SPDX-License-Identifier: Apache-2.0
// Fingerprints of simulated disks (sim_print.h): sectors, chunks, files, names, each from those below it.
#include "tests/sim/sim_print.h"

#include "tests/sim/sim_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SECOND_NS UINT64_C(1000000000)

static struct sim_print print_of(const void *bytes, size_t len)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, len);
	return (struct sim_print){.low = hash.low64, .high = hash.high64};
}

struct sim_print sim_print_more(struct sim_print before, const void *bytes, size_t len)
{
	const struct sim_print both[2] = {before, print_of(bytes, len)};
	return print_of(both, sizeof(both));
}

// A sector that holds nothing has the print "none", as one that was never written.
static struct sim_print sector_print(const struct sector *s)
{
	struct sim_print all[SIM_VERSIONS_MAX + 1] = {{0}};
	unsigned count = 0;
	bool open = s->versions && s->versions->doubt == DOUBT_UNDECIDED;
	for (unsigned i = 0; open && i < s->versions->count; i++, count++)
		if (s->versions->old[i])
			all[count] = print_of(s->versions->old[i], SECTOR_SIZE);
	if (s->now)
		all[count] = print_of(s->now, SECTOR_SIZE);
	return open ? print_of(all, (count + 1) * sizeof(all[0])) : all[count];
}

static struct sim_print chunk_print(struct chunk *chunk)
{
	static const struct sector nothing[CHUNK_SECTORS];
	struct sim_print all[CHUNK_SECTORS];
	if (chunk->printed)
		return (struct sim_print){.low = chunk->print[0], .high = chunk->print[1]};
	struct sim_print print = {0};
	if (memcmp(chunk->sector, nothing, sizeof(nothing)) != 0) {
		for (unsigned i = 0; i < CHUNK_SECTORS; i++)
			all[i] = sector_print(&chunk->sector[i]);
		print = print_of(all, sizeof(all));
	}
	chunk->printed = true;
	chunk->print[0] = print.low;
	chunk->print[1] = print.high;
	return print;
}

static struct sim_print file_print(const struct inode *inode)
{
	struct sim_print print = print_of(&inode->size, sizeof(inode->size));
	if (inode->sizes && inode->size_doubt == DOUBT_UNDECIDED)
		print = sim_print_more(print, inode->size_old, inode->sizes * sizeof(inode->size_old[0]));
	for (uint32_t i = 0; i < inode->slots; i++) {
		struct sim_print chunk = chunk_print(inode->slot[i].chunk);
		const uint64_t item[] = {inode->slot[i].index, chunk.low, chunk.high};
		if (chunk.low || chunk.high)
			print = sim_print_more(print, item, sizeof(item));
	}
	return print;
}

static struct sim_print inode_print(struct sim *sim, uint32_t ino);

// What a name may stand for: its newest change that did not fail to happen; where that is undecided, the one before it too.
static struct sim_print entry_print(struct sim *sim, struct sim_print print, const struct entry *entry)
{
	uint32_t ino = entry->ino;
	bool open = false;
	for (uint32_t i = entry->changes; i > 0; i--) {
		const struct event *event = &sim->world.event[entry->change[i - 1].event];
		if (event->state == EVENT_NOT)
			continue;
		ino = entry->change[i - 1].ino;
		if (event->state != EVENT_UNDECIDED)
			break;
		struct sim_print then = inode_print(sim, ino);
		const uint64_t item[] = {entry->change[i - 1].event, event->after[0], event->after[1], then.low, then.high};
		print = sim_print_more(sim_print_more(print, entry->name, strlen(entry->name)), item, sizeof(item));
		ino = entry->ino;
		open = true;
	}
	if (!ino && !open)
		return print; // no such name
	struct sim_print last = inode_print(sim, ino);
	return sim_print_more(sim_print_more(print, entry->name, strlen(entry->name)), &last, sizeof(last));
}

static struct sim_print inode_print(struct sim *sim, uint32_t ino)
{
	const struct inode *inode = ino ? inode_get(sim, ino) : NULL;
	if (!inode)
		return (struct sim_print){0};
	if (!inode->is_dir)
		return file_print(inode);
	struct sim_print print = {.high = 1};
	for (uint32_t i = 0; i < inode->entries; i++)
		print = entry_print(sim, print, &inode->entry[i]);
	return print;
}

struct sim_print sim_print(struct sim *sim)
{
	const uint64_t seconds[] = {sim->world.mono_ns / SECOND_NS, (uint64_t)sim->world.wall_ns / SECOND_NS, sim->world.off};
	return sim_print_more(inode_print(sim, ROOT_INO), seconds, sizeof(seconds));
}

// --- sets ---

static bool is_none(struct sim_print print)
{
	return print.low == 0 && print.high == 0;
}

static size_t place_of(const struct sim_print *table, size_t room, struct sim_print print)
{
	size_t i = print.low % room;
	while (!is_none(table[i]) && (table[i].low != print.low || table[i].high != print.high))
		i = (i + 1) % room;
	return i;
}

static void grow(struct sim_prints *set)
{
	size_t room = set->room ? set->room * 4 : 1024;
	struct sim_print *table = calloc(room, sizeof(*table));
	if (!table) {
		fprintf(stderr, "sim: out of memory\n");
		abort();
	}
	for (size_t i = 0; i < set->room; i++)
		if (!is_none(set->print[i]))
			table[place_of(table, room, set->print[i])] = set->print[i];
	free(set->print);
	set->print = table;
	set->room = room;
}

bool sim_prints_have(const struct sim_prints *set, struct sim_print print)
{
	return set->room && !is_none(set->print[place_of(set->print, set->room, print)]);
}

bool sim_prints_add(struct sim_prints *set, struct sim_print print)
{
	if (set->count * 2 >= set->room)
		grow(set);
	size_t i = place_of(set->print, set->room, print);
	if (!is_none(set->print[i]))
		return false;
	set->print[i] = print;
	set->count++;
	return true;
}

void sim_prints_done(struct sim_prints *set)
{
	free(set->print);
	*set = (struct sim_prints){.print = NULL};
}
