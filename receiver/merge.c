// SPDX-License-Identifier: Apache-2.0
// The merge of points into the one above them: docs/store.md, "Merge". What it promises: no byte of any point that stays changes in any
// crash state, and a merge that was cut off was not begun, or is finished by recovery.
//
// Without the lock: the new directory is built, from files that nobody writes. Under it: the exchange and the names, which is
// short, after asking again whether the points may go.
#include "receiver/replica.h"

#include "base/log.h"
#include "format/qcow2_merge.h"
#include "receiver/copies.h"
#include "receiver/overlays.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <stdio.h>

struct layers;

struct merge {
	struct replica *r;
	const struct retain_step *step;
	const struct retain_pace *pace;
	uint64_t into;		  // the point that stays
	unsigned disk;		  // that is under way
	const struct layers *layers; // of it
	struct point_file *point; // of each layer
	struct point_file next;	  // of the result
};

struct layers { // those that can be read, lowest first
	size_t count;
	uint64_t number[RETAIN_LAYERS_MAX];
	struct env_file *file[RETAIN_LAYERS_MAX];
	struct qcow2_reader *reader[RETAIN_LAYERS_MAX];
};

static void layers_close(struct layers *layers)
{
	for (size_t i = 0; i < layers->count; i++) {
		qcow2_reader_free(layers->reader[i]);
		env_close(layers->file[i]);
	}
}

static int layer_open(const struct merge *m, unsigned disk, size_t i, struct layers *layers, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	struct qcow2_reader *reader = NULL;
	struct err why = {.code = 0};
	unsigned long long number = m->step->number[i];
	const char *name = m->r->prot.disk[disk].name;
	int rc = replica_open_file(m->r, ENV_READ, &file, err, "points/%llu/%s.qcow2", number, name);
	if (rc)
		return rc;
	rc = qcow2_reader_open(file, &reader, &why);
	if (rc == 0 && qcow2_reader_size(reader) != m->point[i].disk[disk].size)
		rc = err_set(&why, -EBADMSG, "not of the size that the disk had");
	if (rc) {
		qcow2_reader_free(reader);
		rc = err_wrap(&why, "%s/points/%llu/%s.qcow2", m->r->name, number, name);
		return stall_leaves_out(m->r, STALL_OF_MERGES, rc) ? scrub_condemn(m->r, (uint16_t)disk, number, false, &why, err) : err_set(err, rc, "%s", why.text);
	}
	layers->number[layers->count] = number;
	layers->reader[layers->count] = reader;
	layers->file[layers->count++] = file;
	file = NULL;
	return 0;
}

static int pace(void *context, uint64_t bytes)
{
	const struct merge *m = context;
	return pace_spend(m->pace, bytes);
}

// A block that cannot be unpacked any more keeps no other from being merged: as in a fold, it is quarantined for all points that show it,
// durably, and then the merged overlay has of it what the other layers hold. docs/store.md, "Scrub".
static int skip(void *context, size_t layer, uint64_t first, uint64_t count, struct err *err)
{
	struct merge *m = context;
	struct err why = *err;
	if (why.code != -EBADMSG && !stall_leaves_out(m->r, STALL_OF_MERGES, why.code))
		return err_wrap(err, "%s/points/%llu/%s.qcow2", m->r->name, (unsigned long long)m->layers->number[layer],
				m->r->prot.disk[m->disk].name);
	return scrub_unreadable(m->r, (uint16_t)m->disk, first, count, &why, err);
}

static int overlay_write(struct merge *m, unsigned disk, struct layers *layers, struct env_file *to, struct err *err)
{
	char backing[REPLICA_PATH_SIZE];
	const char *name = m->r->prot.disk[disk].name;
	struct qcow2_reader *top = layers->count ? layers->reader[layers->count - 1] : NULL;
	struct qcow2_config config = {.size = m->next.disk[disk].size, .codec = top ? qcow2_reader_codec(top) : CODEC_ZSTD, .backing_name = backing,
				      .backing = QCOW2_BACKING_QCOW2};
	struct qcow2_merge merge = {.layers = layers->reader, .count = layers->count, .codec = config.codec, .pace = pace,
				    .skip = skip, .context = m};
	struct qcow2_writer *writer = NULL;
	(void)snprintf(backing, sizeof(backing), "../%llu/%s.qcow2", (unsigned long long)m->step->below, name);
	int rc = qcow2_writer_new(to, &config, &writer, err);
	if (rc == 0 && top)
		rc = qcow2_merge(writer, &merge, err);
	if (rc == 0)
		rc = qcow2_writer_finish(writer, err);
	qcow2_writer_free(writer);
	if (rc)
		return rc;
	rc = env_size(to, &m->next.disk[disk].stored_bytes);
	return rc ? err_sys(err, rc, "size") : 0;
}

