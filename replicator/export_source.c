// SPDX-License-Identifier: Apache-2.0
// The export as a source: each call of the cycle thread is a message to the loop thread, and a wait for its end.
//
// When the loop has ended (or not begun) there is no guest and no cut.
#include "replicator/export_call.h"

#include "base/clock.h"
#include "replicator/holder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int stopped(struct export *export, struct err *err)
{
	return err_set(err, -ESHUTDOWN, "the export of %s is not running", export->protection);
}

// ---- cut

struct cut_call {
	struct call call;
	struct export *export;
	struct group_cut cut;
	struct source_cut seen;
	uint64_t hold_begin_ns; // 0: it held nobody
	int res;
	uint64_t spill_most; // that the spill file may take
	char stalled[ERR_TEXT_MAX / 2]; // with -EAGAIN: which disk, and since when
};

static void on_cut_hold(struct group_cut *cut)
{
	struct cut_call *c = HOLDER(cut, struct cut_call, cut);
	bound_begin(&c->export->hold, c->export->cut_hold_ms_max);
	c->hold_begin_ns = c->export->hold.since_ns;
	c->export->hold_since_ns = c->hold_begin_ns;
	c->export->hold_writes = c->export->group.writes;
	c->export->hold_rounds = 1;
}

// A disk that is slow and not hung gets more time, as long as writes end: else it would never get a point under load.
void export_on_hold_expired(struct bound *hold)
{
	struct export *export = HOLDER(hold, struct export, hold);
	if (export->group.writes < export->hold_writes && export->hold_rounds++ < EXPORT_CUT_HOLD_ROUNDS_MAX) {
		export->hold_writes = export->group.writes;
		bound_begin(hold, export->cut_hold_ms_max);
		return;
	}
	group_cut_cancel(&export->group, export->hold_since_ns);
}

static void on_cut_take(struct group_cut *cut)
{
	struct cut_call *c = HOLDER(cut, struct cut_call, cut);
	c->seen.wall_ns = clock_wall_ns();
	c->seen.mono_ns = clock_mono_ns();
	c->seen.hold_ns = c->seen.mono_ns - c->hold_begin_ns;
}

static void note_hold(struct export_holds *holds, uint64_t us)
{
	unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;
	if (bucket >= EXPORT_CUT_BUCKETS)
		bucket = EXPORT_CUT_BUCKETS - 1;
	(void)atomic_fetch_add_explicit(&holds->bucket[bucket], 1, memory_order_relaxed);
	(void)atomic_fetch_add_explicit(&holds->count, 1, memory_order_relaxed);
	(void)atomic_fetch_add_explicit(&holds->sum_us, us, memory_order_relaxed);
	if (us > atomic_load_explicit(&holds->max_us, memory_order_relaxed))
		atomic_store_explicit(&holds->max_us, us, memory_order_relaxed);
}

// The disk that has hung for longest, in words. There is one: that is what a cut is given up for.
static void say_stalled(const struct export *export, uint64_t now_ns, char *text, size_t cap)
{
	uint16_t worst = 0;
	uint64_t since_ns = UINT64_MAX;
	for (uint16_t d = 0; d < export->count; d++) {
		uint64_t stalled_ns = export->group.volume[d].stalled_ns;
		if (!stalled_ns || stalled_ns >= since_ns)
			continue;
		worst = d;
		since_ns = stalled_ns;
	}
	(void)snprintf(text, cap, "disk %s: a write has been in flight for %llu s", export->nbd[worst].name,
		       (unsigned long long)((now_ns - min_u64(since_ns, now_ns)) / 1000000000u));
}

static void note_given_up(struct cut_call *c)
{
	uint64_t now_ns = clock_mono_ns();
	(void)atomic_fetch_add_explicit(&c->export->holds.given_up, 1, memory_order_relaxed);
	if (c->hold_begin_ns)
		note_hold(&c->export->holds, (now_ns - c->hold_begin_ns) / 1000);
	say_stalled(c->export, now_ns, c->stalled, sizeof(c->stalled));
}

static void on_cut_done(struct group_cut *cut, int res)
{
	struct cut_call *c = HOLDER(cut, struct cut_call, cut);
	bound_end(&c->export->hold);
	if (res == 0)
		note_hold(&c->export->holds, c->seen.hold_ns / 1000);
	else if (res == -EAGAIN)
		note_given_up(c);
	c->seen.dirty_bytes = cut->dirty_bytes;
	c->seen.blocks = cut->blocks;
	c->res = res;
	call_ended(&c->call);
}

