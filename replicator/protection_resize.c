// SPDX-License-Identifier: Apache-2.0
// A disk is made larger while it is served.
//
//	caller: asks, waits ──► cycle thread, between cycles: state file (B6) ──► image and export ──► session ends ──► answers
//
// The state file goes first: its marks hold all of the new range before the image can differ there. The session ends, because its OPEN
// named the old size; the next one names the new size, and the receiver's replica grows then. What fails leaves all as it
// was, and the same can
// be asked for again.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { TAKE_WAIT_S = 5 }; // for the cycle thread to come free; other requests wait as long

void resize_init(struct protection *p)
{
	pthread_condattr_t monotonic;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->resized, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
}

void resize_done(struct protection *p)
{
	(void)pthread_cond_destroy(&p->resized);
}

// ---- the cycle thread

static int resize_do(struct protection *p, const struct resize *resize, bool settled, struct err *err)
{
	if (!settled)
		return err_set(err, -EBUSY, "it is not known yet whether the last cut became a point: try again when the receiver is connected");
	uint64_t old_size = export_disk_size(p->export, resize->disk);
	int rc = export_grow_check(p->export, resize->disk, resize->size, err);
	if (rc == 0)
		rc = tracking_grow(p, resize->disk, resize->size, err);
	if (rc)
		return rc;
	rc = export_grow(p->export, resize->disk, resize->size, err);
	if (rc)
		tracking_ungrow(p, resize->disk, old_size);
	return rc;
}

bool resize_serve(struct protection *p)
{
	struct resize resize;
	bool settled;
	{
		LOCK_SCOPE(&p->lock);
		resize = p->resize;
		p->resize.asked = false; // taken: from here on its caller waits for the end
		settled = p->settled;
	}
	if (!resize.asked)
		return false;
	struct err err = {0};
	int rc = resize_do(p, &resize, settled, &err);
	if (rc == 0) {
		log_info("disk has grown protection=%s disk=%s size=%llu", p->config.name, p->config.disk[resize.disk].name, (unsigned long long)resize.size);
		event_emit(EVENT_INFO, "settings", p->config.name, NULL, "disk %s of %s has grown to %llu bytes", p->config.disk[resize.disk].name, p->config.name,
			   (unsigned long long)resize.size);
	}
	LOCK_SCOPE(&p->lock);
	p->hurry = p->hurry || rc == 0; // the session that follows need not wait
	p->resize.err = err;
	p->resize.err.code = rc;
	p->resize.done = true;
	(void)pthread_cond_broadcast(&p->resized);
	return rc == 0;
}

// ---- the caller

static int disk_find(const struct protection *p, const char *name, uint16_t *ret_disk, struct err *err)
{
	for (uint16_t i = 0; i < p->config.disk_count; i++)
		if (strcmp(p->config.disk[i].name, name) == 0) {
			*ret_disk = i;
			return 0;
		}
	return err_set(err, -ENOENT, "%s has no disk \"%s\": `kagami status %s` lists them", p->config.name, name, p->config.name);
}

// With the lock held. -EBUSY when the cycle thread did not come free in time.
static int wait_done(struct protection *p, struct err *err)
{
	struct timespec until = clock_mono_after(TAKE_WAIT_S * UINT64_C(1000000000));
	while (!p->resize.done) {
		bool waiting = p->resize.asked;
		int late = waiting ? pthread_cond_timedwait(&p->resized, &p->lock, &until) : pthread_cond_wait(&p->resized, &p->lock);
		if (late == ETIMEDOUT && p->resize.asked) {
			p->resize.asked = false;
			return err_set(err, -EBUSY,
				       "%s is in the middle of a cycle, or is connecting: try again after it, or `kagami pause %s` first (a cycle that "
				       "is cut off goes on by digests)",
				       p->config.name, p->config.name);
		}
	}
	return p->resize.err.code ? err_set(err, p->resize.err.code, "%s", p->resize.err.text) : 0;
}

int protection_resize(struct protection *p, const char *disk_name, uint64_t size, bool dry_run, uint64_t *ret_old_size, struct err *err)
{
	struct resize resize = {.size = size, .asked = true};
	int rc = disk_find(p, disk_name, &resize.disk, err);
	if (rc)
		return rc;
	uint64_t old_size = export_disk_size(p->export, resize.disk);
	rc = export_grow_check(p->export, resize.disk, size, err);
	if (rc)
		return rc;
	*ret_old_size = old_size;
	if (dry_run)
		return 0;
	LOCK_SCOPE(&p->lock);
	if (p->fenced)
		return err_set(err, -EBUSY, "%s was failed over at the receiver: its disks here are not replicated any more", p->config.name);
	p->resize = resize;
	protection_wake(p);
	return wait_done(p, err);
}
