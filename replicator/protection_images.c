// SPDX-License-Identifier: Apache-2.0
// What the images of a protection are seen to be before each try of a cycle, and at a stop.
//
//	image      what follows
//	as large   the cycle goes on
//	short      none does, until it has its size again. What it held is gone, no point may say otherwise, and no dirty bit tells of it: all of its disk
//		   is compared. The other disks are not
//	disturbed  it was short, seen so by a read or before a write that gave it its size back; or it is not as it was when it was left alone, seen now, before a write that gave it times of
//		   our own, or at a stop: somebody else changed it. All of its disk is compared, and the cycle goes on
//	silent     it cannot be asked: none does either. That is an error of the disk and says nothing of its size: what is dirty stays as it is
//
// Who sees that an image was disturbed need not be the cycle thread, and that may have no try to make: a pause, a receiver that is down. Until this has it in the state files
//
//	a stop in order		asks once more, and saves a map of all of the disk
//	a kill			leaves a note that says it (rest.h, N4)
//	a crash of the host	finds all of the disk marked, but in the moment in which that is being written: the export sees to it (watch_disturbances())
//
// Of an image that was not left in order the page cache may show what no disk has: a sync of the process before may have failed, and the cache says at the next that all is well. What is compared
// must be what is on the disk, and a guest is best shown it from the start. So what is clean of such an image in the cache is dropped
//
//	before it is served	where nothing of it waits to be written. Else not: Linux writes that out first, which takes as long as the disk needs for it, and a guest that waits with
//				a time limit has its errors then
//	right behind that	otherwise, by the cycle thread, before it does anything else, whatever else it has to wait for
//	at a stop in order	where that comes first: the start behind it believes the cache
//
// To a guest the cache shows until then what it showed before.
//
// protection_tracking.h, T1, of a disk that is short: its map is to hold all of it, and its marks do not. So in this order: the state files name no cut; all of it is dirty, and its
// regions are asked to be marked; once they are, durably, the marks hold what the map holds, and the files name the cut again. A kill in between costs all
// disks, as long as nobody knows better; from then on that one, and what is marked of the others.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	DROP_STEP = 8 << 20,	// what of it waits to be written is waited for, and a stop waits, too
	DROP_WINDOW = 1 << 30,	// of which it is asked first whether there is anything
	DROP_TURN_MS = 100,
};

static void note_short(struct protection *p, unsigned disk, const char *why)
{
	LOCK_SCOPE(&p->lock);
	(void)snprintf(p->cut_short[disk], ERR_TEXT_MAX, "%s", why);
}

static void name_sync(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	if (!sync_reason_whole(p->sync)) // B5
		p->sync = SYNC_IMAGE_CHANGED;
}

static void begin_drop(struct protection *p, uint16_t disk)
{
	p->stale |= UINT64_C(1) << disk;
	p->drop[disk] = (struct images_drop){.at = 0};
	export_set_stale(p->export, disk, true);
}

static void end_drop(struct protection *p, uint16_t disk)
{
	p->stale &= ~(UINT64_C(1) << disk);
	export_set_stale(p->export, disk, false);
}

// Whose map holds all that it was found to have lost still does: what was shipped since is remembered, and nothing is kept before a point is committed.
static void image_lost(struct protection *p, unsigned disk)
{
	uint64_t bit = UINT64_C(1) << disk;
	if (p->lost_images & bit)
		return;
	p->lost_images |= bit;
	name_sync(p);
	p->unmarked |= bit;
	begin_drop(p, (uint16_t)disk); // of a device the cache has what is no more
	tracking_position(p, p->sync);
	export_mark_whole(p->export, (uint16_t)disk);
}

static void image_disturbed(struct protection *p, unsigned disk)
{
	if (!(p->lost_images >> disk & 1))
		log_warning("an image was changed by somebody else while it was served, and all of its disk is compared protection=%s disk=%s", p->config.name, p->config.disk[disk].name);
	image_lost(p, disk);
	if (tracking_stands(p, disk)) // else the note has it yet (rest.h, N4)
		export_disturbance_told(p->export, (uint16_t)disk);
}

