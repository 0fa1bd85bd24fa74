// SPDX-License-Identifier: Apache-2.0
// The operations of the simulated world: base/env.h's table, and those of it on files. Every operation goes through
// sim_begin (sim_power.c), where it gets its number and its faults.
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_power.h"

#include "base/auto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t root_ino(const struct env_root *root)
{
	return ((const struct sim_root *)root)->ino;
}

static uint32_t root_life(const struct env_root *root)
{
	return ((const struct sim_root *)root)->life;
}

static struct sim_file *file_of(struct env_file *file)
{
	return (struct sim_file *)file;
}

// Begins an operation on names: `name` and, for a rename or an exchange, `to`.
int sim_begin_names(struct env_root *root, const char *what, unsigned flags, const char *name, const char *to)
{
	struct sim_op op = {.what = what, .flags = flags, .name = name, .to = to, .root = root_ino(root)};
	return sim_begin(sim_of(root->env), root_life(root), &op);
}

static int begin_file(struct env_file *file, const char *what, unsigned flags, uint64_t off, uint64_t len)
{
	struct sim_op op = {.what = what, .flags = flags, .ino = file_of(file)->ino, .off = off, .len = len};
	return sim_begin(sim_of(file->env), file_of(file)->life, &op);
}

int sim_walk(struct env_root *root, const char *name, struct place *ret_place)
{
	return names_walk(sim_of(root->env), root_ino(root), name, ret_place);
}

static int open_root(struct sim *sim, const char *path, struct env_root **ret_root)
{
	struct sim_op op = {.what = "root_open", .name = path};
	int rc = sim_begin(sim, sim->life, &op);
	if (rc)
		return rc;
	path += strspn(path, "/");
	struct place at = {.ino = ROOT_INO};
	rc = *path ? names_walk(sim, ROOT_INO, path, &at) : 0;
	if (rc || !at.ino)
		return rc ? rc : -ENOENT;
	if (!inode_get(sim, at.ino)->is_dir)
		return -ENOTDIR;
	struct sim_root *root = malloc(sizeof(*root));
	if (!root)
		return -ENOMEM;
	*root = (struct sim_root){.base = {.env = &sim->env}, .next = sim->root, .ino = at.ino, .life = sim->life};
	sim->root = root;
	*ret_root = &root->base;
	return 0;
}

static int sim_root_open(struct env *env, const char *path, struct env_root **ret_root)
{
	LOCK_SCOPE(&sim_of(env)->mutex);
	return open_root(sim_of(env), path, ret_root);
}

static void sim_root_close(struct env_root *root)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	struct sim_root **link = &sim->root;
	while (&(*link)->base != root)
		link = &(*link)->next;
	*link = (*link)->next;
	free(root);
}

static int open_place(struct sim *sim, struct place *at, enum env_open how)
{
	bool make = how == ENV_CREATE || how == ENV_CREATE_OPEN;
	if (at->ino && how == ENV_CREATE)
		return -EEXIST;
	if (at->ino && inode_get(sim, at->ino)->is_dir)
		return -EISDIR;
	if (at->ino)
		return 0;
	if (!make)
		return -ENOENT;
	at->ino = inode_new(sim, false);
	names_set(sim, at->dir, at->name, at->ino, 0, NULL);
	sim_changed(sim, false);
	return 0;
}

static int sim_open(struct env_root *root, const char *name, enum env_open how, struct env_file **ret_file)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	bool make = how == ENV_CREATE || how == ENV_CREATE_OPEN;
	int rc = sim_begin_names(root, make ? "create" : "open", make ? SIM_CHANGES | SIM_ALLOCATES : 0, name, NULL);
	struct place at;
	if (rc == 0)
		rc = sim_walk(root, name, &at);
	if (rc == 0)
		rc = open_place(sim, &at, how);
	if (rc)
		return rc;
	struct sim_file *file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	*file = (struct sim_file){.base = {.env = &sim->env}, .next = sim->file, .ino = at.ino, .life = sim->life,
				  .writable = how != ENV_READ};
	sim->file = file;
	*ret_file = &file->base;
	return 0;
}

static void sim_close(struct env_file *file)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	struct sim_file **link = &sim->file;
	while (&(*link)->base != file)
		link = &(*link)->next;
	*link = (*link)->next;
	free(file);
}

static bool is_dir(struct env_file *file)
{
	return inode_get(sim_of(file->env), file_of(file)->ino)->is_dir;
}

static int sim_pread(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = begin_file(file, "read", 0, off, len);
	if (rc == 0 && is_dir(file))
		rc = -EISDIR;
	if (rc == 0 && off > INT64_MAX)
		rc = -EINVAL;
	if (rc == 0)
		*ret_len = data_read(sim, file_of(file)->ino, buf, len, off);
	return rc;
}

static int check_range(struct env_file *file, uint64_t off, uint64_t len)
{
	if (!file_of(file)->writable)
		return -EBADF;
	return size_within(off, len, INT64_MAX) ? 0 : off > INT64_MAX ? -EINVAL : -EFBIG;
}