static int overlay_merge(struct merge *m, unsigned disk, struct err *err)
{
	AUTO_FILE struct env_file *to = NULL;
	struct layers layers = {.count = 0};
	const char *name = m->r->prot.disk[disk].name;
	m->disk = disk;
	m->layers = &layers;
	int rc = replica_open_file(m->r, ENV_CREATE, &to, err, "merge/%llu/%s.qcow2", (unsigned long long)m->into, name);
	for (size_t i = 0; rc == 0 && i < m->step->count; i++)
		rc = layer_open(m, disk, i, &layers, err);
	if (rc == 0 && (rc = overlay_write(m, disk, &layers, to, err)))
		(void)err_wrap(err, "%s/merge/%llu/%s.qcow2", m->r->name, (unsigned long long)m->into, name);
	m->layers = NULL;
	layers_close(&layers);
	return rc;
}

// --- the digests ---

static int digest_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	return table_set(context, index, digest) ? err_set(err, -ENOMEM, "out of memory for digests") : 0;
}

static int list_write(struct merge *m, unsigned disk, const struct table *digests, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	struct point_disk *pd = &m->next.disk[disk];
	struct digest_disk of = {.kind = m->r->prot.digest.kind, .number = (uint16_t)disk, .size = pd->size};
	const char *name = m->r->prot.disk[disk].name;
	int rc = replica_open_file(m->r, ENV_CREATE, &file, err, "merge/%llu/%s.digests", (unsigned long long)m->into, name);
	if (rc)
		return rc;
	pd->digests = digests->set;
	rc = digest_list_save(file, &of, digests, pd->root, err);
	return rc ? err_wrap(err, "%s/merge/%llu/%s.digests", m->r->name, (unsigned long long)m->into, name) : 0;
}

// Whoever reads the merged list finds no sector that is damaged, but digests that say so: that is in quarantine before.
static int unknown_quarantine(struct merge *m, unsigned disk, const struct table *digests, struct err *err)
{
	LOCK_SCOPE(&m->r->lock);
	return unknown_settle(m->r, disk, digests, m->into, false, err);
}

// A block's digest is that of the last layer that has one: the later the list, the more it says.
static int lists_merge(struct merge *m, unsigned disk, struct err *err)
{
	struct table digests;
	int rc = 0;
	table_init(&digests, size_blocks(m->next.disk[disk].size));
	for (size_t i = 0; rc == 0 && i < m->step->count; i++)
		rc = digests_of_point(m->r, &m->point[i], disk, digest_take, &digests, err);
	if (rc == 0)
		rc = unknown_quarantine(m, disk, &digests, err);
	if (rc == 0)
		rc = list_write(m, disk, &digests, err);
	table_done(&digests);
	return rc;
}

// --- step 1: the new directory ---

