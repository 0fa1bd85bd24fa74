// SPDX-License-Identifier: Apache-2.0
// A file of a point that can be used no more, as a whole: its overlay's header or L1 table, its list, the base's table. What depends on it goes into
// quarantine, without a look at each block: docs/store.md, "Scrub".
#include "receiver/scrub.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "receiver/chain.h"
#include "receiver/replica.h"

#include <errno.h>

bool chain_is_damaged(int rc)
{
	return rc == -EBADMSG || rc == -ENODATA || rc == -ENOENT || rc == -ELOOP || rc == -EISDIR || rc == -EOPNOTSUPP;
}

// --- which file it is ---

static int overlay_look(const struct replica *r, const struct point_file *point, unsigned disk, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	AUTO_READER struct qcow2_reader *reader = NULL;
	int rc = replica_open_file(r, ENV_READ, &file, err, "points/%llu/%s.qcow2", (unsigned long long)point->info.number, r->prot.disk[disk].name);
	if (rc == 0)
		rc = qcow2_reader_open(file, &reader, err);
	if (rc == 0 && qcow2_reader_size(reader) != point->disk[disk].size)
		rc = err_set(err, -EBADMSG, "not of the size that the disk had");
	return rc ? rc : digests_of_point(r, point, disk, NULL, NULL, err);
}

static int none_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	(void)context, (void)index, (void)digest, (void)err;
	return 0;
}

static int base_look(struct replica *r, const struct point_file *oldest, unsigned disk, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	int rc = replica_open_file(r, ENV_READ, &file, err, "base/%s.raw", r->prot.disk[disk].name);
	return rc ? rc : digests_of_base(r, disk, oldest->disk[disk].size, none_take, NULL, err);
}

uint64_t chain_fault(struct replica *r, uint64_t number, unsigned disk)
{
	AUTO_FREE struct point_info *points = NULL;
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	struct err err = {.code = 0};
	size_t count = 0;
	if (!point || replica_points(r, &points, &count))
		return number;
	for (size_t i = 0; i < count && points[i].number <= number; i++) {
		int rc = replica_read_point(r, points[i].number, point, &err);
		if (rc == 0 && i == 0)
			rc = base_look(r, point, disk, &err);
		if (rc == 0)
			rc = overlay_look(r, point, disk, &err);
		if (chain_is_damaged(rc))
			return points[i].number;
	}
	return number; // what it stands on, then
}

// --- quarantine ---

struct claim {
	struct damage_set set;
	struct damage run; // that grows; count 0: none
};

static int block_claim(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct claim *claim = context;
	(void)digest, (void)err;
	if (claim->run.count && index == claim->run.first + claim->run.count) {
		claim->run.count++;
		return 0;
	}
	if (claim->run.count)
		damage_add(&claim->set, &claim->run);
	claim->run.first = index;
	claim->run.count = 1;
	return 0;
}

// What the overlay of the point holds is what its list names. Where that cannot be told either, it is all of the disk.
static void listed_claim(const struct replica *r, uint64_t number, unsigned disk, struct claim *claim)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	struct err err = {.code = 0};
	int rc = point ? replica_read_point(r, number, point, &err) : -ENOMEM;
	if (rc == 0)
		rc = digests_of_point(r, point, disk, block_claim, claim, &err);
	if (rc) {
		claim->set.count = 0;
		claim->run.count = 0;
	} else if (point->disk[disk].digests == 0) {
		claim->run.count = UINT64_MAX; // nothing, for certain
	}
}

int scrub_condemn(struct replica *r, uint16_t disk, uint64_t number, bool any, const struct err *why, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	return scrub_condemn_locked(r, disk, number, any, why, err);
}

int scrub_condemn_locked(struct replica *r, uint16_t disk, uint64_t number, bool any, const struct err *why, struct err *err)
{
	AUTO_FREE struct claim *claim = calloc(1, sizeof(*claim));
	if (!claim)
		return err_set(err, -ENOMEM, "out of memory");
	claim->run = (struct damage){.disk = disk, .from = number, .to = DAMAGE_OPEN};
	listed_claim(r, number, disk, claim);
	if (claim->run.count == UINT64_MAX && !any)
		return 0;
	if (claim->set.count == 0 && (claim->run.count == 0 || claim->run.count == UINT64_MAX)) {
		claim->run.first = 0;
		claim->run.count = size_blocks(r->prot.disk[disk].size);
	}
	damage_add(&claim->set, &claim->run);
	return scrub_claim_locked(r, disk, number, &claim->set, why, err);
}

int scrub_claim_locked(struct replica *r, unsigned disk, uint64_t number, const struct damage_set *set, const struct err *why, struct err *err)
{
	for (unsigned i = 0; i < set->count; i++)
		if (!damage_covers(&r->scrub.damage, &set->run[i]))
			damage_add(&r->scrub.damage, &set->run[i]);
	r->scrub_unsaved = true;
	(void)scrub_poison(r, NULL);
	r->reopen = r->reopen || r->session_open;
	log_error("a file of a point cannot be used: what it holds is in quarantine protection=%s point=%llu disk=%s reason=\"%s\"", r->name,
		  (unsigned long long)number, r->prot.disk[disk].name, why->text);
	event_emit(EVENT_CRITICAL, "damage", r->name, NULL, "point %llu of %s and those that stand on it are in quarantine: %s", (unsigned long long)number,
		   r->name, why->text);
	return scrub_record(r, err);
}
