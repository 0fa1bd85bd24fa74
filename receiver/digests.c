// SPDX-License-Identifier: Apache-2.0
// The digests of a disk as files have them: the base's table, and the list of a point; and what is made of sectors that do not check.
//
// A list never changes. A table changes by a fold, which whoever reads keeps away by a hold or by retain_lock, and by a growth, which writes its
// prelude under the lock: who reads without it may see half of that, as a prelude that says nothing, which is no error.
//
// What it promises: of a file of which sectors are damaged, no block that they may have named passes for one whose digest is known. The lost sectors
// of a list are between two that are there, and the overlay beside it holds something of exactly the blocks that the list names: where it holds as many between
// them as are missing, these are they; otherwise any block there may be.
#include "receiver/replica.h"

#include "base/log.h"

#include <errno.h>

struct taker {
	const struct replica *r;
	unsigned disk;
	uint64_t number;       // of the point; 0: the base
	struct env_file *file; // its overlay, when it was needed
	struct qcow2_reader *overlay;
	const struct digests_taker *to;
};

static int each_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct taker *t = context;
	return t->to->each ? t->to->each(t->to->context, index, digest, err) : 0;
}

static bool holds_exactly(struct qcow2_reader *overlay, uint64_t first, uint64_t end, uint64_t count)
{
	uint64_t at = first, held = 0;
	struct err why = {0};
	int rc;
	while ((rc = qcow2_reader_next(overlay, at, &at, &why)) == 0 && at < end && held <= count) {
		held++;
		at++;
	}
	return (rc == 0 || rc == -ENOENT) && held == count;
}

int digests_lost(struct qcow2_reader *overlay, const struct lost_digests *lost, digest_each *each, void *context, struct err *err)
{
	bool exact = overlay && holds_exactly(overlay, lost->first, lost->end, lost->missing);
	uint64_t end = min_u64(lost->end, lost->to);
	int rc = 0;
	for (uint64_t at = max_u64(lost->first, lost->from); rc == 0 && at < end; at++) {
		rc = exact ? qcow2_reader_next(overlay, at, &at, err) : 0;
		if (rc == 0 && at < end)
			rc = each(context, at, &digest_unknown, err);
	}
	return rc == -ENOENT ? 0 : rc;
}

static int lost_take(void *context, uint64_t first, uint64_t end, uint64_t missing, struct err *err)
{
	struct taker *t = context;
	const char *name = t->r->prot.disk[t->disk].name;
	struct lost_digests lost = {.first = first, .end = end, .missing = missing, .from = first, .to = end};
	log_error("digests are damaged, what they were of cannot be proven protection=%s disk=%s point=%llu first=%llu end=%llu digests=%llu", t->r->name,
		  name, (unsigned long long)t->number, (unsigned long long)first, (unsigned long long)end, (unsigned long long)missing);
	if (t->number && !t->file && replica_open_file(t->r, ENV_READ, &t->file, NULL, "points/%llu/%s.qcow2", (unsigned long long)t->number, name) == 0)
		(void)qcow2_reader_open(t->file, &t->overlay, NULL);
	return digests_lost(t->overlay, &lost, each_take, t, err);
}

static struct digest_disk disk_of(const struct replica *r, unsigned disk, uint64_t size, const struct digest_rest *rest)
{
	return (struct digest_disk){.kind = r->prot.digest.kind, .number = (uint16_t)disk, .size = size, .given_up = atomic_load(&r->digests_given_up), .rest = rest};
}

int digests_take_base(const struct replica *r, unsigned disk, uint64_t size, const struct digests_taker *to, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	const char *name = r->prot.disk[disk].name;
	struct digest_disk of = disk_of(r, disk, size, to->rest);
	struct taker taker = {.r = r, .disk = disk, .to = to};
	int rc = replica_open_file(r, ENV_READ, &file, err, "base/%s.digests", name);
	if (rc)
		return rc;
	rc = digest_table_salvage(file, &of, each_take, lost_take, &taker, err);
	return rc ? err_wrap(err, "%s/base/%s.digests", r->name, name) : 0;
}

