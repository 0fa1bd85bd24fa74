// SPDX-License-Identifier: Apache-2.0
// The check of one protection. Promises: it writes nothing; what recovery would refuse is found by the code that refuses it; and a
// damaged file does not keep the files after it from being looked at.
//
//	replica_load, replica_examine	what recovery asks: names, manifests, the chain, sizes, lengths. Stops at the first
//	base table			every sector that holds something
//	each point, each disk		every table of the overlay (qcow2_check); the list, sector by sector and against its root; and
//					that overlay and list are about the same blocks: a fold changes digests where it changes data
//	check_records.c			scrub.json, and the records and disks of a failover and of tests
//	names				what the store does not know
#include "receiver/check_part.h"

#include "format/qcow2_check.h"
#include "receiver/copies.h"
#include "receiver/list_walk.h"
#include "receiver/replica.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void check_found(struct check *c, enum check_kind kind, const char *text)
{
	*(kind == CHECK_DAMAGE ? &c->result.damage : kind == CHECK_UNREADABLE ? &c->result.unreadable : &c->result.notes) += 1;
	c->watch->found(c->watch->context, kind, text);
}

// What the world says is no word on what the file holds.
static enum check_kind kind_of(const struct err *why)
{
	switch (why->code) {
	case -EIO:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EACCES:
	case -EPERM:
	case -ETIMEDOUT:
		return CHECK_UNREADABLE;
	default:
		return CHECK_DAMAGE;
	}
}

void check_damage(struct check *c, const struct err *why)
{
	if (strcmp(why->text, c->first.text) != 0) // recovery's code has said it
		check_found(c, kind_of(why), why->text);
}

static bool looked(struct check *c)
{
	c->result.files++;
	c->stopped = c->stopped || !c->watch->looked(c->watch->context, c->result.files, c->files_of);
	return !c->stopped;
}

// --- digests ---

static int entry_ignore(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	(void)context, (void)index, (void)digest, (void)err;
	return 0;
}

static void table_check(struct check *c, unsigned disk)
{
	struct replica *r = c->replica;
	AUTO_FILE struct env_file *file = NULL;
	struct digest_disk of = replica_disk(r, disk);
	struct err why = {0};
	int rc = replica_open_file(r, ENV_READ, &file, &why, "base/%s.digests", r->prot.disk[disk].name);
	if (rc == 0 && digest_table_load(file, &of, entry_ignore, NULL, &why))
		rc = err_wrap(&why, "%s/base/%s.digests", r->name, r->prot.disk[disk].name);
	if (rc)
		check_damage(c, &why);
}

static int entry_compare(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	return list_walk_entry(context, index, digest, err);
}

static int list_check(struct check *c, const struct point_file *point, unsigned disk, struct env_file *image, struct err *err)
{
	struct replica *r = c->replica;
	const struct point_disk *pd = &point->disk[disk];
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)disk, .size = pd->size};
	AUTO_FILE struct env_file *list = NULL;
	AUTO_READER struct qcow2_reader *overlay = NULL;
	struct list_walk walk;
	int rc = replica_open_file(r, ENV_READ, &list, err, "points/%llu/%s.digests", (unsigned long long)point->info.number,
				   r->prot.disk[disk].name);
	if (rc)
		return rc;
	rc = digest_list_load(list, &of, pd->digests, pd->root, NULL, NULL, err); // by itself first: so it is named
	if (rc == 0 && image && qcow2_reader_open(image, &overlay, NULL) == 0) {
		rc = list_walk_begin(&walk, overlay, err);
		if (rc == 0)
			rc = digest_list_load(list, &of, pd->digests, pd->root, entry_compare, &walk, err);
		if (rc == 0)
			rc = list_walk_end(&walk, err);
	}
	return rc ? err_wrap(err, "%s/points/%llu/%s.digests", r->name, (unsigned long long)point->info.number, r->prot.disk[disk].name) : 0;
}

