// SPDX-License-Identifier: Apache-2.0
// A protection's coming into being on disk: docs/store.md, "Create". What it promises: after a crash it is there as a
// whole, or not at all.
//
// Everything is made below .new/, which is deleted at start, and gets its name by one rename.
#include "receiver/copies.h"
#include "receiver/seed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int create_check(const struct wire_open *open, struct protection *p, struct err *err)
{
	if (!name_ok(open->name))
		return err_set(err, -EINVAL, "name: " NAME_RULE);
	if (name_reserved(open->name))
		return err_set(err, -EEXIST, "%s " NAME_RESERVED_RULE, open->name);
	if (open->disk_count < 1 || open->disk_count > DISKS_MAX)
		return err_set(err, -EINVAL, "%s: a protection has 1 to %d disks", open->name, DISKS_MAX);
	for (unsigned i = 0; i < open->disk_count; i++) {
		const struct wire_disk *disk = &open->disk[i];
		if (!name_ok(disk->name) || protection_disk(p, disk->name) >= 0)
			return err_set(err, -EINVAL, "%s: disk %u: its name is not allowed, or there twice", open->name, i);
		if (!size_disk_ok(disk->size))
			return err_set(err, -EINVAL, "%s: disk %s: a size that no disk has", open->name, disk->name);
		p->disk[i] = *disk;
		p->disk_count = (uint16_t)(i + 1);
	}
	if (open->points_keep < 1 || open->points_keep > STORE_POINTS_MAX)
		return err_set(err, -EINVAL, "%s: this receiver keeps 1 to %d points", open->name, STORE_POINTS_MAX);
	if (!digest_kind_known(open->digest.kind))
		return err_set(err, -EINVAL, "%s: unknown kind of digest", open->name);
	return 0;
}

static int protection_fill(const struct wire_open *open, const unsigned char *pin, struct protection *p, struct err *err)
{
	*p = (struct protection){
		.id = open->protection,
		.generation = open->generation,
		.rpo_ms = min_u64(open->rpo_ms, INT64_MAX),
		.points_keep = open->points_keep,
		.digest = open->digest,
	};
	memcpy(p->name, open->name, sizeof(p->name));
	memcpy(p->owner_pin, pin, OWNER_PIN_SIZE);
	return create_check(open, p, err);
}

static int base_create(struct env_root *root, const struct protection *p, unsigned disk, struct err *err)
{
	AUTO_FILE struct env_file *raw = NULL;
	AUTO_FILE struct env_file *table = NULL;
	char path[REPLICA_PATH_SIZE];
	struct digest_disk of = {.kind = p->digest.kind, .number = (uint16_t)disk, .size = p->disk[disk].size};
	(void)snprintf(path, sizeof(path), STORE_NEW "/%s/base/%s.raw", p->name, p->disk[disk].name);
	int rc = env_open(root, path, ENV_CREATE, &raw);
	if (rc == 0)
		rc = env_truncate(raw, of.size);
	if (rc == 0)
		rc = env_sync(raw);
	if (rc) {
		(void)err_sys(err, rc, "%s", path);
		return rc == -EFBIG ? too_large(err, err) : rc;
	}
	(void)snprintf(path, sizeof(path), STORE_NEW "/%s/base/%s.digests", p->name, p->disk[disk].name);
	rc = env_open(root, path, ENV_CREATE, &table);
	if (rc)
		return err_sys(err, rc, "%s", path);
	return digest_table_create(table, &of, err) ? err_wrap(err, "%s", path) : 0;
}

static int dirs_do(struct env_root *root, const struct protection *p, int (*action)(struct env_root *, const char *), bool inner_first,
		   struct err *err)
{
	static const char *const outer_first[] = {"", "/base", "/points", "/merge", "/trash"};
	char path[REPLICA_PATH_SIZE];
	for (size_t i = 0, last = sizeof(outer_first) / sizeof(outer_first[0]) - 1; i <= last; i++) {
		(void)snprintf(path, sizeof(path), STORE_NEW "/%s%s", p->name, outer_first[inner_first ? last - i : i]);
		int rc = action(root, path);
		if (rc)
			return err_sys(err, rc, "%s", path);
	}
	return 0;
}

static int manifest_create(struct env_root *root, const struct protection *p, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char dir[REPLICA_PATH_SIZE], path[REPLICA_PATH_SIZE];
	int rc = protection_encode(p, &text, &len);
	(void)snprintf(dir, sizeof(dir), STORE_NEW "/%s", p->name);
	(void)snprintf(path, sizeof(path), STORE_NEW "/%s/protection.json", p->name);
	if (rc)
		return err_sys(err, rc, "%s", path);
	rc = copies_create(root, path, text, len, err);
	return rc ? rc : (rc = env_sync_dir(root, dir)) ? err_sys(err, rc, "%s: sync", dir) : 0;
}

// All of it below .new/, and on stable storage there.
static int create_prepare(struct env_root *root, const struct protection *p, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	int rc = env_mkdir(root, STORE_NEW);
	if (rc && rc != -EEXIST)
		return err_sys(err, rc, STORE_NEW "/");
	(void)snprintf(path, sizeof(path), STORE_NEW "/%s", p->name);
	rc = env_remove_tree(root, path); // left by a creation that failed
	if (rc)
		return err_sys(err, rc, "%s: remove", path);
	rc = dirs_do(root, p, env_mkdir, false, err);
	for (unsigned i = 0; rc == 0 && i < p->disk_count; i++)
		rc = base_create(root, p, i, err);
	if (rc == 0)
		rc = adopt_note(root, path, p, err);
	if (rc == 0)
		rc = manifest_create(root, p, err);
	return rc ? rc : dirs_do(root, p, env_sync_dir, true, err);
}

static int create_publish(struct env_root *root, const char *name, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	(void)snprintf(path, sizeof(path), STORE_NEW "/%s", name);
	int rc = env_rename(root, path, name);
	if (rc == -EEXIST || rc == -ENOTEMPTY || rc == -ENOTDIR)
		return err_set(err, -EEXIST, "%s exists in the store and is not a protection; use another name", name);
	if (rc == 0)
		rc = env_sync_dir(root, ".");
	return rc ? err_sys(err, rc, "%s: create; start the receiver again before another try", name) : 0;
}

static int create_fail(struct env_root *root, const char *name, int rc)
{
	char path[REPLICA_PATH_SIZE];
	(void)snprintf(path, sizeof(path), STORE_NEW "/%s", name);
	(void)env_remove_tree(root, path); // space; what is left is removed at the next try or start
	return rc == -EDQUOT ? -ENOSPC : rc;
}

int replica_create(struct env_root *root, const struct wire_open *open, const unsigned char pin[OWNER_PIN_SIZE], struct err *err)
{
	AUTO_FREE struct protection *p = malloc(sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = protection_fill(open, pin, p, err);
	if (rc)
		return rc;
	rc = create_prepare(root, p, err);
	if (rc == 0)
		rc = create_publish(root, p->name, err);
	return rc ? create_fail(root, open->name, rc) : 0;
}
