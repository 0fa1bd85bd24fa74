// SPDX-License-Identifier: Apache-2.0
// The functions of replicator/export.h without a thread and without io_uring: the real group of volumes over files of the simulated disk.
//
// An operation on an image takes effect in two steps, at times that the dice say, in any order with the others. A sync covers what was
// reported before it was asked for, and perhaps more. Marks go to the real state files, some time later.
#include "tests/world/world.h"

#include "replicator/group.h"
#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct operation {
	struct sim_image *image;
	struct aio *aio;
	unsigned step;
	int res;
	struct operation *next;
};

struct sim_image {
	struct aio_backend backend; // first
	struct export *export;
	struct env_file *file;
	uint16_t disk; // UINT16_MAX: the spill file
	struct operation *operations;
};

struct export {
	struct source source; // first
	struct group group;
	struct side *side;
	struct export_marker marker;
	struct intent_batch batch;
	bool batch_out, batch_asked;
	uint16_t count;
	struct sim_image image[SIDE_DISKS_MAX], spill;
	bool running;
	unsigned life;
	struct group_cut cut;
	struct source_cut seen;
	struct task *caller; // waits for `answered`
	bool answered;
	int res;
	uint64_t hold_ns, swept_ns;
	uint64_t cuts;
};

static struct export *exports[SIDES_MAX];
static const struct source_ops sim_export_ops;

static struct export *export_of(struct source *source)
{
	return (struct export *)(void *)source;
}

struct group *export_group(struct export *export)
{
	return &export->group;
}

// ---- the images

static struct operation **place_of(struct operation *operation)
{
	struct operation **at = &operation->image->operations;
	while (*at != operation)
		at = &(*at)->next;
	return at;
}

static int effect(struct operation *operation, uint64_t from, uint64_t len)
{
	struct sim_image *image = operation->image;
	struct aio *aio = operation->aio;
	uint64_t off = aio->off + from;
	unsigned char *data = aio->data ? (unsigned char *)aio->data + from : NULL; // neither zeros nor a trim have any
	static const unsigned char zeros[BLOCK_SIZE];
	size_t got = 0;
	int rc = 0;
	if (!len)
		return 0;
	switch (aio->kind) {
	case AIO_READ:
		assert(data);
		rc = env_pread(image->file, data, len, off, &got);
		if (rc == 0)
			memset(data + got, 0, len - got);
		return rc;
	case AIO_WRITE:
		rc = env_pwrite(image->file, data, len, off);
		break;
	case AIO_PUNCH:
	case AIO_ZERO:
		if (image->disk == UINT16_MAX || (aio->kind == AIO_PUNCH && off % PIECE_SIZE == 0)) {
			rc = env_punch(image->file, off, len);
			break;
		}
		for (uint64_t at = 0; at < len && rc == 0; at += sizeof(zeros))
			rc = env_pwrite(image->file, zeros, min_u64(sizeof(zeros), len - at), off + at);
		break;
	case AIO_SYNC:
	case AIO_ADVISE:
		return 0;
	}
	if (image->disk != UINT16_MAX) // also what failed may have done something: then the image is asked
		guest_applied(image->export->side, image->disk, rc ? AIO_SYNC : aio->kind, off, data, len);
	return rc;
}

static void complete(struct operation *operation, int res)
{
	struct operation **at = place_of(operation);
	struct aio *aio = operation->aio;
	struct sim_image *image = operation->image;
	*at = operation->next;
	operation->image = NULL; // a step that is due finds it ended, and frees it
	if (res < 0 && image->disk != UINT16_MAX && !the_world->source.dead) {
		image->export->side->failed = true;
		image->export->side->fault_image = true;
	}
	aio->done(aio, res);
}

static void on_step(void *context, uint64_t value)
{
	struct operation *operation = context;
	(void)value;
	if (!operation->image) {
		free(operation);
		return;
	}
	struct aio *aio = operation->aio;
	if (the_world->source.dead) { // what dies is told
		complete(operation, -EIO);
		free(operation);
		return;
	}
	int rc = 0;
	if (aio->kind == AIO_SYNC && operation->step == 0)
		rc = env_sync(operation->image->file);
	else if (operation->step < 2)
		rc = effect(operation, operation->step ? aio->len / 2 : 0, operation->step ? aio->len - aio->len / 2 : aio->len / 2);
	if (operation->step++ < 2 && rc == 0) {
		world_at(the_world->now_ns + world_draw(2 * WORLD_MS), on_step, operation, 0);
		return;
	}
	complete(operation, rc);
	free(operation);
}

