// SPDX-License-Identifier: Apache-2.0
// One disk: guest requests on their way to the image, and syncs of it.
//
// Syncs are grouped: what asks for one while one is under way waits for the next, since its writes may have completed after
// the one under way began. So at most one is under way per disk, and a thousand FUA writes cost two.
#include "replicator/volume.h"

#include "replicator/group.h"
#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ZEROS_SIZE = 256 << 10, PART_MAX = 32 << 20 };
static unsigned char zeros[ZEROS_SIZE]; // never written to

static void count(_Atomic uint64_t *counter, uint64_t more)
{
	uint64_t now = atomic_load_explicit(counter, memory_order_relaxed); // one writer: no locked instruction needed
	atomic_store_explicit(counter, now + more, memory_order_relaxed);
}

int volume_init(struct volume *volume, struct group *group, struct aio_backend *backend, uint64_t size)
{
	*volume = (struct volume){.group = group, .backend = backend, .size = size};
	volume->sync_next_end = &volume->sync_next;
	volume->remembered = calloc(size_regions(size), sizeof(uint64_t));
	if (!volume->remembered || dirty_init(&volume->dirty, size) || dirty_init(&volume->set, size) ||
	    intent_map_init(&volume->intent, size))
		return -ENOMEM;
	volume->dirty.beside = &volume->set;
	dirty_reserve(&volume->dirty);
	return 0;
}

void volume_done(struct volume *volume)
{
	dirty_done(&volume->dirty);
	dirty_done(&volume->set);
	intent_map_done(&volume->intent);
	audit_map_done(&volume->audit);
	free(volume->remembered);
	volume->remembered = NULL;
}

int volume_grow(struct volume *volume, uint64_t size)
{
	uint64_t old = volume->size, regions = size_regions(size);
	assert(size > old && volume->set.pieces == 0 && !volume->remembered_any);
	uint64_t *remembered = calloc(regions, sizeof(uint64_t));
	struct dirty set;
	int code = dirty_init(&set, size);
	if (!remembered || code || intent_map_grow(&volume->intent, size) || audit_map_grow(&volume->audit, size) || dirty_grow(&volume->dirty, size)) {
		free(remembered);
		dirty_done(&set);
		intent_map_ungrow(&volume->intent, old);
		return -ENOMEM; // a larger map of holes or of what is dirty is clean there, and nobody asks
	}
	free(volume->remembered);
	volume->remembered = remembered;
	dirty_done(&volume->set);
	volume->set = set;
	volume->size = size;
	dirty_reserve(&volume->dirty);
	for (uint64_t r = old / REGION_SIZE; r < regions; r++)
		intent_set_marked(&volume->group->intent, volume, r);
	dirty_mark(&volume->dirty, old, size - old);
	if (volume->audit.units) // a unit that the old end cut short holds more now
		audit_written(volume, old, size - old);
	return 0;
}

// Errors of want are the guest's to handle: it was told before it could rely on the write.
static bool wants_space(int res)
{
	return res == -ENOSPC || res == -EDQUOT || res == -EFBIG || res == -ENOMEM;
}

static void volume_error(struct volume *volume, enum disk_fault fault, uint64_t off, int res, bool latch)
{
	if (latch && !volume->failed)
		volume->failed = res;
	group_error(volume->group, volume, fault, off, res);
}

void volume_unsynced(struct volume *volume, int code)
{
	volume_error(volume, FAULT_SYNC, 0, code, true);
}

static void sync_start(struct volume *volume);

static void sync_finish(struct volume_sync *list, int res)
{
	while (list) {
		struct volume_sync *next = list->next; // its memory may go with it
		list->done(list, res);
		list = next;
	}
}

static void on_synced(struct aio *aio, int res)
{
	struct volume *volume = HOLDER(aio, struct volume, sync_aio);
	if (res < 0)
		volume_error(volume, FAULT_SYNC, 0, res, true);
	struct volume_sync *list = volume->sync_now;
	volume->sync_now = NULL;
	volume->syncing = false;
	sync_finish(list, volume->failed ? -EIO : 0);
	if (volume->sync_next && !volume->syncing)
		sync_start(volume);
}

static void sync_start(struct volume *volume)
{
	struct volume_sync *list = volume->sync_next;
	volume->sync_next = NULL;
	volume->sync_next_end = &volume->sync_next;
	if (volume->failed) {
		sync_finish(list, -EIO); // V3: not even tried
		return;
	}
	volume->sync_now = list;
	volume->syncing = true;
	volume->sync_aio = (struct aio){.kind = AIO_SYNC, .done = on_synced};
	volume->backend->submit(volume->backend, &volume->sync_aio);
}

