// SPDX-License-Identifier: Apache-2.0
// The name of a point whose commit nobody saw become durable. What it promises: when recovery has given it anew and synced points/, it is certain, whatever
// became of the commit's own sync; and a crash on the way loses nothing.
//
// After a sync that failed, the next one may find nothing to do and say that all is well. That of a newer name cannot: it moved the thing
// from where the older one had put it. Which point it may be is told by its journal (docs/store.md, "Commit"): it is deleted when that sync has passed.
#include "receiver/replica.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ASIDE ".aside" // behind the number

static void paths_of(const struct replica *r, uint64_t number, char *path, char *aside)
{
	replica_file(r, path, "points/%llu", (unsigned long long)number);
	replica_file(r, aside, "points/%llu" ASIDE, (unsigned long long)number);
}

int point_unsure(struct replica *r, uint64_t *ret_number, struct err *err)
{
	AUTO_FREE uint64_t *number = NULL;
	char journal[REPLICA_PATH_SIZE];
	struct env_stat st;
	size_t count = 0;
	*ret_number = 0;
	int rc = replica_numbers(r, &number, &count, err);
	if (rc || count == 0)
		return rc;
	replica_file(r, journal, "points/%llu/checkpoint", (unsigned long long)number[count - 1]);
	rc = env_stat(r->root, journal, &st);
	if (rc == 0)
		*ret_number = number[count - 1];
	return rc && rc != -ENOENT ? err_sys(err, rc, "%s", journal) : 0;
}

int point_name_anew(struct replica *r, uint64_t number, struct err *err)
{
	char path[REPLICA_PATH_SIZE], aside[REPLICA_PATH_SIZE];
	paths_of(r, number, path, aside);
	int rc = env_rename(r->root, path, aside);
	if (rc)
		return err_sys(err, rc, "%s: rename", path);
	rc = env_rename(r->root, aside, path);
	return rc ? err_sys(err, rc, "%s: rename to %s", aside, path) : 0;
}

// Whether `name` is one that a crash left between the two renames.
bool point_is_aside(const char *name, uint64_t *ret_number)
{
	char number[24];
	size_t len = strlen(name), behind = strlen(ASIDE);
	if (len <= behind || len - behind >= sizeof(number) || strcmp(name + len - behind, ASIDE) != 0)
		return false;
	memcpy(number, name, len - behind);
	number[len - behind] = 0;
	return replica_number(number, ret_number) == 0;
}

int point_names_end(struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE], aside[REPLICA_PATH_SIZE], **names = NULL;
	uint64_t number;
	size_t count = 0;
	replica_file(r, path, "points");
	int rc = env_list(r->root, path, &names, &count);
	if (rc) // recovery says so, or finds it there a moment later, and the name that was left not to be a point
		return 0;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (!point_is_aside(names[i], &number))
			continue;
		paths_of(r, number, path, aside);
		rc = env_rename(r->root, aside, path);
		if (rc)
			rc = err_sys(err, rc, "%s: rename to %s", aside, path);
		else
			log_info("a point that a start which was cut off had left aside is in its place file=%s", path);
	}
	env_list_free(names, count);
	return rc;
}