static void image_submit(struct aio_backend *backend, struct aio *aio)
{
	struct sim_image *image = (struct sim_image *)(void *)backend;
	struct operation *operation = calloc(1, sizeof(*operation));
	assert(operation);
	*operation = (struct operation){.image = image, .aio = aio, .next = image->operations};
	image->operations = operation;
	uint64_t delay_ns = world_one_in(200) && !the_world->quiet ? world_draw(4000) * WORLD_MS : world_draw(3 * WORLD_MS);
	world_at(the_world->now_ns + delay_ns, on_step, operation, 0);
}

// Of a file system that is believed: where nothing was ever written, or a trim made a hole of it.
static bool image_hole(struct aio_backend *backend, uint64_t off, uint64_t *ret_until)
{
	const struct sim_image *image = (struct sim_image *)(void *)backend;
	const struct side_disk *disk = &image->export->side->disk[image->disk];
	uint64_t b = off / BLOCK_SIZE;
	bool hole = !disk->image[b];
	while (b < size_blocks(disk->size) && !disk->image[b] == hole)
		b++;
	*ret_until = min_u64(b * BLOCK_SIZE, disk->size);
	if (hole || the_world->quiet || the_world->calm || !world_one_in(8))
		return hole;
	*ret_until = disk->size; // it lies
	return true;
}

// ---- marks

static void on_committed(void *context, uint64_t life)
{
	struct export *export = context;
	if (exports[export->side->number] != export || !export->batch_out)
		return;
	(void)life;
	export->batch_out = false;
	intent_committed(&export->group.intent, &export->batch);
}

static void commit_marks(struct export *export)
{
	for (unsigned i = 0; i < export->batch.parts; i++) {
		struct intent_part *part = &export->batch.part[i];
		struct err err = {0};
		oracle_marks(export->side, part->disk, part->set, part->sets, NULL, 0, true);
		part->res = export->marker.commit(export->marker.context, part->disk, part->set, part->sets, part->clear, part->clears, &err);
		oracle_marks(export->side, part->disk, part->set, part->sets, part->clear, part->clears, part->res == 0);
		if (part->res && !the_world->source.dead)
			export->side->fault_state = true;
	}
}

static void on_wanted(void *context, uint64_t life)
{
	struct export *export = context;
	if (life != the_world->source.life || exports[export->side->number] != export)
		return;
	export->batch_asked = false;
	if (!intent_take(&export->group.intent, &export->batch))
		return;
	export->batch_out = true;
	commit_marks(export);
	world_at(the_world->now_ns + world_draw(4 * WORLD_MS), on_committed, export, life);
}

static void marks_wanted(struct intent *intent)
{
	struct export *export = HOLDER(HOLDER(intent, struct group, intent), struct export, group);
	export->batch_asked = true;
	world_at(the_world->now_ns + world_draw(WORLD_MS), on_wanted, export, the_world->source.life);
}

// ---- life

static int open_image(struct export *export, uint16_t disk, const char *path, struct err *err)
{
	struct sim_image *image = &export->image[disk];
	*image = (struct sim_image){.backend = {.submit = image_submit, .hole = image_hole}, .export = export, .disk = disk};
	int rc = env_open(the_world->images, path, ENV_WRITE, &image->file);
	if (rc == 0)
		rc = env_size(image->file, &export->source.disk_size[disk]);
	return rc ? err_sys(err, rc, "open the image %s", path) : 0;
}

static void open_spill(struct export *export, const struct export_config *config)
{
	char name[NAME_SIZE + 8];
	(void)snprintf(name, sizeof(name), "%s.spill", config->protection);
	export->spill = (struct sim_image){.backend = {.submit = image_submit}, .export = export, .disk = UINT16_MAX};
	if (world_one_in(4) || env_open(the_world->images, name, ENV_CREATE_OPEN, &export->spill.file))
		return;
	group_set_spill(&export->group, &export->spill.backend, (1 + world_draw(16)) * BLOCK_SIZE);
}

