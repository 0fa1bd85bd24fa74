// SPDX-License-Identifier: Apache-2.0
// The gate and the cut over all disks of a protection, and copy-before-write of the cut's set.
//
// Before the gate a write waits for its marks (intent.h); after the gate was closed it is tested again.
//
//	cut asked ──► batches end ──► gate closed (writes wait, reads pass) ──► writes in flight end ──► sets taken ──► gate open
//	                                  └─ they do not: cancelled ──────────────────────────────────────────────────► gate open
//
// P3 (G3): while a write hangs that a cut was given up for, no other cut closes the gate: one disk that hangs costs its
// neighbours one hold, and not one at each try.
// The writes in flight are waited for in every mode: a write that is marked before the cut, but reaches the image after its
// block was read, would be in neither this set nor the next.
#include "replicator/group.h"

#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int group_init(struct group *group, uint16_t count, const uint64_t *sizes, struct aio_backend *const *backends,
	       uint64_t preserve_bytes_max)
{
	*group = (struct group){.count = count};
	group->held_end = &group->held;
	spill_init(&group->spill, NULL, 0);
	group->volume = calloc(count, sizeof(*group->volume));
	if (!group->volume || preserve_init(&group->preserve, &group->spill, preserve_bytes_max))
		return -ENOMEM;
	for (uint16_t d = 0; d < count; d++)
		if (volume_init(&group->volume[d], group, backends[d], sizes[d]))
			return -ENOMEM;
	return 0;
}

void group_set_spill(struct group *group, struct aio_backend *backend, uint64_t bytes_max)
{
	spill_init(&group->spill, backend, bytes_max);
}

void group_wake(struct volume_request *list)
{
	while (list) {
		struct volume_request *next = list->next; // going on, it may wait elsewhere
		list->next = NULL;
		volume_continue(list);
		list = next;
	}
}

static void drop_preserved(struct group *group)
{
	struct volume_request *waiters = preserve_drop(&group->preserve);
	for (uint16_t d = 0; d < group->count; d++)
		group->volume[d].preserved = 0;
	spill_trim(&group->spill);
	group_wake(waiters);
	group_wake(spill_take_waiters(&group->spill));
}

void group_done(struct group *group)
{
	if (group->preserve.bucket) {
		(void)preserve_drop(&group->preserve);
		preserve_done(&group->preserve);
	}
	for (uint16_t d = 0; group->volume && d < group->count; d++)
		volume_done(&group->volume[d]);
	free(group->volume);
	group->volume = NULL;
}

void group_error(struct group *group, struct volume *volume, enum disk_fault fault, uint64_t off, int res)
{
	if (group->on_error)
		group->on_error(group, volume, fault, off, res);
}

static bool any_stalled(const struct group *group)
{
	for (uint16_t d = 0; d < group->count; d++)
		if (group->volume[d].stalled_ns)
			return true;
	return false;
}

static bool any_failed(const struct group *group)
{
	for (uint16_t d = 0; d < group->count; d++)
		if (group->volume[d].failed)
			return true;
	return false;
}

// ---- the gate and the cut

static void gate_open(struct group *group)
{
	struct volume_request *list = group->held;
	group->gate_closed = false;
	group->held = NULL;
	group->held_end = &group->held;
	while (list) {
		struct volume_request *next = list->next;
		list->next = NULL;
		group_admit(group, list);
		list = next;
	}
}

// One or two bit tests for a region in use. M1.
static bool marks_cover(struct group *group, struct volume_request *request)
{
	struct intent_map *map = &request->volume->intent;
	if (map->free)
		return true;
	uint64_t first = request->from / REGION_SIZE, last = (request->off + request->len - 1) / REGION_SIZE;
	if (first == last && intent_bit(map->marked, first) && intent_bit(map->touched, first))
		return true;
	return intent_wait(&group->intent, request, first, last);
}

void group_admit(struct group *group, struct volume_request *request)
{
	if (!marks_cover(group, request))
		return;
	if (group->gate_closed) {
		request->next = NULL;
		*group->held_end = request;
		group->held_end = &request->next;
		return;
	}
	group->writes++;
	volume_admitted(request);
}

