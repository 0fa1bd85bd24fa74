// SPDX-License-Identifier: Apache-2.0
// The head's checkpoints: docs/store.md, "head/checkpoint". What they promise:
//
// H1: what a checkpoint answered for is in the head after any crash. What came later is cut off, never trusted.
// H2: the head is as one checkpoint has it, byte for byte and with the digests of that, or it is not there.
//
//	overlays: flush, sync ─► names: sync ─► journal: append, sync ─► 1, "durable"
//
// The order is the reason: a journal that names a cluster was written after the cluster was durable, and qcow2_keep.c sees to it that
// nothing is written over what the newest two checkpoints name. head_restore.c takes the head up again.
#include "receiver/replica.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
	SAVE_BYTES = 32 << 20, // as they came: so much at most is sent again after a crash, with what was on its way
	SAVE_BLOCKS = 1 << 16,
	SAVE_BYTES_MIN = 1 << 20, // less is not worth a sync
	SAVE_SECONDS = 5,
	COMPACT_RECORDS = 1 << 16, // a journal is written anew when it has twice as many as the head has blocks, and so many
};

// --- what changed ---

int head_change_reserve(struct head_disk *d)
{
	if (d->changed_count < d->changed_room)
		return 0;
	size_t room = d->changed_room ? d->changed_room * 2 : 64;
	struct head_run *more = realloc(d->changed, room * sizeof(*more));
	if (!more)
		return -ENOMEM;
	d->changed = more;
	d->changed_room = room;
	return 0;
}

void head_changed(struct replica *r, struct head_disk *d, uint64_t first, uint64_t count, uint64_t bytes)
{
	struct head_saved *s = &r->head.saved;
	struct head_run *last = d->changed_count ? &d->changed[d->changed_count - 1] : NULL;
	if (s->blocks == 0)
		s->since_ns = env_mono_ns(r->root->env);
	s->blocks += count;
	s->bytes += bytes;
	assert(d->changed);
	if (last && last->first + last->count == first)
		last->count += count;
	else
		d->changed[d->changed_count++] = (struct head_run){.first = first, .count = count};
}

// --- saving ---

static int overlays_sync(struct replica *r, struct err *err)
{
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		struct head_disk *d = &r->head.disk[i];
		if (d->changed_count && qcow2_writer_sync(d->writer, err))
			return err_wrap(err, "%s/head/%s.qcow2", r->name, r->prot.disk[i].name);
	}
	return 0;
}

int head_names_sync(struct replica *r, struct err *err)
{
	char head[REPLICA_PATH_SIZE];
	replica_file(r, head, "head");
	int rc = env_sync_dir(r->root, head);
	if (rc == 0)
		rc = env_sync_dir(r->root, r->name);
	if (rc)
		return err_sys(err, rc, "%s: sync", head);
	r->head.saved.names_unsynced = false;
	return 0;
}

static int block_put(struct replica *r, unsigned disk, uint64_t index, struct checkpoint_writer *w, struct err *err)
{
	const struct head_disk *d = &r->head.disk[disk];
	struct qcow2_slot slot = qcow2_writer_slot(d->writer, index);
	struct checkpoint_record record = {.kind = CHECKPOINT_BLOCK, .disk = (uint16_t)disk, .index = index, .where = slot.where, .bits = slot.bits};
	const struct digest *digest = table_get(&d->digests, index);
	assert(digest); // a block that changed has one
	record.digest = *digest;
	return checkpoint_put(w, &record, err);
}

static int disk_put(struct replica *r, unsigned disk, bool all, struct checkpoint_writer *w, struct err *err)
{
	const struct head_disk *d = &r->head.disk[disk];
	struct checkpoint_record record = {.kind = CHECKPOINT_DISK, .disk = (uint16_t)disk, .codec = d->codec, .index = r->prot.disk[disk].size,
					   .where = qcow2_writer_clusters(d->writer)};
	int rc = checkpoint_put(w, &record, err);
	for (uint64_t b = all ? table_next(&d->digests, 0) : TABLE_END; rc == 0 && b != TABLE_END; b = table_next(&d->digests, b + 1))
		rc = block_put(r, disk, b, w, err);
	for (size_t i = 0; rc == 0 && !all && i < d->changed_count; i++)
		for (uint64_t b = 0; rc == 0 && b < d->changed[i].count; b++)
			rc = block_put(r, disk, d->changed[i].first + b, w, err);
	return rc;
}