int digests_of_base(const struct replica *r, unsigned disk, uint64_t size, digest_each *each, void *context, struct err *err)
{
	const struct digests_taker to = {.each = each, .context = context};
	return digests_take_base(r, disk, size, &to, err);
}

int digests_list_open(const struct replica *r, uint64_t number, unsigned disk, uint64_t entries, struct env_file **ret_file, struct err *err)
{
	struct env_file *file = NULL;
	char path[REPLICA_PATH_SIZE];
	uint64_t size = 0, length = digest_list_length(entries);
	replica_file(r, path, "points/%llu/%s.digests", (unsigned long long)number, r->prot.disk[disk].name);
	int rc = env_open(r->root, path, ENV_READ, &file);
	if (rc == 0)
		rc = env_size(file, &size);
	if (rc == 0 && size == length) {
		*ret_file = file;
		return 0;
	}
	env_close(file);
	bool lost = rc == 0 || rc == -ENOENT || rc == -EISDIR || (rc == -EIO && atomic_load(&r->digests_given_up));
	return lost ? 1 : err_sys(err, rc, "%s", path);
}

static int lost_pass(void *context, uint64_t first, uint64_t end, uint64_t missing, struct err *err)
{
	(void)context, (void)first, (void)end, (void)missing, (void)err;
	return 0;
}

// What was read of a list is in `why`. 1: it is another one than point.json names, and lost as a whole; of it, nothing holds.
static int list_judge(const struct taker *t, int rc, const struct err *why, struct err *err)
{
	if (rc != -EBADMSG)
		return rc ? err_set(err, rc, "%s", why->text) : 0;
	log_error("a list of digests is another one, and counts as lost protection=%s point=%llu disk=%s reason=\"%s\"", t->r->name, (unsigned long long)t->number,
		  t->r->prot.disk[t->disk].name, why->text);
	return 1;
}

// Whether it is the list that point.json names is known when all of it was read. So it is read by itself before anybody is told what is in it, unless that can be undone.
static int list_take(struct taker *t, struct env_file *file, const struct digest_disk *of, const struct point_disk *pd, struct err *err)
{
	struct err why = {0};
	int rc;
	if (t->to->undo) {
		rc = list_judge(t, digest_list_salvage(file, of, pd->digests, pd->root, each_take, lost_take, t, &why), &why, err);
		if (rc == 1)
			t->to->undo(t->to->context);
		return rc;
	}
	rc = list_judge(t, digest_list_salvage(file, of, pd->digests, pd->root, NULL, lost_pass, NULL, &why), &why, err);
	return rc ? rc : digest_list_salvage(file, of, pd->digests, pd->root, each_take, lost_take, t, err);
}

int digests_take_point(const struct replica *r, const struct point_file *point, unsigned disk, const struct digests_taker *to, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	const struct point_disk *pd = &point->disk[disk];
	const char *name = r->prot.disk[disk].name;
	unsigned long long number = point->info.number;
	struct digest_disk of = disk_of(r, disk, pd->size, to->rest);
	struct taker taker = {.r = r, .disk = disk, .number = number, .to = to};
	int rc = digests_list_open(r, point->info.number, disk, pd->digests, &file, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		rc = list_take(&taker, file, &of, pd, err);
	if (rc == 1)
		rc = lost_take(&taker, 0, size_blocks(pd->size), pd->digests, err);
	qcow2_reader_free(taker.overlay);
	env_close(taker.file);
	return rc ? err_wrap(err, "%s/points/%llu/%s.digests", r->name, number, name) : 0;
}

int digests_of_point(const struct replica *r, const struct point_file *point, unsigned disk, digest_each *each, void *context, struct err *err)
{
	const struct digests_taker to = {.each = each, .context = context};
	return digests_take_point(r, point, disk, &to, err);
}
