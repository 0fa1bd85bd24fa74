// SPDX-License-Identifier: Apache-2.0
// An empty overlay in the place of one that cannot be made good. What it promises: what that held is in quarantine, durably, before; it is kept beside; and
// nothing is put in the place of a file that somebody's disk stands on, or may. docs/store.md, "Overlays that cannot be opened".
#include "receiver/overlay_mend.h"

#include "link/events.h"
#include "receiver/copies.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <string.h>

// Who reads through the file as it is would get something else from then on, and nobody would tell a virtual machine.
static bool stands_on(const struct replica *r, uint64_t number)
{
	char path[REPLICA_PATH_SIZE], **names = NULL;
	size_t count = 0;
	bool any = r->prot.fenced && r->prot.fenced_point >= number;
	for (size_t i = 0; i < r->point_count; i++)
		any = any || (r->points[i].number >= number && r->points[i].holds);
	any = any || r->held_count;
	replica_file(r, path, "tests");
	int rc = any ? 0 : env_list(r->root, path, &names, &count);
	if (any || rc)
		return any || rc != -ENOENT;
	for (size_t i = 0; i < count; i++) // at start nobody holds for them yet; a mount's overlay goes by itself
		any = any || (names[i][0] != '.' && strncmp(names[i], "mount-", 6) != 0);
	env_list_free(names, count);
	return any;
}

// Whether that can be told at all. What cannot be listed may be in a while.
static int tests_known(const struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE], **names = NULL;
	size_t count = 0;
	replica_file(r, path, "tests");
	int rc = env_list(r->root, path, &names, &count);
	env_list_free(names, count);
	return rc == -ENOENT ? 0 : rc ? err_sys(err, rc, "list %s", path) : 0;
}

static int empty_write(const struct mend *m, const char *path, uint64_t *ret_bytes, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	struct qcow2_writer *writer = NULL;
	char backing[REPLICA_PATH_SIZE];
	struct qcow2_config config = {.size = m->point.disk[m->disk].size, .codec = CODEC_ZSTD, .backing_name = backing};
	if (!overlay_backing(m, backing, &config.backing))
		return err_set(err, -EBADMSG, "%s: what it stands on is missing", m->path);
	int rc = env_unlink(m->r->root, path); // of a try that was cut off
	rc = rc && rc != -ENOENT ? rc : env_open(m->r->root, path, ENV_CREATE, &file);
	if (rc)
		return err_sys(err, rc, "%s", path);
	rc = qcow2_writer_new(file, &config, &writer, err);
	if (rc == 0)
		rc = qcow2_writer_finish(writer, err);
	qcow2_writer_free(writer);
	if (rc)
		return err_wrap(err, "%s", path);
	rc = env_size(file, ret_bytes);
	return rc ? err_sys(err, rc, "%s: size", path) : 0;
}

// The point with the lengths that its overlays have now.
static int manifest_replace(const struct mend *m, const char *dir, struct err *err)
{
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	size_t len = 0;
	bool changed = false;
	int rc = point_encode(&m->point, &m->r->prot, &text, &len);
	replica_file(m->r, path, "points/%llu/point.json", (unsigned long long)m->number[m->at]);
	if (rc == 0)
		rc = copies_replace(m->r->root, dir, path, text, len, &changed);
	return rc && !changed ? err_sys(err, rc, "%s: replace", path) : 0; // the copy comes later
}

uint64_t replica_kept_damaged(const struct replica *r, uint64_t number)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		char path[REPLICA_PATH_SIZE];
		struct env_stat st;
		replica_file(r, path, "points/%llu/%s.qcow2.damaged", (unsigned long long)number, r->prot.disk[i].name);
		bytes += env_stat(r->root, path, &st) == 0 && !st.is_dir ? st.size : 0;
	}
	return bytes;
}

static void memory_follow(const struct mend *m)
{
	struct replica *r = m->r;
	for (size_t i = 0; i < r->point_count; i++) {
		if (r->points[i].number < m->number[m->at])
			continue;
		r->points[i].rewrites++;
		if (r->points[i].number != m->number[m->at])
			continue;
		r->points[i].damaged_bytes = replica_kept_damaged(r, m->number[m->at]);
		for (unsigned d = r->points[i].stored_bytes = 0; d < r->prot.disk_count; d++)
			r->points[i].stored_bytes += m->point.disk[d].stored_bytes;
	}
}

int overlay_replace(struct mend *m, const struct err *why, struct err *err)
{
	char dir[REPLICA_PATH_SIZE], empty[REPLICA_PATH_SIZE];
	uint64_t bytes = 0;
	if (tests_known(m->r, err))
		return err->code;
	replica_file(m->r, dir, "points/%llu", (unsigned long long)m->number[m->at]);
	replica_file(m->r, empty, "points/%llu/%s.qcow2.new", (unsigned long long)m->number[m->at], m->r->prot.disk[m->disk].name);
	if (stands_on(m->r, m->number[m->at]))
		return err_set(err, -EBUSY, "%s; a failover, a test or a reader stands on it, so that nothing is put in its place: end that ('kagami failover %s "
				       "--rollback', 'kagami test stop', 'kagami umount'), and start the receiver again",
			       why->text, m->r->name);
	int rc = scrub_condemn_locked(m->r, (uint16_t)m->disk, m->number[m->at], false, why, err);
	if (rc == 0)
		rc = empty_write(m, empty, &bytes, err);
	if (rc)
		return rc;
	rc = copies_aside(m->r->root, m->path);
	if (rc == 0)
		rc = env_rename(m->r->root, empty, m->path);
	if (rc == 0)
		rc = env_sync_dir(m->r->root, dir);
	if (rc)
		return err_sys(err, rc, "%s: replace", m->path);
	m->point.disk[m->disk].stored_bytes = bytes;
	rc = manifest_replace(m, dir, err);
	if (rc)
		return rc;
	memory_follow(m);
	event_emit(EVENT_CRITICAL, "damage", m->r->name, NULL, "%s could not be used any more: what it held is in quarantine until the source has sent it, and it is kept as "
		   "%s.damaged", m->path, m->path);
	return 0;
}
