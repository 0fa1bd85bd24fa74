// SPDX-License-Identifier: Apache-2.0
// Recovery of one replica at start: docs/store.md, "Recovery". Reads the directory and nothing else. What it promises:
// a replica that it does not call broken has only whole points, in one chain over the base, whose names are on stable
// storage.
#include "receiver/replica.h"

#include "base/log.h"
#include "receiver/chain.h"
#include "receiver/copies.h"
#include "receiver/json_file.h"
#include "receiver/overlays.h"
#include "receiver/scrub.h"
#include "receiver/seed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int protection_load(const struct replica *r, const char *path, struct protection *ret_prot, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(r->root, path, JSON_FILE_MAX, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s", path);
	if (protection_decode(text, len, ret_prot, err))
		return err_wrap(err, "%s", path);
	if (strcmp(ret_prot->name, r->name) != 0)
		return err_set(err, -EBADMSG, "%s: name: it is that of %s; rename the directory back", path, ret_prot->name);
	return 0;
}

int replica_load(struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE], copy[REPLICA_PATH_SIZE];
	struct protection prot;
	struct err why = {0};
	char disks[ERR_TEXT_MAX / 2];
	replica_file(r, path, "protection.json");
	replica_file(r, copy, "protection.json" COPY_SUFFIX);
	int rc = protection_load(r, path, &prot, &why);
	if (rc && !copies_stand_in(r->root, path, rc))
		return err_set(err, rc, "%s", why.text);
	if (rc && protection_load(r, copy, &prot, NULL)) {
		if (rc == -EIO) // a disk that is away, perhaps
			return err_set(err, rc, "%.300s; nor can its copy be read", why.text);
		if (broken_disks_text(r, disks, sizeof(disks)))
			return err_set(err, rc, "%.120s; nor is its copy whole: whether it was failed over is not guessed, and %s: when none does any more, copy them and the points "
						"that you need with qemu-img, then move %s/%s away, and the source sends everything anew", why.text, disks, r->store_path, r->name);
		return err_set(err, rc, "%.200s; nor is its copy whole: whose it is, and whether it was failed over, is not guessed; copy points with qemu-img, then "
					"move the directory %s/%s away, and the source sends everything anew", why.text, r->store_path, r->name);
	}
	r->prot = prot; // in one step: whoever reads the names of disks does so without the lock
	return 0;
}

// --- what a crash leaves ---

// Moves what is in `dir` to the trash, and deletes all that is there. In merge/ lies what a merge was building, or what it took away by
// its exchange; when this returns, that exchange is certain (trash.c).
static int trash_all(struct replica *r, const char *dir, struct err *err)
{
	char from[REPLICA_PATH_SIZE], trash[REPLICA_PATH_SIZE];
	replica_file(r, from, "%s", dir);
	replica_file(r, trash, "trash");
	int rc = trash_take(r->root, from, trash, err);
	return rc ? rc : trash_clear(r->root, trash, err);
}

// What was to take another file's place when a crash came, `<file>.new`: whoever needs it makes it anew. One that cannot be removed harms nobody.
static void halves_remove(const struct replica *r, const char *dir)
{
	char path[REPLICA_PATH_SIZE], **names = NULL;
	size_t count = 0;
	replica_file(r, path, "%s", dir);
	if (env_list(r->root, path, &names, &count)) // recovery says so
		return;
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(names[i]);
		if (len < 4 || strcmp(names[i] + len - 4, ".new") != 0)
			continue;
		replica_file(r, path, "%s/%.200s", dir, names[i]);
		int rc = env_unlink(r->root, path);
		if (rc)
			log_warning("what a crash left cannot be removed file=%s errno=%d", path, -rc);
	}
	env_list_free(names, count);
}

static void points_halves_remove(struct replica *r)
{
	AUTO_FREE uint64_t *number = NULL;
	size_t count = 0;
	char dir[REPLICA_PATH_SIZE];
	if (replica_numbers(r, &number, &count, NULL))
		return;
	for (size_t i = 0; i < count; i++) {
		(void)snprintf(dir, sizeof(dir), "points/%llu", (unsigned long long)number[i]);
		halves_remove(r, dir);
	}
}

