// SPDX-License-Identifier: Apache-2.0
// With sanitizers in full runs only: what it goes through others do as well, and it takes long.
// The disks of a protection against a model: a guest that reads and writes at random, a cycle that cuts, fetches, keeps and
// gives back at random, and images whose operations end in any order. Each seed is one history.
#include "replicator/group.h"

#include "replicator/holder.h"
#include "replicator/state_marks.h"
#include "tests/lib/fake_aio.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DISKS = 2, GUESTS = 24, BATCHES = 2, WRITE_MAX = 5 * BLOCK_SIZE };
static const uint64_t sizes[DISKS] = {20 * BLOCK_SIZE - 3 * SECTOR_SIZE, 4 * REGION_SIZE + 5 * PIECE_SIZE};
enum { REGIONS = 5, NEAR = 70 * BLOCK_SIZE }; // NEAR: where most of the guest's requests go

struct guest { // one request of the guest
	struct volume_request request;
	struct world *world;
	bool busy;
	uint16_t disk;
	uint64_t must_tick; // what has to be durable when it is answered
	unsigned char *data;
};

enum phase { PHASE_IDLE, PHASE_CUTTING, PHASE_READING, PHASE_KEEPING };

struct world {
	struct fake_aio fake[DISKS];
	struct fake_aio spill;
	struct group group;
	unsigned char *acked[DISKS];	// the disk as the guest knows it
	unsigned char *snapshot[DISKS]; // the disk at the last cut
	unsigned char *replica[DISKS];
	unsigned char *point[DISKS];	// the replica at the last keep
	struct guest guest[GUESTS];
	bool durable[DISKS][REGIONS]; // the marks in the state file, as a crash would find them
	struct intent_batch marks;
	bool marks_wanted, marks_committing;
	unsigned commits, cleared, unsynced_keeps;
	int mark_res; // what commits end with
	enum phase phase;
	struct group_cut cut;
	struct group_keep keep;
	struct fetch fetch[BATCHES];
	struct source_batch batch[BATCHES];
	bool fetching[BATCHES];
	bool exhausted, failed, skipped; // skipped: a cut took the place of a set that was not read to its end
	uint64_t spilled; // bytes, the most at a time
	bool looks; // sets of pre-copies are looked at, and have their holes taken out, before they are fetched
	unsigned looked, settled, holes; // blocks
	unsigned points, stale, given_back, reads_checked;
	unsigned errors; // told
	enum disk_fault fault; // the last of them
	bool told_failed;      // and whether its volume said so by then
	unsigned holds, cancelled; // cuts that closed the gate; that were given up
	uint64_t set_bytes;	   // of all disks, before the cut
};

static uint64_t state;

static uint64_t dice(uint64_t below)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (state >> 33) % below;
}

// ---- the guest

static bool overlaps(const struct guest *g, uint16_t disk, uint64_t off, uint64_t len)
{
	return g->busy && g->disk == disk && g->request.command != VOLUME_FLUSH && off < g->request.off + g->request.len &&
	       g->request.off < off + len;
}

static bool is_write(const struct guest *g)
{
	return g->request.command != VOLUME_READ && g->request.command != VOLUME_FLUSH && g->request.command != VOLUME_CACHE;
}

static void check_answer(struct guest *g)
{
	struct world *w = g->world;
	struct fake_aio *fake = &w->fake[g->disk];
	unsigned char *acked = w->acked[g->disk] + g->request.off;
	switch (g->request.command) {
	case VOLUME_READ:
		assert_memory_equal(g->data, acked, g->request.len); // G1
		w->reads_checked++;
		break;
	case VOLUME_FLUSH:
		assert_true(fake->durable_tick >= g->must_tick); // G2
		break;
	case VOLUME_WRITE:
		memcpy(acked, g->data, g->request.len);
		break;
	case VOLUME_TRIM:
	case VOLUME_ZERO:
		memset(acked, 0, g->request.len);
		break;
	case VOLUME_CACHE:
		break;
	}
	if (is_write(g) && g->request.fua) // G2: its own data, by a sync that began after it was written
		assert_true(fake->durable_tick > fake_aio_written(fake, g->request.off, g->request.len));
}

static void on_guest_done(struct volume_request *request, int res)
{
	struct guest *g = HOLDER(request, struct guest, request);
	assert_true(g->busy);
	assert_int_equal(res, 0);
	check_answer(g);
	g->busy = false;
}

// Whole regions are made holes, with what lies around them or without: they may be believed again, until somebody writes there.
static void widen(struct world *w, uint16_t *disk, enum volume_command *command, uint64_t *off, uint64_t *len)
{
	if (!w->looks || dice(25))
		return;
	*disk = 1;
	*command = dice(2) ? VOLUME_TRIM : VOLUME_ZERO;
	*off = dice(4) * REGION_SIZE + (dice(3) ? 0 : dice(BLOCK_SIZE));
	*len = min_u64((1 + dice(2)) * REGION_SIZE + (dice(2) ? 0 : dice(BLOCK_SIZE)), sizes[1] - *off);
}

static void guest_act(struct world *w)
{
	static const enum volume_command commands[] = {VOLUME_WRITE, VOLUME_WRITE, VOLUME_WRITE, VOLUME_READ,
						       VOLUME_READ,  VOLUME_TRIM,  VOLUME_ZERO,  VOLUME_FLUSH};
	struct guest *g = &w->guest[dice(GUESTS)];
	if (g->busy)
		return;
	uint16_t disk = (uint16_t)dice(DISKS);
	uint64_t span = dice(40) ? min_u64(NEAR, sizes[disk]) : sizes[disk];
	uint64_t off = dice(span / SECTOR_SIZE) * SECTOR_SIZE + (dice(4) ? 0 : dice(SECTOR_SIZE));
	uint64_t len = min_u64(1 + dice(dice(3) ? 3 * PIECE_SIZE : WRITE_MAX), sizes[disk] - off);
	enum volume_command command = commands[dice(8)];
	widen(w, &disk, &command, &off, &len);
	for (unsigned i = 0; i < GUESTS; i++)
		if (overlaps(&w->guest[i], disk, off, len))
			return; // what two such requests would leave is nobody's promise
	g->request = (struct volume_request){.command = command,
					     .off = off,
					     .len = len,
					     .data = g->data,
					     .fua = dice(5) == 0,
					     .no_hole = dice(2),
					     .done = on_guest_done};
	g->disk = disk;
	g->busy = true;
	g->must_tick = w->fake[disk].written_tick;
	for (uint64_t i = 0; g->request.command == VOLUME_WRITE && i < len; i++)
		g->data[i] = (unsigned char)(state >> (i % 48)) ^ (unsigned char)i;
	volume_submit(&w->group.volume[disk], &g->request);
}

// ---- what must hold at a cut, and always

static bool range_is(const struct world *w, const struct guest *g, bool written)
{
	const unsigned char *image = w->fake[g->disk].image + g->request.off;
	if (!written)
		return memcmp(image, w->acked[g->disk] + g->request.off, g->request.len) == 0;
	if (g->request.command == VOLUME_WRITE)
		return memcmp(image, g->data, g->request.len) == 0;
	for (uint64_t i = 0; i < g->request.len; i++)
		if (image[i])
			return false;
	return true;
}

// R2, R1: every answered write is in it, and each write under way is in it as a whole or not at all.
static void on_take(struct group_cut *cut)
{
	struct world *w = HOLDER(cut, struct world, cut);
	for (uint16_t d = 0; d < DISKS; d++) {
		assert_false(fake_aio_changing(&w->fake[d]));
		memcpy(w->snapshot[d], w->fake[d].image, sizes[d]);
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		const struct guest *g = &w->guest[i];
		if (!g->busy || !is_write(g))
			continue;
		assert_true(range_is(w, g, false) || range_is(w, g, true));
		memcpy(w->snapshot[g->disk] + g->request.off, w->acked[g->disk] + g->request.off, g->request.len);
	}
	for (uint16_t d = 0; d < DISKS; d++) {
		assert_memory_equal(w->snapshot[d], w->acked[d], sizes[d]);
		memcpy(w->snapshot[d], w->fake[d].image, sizes[d]);
	}
}

static bool accounted(const struct volume *v, uint64_t piece)
{
	uint64_t block = piece / PIECES_PER_BLOCK;
	uint16_t bit = (uint16_t)(1u << piece % PIECES_PER_BLOCK);
	return (dirty_mask(&v->dirty, block) | dirty_mask(&v->set, block)) & bit ||
	       v->remembered[block / BLOCKS_PER_REGION] >> block % BLOCKS_PER_REGION & 1;
}

// ---- marks

static uint64_t region_len(uint16_t disk, uint64_t region)
{
	return min_u64(REGION_SIZE, sizes[disk] - region * REGION_SIZE);
}

// B2: at the moment a write is issued, the marks of its regions are durable.
static void on_issued(struct fake_aio *fake, const struct aio *aio)
{
	struct world *w = fake->context;
	if (aio->kind == AIO_READ || aio->kind == AIO_SYNC || aio->kind == AIO_ADVISE || w->group.volume[fake - w->fake].intent.lost)
		return;
	for (uint64_t r = aio->off / REGION_SIZE; r <= (aio->off + aio->len - 1) / REGION_SIZE; r++)
		assert_true(w->durable[fake - w->fake][r]);
}

// B3, B4: at the moment a mark goes, the region equals the replica, and that is on stable storage.
static void check_clear(const struct world *w, uint16_t disk, uint64_t region)
{
	const struct fake_aio *fake = &w->fake[disk];
	uint64_t off = region * REGION_SIZE, len = region_len(disk, region);
	assert_true(w->durable[disk][region]);
	assert_memory_equal(fake->image + off, w->replica[disk] + off, len);
	assert_true(fake_aio_written(fake, off, len) <= fake->durable_tick);
}

static void on_marks_wanted(struct intent *intent)
{
	struct world *w = HOLDER(HOLDER(intent, struct group, intent), struct world, group);
	assert_false(w->marks_wanted || w->marks_committing);
	w->marks_wanted = true;
}

static void marker_step(struct world *w)
{
	if (w->marks_wanted) {
		w->marks_wanted = false;
		w->marks_committing = intent_take(&w->group.intent, &w->marks);
		return;
	}
	if (!w->marks_committing)
		return;
	for (unsigned i = 0; i < w->marks.parts; i++) {
		struct intent_part *part = &w->marks.part[i];
		for (size_t c = 0; c < part->clears; c++) {
			check_clear(w, part->disk, part->clear[c]);
			w->durable[part->disk][part->clear[c]] = false;
			w->cleared++;
		}
		for (size_t s = 0; s < part->sets && !w->mark_res; s++)
			w->durable[part->disk][part->set[s]] = true;
		part->res = w->mark_res;
	}
	w->commits++;
	w->marks_committing = false;
	intent_committed(&w->group.intent, &w->marks);
}

// B1: what differs from the replica is known to, and would be after a crash.
static void check_superset(const struct world *w)
{
	for (uint16_t d = 0; d < DISKS; d++) {
		for (uint64_t off = 0; off < sizes[d]; off += PIECE_SIZE) {
			size_t len = (size_t)min_u64(PIECE_SIZE, sizes[d] - off);
			if (memcmp(w->fake[d].image + off, w->replica[d] + off, len) != 0)
				assert_true(accounted(&w->group.volume[d], off / PIECE_SIZE) && w->durable[d][off / REGION_SIZE]);
		}
	}
}

// ---- the cycle

static void on_hold(struct group_cut *cut)
{
	struct world *w = HOLDER(cut, struct world, cut);
	assert_true(w->group.gate_closed);
	w->holds++;
}

static uint64_t set_bytes(const struct world *w)
{
	uint64_t bytes = 0;
	for (uint16_t d = 0; d < DISKS; d++)
		bytes += dirty_bytes(&w->group.volume[d].set);
	return bytes;
}

// The worst of file systems that may be believed: it knows nothing of what was written since the disk was opened.
static bool hole_at_open(struct aio_backend *backend, uint64_t off, uint64_t *ret_until)
{
	(void)off;
	*ret_until = HOLDER(backend, struct fake_aio, backend)->size;
	return true;
}

static void take_holes(struct world *w)
{
	struct source_run runs[2];
	bool all;
	unsigned count = group_holes(&w->group, runs, 2, &all);
	for (unsigned i = 0; i < count; i++) {
		uint64_t off = runs[i].first * BLOCK_SIZE;
		w->holes += (unsigned)runs[i].count;
		memset(w->replica[runs[i].disk] + off, 0, min_u64(runs[i].count * BLOCK_SIZE, sizes[runs[i].disk] - off));
	}
}

