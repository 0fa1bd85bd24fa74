// SPDX-License-Identifier: Apache-2.0
// What becomes of contents that are not certain, at a sync, a failed sync, and when the power goes off.
// The states and their arrows: sim_disk.c.
#include "tests/sim/sim_disk.h"

#include <string.h>

static bool has_doubt(const struct chunk *chunk, enum doubt doubt)
{
	for (unsigned i = 0; i < CHUNK_SECTORS; i++)
		if (chunk->sector[i].versions && chunk->sector[i].versions->doubt == doubt)
			return true;
	return false;
}

static bool inode_has_doubt(const struct inode *inode, enum doubt doubt)
{
	if (!inode->doubtful)
		return false;
	if (inode->sizes && inode->size_doubt == doubt)
		return true;
	for (uint32_t i = 0; i < inode->slots; i++)
		if (inode->slot[i].chunk->doubts && has_doubt(inode->slot[i].chunk, doubt))
			return true;
	return false;
}

// What was `from` is certain afterwards.
static void make_certain(struct sim *sim, struct inode *inode, enum doubt from)
{
	inode->doubtful = false;
	if (inode->sizes && inode->size_doubt == from)
		inode->sizes = 0;
	inode->doubtful = inode->sizes > 0;
	for (uint32_t i = 0; i < inode->slots; i++) {
		if (!inode->slot[i].chunk->doubts)
			continue;
		struct chunk *chunk = data_own_chunk(sim, inode, i);
		for (unsigned j = 0; j < CHUNK_SECTORS; j++)
			if (chunk->sector[j].versions && chunk->sector[j].versions->doubt == from)
				data_forget_versions(sim, chunk, &chunk->sector[j]);
		inode->doubtful |= chunk->doubts > 0;
	}
}

static void change_doubt(struct sim *sim, struct inode *inode, enum doubt from, enum doubt to)
{
	if (inode->sizes && inode->size_doubt == from)
		inode->size_doubt = (unsigned char)to;
	for (uint32_t i = 0; i < inode->slots; i++) {
		if (!inode->slot[i].chunk->doubts)
			continue;
		struct chunk *chunk = data_own_chunk(sim, inode, i);
		for (unsigned j = 0; j < CHUNK_SECTORS; j++) {
			struct sector *s = &chunk->sector[j];
			if (!s->versions || s->versions->doubt != from)
				continue;
			struct versions *v = sim_alloc(sim, sizeof(*v));
			*v = *s->versions;
			v->doubt = (unsigned char)to;
			s->versions = v;
		}
	}
}

bool data_sync(struct sim *sim, uint32_t ino)
{
	if (!inode_has_doubt(inode_get(sim, ino), DOUBT_DIRTY))
		return false;
	make_certain(sim, inode_own(sim, ino), DOUBT_DIRTY);
	return true;
}

void data_sync_failed(struct sim *sim, uint32_t ino)
{
	if (inode_has_doubt(inode_get(sim, ino), DOUBT_DIRTY))
		change_doubt(sim, inode_own(sim, ino), DOUBT_DIRTY, DOUBT_LOST);
}

void data_doubt(struct sim *sim, uint32_t ino, bool lost_only)
{
	if (inode_has_doubt(inode_get(sim, ino), DOUBT_LOST))
		change_doubt(sim, inode_own(sim, ino), DOUBT_LOST, DOUBT_UNDECIDED);
	if (!lost_only && inode_has_doubt(inode_get(sim, ino), DOUBT_DIRTY))
		change_doubt(sim, inode_own(sim, ino), DOUBT_DIRTY, DOUBT_UNDECIDED);
}

void data_settle(struct sim *sim, uint32_t ino)
{
	for (enum doubt doubt = DOUBT_DIRTY; doubt <= DOUBT_UNDECIDED; doubt++)
		if (inode_has_doubt(inode_get(sim, ino), doubt))
			make_certain(sim, inode_own(sim, ino), doubt);
}

void data_uncount(struct sim *sim, uint32_t ino)
{
	struct inode *inode = inode_own(sim, ino);
	if (inode->counted)
		sim->world.used -= data_allocated(sim, ino);
	inode->counted = false;
}