static void cut_take(struct group *group)
{
	struct group_cut *cut = group->cut;
	drop_preserved(group); // nobody waits for any: all writes are done
	for (uint16_t d = 0; d < group->count; d++) {
		struct volume *volume = &group->volume[d];
		group->incomplete |= volume->set.pieces != 0;
		volume_remember_set(volume);
		dirty_take(&volume->set, &volume->dirty);
	}
	group->set = cut->mode == CUT_POINT ? SET_POINT : SET_PRECOPY;
	group->next_disk = 0;
	group->next_block = 0;
	group->bounded = false;
	group->look_disk = group->hole_disk = 0;
	group->look_block = group->hole_region = 0;
	group->hole_waits = 0;
	cut->take(cut);
}

static void cut_end(struct group *group, int res)
{
	struct group_cut *cut = group->cut;
	group->cut = NULL;
	gate_open(group); // before the counting: what passes it does not change the set
	cut->dirty_bytes = 0;
	cut->blocks = 0;
	for (uint16_t d = 0; res == 0 && d < group->count; d++) {
		cut->dirty_bytes += dirty_bytes(&group->volume[d].set);
		cut->blocks += dirty_blocks(&group->volume[d].set);
	}
	cut->done(cut, res);
}

// Takes the cut under way as far as it goes; called whenever something ended that it may wait for.
static void cut_step(struct group *group)
{
	if (!group->cut || group->fetches)
		return;
	if (any_failed(group)) {
		cut_end(group, -EIO);
		return;
	}
	if (!group->gate_closed && any_stalled(group)) { // P3
		cut_end(group, -EAGAIN);
		return;
	}
	if (!group->gate_closed) {
		group->gate_closed = true;
		group->cut->hold(group->cut);
	}
	if (group->writes)
		return;
	cut_take(group);
	cut_end(group, 0);
}

void group_cut(struct group *group, struct group_cut *cut)
{
	if (group->cut) {
		cut->done(cut, -EBUSY);
		return;
	}
	group->cut = cut;
	cut_step(group);
}

void group_cut_cancel(struct group *group, uint64_t since_ns)
{
	if (!group->cut || !group->gate_closed)
		return;
	for (uint16_t d = 0; d < group->count; d++)
		volume_stall(&group->volume[d], since_ns);
	cut_end(group, -EAGAIN);
}

void group_written(struct group *group)
{
	assert(group->writes > 0);
	group->writes--;
	cut_step(group);
}

// ---- copy-before-write

// The bound is reached, or old content cannot be read: the guest goes on, the cut does not.
void group_give_up(struct group *group, enum group_loss why, int res)
{
	if (group->set != SET_STALE) {
		group->losses++;
		group->loss = why;
		group->loss_res = res;
	}
	group->set = SET_STALE;
	drop_preserved(group);
}

void group_run_safe(struct group *group, struct preserve_run *run)
{
	struct preserve_block *block = run->block;
	block->saving &= (uint16_t)~preserve_run_mask(run);
	block->safe |= preserve_run_mask(run);
	struct volume_request *waiters = preserve_take_waiters(block);
	if (block->fetch)
		fetch_step(group, block); // and it may be gone
	else
		preserve_ready(&group->preserve, block);
	group_wake(waiters);
}

// What lies past the end of the disk is zero, as in the batch.
static void zero_end(struct preserve_run *run, uint64_t read)
{
	memset(run->data + read, 0, preserve_run_bytes(run) - read);
}

static void run_dropped(struct group *group, struct preserve_run *run)
{
	bool buffer_free = run->spilled;
	preserve_release(&group->preserve, run);
	if (buffer_free)
		spill_wake(group);
}

// The batch waits for nothing else: it has the content from the buffer at once.
static bool last_of_batch(const struct preserve_block *block)
{
	return block->fetch && !block->reading && !block->reads;
}

static void on_saved(struct aio *aio, int res)
{
	struct preserve_run *run = HOLDER(aio, struct preserve_run, aio);
	struct group *group = run->volume->group;
	if (res < 0) {
		group_error(group, run->volume, FAULT_OLD, aio->off, res);
		if (run->block && !run->block->dropped)
			group_give_up(group, LOSS_CONTENT, res); // drops this one, too
	}
	if (!run->block) {
		run_dropped(group, run);
		return;
	}
	run->block->reads--;
	zero_end(run, aio->len);
	bool spilled = run->spilled;
	if (spilled && !run->block->dropped && !last_of_batch(run->block)) {
		spill_write(group, run);
		return;
	}
	run->state = PRESERVE_SAVED;
	group_run_safe(group, run); // and it may be gone
	if (spilled)
		spill_wake(group);
}

