// SPDX-License-Identifier: Apache-2.0
// A disk that failed for good is served anew: its operator says that its guest is shut down and its storage repaired (export_failed.c).
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"

#include <string.h>

int protection_end_check(const struct protection *p, struct err *err)
{
	return export_end_check(p->export, err);
}

int protection_clear_error(struct protection *p, const char *disk_name, bool dry_run, char error[ERR_TEXT_MAX], struct err *err)
{
	struct export_stats stats;
	uint16_t disk;
	int rc = protection_disk_find(p, disk_name, &disk, err);
	if (rc)
		return rc;
	export_stats(p->export, disk, &stats);
	rc = export_clear_error(p->export, disk, dry_run, err);
	if (rc)
		return rc;
	memcpy(error, stats.error, ERR_TEXT_MAX);
	if (dry_run)
		return 0;
	log_info("the failure of a disk was cleared protection=%s disk=%s error=\"%s\"", p->config.name, disk_name, error);
	event_emit(EVENT_INFO, "state", p->config.name, NULL, "the failure of disk %s of %s was cleared, and flushes of it are promised again: %s", disk_name, p->config.name, error);
	LOCK_SCOPE(&p->lock);
	p->hurry = true;
	protection_wake(p);
	return 0;
}
