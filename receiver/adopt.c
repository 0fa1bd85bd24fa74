// SPDX-License-Identifier: Apache-2.0
// A seed becomes the base of a new protection: docs/store.md, "Seeds". What it promises: a session begins only when the table of the base says what
// the base holds. So whatever a seed is, and whatever a crash left of it, a sync makes it right; only how much travels depends on it.
//
//	created with a note (adopting.json) ─► files taken: renamed over the empty base ─► digested, from the position that the note has ─► no note
#include "receiver/seed.h"

#include "base/log.h"
#include "receiver/json_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FORMAT "kagami-adopting"
enum { VERSION = 1, SLICE_BLOCKS = 256, SAVE_BLOCKS = 1 << 14, ADOPT_REST_S = 30 }; // a slice is 16 MiB; 1 GiB at most is read again after a crash

// --- the note ---

static int note_encode(unsigned disk, uint64_t block, char **ret_text, size_t *ret_len)
{
	AUTO_JSON json_t *object = json_object();
	if (json_object_set_new(object, "disk", json_new_u64(disk)) || json_object_set_new(object, "block", json_new_u64(block)))
		return -ENOMEM;
	return json_file_encode(object, FORMAT, VERSION, ret_text, ret_len);
}

int adopt_note(struct env_root *root, const char *dir, const struct protection *p, struct err *err)
{
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	size_t len = 0;
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < p->disk_count; i++) {
		struct seed seed;
		rc = seed_for(root, p->name, p->disk[i].name, p->owner_pin, &seed, err);
	}
	if (rc <= 0)
		return rc;
	(void)snprintf(path, sizeof(path), "%s/adopting.json", dir);
	rc = note_encode(0, 0, &text, &len);
	if (rc == 0)
		rc = env_replace(root, dir, path, text, len);
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

static int note_decode(const char *text, size_t len, struct replica *r, struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	uint64_t disk = 0, block = 0;
	int rc = json_file_decode(text, len, FORMAT, VERSION, &object, err);
	if (rc == 0)
		rc = json_get_u64(object, "disk", 0, r->prot.disk_count, &disk, err);
	if (rc == 0)
		rc = json_get_u64(object, "block", 0, size_blocks(DISK_SIZE_MAX), &block, err);
	if (rc == 0) {
		r->adopt_disk = (unsigned)disk;
		r->adopt_block = block;
	}
	return rc;
}

// A note that does not check says that everything is to be read, from the start.
void adopt_load(struct replica *r)
{
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	struct err err = {0};
	size_t len = 0;
	replica_file(r, path, "adopting.json");
	int rc = env_read_file(r->root, path, JSON_FILE_MAX, &text, &len);
	r->adopting = rc != -ENOENT && !r->point_count; // a replica with points has adopted, whatever keeps this file from being read
	r->adopt_disk = 0;
	r->adopt_block = 0;
	if (rc == 0 && note_decode(text, len, r, &err))
		log_warning("a seed is read from its start again protection=%s reason=\"%s\"", r->name, err.text);
	r->adopt_taken = r->adopt_disk || r->adopt_block; // what was digested is not replaced: a later seed of it is none
}