static void on_cut(struct group_cut *cut, int res)
{
	struct world *w = HOLDER(cut, struct world, cut);
	assert_false(w->group.gate_closed);
	w->exhausted = w->failed = false;
	if (res == -EAGAIN) { // it is tried again, or its set is given back, as if it had never been asked for
		assert_int_equal(set_bytes(w), w->set_bytes);
		w->cancelled++;
		w->phase = PHASE_IDLE;
		return;
	}
	assert_int_equal(res, 0);
	w->phase = PHASE_READING;
	while (w->looks && w->cut.mode == CUT_PRECOPY && dice(4))
		take_holes(w);
}

static void apply(struct world *w, const struct source_batch *batch)
{
	for (unsigned i = 0; i < batch->count; i++) {
		const struct source_block *b = &batch->block[i];
		for (unsigned p = 0; p < PIECES_PER_BLOCK; p++) {
			uint64_t off = b->index * BLOCK_SIZE + (uint64_t)p * PIECE_SIZE;
			if (!(b->mask & 1u << p))
				continue;
			memcpy(w->replica[b->disk] + off, b->data + (size_t)p * PIECE_SIZE,
			       min_u64(PIECE_SIZE, sizes[b->disk] - off));
		}
		uint32_t on_disk = size_of_block(sizes[b->disk], b->index);
		for (uint32_t at = on_disk; at < BLOCK_SIZE && !batch->status; at++) // of one that failed nothing is known
			assert_int_equal(b->data[at], 0);
		// The receiver keeps the digest of all that was read, so all of it must be there once the mask's pieces are: also
		// when the guest wrote others of its pieces between a pre-copy cut and the read.
		if (!batch->status && !w->group.incomplete)
			assert_memory_equal(w->replica[b->disk] + b->index * BLOCK_SIZE, b->data, on_disk);
	}
}

// As a receiver's answer: what the replica holds as it was read leaves the set.
static void compare(struct world *w, const struct source_batch *batch)
{
	for (unsigned i = 0; !batch->status && i < batch->count; i++) {
		const struct source_block *b = &batch->block[i];
		uint64_t off = b->index * BLOCK_SIZE;
		unsigned char unequal = memcmp(w->replica[b->disk] + off, b->data, size_of_block(sizes[b->disk], b->index)) != 0;
		group_settle(&w->group, b->disk, b->index, 1, &unequal);
		w->looked++;
		w->settled += !unequal;
	}
}

static void on_fetched(struct fetch *fetch)
{
	struct source_batch *batch = fetch->batch;
	struct world *w = batch->private;
	w->fetching[fetch - w->fetch] = false;
	if (batch->status)
		w->failed = true;
	if (batch->look) {
		compare(w, batch);
		return;
	}
	if (!batch->status && batch->count == 0)
		w->exhausted = !w->group.bounded || w->group.look_disk >= DISKS;
	apply(w, batch); // also of a batch that failed: it may have been sent
}

static void on_kept(struct group_keep *keep, int res)
{
	struct world *w = HOLDER(keep, struct world, keep);
	assert_int_equal(res, w->skipped ? -ESTALE : 0);
	w->points += res == 0;
	for (uint16_t d = 0; res == 0 && d < DISKS; d++)
		memcpy(w->point[d], w->replica[d], sizes[d]);
	w->phase = PHASE_IDLE;
	if (res)
		group_give_back(&w->group);
	w->skipped = false;
}

static void cycle_cut(struct world *w)
{
	w->phase = PHASE_CUTTING;
	w->cut = (struct group_cut){
		.mode = dice(w->looks ? 2 : 4) ? CUT_POINT : CUT_PRECOPY, .hold = on_hold, .take = on_take, .done = on_cut};
	w->set_bytes = set_bytes(w);
	group_cut(&w->group, &w->cut);
}

static void cycle_supersede(struct world *w)
{
	for (uint16_t d = 0; d < DISKS; d++)
		w->skipped |= dirty_bytes(&w->group.volume[d].set) != 0; // it is remembered
	cycle_cut(w);
}

static void cycle_give_back(struct world *w)
{
	w->stale += w->failed;
	w->given_back++;
	w->skipped = false;
	group_give_back(&w->group);
	for (uint16_t d = 0; d < DISKS; d++)
		assert_int_equal(dirty_bytes(&w->group.volume[d].set), 0);
	for (uint16_t d = 0; w->looks && d < DISKS; d++) // the receiver has lost its head: nothing is left but the last point
		memcpy(w->replica[d], w->point[d], sizes[d]);
	if (w->looks)
		check_superset(w);
	w->phase = PHASE_IDLE;
}

static void cycle_end(struct world *w)
{
	if (w->failed || dice(6) == 0) {
		cycle_give_back(w);
		return;
	}
	if (w->cut.mode == CUT_PRECOPY) {
		cycle_cut(w);
		return;
	}
	for (uint16_t d = 0; d < DISKS && !w->skipped; d++)
		assert_memory_equal(w->replica[d], w->snapshot[d], sizes[d]); // R1: byte for byte
	w->phase = PHASE_KEEPING;
	w->keep = (struct group_keep){.done = on_kept};
	w->group.intent.resting = dice(3) != 0;
	group_keep(&w->group, &w->keep);
	w->unsynced_keeps += !w->keep.synced;
}

static void cycle_read(struct world *w)
{
	bool under_way = w->fetching[0] || w->fetching[1];
	if (w->exhausted || w->failed) {
		if (!under_way)
			cycle_end(w);
		return;
	}
	if (!under_way && dice(800) == 0) {
		cycle_supersede(w);
		return;
	}
	unsigned i = (unsigned)dice(BATCHES);
	if (w->fetching[i] || dice(80)) // slow, so that the guest comes first to many blocks
		return;
	w->fetching[i] = true;
	w->fetch[i].done = on_fetched;
	w->batch[i].private = w;
	bool looks = w->looks && w->cut.mode == CUT_PRECOPY;
	w->batch[i].look = looks && dice(2);
	if (looks && dice(8) == 0)
		(void)group_reach(&w->group, dice(20));
	if (looks && dice(4) == 0)
		take_holes(w);
	group_fetch(&w->group, &w->fetch[i], &w->batch[i]);
	for (unsigned b = 0; looks && w->group.bounded && b < w->batch[i].count; b++) { // sending does not overtake looking
		const struct source_block *block = &w->batch[i].block[b];
		assert_true(block->disk < w->group.look_disk || (block->disk == w->group.look_disk && block->index < w->group.look_block));
	}
}

static void cycle_act(struct world *w)
{
	if (w->looks && w->phase == PHASE_IDLE && dice(40) == 0)
		group_mark_all(&w->group); // as before a sync
	if (w->phase == PHASE_IDLE && dice(2000) == 0)
		group_mark_whole(&w->group, (uint16_t)dice(DISKS)); // of which the image was cut short
	if (w->phase == PHASE_IDLE && dice(8) == 0)
		cycle_cut(w);
	else if (w->phase == PHASE_CUTTING && dice(12) == 0)
		group_cut_cancel(&w->group, 1);
	else if (w->phase == PHASE_READING)
		cycle_read(w);
}

// ---- histories

static void on_error(struct group *group, struct volume *volume, enum disk_fault fault, uint64_t off, int res)
{
	struct world *w = HOLDER(group, struct world, group);
	(void)off;
	assert_true(res < 0);
	w->errors++;
	w->fault = fault;
	w->told_failed = volume->failed != 0;
}

static struct world *world_new(uint64_t preserve_bytes_max)
{
	struct world *w = calloc(1, sizeof(*w));
	struct aio_backend *backends[DISKS];
	assert_non_null(w);
	for (uint16_t d = 0; d < DISKS; d++) {
		fake_aio_init(&w->fake[d], sizes[d]);
		backends[d] = &w->fake[d].backend;
		w->acked[d] = calloc(1, sizes[d]);
		w->snapshot[d] = calloc(1, sizes[d]);
		w->replica[d] = calloc(1, sizes[d]);
		w->point[d] = calloc(1, sizes[d]);
	}
	assert_int_equal(group_init(&w->group, DISKS, sizes, backends, preserve_bytes_max), 0);
	for (uint16_t d = 0; d < DISKS; d++) {
		w->fake[d].context = w;
		w->fake[d].issued = on_issued;
		w->fake[d].backend.hole = hole_at_open;
	}
	intent_enable(&w->group.intent, &w->group, on_marks_wanted);
	w->group.on_error = on_error;
	for (unsigned i = 0; i < GUESTS; i++) {
		w->guest[i].world = w;
		w->guest[i].data = malloc(WRITE_MAX);
	}
	for (unsigned i = 0; i < BATCHES; i++)
		assert_int_equal(source_batch_init(&w->batch[i]), 0);
	return w;
}

static void world_free(struct world *w)
{
	group_done(&w->group);
	for (uint16_t d = 0; d < DISKS; d++) {
		fake_aio_done(&w->fake[d]);
		free(w->acked[d]);
		free(w->snapshot[d]);
		free(w->replica[d]);
		free(w->point[d]);
	}
	for (unsigned i = 0; i < GUESTS; i++)
		free(w->guest[i].data);
	for (unsigned i = 0; i < BATCHES; i++)
		source_batch_done(&w->batch[i]);
	if (w->spill.image)
		fake_aio_done(&w->spill);
	free(w);
}

static void world_drain(struct world *w)
{
	while (w->fake[0].count + w->fake[1].count || w->spill.count || w->marks_wanted || w->marks_committing) {
		marker_step(w);
		(void)fake_aio_step(&w->spill, dice);
		for (uint16_t d = 0; d < DISKS; d++)
			(void)fake_aio_step(&w->fake[d], dice);
	}
}

static void world_settle(struct world *w)
{
	world_drain(w);
	for (unsigned i = 0; i < GUESTS; i++)
		assert_false(w->guest[i].busy); // nobody waits for ever
	for (uint16_t d = 0; d < DISKS; d++)
		assert_memory_equal(w->fake[d].image, w->acked[d], sizes[d]);
}

static void run_history(uint64_t seed, uint64_t bound, uint64_t spill, struct world *sum)
{
	state = seed;
	struct world *w = world_new(bound);
	w->looks = sum->looks;
	if (spill) {
		fake_aio_init(&w->spill, spill);
		group_set_spill(&w->group, &w->spill.backend, spill);
	}
	w->group.intent.hot_max = seed % 2 ? INTENT_HOT_REGIONS_MAX : 1;
	for (unsigned i = 0; i < 5000; i++) {
		if (dice(3) == 0)
			guest_act(w);
		for (uint16_t d = 0; d < DISKS; d++)
			(void)fake_aio_step(&w->fake[d], dice);
		(void)fake_aio_step(&w->spill, dice);
		w->spilled = max_u64(w->spilled, w->group.volume[0].spilled + w->group.volume[1].spilled);
		assert_true(w->spilled <= spill);
		cycle_act(w);
		if (dice(20) == 0)
			marker_step(w);
		assert_true(w->group.preserve.bytes + w->group.preserve.spare_bytes <= bound);
		if (i % 256 == 0)
			check_superset(w);
	}
	world_settle(w);
	check_superset(w);
	for (uint16_t d = 0; d < DISKS; d++)
		assert_true(w->group.volume[d].spilled <= w->group.spill.runs * BLOCK_SIZE);
	sum->spilled = max_u64(sum->spilled, w->spilled);
	sum->looked += w->looked;
	sum->settled += w->settled;
	sum->holes += w->holes;
	sum->points += w->points;
	sum->stale += w->stale;
	sum->given_back += w->given_back;
	sum->cancelled += w->cancelled;
	sum->reads_checked += w->reads_checked;
	sum->commits += w->commits;
	sum->unsynced_keeps += w->unsynced_keeps;
	sum->cleared += w->cleared;
	world_free(w);
}

static void run_histories(uint64_t bound, uint64_t spill, struct world *sum)
{
	for (uint64_t seed = 1; seed <= 4; seed++) {
		print_message("seed %u\n", (unsigned)seed); // the last one shown is the one that failed
		run_history(seed, bound, spill, sum);
	}
}

