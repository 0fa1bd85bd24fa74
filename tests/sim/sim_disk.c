// SPDX-License-Identifier: Apache-2.0
// Contents of simulated files: sectors, sizes, and the versions of both that a power cut may bring back.
//
//	         write                sync               power off            read
//	certain ───────► DIRTY ─────────────────► certain
//	                   │  failed sync
//	                   ├──────────► LOST ◄─ sync: stays
//	                   └──────────────┴────────────────► UNDECIDED ─────► certain
//	                                   write: DIRTY ◄────────┘
//
// A sector's candidates are `old`, oldest first, and `now`, the newest. The number of versions is bounded: past the
// bound the oldest but one goes, as the synced one is what must be able to come back.
#include "tests/sim/sim_disk.h"

#include <errno.h>
#include <string.h>

enum { CHUNK_BYTES = CHUNK_SECTORS * SECTOR_SIZE };

static unsigned char garbage[SECTOR_SIZE]; // set on first use; its address is its name

static unsigned char *garbage_sector(void)
{
	if (!garbage[0])
		memset(garbage, 0xdb, sizeof(garbage));
	return garbage;
}

static uint32_t slot_at(const struct inode *inode, uint64_t index)
{
	uint32_t low = 0, high = inode->slots;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (inode->slot[mid].index < index)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct chunk *chunk_get(const struct inode *inode, uint64_t index)
{
	uint32_t i = slot_at(inode, index);
	return i < inode->slots && inode->slot[i].index == index ? inode->slot[i].chunk : NULL;
}

static struct chunk *chunk_add(struct sim *sim, struct inode *inode, uint32_t i, uint64_t index)
{
	if (inode->slots == inode->slot_room) {
		uint32_t room = inode->slot_room ? inode->slot_room * 2 : 4;
		struct slot *slot = sim_alloc(sim, room * sizeof(*slot));
		if (inode->slots)
			memcpy(slot, inode->slot, inode->slots * sizeof(*slot));
		inode->slot = slot;
		inode->slot_room = room;
	}
	memmove(inode->slot + i + 1, inode->slot + i, (inode->slots - i) * sizeof(*inode->slot));
	struct chunk *chunk = sim_alloc(sim, sizeof(*chunk));
	memset(chunk, 0, sizeof(*chunk));
	chunk->layer = sim->layer;
	inode->slot[i] = (struct slot){.index = index, .chunk = chunk};
	inode->slots++;
	return chunk;
}

struct chunk *data_own_chunk(struct sim *sim, struct inode *inode, uint32_t i)
{
	struct chunk *old = inode->slot[i].chunk;
	if (old->layer == sim->layer) {
		old->printed = false;
		return old;
	}
	struct chunk *chunk = sim_alloc(sim, sizeof(*chunk));
	*chunk = *old;
	chunk->layer = sim->layer;
	chunk->printed = false;
	return inode->slot[i].chunk = chunk;
}

// The chunk to be changed; `inode` is owned. NULL when there is none and none is to be made.
static struct chunk *chunk_own(struct sim *sim, struct inode *inode, uint64_t index, bool make)
{
	uint32_t i = slot_at(inode, index);
	if (i < inode->slots && inode->slot[i].index == index)
		return data_own_chunk(sim, inode, i);
	return make ? chunk_add(sim, inode, i, index) : NULL;
}

static void release_version(struct sim *sim, unsigned char *version)
{
	if (version != garbage)
		sector_release(sim, version);
}

void data_forget_versions(struct sim *sim, struct chunk *chunk, struct sector *s)
{
	for (unsigned i = 0; i < s->versions->count; i++)
		release_version(sim, s->versions->old[i]);
	s->versions = NULL;
	chunk->doubts--;
}

// Makes `next` the newest version. `fresh`: the sector lies behind the synced size.
static void put_version(struct sim *sim, struct chunk *chunk, struct sector *s, unsigned char *next, bool fresh)
{
	struct versions *v = sim_alloc(sim, sizeof(*v));
	if (s->versions)
		*v = *s->versions;
	else
		*v = (struct versions){.count = 0}, chunk->doubts++;
	if (v->count == SIM_VERSIONS_MAX) {
		release_version(sim, v->old[1]);
		memmove(v->old + 1, v->old + 2, (SIM_VERSIONS_MAX - 2) * sizeof(v->old[0]));
		v->count--;
	}
	bool first = v->count == 0;
	v->old[v->count++] = s->now;
	if (first && fresh && !s->now)
		v->old[v->count++] = garbage_sector();
	v->doubt = DOUBT_DIRTY;
	s->versions = v;
	s->now = next;
}

static bool same_bytes(const unsigned char *a, const unsigned char *b)
{
	static const unsigned char zeros[SECTOR_SIZE];
	return a == b || memcmp(a ? a : zeros, b ? b : zeros, SECTOR_SIZE) == 0;
}

static void count_space(struct sim *sim, const struct inode *inode, const struct sector *s, const unsigned char *next)
{
	if (inode->counted && !s->now && next)
		sim->world.used += SECTOR_SIZE;
	if (inode->counted && s->now && !next)
		sim->world.used -= SECTOR_SIZE;
}

static void decide_sector(struct sim *sim, const struct inode *inode, struct chunk *chunk, struct sector *s)
{
	unsigned char *candidate[SIM_VERSIONS_MAX + 1];
	unsigned count = 0;
	for (unsigned i = 0; i <= s->versions->count; i++) {
		unsigned char *next = i < s->versions->count ? s->versions->old[i] : s->now;
		unsigned j = 0;
		while (j < count && !same_bytes(candidate[j], next))
			j++;
		if (j == count)
			candidate[count++] = next;
	}
	unsigned char *chosen = candidate[sim_choose(sim, count)];
	count_space(sim, inode, s, chosen);
	s->now = chosen;
	s->versions = NULL;
	chunk->doubts--;
}

static bool undecided(const struct sector *s)
{
	return s->versions && s->versions->doubt == DOUBT_UNDECIDED;
}

static uint64_t synced_size(const struct inode *inode)
{
	return inode->sizes ? inode->size_old[0] : inode->size;
}

// Replaces bytes [from, to) of a sector, by zeros when `bytes` is NULL. -ENOSPC when it needs space and there is none.
static int change_sector(struct sim *sim, struct inode *inode, struct chunk *chunk, unsigned i, uint64_t at,
			 const unsigned char *bytes, unsigned from, unsigned to)
{
	struct sector *s = &chunk->sector[i];
	bool whole = from == 0 && to == SECTOR_SIZE;
	if (!whole && undecided(s))
		decide_sector(sim, inode, chunk, s);
	if (!bytes && !s->now && !s->versions)
		return 0;
	unsigned char *next = NULL;
	if (bytes || (!whole && s->now)) {
		if (inode->counted && !s->now && sim->world.used + SECTOR_SIZE > sim->world.limit)
			return -ENOSPC;
		next = sector_alloc(sim);
		if (!whole && s->now)
			memcpy(next, s->now, SECTOR_SIZE);
		else if (!whole)
			memset(next, 0, SECTOR_SIZE);
		if (bytes)
			memcpy(next + from, bytes, to - from);
		else
			memset(next + from, 0, to - from);
	}
	count_space(sim, inode, s, next);
	put_version(sim, chunk, s, next, at >= synced_size(inode));
	inode->doubtful = true;
	return 0;
}

// Walks [off, off + len) by sectors; `bytes` NULL for zeros, which make no chunks. *ret_done counts the bytes.
static int change_range(struct sim *sim, struct inode *inode, const unsigned char *bytes, uint64_t off, uint64_t len,
			uint64_t *ret_done)
{
	uint64_t at = off, end = off + len;
	int rc = 0;
	while (at < end && rc == 0) {
		uint64_t stop = min_u64(end, (at / CHUNK_BYTES + 1) * CHUNK_BYTES);
		struct chunk *chunk = chunk_own(sim, inode, at / CHUNK_BYTES, bytes != NULL);
		while (chunk && at < stop && rc == 0) {
			unsigned from = (unsigned)(at % SECTOR_SIZE);
			unsigned to = (unsigned)min_u64(SECTOR_SIZE, from + (stop - at));
			rc = change_sector(sim, inode, chunk, (unsigned)(at % CHUNK_BYTES / SECTOR_SIZE), at - from,
					   bytes ? bytes + (at - off) : NULL, from, to);
			if (rc == 0)
				at += to - from;
		}
		if (!chunk)
			at = stop;
	}
	*ret_done = at - off;
	return rc;
}

static void put_size(struct inode *inode, uint64_t size)
{
	if (size == inode->size)
		return;
	if (inode->sizes == SIM_VERSIONS_MAX) {
		memmove(inode->size_old + 1, inode->size_old + 2, (SIM_VERSIONS_MAX - 2) * sizeof(uint64_t));
		inode->sizes--;
	}
	inode->size_old[inode->sizes++] = inode->size;
	inode->size_doubt = DOUBT_DIRTY;
	inode->size = size;
	inode->doubtful = true;
}

static unsigned char *without_tail(struct sim *sim, unsigned char *version, unsigned keep)
{
	if (!version)
		return NULL;
	unsigned char *cut = sector_alloc(sim);
	memcpy(cut, version, keep);
	memset(cut + keep, 0, SECTOR_SIZE - keep);
	return cut;
}

// The end of the file was found at `size`: what lies behind it is gone in every version.
static void cut_behind(struct sim *sim, struct inode *inode, uint64_t size)
{
	uint32_t i = slot_at(inode, size / CHUNK_BYTES);
	for (; i < inode->slots; i++) {
		struct chunk *chunk = data_own_chunk(sim, inode, i);
		for (unsigned j = 0; j < CHUNK_SECTORS; j++) {
			uint64_t at = inode->slot[i].index * CHUNK_BYTES + (uint64_t)j * SECTOR_SIZE;
			struct sector *s = &chunk->sector[j];
			if (at + SECTOR_SIZE <= size || (!s->now && !s->versions))
				continue;
			unsigned keep = at < size ? (unsigned)(size - at) : 0;
			unsigned char *now = keep ? without_tail(sim, s->now, keep) : NULL;
			count_space(sim, inode, s, now);
			if (s->versions && keep) {
				struct versions *v = sim_alloc(sim, sizeof(*v));
				*v = *s->versions;
				for (unsigned k = 0; k < v->count; k++)
					v->old[k] = without_tail(sim, v->old[k], keep);
				s->versions = v;
			} else if (s->versions) {
				s->versions = NULL;
				chunk->doubts--;
			}
			s->now = now;
		}
	}
}

static void decide_size(struct sim *sim, struct inode *inode)
{
	uint64_t candidate[SIM_VERSIONS_MAX + 1];
	unsigned count = 0;
	for (unsigned i = 0; i <= inode->sizes; i++) {
		uint64_t next = i < inode->sizes ? inode->size_old[i] : inode->size;
		unsigned j = 0;
		while (j < count && candidate[j] != next)
			j++;
		if (j == count)
			candidate[count++] = next;
	}
	inode->size = candidate[sim_choose(sim, count)];
	inode->sizes = 0;
	cut_behind(sim, inode, inode->size);
}

uint64_t data_size(struct sim *sim, uint32_t ino)
{
	struct inode *inode = inode_get(sim, ino);
	if (inode->sizes && inode->size_doubt == DOUBT_UNDECIDED) {
		inode = inode_own(sim, ino);
		decide_size(sim, inode);
	}
	return inode->size;
}

uint64_t data_allocated(const struct sim *sim, uint32_t ino)
{
	const struct inode *inode = inode_get(sim, ino);
	uint64_t sectors = 0;
	for (uint32_t i = 0; i < inode->slots; i++)
		for (unsigned j = 0; j < CHUNK_SECTORS; j++)
			sectors += inode->slot[i].chunk->sector[j].now != NULL;
	return sectors * SECTOR_SIZE;
}

static bool sector_taken(const struct inode *inode, uint64_t sector)
{
	const struct chunk *chunk = chunk_get(inode, sector / CHUNK_SECTORS);
	return chunk && chunk->sector[sector % CHUNK_SECTORS].now;
}

void data_extent(const struct sim *sim, uint32_t ino, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	const struct inode *inode = inode_get(sim, ino);
	uint64_t end = (inode->size + SECTOR_SIZE - 1) / SECTOR_SIZE, from = off / SECTOR_SIZE;
	while (from < end && !sector_taken(inode, from))
		from++;
	uint64_t to = from;
	while (to < end && sector_taken(inode, to))
		to++;
	*ret_from = max_u64(off, from * SECTOR_SIZE);
	*ret_to = max_u64(*ret_from, to * SECTOR_SIZE);
}

static void read_chunk(struct sim *sim, uint32_t ino, unsigned char *to, uint64_t at, uint64_t end)
{
	const struct chunk *chunk = chunk_get(inode_get(sim, ino), at / CHUNK_BYTES);
	if (!chunk) {
		memset(to, 0, (size_t)(end - at));
		return;
	}
	while (at < end) {
		unsigned i = (unsigned)(at % CHUNK_BYTES / SECTOR_SIZE), from = (unsigned)(at % SECTOR_SIZE);
		size_t n = (size_t)min_u64(SECTOR_SIZE - from, end - at);
		if (undecided(&chunk->sector[i])) {
			struct inode *inode = inode_own(sim, ino);
			struct chunk *mine = chunk_own(sim, inode, at / CHUNK_BYTES, false);
			decide_sector(sim, inode, mine, &mine->sector[i]);
			chunk = mine;
		}
		if (chunk->sector[i].now)
			memcpy(to, chunk->sector[i].now + from, n);
		else
			memset(to, 0, n);
		to += n;
		at += n;
	}
}

size_t data_read(struct sim *sim, uint32_t ino, void *buf, size_t len, uint64_t off)
{
	uint64_t size = data_size(sim, ino);
	if (off >= size)
		return 0;
	uint64_t at = off, end = off + min_u64(len, size - off);
	while (at < end) {
		uint64_t stop = min_u64(end, (at / CHUNK_BYTES + 1) * CHUNK_BYTES);
		read_chunk(sim, ino, (unsigned char *)buf + (at - off), at, stop);
		at = stop;
	}
	return (size_t)(end - off);
}

int data_write(struct sim *sim, uint32_t ino, const void *buf, size_t len, uint64_t off)
{
	(void)data_size(sim, ino);
	struct inode *inode = inode_own(sim, ino);
	uint64_t done;
	int rc = change_range(sim, inode, buf, off, len, &done);
	if (done)
		put_size(inode, max_u64(inode->size, off + done));
	return rc;
}

void data_zero(struct sim *sim, uint32_t ino, uint64_t off, uint64_t len)
{
	uint64_t size = data_size(sim, ino), done;
	if (off < size)
		(void)change_range(sim, inode_own(sim, ino), NULL, off, min_u64(len, size - off), &done);
}

void data_resize(struct sim *sim, uint32_t ino, uint64_t size)
{
	uint64_t old = data_size(sim, ino);
	if (size < old)
		data_zero(sim, ino, size, old - size);
	put_size(inode_own(sim, ino), size);
}
