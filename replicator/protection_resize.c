// SPDX-License-Identifier: Apache-2.0
// A disk is made larger while it is served.
//
//	caller: asks ──► cycle thread, between cycles: state file (B6) ──► image and export ──► state file: it has grown ──► session ends ──► done; the caller looks now and then
//
// A caller holds no lock meanwhile: the state directory or the image may not answer, and everybody else goes on.
// The state file goes first: its marks hold all of the new range before the image can differ there. The session ends, because its OPEN
// named the old size; the next one names the new size, and the receiver's replica grows then. What fails leaves all as it
// was, and the same can be asked for again.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum {
	TAKE_WAIT_S = 5, // for the cycle thread to come free
	END_WAIT_S = 15, // for what it does then
};

// ---- the cycle thread

static int resize_do(struct protection *p, const struct resize *resize, bool settled, struct err *err)
{
	if (!settled)
		return err_set(err, -EBUSY, "it is not known yet whether the last cut became a point: try again when the receiver is connected");
	uint64_t old_size = export_disk_size(p->export, resize->disk);
	int rc = images_look_at(p, resize->disk, err); // one that was cut short would be given more than its size back, and nobody know
	if (rc == 0)
		rc = export_grow_check(p->export, resize->disk, resize->size, err);
	if (rc == 0)
		rc = tracking_grow(p, resize->disk, resize->size, err);
	if (rc)
		return rc;
	rc = export_grow(p->export, resize->disk, resize->size, err);
	if (rc)
		tracking_ungrow(p, resize->disk, old_size);
	else
		tracking_grown(p, resize->disk);
	return rc;
}

bool resize_serve(struct protection *p)
{
	struct resize resize;
	bool settled;
	{
		LOCK_SCOPE(&p->lock);
		resize = p->resize;
		settled = p->settled;
		if (!resize.asked)
			return false;
		p->resize.asked = false;
		p->resize.taken = true; // from here on it cannot be taken back
		p->resize.since_ns = protection_now_ns(p);
	}
	struct err err = {0};
	int rc = resize_do(p, &resize, settled, &err);
	if (rc == 0) {
		log_info("disk has grown protection=%s disk=%s size=%llu", p->config.name, p->config.disk[resize.disk].name, (unsigned long long)resize.size);
		event_emit(EVENT_INFO, "settings", p->config.name, NULL, "disk %s of %s has grown to %llu bytes", p->config.disk[resize.disk].name, p->config.name,
			   (unsigned long long)resize.size);
	}
	LOCK_SCOPE(&p->lock);
	p->hurry = p->hurry || rc == 0; // the session that follows need not wait
	err.code = rc;
	p->resize.taken = false;
	p->resized[resize.ticket % RESIZES_KEPT] = (struct resize_ended){.ticket = resize.ticket, .err = err};
	return rc == 0;
}

// ---- the caller

int protection_disk_find(const struct protection *p, const char *name, uint16_t *ret_disk, struct err *err)
{
	for (uint16_t i = 0; i < p->config.disk_count; i++)
		if (strcmp(p->config.disk[i].name, name) == 0) {
			*ret_disk = i;
			return 0;
		}
	return err_set(err, -ENOENT, "%s has no disk \"%s\": `kagami status %s` lists them", p->config.name, name, p->config.name);
}

static int took_too_long(struct protection *p, struct err *err)
{
	const char *name = p->config.name;
	if (p->resize.taken)
		return err_set(err, -EBUSY,
			       "disk %s of %s has been growing for %d s: the state directory or the image does not answer; look at the storage under them. It goes on "
			       "by itself: `kagami status %s` shows the size",
			       p->config.disk[p->resize.disk].name, name, END_WAIT_S, name);
	p->resize.asked = false; // nothing grows later behind the operator's back
	return err_set(err, -EBUSY,
		       "%s is in the middle of a cycle, or is connecting: try again after it, or `kagami pause %s` first (a cycle that is cut off goes on by "
		       "digests)",
		       name, name);
}

int protection_resize_end(struct protection *p, uint64_t ticket, struct err *err)
{
	LOCK_SCOPE(&p->lock);
	const struct resize *resize = &p->resize;
	const struct resize_ended *ended = &p->resized[ticket % RESIZES_KEPT];
	if (ended->ticket == ticket)
		return ended->err.code ? err_set(err, ended->err.code, "%s", ended->err.text) : 0;
	if (resize->ticket != ticket)
		return err_set(err, -EBUSY, "%s was asked for another size since: `kagami status %s` shows the size", p->config.name, p->config.name);
	uint64_t most_ns = (resize->taken ? END_WAIT_S : TAKE_WAIT_S) * UINT64_C(1000000000);
	return protection_now_ns(p) - resize->since_ns < most_ns ? -EINPROGRESS : took_too_long(p, err);
}

static int under_way(const struct protection *p, struct err *err)
{
	return err_set(err, -EBUSY, "disk %s of %s is growing to %" PRIu64 " bytes: try again when `kagami status %s` shows that size",
		       p->config.disk[p->resize.disk].name, p->config.name, p->resize.size, p->config.name);
}

int protection_resize(struct protection *p, const char *disk_name, uint64_t size, bool dry_run, uint64_t *ret_old_size, uint64_t *ret_ticket,
		      struct err *err)
{
	static _Atomic uint64_t tickets;
	struct resize resize = {.size = size, .asked = true};
	int rc = protection_disk_find(p, disk_name, &resize.disk, err);
	if (rc)
		return rc;
	uint64_t old_size = export_disk_size(p->export, resize.disk);
	rc = export_grow_check(p->export, resize.disk, size, err);
	if (rc)
		return rc;
	*ret_old_size = old_size;
	*ret_ticket = 0;
	if (dry_run)
		return 0;
	LOCK_SCOPE(&p->lock);
	if (p->fenced)
		return protection_fenced(p, err);
	if (p->resize.asked || p->resize.taken)
		return under_way(p, err);
	resize.since_ns = protection_now_ns(p);
	resize.ticket = *ret_ticket = ++tickets;
	p->resize = resize;
	protection_wake(p);
	return 0;
}
