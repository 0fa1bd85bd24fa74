// SPDX-License-Identifier: Apache-2.0
// The audit of a protection's holes (audit.h): when its cycle thread reads them, what a false one leads to, and what is kept of it (audit_record.h).
//
// Between cycles, a step at a time: AUDIT_STEP_BLOCKS at most, then a rest, a longer one where the guest has used its disks since the step before; with what nobody
// else wants of the processors. A step ends early, with the unit under way, once it took AUDIT_STEP_MS_MAX: no cut waits longer for it. Where cycles follow each
// other without a pause, there is one step between two of them, a unit long. All protections together take no more than one of them alone.
//
// Not while a sync stands: what that finds is better known than what is read here, and its point is due first.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/when.h"
#include "link/events.h"
#include "replicator/priority.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNITS_AT_ONCE = 1 << 16, WAIT_AFTER_ERROR_MS = 10000 };

// ---- the record

static bool runs_have(const struct audit_runs *runs, unsigned *at, uint64_t region)
{
	while (*at < runs->count && runs->run[*at].first + runs->run[*at].count <= region)
		++*at;
	return *at < runs->count && runs->run[*at].first <= region;
}

// What is unproven now, and what `kept` names, if any.
static void gather(struct protection *p, uint16_t disk, const struct audit_runs *kept, unsigned char *units, struct audit_runs *ret_runs)
{
	uint64_t regions = size_regions(export_disk_size(p->export, disk));
	unsigned at = 0;
	for (uint64_t from = 0; from < regions; from += UNITS_AT_ONCE) {
		uint64_t count = min_u64(UNITS_AT_ONCE, regions - from);
		(void)source_unproven(p->source, disk, from, units, count);
		for (uint64_t i = 0; i < count; i++)
			if (units[i] || (kept && runs_have(kept, &at, from + i)))
				audit_runs_add(ret_runs, from + i);
	}
}

static uint64_t unproven_bytes(struct protection *p)
{
	uint64_t bytes = 0;
	for (uint16_t d = 0; d < p->config.disk_count; d++)
		bytes += source_unproven(p->source, d, 0, NULL, 0);
	return bytes;
}

static uint64_t kept_bytes(const struct protection *p)
{
	uint64_t bytes = 0;
	for (uint16_t d = 0; d < p->config.disk_count; d++)
		for (unsigned i = 0; i < p->audit.kept->disk[d].unproven.count; i++)
			bytes += p->audit.kept->disk[d].unproven.run[i].count * REGION_SIZE;
	return bytes;
}

static int save(struct protection *p, bool forget, struct err *err)
{
	struct audit *a = &p->audit;
	AUTO_FREE unsigned char *units = malloc(UNITS_AT_ONCE);
	AUTO_FREE struct audit_record *record = calloc(1, sizeof(*record));
	if (!units || !record)
		return err_sys(err, -ENOMEM, "note what is unproven");
	record->count = p->config.disk_count;
	for (uint16_t d = 0; d < record->count; d++) {
		struct audit_disk *disk = &record->disk[d];
		(void)snprintf(disk->name, sizeof(disk->name), "%s", p->config.disk[d].name);
		(void)snprintf(disk->why, sizeof(disk->why), "%s", a->why[d]);
		gather(p, d, forget ? NULL : &a->kept->disk[d].unproven, units, &disk->unproven);
	}
	STATE_SCOPE(p);
	int rc = audit_record_save(p->place.state, p->config.name, record, err);
	if (rc)
		return rc;
	a->kept->count = record->count;
	memcpy(a->kept->disk, record->disk, record->count * sizeof(record->disk[0])); // the rest takes no memory
	a->kept_bytes = kept_bytes(p);
	return 0;
}

static void written(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	p->audit.unsaved = false;
	p->audit.unsaved_why[0] = 0;
}

static void unwritten(struct protection *p, const char *why)
{
	char when[WHEN_SIZE];
	when_format(env_wall_ns(p->place.env), when);
	LOCK_SCOPE(&p->lock);
	p->audit.unsaved = true;
	if (*p->audit.unsaved_why) // since then
		return;
	(void)snprintf(p->audit.unsaved_why, ERR_TEXT_MAX, "%.*s (since %s)", ERR_TEXT_MAX - 64, why, when);
	log_warning("the record of unproven holes cannot be written: a crash before it is costs a comparison of all disks protection=%s: %s", p->config.name, why);
	event_emit(EVENT_WARNING, "tracking", p->config.name, NULL,
		   "the record of unproven holes of %s cannot be written, and is tried again with each point; a start before that compares all of its disks: %s", p->config.name, why);
}

// With more than the file has.
static bool save_more(struct protection *p)
{
	struct err err = {0};
	int rc = save(p, false, &err);
	if (rc)
		unwritten(p, err.text);
	else
		written(p);
	return rc == 0;
}

