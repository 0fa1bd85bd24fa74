// SPDX-License-Identifier: Apache-2.0
// A directory of things that are being removed: they are moved in by one rename, and then deleted. What it promises: a
// thing whose files are deleted never comes back by its old name, in part, after a power cut.
#include "receiver/replica.h"

#include <errno.h>
#include <stdio.h>

typedef int trash_action(struct env_root *root, const char *dir, const char *name, struct err *err);

// Another name. If the sync of the move failed, in a process before us, then no later sync makes that move certain; the
// sync of a newer name does, for it cannot be there without the move.
static int name_again(struct env_root *root, const char *dir, const char *name, struct err *err)
{
	char from[REPLICA_PATH_SIZE], to[REPLICA_PATH_SIZE], text[UUID_TEXT_SIZE];
	struct uuid fresh;
	int rc = uuid_new(root->env, &fresh);
	if (rc)
		return err_sys(err, rc, "random");
	uuid_format(&fresh, text);
	(void)snprintf(from, sizeof(from), "%s/%.200s", dir, name);
	(void)snprintf(to, sizeof(to), "%s/%s", dir, text);
	rc = env_rename(root, from, to);
	return rc ? err_sys(err, rc, "%s: rename", from) : 0;
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

int trash_clear(struct env_root *root, const char *dir, struct err *err)
{
	int rc = env_mkdir(root, dir);
	if (rc && rc != -EEXIST)
		return err_sys(err, rc, "%s: create", dir);
	rc = each(root, dir, name_again, err);
	if (rc)
		return rc;
	rc = env_sync_dir(root, dir);
	return rc ? err_sys(err, rc, "%s: sync", dir) : each(root, dir, delete, err);
}
