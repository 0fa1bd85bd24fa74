// SPDX-License-Identifier: Apache-2.0
// A point whose point.json and copy are both damaged, or that has no copy. docs/store.md, "A point of which nobody knows what it is".
//
// What it promises: what is written in their place is what the files beside it say, when these agree: the overlay of each disk opens, all of them name one point
// below, each list's sectors all check, and it names exactly the blocks of its overlay. These blocks are in quarantine before, durably, since the root that
// would have proven the list is lost: a pass over every point proves them again, or a source sends them.
#include "receiver/overlays.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/copies.h"
#include "receiver/list_walk.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct listed {
	struct list_walk walk;
	struct damage_set set;
	struct damage run; // that grows; count 0: none
};

static int entry_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct listed *l = context;
	int rc = list_walk_entry(&l->walk, index, digest, err);
	if (rc)
		return rc;
	if (l->run.count && index == l->run.first + l->run.count) {
		l->run.count++;
	} else {
		if (l->run.count)
			damage_add(&l->set, &l->run);
		l->run.first = index;
		l->run.count = 1;
	}
	return 0;
}

// What the overlay stands on, which is what every other one does: a point, or the base for the oldest, and for the one above it while a fold is cut off.
static int predecessor_take(const struct manifest *m, const struct qcow2_reader *overlay, const char *disk, struct point_file *point, struct err *err)
{
	const char *backing = qcow2_reader_backing(overlay);
	bool raw = qcow2_reader_backing_format(overlay) == QCOW2_BACKING_RAW;
	char wanted[REPLICA_PATH_SIZE];
	unsigned long long number = 0;
	if (raw) {
		(void)snprintf(wanted, sizeof(wanted), "../../base/%s.raw", disk);
		number = m->at == 1 ? m->number[0] : 0;
	} else {
		number = sscanf(backing, "../%18llu/", &number) == 1 ? number : 0;
		(void)snprintf(wanted, sizeof(wanted), "../%llu/%s.qcow2", number, disk);
	}
	if (strcmp(backing, wanted) != 0 || (raw && m->at > 1) || number >= point->info.number)
		return err_set(err, -EBADMSG, "backing file: not a point below it");
	if (point->predecessor != UINT64_MAX && point->predecessor != number)
		return err_set(err, -EBADMSG, "backing file: not that of the other disks");
	point->predecessor = number;
	return 0;
}

static int disk_take(const struct manifest *m, unsigned disk, struct point_file *point, struct listed *l, struct err *err)
{
	struct replica *r = m->replica;
	AUTO_FILE struct env_file *file = NULL;
	AUTO_FILE struct env_file *list = NULL;
	AUTO_READER struct qcow2_reader *overlay = NULL;
	struct point_disk *pd = &point->disk[disk];
	const char *name = r->prot.disk[disk].name;
	unsigned long long number = point->info.number;
	int rc = replica_open_file(r, ENV_READ, &file, err, "points/%llu/%s.qcow2", number, name);
	if (rc == 0 && (rc = env_size(file, &pd->stored_bytes)))
		rc = err_sys(err, rc, "size");
	if (rc == 0)
		rc = qcow2_reader_open(file, &overlay, err);
	if (rc == 0)
		rc = predecessor_take(m, overlay, name, point, err);
	if (rc)
		return err_wrap(err, "%s/points/%llu/%s.qcow2", r->name, number, name);
	pd->size = qcow2_reader_size(overlay);
	const struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)disk, .size = pd->size};
	rc = list_walk_begin(&l->walk, overlay, err);
	if (rc == 0)
		rc = replica_open_file(r, ENV_READ, &list, err, "points/%llu/%s.digests", number, name);
	if (rc == 0)
		rc = digest_list_survey(list, &of, entry_take, l, &pd->digests, pd->root, err);
	if (rc == 0)
		rc = list_walk_end(&l->walk, err);
	if (l->run.count)
		damage_add(&l->set, &l->run);
	point->info.stored_bytes += pd->stored_bytes;
	return rc ? err_wrap(err, "%s/points/%llu/%s.digests", r->name, number, name) : 0;
}