static void cut_point_is_the_disks_at_one_instant_while_the_guest_goes_on(void **unused)
{
	(void)unused;
	struct world *sum = calloc(1, sizeof(*sum));
	run_histories(UINT64_C(64) << 20, 0, sum);
	assert_true(sum->points > 20 && sum->given_back > 5 && sum->reads_checked > 1000); // it was a test
	assert_int_equal(sum->stale, 0);
	print_message("%u points, %u cuts given up since writes did not end\n", sum->points, sum->cancelled);
	assert_true(sum->cancelled > 5);
	print_message("%u commits of marks, %u regions cleared\n", sum->commits, sum->cleared);
	assert_true(sum->commits > 20 && sum->cleared > 5 && sum->unsynced_keeps > 5);
	free(sum);
}

// B1, R1 with a survey: nothing is settled that differs, whatever the guest writes meanwhile, and no hole is believed where it wrote.
static void cut_point_is_the_disks_when_its_set_was_looked_at_first(void **unused)
{
	(void)unused;
	struct world *sum = calloc(1, sizeof(*sum));
	sum->looks = true;
	for (uint64_t seed = 3; seed <= 5; seed++) {
		print_message("seed %u\n", (unsigned)seed);
		run_history(seed, UINT64_C(64) << 20, 0, sum);
	}
	print_message("%u points, %u blocks looked at, %u of them settled, %u holes\n", sum->points, sum->looked, sum->settled, sum->holes);
	assert_true(sum->points > 2 && sum->looked > 100 && sum->settled > 30 && sum->settled < sum->looked && sum->holes > 3);
	free(sum);
}

static void cut_is_given_up_and_the_guest_is_not_when_the_bound_is_reached(void **unused)
{
	(void)unused;
	struct world *sum = calloc(1, sizeof(*sum));
	run_histories(6 * BLOCK_SIZE, 0, sum);
	assert_true(sum->points > 5 && sum->stale > 10);
	free(sum);
}

static void cut_goes_on_in_the_spill_file_when_memory_is_used_up(void **unused)
{
	(void)unused;
	struct world *sum = calloc(1, sizeof(*sum));
	run_histories(6 * BLOCK_SIZE, UINT64_C(64) << 20, sum);
	assert_true(sum->points > 20 && sum->spilled > 6 * BLOCK_SIZE);
	assert_int_equal(sum->stale, 0);
	memset(sum, 0, sizeof(*sum));
	run_histories(2 * BLOCK_SIZE, 3 * BLOCK_SIZE, sum); // both bounds are hit
	assert_true(sum->points > 3 && sum->stale > 10 && sum->spilled > 2 * BLOCK_SIZE);
	free(sum);
}

// ---- single promises

static int last_res;
static unsigned answers;

static void on_answer(struct volume_request *request, int res)
{
	assert_non_null(request->volume);
	last_res = res;
	answers++;
}

static int ask(struct world *w, enum volume_command command, uint64_t off, uint64_t len, bool fast)
{
	struct volume_request r = {
		.command = command, .off = off, .len = len, .data = w->guest[0].data, .fast = fast, .done = on_answer};
	unsigned before = answers;
	memset(w->guest[0].data, 0x5a, WRITE_MAX);
	volume_submit(&w->group.volume[0], &r);
	world_drain(w);
	assert_int_equal(answers, before + 1);
	return last_res;
}

static void on_cut_res(struct group_cut *cut, int res)
{
	assert_non_null(cut);
	last_res = res;
}

static void on_taken(struct group_cut *cut)
{
	assert_true(HOLDER(cut, struct world, cut)->group.gate_closed);
}

static int try_cut(struct world *w, enum cut_mode mode)
{
	w->cut = (struct group_cut){.mode = mode, .hold = on_hold, .take = on_taken, .done = on_cut_res};
	last_res = 1;
	group_cut(&w->group, &w->cut);
	return last_res;
}

static int try_fetch(struct world *w)
{
	w->fetch[0].done = on_fetched;
	w->batch[0].private = w;
	group_fetch(&w->group, &w->fetch[0], &w->batch[0]);
	world_drain(w);
	return w->batch[0].status;
}

static void on_keep_res(struct group_keep *keep, int res)
{
	assert_non_null(keep);
	last_res = res;
}

static int try_keep(struct world *w)
{
	w->keep = (struct group_keep){.done = on_keep_res};
	last_res = 1;
	group_keep(&w->group, &w->keep);
	world_drain(w);
	return last_res;
}

static void volume_failed_sync_is_never_retried_into_success(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	assert_int_equal(ask(w, VOLUME_WRITE, 0, 4096, false), 0);
	w->fake[0].fail[AIO_SYNC] = -EIO;
	assert_int_equal(ask(w, VOLUME_FLUSH, 0, 0, false), -EIO);
	w->fake[0].fail[AIO_SYNC] = 0;
	unsigned syncs = w->fake[0].syncs;
	assert_int_equal(ask(w, VOLUME_FLUSH, 0, 0, false), -EIO);
	assert_int_equal(w->fake[0].syncs, syncs);
	assert_int_equal(try_cut(w, CUT_POINT), -EIO);
	assert_false(w->group.gate_closed);
	world_free(w);
}

static void volume_failed_write_fails_later_flushes_and_want_of_space_does_not(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	w->fake[0].fail[AIO_WRITE] = -ENOSPC;
	assert_int_equal(ask(w, VOLUME_WRITE, 0, 4096, false), -ENOSPC);
	w->fake[0].fail[AIO_WRITE] = 0;
	assert_int_equal(ask(w, VOLUME_FLUSH, 0, 0, false), 0);
	assert_int_equal(dirty_mask(&w->group.volume[0].dirty, 0), 1);
	w->fake[0].fail[AIO_WRITE] = -EIO;
	assert_int_equal(ask(w, VOLUME_WRITE, 0, 4096, false), -EIO);
	w->fake[0].fail[AIO_WRITE] = 0;
	assert_int_equal(ask(w, VOLUME_FLUSH, 0, 0, false), -EIO);
	world_free(w);
}

static void volume_zeroes_are_written_where_the_image_cannot_punch(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	memset(w->fake[0].image, 7, sizes[0]);
	w->fake[0].fail[AIO_PUNCH] = w->fake[0].fail[AIO_ZERO] = -EOPNOTSUPP;
	assert_int_equal(ask(w, VOLUME_ZERO, 100, 700000, true), -EOPNOTSUPP);
	assert_int_equal(w->fake[0].image[100], 7);
	assert_int_equal(ask(w, VOLUME_ZERO, 100, 700000, false), 0);
	for (unsigned i = 0; i < 700200; i++)
		assert_int_equal(w->fake[0].image[i], i < 100 || i >= 700100 ? 7 : 0);
	assert_int_equal(ask(w, VOLUME_TRIM, 0, 4096, false), 0);
	assert_int_equal(dirty_mask(&w->group.volume[0].dirty, 0), MASK_FULL);
	world_free(w);
}

// V4: in so many parts, between which cuts are taken.
enum { LARGE_PARTS = 6 };

static unsigned parts_of_zero(struct world *w, struct volume *volume, struct volume_request *request)
{
	unsigned cuts = 0;
	volume_submit(volume, request);
	while (w->group.writes) {
		assert_int_equal(try_cut(w, CUT_PRECOPY), 1); // waits for the part
		while (last_res == 1)
			assert_true(fake_aio_step(&w->fake[0], dice));
		assert_int_equal(last_res, 0);
		cuts++;
		group_give_back(&w->group);
	}
	return cuts;
}

static void no_cut_waits_for_more_than_a_part_of_what_is_zeroed(void **unused)
{
	(void)unused;
	struct world *w = calloc(1, sizeof(*w));
	const uint64_t part = 32 << 20, size = LARGE_PARTS * part;
	struct aio_backend *backend = &w->fake[0].backend;
	fake_aio_init(&w->fake[0], size);
	assert_int_equal(group_init(&w->group, 1, &size, &backend, 1 << 20), 0);
	struct volume *v = &w->group.volume[0];
	struct volume_request r = {.command = VOLUME_ZERO, .len = size, .done = on_answer};
	memset(w->fake[0].image, 7, part + 1);
	assert_int_equal(parts_of_zero(w, v, &r), LARGE_PARTS);
	assert_int_equal(last_res, 0);
	assert_true(w->fake[0].image[0] == 0 && memcmp(w->fake[0].image, w->fake[0].image + 1, part) == 0);
	r = (struct volume_request){.command = VOLUME_TRIM, .off = part - 4096, .len = 8192, .fua = true, .done = on_answer};
	unsigned syncs = w->fake[0].syncs;
	assert_int_equal(parts_of_zero(w, v, &r), 2);
	fake_aio_drain(&w->fake[0], dice);
	assert_int_equal(w->fake[0].syncs, syncs + 1); // behind the last of them
	w->fake[0].fail[AIO_PUNCH] = w->fake[0].fail[AIO_ZERO] = -EOPNOTSUPP;
	memset(w->fake[0].image, 7, 2 << 20);
	r = (struct volume_request){.command = VOLUME_ZERO, .off = 1000, .len = 1 << 20, .done = on_answer};
	assert_int_equal(parts_of_zero(w, v, &r), 1 + 4 + 1); // what lies within a page at both ends, and the rest as zeros are written
	for (unsigned i = 0; i < 2 << 20; i++)
		assert_int_equal(w->fake[0].image[i], i < 1000 || i >= 1000 + (1 << 20) ? 7 : 0);
	r = (struct volume_request){.command = VOLUME_TRIM, .len = size, .done = on_answer};
	dirty_reset(&v->dirty);
	assert_int_equal(parts_of_zero(w, v, &r), 1); // it is not asked again
	assert_int_equal(dirty_bytes(&v->dirty), part);
	w->fake[0].fail[AIO_WRITE] = -EIO;
	r = (struct volume_request){.command = VOLUME_ZERO, .len = 1 << 20, .done = on_answer};
	volume_submit(v, &r);
	fake_aio_drain(&w->fake[0], dice);
	assert_int_equal(last_res, -EIO); // of the first
	assert_int_equal(v->failed, -EIO);
	fake_aio_done(&w->fake[0]);
	group_done(&w->group);
	free(w);
}

// A device takes whole pages alone (image_io.c): a fake that does as much.
static void refuse_parts_of_pages(struct fake_aio *fake, const struct aio *aio)
{
	bool whole = (aio->off | aio->len) % PIECE_SIZE == 0;
	fake->fail[AIO_PUNCH] = fake->fail[AIO_ZERO] = whole || aio->kind == AIO_WRITE ? 0 : -EOPNOTSUPP;
}

static void of_a_page_that_is_zeroed_in_part_that_part_is_written(void **unused)
{
	(void)unused;
	static const struct {
		bool trim, fast;
		uint64_t off, len, from, to; // what becomes zeros
		int res;
	} table[] = {
		{false, false, 512, 20000, 512, 20512, 0},
		{true, false, 512, 20000, 4096, 20480, 0},
		{false, true, 512, 20000, 0, 0, -EOPNOTSUPP},
		{false, false, 512, 512, 512, 1024, 0},
		{true, false, 512, 512, 0, 0, 0},
		{false, false, 4096, 4608, 4096, 8704, 0},
		{true, false, 4096, 4608, 4096, 8192, 0},
		{true, false, 512, 7680, 4096, 8192, 0},
		{false, true, 4096, 8192, 4096, 12288, 0},
	};
	struct world *w = world_new(1 << 20);
	w->fake[0].issued = refuse_parts_of_pages;
	for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
		memset(w->fake[0].image, 7, 65536);
		assert_int_equal(ask(w, table[i].trim ? VOLUME_TRIM : VOLUME_ZERO, table[i].off, table[i].len, table[i].fast), table[i].res);
		for (unsigned b = 0; b < 65536; b++)
			assert_int_equal(w->fake[0].image[b], b < table[i].from || b >= table[i].to ? 7 : 0);
	}
	world_free(w);
}

// Who is told of an error knows what it was of, and whether any flush is still promised: what is latched is told as that (volume.h, V3).
static void volume_error_is_told_with_its_kind_when_the_volume_has_failed(void **unused)
{
	(void)unused;
	static const struct {
		enum volume_command command;
		enum aio_kind kind;
		int res;
		enum disk_fault fault;
		bool failed;
	} tries[] = {
		{VOLUME_READ, AIO_READ, -EIO, FAULT_READ, false},
		{VOLUME_WRITE, AIO_WRITE, -ENOSPC, FAULT_WRITE, false},
		{VOLUME_WRITE, AIO_WRITE, -EIO, FAULT_WRITE, true},
		{VOLUME_FLUSH, AIO_SYNC, -EIO, FAULT_SYNC, true},
	};
	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct world *w = world_new(1 << 20);
		w->fake[0].fail[tries[i].kind] = tries[i].res;
		assert_true(ask(w, tries[i].command, 0, tries[i].command == VOLUME_FLUSH ? 0 : 4096, false) < 0);
		assert_int_equal(w->errors, 1);
		assert_int_equal(w->fault, tries[i].fault);
		assert_int_equal(w->told_failed, tries[i].failed);
		world_free(w);
	}
}