// Writes a checkpoint behind `at`, and syncs. *ret_at is where it ends.
static int journal_append(struct replica *r, struct env_file *file, uint64_t at, const struct checkpoint_id *id, bool all, uint64_t *ret_at,
			  struct err *err)
{
	struct checkpoint_writer w;
	int rc = checkpoint_writer_init(&w, file, at, id);
	if (rc)
		return err_set(err, rc, "out of memory for a checkpoint");
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		if (r->head.disk[i].writer && (all || r->head.disk[i].changed_count))
			rc = disk_put(r, i, all, &w, err);
	if (rc == 0)
		rc = checkpoint_end(&w, err);
	*ret_at = w.at;
	checkpoint_writer_done(&w);
	if (rc == 0 && env_sync(file))
		rc = err_set(err, -EIO, "sync failed");
	return rc;
}

// A journal of its own for all that the head holds, under its name when it is durable.
static int journal_replace(struct replica *r, struct err *err)
{
	char name[REPLICA_PATH_SIZE], fresh[REPLICA_PATH_SIZE];
	struct head_saved *s = &r->head.saved;
	struct checkpoint_extent next = {.id = {.predecessor = replica_last_point(r), .number = s->at.id.number + 1}, .records = head_blocks(r)};
	AUTO_FILE struct env_file *file = NULL;
	if (r->point_count)
		next.id.cut = r->points[r->point_count - 1].cut;
	replica_file(r, name, "head/checkpoint");
	replica_file(r, fresh, "head/checkpoint.new");
	int rc = uuid_new(r->root->env, &next.id.instance);
	if (rc)
		return err_sys(err, rc, "random");
	rc = env_unlink(r->root, fresh);
	if (rc == 0 || rc == -ENOENT)
		rc = env_open(r->root, fresh, ENV_CREATE, &file);
	if (rc)
		return err_sys(err, rc, "%s", fresh);
	rc = journal_append(r, file, 0, &next.id, true, &next.length, err);
	if (rc)
		return err_wrap(err, "%s", fresh);
	rc = env_rename(r->root, fresh, name);
	if (rc)
		return err_sys(err, rc, "%s: rename", fresh);
	rc = head_names_sync(r, err);
	if (rc)
		return rc;
	env_close(s->file);
	s->file = file;
	file = NULL;
	s->at = next;
	return 0;
}

static int journal_extend(struct replica *r, struct err *err)
{
	struct head_saved *s = &r->head.saved;
	struct checkpoint_extent next = s->at;
	next.id.base = s->at.id.number;
	next.id.number++;
	next.records += s->blocks;
	int rc = s->names_unsynced ? head_names_sync(r, err) : 0;
	if (rc == 0)
		rc = journal_append(r, s->file, s->at.length, &next.id, false, &next.length, err);
	if (rc)
		return err_wrap(err, "%s/head/checkpoint", r->name);
	s->at = next;
	return 0;
}

int head_save(struct replica *r, struct err *err)
{
	struct head_saved *s = &r->head.saved;
	bool anew = !s->file || s->at.records + s->blocks > 2 * head_blocks(r) + COMPACT_RECORDS;
	int rc = overlays_sync(r, err);
	if (rc == 0)
		rc = anew ? journal_replace(r, err) : journal_extend(r, err);
	if (rc)
		return rc;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		struct head_disk *d = &r->head.disk[i];
		if (d->changed_count)
			qcow2_writer_kept(d->writer);
		d->changed_count = 0;
	}
	s->blocks = s->bytes = 0;
	limits_saved(r);
	return 0;
}

static bool save_due(const struct replica *r, bool now)
{
	const struct head_saved *s = &r->head.saved;
	if (s->blocks == 0 || now || s->bytes >= SAVE_BYTES || s->blocks >= SAVE_BLOCKS)
		return s->blocks != 0;
	return s->bytes >= SAVE_BYTES_MIN && env_mono_ns(r->root->env) - s->since_ns >= SAVE_SECONDS * UINT64_C(1000000000);
}

int replica_checkpoint(struct replica *r, bool now, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	struct err why = {0};
	assert(r->session_open);
	int rc = replica_ready(r, err);
	if (rc || !save_due(r, now))
		return rc;
	return head_save(r, &why) ? head_fail(r, false, &why, err) : 1;
}

void head_session_end(struct replica *r)
{
	struct err why = {0}, told;
	if (replica_ready(r, &told) == 0 && r->head.saved.bytes >= SAVE_BYTES_MIN && head_save(r, &why))
		(void)head_fail(r, false, &why, &told);
}