static void run_cut(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct cut_call *c = HOLDER(call, struct cut_call, call);
	call->group->spill.bytes_max = c->spill_most;
	group_cut(call->group, &c->cut);
}

// State files and settings must find room beside it. By the cycle's thread: the directory may not answer.
static uint64_t spill_most(const struct export *export)
{
	struct statvfs fs;
	struct stat st;
	if (!export->spill.path || fstatvfs(export->spill.fd, &fs) || fstat(export->spill.fd, &st))
		return export->spill_most;
	return spill_bytes_most(export->spill_most, fs.f_blocks * fs.f_frsize, fs.f_bavail * fs.f_frsize, (uint64_t)st.st_blocks * 512,
				roll_count(export->roll));
}

static int failed_disk(struct export *export, int code, struct err *err)
{
	char text[ERR_TEXT_MAX] = "see its log";
	uint16_t d = 0;
	while (d + 1 < export->count && !atomic_load(&export->disk[d].errors.failed))
		d++;
	if (atomic_load(&export->disk[d].errors.failed))
		disk_errors_text(&export->disk[d].errors, text);
	return err_set(err, code,
		       "disk %s of %s failed, and its image can no longer be trusted: %.240s: shut its guest down, repair the storage (if it must be mounted anew, with the replicator "
		       "stopped), and `kagami clear-error %s %s`",
		       export->nbd[d].name, export->protection, text, export->protection, export->nbd[d].name);
}

static int op_cut(struct source *source, enum cut_mode mode, struct source_cut *ret_cut, struct err *err)
{
	struct export *export = export_of(source);
	struct cut_call c = {.export = export, .spill_most = spill_most(export), .cut = {.mode = mode, .hold = on_cut_hold, .take = on_cut_take, .done = on_cut_done}};
	call_init(&c.call, export, run_cut);
	if (!call_do(&c.call, export))
		return stopped(export, err);
	if (c.res == -EBUSY)
		return err_set(err, c.res, "a cut of %s is under way already", export->protection);
	if (c.res == -EAGAIN)
		return err_set(err, c.res,
			       "%s: no cut is taken until it ends, and the guest goes on; look at the storage under that disk",
			       c.stalled);
	if (c.res < 0)
		return failed_disk(export, c.res, err);
	*ret_cut = c.seen;
	return 0;
}

void export_cut_stats(struct export *export, struct export_cut_stats *ret_stats)
{
	struct export_holds *holds = &export->holds;
	*ret_stats = (struct export_cut_stats){.count = atomic_load_explicit(&holds->count, memory_order_relaxed),
					       .max_us = atomic_load_explicit(&holds->max_us, memory_order_relaxed),
					       .sum_us = atomic_load_explicit(&holds->sum_us, memory_order_relaxed),
					       .given_up = atomic_load_explicit(&holds->given_up, memory_order_relaxed)};
	ret_stats->overtaken = atomic_load(&export->overtaken.count);
	if (ret_stats->overtaken)
		overtaken_why(&export->overtaken, ret_stats->overtaken_why);
	for (unsigned i = 0; i < EXPORT_CUT_BUCKETS; i++)
		ret_stats->bucket[i] = atomic_load_explicit(&holds->bucket[i], memory_order_relaxed);
}

uint64_t export_cut_percentile(const struct export_cut_stats *stats, unsigned percent)
{
	uint64_t all = 0, seen = 0;
	for (unsigned i = 0; i < EXPORT_CUT_BUCKETS; i++)
		all += stats->bucket[i];
	for (unsigned i = 0; all && i < EXPORT_CUT_BUCKETS; i++) {
		seen += stats->bucket[i];
		if (seen * 100 >= all * percent)
			return min_u64(UINT64_C(1) << i, stats->max_us);
	}
	return 0;
}

// ---- batches

struct fetch_call {
	struct call call;
	struct fetch fetch;
	struct source_batch *batch;
};

static void on_fetched(struct fetch *fetch)
{
	call_ended(&HOLDER(fetch, struct fetch_call, fetch)->call);
}

static void run_fetch(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct fetch_call *f = HOLDER(call, struct fetch_call, call);
	group_fetch(call->group, &f->fetch, f->batch);
}