static void volume_cache_is_a_hint_that_changes_nothing_and_never_fails(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	w->fake[0].fail[AIO_ADVISE] = -EIO;
	assert_int_equal(ask(w, VOLUME_CACHE, 511, 70000, false), 0);
	w->fake[0].fail[AIO_ADVISE] = 0;
	assert_int_equal(ask(w, VOLUME_CACHE, 0, (uint32_t)sizes[0], false), 0);
	assert_int_equal(dirty_bytes(&w->group.volume[0].dirty), 0);
	assert_int_equal(w->errors, 0);
	assert_int_equal(ask(w, VOLUME_FLUSH, 0, 0, false), 0);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	world_free(w);
}

static void cut_is_given_up_when_old_content_cannot_be_read(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	assert_int_equal(ask(w, VOLUME_WRITE, 0, 4096, false), 0);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	w->fake[0].fail[AIO_READ] = -EIO;
	assert_int_equal(ask(w, VOLUME_WRITE, 0, 4096, false), 0);
	w->fake[0].fail[AIO_READ] = 0;
	assert_int_equal(try_fetch(w), -ESTALE);
	assert_int_equal(try_keep(w), -ESTALE);
	group_give_back(&w->group);
	assert_int_equal(dirty_mask(&w->group.volume[0].dirty, 0), 1);
	assert_int_equal(try_fetch(w), -ESTALE); // no cut is not an exhausted one
	world_free(w);
}

static void cut_is_given_up_and_the_guest_is_not_when_the_spill_file_fails(void **unused)
{
	(void)unused;
	for (enum aio_kind kind = AIO_READ; kind <= AIO_WRITE; kind++) {
		struct world *w = world_new(BLOCK_SIZE);
		fake_aio_init(&w->spill, UINT64_C(64) << 20);
		group_set_spill(&w->group, &w->spill.backend, UINT64_C(64) << 20);
		w->spill.fail[kind] = -EIO;
		group_mark_all(&w->group);
		assert_int_equal(try_cut(w, CUT_POINT), 0);
		assert_int_equal(ask(w, VOLUME_ZERO, 0, 12 * BLOCK_SIZE, false), 0);
		assert_int_equal(w->group.spill.runs, kind == AIO_READ ? 11 : 0);
		assert_int_equal(try_fetch(w), -ESTALE);
		assert_int_equal(w->group.loss, LOSS_SPILL);
		assert_int_equal(w->group.loss_res, -EIO);
		group_give_back(&w->group);
		assert_int_equal(ask(w, VOLUME_FLUSH, 0, 0, false), 0); // nothing is latched
		world_drain(w);
		assert_int_equal(w->group.spill.runs + w->group.spill.transit, 0);
		world_free(w);
	}
}

// The first reason is the one: what follows from it is none.
static void cut_that_was_overtaken_knows_why(void **unused)
{
	(void)unused;
	struct world *w = world_new(BLOCK_SIZE);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	group_mark_all(&w->group);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	assert_int_equal(ask(w, VOLUME_ZERO, 0, 12 * BLOCK_SIZE, false), 0);
	assert_int_equal(w->group.set, SET_STALE);
	assert_int_equal(w->group.loss, LOSS_ROOM);
	group_give_up(&w->group, LOSS_SPILL, -EIO);
	assert_int_equal(w->group.loss, LOSS_ROOM);
	assert_int_equal(w->group.loss_res, 0);
	assert_int_equal(w->group.losses, 1);
	group_give_back(&w->group);
	world_free(w);
}

static void spill_file_leaves_room_to_the_state_files(void **unused)
{
	(void)unused;
	const uint64_t mib = 1 << 20, gib = 1 << 30;
	assert_int_equal(spill_bytes_most(gib, 100 * gib, 50 * gib, 0, 1), gib);
	assert_int_equal(spill_bytes_most(gib, 100 * gib, gib, 0, 1), gib - 64 * mib);
	assert_int_equal(spill_bytes_most(gib, 100 * gib, gib / 2, gib / 2, 1), gib - 64 * mib); // what it has is its own
	assert_int_equal(spill_bytes_most(gib, 100 * gib, 64 * mib, 0, 1), 0);
	assert_int_equal(spill_bytes_most(gib, 100 * gib, 0, 0, 1), 0);
	assert_int_equal(spill_bytes_most(gib, 40 * mib, 40 * mib, 0, 1), 35 * mib);
	assert_int_equal(spill_bytes_most(8 * mib, 40 * mib, 40 * mib, 0, 1), 8 * mib);
	assert_int_equal(spill_bytes_most(gib, 0, 0, 0, 1), gib); // it does not tell
	assert_int_equal(spill_bytes_most(gib, 100 * gib, gib, 0, 4), (gib - 64 * mib) / 4); // others have theirs
	assert_int_equal(spill_bytes_most(gib, 100 * gib, 0, 5 * mib, 4), 5 * mib);
}

static void cut_is_given_up_and_the_guest_is_not_when_the_spill_file_hangs(void **unused)
{
	(void)unused;
	struct world *w = world_new(BLOCK_SIZE);
	fake_aio_init(&w->spill, UINT64_C(64) << 20);
	group_set_spill(&w->group, &w->spill.backend, UINT64_C(64) << 20);
	assert_int_equal(ask(w, VOLUME_ZERO, 0, 12 * BLOCK_SIZE, false), 0);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	struct volume_request over = {.command = VOLUME_ZERO, .len = 12 * BLOCK_SIZE, .done = on_answer};
	unsigned before = answers;
	volume_submit(&w->group.volume[0], &over);
	fake_aio_drain(&w->fake[0], dice);
	assert_int_equal(answers, before); // it waits for the file
	assert_int_equal(w->group.spill.transit, 11);
	group_give_up(&w->group, LOSS_ROOM, 0);
	fake_aio_drain(&w->fake[0], dice);
	assert_int_equal(answers, before + 1);
	assert_int_equal(w->group.spill.transit, 11); // theirs until the file answers
	world_drain(w);
	assert_int_equal(w->group.spill.runs + w->group.spill.transit, 0);
	assert_int_equal(try_fetch(w), -ESTALE);
	world_free(w);
}

static void cut_preserves_more_than_memory_and_buffers_hold_at_once(void **unused)
{
	(void)unused;
	struct world *w = world_new(BLOCK_SIZE);
	fake_aio_init(&w->spill, UINT64_C(64) << 20);
	group_set_spill(&w->group, &w->spill.backend, UINT64_C(64) << 20);
	memset(w->fake[1].image, 7, sizes[1]);
	group_mark_all(&w->group);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	memcpy(w->snapshot[1], w->fake[1].image, sizes[1]);
	struct volume_request over = {.command = VOLUME_ZERO, .len = 3 * REGION_SIZE, .done = on_answer};
	volume_submit(&w->group.volume[1], &over);
	world_drain(w);
	assert_int_equal(last_res, 0);
	assert_int_equal(w->fake[1].image[0], 0);
	assert_int_equal(w->group.spill.runs, 3 * BLOCKS_PER_REGION - 1);
	assert_true(3 * BLOCKS_PER_REGION > 2 * SPILL_TRANSIT_MAX && w->group.spill.transit == 0);
	do
		assert_int_equal(try_fetch(w), 0);
	while (w->batch[0].count);
	assert_memory_equal(w->replica[1], w->snapshot[1], sizes[1]);
	assert_int_equal(try_keep(w), 0);
	assert_int_equal(w->group.spill.used, 0); // its space was given back
	world_free(w);
}

// A guest that overwrites the end of the set, and a reader that is slow: two blocks between one batch and the next, as many
// as there is memory for.
static void preserved_blocks_jump_the_queue_so_that_the_cut_survives(void **unused)
{
	(void)unused;
	struct world *w = world_new(2 * BLOCK_SIZE);
	uint64_t last = size_blocks(sizes[1]) - 1;
	memset(w->fake[1].image, 7, sizes[1]);
	group_mark_all(&w->group);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	memcpy(w->snapshot[1], w->fake[1].image, sizes[1]);
	unsigned batches = 0;
	do {
		unsigned overwritten = batches < 4 ? 2 : 0; // then the set is at its end
		for (unsigned i = 0; i < overwritten; i++) {
			struct volume_request over = {
				.command = VOLUME_ZERO, .off = (last - 2 * batches - i) * BLOCK_SIZE, .len = 1, .done = on_answer};
			volume_submit(&w->group.volume[1], &over);
			world_drain(w);
			assert_int_equal(last_res, 0);
		}
		assert_int_equal(w->group.preserve.bytes, overwritten * PIECE_SIZE);
		assert_int_equal(try_fetch(w), 0);
		for (unsigned i = 0; i < overwritten; i++) {
			assert_int_equal(w->batch[0].block[i].disk, 1);
			assert_int_equal(w->batch[0].block[i].index, last - 2 * batches - i);
		}
		if (batches == 0) { // the rest in order
			assert_int_equal(w->batch[0].block[2].disk, 0);
			assert_int_equal(w->batch[0].block[2].index, 0);
			assert_int_equal(w->batch[0].block[3].index, 1);
		}
		assert_int_equal(w->group.preserve.bytes, 0);
		assert_null(w->group.preserve.oldest);
		batches++;
	} while (w->batch[0].count);
	assert_true(batches >= 5);
	assert_memory_equal(w->replica[1], w->snapshot[1], sizes[1]);
	assert_int_equal(try_keep(w), 0);
	world_free(w);
}

static uint64_t newest(uint64_t count)
{
	return count - 1;
}

static void write_at(struct world *w, struct volume_request *request, uint64_t off, uint64_t len)
{
	*request = (struct volume_request){.command = VOLUME_ZERO, .off = off, .len = len, .done = on_answer};
	volume_submit(&w->group.volume[1], request);
}

static void fetch_all(struct world *w)
{
	do
		assert_int_equal(try_fetch(w), 0);
	while (w->batch[0].count);
	assert_memory_equal(w->replica[1], w->snapshot[1], sizes[1]);
	assert_int_equal(try_keep(w), 0);
	assert_int_equal(w->group.preserve.bytes + w->group.preserve.count + w->group.volume[1].preserved, 0);
	world_free(w);
}

static struct world *world_cut(uint64_t bound)
{
	struct world *w = world_new(bound);
	for (uint64_t i = 0; i < sizes[1]; i++)
		w->fake[1].image[i] = (unsigned char)(1 + i / PIECE_SIZE % 251);
	group_mark_all(&w->group);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	memcpy(w->snapshot[1], w->fake[1].image, sizes[1]);
	return w;
}

// What a guest writes in 4 KiB at random costs its own size: else the bound would be reached by a sixteenth of it.
static void write_has_the_pieces_saved_that_it_touches_and_no_others(void **unused)
{
	(void)unused;
	struct volume_request request;
	struct world *w = world_cut(8 * PIECE_SIZE);
	static const struct { uint64_t off, len, pieces; } writes[] = {
		{5 * BLOCK_SIZE + 3 * PIECE_SIZE, PIECE_SIZE, 1}, {5 * BLOCK_SIZE + 3 * PIECE_SIZE + 7, 9, 0}, {5 * BLOCK_SIZE + 5 * PIECE_SIZE - 1, 2, 2},
		{5 * BLOCK_SIZE + 2 * PIECE_SIZE, 4 * PIECE_SIZE, 1}, {9 * BLOCK_SIZE - 1, 2, 2}, {4 * REGION_SIZE + 5 * PIECE_SIZE - 1, 1, 1}, {30 * BLOCK_SIZE, 1, 1}};
	uint64_t pieces = 0;
	for (size_t i = 0; i < COUNT(writes); i++) {
		write_at(w, &request, writes[i].off, writes[i].len);
		world_drain(w);
		assert_int_equal(last_res, 0);
		pieces += writes[i].pieces;
		assert_int_equal(w->group.preserve.bytes, pieces * PIECE_SIZE);
		assert_int_equal(w->group.volume[1].preserved, pieces * PIECE_SIZE);
	}
	assert_int_equal(w->group.set, SET_POINT);
	fetch_all(w);
}

