// SPDX-License-Identifier: Apache-2.0
// The operations of the simulated world on names: making, moving, removing, listing. Errors are those of Linux, so that
// code cannot tell this from env_posix (tests/unit/test_env.c).
#include "tests/sim/sim_power.h"

#include "base/auto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int walk_dir(struct env_root *root, const char *name, uint32_t *ret_dir)
{
	struct place at;
	int rc = sim_walk(root, name, &at);
	if (rc == 0 && !at.ino)
		rc = -ENOENT;
	if (rc == 0 && !inode_get(sim_of(root->env), at.ino)->is_dir)
		rc = -ENOTDIR;
	if (rc == 0)
		*ret_dir = at.ino;
	return rc;
}

// The parent of a name that is to change exists, or the walk would have failed; it must be a name of its own.
static int walk_name(struct env_root *root, const char *name, struct place *ret_place)
{
	int rc = sim_walk(root, name, ret_place);
	if (rc == 0 && strcmp(ret_place->name, ".") == 0)
		rc = -EBUSY;
	return rc;
}

int sim_mkdir(struct env_root *root, const char *name)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	struct place at;
	int rc = sim_begin_names(root, "mkdir", SIM_CHANGES | SIM_ALLOCATES, name, NULL);
	if (rc == 0)
		rc = sim_walk(root, name, &at);
	if (rc == 0 && at.ino)
		rc = -EEXIST;
	if (rc)
		return rc;
	names_set(sim, at.dir, at.name, inode_new(sim, true), 0, NULL);
	sim_changed(sim, false);
	return 0;
}

// Whether `what` may be renamed over `over`.
static int check_over(struct sim *sim, uint32_t what, uint32_t over)
{
	bool dir = inode_get(sim, what)->is_dir, over_dir = inode_get(sim, over)->is_dir;
	if (dir != over_dir)
		return dir ? -ENOTDIR : -EISDIR;
	return dir && !names_empty(sim, over) ? -ENOTEMPTY : 0;
}

// Whether directory `inner` is `outer` or lies below it.
static bool lies_below(struct sim *sim, uint32_t inner, uint32_t outer)
{
	if (inner == outer)
		return true;
	const char *name;
	for (uint32_t i = 0; (i = names_next(sim, outer, i, &name)) != UINT32_MAX; i++) {
		uint32_t child = names_get(sim, outer, name);
		if (inode_get(sim, child)->is_dir && lies_below(sim, inner, child))
			return true;
	}
	return false;
}

int sim_rename(struct env_root *root, const char *from, const char *to)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	struct place a, b;
	int rc = sim_begin_names(root, "rename", SIM_CHANGES | SIM_ALLOCATES, from, to);
	if (rc == 0)
		rc = walk_name(root, from, &a);
	if (rc == 0)
		rc = walk_name(root, to, &b);
	if (rc == 0 && !a.ino)
		rc = -ENOENT;
	if (rc || a.ino == b.ino)
		return rc;
	if (a.dir != b.dir && inode_get(sim, a.ino)->is_dir && lies_below(sim, b.dir, a.ino))
		return -EINVAL;
	rc = b.ino ? check_over(sim, a.ino, b.ino) : 0;
	if (rc)
		return rc;
	if (b.ino && !inode_get(sim, b.ino)->is_dir)
		data_uncount(sim, b.ino);
	names_set(sim, b.dir, b.name, a.ino, a.dir, a.name);
	sim_changed(sim, false);
	return 0;
}