int export_open(const struct export_config *config, struct export **ret_export, struct err *err)
{
	struct export *export = calloc(1, sizeof(*export));
	struct aio_backend *backend[SIDE_DISKS_MAX];
	unsigned number = (unsigned)(config->protection[2] - '1');
	int rc = 0;
	assert(export && number < the_world->sides);
	*ret_export = export;
	export->side = &the_world->side[number];
	export->marker = config->marker;
	export->life = the_world->source.life;
	for (; export->count < config->disk_count && rc == 0; export->count++) {
		rc = open_image(export, export->count, config->disk[export->count].path, err);
		backend[export->count] = &export->image[export->count].backend;
	}
	if (rc == 0) {
		export->source.ops = &sim_export_ops;
		export->source.disk_count = export->count;
		rc = group_init(&export->group, export->count, export->source.disk_size, backend, (1 + world_draw(32)) * BLOCK_SIZE);
		assert(rc == 0);
		intent_enable(&export->group.intent, &export->group, marks_wanted);
		if (world_one_in(2))
			export->group.intent.hot_max = (unsigned)world_draw(3);
		open_spill(export, config);
		exports[number] = export;
		return 0;
	}
	*ret_export = NULL;
	for (uint16_t d = 0; d < export->count; d++)
		env_close(export->image[d].file);
	free(export);
	return rc;
}

static void fail_operations(struct sim_image *image)
{
	while (image->operations)
		complete(image->operations, -EIO);
}

// Everything under way comes back at once: what waits for it ends.
void export_host_died(void)
{
	for (unsigned s = 0; s < SIDES_MAX; s++) {
		struct export *export = exports[s];
		if (!export)
			continue;
		guest_died(export->side);
		export->batch_out = false;
		bool more = true;
		while (more) {
			more = false;
			for (uint16_t i = 0; i <= export->count; i++) {
				struct sim_image *image = i < export->count ? &export->image[i] : &export->spill;
				more |= image->operations != NULL;
				fail_operations(image);
			}
		}
		task_wake(export->caller);
	}
}

void export_close(struct export *export)
{
	if (!export)
		return;
	assert(!export->running);
	for (uint16_t i = 0; i <= export->count; i++) {
		struct sim_image *image = i < export->count ? &export->image[i] : &export->spill;
		assert(!image->operations);
		env_close(image->file);
	}
	group_done(&export->group);
	if (exports[export->side->number] == export)
		exports[export->side->number] = NULL;
	export->side->export = NULL;
	guest_forget(export->side);
	world_keep(export); // events may name it still
}

struct dirty *export_dirty(struct export *export, uint16_t disk)
{
	return &export->group.volume[disk].dirty;
}

void export_set_marked(struct export *export, uint16_t disk, const struct dirty *dirty)
{
	for (uint64_t r = 0; r < dirty->regions; r++)
		if (dirty->region[r])
			intent_set_marked(&export->group.intent, &export->group.volume[disk], r);
}

bool export_has_image(const struct export *export, const struct image_file *file, uint16_t *ret_disk)
{
	(void)export;
	(void)file;
	(void)ret_disk;
	return false; // its disks are no files
}

void export_drop_cache(struct export *export, uint16_t disk, uint64_t off, uint64_t len)
{
	(void)export, (void)disk, (void)off, (void)len;
	sim_drop_caches(the_world->source.sim); // of all of the host: as the system likes
}

bool export_drops_at_once(struct export *export, uint16_t disk)
{
	(void)export, (void)disk;
	return true;
}

bool export_cached(struct export *export, uint16_t disk, uint64_t off, uint64_t len)
{
	(void)export, (void)disk, (void)off, (void)len;
	return true;
}

void export_set_stale(struct export *export, uint16_t disk, bool is)
{
	(void)export, (void)disk, (void)is;
}

void export_look(struct export *export, uint16_t disk)
{
	(void)export, (void)disk;
}