static int leftovers_remove(struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	// NOLINTNEXTLINE(bugprone-suspicious-missing-comma)
	static const char *const halves[] = {"protection.json.new", "protection.json" COPY_SUFFIX ".new", "scrub.json.new", "scrub.json" COPY_SUFFIX ".new", "pins.json.new", "pins.json" COPY_SUFFIX ".new", "adopting.json.new"};
	for (size_t i = 0; i < sizeof(halves) / sizeof(halves[0]); i++) {
		replica_file(r, path, "%s", halves[i]);
		int rc = env_unlink(r->root, path);
		if (rc && rc != -ENOENT)
			return err_sys(err, rc, "%s: remove", path);
	}
	halves_remove(r, "base");
	points_halves_remove(r);
	return trash_all(r, "merge", err);
}

// A name that is seen may not be durable yet, when the receiver was killed before its sync, or that failed (point_name.c). It is before anybody hears
// of it.
static int names_sync(struct replica *r, struct err *err)
{
	char points[REPLICA_PATH_SIZE], base[REPLICA_PATH_SIZE];
	replica_file(r, points, "points");
	replica_file(r, base, "base");
	const char *const dirs[] = {points, base, r->name};
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		int rc = env_sync_dir(r->root, dirs[i]);
		if (rc == -ENOENT && i == 0)
			return err_set(err, rc, "%s/ is missing: put it back with its points, or, if there never was a point, make it, empty", points);
		if (rc)
			return err_sys(err, rc, "%s: sync", dirs[i]);
	}
	return 0;
}

// --- the base ---

int replica_base_check(const struct replica *r, unsigned disk, uint64_t *allocated, struct err *err)
{
	AUTO_FILE struct env_file *table = NULL;
	char path[REPLICA_PATH_SIZE];
	struct digest_disk of = replica_disk(r, disk);
	int rc = replica_base_look(r, disk, allocated, err);
	if (rc)
		return rc;
	replica_file(r, path, "base/%s.digests", r->prot.disk[disk].name);
	rc = env_open(r->root, path, ENV_READ, &table);
	if (rc)
		return err_sys(err, rc, "%s", path);
	return digest_table_check(table, &of, err) ? err_wrap(err, "%s", path) : 0;
}

// --- the points ---

int replica_number(const char *name, uint64_t *ret_number)
{
	uint64_t number = 0;
	if (name[0] < '1' || name[0] > '9' || strlen(name) > 18)
		return -EBADMSG;
	for (const char *c = name; *c; c++) {
		if (*c < '0' || *c > '9')
			return -EBADMSG;
		number = number * 10 + (uint64_t)(*c - '0');
	}
	*ret_number = number;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

struct numbers {
	uint64_t *number;
	size_t count;
};

int replica_numbers(struct replica *r, uint64_t **ret_numbers, size_t *ret_count, struct err *err)
{
	char path[REPLICA_PATH_SIZE], **names = NULL;
	size_t count = 0;
	replica_file(r, path, "points");
	int rc = env_list(r->root, path, &names, &count);
	if (rc)
		return err_sys(err, rc, "%s", path);
	uint64_t *numbers = calloc(count ? count : 1, sizeof(*numbers));
	if (!numbers) {
		env_list_free(names, count);
		return err_set(err, -ENOMEM, "out of memory");
	}
	size_t kept = 0;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (r->aside && point_is_aside(names[i], &numbers[kept]))
			continue;
		if (replica_number(names[i], &numbers[kept]))
			rc = point_is_aside(names[i], &numbers[kept]) ?
				     err_set(err, -EBADMSG, "%s/%.80s: a start of the receiver was cut off and left it aside; start the receiver, which puts it back", path, names[i]) :
				     err_set(err, -EBADMSG, "%s/%.80s: not a point; move it away", path, names[i]);
		kept += r->examine_to == 0 || numbers[kept] <= r->examine_to;
	}
	env_list_free(names, count);
	count = kept;
	if (rc) {
		free(numbers);
		return rc;
	}
	if (count)
		qsort(numbers, count, sizeof(*numbers), by_number);
	*ret_numbers = numbers;
	*ret_count = count;
	return 0;
}

