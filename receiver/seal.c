// SPDX-License-Identifier: Apache-2.0
// The commit of a point: docs/store.md, "Commit". What it promises: the set of points is the old one or the new one in
// every crash state, and the new one for certain when it has answered.
#include "receiver/replica.h"

#include "receiver/copies.h"
#include "receiver/scrub.h"

#include <assert.h>
#include <errno.h>

static int seal_check(struct replica *r, const struct wire_seal *seal, struct err *err)
{
	int rc = replica_ready(r, err);
	if (rc)
		return rc;
	if (seal->predecessor != replica_last_point(r))
		return err_set(err, -ESTALE, "%s: the newest point here is %llu, not %llu; open again", r->name,
			       (unsigned long long)replica_last_point(r), (unsigned long long)seal->predecessor);
	if (!uuid_equal(&seal->head, &r->head.uuid))
		return err_set(err, -ESTALE, "%s: the head was started anew; open again", r->name);
	if (r->point_count >= STORE_POINTS_MAX)
		return err_set(err, -ENOSPC, "%s has %d points, the most there may be: keep fewer, or umount, unpin or end the tests of old ones, so that retention can fold them",
			       r->name, STORE_POINTS_MAX);
	return limits_check(r, true, err);
}

// Room for everything that becomes true with the commit, so that nothing can fail after it.
static int seal_reserve(struct replica *r, struct err *err)
{
	struct point_info *more = realloc(r->points, (r->point_count + 1) * sizeof(*more));
	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	r->points = more;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		const struct table *digests = &r->head.disk[i].digests;
		for (uint64_t b = table_next(digests, 0); b != TABLE_END; b = table_next(digests, b + 1))
			if (table_reserve(&r->state[i], b, 1))
				return err_set(err, -ENOMEM, "out of memory for digests");
	}
	return 0;
}

static int seal_digests(struct replica *r, unsigned disk, struct point_disk *to, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	struct digest_disk of = replica_disk(r, disk);
	int rc = replica_open_file(r, ENV_CREATE, &file, err, "head/%s.digests", r->prot.disk[disk].name);
	if (rc)
		return rc;
	rc = digest_list_save(file, &of, &r->head.disk[disk].digests, to->root, err);
	to->digests = r->head.disk[disk].digests.set;
	return rc ? err_wrap(err, "%s/head/%s.digests", r->name, r->prot.disk[disk].name) : 0;
}

static int seal_disk(struct replica *r, unsigned disk, struct point_disk *to, struct err *err)
{
	struct head_disk *d = NULL;
	int rc = head_writer(r, disk, &d, err);
	if (rc)
		return rc;
	rc = qcow2_writer_finish(d->writer, err);
	if (rc)
		return err_wrap(err, "%s/head/%s.qcow2", r->name, r->prot.disk[disk].name);
	to->size = r->prot.disk[disk].size;
	rc = env_size(d->file, &to->stored_bytes);
	if (rc)
		return err_sys(err, rc, "%s/head/%s.qcow2: size", r->name, r->prot.disk[disk].name);
	return seal_digests(r, disk, to, err);
}

static int seal_manifest(struct replica *r, const struct point_file *point, struct err *err)
{
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	size_t len = 0;
	int rc = point_encode(point, &r->prot, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s: point.json", r->name);
	replica_file(r, path, "head/point.json");
	return copies_create(r->root, path, text, len, err);
}

// With it the point says of itself that nobody has seen its name become durable (point_name.c).
static int seal_journal(struct replica *r, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	return r->head.saved.file ? 0 : replica_open_file(r, ENV_CREATE_OPEN, &file, err, "head/checkpoint");
}

// Steps 1 to 4: everything that the point is made of, on stable storage under the head's name.
static int seal_prepare(struct replica *r, struct point_file *point, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	int rc = r->point_count ? 0 : retain_dir_make(r, "points", err); // empty, it may have been taken away
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++) {
		rc = seal_disk(r, i, &point->disk[i], err);
		point->info.stored_bytes += point->disk[i].stored_bytes;
	}
	if (rc == 0)
		rc = seal_reserve(r, err);
	point->info.commit_wall_ns = env_wall_ns(r->root->env);
	if (rc == 0)
		rc = seal_manifest(r, point, err);
	if (rc == 0)
		rc = seal_journal(r, err);
	if (rc)
		return rc;
	replica_file(r, path, "head");
	rc = env_sync_dir(r->root, path);
	return rc ? err_sys(err, rc, "%s: sync", path) : 0;
}

