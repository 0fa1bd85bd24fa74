// SPDX-License-Identifier: Apache-2.0
// What a broken replica answers, decided here alone: whoever asks for a point goes through replica_point_asked(), and whoever lists them through
// replica_broken_list(). What it promises: a point that recovery could read is given, as that of any other replica; for one that is not there, and for a list
// that has none, the answer is why the replica is broken, and never that there is nothing.
#include "receiver/replica.h"

#include "receiver/chain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DISKS_TEXT_SIZE = 160 };

void broken_reason(const struct replica *r, char text[ERR_TEXT_MAX])
{
	uint64_t again_ms = mend_in_ms(r);
	if (r->gone)
		(void)snprintf(text, ERR_TEXT_MAX, "it was removed");
	else if (again_ms)
		(void)snprintf(text, ERR_TEXT_MAX, "it cannot be %s, and is looked at again in %llu s: %.400s", mend_lack(r), (unsigned long long)(again_ms + 999) / 1000,
			       r->why.text);
	else
		(void)snprintf(text, ERR_TEXT_MAX, "%s", r->why.text);
}

int replica_broken(const struct replica *r, struct err *err)
{
	char reason[ERR_TEXT_MAX];
	if (!r->broken)
		return 0;
	broken_reason(r, reason);
	return err_set(err, -EIO, "%s is broken: %s", r->name, reason);
}

int replica_point_asked(struct replica *r, uint64_t number, struct point_info **ret_point, struct err *err)
{
	struct point_info *point = replica_point(r, number ? number : replica_last_point(r));
	if (!point && r->broken && !r->gone)
		return replica_broken(r, err);
	if (!point && number)
		return err_set(err, -ENOENT, "%s has no point %llu; list them with 'kagami points %s'", r->name, (unsigned long long)number, r->name);
	if (!point)
		return err_set(err, -ENOENT, "%s has no recovery point yet: its initial sync was not finished", r->name);
	*ret_point = point;
	return 0;
}

int replica_broken_list(const struct replica *r, struct err *err)
{
	return r->broken && r->point_count == 0 ? replica_broken(r, err) : 0;
}

int replica_point_look(struct replica *r, uint64_t number, struct point_info *ret_info, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	struct point_info *point = NULL;
	int rc = replica_point_asked(r, number, &point, err);
	if (rc == 0)
		*ret_info = *point;
	return rc;
}

int replica_point_opens(struct replica *r, uint64_t number, struct err *err)
{
	struct point_info point;
	struct err why = {.code = 0};
	int rc = replica_point_look(r, number, &point, err);
	if (rc)
		return rc;
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++) {
		struct chain *chain = NULL;
		rc = chain_open_files(r, point.number, i, &chain, &why);
		chain_close(chain);
	}
	if (rc == 0 || chain_lacks(rc))
		return rc ? err_set(err, rc, "%s", why.text) : 0;
	LOCK_SCOPE(&r->lock);
	rc = replica_broken(r, err);
	return rc ? rc : err_set(err, why.code, "%s", why.text); // it was made good meanwhile
}

// --- what is on disk, and cannot be used ---

static bool is_merged(const struct replica *r, uint64_t number)
{
	for (size_t i = 0; i < r->merged_count; i++)
		if (r->merged[i] == number)
			return true;
	return false;
}

int replica_unread(struct replica *r, struct unread_points *ret_unread)
{
	AUTO_FREE uint64_t *number = NULL;
	size_t count = 0;
	struct unread_points unread = {.count = 0};
	int rc = replica_is_broken(r) ? replica_numbers(r, &number, &count, NULL) : 0; // without the lock: it may take long
	LOCK_SCOPE(&r->lock);
	for (size_t i = 0; rc == 0 && r->broken && i < count; i++) {
		if (replica_point(r, number[i]) || is_merged(r, number[i]))
			continue;
		unread.count++;
		unread.newest = number[i];
	}
	if (rc == 0)
		*ret_unread = unread;
	return rc;
}

// --- the disks of a failover that nobody knows of ---

bool broken_disks_text(const struct replica *r, char *text, size_t cap)
{
	char path[REPLICA_PATH_SIZE], disks[DISKS_TEXT_SIZE] = "", **names = NULL;
	size_t count = 0, used = 0, found = 0;
	replica_file(r, path, "failover");
	if (env_list(r->root, path, &names, &count))
		return false;
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(names[i]);
		if (len < 6 || strcmp(names[i] + len - 6, ".qcow2") != 0)
			continue;
		int more = snprintf(disks + used, sizeof(disks) - used, "%s%s", found++ ? ", " : "", names[i]);
		if (more < 0 || (size_t)more >= sizeof(disks) - used) // there are more than can be said: the directory is
			more = 0;
		used += (size_t)more;
		disks[used] = 0;
	}
	env_list_free(names, count);
	if (found)
		(void)snprintf(text, cap, "a virtual machine may run on the disks in %.100s/%s (%s)", r->store_path, path, disks);
	return found != 0;
}
