// SPDX-License-Identifier: Apache-2.0
// The seam's dispatch, and the sequences over it that more than one part needs.
#include "base/env.h"

#include "base/auto.h"

#include <errno.h>
#include <stdio.h>

enum { PATH_SIZE = 512 };

int env_root_open(struct env *env, const char *path, struct env_root **ret_root)
{
	return env->ops->root_open(env, path, ret_root);
}

void env_root_close(struct env_root *root)
{
	if (root)
		root->env->ops->root_close(root);
}

int env_root_fd(const struct env_root *root)
{
	return root->env->ops->root_fd ? root->env->ops->root_fd(root) : -ENOENT;
}

int env_leads(struct env_root *root, const char *name, const char *path)
{
	struct env_stat here, there;
	struct env_root *other = NULL;
	int rc = env_stat(root, name, &here);
	if (rc == 0)
		rc = env_root_open(root->env, path, &other);
	if (rc == 0)
		rc = env_stat(other, ".", &there);
	if (rc == 0 && (here.device != there.device || here.number != there.number))
		rc = -ESTALE;
	env_root_close(other);
	return rc;
}

int env_open(struct env_root *root, const char *name, enum env_open how, struct env_file **ret_file)
{
	return root->env->ops->open(root, name, how, ret_file);
}

void env_close(struct env_file *file)
{
	if (file)
		file->env->ops->close(file);
}

int env_pread(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len)
{
	return file->env->ops->pread(file, buf, len, off, ret_len);
}

int env_pread_full(struct env_file *file, void *buf, size_t len, uint64_t off)
{
	size_t got = 0;
	int rc = env_pread(file, buf, len, off, &got);
	return rc ? rc : got == len ? 0 : -ENODATA;
}

int env_pwrite(struct env_file *file, const void *buf, size_t len, uint64_t off)
{
	return file->env->ops->pwrite(file, buf, len, off);
}

int env_truncate(struct env_file *file, uint64_t size)
{
	return file->env->ops->truncate(file, size);
}

int env_punch(struct env_file *file, uint64_t off, uint64_t len)
{
	return file->env->ops->punch(file, off, len);
}

int env_data_told(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	return file->env->ops->data(file, off, ret_from, ret_to);
}

int env_data(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	const struct env_ops *ops = file->env->ops;
	uint64_t size = 0;
	if (!ops->tells_holes || ops->tells_holes(file))
		return ops->data(file, off, ret_from, ret_to);
	int rc = ops->size(file, &size);
	if (rc)
		return rc;
	*ret_from = off;
	*ret_to = off < size ? size : off;
	return 0;
}

int env_sync(struct env_file *file)
{
	return file->env->ops->sync(file);
}

int env_size(struct env_file *file, uint64_t *ret_size)
{
	return file->env->ops->size(file, ret_size);
}

int env_lock(struct env_file *file)
{
	return file->env->ops->lock(file);
}

int env_mkdir(struct env_root *root, const char *name)
{
	return root->env->ops->mkdir(root, name);
}

int env_rename(struct env_root *root, const char *from, const char *to)
{
	return root->env->ops->rename(root, from, to);
}

int env_exchange(struct env_root *root, const char *a, const char *b)
{
	return root->env->ops->exchange(root, a, b);
}

int env_unlink(struct env_root *root, const char *name)
{
	return root->env->ops->unlink(root, name);
}

int env_rmdir(struct env_root *root, const char *name)
{
	return root->env->ops->rmdir(root, name);
}

int env_sync_dir(struct env_root *root, const char *name)
{
	return root->env->ops->sync_dir(root, name);
}

int env_stat(struct env_root *root, const char *name, struct env_stat *ret_stat)
{
	return root->env->ops->stat(root, name, ret_stat);
}

int env_list(struct env_root *root, const char *name, char ***ret_names, size_t *ret_count)
{
	return root->env->ops->list(root, name, ret_names, ret_count);
}

void env_list_free(char **names, size_t count)
{
	for (size_t i = 0; names && i < count; i++)
		free(names[i]);
	free(names);
}

int env_space(struct env_root *root, uint64_t *ret_free)
{
	return root->env->ops->space(root, ret_free);
}

uint64_t env_mono_ns(struct env *env)
{
	return env->ops->mono_ns(env);
}

int64_t env_wall_ns(struct env *env)
{
	return env->ops->wall_ns(env);
}

int env_random(struct env *env, void *buf, size_t len)
{
	return env->ops->random(env, buf, len);
}

static int remove_children(struct env_root *root, const char *name)
{
	char **names = NULL;
	size_t count = 0;
	int rc = env_list(root, name, &names, &count);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		char path[PATH_SIZE];
		if (snprintf(path, sizeof(path), "%s/%s", name, names[i]) >= (int)sizeof(path))
			rc = -ENAMETOOLONG;
		else
			rc = env_remove_tree(root, path);
	}
	env_list_free(names, count);
	return rc;
}

int env_remove_tree(struct env_root *root, const char *name)
{
	struct env_stat st;
	int rc = env_stat(root, name, &st);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (!st.is_dir)
		return env_unlink(root, name);
	rc = remove_children(root, name);
	return rc ? rc : env_rmdir(root, name);
}

int env_replace(struct env_root *root, const char *dir, const char *name, const void *data, size_t len)
{
	char temp[PATH_SIZE];
	if (snprintf(temp, sizeof(temp), "%s.new", name) >= (int)sizeof(temp))
		return -ENAMETOOLONG;
	int rc = env_unlink(root, temp); // left by a crash
	if (rc && rc != -ENOENT)
		return rc;
	struct env_file *file = NULL;
	rc = env_open(root, temp, ENV_CREATE, &file);
	if (rc == 0)
		rc = env_pwrite(file, data, len, 0);
	if (rc == 0)
		rc = env_sync(file);
	env_close(file);
	if (rc) {
		(void)env_unlink(root, temp); // on a full disk its space is missed
		return rc;
	}
	rc = env_rename(root, temp, name);
	if (rc == 0)
		rc = env_sync_dir(root, dir);
	return rc;
}

int env_read_file(struct env_root *root, const char *name, size_t most, char **ret_data, size_t *ret_len)
{
	struct env_file *file = NULL;
	uint64_t size = 0;
	int rc = env_open(root, name, ENV_READ, &file);
	if (rc)
		return rc;
	rc = env_size(file, &size);
	if (rc == 0 && size > most)
		rc = -EFBIG;
	AUTO_FREE char *data = rc == 0 ? malloc((size_t)size + 1) : NULL;
	if (rc == 0 && !data)
		rc = -ENOMEM;
	if (rc == 0)
		rc = env_pread_full(file, data, (size_t)size, 0);
	env_close(file);
	if (rc)
		return rc;
	data[size] = 0;
	*ret_data = STEAL(data);
	*ret_len = (size_t)size;
	return 0;
}
