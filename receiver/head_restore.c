// SPDX-License-Identifier: Apache-2.0
// The head as its newest checkpoint has it: taken up again at start, and after a failure of space. What it promises: what is taken up was proven to fit
// together, and is what the checkpoint named; whatever else there is of a head is removed.
#include "receiver/replica.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct restore {
	struct replica *replica;
	uint64_t clusters[DISKS_MAX]; // 0: the checkpoint has no such disk
	enum codec codec[DISKS_MAX];
};

static int disk_note(void *context, const struct checkpoint_record *record, struct err *err)
{
	struct restore *restore = context;
	const struct protection *prot = &restore->replica->prot;
	if (record->disk >= prot->disk_count)
		return err_set(err, -EBADMSG, "disk %u: there is none", record->disk);
	if (record->kind != CHECKPOINT_DISK)
		return 0;
	if (record->index != prot->disk[record->disk].size)
		return err_set(err, -EBADMSG, "disk %s has another size now", prot->disk[record->disk].name);
	if (record->codec != CODEC_ZSTD && record->codec != CODEC_ZLIB)
		return err_set(err, -EBADMSG, "disk %s: codec", prot->disk[record->disk].name);
	restore->clusters[record->disk] = record->where;
	restore->codec[record->disk] = (enum codec)record->codec;
	return 0;
}

static int block_restore(void *context, const struct checkpoint_record *record, struct err *err)
{
	struct restore *restore = context;
	struct head_disk *d = &restore->replica->head.disk[record->disk];
	struct qcow2_slot slot = {.where = record->where, .bits = record->bits};
	if (record->kind != CHECKPOINT_BLOCK)
		return 0;
	if (!d->writer)
		return err_set(err, -EBADMSG, "a block of a disk that has no overlay");
	int rc = qcow2_writer_resume_slot(d->writer, record->index, slot, err);
	if (rc)
		return rc;
	if (table_set(&d->digests, record->index, &record->digest))
		return err_set(err, -ENOMEM, "out of memory for digests");
	return memory_restore(restore->replica, err);
}