static int seal_rename(struct replica *r, uint64_t number, struct err *err)
{
	char from[REPLICA_PATH_SIZE], to[REPLICA_PATH_SIZE];
	replica_file(r, from, "head");
	replica_file(r, to, "points/%llu", (unsigned long long)number);
	int rc = env_rename(r->root, from, to);
	return rc ? err_sys(err, rc, "%s: rename to %s", from, to) : 0;
}

static int seal_sync(struct replica *r, struct err *err)
{
	char points[REPLICA_PATH_SIZE];
	replica_file(r, points, "points");
	int rc = env_sync_dir(r->root, points);
	if (rc == 0)
		rc = env_sync_dir(r->root, r->name);
	return rc ? err_sys(err, rc, "%s: sync", points) : 0;
}

// A failure before the commit. No space and no memory cost the head; anything else may have been a sync.
static int seal_fail(struct replica *r, const struct err *why, struct err *err)
{
	if (no_space(why->code) || why->code == -ENOMEM)
		return head_fail(r, true, why, err);
	return replica_break(r, why, err);
}

// The point is on disk: now it is true in memory, too.
static void seal_adopt(struct replica *r, const struct point_file *point, const struct uuid *next_head)
{
	r->points[r->point_count++] = point->info;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		const struct table *digests = &r->head.disk[i].digests;
		for (uint64_t b = table_next(digests, 0); b != TABLE_END; b = table_next(digests, b + 1)) {
			int rc = table_set(&r->state[i], b, table_get(digests, b));
			assert(rc == 0); // reserved
		}
	}
	scrub_sealed(r, point->predecessor);
	head_saved_forget(r, point->info.number);
	head_close(r);
	r->head.made = false;
	r->head.uuid = *next_head;
	(void)scrub_poison(r, NULL);
	limits_committed(r);
}

static int seal_commit(struct replica *r, struct point_file *point, struct err *err)
{
	struct uuid next_head;
	struct err why = {0};
	int rc = uuid_new(r->root->env, &next_head);
	if (rc)
		return err_sys(err, rc, "%s: random", r->name);
	rc = seal_prepare(r, point, &why);
	if (rc == 0 && replica_base_there(r, err)) // as late as can be; what was prepared is what a crash leaves, and no point
		return -EIO;
	if (rc == 0)
		rc = seal_rename(r, point->info.number, &why);
	if (rc)
		return seal_fail(r, &why, err);
	if (seal_sync(r, &why))
		return replica_break(r, &why, err);
	seal_adopt(r, point, &next_head);
	return doubt_sealed(r, &point->info.cut, err);
}

int replica_seal(struct replica *r, const struct wire_seal *seal, struct wire_committed *ret_committed, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	assert(r->session_open);
	int rc = seal_check(r, seal, err);
	if (rc)
		return rc;
	examine_close(r); // what it has open would keep the space of what retention removes
	AUTO_FREE struct point_file *point = calloc(1, sizeof(*point));
	if (!point)
		return err_set(err, -ENOMEM, "out of memory");
	point->predecessor = seal->predecessor;
	point->blocks_sent = seal->blocks_sent;
	point->info = (struct point_info){
		.number = seal->predecessor + 1,
		.cut = seal->cut,
		.cut_wall_ns = seal->cut_wall_ns,
		.consistency = seal->consistency,
		.dirty_bytes = seal->dirty_bytes,
		.wire_bytes = seal->wire_bytes,
	};
	rc = seal_commit(r, point, err);
	if (rc)
		return rc;
	*ret_committed = (struct wire_committed){
		.number = point->info.number,
		.cut = point->info.cut,
		.head = r->head.uuid,
		.stored_bytes = point->info.stored_bytes,
		.commit_wall_ns = point->info.commit_wall_ns,
	};
	return 0;
}
