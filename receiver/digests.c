// SPDX-License-Identifier: Apache-2.0
// The digests of a disk as files have them: the base's table, and the list of a point.
//
// A list never changes. A table changes by a fold, which whoever reads keeps away by a hold or by retain_lock, and by a growth, which writes its
// first sector under the lock: who reads without it may see half of that, and looks once more with it.
#include "receiver/replica.h"

#include <errno.h>

static int table_load(const struct replica *r, unsigned disk, uint64_t size, digest_each *each, void *context, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	const char *name = r->prot.disk[disk].name;
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)disk, .size = size};
	int rc = replica_open_file(r, ENV_READ, &file, err, "base/%s.digests", name);
	if (rc)
		return rc;
	rc = digest_table_load(file, &of, each, context, err);
	return rc ? err_wrap(err, "%s/base/%s.digests", r->name, name) : 0;
}

int digests_of_base(struct replica *r, unsigned disk, uint64_t size, bool locked, digest_each *each, void *context, struct err *err)
{
	struct err why = {0};
	int rc = table_load(r, disk, size, each, context, locked ? err : &why);
	if (rc == 0 || locked)
		return rc;
	if (rc != -EBADMSG)
		return err_set(err, rc, "%s", why.text);
	LOCK_SCOPE(&r->lock);
	return table_load(r, disk, size, each, context, err);
}

int digests_of_point(const struct replica *r, const struct point_file *point, unsigned disk, digest_each *each, void *context, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	const struct point_disk *pd = &point->disk[disk];
	const char *name = r->prot.disk[disk].name;
	unsigned long long number = point->info.number;
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)disk, .size = pd->size};
	int rc = replica_open_file(r, ENV_READ, &file, err, "points/%llu/%s.digests", number, name);
	if (rc)
		return rc;
	rc = digest_list_load(file, &of, pd->digests, pd->root, each, context, err);
	return rc ? err_wrap(err, "%s/points/%llu/%s.digests", r->name, number, name) : 0;
}