// The second overwrites what the first has saved, and no write may be on the image before that.
static void writes_of_one_piece_wait_for_one_read(void **unused)
{
	(void)unused;
	struct volume_request first, second, beside;
	struct world *w = world_cut(1 << 20);
	unsigned before = answers;
	write_at(w, &first, 3 * BLOCK_SIZE + 100, 200);
	write_at(w, &second, 3 * BLOCK_SIZE + 50, 4);
	write_at(w, &beside, 3 * BLOCK_SIZE + PIECE_SIZE, 4);
	while (w->marks_wanted || w->marks_committing)
		marker_step(w);
	assert_int_equal(w->fake[1].count, 2); // reads, of both pieces
	for (unsigned i = 0; i < 100 && answers == before; i++)
		if (w->fake[1].count > 1) // of the one beside, and its write
			(void)fake_aio_step(&w->fake[1], newest);
	assert_int_equal(answers, before + 1);
	assert_int_equal(w->fake[1].count, 1);
	world_drain(w);
	assert_int_equal(answers, before + 3);
	assert_int_equal(w->group.preserve.bytes, 2 * PIECE_SIZE);
	fetch_all(w);
}

// A block of which a part is saved, and a part is being saved, when a batch takes it; and one of which all is.
static void batch_has_what_was_saved_over_what_it_reads(void **unused)
{
	(void)unused;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct volume_request request[4];
		state = seed;
		bool spills = seed % 2;
		struct world *w = world_cut(spills ? 2 * PIECE_SIZE : 1 << 20);
		fake_aio_init(&w->spill, 1 << 20);
		group_set_spill(&w->group, &w->spill.backend, 1 << 20);
		write_at(w, &request[0], 2 * BLOCK_SIZE + dice(PIECES_PER_BLOCK) * PIECE_SIZE, PIECE_SIZE);
		write_at(w, &request[1], 7 * BLOCK_SIZE, BLOCK_SIZE);
		if (dice(2))
			world_drain(w);
		write_at(w, &request[2], 2 * BLOCK_SIZE + dice(BLOCK_SIZE), 1);
		for (unsigned steps = (unsigned)dice(6); steps--;) {
			marker_step(w);
			(void)fake_aio_step(&w->fake[1], dice);
			(void)fake_aio_step(&w->spill, dice);
		}
		w->fetching[0] = true;
		w->fetch[0].done = on_fetched;
		w->batch[0].private = w;
		group_fetch(&w->group, &w->fetch[0], &w->batch[0]);
		for (unsigned steps = (unsigned)dice(12); steps--;)
			(void)fake_aio_step(&w->fake[1], dice);
		write_at(w, &request[3], 2 * BLOCK_SIZE + dice(BLOCK_SIZE), 1 + dice(3 * PIECE_SIZE));
		world_drain(w);
		assert_false(w->fetching[0]);
		fetch_all(w);
	}
}

// Past the end of the disk a batch has zeros, whatever its memory held before, and whoever has the content of the last block.
static void last_block_that_is_saved_to_its_end_has_zeros_behind_it(void **unused)
{
	(void)unused;
	for (unsigned spills = 0; spills < 2; spills++)
		for (unsigned steps = 0; steps < 6; steps++) {
			struct volume_request request;
			struct world *w = world_cut(spills ? 2 * PIECE_SIZE : 1 << 20);
			fake_aio_init(&w->spill, 1 << 20);
			group_set_spill(&w->group, &w->spill.backend, 1 << 20);
			memset(w->batch[0].memory, 0xaa, (size_t)SOURCE_BATCH_MAX * BLOCK_SIZE);
			write_at(w, &request, 4 * REGION_SIZE, 5 * PIECE_SIZE);
			while (w->marks_wanted || w->marks_committing)
				marker_step(w);
			for (unsigned i = 0; i < steps; i++) {
				(void)fake_aio_step(&w->fake[1], dice);
				(void)fake_aio_step(&w->spill, dice);
			}
			bool seen = false;
			do {
				assert_int_equal(try_fetch(w), 0);
				for (unsigned i = 0; i < w->batch[0].count; i++) {
					const struct source_block *block = &w->batch[0].block[i];
					if (block->disk != 1 || block->index != 4 * BLOCKS_PER_REGION)
						continue;
					assert_int_equal(block->data[5 * PIECE_SIZE - 1], w->snapshot[1][sizes[1] - 1]);
					for (unsigned at = 5 * PIECE_SIZE; at < BLOCK_SIZE; at++)
						assert_int_equal(block->data[at], 0);
					seen = true;
				}
			} while (w->batch[0].count);
			assert_true(seen);
			fetch_all(w);
		}
}

// SPILL_RUNS_MAX of them are to fill the file, whatever a guest writes.
static void what_goes_to_the_spill_file_is_saved_by_groups_of_pieces(void **unused)
{
	(void)unused;
	struct volume_request request;
	struct world *w = world_cut(PIECE_SIZE);
	fake_aio_init(&w->spill, 1 << 20);
	group_set_spill(&w->group, &w->spill.backend, 1 << 20);
	static const struct { uint64_t off, len, runs, pieces; } writes[] = {
		{BLOCK_SIZE + PIECE_SIZE, 1, 0, 0}, // in memory
		{BLOCK_SIZE + 2 * PIECE_SIZE, 1, 1, 2}, {BLOCK_SIZE, 1, 1, 1}, {BLOCK_SIZE + 9 * PIECE_SIZE, 6 * PIECE_SIZE, 1, 8}, {BLOCK_SIZE + 15 * PIECE_SIZE, 1, 0, 0},
		{4 * REGION_SIZE + 5 * PIECE_SIZE - 1, 1, 1, 1}, {4 * REGION_SIZE, 2, 1, 4}};
	uint64_t runs = 0, pieces = 0;
	for (size_t i = 0; i < COUNT(writes); i++) {
		write_at(w, &request, writes[i].off, writes[i].len);
		world_drain(w);
		runs += writes[i].runs;
		pieces += writes[i].pieces;
		assert_int_equal(w->group.spill.runs, runs);
		assert_int_equal(w->group.volume[1].spilled, pieces * PIECE_SIZE);
	}
	fetch_all(w);
}

// Those in front of what a request waits to have saved are handed to a batch meanwhile; it goes on where it was, in its turn.
static void request_that_waits_for_the_spill_file_goes_on_where_it_was(void **unused)
{
	(void)unused;
	struct volume_request long_one, other;
	struct world *w = world_cut(PIECE_SIZE);
	fake_aio_init(&w->spill, 32 << 20);
	group_set_spill(&w->group, &w->spill.backend, 32 << 20);
	unsigned before = answers;
	write_at(w, &long_one, 0, 3 * REGION_SIZE);
	write_at(w, &other, 4 * REGION_SIZE, 5 * PIECE_SIZE);
	while (w->marks_wanted || w->marks_committing)
		marker_step(w);
	for (unsigned i = 0; i < 3 * SPILL_TRANSIT_MAX; i++) {
		(void)fake_aio_step(&w->fake[1], dice);
		(void)fake_aio_step(&w->spill, dice);
	}
	assert_true(long_one.save_at > 0 && long_one.save_at < 3 * BLOCKS_PER_REGION);
	assert_int_equal(answers, before);
	w->fetching[0] = true;
	w->fetch[0].done = on_fetched;
	w->batch[0].private = w;
	group_fetch(&w->group, &w->fetch[0], &w->batch[0]);
	world_drain(w);
	assert_int_equal(answers, before + 2);
	assert_int_equal(w->group.set, SET_POINT);
	fetch_all(w);
}

// G3: a batch is read by a thread that has no claim to a processor, and its reads may be many and on a slow disk. A guest's write to one
// of its blocks is answered before any of them has ended, and the batch still has what the block held at the cut.
static void write_does_not_wait_for_the_batch_that_reads_its_block(void **unused)
{
	(void)unused;
	for (unsigned spilled = 0; spilled < 2; spilled++) {
		struct world *w = world_new(spilled ? BLOCK_SIZE : 4 * BLOCK_SIZE);
		fake_aio_init(&w->spill, 4 * BLOCK_SIZE);
		group_set_spill(&w->group, &w->spill.backend, 4 * BLOCK_SIZE);
		memset(w->fake[1].image, 7, sizes[1]);
		group_mark_all(&w->group);
		assert_int_equal(try_cut(w, CUT_POINT), 0);
		w->fetching[0] = true;
		w->fetch[0].done = on_fetched;
		w->batch[0].private = w;
		group_fetch(&w->group, &w->fetch[0], &w->batch[0]);
		const struct source_block *block = &w->batch[0].block[w->batch[0].count - 1];
		assert_int_equal(block->disk, 1);
		struct volume_request over = {.command = VOLUME_ZERO, .off = (block->index - 1) * BLOCK_SIZE, .len = 2 * BLOCK_SIZE, .done = on_answer};
		unsigned before = answers, reads = w->fake[1].count;
		assert_true(reads > 0);
		volume_submit(&w->group.volume[1], &over);
		for (unsigned step = 0; step < 100; step++) {
			marker_step(w);
			if (w->fake[1].count > reads) // none of the batch's
				(void)fake_aio_step(&w->fake[1], newest);
			(void)fake_aio_step(&w->spill, dice);
		}
		assert_int_equal(answers, before + 1);
		assert_true(w->fetching[0] && w->fake[1].count == reads);
		assert_int_equal(w->fake[1].image[block->index * BLOCK_SIZE], 0);
		world_drain(w);
		assert_false(w->fetching[0]);
		assert_int_equal(w->batch[0].status, 0);
		assert_int_equal(block->data[0], 7);
		assert_int_equal(w->batch[0].block[w->batch[0].count - 2].data[BLOCK_SIZE - 1], 7);
		assert_int_equal(w->group.preserve.bytes + w->group.preserve.count + w->group.volume[1].preserved, 0);
		assert_int_equal(w->group.spill.runs + w->group.spill.transit, 0);
		world_free(w);
	}
}

static void cut_given_up_fails_the_batches_under_way(void **unused)
{
	(void)unused;
	struct world *w = world_new(BLOCK_SIZE);
	group_mark_all(&w->group);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	w->fetch[0].done = on_fetched;
	w->batch[0].private = w;
	group_fetch(&w->group, &w->fetch[0], &w->batch[0]);
	assert_int_equal(w->batch[0].count, SOURCE_BATCH_MAX);
	struct volume_request over = {.command = VOLUME_TRIM, .off = 60 * BLOCK_SIZE, .len = 4 * BLOCK_SIZE, .done = on_answer};
	volume_submit(&w->group.volume[1], &over); // more than may be preserved: from here on writes overtake reads
	world_drain(w);
	assert_int_equal(w->batch[0].status, -ESTALE);
	world_free(w);
}

static void keep_forgets_nothing_when_a_read_or_a_sync_failed(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	assert_int_equal(ask(w, VOLUME_WRITE, 3 * BLOCK_SIZE, 4096, false), 0);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	w->fake[0].fail[AIO_READ] = -EIO;
	assert_int_equal(try_fetch(w), -EIO);
	w->fake[0].fail[AIO_READ] = 0;
	assert_int_equal(try_keep(w), -ESTALE); // a block that could not be read cannot be kept
	group_give_back(&w->group);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	assert_int_equal(try_fetch(w), 0);
	w->fake[0].fail[AIO_SYNC] = -EIO;
	assert_int_equal(try_keep(w), -EIO);
	assert_int_equal(dirty_bytes(&w->group.volume[0].dirty), 0);
	group_give_back(&w->group);
	assert_int_equal(dirty_mask(&w->group.volume[0].dirty, 3), MASK_FULL);
	world_free(w);
}

// ---- a cut whose hold is bounded

static void begin_put(struct world *w, struct volume_request *request, uint16_t disk, uint64_t off)
{
	*request = (struct volume_request){
		.command = VOLUME_WRITE, .off = off, .len = PIECE_SIZE, .data = w->guest[0].data, .done = on_answer};
	volume_submit(&w->group.volume[disk], request);
}

// Marked regions, so that writes go to the gate at once; then one write on disk 0 that does not end.
static struct world *world_with_a_write_that_hangs(struct volume_request *request)
{
	struct world *w = world_new(1 << 20);
	memset(w->guest[0].data, 0x5a, PIECE_SIZE);
	assert_int_equal(ask(w, VOLUME_WRITE, 0, PIECE_SIZE, false), 0);
	begin_put(w, request, 1, 0);
	world_drain(w);
	begin_put(w, request, 0, 2 * BLOCK_SIZE);
	assert_int_equal(w->fake[0].count, 1);
	return w;
}