void images_stopped(struct protection *p, uint16_t disk)
{
	export_look(p->export, disk);
	if (!export_was_disturbed(p->export, disk))
		return;
	dirty_mark_all(export_dirty(p->export, disk));
	name_sync(p);
}

static void look_at_marks(struct protection *p)
{
	uint64_t left = p->unmarked;
	for (unsigned i = 0; i < p->config.disk_count; i++)
		if (left >> i & 1 && export_marked_whole(p->export, (uint16_t)i))
			left &= ~(UINT64_C(1) << i);
	if (left == p->unmarked)
		return;
	p->unmarked = left;
	tracking_position(p, p->sync);
}

int images_look_at(struct protection *p, uint16_t disk, struct err *err)
{
	struct image_identity identity;
	struct err unknown = {0};
	uint64_t size = export_disk_size(p->export, disk);
	int rc = export_identity(p->export, disk, &identity, &unknown);
	if (rc) {
		export_unidentified(p->export, disk, rc);
		return err_set(err, -EIO, "the image of disk %s does not say what it is (%.300s): repair the storage under it, and restart the agent if that does not end it",
			       p->config.disk[disk].name, unknown.text);
	}
	if (identity.size >= size) {
		note_short(p, disk, "");
		export_look(p->export, disk);
		if (export_was_disturbed(p->export, disk))
			image_disturbed(p, disk);
		return 0;
	}
	rc = err_set(err, -EIO, "the image of disk %s was cut from %llu to %llu bytes while it is served: give it its size back, it is compared as a whole then",
		     p->config.disk[disk].name, (unsigned long long)size, (unsigned long long)identity.size);
	note_short(p, disk, err->text);
	image_lost(p, disk);
	return rc;
}

int images_look(struct protection *p, struct err *err)
{
	int worst = 0;
	if (p->unmarked)
		look_at_marks(p);
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		struct err why = {0};
		if (images_look_at(p, (uint16_t)i, &why) == 0 || worst)
			continue;
		worst = why.code;
		*err = why;
	}
	return worst;
}

void images_stale(struct protection *p, uint16_t disk)
{
	if (export_drops_at_once(p->export, disk)) {
		export_drop_cache(p->export, disk, 0, 0);
		return;
	}
	begin_drop(p, disk);
	log_info("the disk is served, and what waits to be written of it, or may, is written before anything of it is compared protection=%s disk=%s", p->config.name,
		 p->config.disk[disk].name);
}

// Twice: what somebody used the first time is dropped the second, when little waits any more.
static void drop_step(struct protection *p, uint16_t disk)
{
	struct images_drop *drop = &p->drop[disk];
	if (drop->at % DROP_WINDOW == 0 && !export_cached(p->export, disk, drop->at, DROP_WINDOW)) {
		drop->at += DROP_WINDOW;
	} else {
		uint64_t len = drop->again ? DROP_WINDOW : DROP_STEP;
		export_drop_cache(p->export, disk, drop->at, len);
		drop->at += len;
	}
	if (drop->at < export_disk_size(p->export, disk))
		return;
	if (drop->again)
		end_drop(p, disk);
	else
		*drop = (struct images_drop){.again = true};
}

void images_drop(struct protection *p)
{
	uint64_t until_ns = protection_now_ns(p) + DROP_TURN_MS * MS_NS;
	for (uint16_t d = 0; d < p->config.disk_count; d++)
		while (p->stale >> d & 1 && protection_now_ns(p) < until_ns)
			drop_step(p, d);
}

static bool cycle_ends(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	return p->stop || p->paused || p->held;
}

int images_fresh(struct protection *p, struct err *err)
{
	while (p->stale) {
		if (cycle_ends(p))
			return err_set(err, -ECANCELED, "it was to end before the images were read");
		images_drop(p);
	}
	return 0;
}

void images_fresh_at_end(struct protection *p, uint16_t disk)
{
	if (!(p->stale >> disk & 1))
		return;
	export_drop_cache(p->export, disk, 0, 0);
	end_drop(p, disk);
}

void images_committed(struct protection *p)
{
	p->lost_images = 0;
	p->unmarked = 0;
}