static bool save_less(struct protection *p)
{
	struct err err = {0};
	bool was = p->audit.unsaved;
	if (save(p, true, &err) == 0)
		written(p);
	else
		log_debug("protection=%s: %s", p->config.name, err.text);
	return was && !p->audit.unsaved;
}

void holes_sealing(struct protection *p, uint64_t hole_blocks)
{
	if (hole_blocks || p->audit.unsaved)
		(void)save_more(p);
}

bool holes_committed(struct protection *p)
{
	struct audit *a = &p->audit;
	a->compares = false;
	return (a->unsaved || (a->kept_bytes && unproven_bytes(p) <= a->kept_bytes - a->kept_bytes / 8)) && save_less(p);
}

bool holes_stopped(struct protection *p)
{
	return !p->audit.unsaved || save_more(p);
}

static const struct audit_disk *find_disk(const struct audit_record *record, const char *name)
{
	for (unsigned i = 0; i < record->count; i++)
		if (strcmp(record->disk[i].name, name) == 0)
			return &record->disk[i];
	return NULL;
}

// The first is what the file says. With an error nothing of the disk is known: it is compared as a whole, and no hole of it is believed.
static void take_disk(struct protection *p, uint16_t disk, const struct audit_disk *from, const struct err *unread)
{
	struct audit_disk *to = &p->audit.kept->disk[disk];
	if (from)
		*to = *from;
	if (unread->code) {
		dirty_mark_all(export_dirty(p->export, disk));
		(void)snprintf(to->why, sizeof(to->why), "%.*s", AUDIT_WHY_SIZE - 1, unread->text);
	}
	(void)snprintf(to->name, sizeof(to->name), "%s", p->config.disk[disk].name);
	(void)snprintf(p->audit.why[disk], AUDIT_WHY_SIZE, "%s", to->why);
}

// What a point may lack is known no better than after the loss of a state file (protection_tracking.h, T1). The record is replaced with the next SEAL.
static void record_lost(struct protection *p, const struct err *unread)
{
	log_warning("the record of unproven holes cannot be read: the disks are compared as a whole, and no hole is believed protection=%s: %s", p->config.name,
		    unread->text);
	if (!sync_reason_whole(p->sync)) // B5
		p->sync = SYNC_STATE_UNREADABLE;
	p->uncovered = p->audit.unsaved = true;
	tracking_position(p, p->sync);
	p->doubt.whole = p->config.disk_count < 64 ? (UINT64_C(1) << p->config.disk_count) - 1 : UINT64_MAX;
	for (uint16_t d = 0; d < p->config.disk_count; d++)
		images_stale(p, d); // as each disk that is compared
}

int holes_load(struct protection *p, bool is_new, struct err *err)
{
	AUTO_FREE struct audit_record *record = calloc(1, sizeof(*record));
	struct err unread = {0};
	p->audit.kept = calloc(1, sizeof(*p->audit.kept));
	if (!record || !p->audit.kept)
		return err_sys(err, -ENOMEM, "read what is unproven");
	if (!is_new && audit_record_load(p->place.state, p->config.name, record, &unread))
		record_lost(p, &unread);
	p->audit.kept->count = p->config.disk_count;
	for (uint16_t d = 0; d < p->config.disk_count; d++) {
		const struct audit_runs *runs = &p->audit.kept->disk[d].unproven;
		take_disk(p, d, find_disk(record, p->config.disk[d].name), &unread);
		if (p->audit.why[d][0])
			export_disbelieve(p->export, d);
		for (unsigned i = 0; i < runs->count; i++)
			if (export_carry(p->export, d, runs->run[i].first, runs->run[i].count))
				return err_sys(err, -ENOMEM, "note what is unproven");
	}
	p->audit.kept_bytes = kept_bytes(p);
	return 0;
}

// ---- what was found

static void false_hole(struct protection *p, const struct source_run *run, const struct source_audited *found)
{
	const char *disk = p->config.disk[run->disk].name;
	char when[WHEN_SIZE];
	when_format(env_wall_ns(p->place.env), when);
	p->uncovered = true; // the region has no mark: T1
	tracking_position(p, SYNC_FALSE_HOLE);
	dirt_forget(p);
	{
		LOCK_SCOPE(&p->lock);
		(void)snprintf(p->audit.why[run->disk], AUDIT_WHY_SIZE,
			       "its file system called a hole what is not zero, at byte %llu; points up to %llu hold zeros there (found %s)",
			       (unsigned long long)(found->first * BLOCK_SIZE), (unsigned long long)p->position.point, when);
		p->audit.found_here |= UINT64_C(1) << run->disk;
		p->sync = SYNC_FALSE_HOLE;
		p->again = true;
	}
	log_error("a false hole: the region is sent now, and no hole of this disk is believed any more protection=%s disk=%s byte=%llu blocks=%llu: %s", p->config.name, disk,
		  (unsigned long long)found->first * BLOCK_SIZE, (unsigned long long)found->false_blocks, p->audit.why[run->disk]);
	event_emit(EVENT_CRITICAL, "tracking", p->config.name,
		   json_pack("{s:s, s:o, s:o, s:o}", "disk", disk, "byte", json_integer((json_int_t)found->first * BLOCK_SIZE), "blocks",
			     json_integer((json_int_t)found->false_blocks), "point", json_integer((json_int_t)p->position.point)),
		   "disk %s of %s: %s; the region is sent now, and its holes are read from here on", disk, p->config.name, p->audit.why[run->disk]);
	(void)save_more(p);
}