// --- overlays ---

static void on_finding(void *context, const char *text)
{
	struct check *c = context;
	struct err why = {0};
	(void)err_set(&why, -EBADMSG, "%s: %s", c->file, text);
	check_damage(c, &why);
}

static void overlay_check(struct check *c, const struct point_file *point, unsigned disk)
{
	struct replica *r = c->replica;
	AUTO_FILE struct env_file *file = NULL;
	char path[REPLICA_PATH_SIZE];
	struct err why = {0};
	uint64_t findings = 0;
	replica_file(r, path, "points/%llu/%s.qcow2", (unsigned long long)point->info.number, r->prot.disk[disk].name);
	c->file = path;
	int rc = env_open(r->root, path, ENV_READ, &file);
	if (rc)
		(void)err_sys(&why, rc, "%s", path);
	else if ((rc = qcow2_check(file, on_finding, c, &findings, &why)))
		(void)err_wrap(&why, "%s", path);
	if (rc)
		check_damage(c, &why);
	c->file = NULL;
	why = (struct err){0};
	if (list_check(c, point, disk, rc || findings ? NULL : file, &why))
		check_damage(c, &why);
}

// --- names ---

static bool listed(const char *name, const char *const names[])
{
	for (size_t i = 0; names[i]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

// Whether `name` is DISK.qcow2, or what else stands in `endings`.
static bool of_a_disk(const struct replica *r, const char *name, const char *const endings[])
{
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		size_t len = strlen(r->prot.disk[i].name);
		if (strncmp(name, r->prot.disk[i].name, len) == 0 && listed(name + len, endings))
			return true;
	}
	return false;
}

// Tells what is in the directory `dir` and in none of the two lists.
static void strays_note(struct check *c, const char *dir, const char *const names[], const char *const endings[])
{
	const struct replica *r = c->replica;
	char **found_names = NULL, text[ERR_TEXT_MAX];
	size_t count = 0;
	if (env_list(r->root, dir, &found_names, &count))
		return; // recovery's code has said it
	for (size_t i = 0; i < count; i++) {
		if (listed(found_names[i], names) || of_a_disk(r, found_names[i], endings))
			continue;
		(void)snprintf(text, sizeof(text), "%s/%s: not part of the store: nothing reads it", dir, found_names[i]);
		check_found(c, CHECK_NOTE, text);
	}
	env_list_free(found_names, count);
}

// --- what is kept twice ---

void check_copies(struct check *c, const char *path)
{
	struct copies_state state;
	struct err why = {0};
	copies_state(c->replica->root, path, &state);
	if (state.file && state.copy == 0)
		(void)err_sys(&why, state.file, "%s: its copy is whole, and a receiver restores it from that; but the file", path);
	else if (state.file == 0 && state.copy && state.copy != -ENOENT) // it is made when a receiver looks
		(void)err_sys(&why, state.copy, "%s" COPY_SUFFIX ": the file is whole, and a receiver copies it again; but the copy", path);
	else if (state.file == 0 && state.copy == 0 && !state.alike)
		(void)err_set(&why, -EBADMSG, "%s" COPY_SUFFIX ": says something else than the file", path);
	if (why.code)
		check_damage(c, &why);
}

// Where neither says anything that is no reason to call the replica broken, and no less damage.
static void pins_check(struct check *c)
{
	char path[REPLICA_PATH_SIZE];
	struct copies_state state;
	struct err why = {0};
	replica_file(c->replica, path, "pins.json");
	check_copies(c, path);
	copies_state(c->replica->root, path, &state);
	if (state.file == 0 || state.copy == 0 || c->replica->pins_lost == 0)
		return;
	(void)err_sys(&why, state.file, "%s: nor does its copy say which points are pinned, so a receiver keeps all that are there; the file", path);
	check_damage(c, &why);
}

// --- the whole ---

static void point_check(struct check *c, uint64_t number)
{
	static const char *const names[] = {"point.json", "point.json" COPY_SUFFIX, "point.json.new", "point.json" COPY_SUFFIX ".new", "checkpoint", NULL}, *const endings[] = {".qcow2", ".digests", NULL};
	struct replica *r = c->replica;
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	char dir[REPLICA_PATH_SIZE];
	struct err why = {0};
	int rc = point ? replica_read_point(r, number, point, &why) : err_set(&why, -ENOMEM, "out of memory");
	if (rc)
		check_damage(c, &why);
	replica_file(r, dir, "points/%llu/point.json", (unsigned long long)number);
	check_copies(c, dir);
	for (unsigned i = 0; i < r->prot.disk_count && !c->stopped; i++) {
		if (rc == 0 && point)
			overlay_check(c, point, i);
		(void)looked(c);
	}
	replica_file(r, dir, "points/%llu", (unsigned long long)number);
	strays_note(c, dir, names, endings);
	c->result.points += rc == 0;
}

// What a merge that was cut off left is no part of anything: the next start removes it.
static bool counts(const struct replica *r, uint64_t number)
{
	bool left = false;
	for (size_t i = 0; i < r->merged_count; i++)
		left = left || r->merged[i] == number;
	return !left && (r->examine_to == 0 || number <= r->examine_to);
}

static void points_check(struct check *c)
{
	char dir[REPLICA_PATH_SIZE], **names = NULL;
	size_t count = 0;
	uint64_t number;
	replica_file(c->replica, dir, "points");
	if (env_list(c->replica->root, dir, &names, &count))
		return;
	c->files_of = (count + 1) * c->replica->prot.disk_count;
	for (unsigned i = 0; i < c->replica->prot.disk_count && !c->stopped; i++) {
		table_check(c, i);
		(void)looked(c);
	}
	for (size_t i = 0; i < count && !c->stopped; i++)
		if (replica_number(names[i], &number) == 0 && counts(c->replica, number))
			point_check(c, number);
	env_list_free(names, count);
}

static void protection_check(struct check *c)
{
	static const char *const names[] = {"protection.json", "protection.json.new", "protection.json" COPY_SUFFIX, "protection.json" COPY_SUFFIX ".new", "scrub.json", "scrub.json.new", "scrub.json" COPY_SUFFIX, "scrub.json" COPY_SUFFIX ".new", "base", "points",
					    "head", "trash", "merge", "pins.json", "pins.json.new", "pins.json" COPY_SUFFIX, "pins.json" COPY_SUFFIX ".new", "history.ledger", "history.ledger.unread", "failover", "failover.new", "tests", NULL},
				 *const base_endings[] = {".raw", ".digests", NULL}, *const none[] = {NULL};
	struct replica *r = c->replica;
	char base[REPLICA_PATH_SIZE];
	int rc = replica_load(r, &c->first);
	bool known = rc == 0; // which disks there are
	if (rc == 0)
		rc = replica_examine(r, &c->first);
	if (rc)
		check_found(c, kind_of(&c->first), c->first.text);
	if (!known)
		return;
	replica_file(r, base, "protection.json");
	check_copies(c, base);
	pins_check(c);
	points_check(c);
	if (!c->stopped)
		check_records(c);
	strays_note(c, r->name, names, none);
	replica_file(r, base, "base");
	strays_note(c, base, none, base_endings);
}

int check_protection(struct env_root *root, const char *store_path, const char *name, uint64_t to, const struct check_watch *watch,
		     struct check_result *ret_result, struct err *err)
{
	struct check c = {.watch = watch, .replica = replica_new(root, store_path, name)};
	if (!c.replica)
		return err_set(err, -ENOMEM, "out of memory");
	c.replica->examine_to = to;
	protection_check(&c);
	replica_free(c.replica);
	*ret_result = c.result;
	return c.stopped ? err_set(err, -ECANCELED, "the check was stopped") : 0;
}