static int begin_fetch(struct source *source, struct source_batch *batch, bool look)
{
	struct export *export = export_of(source);
	struct fetch_call *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->batch = batch;
	batch->look = look;
	f->fetch.done = on_fetched;
	batch->count = 0;
	call_init(&f->call, export, run_fetch);
	if (!ring_post(&export->ring, &f->call.message)) {
		batch->status = -ESHUTDOWN;
		(void)sem_post(&f->call.ended);
	}
	batch->private = f;
	return 0;
}

static int op_fetch(struct source *source, struct source_batch *batch)
{
	return begin_fetch(source, batch, false);
}

static int op_look(struct source *source, struct source_batch *batch)
{
	return begin_fetch(source, batch, true);
}

static int op_wait(struct source *source, struct source_batch *batch, struct err *err)
{
	struct export *export = export_of(source);
	struct fetch_call *f = batch->private;
	call_wait(&f->call);
	batch->private = NULL;
	free(f);
	switch (batch->status) {
	case 0:
		return 0;
	case -ESTALE:
		return err_set(err, -ESTALE,
			       "the guest of %s overwrote more of the cut than may be preserved (or the file for it failed): the cut is given up, a later one is taken",
			       export->protection);
	case -ESHUTDOWN:
		return stopped(export, err);
	default:
		return err_set(err, -EIO, "an image of %s could not be read (see status): check the disk under it", export->protection);
	}
}

// ---- a set that is looked at first

enum { TURN_BLOCKS_MAX = 4096 }; // in one turn of the loop: guests wait for it

static int op_read(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data)
{
	struct export *export = export_of(source);
	uint64_t off = first * BLOCK_SIZE, room = (uint64_t)count * BLOCK_SIZE, len = min_u64(room, source->disk_size[disk] - off);
	memset((unsigned char *)data + len, 0, room - len);
	return image_read_now(&export->image[disk], off, len, data);
}

struct unreadable_call {
	struct call call;
	uint16_t disk;
	uint64_t off;
	int code;
};

static void run_unreadable(struct ring_message *message)
{
	struct call *call = call_of(message);
	const struct unreadable_call *u = HOLDER(call, struct unreadable_call, call);
	call->group->incomplete = true;
	group_error(call->group, &call->group->volume[u->disk], FAULT_COPY, u->off, u->code);
	call_ended(call);
}

static int op_unreadable(struct source *source, uint16_t disk, uint64_t first, int code, struct err *err)
{
	struct export *export = export_of(source);
	struct unreadable_call u = {.disk = disk, .off = first * BLOCK_SIZE, .code = code};
	call_init(&u.call, export, run_unreadable);
	if (!call_do(&u.call, export))
		return stopped(export, err);
	return err_set(err, -EIO, "an image of %s could not be read (see status): check the disk under it", export->protection);
}

struct reach_call {
	struct call call;
	uint64_t blocks, reached;
};

static void run_reach(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct reach_call *r = HOLDER(call, struct reach_call, call);
	r->reached = group_reach(call->group, r->blocks);
	call_ended(call);
}

static uint64_t op_reach(struct source *source, uint64_t blocks)
{
	struct export *export = export_of(source);
	uint64_t reached = 0, step = 0, asked = 0;
	for (; reached < blocks && step == asked; reached += step) {
		asked = min_u64(TURN_BLOCKS_MAX, blocks - reached);
		struct reach_call r = {.blocks = asked};
		call_init(&r.call, export, run_reach);
		(void)call_do(&r.call, export); // without a loop there is no set
		step = r.reached;
	}
	return reached;
}

struct settle_note { // nobody waits for it: what is asked of the loop later comes later
	struct ring_message message;
	struct group *group;
	uint16_t disk;
	uint64_t first, count;
	bool some; // of them are unequal
	unsigned char unequal[TURN_BLOCKS_MAX / 8];
};

static void run_settle(struct ring_message *message)
{
	struct settle_note *s = HOLDER(message, struct settle_note, message);
	group_settle(s->group, s->disk, s->first, s->count, s->some ? s->unequal : NULL);
	free(s);
}