// How much of a write that fails gets through.
static size_t part_of_write(struct sim *sim, uint64_t off, size_t len)
{
	size_t half = len / 2;
	half -= (size_t)min_u64(half, (off + half) % SECTOR_SIZE);
	switch (sim_choose(sim, 3)) {
	case 0:
		return 0;
	case 1:
		return half;
	default:
		return len;
	}
}

static int sim_pwrite(struct env_file *file, const void *buf, size_t len, uint64_t off)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = begin_file(file, "write", SIM_CHANGES | SIM_ALLOCATES, off, len);
	bool broken = rc && rc != -ESHUTDOWN;
	int bad = rc == 0 || broken ? check_range(file, off, len) : rc;
	if (bad)
		return bad;
	size_t part = broken ? part_of_write(sim, off, len) : len;
	if (part == 0)
		return rc;
	int full = data_write(sim, file_of(file)->ino, buf, part, off);
	sim_changed(sim, false);
	return rc ? rc : full;
}

static int sim_truncate(struct env_file *file, uint64_t size)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = begin_file(file, "truncate", SIM_CHANGES | SIM_ALLOCATES, size, 0);
	if (rc == 0 && (!file_of(file)->writable || size > INT64_MAX))
		rc = -EINVAL;
	if (rc)
		return rc;
	data_resize(sim, file_of(file)->ino, size);
	sim_changed(sim, false);
	return 0;
}

static int sim_punch(struct env_file *file, uint64_t off, uint64_t len)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = begin_file(file, "punch", SIM_CHANGES | SIM_ALLOCATES, off, len);
	if (rc == 0)
		rc = check_range(file, off, len);
	if (rc || len == 0)
		return rc;
	data_zero(sim, file_of(file)->ino, off, len);
	sim_changed(sim, false);
	return 0;
}

static int sim_data(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = begin_file(file, "data", 0, off, 0);
	if (rc == 0)
		data_extent(sim, file_of(file)->ino, off, ret_from, ret_to);
	return rc;
}

static int sim_sync(struct env_file *file)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	uint32_t ino = file_of(file)->ino;
	int rc = begin_file(file, "sync", SIM_CHANGES | SIM_ALLOCATES, 0, 0);
	if (is_dir(file) || rc == -ESHUTDOWN)
		return rc;
	if (rc)
		data_sync_failed(sim, ino);
	else if (data_sync(sim, ino))
		sim_changed(sim, true);
	return rc;
}

static int sim_size(struct env_file *file, uint64_t *ret_size)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = begin_file(file, "size", 0, 0, 0);
	if (rc == 0)
		*ret_size = data_size(sim, file_of(file)->ino);
	return rc;
}

static int sim_lock(struct env_file *file)
{
	struct sim *sim = sim_of(file->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = begin_file(file, "lock", 0, 0, 0);
	if (rc)
		return rc;
	for (const struct sim_file *other = sim->file; other; other = other->next)
		if (&other->base != file && other->locked && other->life == sim->life && other->ino == file_of(file)->ino)
			return -EBUSY;
	file_of(file)->locked = true;
	return 0;
}

static int sim_space(struct env_root *root, uint64_t *ret_free)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	int rc = sim_begin_names(root, "space", 0, ".", NULL);
	if (rc == 0)
		*ret_free = sim->world.limit - min_u64(sim->world.used, sim->world.limit);
	return rc;
}

static uint64_t sim_mono_ns(struct env *env)
{
	LOCK_SCOPE(&sim_of(env)->mutex);
	return sim_of(env)->world.mono_ns;
}

static int64_t sim_wall_ns(struct env *env)
{
	LOCK_SCOPE(&sim_of(env)->mutex);
	return sim_of(env)->world.wall_ns;
}

static int sim_random(struct env *env, void *buf, size_t len)
{
	struct sim *sim = sim_of(env);
	LOCK_SCOPE(&sim->mutex);
	struct sim_op op = {.what = "random", .len = len};
	int rc = sim_begin(sim, sim->life, &op);
	for (size_t i = 0; rc == 0 && i < len; i++) {
		uint64_t *x = &sim->world.random; // xorshift64*
		*x ^= *x >> 12;
		*x ^= *x << 25;
		*x ^= *x >> 27;
		((unsigned char *)buf)[i] = (unsigned char)(*x * UINT64_C(0x2545f4914f6cdd1d) >> 56);
	}
	return rc;
}

const struct env_ops sim_ops_table = {
	.root_open = sim_root_open,
	.root_close = sim_root_close,
	.open = sim_open,
	.close = sim_close,
	.pread = sim_pread,
	.pwrite = sim_pwrite,
	.truncate = sim_truncate,
	.punch = sim_punch,
	.data = sim_data,
	.sync = sim_sync,
	.size = sim_size,
	.lock = sim_lock,
	.mkdir = sim_mkdir,
	.rename = sim_rename,
	.exchange = sim_exchange,
	.unlink = sim_unlink,
	.rmdir = sim_rmdir,
	.sync_dir = sim_sync_dir,
	.stat = sim_stat,
	.list = sim_list,
	.space = sim_space,
	.mono_ns = sim_mono_ns,
	.wall_ns = sim_wall_ns,
	.random = sim_random,
};