// Whether an overlay names what lies under it: its predecessor, or the base for the oldest, and for the second oldest
// when a fold was cut off between its steps 3 and 4.
static bool backing_is_good(const struct replica *r, const struct qcow2_reader *overlay, const struct point_file *point, unsigned disk)
{
	char base[REPLICA_PATH_SIZE], below[REPLICA_PATH_SIZE];
	const char *backing = qcow2_reader_backing(overlay), *name = r->prot.disk[disk].name;
	bool raw = qcow2_reader_backing_format(overlay) == QCOW2_BACKING_RAW;
	(void)snprintf(base, sizeof(base), "../../base/%s.raw", name);
	(void)snprintf(below, sizeof(below), "../%llu/%s.qcow2", (unsigned long long)point->predecessor, name);
	if (r->point_count <= 1 && raw && strcmp(backing, base) == 0)
		return true;
	return r->point_count >= 1 && !raw && strcmp(backing, below) == 0;
}

static int overlay_check(struct replica *r, const struct point_file *point, unsigned disk, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	AUTO_READER struct qcow2_reader *overlay = NULL;
	char path[REPLICA_PATH_SIZE];
	uint64_t size = 0;
	replica_file(r, path, "points/%llu/%s.qcow2", (unsigned long long)point->info.number, r->prot.disk[disk].name);
	int rc = env_open(r->root, path, ENV_READ, &file);
	if (rc == 0)
		rc = env_size(file, &size);
	if (rc)
		return err_sys(err, rc, "%s", path);
	if (size != point->disk[disk].stored_bytes)
		return err_set(err, -EBADMSG, "%s: has %llu bytes, was committed with %llu", path, (unsigned long long)size,
			       (unsigned long long)point->disk[disk].stored_bytes);
	if (qcow2_reader_open(file, &overlay, err))
		return err_wrap(err, "%s", path);
	if (qcow2_reader_size(overlay) != point->disk[disk].size)
		return err_set(err, -EBADMSG, "%s: not of the disk's size", path);
	if (!backing_is_good(r, overlay, point, disk))
		return err_set(err, -EBADMSG, "%s: backing file: not the point below it", path);
	return 0;
}

// One that is lost as a whole costs its digests, and no more: whoever needs them notes it (unknown.c).
static int list_check(struct replica *r, const struct point_file *point, unsigned disk, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	int rc = digests_list_open(r, point->info.number, disk, point->disk[disk].digests, &file, err);
	if (rc > 0)
		log_error("a list of digests is lost protection=%s point=%llu disk=%s", r->name, (unsigned long long)point->info.number, r->prot.disk[disk].name);
	return rc < 0 ? rc : 0;
}

// A disk only grows: from point to point, and to what it has now. `sizes` are those of the point before.
static int sizes_check(const struct replica *r, const struct point_file *point, uint64_t *sizes, struct err *err)
{
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		uint64_t size = point->disk[i].size;
		if (size < sizes[i] || size > r->prot.disk[i].size)
			return err_set(err, -EBADMSG, "%s/points/%llu: disk %s has %llu bytes, more than later or less than before", r->name,
				       (unsigned long long)point->info.number, r->prot.disk[i].name, (unsigned long long)size);
		sizes[i] = size;
	}
	return 0;
}

static int point_missing(const struct replica *r, uint64_t missing, uint64_t above, struct err *err)
{
	char anew[ERR_TEXT_MAX] = "";
	if (!r->prot.fenced) // else a virtual machine may run there
		(void)snprintf(anew, sizeof(anew), "; or copy those that you need, and move %.200s/%s away: the source sends everything anew", r->store_path, r->name);
	return err_set(err, -EBADMSG, "%s/points/%llu: missing, and point %llu stands on it: put that directory back, and start the receiver again (the points below it can be used)%s",
		       r->name, (unsigned long long)missing, (unsigned long long)above, anew);
}