void volume_sync(struct volume *volume, struct volume_sync *sync)
{
	if (volume->failed) {
		sync->done(sync, -EIO); // V3
		return;
	}
	sync->next = NULL;
	*volume->sync_next_end = sync;
	volume->sync_next_end = &sync->next;
	if (!volume->syncing)
		sync_start(volume);
}

static void on_read(struct aio *aio, int res)
{
	struct volume_request *request = HOLDER(aio, struct volume_request, aio);
	if (res < 0)
		volume_error(request->volume, FAULT_READ, request->off, res, false);
	request->done(request, res);
}

// A hint: what cannot be read ahead is no error of the guest's, and a bad disk shows when it is read.
static void on_advised(struct aio *aio, int res)
{
	struct volume_request *request = HOLDER(aio, struct volume_request, aio);
	(void)res;
	request->done(request, 0);
}

static void on_request_synced(struct volume_sync *sync, int res)
{
	struct volume_request *request = HOLDER(sync, struct volume_request, sync);
	request->done(request, res);
}

static void request_sync(struct volume_request *request)
{
	request->sync.done = on_request_synced;
	volume_sync(request->volume, &request->sync);
}

static void writing_ended(struct volume *volume, unsigned era)
{
	volume->writing[era]--;
	if (era != volume->era && !volume->writing[era])
		volume->stalled_ns = 0;
}

void volume_stall(struct volume *volume, uint64_t since_ns)
{
	if (volume->stalled_ns || !volume->writing[volume->era])
		return; // what hung before is what counts; the era after it is still the one
	volume->era ^= 1;
	volume->stalled_ns = since_ns;
}

// A hole is made of the range where the image can.
static bool empties(const struct volume_request *request)
{
	return request->command == VOLUME_TRIM || (request->command == VOLUME_ZERO && !request->no_hole);
}

static void change_begins(struct volume_request *request)
{
	struct volume *volume = request->volume;
	request->alone = volume->filling == 0;
	request->fillings = volume->fillings;
	if (empties(request))
		return;
	volume->filling++;
	volume->fillings++;
}

// H2 of holes.c. From when it came until now nothing else was on its way to the disk, so whole regions of its part are what it made of them.
static void emptied(struct volume_request *request)
{
	struct volume *volume = request->volume;
	uint64_t first = (request->from + REGION_SIZE - 1) / REGION_SIZE, end = request->from + request->part;
	uint64_t past = end == volume->size ? size_regions(end) : end / REGION_SIZE;
	if (request->alone && volume->fillings == request->fillings && past > first)
		intent_emptied(&volume->intent, first, past - first);
}

// The image holds the change, or never will.
static void request_ended(struct volume_request *request, int res)
{
	if (!empties(request))
		request->volume->filling--;
	if (res == 0 && request->fua)
		request_sync(request);
	else
		request->done(request, res);
}

// Likewise of the part that passed the gate; the next one comes to it behind what was held there.
static void part_written(struct volume_request *request, int res)
{
	struct volume *volume = request->volume;
	unsigned era = request->era;
	request->from += request->part;
	bool more = res == 0 && request->from < request->off + request->len;
	if (!more)
		request_ended(request, res);
	writing_ended(volume, era);
	group_written(volume->group);
	if (more)
		group_admit(volume->group, request);
}

// Whether its part begins and ends with a page, or with the disk.
static bool whole_pages(const struct volume_request *request)
{
	uint64_t end = request->from + request->part;
	return request->from % PIECE_SIZE == 0 && (end % PIECE_SIZE == 0 || end == request->volume->size);
}

// V4. Regions are not divided, so that what is emptied as a whole is known as such. With `apart` what lies within a page is a part of its own.
static uint64_t part_len(const struct volume_request *request)
{
	uint64_t left = request->off + request->len - request->from, within = request->from % PIECE_SIZE;
	uint64_t most = request->by_writes ? ZEROS_SIZE : PART_MAX;
	if (request->command == VOLUME_WRITE)
		return left;
	if (request->apart && within)
		return min_u64(left, PIECE_SIZE - within);
	uint64_t len = min_u64(left, most - request->from % most);
	if (request->apart && len > PIECE_SIZE && request->from + len != request->volume->size)
		len -= len % PIECE_SIZE;
	return len;
}

