// SPDX-License-Identifier: Apache-2.0
// A directory of things that are being removed: they are moved in by one rename, and then deleted. What it promises: a
// thing whose files are deleted never comes back by its old name, in part, after a power cut.
#include "receiver/replica.h"

#include <errno.h>
#include <stdio.h>

typedef int trash_action(struct env_root *root, const char *dir, const char *name, struct err *err);

// Under a new name. If the sync of the move failed, in a process before us, then no later sync makes that move certain; the
// sync of a newer name does, for it cannot be there without the move.
static int move_in(struct env_root *root, const char *from_dir, const char *name, const char *dir, struct err *err)
{
	char from[REPLICA_PATH_SIZE], to[REPLICA_PATH_SIZE], text[UUID_TEXT_SIZE];
	struct uuid fresh;
	int rc = uuid_new(root->env, &fresh);
	if (rc)
		return err_sys(err, rc, "random");
	uuid_format(&fresh, text);
	(void)snprintf(from, sizeof(from), "%s/%.200s", from_dir, name);
	(void)snprintf(to, sizeof(to), "%s/%s", dir, text);
	rc = env_rename(root, from, to);
	return rc ? err_sys(err, rc, "%s: rename", from) : 0;
}

static int name_again(struct env_root *root, const char *dir, const char *name, struct err *err)
{
	return move_in(root, dir, name, dir, err);
}

static int delete(struct env_root *root, const char *dir, const char *name, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	(void)snprintf(path, sizeof(path), "%s/%.200s", dir, name);
	int rc = env_remove_tree(root, path);
	return rc ? err_sys(err, rc, "%s: remove", path) : 0;
}

static int each(struct env_root *root, const char *dir, trash_action *action, struct err *err)
{
	char **names = NULL;
	size_t count = 0;
	int rc = env_list(root, dir, &names, &count);
	if (rc)
		return err_sys(err, rc, "%s", dir);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = action(root, dir, names[i], err);
	env_list_free(names, count);
	return rc;
}

static int dir_make(struct env_root *root, const char *dir, struct err *err)
{
	int rc = env_mkdir(root, dir);
	return rc && rc != -EEXIST ? err_sys(err, rc, "%s: create", dir) : 0;
}

int trash_make(struct env_root *root, const char *parent, const char *dir, struct err *err)
{
	struct env_stat st;
	int rc = env_stat(root, dir, &st);
	if (rc != -ENOENT)
		return rc ? err_sys(err, rc, "%s", dir) : 0;
	rc = dir_make(root, dir, err);
	if (rc)
		return rc;
	rc = env_sync_dir(root, parent);
	return rc ? err_sys(err, rc, "%s: sync", parent) : 0;
}

int trash_take(struct env_root *root, const char *from, const char *dir, struct err *err)
{
	char **names = NULL;
	size_t count = 0;
	int rc = dir_make(root, from, err);
	if (rc == 0)
		rc = dir_make(root, dir, err);
	if (rc)
		return rc;
	rc = env_list(root, from, &names, &count);
	if (rc)
		return err_sys(err, rc, "%s", from);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = move_in(root, from, names[i], dir, err);
	env_list_free(names, count);
	return rc;
}

int trash_clear(struct env_root *root, const char *dir, struct err *err)
{
	int rc = dir_make(root, dir, err);
	if (rc)
		return rc;
	rc = each(root, dir, name_again, err);
	if (rc)
		return rc;
	rc = env_sync_dir(root, dir);
	return rc ? err_sys(err, rc, "%s: sync", dir) : each(root, dir, delete, err);
}