static int manifest_write(struct merge *m, struct err *err)
{
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	size_t len = 0;
	int rc = point_encode(&m->next, &m->r->prot, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s: point.json", m->r->name);
	replica_file(m->r, path, "merge/%llu/point.json", (unsigned long long)m->into);
	return copies_create(m->r->root, path, text, len, err);
}

static int dir_begin(const struct merge *m, char path[REPLICA_PATH_SIZE], struct err *err)
{
	replica_file(m->r, path, "merge/%llu", (unsigned long long)m->into);
	int rc = retain_dir_make(m->r, "merge", err);
	if (rc)
		return rc;
	rc = env_remove_tree(m->r->root, path); // of a try that failed
	if (rc == 0)
		rc = env_mkdir(m->r->root, path);
	return rc ? err_sys(err, rc, "%s: create", path) : 0;
}

static int build(struct merge *m, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	size_t count = m->step->count;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = replica_read_point(m->r, m->step->number[i], &m->point[i], err);
	if (rc == 0)
		rc = dir_begin(m, path, err);
	if (rc)
		return rc;
	m->next = m->point[count - 1];
	m->next.predecessor = m->step->below;
	m->next.info.stored_bytes = 0;
	for (unsigned i = 0; rc == 0 && i < m->r->prot.disk_count; i++) {
		rc = overlay_merge(m, i, err);
		if (rc == 0)
			rc = lists_merge(m, i, err);
		m->next.info.stored_bytes += m->next.disk[i].stored_bytes;
	}
	if (rc == 0)
		rc = manifest_write(m, err);
	if (rc)
		return rc;
	rc = env_sync_dir(m->r->root, path);
	return rc ? err_sys(err, rc, "%s: sync", path) : 0;
}

// --- steps 2 and 3: the names ---

static int full(const struct replica *r, const struct err *why, struct err *err)
{
	return err_set(err, -ENOSPC, "the store %s is full (%s); free space: retention goes on by itself", r->store_path, why->text);
}

// *exchanged: nobody knows for certain that they were not.
static int exchange(const struct merge *m, bool *exchanged, struct err *err)
{
	static const char *const dirs[] = {"points", "merge"};
	char built[REPLICA_PATH_SIZE], point[REPLICA_PATH_SIZE];
	replica_file(m->r, built, "merge/%llu", (unsigned long long)m->into);
	replica_file(m->r, point, "points/%llu", (unsigned long long)m->into);
	int rc = env_exchange(m->r->root, built, point);
	*exchanged = rc != -EOPNOTSUPP && !no_space(rc);
	if (rc == -EOPNOTSUPP)
		return rc;
	if (rc)
		return err_sys(err, rc, "%s: exchange with %s", built, point);
	return retain_sync(m->r, dirs, 2, err);
}

static int trash_fill(const struct merge *m, struct err *err)
{
	char old[REPLICA_PATH_SIZE], to[REPLICA_PATH_SIZE];
	replica_file(m->r, old, "merge/%llu", (unsigned long long)m->into);
	retain_trash_name(m->r, m->step, to);
	int rc = env_rename(m->r->root, old, to);
	if (rc)
		return err_sys(err, rc, "%s: move to %s", old, to);
	for (size_t i = 0; rc == 0 && i + 1 < m->step->count; i++)
		rc = retain_to_trash(m->r, m->step->number[i], err);
	return rc;
}

// Under the lock. Returns 1, or 0 when somebody came in between, or the file system cannot do it.
static int finish(struct merge *m, struct err *err)
{
	static const char *const trashed[] = {"points", "trash"};
	struct replica *r = m->r;
	struct err why = {0};
	int rc = retain_goes_on(r, m->step, m->pace);
	if (r->broken)
		return replica_ready(r, err);
	if (rc <= 0)
		return rc ? err_set(err, rc, "merge: stopped while a session opens") : 0;
	bool exchanged = false;
	rc = retain_dir_make(r, "trash", &why); // behind the exchange it could not be done without any more
	if (rc)
		return no_space(rc) ? full(r, &why, err) : err_set(err, rc, "merge: %s", why.text);
	rc = exchange(m, &exchanged, &why);
	if (no_space(rc) && !exchanged)
		return full(r, &why, err);
	if (rc == -EOPNOTSUPP) {
		r->cannot_merge = true;
		log_warning("the file system of the store cannot exchange directories: points in the middle stay until they are the oldest "
			    "protection=%s",
			    r->name);
		return 0;
	}
	if (rc == 0 && no_space(rc = trash_fill(m, &why))) // all before it is durable, and a move without space changes nothing: recovery moves the rest
		return replica_break_passing(r, &why, err);
	if (rc == 0)
		rc = retain_sync(r, trashed, COUNT(trashed), &why);
	if (rc)
		return replica_break(r, &why, err);
	replica_point(r, m->into)->stored_bytes = m->next.info.stored_bytes;
	replica_point(r, m->into)->damaged_bytes = 0; // they went with the directory that it had
	retain_forget(r, m->step);
	r->merged_ns = env_mono_ns(r->root->env);
	return 1;
}

// A read that found damage breaks the replica; anything else only costs what was built, even a failed sync, for no point is made of it.
static int build_fail(struct replica *r, const struct err *why, struct err *err)
{
	struct err cannot = {0};
	LOCK_SCOPE(&r->lock);
	int rc = overlays_were_it(r, why, &cannot);
	if (rc)
		return rc < 0 ? err_set(err, rc, "merge: %s", cannot.text) :
				err_set(err, -EAGAIN, "merge: %s; it was made good, and is tried again", why->text);
	if (why->code == -EBADMSG)
		return replica_break(r, why, err);
	if (no_space(why->code))
		return full(r, why, err);
	return err_set(err, why->code, "merge: %s", why->text);
}

int replica_merge(struct replica *r, const struct retain_step *step, const struct retain_pace *pacer, struct err *err)
{
	AUTO_FREE struct point_file *point = calloc(step->count, sizeof(*point));
	AUTO_FREE struct merge *m = calloc(1, sizeof(*m));
	struct err why = {0};
	char path[REPLICA_PATH_SIZE];
	if (!point || !m)
		return err_set(err, -ENOMEM, "out of memory");
	*m = (struct merge){.r = r, .step = step, .pace = pacer, .into = step->number[step->count - 1], .point = point};
	int rc = build(m, &why);
	if (rc) {
		rc = build_fail(r, &why, err);
	} else {
		LOCK_SCOPE(&r->lock);
		rc = finish(m, err);
		if (r->broken) // perhaps after the exchange: merge/ has a point's files, and recovery's to say whose
			return rc;
	}
	if (rc == 1)
		return rc;
	replica_file(r, path, "merge/%llu", (unsigned long long)m->into);
	int left = env_remove_tree(r->root, path);
	if (left) // it goes with the next try
		log_warning("cannot remove what was merged protection=%s file=%s errno=%d", r->name, path, -left);
	return rc;
}