static void on_written(struct aio *aio, int res);

static void issue_aio(struct volume_request *request, enum aio_kind kind, uint64_t off, uint64_t len, void *data)
{
	struct volume *volume = request->volume;
	request->aio = (struct aio){.kind = kind, .off = off, .len = len, .data = data, .done = on_written};
	if (request->command == VOLUME_WRITE)
		request->aio.pipe = request->pipe;
	volume->backend->submit(volume->backend, &request->aio);
}

static void request_issue(struct volume_request *request)
{
	enum aio_kind kind = AIO_WRITE;
	if (empties(request))
		kind = AIO_PUNCH;
	else if (request->command == VOLUME_ZERO)
		kind = AIO_ZERO;
	if (request->by_writes)
		issue_aio(request, AIO_WRITE, request->from, request->part, zeros);
	else
		issue_aio(request, kind, request->from, request->part, request->data);
}

static void issue_zeros(struct volume_request *request)
{
	request->by_writes = request->part >= PIECE_SIZE; // the rest as well: less may have been refused for being less
	request->part = min_u64(ZEROS_SIZE, request->part);
	issue_aio(request, AIO_WRITE, request->from, request->part, zeros);
}

// The image cannot punch or zero the part by itself. True when another way was begun. One that is to be fast is refused while nothing of it was done, not later.
static bool zero_otherwise(struct volume_request *request)
{
	if (request->fast && request->from == request->off)
		return false;
	if (!request->apart && !whole_pages(request)) { // a device can do the pages between
		request->apart = true;
		request->part = part_len(request);
		request_issue(request);
		return true;
	}
	if (request->command != VOLUME_ZERO)
		return false;
	if (request->aio.kind == AIO_PUNCH)
		issue_aio(request, AIO_ZERO, request->from, request->part, NULL);
	else
		issue_zeros(request);
	return true;
}

// TRIM is a hint: where the image does not take it, that is all, and it is not asked for the rest either.
static void part_refused(struct volume_request *request, int res)
{
	if (request->command == VOLUME_TRIM && whole_pages(request))
		request->part = request->off + request->len - request->from;
	part_written(request, request->command == VOLUME_TRIM ? 0 : res);
}

// An error is one of a request: of its parts the first tells it, and one that makes the disk fail for good.
static void write_failed(struct volume_request *request, uint64_t off, int res)
{
	bool latch = !wants_space(res), again = request->told && *request->told;
	if (request->told)
		*request->told = true;
	if (!again || (latch && !request->volume->failed))
		volume_error(request->volume, FAULT_WRITE, off, res, latch);
}

static void on_written(struct aio *aio, int res)
{
	struct volume_request *request = HOLDER(aio, struct volume_request, aio);
	if (res == -EOPNOTSUPP && aio->kind != AIO_WRITE) {
		if (!zero_otherwise(request))
			part_refused(request, res);
		return;
	}
	if (res < 0)
		write_failed(request, aio->off, res);
	else if (aio->kind == AIO_PUNCH)
		emptied(request);
	part_written(request, res);
}

void volume_continue(struct volume_request *request)
{
	if (group_preserve(request->volume->group, request))
		request_issue(request);
}

void volume_admitted(struct volume_request *request)
{
	request->part = part_len(request);
	// V1: a crash or a cut at any later moment finds the bit; before the gate it would land in the wrong set.
	dirty_mark(&request->volume->dirty, request->from, request->part);
	if (request->volume->audit.units) // audit.h, U1
		audit_written(request->volume, request->from, request->part);
	request->era = request->volume->era;
	request->volume->writing[request->era]++;
	request->at = request->from / BLOCK_SIZE;
	request->save_at = request->at;
	request->saving = false;
	volume_continue(request);
}

static void volume_read(struct volume_request *request)
{
	struct volume *volume = request->volume;
	request->aio = (struct aio){
		.kind = AIO_READ, .off = request->off, .len = request->len, .data = request->data, .done = on_read};
	volume->backend->submit(volume->backend, &request->aio);
}

void volume_count_read(struct volume *volume, uint64_t len)
{
	count(&volume->stats.reads, 1);
	count(&volume->stats.read_bytes, len);
}

void volume_count_write(struct volume *volume, uint64_t len)
{
	count(&volume->stats.writes, 1);
	count(&volume->stats.written_bytes, len);
}