bool export_was_disturbed(struct export *export, uint16_t disk)
{
	(void)export, (void)disk; // nobody else touches images here
	return false;
}

void export_disturbance_told(struct export *export, uint16_t disk)
{
	(void)export, (void)disk;
}

int export_settle_identity(struct export *export, uint16_t disk, struct err *err)
{
	(void)export;
	(void)disk;
	(void)err;
	return 0;
}

int export_identity(struct export *export, uint16_t disk, struct image_identity *ret_identity, struct err *err)
{
	uint64_t size = 0;
	int rc = env_size(export->image[disk].file, &size);
	uint64_t mtime_ns = export->side->disk[disk].mtime_ns;
	*ret_identity = (struct image_identity){.device = 1, .inode = 100 + export->side->number * 10 + disk, .size = size,
						.mtime_ns = (int64_t)mtime_ns, .ctime_ns = (int64_t)mtime_ns};
	return rc ? err_sys(err, rc, "look at an image") : 0;
}

void export_mark_whole(struct export *export, uint16_t disk)
{
	if (!the_world->source.dead && export->life == the_world->source.life)
		group_mark_whole(&export->group, disk);
}

bool export_marked_whole(struct export *export, uint16_t disk)
{
	return intent_marked_whole(&export->group.volume[disk].intent);
}

void export_unidentified(struct export *export, uint16_t disk, int code)
{
	(void)export;
	(void)disk;
	(void)code;
}

int export_clear_error(struct export *export, uint16_t disk, bool dry_run, struct err *err)
{
	(void)export;
	(void)disk;
	(void)dry_run;
	return err_set(err, -ENOTSUP, "the export of the world notes no failure");
}

enum rest_verdict export_judge(struct export *export, uint16_t disk)
{
	(void)export;
	(void)disk;
	return REST_LEFT_ALONE; // in the world nobody changes an image behind an agent that died (world_faults.c)
}

int export_start(struct export *export, struct err *err)
{
	if (the_world->source.dead || sim_is_off(the_world->source.sim))
		return err_sys(err, -EIO, "serve");
	export->running = true;
	export->side->export = export;
	oracle_loaded(export->side, export, export->marker.context);
	guest_started(export->side);
	return 0;
}

// Ends the guest, then lets what is under way end; syncs, as the real one.
int export_stop(struct export *export, struct err *err)
{
	struct world *w = the_world;
	export->running = false;
	guest_stopping(export->side);
	while (!w->source.dead && (export->side->requests || export->batch_out || export->batch_asked || export->group.intent.committing))
		task_sleep(w->now_ns + 10 * WORLD_MS);
	if (!w->source.dead) {
		group_give_back(&export->group);
		intent_end(&export->group.intent);
		bool more = true;
		while (more && !w->source.dead) {
			more = export->spill.operations != NULL;
			for (uint16_t d = 0; d < export->count; d++)
				more |= export->image[d].operations != NULL;
			if (more)
				task_sleep(w->now_ns + 10 * WORLD_MS);
		}
	}
	int rc = w->source.dead || export->life != w->source.life ? -ESHUTDOWN : 0;
	for (uint16_t d = 0; d < export->count && rc == 0; d++)
		rc = export->group.volume[d].failed ? -EIO : env_sync(export->image[d].file);
	guest_died(export->side);
	export->side->export = NULL;
	return rc ? err_set(err, -EIO, "the images could not be synced") : 0;
}

struct source *export_source(struct export *export)
{
	return &export->source;
}

uint64_t export_disk_size(struct export *export, uint16_t disk)
{
	return export->source.disk_size[disk];
}

// ---- the cycle's side

static bool over(const struct export *export)
{
	return the_world->source.dead || export->life != the_world->source.life;
}

static void answer(struct export *export, int res)
{
	export->res = res;
	export->answered = true;
	task_wake(export->caller);
}

static int await(struct export *export)
{
	export->caller = task_self();
	while (!export->answered)
		task_sleep(UINT64_MAX);
	export->caller = NULL;
	return export->res;
}

static void on_hold_over(void *context, uint64_t cut)
{
	struct export *export = context;
	if (exports[export->side->number] == export && export->hold_ns && export->cuts == cut)
		group_cut_cancel(&export->group, export->hold_ns);
}