// ---- reading

static int read_step(struct protection *p, struct source_run *run, unsigned char *unequal)
{
	AUTO_FREE unsigned char *room = malloc(BLOCK_SIZE);
	uint64_t begin_ns = protection_now_ns(p), done = 0;
	int rc = room ? 0 : -ENOMEM;
	while (rc == 0 && done < run->count) {
		rc = source_audit_read(p->source, run->disk, run->first + done, 1, room);
		if (rc == 0 && !bytes_zero(room, BLOCK_SIZE))
			unequal[done / 8] |= (unsigned char)(1u << done % 8);
		done++;
		if (done % AUDIT_UNIT_BLOCKS == 0 && protection_now_ns(p) - begin_ns > AUDIT_STEP_MS_MAX * MS_NS)
			break;
	}
	run->count = done;
	return rc;
}

static void say_unreadable(struct protection *p, const struct source_run *run, int code)
{
	if (!p->audit.unreadable)
		log_warning("a hole cannot be read, and stays unproven protection=%s disk=%s region=%llu: %s", p->config.name, p->config.disk[run->disk].name,
			    (unsigned long long)(run->first / BLOCKS_PER_REGION), strerror(-code));
	p->audit.unreadable = true;
}

static void say_carried(struct protection *p, const struct source_run *run)
{
	if (!p->audit.carried_said)
		log_info("what was unproven when this process began is not zero everywhere, and is compared with the next point protection=%s disk=%s region=%llu",
			 p->config.name, p->config.disk[run->disk].name, (unsigned long long)(run->first / BLOCKS_PER_REGION));
	p->audit.carried_said = true;
}

static uint64_t rest_ns(struct protection *p)
{
	uint64_t served = source_served(p->source);
	bool idle = served == p->audit.served;
	p->audit.served = served;
	return (idle ? AUDIT_REST_MS : AUDIT_REST_BUSY_MS) * MS_NS;
}

// A turn of this protection: turns of all protections together are AUDIT_REST_MS apart. It is asked for once there is something to read and the rest is over, so that
// nobody waits for another's rest; each has one at a time, so nobody is woken for another's, and one whose disk hangs in it holds nobody up.
static uint64_t turn_reserve(struct protection *p)
{
	_Atomic(uint64_t) *turns = p->place.audit_turn_ns;
	uint64_t now_ns = protection_now_ns(p), next_ns = turns ? atomic_load(turns) : 0, turn_ns;
	do
		turn_ns = max_u64(next_ns, now_ns);
	while (turns && !atomic_compare_exchange_weak(turns, &next_ns, turn_ns + AUDIT_REST_MS * MS_NS));
	return turn_ns;
}

// Whoever waits for a cut waits for a unit, with the share of processors that the cut has. False: nothing is unproven.
static bool step_do(struct protection *p, bool due, struct source_run *run, unsigned char *unequal, int *ret_code)
{
	if (!source_audit_next(p->source, due ? AUDIT_UNIT_BLOCKS : AUDIT_STEP_BLOCKS, run))
		return false;
	priority_copy(!due);
	*ret_code = read_step(p, run, unequal);
	priority_copy(false);
	return true;
}

uint64_t holes_turn(struct protection *p, bool due)
{
	struct audit *a = &p->audit;
	unsigned char unequal[AUDIT_STEP_BLOCKS / 8] = {0};
	struct source_audited found = {.false_blocks = 0};
	struct source_run run;
	if (p->sync != SYNC_NONE || (due && a->stepped))
		return UINT64_MAX;
	if (!a->turn && unproven_bytes(p) == 0)
		return UINT64_MAX;
	if (!a->turn && protection_now_ns(p) >= a->next_ns) {
		a->next_ns = turn_reserve(p);
		a->turn = true;
	}
	if (protection_now_ns(p) < a->next_ns)
		return a->next_ns;
	a->turn = false;
	a->stepped = true;
	int rc = 0;
	if (!step_do(p, due, &run, unequal, &rc))
		return UINT64_MAX;
	if (rc == 0 && run.count)
		source_audited(p->source, &run, unequal, &found);
	else if (rc)
		say_unreadable(p, &run, rc);
	if (found.other_blocks)
		say_carried(p, &run);
	a->compares |= found.other_blocks != 0;
	if (found.false_blocks)
		false_hole(p, &run, &found);
	a->next_ns = protection_now_ns(p) + (rc ? WAIT_AFTER_ERROR_MS * MS_NS : rest_ns(p));
	return a->next_ns;
}