// Adds point `number` to the replica when it is whole and stands on the one before, or the base.
static int point_adopt(struct replica *r, uint64_t number, struct point_file *point, uint64_t *sizes, struct err *err)
{
	int rc = replica_read_point(r, number, point, err);
	if (rc == 0 && r->point_count && point->predecessor != replica_last_point(r))
		rc = point_missing(r, point->predecessor, number, err);
	if (rc == 0)
		rc = sizes_check(r, point, sizes, err);
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++) {
		rc = overlay_check(r, point, i, err);
		if (rc == 0)
			rc = list_check(r, point, i, err);
	}
	point->info.damaged_bytes = replica_kept_damaged(r, number);
	if (rc == 0)
		r->points[r->point_count++] = point->info;
	return rc;
}

// Of the points on disk takes those out, into `merged`, that nothing stands on, from the newest down: they went into the point above them
// by a merge that was cut off behind its exchange, and some of them may be gone already. What cannot be read, or is missing,
// is left for point_adopt() to say.
static void chain_find(const struct replica *r, struct numbers *all, struct numbers *merged, struct point_file *point)
{
	size_t at = all->count, chain = all->count;
	while (at-- > 0) {
		all->number[--chain] = all->number[at];
		if (at == 0 || replica_read_point(r, all->number[at], point, NULL) || point->predecessor < all->number[0])
			continue;
		for (; at > 0 && all->number[at - 1] > point->predecessor; at--)
			merged->number[merged->count++] = all->number[at - 1];
	}
	all->count -= chain;
	if (all->count)
		memmove(all->number, all->number + chain, all->count * sizeof(*all->number));
}

// Ends a merge that was cut off behind its exchange, which is certain by now.
static int merged_remove(struct replica *r, struct err *err)
{
	static const char *const dirs[] = {"points"};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < r->merged_count; i++)
		rc = retain_to_trash(r, r->merged[i], err);
	if (rc || r->merged_count == 0)
		return rc;
	r->merged_count = 0;
	rc = retain_sync(r, dirs, 1, err);
	return rc ? rc : trash_all(r, "merge", err);
}

static int points_load(struct replica *r, struct err *err)
{
	AUTO_FREE uint64_t *numbers = NULL;
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	uint64_t sizes[DISKS_MAX] = {0};
	size_t count = 0;
	int rc = replica_numbers(r, &numbers, &count, err);
	if (rc)
		return rc;
	r->merged = calloc(count ? count : 1, sizeof(*r->merged));
	struct numbers all = {.number = numbers, .count = count}, merged = {.number = r->merged};
	r->points = calloc(count ? count : 1, sizeof(*r->points));
	if (!r->points || !point || !r->merged)
		return err_set(err, -ENOMEM, "out of memory");
	chain_find(r, &all, &merged, point);
	r->merged_count = merged.count;
	for (size_t i = 0; rc == 0 && i < all.count; i++)
		rc = point_adopt(r, all.number[i], point, sizes, err);
	return rc;
}

// Disks without a fence are in no state that we leave. They may be all that a guest wrote, and the fence may be what was lost: so nothing is thrown away, and nobody appends.
static int fence_check(struct replica *r, struct err *err)
{
	if (!r->prot.fenced)
		return replica_disks_left(r, "start the receiver again", err);
	bool beyond = r->examine_to && r->prot.fenced_point > r->examine_to;
	if (!beyond && !replica_point(r, r->prot.fenced_point))
		return err_set(err, -EBADMSG,
			       "%s: the point that it was failed over to, %llu, is missing: put %s/%s/points/%llu back, and start the receiver again; or give up what was written to the "
			       "failover's disks (kagami failover %s --rollback)",
			       r->name, (unsigned long long)r->prot.fenced_point, r->store_path, r->name, (unsigned long long)r->prot.fenced_point, r->name);
	return 0;
}

int replica_examine(struct replica *r, struct err *err)
{
	int rc = 0;
	tables_kept_count(r);
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = replica_base_check(r, i, &r->base_bytes, err);
	if (rc == 0)
		rc = points_load(r, err);
	if (rc == 0)
		rc = fence_check(r, err);
	return rc ? rc : pins_load(r, err);
}