static void on_hold(struct group_cut *cut)
{
	struct export *export = HOLDER(cut, struct export, cut);
	export->hold_ns = the_world->now_ns;
	guest_burst(export->side);
	world_at(the_world->now_ns + WORLD_S, on_hold_over, export, export->cuts);
}

static void on_take(struct group_cut *cut)
{
	struct export *export = HOLDER(cut, struct export, cut);
	struct env *env = sim_env(the_world->source.sim);
	export->seen.wall_ns = env_wall_ns(env);
	export->seen.mono_ns = env_mono_ns(env);
	export->seen.hold_ns = 0;
	the_world->did.precopies += cut->mode == CUT_PRECOPY;
	if (!over(export))
		oracle_taken(export->side, export, export->marker.context);
}

static void on_cut(struct group_cut *cut, int res)
{
	struct export *export = HOLDER(cut, struct export, cut);
	export->hold_ns = 0;
	answer(export, res);
}

static int op_cut(struct source *source, enum cut_mode mode, struct source_cut *ret_cut, struct err *err)
{
	struct export *export = export_of(source);
	if (over(export))
		return err_set(err, -ESHUTDOWN, "the export is not running");
	export->cuts++;
	export->cut = (struct group_cut){.mode = mode, .hold = on_hold, .take = on_take, .done = on_cut};
	export->answered = false;
	group_cut(&export->group, &export->cut);
	int rc = await(export);
	if (over(export))
		return err_set(err, -ESHUTDOWN, "the export is not running");
	export->seen.dirty_bytes = export->cut.dirty_bytes;
	export->seen.blocks = export->cut.blocks;
	if (rc == -EAGAIN)
		the_world->did.given_up++;
	*ret_cut = export->seen;
	return rc ? err_set(err, rc, "no cut") : 0;
}

struct sim_fetch {
	struct fetch fetch;
	struct export *export;
	struct task *waiter;
	bool ended;
};

static void on_fetched(struct fetch *fetch)
{
	struct sim_fetch *f = HOLDER(fetch, struct sim_fetch, fetch);
	f->ended = true;
	task_wake(f->waiter);
}

static int begin_fetch(struct source *source, struct source_batch *batch, bool look)
{
	struct sim_fetch *f = calloc(1, sizeof(*f));
	assert(f);
	f->export = export_of(source);
	f->fetch.done = on_fetched;
	batch->look = look;
	batch->count = 0;
	batch->private = f;
	if (over(f->export)) {
		batch->status = -ESHUTDOWN;
		f->ended = true;
		return 0;
	}
	group_fetch(&f->export->group, &f->fetch, batch);
	return 0;
}

static int op_fetch(struct source *source, struct source_batch *batch)
{
	return begin_fetch(source, batch, false);
}

static int op_look(struct source *source, struct source_batch *batch)
{
	the_world->did.looks++;
	return begin_fetch(source, batch, true);
}

// In halves, between which the guest writes. A dead host reads nothing.
static int op_read(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data)
{
	struct export *export = export_of(source);
	uint64_t room = (uint64_t)count * BLOCK_SIZE;
	memset(data, 0, room);
	for (uint64_t at = 0; at < room; at += room / 2) {
		size_t got = 0;
		if (over(export) || the_world->source.dead)
			return -ESHUTDOWN;
		int rc = env_pread(export->image[disk].file, (unsigned char *)data + at, room / 2, first * BLOCK_SIZE + at, &got);
		if (rc && !the_world->source.dead)
			export->side->failed = export->side->fault_image = true;
		if (rc)
			return rc;
		task_sleep(the_world->now_ns + world_draw(2 * WORLD_MS));
	}
	return 0;
}

static int op_unreadable(struct source *source, uint16_t disk, uint64_t first, int code, struct err *err)
{
	struct export *export = export_of(source);
	if (over(export))
		return err_set(err, -ESHUTDOWN, "the export has stopped");
	export->group.incomplete = true;
	group_error(&export->group, &export->group.volume[disk], FAULT_COPY, first * BLOCK_SIZE, code);
	return err_set(err, -EIO, "an image could not be read");
}