int sim_exchange(struct env_root *root, const char *a, const char *b)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	struct place at_a, at_b;
	int rc = sim_begin_names(root, "exchange", SIM_CHANGES | SIM_ALLOCATES, a, b);
	if (rc == 0 && !sim->can_exchange)
		rc = -EOPNOTSUPP;
	if (rc == 0)
		rc = walk_name(root, a, &at_a);
	if (rc == 0)
		rc = walk_name(root, b, &at_b);
	if (rc == 0 && (!at_a.ino || !at_b.ino))
		rc = -ENOENT;
	if (rc || at_a.ino == at_b.ino)
		return rc;
	bool a_below = inode_get(sim, at_b.ino)->is_dir && lies_below(sim, at_a.dir, at_b.ino);
	bool b_below = inode_get(sim, at_a.ino)->is_dir && lies_below(sim, at_b.dir, at_a.ino);
	if (a_below || b_below)
		return -EOPNOTSUPP;
	names_exchange(sim, &at_a, &at_b);
	sim_changed(sim, false);
	return 0;
}

static int remove_name(struct env_root *root, const char *what, const char *name, bool dir)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	struct place at;
	int rc = sim_begin_names(root, what, SIM_CHANGES, name, NULL);
	if (rc == 0)
		rc = sim_walk(root, name, &at);
	if (rc == 0 && !at.ino)
		rc = -ENOENT;
	if (rc == 0 && inode_get(sim, at.ino)->is_dir != dir)
		rc = dir ? -ENOTDIR : -EISDIR;
	if (rc == 0 && strcmp(at.name, ".") == 0)
		rc = -EINVAL;
	if (rc == 0 && dir && !names_empty(sim, at.ino))
		rc = -ENOTEMPTY;
	if (rc)
		return rc;
	if (!dir)
		data_uncount(sim, at.ino);
	names_set(sim, at.dir, at.name, 0, 0, NULL);
	sim_changed(sim, false);
	return 0;
}

int sim_unlink(struct env_root *root, const char *name)
{
	return remove_name(root, "unlink", name, false);
}

int sim_rmdir(struct env_root *root, const char *name)
{
	return remove_name(root, "rmdir", name, true);
}

int sim_sync_dir(struct env_root *root, const char *name)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	uint32_t dir;
	int failure = sim_begin_names(root, "sync_dir", SIM_CHANGES | SIM_ALLOCATES, name, NULL);
	if (failure == -ESHUTDOWN)
		return failure;
	int rc = walk_dir(root, name, &dir);
	if (rc)
		return rc;
	if (failure)
		names_sync_failed(sim, dir);
	else if (names_sync(sim, dir))
		sim_changed(sim, true);
	return failure;
}

int sim_stat(struct env_root *root, const char *name, struct env_stat *ret_stat)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	struct place at;
	int rc = sim_begin_names(root, "stat", 0, name, NULL);
	if (rc == 0)
		rc = sim_walk(root, name, &at);
	if (rc == 0 && !at.ino)
		rc = -ENOENT;
	if (rc)
		return rc;
	bool dir = inode_get(sim, at.ino)->is_dir;
	uint64_t size = dir ? 0 : data_size(sim, at.ino);
	*ret_stat = (struct env_stat){.is_dir = dir, .size = size, .allocated = data_allocated(sim, at.ino), .number = at.ino};
	return 0;
}

static int add_name(char ***names, size_t *count, const char *name)
{
	char **more = realloc(*names, (*count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	*names = more;
	more[*count] = strdup(name);
	return more[*count] ? ((*count)++, 0) : -ENOMEM;
}

int sim_list(struct env_root *root, const char *name, char ***ret_names, size_t *ret_count)
{
	struct sim *sim = sim_of(root->env);
	LOCK_SCOPE(&sim->mutex);
	uint32_t dir;
	int rc = sim_begin_names(root, "list", 0, name, NULL);
	if (rc == 0)
		rc = walk_dir(root, name, &dir);
	if (rc)
		return rc;
	char **names = NULL;
	const char *next;
	size_t count = 0;
	for (uint32_t i = 0; rc == 0 && (i = names_next(sim, dir, i, &next)) != UINT32_MAX; i++)
		rc = add_name(&names, &count, next);
	if (rc) {
		env_list_free(names, count);
		return rc;
	}
	*ret_names = names;
	*ret_count = count;
	return 0;
}