static void op_settle(struct source *source, uint16_t disk, uint64_t first, uint64_t count, const unsigned char *unequal)
{
	struct export *export = export_of(source);
	for (uint64_t done = 0; done < count; done += TURN_BLOCKS_MAX) {
		struct settle_note *s = malloc(sizeof(*s));
		if (!s)
			return; // then they stay in the set, and are sent, or compared again
		s->message = (struct ring_message){.run = run_settle};
		s->group = &export->group;
		s->disk = disk;
		s->first = first + done;
		s->count = min_u64(TURN_BLOCKS_MAX, count - done);
		s->some = unequal != NULL;
		if (unequal)
			memcpy(s->unequal, unequal + done / 8, (s->count + 7) / 8);
		if (!ring_post(&export->ring, &s->message))
			free(s); // without a loop there is no set
	}
}

struct holes_call {
	struct call call;
	struct source_run *runs;
	unsigned most, count;
	bool all, settled, wait;
};
enum { HOLE_WAIT_US = 1000 };

static void run_holes(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct holes_call *h = HOLDER(call, struct holes_call, call);
	for (uint16_t d = 0; !h->settled && d < call->group->count; d++)
		call->group->volume[d].backend->hole = NULL;
	h->count = group_holes(call->group, h->runs, h->most, &h->all);
	h->wait = !h->all && call->group->hole_waits;
	call_ended(call);
}

static unsigned op_holes(struct source *source, struct source_run *runs, unsigned most, bool *ret_all)
{
	struct export *export = export_of(source);
	struct holes_call h = {.runs = runs, .most = most, .all = true, .settled = true};
	for (uint16_t d = 0; !export->images_settled && d < export->count; d++) {
		int failed = 0;
		h.settled &= image_settle(&export->image[d], &failed);
		export_unsynced(export, d, failed);
	}
	export->images_settled = true; // or nobody believes them any more
	call_init(&h.call, export, run_holes);
	(void)call_do(&h.call, export);
	if (h.wait)
		(void)usleep(HOLE_WAIT_US);
	*ret_all = h.all;
	return h.count;
}

// ---- the end of a cut

struct keep_call {
	struct call call;
	struct group_keep keep;
	int res;
};

static void on_kept(struct group_keep *keep, int res)
{
	struct keep_call *k = HOLDER(keep, struct keep_call, keep);
	k->res = res;
	call_ended(&k->call);
}

static void run_keep(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct export *export = HOLDER(call->group, struct export, group);
	uint64_t now_ns = clock_mono_ns();
	export->group.intent.resting = export->swept_ns && now_ns - export->swept_ns < export->sweep_rest_ms * UINT64_C(1000000);
	if (!export->group.intent.resting)
		export->swept_ns = now_ns;
	group_keep(call->group, &HOLDER(call, struct keep_call, call)->keep);
}

static int op_keep(struct source *source, struct err *err)
{
	struct export *export = export_of(source);
	struct keep_call k = {.keep = {.done = on_kept}};
	call_init(&k.call, export, run_keep);
	if (!call_do(&k.call, export))
		return stopped(export, err);
	if (k.res == -ESTALE)
		return err_set(err, k.res, "the cut of %s was given up: there is nothing to keep", export->protection);
	if (k.res < 0)
		return err_set(err, k.res,
			       "an image of %s could not be synced (see status): shut its guest down, repair the storage (if it must be mounted anew, with the replicator stopped), and "
			       "`kagami clear-error`",
			       export->protection);
	return 0;
}

static void run_give_back(struct ring_message *message)
{
	struct call *call = call_of(message);
	group_give_back(call->group);
	call_ended(call);
}

static void op_give_back(struct source *source)
{
	struct export *export = export_of(source);
	struct call call;
	call_init(&call, export, run_give_back);
	(void)call_do(&call, export); // a loop that has ended gave back what there was
}

static void run_mark_all(struct ring_message *message)
{
	struct call *call = call_of(message);
	group_mark_all(call->group);
	call_ended(call);
}

static void op_mark_all(struct source *source)
{
	struct export *export = export_of(source);
	struct call call;
	call_init(&call, export, run_mark_all);
	if (!call_do(&call, export)) {
		await_end(export);
		group_mark_all(&export->group);
	}
}

struct mark_call {
	struct call call;
	uint16_t disk;
	uint64_t off, len;
};

static void run_mark(struct ring_message *message)
{
	struct call *call = call_of(message);
	const struct mark_call *m = HOLDER(call, struct mark_call, call);
	group_mark(call->group, m->disk, m->off, m->len);
	call_ended(call);
}