static uint64_t op_reach(struct source *source, uint64_t blocks)
{
	return over(export_of(source)) ? 0 : group_reach(&export_of(source)->group, blocks);
}

static void op_settle(struct source *source, uint16_t disk, uint64_t first, uint64_t count, const unsigned char *unequal)
{
	if (over(export_of(source)))
		return;
	group_settle(&export_of(source)->group, disk, first, count, unequal);
	the_world->did.settled += count;
}

static uint64_t op_served(struct source *source)
{
	return group_served(&export_of(source)->group);
}

static unsigned op_holes(struct source *source, struct source_run *runs, unsigned most, bool *ret_all)
{
	unsigned count = 0;
	*ret_all = true;
	if (!over(export_of(source)))
		count = group_holes(&export_of(source)->group, runs, most, ret_all);
	for (unsigned i = 0; i < count; i++) {
		struct side *side = export_of(source)->side;
		bool lied = false;
		the_world->did.holes += runs[i].count;
		for (uint64_t b = runs[i].first; b < runs[i].first + runs[i].count; b++) {
			side->disk[runs[i].disk].told[b] = true;
			lied |= !content_equal(side->disk[runs[i].disk].image[b], NULL);
		}
		side->lied |= lied;
		if (lied)
			world_happened(FAULT_FALSE_HOLE);
	}
	return count;
}

static bool op_audit_next(struct source *source, unsigned most, struct source_run *ret_run)
{
	return !over(export_of(source)) && group_audit_next(&export_of(source)->group, most, ret_run);
}

static void op_audited(struct source *source, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited)
{
	struct export *export = export_of(source);
	bool carried = export->group.volume[run->disk].audit.carried;
	*ret_audited = (struct source_audited){.false_blocks = 0};
	if (over(export))
		return;
	group_audited(&export->group, run, unequal, ret_audited);
	uint64_t end = (run->first + run->count + BLOCKS_PER_REGION - 1) / BLOCKS_PER_REGION * BLOCKS_PER_REGION;
	bool unequal_any = ret_audited->false_blocks || ret_audited->other_blocks;
	for (uint64_t b = run->first / BLOCKS_PER_REGION * BLOCKS_PER_REGION; unequal_any && b < min_u64(end, size_blocks(export->side->disk[run->disk].size)); b++)
		export->side->disk[run->disk].told[b] = true; // it may be dirty now, with its region
	export->side->lied |= carried && ret_audited->false_blocks; // now
	the_world->did.audited += run->count;
	the_world->did.false_holes += ret_audited->false_blocks != 0;
	the_world->did.carried += ret_audited->other_blocks != 0;
}

static uint64_t op_unproven(struct source *source, uint16_t disk, uint64_t region, unsigned char *units, uint64_t count)
{
	const struct volume *volume = &export_of(source)->group.volume[disk];
	for (uint64_t i = 0; i < count; i++)
		units[i] = volume->audit.units ? volume->audit.units[region + i] : 0;
	return audit_map_bytes(&volume->audit, volume->size);
}

int export_carry(struct export *export, uint16_t disk, uint64_t region, uint64_t count)
{
	return audit_carry(&export->group.volume[disk], region, count) ? 0 : -ENOMEM;
}

void export_disbelieve(struct export *export, uint16_t disk)
{
	export->image[disk].backend.hole = NULL;
}

static int op_wait(struct source *source, struct source_batch *batch, struct err *err)
{
	struct sim_fetch *f = batch->private;
	(void)source;
	f->waiter = task_self();
	while (!f->ended)
		task_sleep(UINT64_MAX);
	batch->private = NULL;
	free(f);
	if (batch->status == -ESTALE)
		the_world->did.given_up++;
	return batch->status ? err_set(err, batch->status == -ESTALE || batch->status == -ESHUTDOWN ? batch->status : -EIO, "read the disks") : 0;
}

struct sim_keep {
	struct group_keep keep;
	struct export *export;
};

static void on_kept(struct group_keep *keep, int res)
{
	struct sim_keep *k = HOLDER(keep, struct sim_keep, keep);
	if (res == 0 && !over(k->export))
		oracle_kept(k->export->side);
	answer(k->export, res);
}