static void cut_given_up_for_a_write_that_hangs_opens_the_gate_and_takes_nothing(void **unused)
{
	(void)unused;
	struct volume_request hangs, held;
	struct world *w = world_with_a_write_that_hangs(&hangs);
	group_cut_cancel(&w->group, 5); // no cut: nothing to give up
	assert_int_equal(w->group.volume[0].stalled_ns, 0);
	assert_int_equal(try_cut(w, CUT_POINT), 1); // it waits
	assert_true(w->group.gate_closed);
	unsigned before = answers;
	begin_put(w, &held, 1, BLOCK_SIZE);
	assert_int_equal(w->fake[1].count, 0);
	group_cut_cancel(&w->group, 5);
	assert_int_equal(last_res, -EAGAIN);
	assert_false(w->group.gate_closed);
	fake_aio_drain(&w->fake[1], dice);
	assert_int_equal(answers, before + 1); // the neighbour goes on
	assert_int_equal(w->group.set, SET_NONE);
	assert_int_equal(set_bytes(w), 0);
	assert_int_equal(dirty_mask(&w->group.volume[0].dirty, 0), 1);
	assert_int_equal(dirty_mask(&w->group.volume[0].dirty, 2), 1);
	assert_int_equal(dirty_mask(&w->group.volume[1].dirty, 0), 1);
	assert_int_equal(dirty_mask(&w->group.volume[1].dirty, 1), 1);
	assert_int_equal(w->group.volume[0].stalled_ns, 5);
	assert_int_equal(w->group.volume[1].stalled_ns, 0); // its writes had ended
	world_drain(w);
	world_free(w);
}

static uint64_t first(uint64_t below)
{
	assert_true(below > 0);
	return 0;
}

static void disk_that_hangs_costs_its_neighbours_one_hold_and_not_one_a_try(void **unused)
{
	(void)unused;
	struct volume_request hangs, later;
	struct world *w = world_with_a_write_that_hangs(&hangs);
	w->holds = 0;
	assert_int_equal(try_cut(w, CUT_POINT), 1);
	group_cut_cancel(&w->group, 5);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(try_cut(w, CUT_POINT), -EAGAIN);
	assert_int_equal(w->holds, 1);
	begin_put(w, &later, 0, 4 * BLOCK_SIZE);
	while (w->fake[0].op[0].aio == &hangs.aio) // the first in the list, until it ends
		(void)fake_aio_step(&w->fake[0], first);
	assert_int_equal(w->fake[0].count, 1); // the later one: it is not what the cut was given up for
	assert_int_equal(w->group.volume[0].stalled_ns, 0);
	assert_int_equal(try_cut(w, CUT_POINT), 1);
	assert_int_equal(w->holds, 2);
	world_drain(w);
	assert_int_equal(last_res, 0);
	assert_int_equal(dirty_mask(&w->group.volume[0].set, 2), 1);
	assert_int_equal(dirty_mask(&w->group.volume[0].set, 4), 1);
	world_free(w);
}

static void cut_that_waits_for_batches_holds_nobody_and_is_not_given_up(void **unused)
{
	(void)unused;
	struct volume_request r;
	struct world *w = world_new(1 << 20);
	assert_int_equal(ask(w, VOLUME_WRITE, 0, PIECE_SIZE, false), 0);
	assert_int_equal(try_cut(w, CUT_PRECOPY), 0);
	w->fetch[0].done = on_fetched;
	w->batch[0].private = w;
	group_fetch(&w->group, &w->fetch[0], &w->batch[0]);
	assert_int_equal(try_cut(w, CUT_POINT), 1);
	assert_false(w->group.gate_closed);
	group_cut_cancel(&w->group, 5);
	assert_int_equal(last_res, 1); // still asked for
	begin_put(w, &r, 0, BLOCK_SIZE);
	assert_int_equal(w->group.writes, 1); // past the gate
	world_drain(w);
	assert_int_equal(last_res, 0);
	assert_int_equal(w->group.set, SET_POINT);
	world_free(w);
}

// ---- marks, one by one

static void put(struct world *w, uint16_t disk, uint64_t off)
{
	struct volume_request r = {
		.command = VOLUME_WRITE, .off = off, .len = PIECE_SIZE, .data = w->guest[0].data, .done = on_answer};
	unsigned before = answers;
	memset(w->guest[0].data, 0x5a, PIECE_SIZE);
	volume_submit(&w->group.volume[disk], &r);
	world_drain(w);
	assert_int_equal(answers, before + 1);
	assert_int_equal(last_res, 0);
}

static void one_cycle(struct world *w)
{
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	do
		assert_int_equal(try_fetch(w), 0);
	while (w->batch[0].count);
	assert_int_equal(try_keep(w), 0);
}

static void mark_of_a_region_written_in_every_cycle_stays_and_of_a_cold_one_goes(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	put(w, 1, 0);
	put(w, 1, 2 * REGION_SIZE);
	unsigned commits = w->commits;
	put(w, 1, REGION_SIZE / 2);
	assert_int_equal(w->commits, commits); // a marked region costs no commit
	one_cycle(w);
	assert_true(w->durable[1][0] && w->durable[1][2]); // the second chance
	put(w, 1, 0);
	one_cycle(w);
	assert_true(w->durable[1][0] && !w->durable[1][2]);
	assert_int_equal(w->group.volume[1].intent.count, 1);
	put(w, 1, 2 * REGION_SIZE);
	assert_true(w->durable[1][2]);
	world_free(w);
}

// Cycles that follow each other quickly do not have the guest mark its regions anew between them, unless there are many.
static void marks_rest_after_a_sweep_while_they_are_few(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	put(w, 1, 0);
	put(w, 1, 2 * REGION_SIZE);
	w->group.intent.resting = true;
	unsigned commits = w->commits, syncs = w->fake[1].syncs;
	for (unsigned i = 0; i < 4; i++)
		one_cycle(w);
	assert_true(w->durable[1][0] && w->durable[1][2]);
	assert_int_equal(w->commits, commits);
	assert_int_equal(w->fake[1].syncs, syncs); // nothing is cleared for it: the disk is left alone
	w->group.intent.sweeping = true; // but for a keep in the midst of a sweep of many, which may clear what this one ends
	one_cycle(w);
	w->group.intent.sweeping = false;
	assert_int_equal(w->fake[1].syncs, ++syncs);
	w->group.intent.hot_max = 1;
	one_cycle(w);
	assert_int_equal(w->fake[1].syncs, syncs + 1);
	assert_false(w->durable[1][0] && w->durable[1][2]);
	w->group.intent.resting = false;
	one_cycle(w);
	one_cycle(w);
	assert_int_equal(w->group.volume[1].intent.count, 0);
	world_free(w);
}

// The receiver has it, and a power cut may take the image back to what it was before.
static void what_a_keep_left_unsynced_is_counted_until_one_syncs(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	const struct volume *volume = &w->group.volume[1];
	put(w, 1, 0);
	put(w, 1, 2 * REGION_SIZE);
	w->group.intent.resting = true;
	one_cycle(w);
	one_cycle(w);
	assert_int_equal(volume->unsynced, 2);
	put(w, 1, 0);
	assert_int_equal(volume->unsynced, 2);
	one_cycle(w);
	assert_int_equal(volume->unsynced, 3); // at the most: it is one of them
	put(w, 1, 0);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	assert_int_equal(try_fetch(w), 0);
	group_give_back(&w->group); // dirty again
	assert_int_equal(volume->unsynced, 3);
	assert_int_equal(w->group.volume[0].unsynced, 0);
	w->group.intent.resting = false;
	one_cycle(w);
	assert_int_equal(volume->unsynced, 0);
	world_free(w);
}

// Whether it has to sync or not.
static void keep_fails_where_a_disk_failed_since_the_cut(void **unused)
{
	(void)unused;
	for (int resting = 0; resting < 2; resting++) {
		struct world *w = world_new(1 << 20);
		put(w, 0, 0);
		w->group.intent.resting = resting;
		assert_int_equal(try_cut(w, CUT_POINT), 0);
		do
			assert_int_equal(try_fetch(w), 0);
		while (w->batch[0].count);
		w->fake[0].fail[AIO_SYNC] = -EIO;
		assert_int_equal(ask(w, VOLUME_FLUSH, 0, 0, false), -EIO);
		assert_int_equal(try_keep(w), -EIO);
		assert_true(w->durable[0][0]);
		world_free(w);
	}
}

static void mark_stays_while_a_cycle_comes_to_nothing(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	put(w, 1, REGION_SIZE);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(try_cut(w, CUT_POINT), 0);
		assert_int_equal(try_fetch(w), 0);
		if (i % 2) {
			w->fake[1].fail[AIO_SYNC] = i == 3 ? -EIO : 0;
			(void)try_keep(w);
			put(w, 1, REGION_SIZE);
		}
		group_give_back(&w->group);
		world_drain(w);
		assert_true(w->durable[1][1]);
	}
	world_free(w);
}

static void mark_that_cannot_be_made_lets_the_guest_go_on_and_loses_that_disk_alone(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	put(w, 1, 0);
	w->mark_res = -ENOSPC;
	put(w, 1, 3 * REGION_SIZE);
	assert_true(w->group.volume[1].intent.lost && !w->group.volume[0].intent.lost);
	unsigned commits = w->commits;
	put(w, 1, 2 * REGION_SIZE);
	assert_int_equal(w->commits, commits); // nobody waits for the broken state file again
	w->mark_res = 0;
	put(w, 0, 0);
	assert_true(w->durable[0][0]);
	one_cycle(w); // the dirty maps are right all the same
	assert_int_equal(dirty_bytes(&w->group.volume[1].dirty), 0);
	assert_memory_equal(w->fake[1].image, w->replica[1], sizes[1]);
	world_free(w);
}

// Whatever the commit that hung ends with.
static void disk_given_up_while_its_marks_hang_goes_on_and_the_others_keep_theirs(void **unused)
{
	(void)unused;
	for (int res = -EIO; res <= 0; res += EIO) {
		struct world *w = world_new(1 << 20);
		struct volume_request waits, later, other;
		memset(w->guest[0].data, 0x5a, PIECE_SIZE);
		begin_put(w, &waits, 1, 0);
		marker_step(w);
		assert_true(w->marks_committing);
		begin_put(w, &later, 1, 2 * REGION_SIZE);
		begin_put(w, &other, 0, 0); // waits for the same thread
		assert_int_equal(w->fake[0].count + w->fake[1].count, 0);
		intent_lose(&w->group.intent, 1);
		assert_int_equal(w->fake[1].count, 2);
		assert_int_equal(w->fake[0].count, 0); // B2: its mark may yet come
		assert_true(w->group.volume[1].intent.lost && !w->group.volume[0].intent.lost);
		fake_aio_drain(&w->fake[1], dice);
		w->mark_res = res;
		marker_step(w);
		w->mark_res = 0;
		world_drain(w);
		assert_true(w->durable[0][0] && !w->group.volume[0].intent.lost);
		assert_int_equal(w->group.volume[1].intent.count, 0);
		unsigned commits = w->commits;
		put(w, 1, 3 * REGION_SIZE);
		assert_int_equal(w->commits, commits);
		one_cycle(w); // the dirty maps are right all the same
		assert_memory_equal(w->fake[1].image, w->replica[1], sizes[1]);
		world_free(w);
	}
}

// All requests that wait while a commit is under way are served by the next one.
static void marks_of_all_that_wait_are_one_commit(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	struct volume_request r[8];
	unsigned before = answers;
	for (unsigned i = 0; i < 8; i++) {
		r[i] = (struct volume_request){.command = VOLUME_ZERO,
					       .off = i % 2 * REGION_SIZE + i * BLOCK_SIZE,
					       .len = i < 4 ? PIECE_SIZE : 2 * REGION_SIZE,
					       .done = on_answer};
		volume_submit(&w->group.volume[1], &r[i]);
		if (i == 0) {
			marker_step(w);
			assert_true(w->marks_committing);
		}
	}
	assert_int_equal(w->fake[1].count, 0); // B2: nothing has reached the image
	world_drain(w);
	assert_int_equal(answers, before + 8);
	assert_int_equal(w->commits, 2);
	world_free(w);
}