static void op_mark(struct source *source, uint16_t disk, uint64_t off, uint64_t len)
{
	struct export *export = export_of(source);
	struct mark_call m = {.disk = disk, .off = off, .len = len};
	call_init(&m.call, export, run_mark);
	if (!call_do(&m.call, export)) {
		await_end(export);
		group_mark(&export->group, disk, off, len);
	}
}

// ---- a larger disk

struct grow_call {
	struct call call;
	struct export *export;
	uint16_t disk;
	uint64_t size;
	int res;
};

static int grow(struct export *export, uint16_t disk, uint64_t size)
{
	int code = group_grow(&export->group, disk, size);
	if (code)
		return code;
	image_grown(&export->image[disk], size);
	export->nbd[disk].size = size; // offered from here on: tracked already
	export->source.disk_size[disk] = size;
	atomic_store_explicit(&export->disk[disk].size, size, memory_order_relaxed);
	return 0;
}

static void run_grow(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct grow_call *g = HOLDER(call, struct grow_call, call);
	g->res = grow(g->export, g->disk, g->size);
	call_ended(call);
}

int export_grow_check(struct export *export, uint16_t disk, uint64_t new_size, struct err *err)
{
	uint64_t old = export_disk_size(export, disk);
	if (size_disk_ok(new_size) && new_size < old)
		return err_set(err, -EINVAL, "disk %s has %llu bytes and cannot become smaller: what is past the new end would be lost",
			       export->nbd[disk].name, (unsigned long long)old);
	if (!size_disk_ok(new_size) || new_size == old)
		return err_set(err, -EINVAL, "disk %s has %llu bytes: give a larger whole number of 512-byte sectors, at most 64 TiB",
			       export->nbd[disk].name, (unsigned long long)old);
	if (atomic_load(&export->disk[disk].errors.failed))
		return err_set(err, -EIO, "disk %s has failed, and cannot grow: shut its guest down, repair its storage, and give `kagami clear-error %s %s` first", export->nbd[disk].name,
			       export->protection, export->nbd[disk].name);
	if (export->nbd[disk].read_only && !export->image[disk].block_device) {
		struct image_identity identity;
		int code = export_identity(export, disk, &identity, err);
		if (code)
			return code;
		if (identity.size < new_size)
			return err_set(err, -EINVAL, "disk %s is read-only here, and its image has %llu bytes: whoever writes that image must extend it to %llu first (`truncate -s`); all of it is compared then",
				       export->nbd[disk].name, (unsigned long long)identity.size, (unsigned long long)new_size);
	}
	// Of a device it only asks for the size.
	return export->image[disk].block_device ? image_extend(&export->image[disk], new_size, NULL, err) : 0;
}

int export_grow(struct export *export, uint16_t disk, uint64_t new_size, struct err *err)
{
	const char *name = export->nbd[disk].name;
	int code = export_grow_check(export, disk, new_size, err);
	if (code)
		return code;
	int failed = 0;
	rest_hold(&export->image[disk].rest);
	code = image_extend(&export->image[disk], new_size, &failed, err);
	export_unsynced(export, disk, failed);
	rest_release(&export->image[disk].rest);
	if (code)
		return code;
	struct grow_call g = {.export = export, .disk = disk, .size = new_size};
	call_init(&g.call, export, run_grow);
	if (!call_do(&g.call, export)) { // no loop runs
		await_end(export);
		g.res = grow(export, disk, new_size);
	}
	if (g.res == -EBUSY)
		return err_set(err, -EBUSY, "disk %s cannot grow while a cycle runs: try again after it", name);
	return g.res ? err_sys(err, g.res, "make disk %s larger", name) : 0;
}

static uint64_t op_dirty_bytes(struct source *source)
{
	struct export *export = export_of(source);
	uint64_t bytes = 0;
	for (uint16_t d = 0; d < export->count; d++)
		bytes += atomic_load_explicit(&export->disk[d].dirty_bytes, memory_order_relaxed);
	return bytes;
}

static uint64_t op_served(struct source *source)
{
	return group_served(&export_of(source)->group);
}

const struct source_ops export_source_ops = {
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
	.audit_next = export_audit_next,
	.audit_read = export_audit_read,
	.audited = export_audited,
	.unproven = export_unproven,
};
