// SPDX-License-Identifier: Apache-2.0
// The base's table of a disk that is lost as a whole: it is gone, cut off, or the disk does not give it back. docs/store.md, "Lost digests".
//
// What it promises: before another takes its place, all that the base can hold is in quarantine, durably, as every point shows it: as much of the disk as the oldest point
// had, for the base is zeros past that, and its table says nothing there. Of each block of it the new one says that nobody knows its digest. So nothing becomes proven by
// that, and sessions, folds and passes go on.
#include "receiver/overlays.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/copies.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <stdlib.h>

struct lost {
	struct replica *r;
	unsigned disk;
	uint64_t oldest; // point; 0: there is none
	uint64_t blocks; // that the table had digests of, perhaps
	const char *path;
	struct err why;
};

static int table_look(const struct replica *r, unsigned disk, bool given_up, const char *path, struct err *ret_why, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	uint64_t size = 0, length = digest_table_length(r->prot.disk[disk].size);
	int rc = env_open(r->root, path, ENV_READ, &file);
	if (rc == 0)
		rc = env_size(file, &size);
	if (rc == 0 && (size < length || size % DIGEST_SECTOR))
		(void)err_set(ret_why, -EBADMSG, "%s: %llu bytes long in place of %llu", path, (unsigned long long)size, (unsigned long long)length);
	else if (rc == -ENOENT || rc == -EISDIR || (rc == -EIO && given_up)) // a link in its place is no loss, and leads nowhere
		(void)err_sys(ret_why, rc, "%s", path);
	else if (rc)
		return err_sys(err, rc, "%s", path);
	return 0;
}

static int unknown_write(const struct lost *lost, const char *path, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	struct env_root *root = lost->r->root;
	const struct digest_disk of = replica_disk(lost->r, lost->disk);
	int rc = env_unlink(root, path); // of a try that was cut off
	rc = rc && rc != -ENOENT ? rc : env_open(root, path, ENV_CREATE, &file);
	if (rc)
		return err_sys(err, rc, "%s", path);
	rc = digest_table_create(file, &of, err);
	if (rc == 0)
		rc = digest_table_forget(file, lost->blocks, err);
	if (rc)
		return err_wrap(err, "%s", path);
	rc = env_sync(file);
	return rc ? err_sys(err, rc, "%s: sync", path) : 0;
}

static int disk_quarantine(const struct lost *lost, struct err *err)
{
	struct damage_set all = {.count = 0};
	const struct damage run = {.disk = (uint16_t)lost->disk, .first = 0, .count = lost->blocks, .from = lost->oldest, .to = DAMAGE_OPEN};
	damage_add(&all, &run);
	return lost->oldest ? scrub_claim_locked(lost->r, lost->disk, lost->oldest, &all, &lost->why, err) : 0;
}

static int blocks_find(struct lost *lost, struct err *err)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	if (!point)
		return err_set(err, -ENOMEM, "out of memory");
	lost->blocks = size_blocks(lost->r->prot.disk[lost->disk].size);
	int rc = lost->oldest ? replica_read_point(lost->r, lost->oldest, point, err) : 0;
	if (rc == 0 && lost->oldest)
		lost->blocks = size_blocks(point->disk[lost->disk].size);
	return rc;
}

static void kept_name(const struct replica *r, unsigned disk, char path[REPLICA_PATH_SIZE])
{
	replica_file(r, path, "base/%s.digests.damaged", r->prot.disk[disk].name);
}

void tables_kept_count(struct replica *r)
{
	r->base_kept = 0;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		char path[REPLICA_PATH_SIZE];
		struct env_stat st;
		kept_name(r, i, path);
		r->base_kept += env_stat(r->root, path, &st) == 0 ? st.allocated : 0;
	}
}

void tables_kept_remove(struct replica *r)
{
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		char path[REPLICA_PATH_SIZE];
		struct env_stat st;
		kept_name(r, i, path);
		if (env_stat(r->root, path, &st))
			continue;
		int rc = env_remove_tree(r->root, path); // it may have been a directory
		if (rc)
			log_warning("a damaged table is kept, and cannot be removed protection=%s file=%s errno=%d", r->name, path, -rc);
		else
			log_info("a damaged table is kept no more, as all is proven without it protection=%s file=%s", r->name, path);
	}
	tables_kept_count(r);
}

static int table_replace(struct lost *lost, struct err *err)
{
	struct replica *r = lost->r;
	const char *name = r->prot.disk[lost->disk].name;
	char dir[REPLICA_PATH_SIZE], fresh[REPLICA_PATH_SIZE];
	replica_file(r, dir, "base");
	replica_file(r, fresh, "base/%s.digests.new", name);
	int rc = blocks_find(lost, err);
	if (rc == 0)
		rc = disk_quarantine(lost, err);
	if (rc == 0)
		rc = unknown_write(lost, fresh, err);
	if (rc)
		return rc;
	rc = copies_aside(r->root, lost->path);
	if (rc == 0)
		rc = env_rename(r->root, fresh, lost->path);
	if (rc == 0)
		rc = env_sync_dir(r->root, dir);
	if (rc)
		return err_sys(err, rc, "%s: replace", lost->path);
	r->tables_made++;
	tables_kept_count(r);
	log_error("a table of digests was lost, and one that knows none took its place protection=%s reason=\"%s\"", r->name, lost->why.text);
	event_emit(EVENT_CRITICAL, "damage", r->name, NULL, "the digests of disk %s of %s are lost (%s): all of it is in quarantine until the source has sent it",
		   name, r->name, lost->why.text);
	return 0;
}

int tables_mend(struct replica *r, uint64_t oldest, bool given_up, bool *mended, struct err *err)
{
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++) {
		char path[REPLICA_PATH_SIZE];
		struct lost lost = {.r = r, .disk = i, .oldest = oldest, .path = path};
		replica_file(r, path, "base/%s.digests", r->prot.disk[i].name);
		rc = table_look(r, i, given_up, path, &lost.why, err);
		if (rc || lost.why.code == 0)
			continue;
		rc = table_replace(&lost, err);
		*mended = *mended || rc == 0;
	}
	return rc;
}
