// SPDX-License-Identifier: Apache-2.0
// Memory of the simulated world: the arena, copies of what an older save still needs, saves and restores.
//
// An arena gives memory back only by a restore. So that a long simulation without saves stays small, sectors that
// nothing can show any more go to a free list, and inodes without name and handle are swept; neither happens while
// there is a save, for it might hold them.
#include "tests/sim/sim_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK = 1 << 20, ARENA_ALIGN = 16 };

static void *check_memory(void *memory)
{
	if (!memory) {
		fprintf(stderr, "sim: out of memory\n");
		abort();
	}
	return memory;
}

static void add_block(struct arena *arena, size_t at_least)
{
	size_t size = at_least > ARENA_BLOCK ? at_least : ARENA_BLOCK;
	arena->block = check_memory(realloc(arena->block, (arena->blocks + 1) * sizeof(*arena->block)));
	arena->size = check_memory(realloc(arena->size, (arena->blocks + 1) * sizeof(*arena->size)));
	arena->block[arena->blocks] = check_memory(malloc(size));
	arena->size[arena->blocks++] = size;
}

void *sim_alloc(struct sim *sim, size_t size)
{
	struct arena *arena = &sim->arena;
	size = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	while (arena->at.block < arena->blocks && arena->size[arena->at.block] - arena->at.used < size)
		arena->at = (struct arena_mark){.block = arena->at.block + 1};
	if (arena->at.block == arena->blocks)
		add_block(arena, size);
	void *memory = arena->block[arena->at.block] + arena->at.used;
	arena->at.used += size;
	return memory;
}

size_t sim_memory(const struct sim *sim)
{
	size_t bytes = 0;
	for (size_t i = 0; i < sim->arena.blocks; i++)
		bytes += sim->arena.size[i];
	return bytes;
}

unsigned char *sector_alloc(struct sim *sim)
{
	unsigned char *sector = sim->free_sector;
	if (!sector)
		return sim_alloc(sim, SECTOR_SIZE);
	memcpy(&sim->free_sector, sector, sizeof(sim->free_sector));
	return sector;
}

void sector_release(struct sim *sim, unsigned char *sector)
{
	if (!sector || sim->saves)
		return;
	memcpy(sector, &sim->free_sector, sizeof(sim->free_sector));
	sim->free_sector = sector;
}

struct inode *inode_get(const struct sim *sim, uint32_t ino)
{
	return sim->world.inode[ino];
}

static void *copy_array(struct sim *sim, const void *from, size_t item, uint32_t count, uint32_t room)
{
	void *to = sim_alloc(sim, item * room);
	if (count)
		memcpy(to, from, item * count);
	return to;
}

static void own_table(struct sim *sim)
{
	struct world *w = &sim->world;
	if (w->inode_layer == sim->layer)
		return;
	w->inode = copy_array(sim, w->inode, sizeof(struct inode *), w->inodes, w->inode_room);
	w->inode_layer = sim->layer;
}

struct inode *inode_own(struct sim *sim, uint32_t ino)
{
	struct inode *old = inode_get(sim, ino);
	if (old->layer == sim->layer)
		return old;
	own_table(sim);
	struct inode *inode = sim_alloc(sim, sizeof(*inode));
	*inode = *old;
	inode->layer = sim->layer;
	if (inode->slot_room)
		inode->slot = copy_array(sim, old->slot, sizeof(*old->slot), old->slots, old->slot_room);
	if (inode->entry_room)
		inode->entry = copy_array(sim, old->entry, sizeof(*old->entry), old->entries, old->entry_room);
	sim->world.inode[ino] = inode;
	return inode;
}

static void mark_dir(const struct sim *sim, uint32_t dir, unsigned char *reached);

static void mark(const struct sim *sim, uint32_t ino, unsigned char *reached)
{
	if (!ino || reached[ino])
		return;
	reached[ino] = 1;
	if (inode_get(sim, ino)->is_dir)
		mark_dir(sim, ino, reached);
}

static void mark_dir(const struct sim *sim, uint32_t dir, unsigned char *reached)
{
	const struct inode *inode = inode_get(sim, dir);
	for (uint32_t i = 0; i < inode->entries; i++) {
		mark(sim, inode->entry[i].ino, reached);
		for (uint32_t j = 0; j < inode->entry[i].changes; j++)
			mark(sim, inode->entry[i].change[j].ino, reached);
	}
}

// Frees inodes that no name leads to in any outcome, and no handle.
static void sweep(struct sim *sim)
{
	struct world *w = &sim->world;
	unsigned char *reached = check_memory(calloc(1, w->inodes));
	mark(sim, ROOT_INO, reached);
	for (struct sim_root *root = sim->root; root; root = root->next)
		if (root->life == sim->life)
			mark(sim, root->ino, reached);
	for (struct sim_file *file = sim->file; file; file = file->next)
		if (file->life == sim->life)
			mark(sim, file->ino, reached);
	uint32_t live = 0;
	for (uint32_t ino = 1; ino < w->inodes; ino++) {
		if (reached[ino])
			live++;
		else if (w->inode[ino])
			inode_release(sim, ino);
	}
	free(reached);
	sim->sweep_at = live * 2 + 64;
}

void inode_release(struct sim *sim, uint32_t ino)
{
	struct inode *inode = inode_own(sim, ino);
	if (!inode->is_dir) {
		data_uncount(sim, ino);
		data_settle(sim, ino);
		for (uint32_t i = 0; i < inode->slots; i++)
			for (unsigned j = 0; j < CHUNK_SECTORS; j++)
				sector_release(sim, inode->slot[i].chunk->sector[j].now);
	}
	for (uint32_t i = 0; i < inode->entries; i++)
		sim->world.changes -= inode->entry[i].changes;
	sim->world.inode[ino] = NULL;
}

static uint32_t free_number(struct sim *sim)
{
	struct world *w = &sim->world;
	if (sim->saves == 0 && w->inodes >= sim->sweep_at) {
		sweep(sim);
		for (uint32_t ino = ROOT_INO + 1; ino < w->inodes; ino++)
			if (!w->inode[ino])
				return ino;
	}
	if (w->inodes == w->inode_room) {
		w->inode_room = w->inode_room ? w->inode_room * 2 : 32;
		w->inode_layer = 0;
	}
	own_table(sim);
	return w->inodes++;
}

uint32_t inode_new(struct sim *sim, bool is_dir)
{
	uint32_t ino = free_number(sim);
	own_table(sim);
	struct inode *inode = sim_alloc(sim, sizeof(*inode));
	*inode = (struct inode){.layer = sim->layer, .is_dir = is_dir, .counted = !is_dir};
	sim->world.inode[ino] = inode;
	return ino;
}

unsigned sim_choose(struct sim *sim, unsigned n)
{
	return sim->chooser ? choose(sim->chooser, n) : 0;
}

void sim_save(struct sim *sim)
{
	if (sim->saves == SIM_SAVES_MAX) {
		fprintf(stderr, "sim: more than %d saves\n", SIM_SAVES_MAX);
		abort();
	}
	sim->save[sim->saves++] = (struct sim_save){.world = sim->world, .mark = sim->arena.at};
	sim->free_sector = NULL;
	sim->layer++;
}

void sim_restore(struct sim *sim)
{
	const struct sim_save *save = &sim->save[sim->saves - 1];
	sim->world = save->world;
	sim->arena.at = save->mark;
	sim->layer++;
	sim->life++;
}

void sim_drop(struct sim *sim)
{
	sim->saves--;
}