static void points_forget(struct replica *r)
{
	free(r->points);
	free(r->merged);
	r->points = NULL;
	r->merged = NULL;
	r->point_count = r->merged_count = 0;
	r->base_bytes = 0;
}

static void begin_anew(struct replica *r)
{
	head_let_go(r);
	points_forget(r);
	r->prot_certain = r->aside = false;
}

// What is true however often it is done, and changes nothing: after it a read that failed may be done again.
static int look(struct replica *r, struct err *err)
{
	int rc = replica_load(r, err);
	if (rc == 0 && !r->scrub_known) { // first: the points of a broken replica are refused, too
		scrub_load(r);
		r->scrub_known = true;
	}
	return rc;
}

// What recovery would call the replica broken for, but can make good: overlays. What the disk does not give back is given up when that was tried often enough.
static int examine_and_mend(struct replica *r, struct err *err)
{
	bool mended = false;
	struct err cannot = {0};
	int rc = replica_examine(r, err);
	r->unread_looks = rc == -EIO ? r->unread_looks + 1 : 0;
	bool given_up = r->unread_looks > STALL_TRIES;
	if (!chain_is_damaged(rc) && !(rc == -EIO && given_up))
		return rc;
	if (overlays_mend(r, given_up, &mended, &cannot)) // what passes is no damage: it is tried again, and the reason says what for
		return err_set(err, mend_passes(cannot.code) ? cannot.code : rc, "%s", cannot.text);
	if (!mended)
		return rc;
	points_forget(r);
	*err = (struct err){0};
	return replica_examine(r, err);
}

// The newest point's name (point_name.c). In *full is what cannot be done now, for want of space, and is tried again: what is there can be read meanwhile.
static int name_put_back(struct replica *r, struct err *err, struct err *full)
{
	int rc = point_names_end(r, err);
	if (!no_space(rc))
		return rc;
	*full = *err;
	r->aside = true;
	return 0;
}

static int name_make_certain(struct replica *r, struct err *err, struct err *full)
{
	uint64_t unsure = 0;
	struct err why = {0};
	if (r->prot.fenced) // a virtual machine may just be opening what stands on it; a rollback does it
		return 0;
	int rc = point_unsure(r, &unsure, &why);
	if (rc) {
		*full = mend_passes(rc) ? why : *full; // what is wrong otherwise is said by the examination
		return 0;
	}
	rc = unsure ? point_name_anew(r, unsure, &why) : 0;
	if (!no_space(rc)) {
		*err = why;
		return rc;
	}
	*full = why;
	r->aside = true;
	return 0;
}

static void recover(struct replica *r)
{
	struct err why = {0}, full = {0}, told;
	if (r->gone) // recovery goes by the name, and that may be another one's
		return;
	begin_anew(r);
	int rc = look(r, &why);
	if (rc) {
		adopt_load(r);
		(void)replica_break_passing(r, &why, &told);
		r->by_reading = false; // nobody knows what it is fenced with
		return;
	}
	rc = name_put_back(r, &why, &full);
	if (rc == 0 && !full.code)
		rc = leftovers_remove(r, &why);
	if (rc == 0 && !full.code)
		rc = name_make_certain(r, &why, &full);
	if (rc == 0)
		rc = names_sync(r, &why);
	if (rc == 0)
		rc = copies_mend_protection(r, &why);
	copies_look(r);
	if (rc == 0 && ((rc = examine_and_mend(r, &why)) || full.code)) {
		adopt_load(r);
		(void)replica_break_passing(r, full.code ? &full : &why, &told);
		return;
	}
	if (rc == 0)
		rc = merged_remove(r, &why);
	adopt_load(r);
	if (rc == 0)
		rc = head_recover(r, &why);
	if (rc)
		(void)replica_break(r, &why, &told);
	else
		log_info("replica found protection=%s points=%zu last=%llu", r->name, r->point_count,
			 (unsigned long long)replica_last_point(r));
}

void replica_recover_locked(struct replica *r)
{
	recover(r);
	memory_settle(r); // of the head that it let go
}

void replica_recover(struct replica *r)
{
	LOCK_SCOPE(&r->lock);
	replica_recover_locked(r);
}