static int op_keep(struct source *source, struct err *err)
{
	struct export *export = export_of(source);
	struct sim_keep k = {.keep = {.done = on_kept}, .export = export};
	if (over(export))
		return err_set(err, -ESHUTDOWN, "the export is not running");
	export->group.intent.resting = export->swept_ns && the_world->now_ns - export->swept_ns < 5 * WORLD_S;
	if (!export->group.intent.resting)
		export->swept_ns = the_world->now_ns;
	export->answered = false;
	group_keep(&export->group, &k.keep);
	int rc = await(export);
	return rc ? err_set(err, rc, "an image could not be synced") : 0;
}

static void op_give_back(struct source *source)
{
	if (!over(export_of(source)))
		group_give_back(&export_of(source)->group);
}

static void op_mark_all(struct source *source)
{
	if (!over(export_of(source)))
		group_mark_all(&export_of(source)->group);
}

static void op_mark(struct source *source, uint16_t disk, uint64_t off, uint64_t len)
{
	if (!over(export_of(source)))
		group_mark(&export_of(source)->group, disk, off, len);
}

static uint64_t op_dirty_bytes(struct source *source)
{
	struct export *export = export_of(source);
	uint64_t bytes = 0;
	for (uint16_t d = 0; d < export->count; d++)
		bytes += dirty_bytes(&export->group.volume[d].dirty);
	return bytes;
}

static const struct source_ops sim_export_ops = {
	.cut = op_cut,
	.fetch = op_fetch,
	.look = op_look,
	.read = op_read,
	.unreadable = op_unreadable,
	.reach = op_reach,
	.settle = op_settle,
	.holes = op_holes,
	.served = op_served,
	.wait = op_wait,
	.keep = op_keep,
	.give_back = op_give_back,
	.mark_all = op_mark_all,
	.mark = op_mark,
	.dirty_bytes = op_dirty_bytes,
	.audit_next = op_audit_next,
	.audit_read = op_read,
	.audited = op_audited,
	.unproven = op_unproven,
};

// ---- a larger disk

int export_grow_check(struct export *export, uint16_t disk, uint64_t new_size, struct err *err)
{
	return new_size > export_disk_size(export, disk) ? 0 : err_set(err, -EINVAL, "not larger");
}

int export_grow(struct export *export, uint16_t disk, uint64_t new_size, struct err *err)
{
	uint64_t size;
	if (over(export))
		return err_set(err, -ESHUTDOWN, "the export is not running");
	int rc = env_size(export->image[disk].file, &size);
	if (rc == 0 && size < new_size)
		rc = env_truncate(export->image[disk].file, new_size);
	if (rc == 0)
		rc = env_sync(export->image[disk].file); // as image_extend()
	if (rc == 0)
		rc = group_grow(&export->group, disk, new_size);
	if (rc)
		return err_sys(err, rc, "grow");
	export->source.disk_size[disk] = new_size;
	guest_grown(export->side, disk, new_size);
	return 0;
}

// ---- what the status asks for

void export_hurry(struct export *export, bool hurry)
{
	(void)export;
	(void)hurry;
}

bool export_crowded(struct export *export)
{
	return export->group.set == SET_STALE;
}

void export_uri(struct export *export, uint16_t disk, char *uri, size_t cap)
{
	(void)snprintf(uri, cap, "nbd+unix:///%s-%u", export->side->config.name, disk);
}

void export_short(struct export *export, char text[EXPORT_SHORT_SIZE])
{
	(void)export;
	text[0] = 0;
}

uint64_t export_spill_silent_ns(const struct export *export)
{
	(void)export; // there is none
	return 0;
}

void export_stats(struct export *export, uint16_t disk, struct export_stats *ret_stats)
{
	*ret_stats = (struct export_stats){.dirty_bytes = dirty_bytes(&export->group.volume[disk].dirty)};
}

void export_cut_stats(struct export *export, struct export_cut_stats *ret_stats)
{
	*ret_stats = (struct export_cut_stats){.count = export->cuts};
}

uint64_t export_cut_percentile(const struct export_cut_stats *stats, unsigned percent)
{
	(void)stats;
	(void)percent;
	return 0;
}