static int note_save(struct replica *r, struct err *err)
{
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	size_t len = 0;
	replica_file(r, path, "adopting.json");
	int rc = note_encode(r->adopt_disk, r->adopt_block, &text, &len);
	if (rc == 0)
		rc = env_replace(r->root, r->name, path, text, len);
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

// --- the files ---

static int raw_fit(struct replica *r, const char *path, uint64_t size, struct err *err)
{
	AUTO_FILE struct env_file *raw = NULL;
	int rc = env_open(r->root, path, ENV_WRITE, &raw);
	if (rc == 0)
		rc = env_truncate(raw, size);
	if (rc)
		return err_sys(err, rc, "%s", path);
	return env_sync(raw) ? err_set(err, -EIO, "%s: sync failed", path) : 0;
}

static int raw_take(struct replica *r, unsigned disk, struct err *err)
{
	struct seed seed;
	char from[REPLICA_PATH_SIZE], to[REPLICA_PATH_SIZE];
	const char *name = r->prot.disk[disk].name;
	int rc = seed_for(r->root, r->name, name, r->prot.owner_pin, &seed, err);
	if (rc <= 0)
		return rc; // none of this disk, or taken already
	seed_path(r->name, name, from);
	replica_file(r, to, "base/%s.raw", name);
	rc = raw_fit(r, from, r->prot.disk[disk].size, err);
	if (rc)
		return rc;
	rc = env_rename(r->root, from, to);
	if (rc)
		return err_sys(err, rc, "%s: rename", from);
	log_info("seed is taken as the base protection=%s disk=%s seed_bytes=%llu disk_bytes=%llu", r->name, name,
		 (unsigned long long)seed.size, (unsigned long long)r->prot.disk[disk].size);
	return 0;
}

// From here on nothing but a fold writes the base, and it holds what it will be digested as.
static int files_take(struct replica *r, struct err *err)
{
	char base[REPLICA_PATH_SIZE];
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = raw_take(r, i, err);
	replica_file(r, base, "base");
	if (rc == 0 && env_sync_dir(r->root, base))
		rc = err_set(err, -EIO, "%s: sync failed", base);
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = seed_place_remove(r->root, r->name, r->prot.disk[i].name, err);
	return rc;
}

// --- digesting ---

static int block_digest(struct replica *r, struct env_file *raw, struct digest_update *update, uint64_t index, unsigned char *block,
			struct err *err)
{
	uint32_t len = size_of_block(update->disk->size, index);
	memset(block + len, 0, BLOCK_SIZE - len);
	int rc = env_pread_full(raw, block, len, index * BLOCK_SIZE);
	if (rc == -EIO) {
		log_warning("a block of a seed cannot be read, and is sent by the source protection=%s disk=%s block=%llu", r->name,
			    r->prot.disk[update->disk->number].name, (unsigned long long)index);
		return digest_update_set(update, index, &digest_unknown, err);
	}
	if (rc)
		return err_sys(err, rc, "read the seed");
	struct digest digest = digest_of(&r->prot.digest, update->disk->number, index, block);
	return digest_is_zero(&digest) ? 0 : digest_update_set(update, index, &digest, err); // the table begins as one of zeros
}

static int slice_digest(struct replica *r, unsigned disk, uint64_t first, uint64_t end, bool sync, struct err *err)
{
	AUTO_FILE struct env_file *raw = NULL;
	AUTO_FILE struct env_file *table = NULL;
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	struct digest_disk of = replica_disk(r, disk);
	struct digest_update update;
	int rc = replica_open_file(r, ENV_READ, &raw, err, "base/%s.raw", r->prot.disk[disk].name);
	if (rc == 0)
		rc = replica_open_file(r, ENV_WRITE, &table, err, "base/%s.digests", r->prot.disk[disk].name);
	if (rc)
		return rc;
	if (!block)
		return err_set(err, -ENOMEM, "out of memory");
	digest_update_init(&update, table, &of);
	for (uint64_t b = first; rc == 0 && b < end; b++)
		rc = block_digest(r, raw, &update, b, block, err);
	if (rc == 0)
		rc = digest_update_flush(&update, err);
	if (rc == 0 && sync && env_sync(table))
		rc = err_set(err, -EIO, "%s/base/%s.digests: sync failed", r->name, r->prot.disk[disk].name);
	return rc;
}

static int adopt_end(struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	replica_file(r, path, "adopting.json");
	int rc = env_unlink(r->root, path);
	if (rc == 0 || rc == -ENOENT)
		rc = env_sync_dir(r->root, r->name);
	if (rc)
		return err_sys(err, rc, "%s: remove", path);
	rc = replica_base_count(r, err);
	r->adopting = false;
	log_info("seed is read, its source may sync protection=%s", r->name);
	return rc;
}

// Digests what is next; returns with the position behind it. `lock` is free meanwhile: as long as a seed is adopted nobody else touches the base.
static int slice_run(struct replica *r, struct err *err)
{
	unsigned disk = r->adopt_disk;
	uint64_t blocks = size_blocks(r->prot.disk[disk].size), first = min_u64(r->adopt_block, blocks);
	uint64_t end = min_u64(first + SLICE_BLOCKS, blocks);
	bool save = end == blocks || end % SAVE_BLOCKS == 0;
	int rc = slice_digest(r, disk, first, end, save, err);
	if (rc)
		return rc;
	LOCK_SCOPE(&r->lock);
	r->adopt_block = end == blocks ? 0 : end;
	r->adopt_disk += end == blocks;
	return save ? note_save(r, err) : 0;
}

static int adopt_step(struct replica *r, struct err *err)
{
	if (!r->adopt_taken) {
		int rc = files_take(r, err);
		r->adopt_taken = rc == 0;
		return rc;
	}
	if (r->adopt_disk < r->prot.disk_count)
		return slice_run(r, err);
	LOCK_SCOPE(&r->lock);
	return adopt_end(r, err);
}

int replica_adopt(struct replica *r, struct err *err)
{
	struct err why = {0}, told;
	{
		LOCK_SCOPE(&r->lock); // the retention of others may take an hour: it is not waited for to learn that there is nothing to do
		if (!r->adopting || r->broken || env_mono_ns(r->root->env) < r->adopt_rest_ns)
			return 0;
	}
	LOCK_SCOPE(&r->retain_lock); // not while it is removed
	{
		LOCK_SCOPE(&r->lock);
		if (!r->adopting || r->broken)
			return 0;
	}
	int rc = adopt_step(r, &why);
	if (rc == 0)
		return 1;
	LOCK_SCOPE(&r->lock);
	r->adopt_rest_ns = env_mono_ns(r->root->env) + ADOPT_REST_S * UINT64_C(1000000000); // it keeps no other's waiting
	if (rc == -EIO || rc == -EBADMSG) // a sync, or a write, perhaps: what is on disk is found out by the next start
		(void)replica_break(r, &why, &told);
	return err_set(err, rc, "%s", why.text);
}