// Removes from head/ what the checkpoint does not name: a file begun later, what a seal that was cut off had made.
static int strays_remove(const struct restore *restore, struct err *err)
{
	struct replica *r = restore->replica;
	char path[REPLICA_PATH_SIZE], own[NAME_SIZE + 8], **names = NULL;
	size_t count = 0;
	replica_file(r, path, "head");
	int rc = env_list(r->root, path, &names, &count);
	for (size_t n = 0; rc == 0 && n < count; n++) {
		bool wanted = strcmp(names[n], "checkpoint") == 0;
		for (unsigned i = 0; i < r->prot.disk_count && !wanted; i++) {
			(void)snprintf(own, sizeof(own), "%s.qcow2", r->prot.disk[i].name);
			wanted = restore->clusters[i] && strcmp(names[n], own) == 0;
		}
		if (wanted)
			continue;
		replica_file(r, path, "head/%.80s", names[n]);
		rc = env_unlink(r->root, path);
	}
	env_list_free(names, count);
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

static int journal_open(struct replica *r, bool own, struct err *err)
{
	struct head_saved *s = &r->head.saved;
	struct uuid cut = {{0}};
	char path[REPLICA_PATH_SIZE];
	replica_file(r, path, "head/checkpoint");
	int rc = env_open(r->root, path, ENV_WRITE, &s->file);
	if (rc)
		return rc == -ENOENT ? rc : err_sys(err, rc, "open");
	if (r->point_count)
		cut = r->points[r->point_count - 1].cut;
	rc = checkpoint_find(s->file, &s->at, err);
	if (rc == 0 && (s->at.id.predecessor != replica_last_point(r) || !uuid_equal(&s->at.id.cut, &cut)))
		return err_set(err, -EBADMSG, "it stands on another point");
	if (rc)
		return rc;
	if (own) { // this process saw its sync
		rc = env_truncate(s->file, s->at.length);
		return rc ? err_sys(err, rc, "cut") : env_sync(s->file) ? err_set(err, -EIO, "sync failed") : 0;
	}
	rc = checkpoint_settle(s->file, &s->at, err);
	if (rc == -ENOSPC && env_truncate(s->file, s->at.length) == 0) // where even writing again takes space
		rc = env_sync(s->file);
	return rc ? rc : head_names_sync(r, err);
}

static int overlays_open(const struct restore *restore, struct err *err)
{
	struct replica *r = restore->replica;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		int rc = restore->clusters[i] ? head_writer_resume(r, i, restore->codec[i], restore->clusters[i], err) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int overlays_end(struct replica *r, struct err *err)
{
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		int rc = r->head.disk[i].writer ? qcow2_writer_resume_end(r->head.disk[i].writer, err) : 0;
		if (rc)
			(void)err_wrap(err, "%s.qcow2", r->prot.disk[i].name);
		if (rc)
			return rc;
	}
	return 0;
}

static int restore_run(struct restore *restore, bool own, struct err *err)
{
	struct head_saved *s = &restore->replica->head.saved;
	int rc = journal_open(restore->replica, own, err);
	if (rc == 0)
		rc = checkpoint_read(s->file, &s->at, disk_note, restore, err);
	if (rc == 0)
		rc = strays_remove(restore, err);
	if (rc == 0)
		rc = overlays_open(restore, err);
	if (rc == 0)
		rc = checkpoint_read(s->file, &s->at, block_restore, restore, err);
	return rc ? rc : overlays_end(restore->replica, err);
}

int head_restore(struct replica *r, bool own, struct err *err)
{
	AUTO_FREE struct restore *restore = calloc(1, sizeof(*restore));
	if (!restore)
		return err_set(err, -ENOMEM, "out of memory");
	restore->replica = r;
	int rc = restore_run(restore, own, err);
	if (rc) {
		head_close(r);
		return rc;
	}
	r->head.made = true;
	r->head.saved.names_unsynced = true; // perhaps it was the sync of these names that failed
	return head_renew(r, err);
}

static int journal_remove(struct replica *r, uint64_t number, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	replica_file(r, path, "points/%llu/checkpoint", (unsigned long long)number);
	int rc = env_unlink(r->root, path);
	return rc && rc != -ENOENT ? err_sys(err, rc, "%s: remove", path) : 0;
}

void head_saved_forget(struct replica *r, uint64_t number)
{
	struct err why = {0};
	if (journal_remove(r, number, &why)) // the next start does it
		log_warning("%s protection=%s", why.text, r->name);
}

// Journals of heads that became points, where the removal did not get to the disk, or a receiver ended before it. All names are certain by now, but those of what is failed over
// (point_name.c).
static int journals_remove(struct replica *r, struct err *err)
{
	if (r->prot.fenced)
		return 0;
	for (size_t i = 0; i < r->point_count; i++) {
		char path[REPLICA_PATH_SIZE];
		struct env_stat st;
		replica_file(r, path, "points/%llu/checkpoint", (unsigned long long)r->points[i].number);
		int rc = env_stat(r->root, path, &st) ? 0 : journal_remove(r, r->points[i].number, err);
		if (rc)
			return rc;
	}
	return 0;
}

static const char *cannot(int rc)
{
	return rc == -ENOBUFS ? "there is no memory for it" : "its checkpoint does not check";
}

int head_recover(struct replica *r, struct err *err)
{
	struct err why = {0};
	int rc = journals_remove(r, err);
	if (rc)
		return rc;
	rc = r->prot.fenced ? -ENOENT : head_restore(r, false, &why);
	if (rc == 0)
		log_info("head found as its checkpoint has it protection=%s blocks=%llu bytes=%llu", r->name,
			 (unsigned long long)head_blocks(r), (unsigned long long)head_bytes(r));
	if (rc == 0 || rc == -ENOMEM)
		return rc ? err_set(err, rc, "head: %s", why.text) : 0;
	if (rc != -ENOENT)
		log_warning("head was dropped, its blocks are sent again: %s protection=%s reason=\"%s\"", cannot(rc), r->name, why.text);
	if (rc == -ENOBUFS)
		memory_limits(r, why.text);
	return head_drop(r, err);
}

int head_retreat(struct replica *r, bool sound, struct err *err)
{
	struct err why = {0};
	// With much dead space in it, the head is worth more anew: what is sent again takes less room.
	if (r->point_count || !r->head.saved.file || head_dead(r) > head_bytes(r) / 4)
		return head_drop(r, err);
	if (sound && r->head.saved.blocks == 0) {
		int rc = head_renew(r, err);
		return rc ? rc : 1;
	}
	head_let_go(r); // what it has of the memory it needs again, and nobody else may come between
	int rc = head_restore(r, true, &why);
	memory_settle(r);
	if (rc == 0)
		return 1;
	log_warning("head was dropped: %s protection=%s reason=\"%s\"", cannot(rc), r->name, why.text);
	return head_drop(r, err);
}
