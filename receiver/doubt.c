// SPDX-License-Identifier: Apache-2.0
// Doubt: disks of which the source said that it lost track. What it promises: a doubt that was answered is told to every later session,
// until a point is committed that its source says it made of all that may differ, and that point is durable before the doubt ends
// (docs/store.md, "Doubt").
#include "receiver/replica.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

int replica_source_check(const struct replica *r, const struct source_claim *claim, struct err *err)
{
	const struct protection *p = &r->prot;
	if (strcmp(claim->name, r->name) != 0 || memcmp(claim->pin, p->owner_pin, OWNER_PIN_SIZE) != 0 || !uuid_equal(claim->protection, &p->id))
		return err_set(err, -EPERM, "%s belongs to another source, or to another protection", r->name);
	if (r->broken)
		return replica_ready(r, err);
	// A failover that is taken back gives the source its place again, with what it said meanwhile.
	bool back = p->fenced && !protection_fence_final(p) && uuid_equal(claim->generation, &p->generation_before);
	if (!back && !uuid_equal(claim->generation, &p->generation))
		return err_set(err, -ESTALE, "%s: the source is of another generation", r->name);
	return 0;
}

static int doubt_check(const struct replica *r, const struct wire_doubt *doubt, const unsigned char *pin, struct err *err)
{
	const struct protection *p = &r->prot;
	const struct source_claim claim = {.name = doubt->name, .protection = &doubt->protection, .generation = &doubt->generation, .pin = pin};
	int rc = replica_source_check(r, &claim, err);
	if (rc)
		return rc;
	if (p->disk_count < DISKS_MAX && doubt->disks >> p->disk_count)
		return err_set(err, -EBADMSG, "disks: %s has %u", r->name, p->disk_count);
	return 0;
}

int replica_doubt(struct replica *r, const struct wire_doubt *doubt, const unsigned char pin[OWNER_PIN_SIZE],
		  struct wire_doubted *ret_doubt, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = doubt_check(r, doubt, pin, err);
	if (rc)
		return rc;
	struct protection next = r->prot;
	next.doubt.disks |= doubt->disks;
	rc = uuid_new(r->root->env, &next.doubt.doubt); // anew: what is certain of an earlier one says nothing of this
	if (rc)
		return err_sys(err, rc, "%s: random", r->name);
	rc = replica_save(r, &next, err);
	if (rc)
		return rc;
	*ret_doubt = r->prot.doubt;
	log_warning("the source lost track of disks, and compares them as a whole when it starts again protection=%s disks=%#llx", r->name,
		    (unsigned long long)r->prot.doubt.disks);
	return 0;
}

void replica_doubted(struct replica *r, struct wire_doubted *ret_doubt)
{
	LOCK_SCOPE(&r->lock);
	*ret_doubt = r->prot.doubt;
}

void replica_certain(struct replica *r, const struct wire_certain *certain)
{
	LOCK_SCOPE(&r->lock);
	r->certain = *certain;
}

int doubt_sealed(struct replica *r, const struct uuid *cut, struct err *err)
{
	struct wire_certain certain = r->certain;
	struct err why = {0};
	r->certain.disks = 0;
	if (!(certain.disks & r->prot.doubt.disks) || !uuid_equal(&certain.cut, cut) ||
	    !uuid_equal(&certain.doubt, &r->prot.doubt.doubt))
		return 0;
	struct protection next = r->prot;
	next.doubt.disks &= ~certain.disks;
	if (!next.doubt.disks)
		memset(&next.doubt.doubt, 0, sizeof(next.doubt.doubt));
	int rc = replica_save(r, &next, &why);
	if (rc == -EIO)
		return err_set(err, rc, "%s", why.text);
	if (rc) // the point is there, and the doubt stays: one comparison too many
		log_warning("the source's doubt could not be ended protection=%s: %s", r->name, why.text);
	else
		log_info("what its source had lost track of was compared as a whole protection=%s", r->name);
	return 0;
}