static void marks_of_more_than_one_commit_holds_come_in_several(void **unused)
{
	(void)unused;
	struct world *w = calloc(1, sizeof(*w));
	const uint64_t size = (2 * INTENT_BATCH_MAX + 50) * (uint64_t)REGION_SIZE;
	struct aio_backend *backend = &w->fake[0].backend;
	fake_aio_init(&w->fake[0], size); // never touched: its operations have no effect
	w->fake[0].fail[AIO_PUNCH] = -EOPNOTSUPP;
	assert_int_equal(group_init(&w->group, 1, &size, &backend, 1 << 20), 0);
	intent_enable(&w->group.intent, &w->group, on_marks_wanted);
	struct volume_request r = {.command = VOLUME_TRIM, .len = size, .done = on_answer};
	volume_submit(&w->group.volume[0], &r);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(w->fake[0].count, 0);
		marker_step(w);
		assert_true(w->marks_committing && w->marks.part[0].sets == (i < 3 ? INTENT_BATCH_MAX : 50));
		w->marks.part[0].res = 0;
		w->marks_committing = false;
		intent_committed(&w->group.intent, &w->marks);
	}
	assert_int_equal(w->fake[0].count, 1);
	fake_aio_drain(&w->fake[0], dice);
	assert_int_equal(w->group.intent.count, 2 * INTENT_BATCH_MAX + 50);
	fake_aio_done(&w->fake[0]);
	group_done(&w->group);
	free(w);
}

static struct world *large_world(uint64_t regions, bool used)
{
	struct world *w = calloc(1, sizeof(*w));
	const uint64_t size = regions * REGION_SIZE;
	struct aio_backend *backend = &w->fake[0].backend;
	fake_aio_init(&w->fake[0], used ? size : BLOCK_SIZE); // never touched: its operations have no effect
	w->fake[0].fail[AIO_PUNCH] = -EOPNOTSUPP;
	assert_int_equal(group_init(&w->group, 1, &size, &backend, 1 << 20), 0);
	intent_enable(&w->group.intent, &w->group, on_marks_wanted);
	return w;
}

static void large_world_free(struct world *w)
{
	assert_int_equal(w->fake[0].count, 0);
	fake_aio_done(&w->fake[0]);
	group_done(&w->group);
	free(w);
}

// One commit: how many regions it set.
static size_t large_commit(struct world *w)
{
	marker_step(w);
	if (!w->marks_committing)
		return 0;
	size_t sets = w->marks.parts ? w->marks.part[0].sets : 0;
	w->marks.part[0].res = 0;
	w->marks_committing = false;
	intent_committed(&w->group.intent, &w->marks);
	return sets;
}

// protection_tracking.h, T1: what the image lost is in the map at once, and in the marks when it says so; who waits for a mark does not wait for all of them.
static void whole_disk_is_marked_behind_those_who_wait(void **unused)
{
	(void)unused;
	enum { COUNT = 2 * INTENT_WHOLE_MAX + 50 };
	struct world *w = large_world(COUNT, true);
	struct volume *v = &w->group.volume[0];
	intent_set_marked(&w->group.intent, v, 3);
	group_mark_whole(&w->group, 0);
	assert_int_equal(dirty_bytes(&v->dirty), v->size);
	assert_false(intent_marked_whole(&v->intent));
	struct volume_request r = {.command = VOLUME_TRIM, .off = v->size - REGION_SIZE, .len = REGION_SIZE, .done = on_answer};
	volume_submit(v, &r);
	assert_int_equal(large_commit(w), 1 + INTENT_WHOLE_MAX);
	assert_int_equal(w->fake[0].count, 1); // it went on
	fake_aio_drain(&w->fake[0], dice);
	assert_false(intent_marked_whole(&v->intent));
	assert_int_equal(large_commit(w), INTENT_WHOLE_MAX);
	assert_int_equal(large_commit(w), COUNT - 2 - 2 * INTENT_WHOLE_MAX);
	assert_true(intent_marked_whole(&v->intent));
	assert_int_equal(large_commit(w), 0);
	dirty_reset(&v->dirty); // a point of it was kept
	w->group.intent.hot_max = 1;
	for (intent_sweep(&w->group.intent); w->marks_wanted;)
		(void)large_commit(w);
	w->group.intent.hot_max = 0;
	for (intent_sweep(&w->group.intent); w->marks_wanted;)
		(void)large_commit(w);
	assert_int_equal(v->intent.count, 0);
	assert_false(intent_marked_whole(&v->intent));
	large_world_free(w);
}

// intent.h, M2: what its image lost is not in its map yet, so a mark that nothing dirty has need of stays.
static void disk_that_is_held_keeps_its_marks(void **unused)
{
	(void)unused;
	struct world *w = large_world(50, false);
	struct volume *v = &w->group.volume[0];
	w->group.intent.hot_max = 0;
	intent_set_marked(&w->group.intent, v, 3);
	intent_hold(&w->group.intent, v, true);
	assert_int_equal(dirty_bytes(&v->dirty), 0);
	for (unsigned again = 0; again < 2; again++) {
		for (intent_sweep(&w->group.intent); w->marks_wanted;)
			(void)large_commit(w);
		assert_true(intent_marked_whole(&v->intent));
	}
	intent_hold(&w->group.intent, v, false);
	assert_true(intent_marked_whole(&v->intent));
	for (intent_sweep(&w->group.intent); w->marks_wanted;)
		(void)large_commit(w);
	assert_int_equal(v->intent.count, 0);
	large_world_free(w);
}

// B4: what a mark stands for may be what the replica has and the image lost.
static void disk_that_is_trusted_again_has_what_is_marked_dirty(void **unused)
{
	(void)unused;
	struct world *w = large_world(10, true);
	struct volume *v = &w->group.volume[0];
	intent_set_marked(&w->group.intent, v, 3);
	intent_set_marked(&w->group.intent, v, 9);
	v->failed = -EIO;
	group_trust(&w->group, 0);
	assert_int_equal(v->failed, 0);
	assert_int_equal(dirty_bytes(&v->dirty), 2 * REGION_SIZE);
	assert_true(dirty_mask(&v->dirty, 3 * BLOCKS_PER_REGION) && dirty_mask(&v->dirty, 9 * BLOCKS_PER_REGION));
	v->failed = -EIO;
	intent_lose(&w->group.intent, 0);
	group_trust(&w->group, 0);
	assert_int_equal(dirty_bytes(&v->dirty), v->size); // no mark tells
	large_world_free(w);
}

// Those that are marked are looked at a bounded number at a time: the guests' thread does it.
static void whole_disk_that_is_marked_already_is_looked_at_in_several_turns(void **unused)
{
	(void)unused;
	struct world *w = large_world(2 * INTENT_SWEEP_MAX + 2, false);
	struct volume *v = &w->group.volume[0];
	for (uint64_t r = 1; r < v->intent.regions; r++)
		if (r != 2 * INTENT_SWEEP_MAX)
			intent_set_marked(&w->group.intent, v, r);
	group_mark_whole(&w->group, 0);
	assert_int_equal(large_commit(w), 1);
	assert_true(w->marks_wanted);
	assert_int_equal(large_commit(w), 0);
	assert_true(w->marks_wanted && !intent_marked_whole(&v->intent));
	assert_int_equal(large_commit(w), 1);
	assert_true(intent_marked_whole(&v->intent));
	assert_false(w->marks_wanted);
	large_world_free(w);
}

static void whole_disk_whose_marks_are_lost_is_never_marked(void **unused)
{
	(void)unused;
	struct world *w = large_world(INTENT_WHOLE_MAX + 50, false);
	struct volume *v = &w->group.volume[0];
	group_mark_whole(&w->group, 0);
	marker_step(w);
	intent_lose(&w->group.intent, 0); // a commit does not end
	w->marks.part[0].res = 0;
	w->marks_committing = false;
	intent_committed(&w->group.intent, &w->marks);
	assert_false(w->marks_wanted || intent_marked_whole(&v->intent));
	large_world_free(w);
	w = large_world(INTENT_WHOLE_MAX + 50, false);
	group_mark_whole(&w->group, 0);
	intent_end(&w->group.intent); // nor is a stop kept waiting by it
	(void)large_commit(w);
	assert_false(w->marks_wanted || intent_marked_whole(&w->group.volume[0].intent));
	large_world_free(w);
}

// What a guest asked for once is one error, however many parts it was done in; a disk that fails for good says so whatever was told.
static void write_in_parts_that_fails_is_one_error(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	bool told = false;
	struct volume_request part[3];
	for (unsigned i = 0; i < 3; i++) {
		part[i] = (struct volume_request){.command = VOLUME_WRITE, .counted = true, .told = &told, .off = i * PIECE_SIZE, .len = PIECE_SIZE,
						  .data = w->guest[0].data, .done = on_answer};
		w->fake[0].fail[AIO_WRITE] = i < 2 ? -ENOSPC : -EIO;
		volume_submit(&w->group.volume[0], &part[i]);
		world_drain(w);
		assert_int_equal(w->errors, i < 2 ? 1 : 2);
		assert_int_equal(w->told_failed, i == 2);
	}
	world_free(w);
}

static void disk_that_grew_is_dirty_and_marked_where_it_is_new(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	struct volume *v = &w->group.volume[0];
	dirty_mark_all(&v->dirty);
	assert_int_equal(try_cut(w, CUT_POINT), 0);
	assert_int_equal(group_grow(&w->group, 0, 3 * REGION_SIZE), -EBUSY);
	group_give_back(&w->group);
	dirty_reset(&v->dirty);
	assert_int_equal(group_grow(&w->group, 0, 3 * REGION_SIZE), 0);
	assert_int_equal(dirty_bytes(&v->dirty), 3 * REGION_SIZE - sizes[0] / PIECE_SIZE * PIECE_SIZE);
	assert_int_equal(dirty_mask(&v->dirty, 18), 0);
	assert_int_equal(dirty_mask(&v->dirty, 19), 0x8000); // the piece in which the disk ended
	assert_int_equal(v->intent.count, 3);
	assert_true(intent_bit(v->intent.marked, 0) && intent_bit(v->intent.marked, 2));
	dirty_take(&v->set, &v->dirty);
	volume_remember_set(v);
	volume_give_back(v);
	assert_int_equal(dirty_mask(&v->dirty, 3 * BLOCKS_PER_REGION - 1), MASK_FULL);
	world_free(w);
}

// B2, B6: the state file is one for the larger disk before the disk is larger here, and a commit of marks may end between the two. What it
// gives up of the region in which the disk ended, the larger file would have lost, and the larger disk relies on.
static void marks_of_a_disk_that_grows_are_all_in_its_state_file(void **unused)
{
	(void)unused;
	for (unsigned begun_before = 0; begun_before < 2; begun_before++) {
		struct world *w = world_new(1 << 20);
		struct volume *v = &w->group.volume[1];
		put(w, 1, 0);
		put(w, 1, 4 * REGION_SIZE);
		one_cycle(w);
		intent_sweep(&w->group.intent); // both are cold by now
		assert_true(w->marks_wanted);
		if (begun_before)
			marker_step(w);
		w->durable[1][4] = true; // the file of the larger disk has all that it will have
		for (unsigned i = 0; i < 2 && (w->marks_wanted || w->marks_committing); i++)
			marker_step(w);
		assert_false(w->durable[1][0]); // the commit did what it came for
		assert_int_equal(group_grow(&w->group, 1, 5 * REGION_SIZE), 0);
		world_drain(w);
		for (uint64_t r = 0; r < REGIONS; r++)
			assert_true(w->durable[1][r] || !intent_bit(v->intent.marked, r));
		assert_true(intent_bit(v->intent.marked, 4));
		dirty_reset(&v->dirty); // as a cycle leaves it: it ends with a region now, and that is one like the others
		intent_sweep(&w->group.intent);
		world_drain(w);
		assert_int_equal(v->intent.count, 0);
		world_free(w);
	}
}

// Marks a piece in every region, one by one.
static void touch_every_region(struct volume *v, unsigned piece)
{
	for (uint64_t r = 0; r < size_regions(v->size); r++)
		dirty_mark(&v->dirty, r * REGION_SIZE + (uint64_t)piece * PIECE_SIZE, 1);
}

// The worst of guests: every region of the disk is partly dirty in the set, and it comes to all of them again.
// B1: what left the set because the receiver has it is no point yet. When the cycle comes to nothing, it may have lost its head, too.
static void what_was_settled_is_dirty_again_when_the_cycle_comes_to_nothing(void **unused)
{
	(void)unused;
	struct world *w = world_new(BLOCK_SIZE);
	group_mark_all(&w->group);
	assert_int_equal(try_cut(w, CUT_PRECOPY), 0);
	group_settle(&w->group, 0, 1, 2, NULL);
	for (uint64_t b = 1; b < 3; b++) {
		assert_int_equal(dirty_mask(&w->group.volume[0].set, b), 0);
		assert_int_equal(dirty_mask(&w->group.volume[0].dirty, b), 0);
	}
	group_give_back(&w->group);
	for (uint64_t b = 0; b < 4; b++)
		assert_int_equal(dirty_mask(&w->group.volume[0].dirty, b), MASK_FULL);
	world_free(w);
}