static void save_begin(struct preserve_run *run)
{
	struct volume *volume = run->volume;
	uint64_t off = run->block->index * BLOCK_SIZE + (uint64_t)run->first * PIECE_SIZE;
	run->aio = (struct aio){.kind = AIO_READ,
				.off = off,
				.len = min_u64(preserve_run_bytes(run), volume->size - off),
				.data = run->data,
				.done = on_saved};
	volume->backend->submit(volume->backend, &run->aio);
}

// What goes to the spill file goes by SPILL_PIECES where it can: there are so many runs, and they are to fill the file.
static void widen(const struct preserve_block *block, unsigned *first, unsigned *count)
{
	unsigned free = volume_pieces(block->volume, block->index) & ~(unsigned)(block->safe | block->saving);
	for (; *first % SPILL_PIECES && free >> (*first - 1) & 1; (*first)--)
		(*count)++;
	while ((*first + *count) % SPILL_PIECES && free >> (*first + *count) & 1)
		(*count)++;
}

static enum spill_room save_run(struct group *group, struct preserve_block *block, unsigned first, unsigned count)
{
	struct preserve_run *run = preserve_save(&group->preserve, block, first, count);
	if (!run) {
		widen(block, &first, &count);
		enum spill_room room = spill_room(&group->spill, (uint64_t)count * PIECE_SIZE);
		if (room == SPILL_ROOM)
			run = preserve_save_spilled(&group->preserve, block, first, count);
		if (!run)
			return room == SPILL_ROOM ? SPILL_FULL : room;
	}
	save_begin(run);
	return SPILL_ROOM;
}

// Begins to save those of the pieces that are neither safe nor on their way.
static enum spill_room save_pieces(struct group *group, struct preserve_block *block, uint16_t pieces)
{
	enum spill_room room = SPILL_ROOM;
	unsigned lacks;
	while (room == SPILL_ROOM && (lacks = pieces & ~(unsigned)(block->safe | block->saving)) != 0) {
		unsigned first = (unsigned)__builtin_ctz(lacks), count = (unsigned)__builtin_ctz(~(lacks >> first));
		room = save_run(group, block, first, count);
	}
	return room;
}

// Of a block of the set.
static enum spill_room save_block(struct group *group, struct volume *volume, uint64_t index, uint16_t pieces)
{
	struct preserve_block *block = preserve_find(&group->preserve, volume, index);
	if (!block)
		block = preserve_new(&group->preserve, volume, index);
	if (!block)
		return SPILL_FULL;
	enum spill_room room = save_pieces(group, block, pieces);
	if (block->runs)
		return room;
	preserve_remove(&group->preserve, block);
	preserve_free(&group->preserve, block);
	return room;
}

// Those of the block that the request overwrites, the whole or a part of them.
static uint16_t pieces_of(const struct volume_request *request, uint64_t index)
{
	uint64_t begin = index * BLOCK_SIZE, end = request->from + request->part - 1;
	unsigned first = request->from > begin ? (unsigned)((request->from - begin) / PIECE_SIZE) : 0;
	unsigned last = end < begin + BLOCK_SIZE ? (unsigned)((end - begin) / PIECE_SIZE) : PIECES_PER_BLOCK - 1;
	return (uint16_t)(((2u << last) - 1) & ~((1u << first) - 1));
}

// Goes on where it was when it had to wait for the spill file.
static uint64_t next_to_save(struct volume_request *request, uint64_t last)
{
	request->save_at = dirty_next_before(&request->volume->set, request->save_at, last + 1);
	return request->save_at;
}

// Begins to save all of the set that the request overwrites, so that the reads run at the same time.
static enum spill_room save_blocks(struct group *group, struct volume_request *request, uint64_t last)
{
	enum spill_room room = SPILL_ROOM;
	while (room == SPILL_ROOM && next_to_save(request, last) <= last) {
		room = save_block(group, request->volume, request->save_at, pieces_of(request, request->save_at));
		request->save_at += room == SPILL_ROOM;
	}
	request->saving = room == SPILL_ROOM;
	return room;
}

