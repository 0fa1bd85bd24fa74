// SPDX-License-Identifier: Apache-2.0
// A disk that became larger: docs/store.md, "Grow". What it promises: in every crash state the replica is one of the old size or of
// the new one, with the points that it had, byte for byte.
//
// The base goes first, and only gets longer by zeros. No reader sees that, because each point has its own size.
#include "receiver/overlays.h"
#include "receiver/replica.h"

#include "base/log.h"

#include <errno.h>

static int raw_grow(struct replica *r, unsigned disk, uint64_t size, bool *changing, struct err *err)
{
	AUTO_FILE struct env_file *raw = NULL;
	const char *name = r->prot.disk[disk].name;
	uint64_t found = 0;
	int rc = replica_open_file(r, ENV_WRITE, &raw, err, "base/%s.raw", name);
	if (rc)
		return rc;
	rc = env_size(raw, &found);
	if (rc)
		return err_sys(err, rc, "%s/base/%s.raw: size", r->name, name);
	if (found < r->prot.disk[disk].size) // what it lost must not come back as zeros
		return err_set(err, -EBADMSG, "%s/base/%s.raw: has %llu bytes, the disk has %llu", r->name, name,
			       (unsigned long long)found, (unsigned long long)r->prot.disk[disk].size);
	*changing = true;
	// A growth that was cut off may have done it already; but its sync may have failed, and then another one says nothing of that length.
	// So what is there is undone, to which nothing refers, and done again.
	if (found > r->prot.disk[disk].size)
		rc = env_truncate(raw, r->prot.disk[disk].size);
	if (rc == 0)
		rc = env_truncate(raw, size);
	*changing = rc != -EFBIG; // then it is as long as it was
	if (rc)
		return err_sys(err, rc, "%s/base/%s.raw: make it longer", r->name, name);
	return env_sync(raw) ? err_set(err, -EIO, "%s/base/%s.raw: sync failed", r->name, name) : 0;
}

static int table_grow(struct replica *r, unsigned disk, uint64_t size, bool *changing, struct err *err)
{
	AUTO_FILE struct env_file *table = NULL;
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)disk, .size = size};
	const char *name = r->prot.disk[disk].name;
	int rc = replica_open_file(r, ENV_WRITE, &table, err, "base/%s.digests", name);
	if (rc)
		return rc;
	*changing = true;
	return digest_table_grow(table, &of, err) ? err_wrap(err, "%s/base/%s.digests", r->name, name) : 0;
}

static int bases_look(const struct replica *r, struct err *err)
{
	uint64_t allocated = 0;
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = replica_base_check(r, i, &allocated, err);
	return rc;
}

// What a growth needs of the base: its files can be read, and are of this disk. A table that is lost is replaced here, as when a session meets it: of the size that the
// disk has until now. So what is wrong is found while nothing has changed yet, and may be looked at again (mend.c).
static int bases_fit(struct replica *r, struct err *ret_why)
{
	struct err cannot = {0};
	if (bases_look(r, ret_why) == 0)
		return 0;
	int rc = overlays_were_it(r, ret_why, &cannot);
	if (rc < 0 && mend_passes(rc))
		*ret_why = cannot;
	if (rc <= 0)
		return ret_why->code;
	*ret_why = (struct err){0};
	return bases_look(r, ret_why);
}

static bool is_larger(const struct replica *r, const struct wire_open *open)
{
	bool larger = false;
	for (unsigned i = 0; i < r->prot.disk_count; i++)
		larger = larger || open->disk[i].size > r->prot.disk[i].size;
	return larger;
}

static int grow_fail(struct replica *r, const struct err *why, bool changed, struct err *err)
{
	if (no_space(why->code))
		return err_set(err, -ENOSPC, "the target's store %s is full (%s): free space there", r->store_path, why->text);
	if (why->code == -EFBIG && !changed)
		return too_large(why, err);
	return changed ? replica_break(r, why, err) : replica_break_passing(r, why, err);
}

int replica_grow(struct replica *r, const struct wire_open *open, struct err *err)
{
	struct err why = {0};
	if (!is_larger(r, open))
		return 0;
	if (bases_fit(r, &why))
		return grow_fail(r, &why, false, err);
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		if (open->disk[i].size <= r->prot.disk[i].size)
			continue;
		bool changing = false; // what cannot be opened may be looked at again; a change whose end nobody knows may not
		int rc = raw_grow(r, i, open->disk[i].size, &changing, &why);
		if (rc == 0) {
			changing = false;
			rc = table_grow(r, i, open->disk[i].size, &changing, &why);
		}
		if (rc)
			return grow_fail(r, &why, changing, err);
		log_info("disk grows protection=%s disk=%s from=%llu to=%llu", r->name, r->prot.disk[i].name,
			 (unsigned long long)r->prot.disk[i].size, (unsigned long long)open->disk[i].size);
	}
	if (head_drop(r, &why)) // its overlays are of the old size
		return replica_break(r, &why, err);
	return 0;
}