static bool told(struct world *w, uint64_t region)
{
	struct source_run runs[8];
	bool all, is = false;
	assert_int_equal(try_cut(w, CUT_PRECOPY), 0);
	unsigned count = group_holes(&w->group, runs, 8, &all);
	for (unsigned i = 0; i < count; i++)
		is |= runs[i].disk == 1 && runs[i].first <= region * BLOCKS_PER_REGION && runs[i].first + runs[i].count >= (region + 1) * BLOCKS_PER_REGION;
	group_give_back(&w->group);
	return is;
}

static void submit_at(struct world *w, struct volume_request *r, enum volume_command command, uint64_t off, uint64_t len)
{
	*r = (struct volume_request){.command = command, .off = off, .len = len, .data = w->guest[0].data, .done = on_answer};
	volume_submit(&w->group.volume[1], r);
}

// The region of the old end is marked by the growth: who had asked for that mark would wait for a commit that nobody makes.
static void write_that_waits_for_a_mark_goes_on_when_the_disk_grows(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	struct volume_request tail, other;
	unsigned before = answers;
	submit_at(w, &tail, VOLUME_WRITE, 4 * REGION_SIZE, PIECE_SIZE);
	submit_at(w, &other, VOLUME_WRITE, 0, PIECE_SIZE); // a region that has no mark even so
	assert_true(w->marks_wanted && w->fake[1].count == 0);
	w->durable[1][4] = true; // the state file grew first (B6)
	assert_int_equal(group_grow(&w->group, 1, 6 * REGION_SIZE), 0);
	fake_aio_drain(&w->fake[1], dice);
	assert_int_equal(answers, before + 1);
	world_drain(w);
	assert_int_equal(answers, before + 2);
	world_free(w);
}

// holes.c, H2: what a guest makes a hole as a whole is not read again, and nothing else is believed: not what it wrote since, nor while anything was on its way.
static void what_a_guest_emptied_as_a_whole_is_a_hole_again(void **unused)
{
	(void)unused;
	struct world *w = world_new(1 << 20);
	struct volume_request a, b;
	memset(w->guest[0].data, 0x5a, WRITE_MAX);
	submit_at(w, &a, VOLUME_WRITE, 0, 3 * PIECE_SIZE);
	submit_at(w, &b, VOLUME_WRITE, 2 * REGION_SIZE - 1000, 2000); // in two of them
	world_drain(w);
	group_mark_all(&w->group);
	assert_true(!told(w, 0) && !told(w, 1) && !told(w, 2) && told(w, 3));
	for (unsigned i = 0; i < 2; i++) {
		submit_at(w, &a, i ? VOLUME_TRIM : VOLUME_ZERO, 0, 2 * REGION_SIZE);
		world_drain(w);
		assert_true(told(w, 0) && told(w, 1) && !told(w, 2));
		submit_at(w, &a, VOLUME_WRITE, REGION_SIZE, PIECE_SIZE);
		world_drain(w);
		assert_true(told(w, 0) && !told(w, 1));
		submit_at(w, &a, VOLUME_TRIM, REGION_SIZE, REGION_SIZE - 1); // but for a byte
		world_drain(w);
		assert_false(told(w, 1));
		submit_at(w, &a, VOLUME_TRIM, REGION_SIZE + 1, REGION_SIZE - 1);
		world_drain(w);
		assert_false(told(w, 1));
	}
	submit_at(w, &a, VOLUME_WRITE, 2 * REGION_SIZE + 5 * BLOCK_SIZE, PIECE_SIZE); // on its way when the other comes
	submit_at(w, &b, VOLUME_TRIM, REGION_SIZE, REGION_SIZE);
	world_drain(w);
	assert_false(told(w, 1));
	submit_at(w, &b, VOLUME_TRIM, REGION_SIZE, REGION_SIZE);
	submit_at(w, &a, VOLUME_WRITE, 2 * REGION_SIZE + 5 * BLOCK_SIZE, PIECE_SIZE); // comes while the other is on its way
	world_drain(w);
	assert_false(told(w, 1));
	w->fake[1].fail[AIO_PUNCH] = -EOPNOTSUPP;
	submit_at(w, &b, VOLUME_TRIM, REGION_SIZE, REGION_SIZE); // a hint: it did nothing
	world_drain(w);
	submit_at(w, &a, VOLUME_ZERO, 2 * REGION_SIZE, REGION_SIZE); // made of zeros
	world_drain(w);
	assert_true(!told(w, 1) && !told(w, 2));
	w->fake[1].fail[AIO_PUNCH] = 0;
	submit_at(w, &a, VOLUME_TRIM, 4 * REGION_SIZE, 5 * PIECE_SIZE); // the last one is short, and as whole
	world_drain(w);
	world_free(w);
}

static void holes_that_were_told_are_dirty_again_when_the_cycle_comes_to_nothing(void **unused)
{
	(void)unused;
	struct world *w = world_new(BLOCK_SIZE);
	struct source_run runs[8];
	bool all = false;
	group_mark_all(&w->group);
	assert_int_equal(try_cut(w, CUT_PRECOPY), 0);
	unsigned count = group_holes(&w->group, runs, 8, &all);
	assert_true(count > 0 && all);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(dirty_mask(&w->group.volume[runs[i].disk].set, runs[i].first), 0);
	group_give_back(&w->group);
	for (unsigned i = 0; i < count; i++)
		for (uint64_t b = runs[i].first; b < runs[i].first + runs[i].count; b++)
			assert_true(dirty_mask(&w->group.volume[runs[i].disk].dirty, b) != 0);
	world_free(w);
}

static void memory_of_tracking_is_at_most_64_mib_a_tib(void **unused)
{
	(void)unused;
	const uint64_t size = UINT64_C(1) << 40, bound = 64 << 20, marks = state_marks_memory(size);
	struct mallinfo2 before = mallinfo2();
	struct group group = {.count = 1};
	struct volume v;
	assert_int_equal(volume_init(&v, &group, NULL, size), 0);
	assert_true(audit_carry(&v, 0, UINT64_MAX)); // all of it was told as a hole
	uint64_t most = volume_memory(&v);
	assert_true(most < 7 << 20);
	touch_every_region(&v, 1);
	assert_int_equal(dirty_bytes(&v.dirty), size_regions(size) * PIECE_SIZE); // exact: no set is beside it
	dirty_take(&v.set, &v.dirty);
	for (unsigned round = 0; round < 3; round++) {
		touch_every_region(&v, 7 + round);
		for (uint64_t b = dirty_next(&v.set, 0), n = 0; b != UINT64_MAX && n < 1000; b = dirty_next(&v.set, b + 7), n++) {
			volume_remember(&v, b);
			dirty_clear_block(&v.set, b);
		}
		most = max_u64(most, volume_memory(&v));
	}
	struct mallinfo2 now = mallinfo2();
	uint64_t heap = now.uordblks + now.hblkhd - before.uordblks - before.hblkhd; // what malloc really gave
	print_message("1 TiB: %.1f MiB by count, %.1f MiB by malloc\n", (double)(most + marks) / (1 << 20), (double)heap / (1 << 20));
	assert_true(most + marks <= bound && heap <= bound);
	assert_true(heap <= volume_memory(&v) + 65536); // the count hides nothing but a page for each of the large pieces
	volume_give_back(&v);
	assert_true(dirty_mask(&v.dirty, 0) && !dirty_mask(&v.set, 0) && volume_memory(&v) <= bound);
	volume_done(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_point_is_the_disks_at_one_instant_while_the_guest_goes_on),
		cmocka_unit_test(cut_point_is_the_disks_when_its_set_was_looked_at_first),
		cmocka_unit_test(cut_is_given_up_and_the_guest_is_not_when_the_bound_is_reached),
		cmocka_unit_test(cut_goes_on_in_the_spill_file_when_memory_is_used_up),
		cmocka_unit_test(cut_is_given_up_and_the_guest_is_not_when_the_spill_file_fails),
		cmocka_unit_test(cut_that_was_overtaken_knows_why),
		cmocka_unit_test(spill_file_leaves_room_to_the_state_files),
		cmocka_unit_test(cut_is_given_up_and_the_guest_is_not_when_the_spill_file_hangs),
		cmocka_unit_test(cut_preserves_more_than_memory_and_buffers_hold_at_once),
		cmocka_unit_test(volume_failed_sync_is_never_retried_into_success),
		cmocka_unit_test(volume_failed_write_fails_later_flushes_and_want_of_space_does_not),
		cmocka_unit_test(volume_zeroes_are_written_where_the_image_cannot_punch),
		cmocka_unit_test(no_cut_waits_for_more_than_a_part_of_what_is_zeroed),
		cmocka_unit_test(of_a_page_that_is_zeroed_in_part_that_part_is_written),
		cmocka_unit_test(volume_error_is_told_with_its_kind_when_the_volume_has_failed),
		cmocka_unit_test(volume_cache_is_a_hint_that_changes_nothing_and_never_fails),
		cmocka_unit_test(cut_is_given_up_when_old_content_cannot_be_read),
		cmocka_unit_test(write_has_the_pieces_saved_that_it_touches_and_no_others),
		cmocka_unit_test(writes_of_one_piece_wait_for_one_read),
		cmocka_unit_test(batch_has_what_was_saved_over_what_it_reads),
		cmocka_unit_test(last_block_that_is_saved_to_its_end_has_zeros_behind_it),
		cmocka_unit_test(what_goes_to_the_spill_file_is_saved_by_groups_of_pieces),
		cmocka_unit_test(request_that_waits_for_the_spill_file_goes_on_where_it_was),
		cmocka_unit_test(preserved_blocks_jump_the_queue_so_that_the_cut_survives),
		cmocka_unit_test(write_does_not_wait_for_the_batch_that_reads_its_block),
		cmocka_unit_test(cut_given_up_fails_the_batches_under_way),
		cmocka_unit_test(keep_forgets_nothing_when_a_read_or_a_sync_failed),
		cmocka_unit_test(cut_given_up_for_a_write_that_hangs_opens_the_gate_and_takes_nothing),
		cmocka_unit_test(disk_that_hangs_costs_its_neighbours_one_hold_and_not_one_a_try),
		cmocka_unit_test(cut_that_waits_for_batches_holds_nobody_and_is_not_given_up),
		cmocka_unit_test(mark_of_a_region_written_in_every_cycle_stays_and_of_a_cold_one_goes),
		cmocka_unit_test(marks_rest_after_a_sweep_while_they_are_few),
		cmocka_unit_test(what_a_keep_left_unsynced_is_counted_until_one_syncs),
		cmocka_unit_test(keep_fails_where_a_disk_failed_since_the_cut),
		cmocka_unit_test(mark_stays_while_a_cycle_comes_to_nothing),
		cmocka_unit_test(mark_that_cannot_be_made_lets_the_guest_go_on_and_loses_that_disk_alone),
		cmocka_unit_test(disk_given_up_while_its_marks_hang_goes_on_and_the_others_keep_theirs),
		cmocka_unit_test(marks_of_all_that_wait_are_one_commit),
		cmocka_unit_test(marks_of_more_than_one_commit_holds_come_in_several),
		cmocka_unit_test(whole_disk_is_marked_behind_those_who_wait),
		cmocka_unit_test(disk_that_is_held_keeps_its_marks),
		cmocka_unit_test(disk_that_is_trusted_again_has_what_is_marked_dirty),
		cmocka_unit_test(whole_disk_that_is_marked_already_is_looked_at_in_several_turns),
		cmocka_unit_test(whole_disk_whose_marks_are_lost_is_never_marked),
		cmocka_unit_test(write_in_parts_that_fails_is_one_error),
		cmocka_unit_test(disk_that_grew_is_dirty_and_marked_where_it_is_new),
		cmocka_unit_test(marks_of_a_disk_that_grows_are_all_in_its_state_file),
		cmocka_unit_test(what_was_settled_is_dirty_again_when_the_cycle_comes_to_nothing),
		cmocka_unit_test(write_that_waits_for_a_mark_goes_on_when_the_disk_grows),
		cmocka_unit_test(what_a_guest_emptied_as_a_whole_is_a_hole_again),
		cmocka_unit_test(holes_that_were_told_are_dirty_again_when_the_cycle_comes_to_nothing),
		cmocka_unit_test(memory_of_tracking_is_at_most_64_mib_a_tib),
	};
	return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