// SPILL_FULL: the cut was given up, and so the request goes on.
static bool goes_on(struct group *group, struct volume_request *request, enum spill_room room)
{
	if (room == SPILL_WAIT)
		spill_wait(&group->spill, request);
	else
		group_give_up(group, LOSS_ROOM, 0);
	return room == SPILL_FULL;
}

bool group_preserve(struct group *group, struct volume_request *request)
{
	if (group->set != SET_POINT)
		return true;
	uint64_t last = (request->from + request->part - 1) / BLOCK_SIZE;
	enum spill_room room = request->saving ? SPILL_ROOM : save_blocks(group, request, last);
	if (room != SPILL_ROOM)
		return goes_on(group, request, room);
	for (; group->preserve.count && request->at <= last; request->at++) {
		struct preserve_block *block = preserve_find(&group->preserve, request->volume, request->at);
		if (!block)
			continue;
		uint16_t pieces = pieces_of(request, request->at);
		room = save_pieces(group, block, pieces); // a batch reads it, and may take its time, while a guest's write may not
		if (room != SPILL_ROOM)
			return goes_on(group, request, room);
		if (!(block->saving & pieces))
			continue;
		request->next = NULL;
		*block->waiters_end = request;
		block->waiters_end = &request->next;
		return false;
	}
	return true;
}

void group_fetched(struct group *group)
{
	cut_step(group);
}

// ---- the end of a cut

void group_kept(struct group *group, bool synced)
{
	for (uint16_t d = 0; d < group->count; d++) {
		struct volume *volume = &group->volume[d];
		volume_kept(volume, synced);
		dirty_give(&volume->dirty, &volume->set); // what was not read was not sent
	}
	group->set = SET_NONE;
	drop_preserved(group);
}

void group_give_back(struct group *group)
{
	for (uint16_t d = 0; d < group->count; d++)
		volume_give_back(&group->volume[d]);
	group->set = SET_NONE;
	group->incomplete = false;
	drop_preserved(group);
}

int group_grow(struct group *group, uint16_t disk, uint64_t size)
{
	if (group->set != SET_NONE || group->cut || group->fetches || group->keeps)
		return -EBUSY;
	struct volume *volume = &group->volume[disk];
	int code = volume_grow(volume, size);
	if (code == 0)
		intent_resume(group, volume);
	return code;
}

uint64_t group_served(const struct group *group)
{
	uint64_t count = 0;
	for (uint16_t d = 0; d < group->count; d++) {
		const struct volume_stats *s = &group->volume[d].stats;
		count += atomic_load_explicit(&s->reads, memory_order_relaxed) + atomic_load_explicit(&s->writes, memory_order_relaxed) +
			 atomic_load_explicit(&s->flushes, memory_order_relaxed) + atomic_load_explicit(&s->trims, memory_order_relaxed) +
			 atomic_load_explicit(&s->zeroes, memory_order_relaxed);
	}
	return count;
}

void group_mark(struct group *group, uint16_t disk, uint64_t off, uint64_t len)
{
	struct volume *volume = &group->volume[disk];
	if (off >= volume->size || !len)
		return;
	dirty_mark(&volume->dirty, off, min_u64(len, volume->size - off));
	if (volume->audit.units)
		audit_written(volume, off, min_u64(len, volume->size - off));
}

// Dirty first: from then on no mark of it is given up (M2 of intent.h).
void group_mark_whole(struct group *group, uint16_t disk)
{
	struct volume *volume = &group->volume[disk];
	group_mark(group, disk, 0, volume->size);
	intent_mark_whole(&group->intent, volume);
}

void group_trust(struct group *group, uint16_t disk)
{
	struct volume *volume = &group->volume[disk];
	if (volume->intent.free)
		group_mark(group, disk, 0, volume->size);
	for (uint64_t r = 0; !volume->intent.free && r < volume->intent.regions; r++)
		if (intent_bit(volume->intent.marked, r))
			group_mark(group, disk, r * REGION_SIZE, REGION_SIZE);
	volume->failed = 0;
}

void group_mark_all(struct group *group)
{
	for (uint16_t d = 0; d < group->count; d++) {
		dirty_mark_all(&group->volume[d].dirty);
		audit_map_done(&group->volume[d].audit); // all of it is read now
	}
}
