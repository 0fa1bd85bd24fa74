// SPDX-License-Identifier: Apache-2.0
// A disk that failed for good (V3 of volume.h), over the agent's end and up to its operator's word.
//
//	error ──► latched, noted (failed_note.h), and only then told ──► … a start: latched from the note ──► its guest is shut down, its storage repaired,
//	export_clear_error(): the note goes, and what was marked is dirty
//
// An agent holds its image: a file system that was shut down cannot be mounted anew under it, and a device that came back as another one is not the one that it has open. Then it is
// the next agent, started on the repaired storage and latched from the note, to which that is said.
//
// What is lost is in marked regions (B4): no mark of a disk that failed is given up. So these are what the replica may be ahead in.
#include "replicator/export_loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "link/events.h"
#include "replicator/export_call.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

// The number of a block device may be another when its storage is back, and so may that of a file system be.
static struct failed_note_of note_of(const struct export *export, uint16_t disk)
{
	const struct image *image = &export->image[disk];
	return (struct failed_note_of){
		.protection = export->uuid, .inode = image->file.block_device ? 0 : image->file.inode, .born_ns = image->file.block_device ? 0 : image->born_ns};
}

void export_note_failed(struct export *export, uint16_t disk, const char *why)
{
	struct err err;
	struct failed_note_of of = note_of(export, disk);
	if (export->run_dir && failed_note_write(export->run_dir, export->protection, export->nbd[disk].name, &of, why, &err))
		log_error("a disk failed, and the next start of the agent will not know it: shut its guest down first protection=%s disk=%s error=\"%s\"", export->protection,
			  export->nbd[disk].name, err.text);
}

static void tell_before(const struct export *export, uint16_t disk)
{
	char why[ERR_TEXT_MAX];
	const char *name = export->nbd[disk].name;
	disk_errors_text(&export->disk[disk].errors, why);
	log_error("an image failed before this start protection=%s disk=%s error=\"%s\"", export->protection, name, why);
	event_emit(EVENT_CRITICAL, "state", export->protection, NULL,
		   "disk %s of %s failed before this start, and no flush of it is promised until its guest is shut down, its storage repaired (if it must be mounted anew, with the replicator "
		   "stopped), and `kagami clear-error` given: %s",
		   name, export->protection, why);
}

static int load(struct export *export, uint16_t disk, struct err *err)
{
	bool failed;
	struct failed_note_of of = note_of(export, disk);
	char why[ERR_TEXT_MAX];
	const char *name = export->nbd[disk].name;
	int code = failed_note_read(export->run_dir, export->protection, name, &of, &failed, why, err);
	if (code || !failed)
		return code;
	if (!why[0])
		(void)strcpy(why, "an error before this start");
	export->group.volume[disk].failed = -EIO;
	disk_errors_restore(&export->disk[disk].errors, why);
	export->disk[disk].failed_before = true;
	return 0;
}

int export_load_failed(struct export *export, struct err *err)
{
	int code = 0;
	for (uint16_t d = 0; export->run_dir && d < export->count && code == 0; d++)
		code = load(export, d, err);
	return code;
}

void export_tell_failed(struct export *export)
{
	for (uint16_t d = 0; d < export->count; d++)
		if (export->disk[d].failed_before)
			tell_before(export, d);
}

// ---- a sync beside the guest's

struct unsynced_call {
	struct call call;
	uint16_t disk;
	int code;
};

static void run_unsynced(struct ring_message *message)
{
	struct call *call = call_of(message);
	const struct unsynced_call *u = HOLDER(call, struct unsynced_call, call);
	volume_unsynced(&call->group->volume[u->disk], u->code);
	call_ended(call);
}

void export_unsynced(struct export *export, uint16_t disk, int code)
{
	struct unsynced_call u = {.disk = disk, .code = code};
	if (!code)
		return;
	call_init(&u.call, export, run_unsynced);
	if (!call_do(&u.call, export)) {
		await_end(export);
		volume_unsynced(&export->group.volume[disk], code);
	}
}

// ---- its end

struct clear_call {
	struct call call;
	struct export *export;
	uint16_t disk;
	int res;
	struct err *err;
};

static int check_guest(const struct export *export, uint16_t disk, struct err *err)
{
	unsigned clients = atomic_load_explicit(&export->attached[disk], memory_order_relaxed);
	return clients ? err_set(err, -EBUSY, "disk %s of %s has failed and has %u connection%s, and what its guest wrote may be lost: shut the guest down first",
				 export->nbd[disk].name, export->protection, clients, clients > 1 ? "s" : "")
		       : 0;
}

static int check_clear(const struct export *export, uint16_t disk, struct err *err)
{
	if (!atomic_load(&export->disk[disk].errors.failed))
		return err_set(err, -EINVAL, "disk %s of %s has not failed: there is nothing to clear", export->nbd[disk].name, export->protection);
	return check_guest(export, disk, err);
}

int export_end_check(const struct export *export, struct err *err)
{
	int code = 0;
	for (uint16_t d = 0; code == 0 && d < export->count; d++)
		if (atomic_load(&export->disk[d].errors.failed))
			code = check_guest(export, d, err);
	return code;
}

// The loop's: no error is noted between the note's end and that of the latch, and nobody connects.
static void run_clear(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct clear_call *c = HOLDER(call, struct clear_call, call);
	struct export *export = c->export;
	c->res = check_clear(export, c->disk, c->err);
	if (c->res == 0 && export->run_dir)
		c->res = failed_note_remove(export->run_dir, export->protection, export->nbd[c->disk].name, c->err);
	if (c->res == 0) {
		group_trust(&export->group, c->disk);
		disk_errors_clear(&export->disk[c->disk].errors);
	}
	call_ended(call);
}

int export_clear_error(struct export *export, uint16_t disk, bool dry_run, struct err *err)
{
	assert(disk < export->count);
	int code = check_clear(export, disk, err);
	if (code || dry_run)
		return code;
	code = image_renew(&export->image[disk], err);
	if (code)
		return err_wrap(err, "disk %s of %s still fails: repair the storage under it, and try again; if its file system must be mounted anew, or the device came back as another one: stop the "
				"replicator, repair, start it, then `kagami clear-error %s %s`",
				export->nbd[disk].name, export->protection, export->protection, export->nbd[disk].name);
	struct clear_call c = {.export = export, .disk = disk, .err = err};
	call_init(&c.call, export, run_clear);
	if (!call_do(&c.call, export))
		return err_set(err, -ESHUTDOWN, "the disks of %s are not served", export->protection);
	return c.res;
}