// When its files came to be, which the commit ended with: the earliest, as a fold writes to the overlay of the point that it makes the oldest. 0: nobody knows.
static int64_t files_ns(const struct manifest *m)
{
	static const char *const kinds[] = {"qcow2", "digests"};
	int64_t earliest = 0;
	for (unsigned i = 0; i < 2 * m->replica->prot.disk_count; i++) {
		char path[REPLICA_PATH_SIZE];
		struct env_stat st;
		replica_file(m->replica, path, "points/%llu/%s.%s", (unsigned long long)m->number[m->at], m->replica->prot.disk[i / 2].name, kinds[i % 2]);
		if (env_stat(m->replica->root, path, &st) == 0 && st.changed_ns > 0 && (earliest == 0 || st.changed_ns < earliest))
			earliest = st.changed_ns;
	}
	return earliest;
}

// With nothing below it that tells: when its files came to be, or now, but not after the point above.
static void oldest_times_take(const struct manifest *m, struct point_info *info)
{
	AUTO_FREE struct point_file *above = malloc(sizeof(*above));
	int64_t files = files_ns(m), now = env_wall_ns(m->replica->root->env);
	info->commit_wall_ns = files && files < now ? files : now;
	if (above && m->at + 1 < m->count && replica_read_point(m->replica, m->number[m->at + 1], above, NULL) == 0 && above->info.cut_wall_ns < info->commit_wall_ns)
		info->commit_wall_ns = above->info.cut_wall_ns;
	info->cut_wall_ns = info->commit_wall_ns;
}

// When it was cut, and what the source calls that: known while the receiver runs. Else its times are those of the point below, which makes it no newer than it is,
// and no source knows its cut.
static int times_take(const struct manifest *m, struct point_file *point, struct err *err)
{
	struct replica *r = m->replica;
	const struct point_info *known = replica_point(r, point->info.number);
	if (known) {
		point->info = *known;
		point->info.stored_bytes = 0;
		return 0;
	}
	AUTO_FREE struct point_file *below = malloc(sizeof(*below));
	point->info.consistency = POINT_CRASH;
	if (below && m->at > 0 && replica_read_point(r, m->number[m->at - 1], below, NULL) == 0) {
		point->info.cut_wall_ns = below->info.cut_wall_ns;
		point->info.commit_wall_ns = below->info.commit_wall_ns;
	} else {
		oldest_times_take(m, &point->info);
	}
	int rc = uuid_new(r->root->env, &point->info.cut);
	return rc ? err_sys(err, rc, "%s: random", r->name) : 0;
}

static int manifest_write(const struct manifest *m, const struct point_file *point, struct err *err)
{
	struct replica *r = m->replica;
	AUTO_FREE char *text = NULL;
	char dir[REPLICA_PATH_SIZE], path[REPLICA_PATH_SIZE];
	size_t len = 0;
	bool changed = false;
	replica_file(r, dir, "points/%llu", (unsigned long long)point->info.number);
	replica_file(r, path, "points/%llu/point.json", (unsigned long long)point->info.number);
	int rc = point_encode(point, &r->prot, &text, &len);
	if (rc == 0)
		rc = copies_aside(r->root, path);
	if (rc == 0)
		rc = copies_replace(r->root, dir, path, text, len, &changed);
	return rc && !changed ? err_sys(err, rc, "%s: replace", path) : 0; // the copy comes later
}

int manifest_mend(const struct manifest *m, const struct err *why, struct err *err)
{
	struct replica *r = m->replica;
	AUTO_FREE struct point_file *point = calloc(1, sizeof(*point));
	AUTO_FREE struct listed *listed = calloc(DISKS_MAX, sizeof(*listed));
	if (!point || !listed)
		return err_set(err, -ENOMEM, "out of memory");
	point->info.number = m->number[m->at];
	point->predecessor = UINT64_MAX;
	int rc = times_take(m, point, err);
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++) {
		listed[i].run = (struct damage){.disk = (uint16_t)i, .from = point->info.number, .to = DAMAGE_OPEN};
		rc = disk_take(m, i, point, &listed[i], err);
	}
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = scrub_claim_locked(r, i, point->info.number, &listed[i].set, why, err);
	if (rc == 0)
		rc = manifest_write(m, point, err);
	if (rc)
		return rc;
	log_error("point.json and its copy were damaged, and are written anew from the files beside them protection=%s point=%llu reason=\"%s\"", r->name,
		  (unsigned long long)point->info.number, why->text);
	event_emit(EVENT_CRITICAL, "damage", r->name, NULL,
		   "what point %llu of %s is was lost, and is written anew from the files beside it: what it changed is in quarantine until a scrub has proven it", (unsigned long long)point->info.number,
		   r->name);
	return 0;
}
