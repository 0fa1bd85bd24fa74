// SPDX-License-Identifier: Apache-2.0
#include "receiver/unlisted.h"

#include "base/auto.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = NAME_SIZE + 8 };

bool unlisted_any(const struct unlisted *u)
{
	return atomic_load(&u->count) != 0;
}

bool unlisted_has(const struct unlisted *u, const struct replica *replica)
{
	for (size_t i = 0; i < u->count; i++)
		if (u->one[i].replica == replica)
			return true;
	return false;
}

static int add(struct unlisted *u, struct replica *replica, const char *name)
{
	struct unlisted_one *more = realloc(u->one, (u->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	u->one = more;
	int rc = replica_hold_unread(replica, 0);
	if (rc)
		return rc;
	u->one[u->count].replica = replica;
	(void)snprintf(u->one[u->count].name, NAME_SIZE, "%s", name);
	u->count++;
	return 0;
}

int unlisted_read(struct unlisted *u, struct env_root *root, struct replica *replica, const char *name, char ***ret_names, size_t *ret_count,
		  struct err *err)
{
	char path[PATH_SIZE];
	(void)snprintf(path, sizeof(path), "%s/tests", name);
	int rc = env_list(root, path, ret_names, ret_count);
	if (rc == -ENOENT) { // there never was one
		*ret_names = NULL;
		*ret_count = 0;
	}
	if (rc == 0 || rc == -ENOENT)
		return 0;
	if (!unlisted_has(u, replica)) {
		if (add(u, replica, name))
			return err_set(err, -ENOMEM, "out of memory");
		log_warning("nobody knows what tests and mounts stand on: every point is held until that can be read protection=%s file=%s errno=%d", name, path, -rc);
	}
	(void)err_sys(err, rc, "list %s", path);
	return 1;
}

void unlisted_over(struct unlisted *u, struct replica *replica)
{
	size_t i = 0;
	while (i < u->count && u->one[i].replica != replica)
		i++;
	if (i == u->count)
		return;
	log_info("what tests and mounts stand on is known again protection=%s", u->one[i].name);
	replica_release(replica, 0);
	u->count--;
	memmove(&u->one[i], &u->one[i + 1], (u->count - i) * sizeof(*u->one));
}

void unlisted_look(struct unlisted *u, pthread_mutex_t *turns, int (*read)(void *owner, struct replica *replica, struct err *err), void *owner)
{
	struct err err = {.code = 0};
	if (!unlisted_any(u))
		return;
	LOCK_SCOPE(turns);
	for (size_t i = u->count; i-- > 0;)
		(void)read(owner, u->one[i].replica, &err);
}

void unlisted_done(struct unlisted *u)
{
	while (u->count)
		replica_release(u->one[--u->count].replica, 0);
	free(u->one);
	u->one = NULL;
}