static void volume_cache(struct volume_request *request)
{
	struct volume *volume = request->volume;
	request->aio = (struct aio){.kind = AIO_ADVISE,
				    .background = true,
				    .off = request->off,
				    .len = min_u64(request->len, VOLUME_CACHE_MAX),
				    .done = on_advised};
	volume->backend->submit(volume->backend, &request->aio);
}

void volume_submit(struct volume *volume, struct volume_request *request)
{
	struct volume_stats *stats = &volume->stats;
	request->volume = volume;
	assert(request->command == VOLUME_FLUSH ||
	       (request->len && size_within(request->off, request->len, volume->size)));
	switch (request->command) {
	case VOLUME_READ:
		if (!request->counted)
			volume_count_read(volume, request->len);
		volume_read(request);
		return;
	case VOLUME_FLUSH:
		if (!request->counted)
			count(&stats->flushes, 1);
		request_sync(request);
		return;
	case VOLUME_CACHE:
		volume_cache(request);
		return;
	case VOLUME_WRITE:
		if (!request->counted)
			volume_count_write(volume, request->len);
		break;
	case VOLUME_TRIM:
		count(&stats->trims, 1);
		break;
	case VOLUME_ZERO:
		count(&stats->zeroes, 1);
		request->no_hole |= volume->backend->punch_keeps;
		break;
	}
	request->from = request->off;
	request->apart = request->by_writes = false;
	change_begins(request);
	group_admit(volume->group, request);
}

void volume_remember(struct volume *volume, uint64_t index)
{
	volume->remembered[index / BLOCKS_PER_REGION] |= UINT64_C(1) << index % BLOCKS_PER_REGION;
	volume->remembered_any = true;
}

void volume_remember_region(struct volume *volume, uint64_t region)
{
	volume->remembered[region] |= dirty_region_blocks(&volume->set, region);
	volume->remembered_any = true;
}

void volume_remember_set(struct volume *volume)
{
	struct dirty *set = &volume->set;
	for (uint64_t r = 0; set->pieces && r < set->regions; r++)
		volume->remembered[r] |= dirty_region_blocks(set, r);
	volume->remembered_any |= set->pieces != 0;
	dirty_reset(set);
}

static void volume_forget(struct volume *volume)
{
	if (volume->remembered_any)
		memset(volume->remembered, 0, size_regions(volume->size) * sizeof(uint64_t));
	volume->remembered_any = false;
}

static uint64_t remembered_blocks(const struct volume *volume)
{
	uint64_t blocks = 0;
	for (uint64_t r = 0; volume->remembered_any && r < size_regions(volume->size); r++)
		blocks += (unsigned)__builtin_popcountll(volume->remembered[r]);
	return blocks;
}

void volume_kept(struct volume *volume, bool synced)
{
	volume->unsynced = synced ? 0 : volume->unsynced + remembered_blocks(volume);
	volume_forget(volume);
}

static void give_back_region(struct volume *volume, uint64_t region, uint64_t blocks)
{
	if (blocks == UINT64_MAX) { // one step for a whole region: a guest waits meanwhile
		dirty_mark(&volume->dirty, region * REGION_SIZE, REGION_SIZE);
		return;
	}
	for (; blocks; blocks &= blocks - 1)
		dirty_mark_block(&volume->dirty, region * BLOCKS_PER_REGION + (unsigned)__builtin_ctzll(blocks), MASK_FULL);
}

void volume_give_back(struct volume *volume)
{
	dirty_give(&volume->dirty, &volume->set); // first: then there is room for bits (dirty.h, D1)
	for (uint64_t r = 0; volume->remembered_any && r < size_regions(volume->size); r++) {
		give_back_region(volume, r, volume->remembered[r]);
		if (volume->audit.units)
			audit_given_back(volume, r, volume->remembered[r]);
	}
	volume_forget(volume);
}

uint16_t volume_pieces(const struct volume *volume, uint64_t index)
{
	unsigned count = (size_of_block(volume->size, index) + PIECE_SIZE - 1) / PIECE_SIZE;
	return (uint16_t)((1u << count) - 1);
}

uint64_t volume_memory(const struct volume *volume)
{
	return dirty_memory(&volume->dirty) + dirty_memory(&volume->set) + size_regions(volume->size) * sizeof(uint64_t) +
	       intent_map_memory(&volume->intent) + audit_map_memory(&volume->audit);
}
