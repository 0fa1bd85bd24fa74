// SPDX-License-Identifier: Apache-2.0
// A small file that all of a replica depends on is kept twice, so that a bit that turns in it, or a sector that cannot be read, costs nothing.
//
// What it promises: a copy that is there holds what its file was last made durable with (docs/store.md, "Copies", argues it); so whichever is whole is the truth,
// and of the two one is at any time, unless both were damaged.
#include "receiver/copies.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/json_file.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct text {
	char *bytes;
	size_t len;
	int rc; // 0: it is whole
};

static void text_free(struct text *text)
{
	free(text->bytes);
}
#define AUTO_TEXT __attribute__((cleanup(text_free)))

static struct text text_read(struct env_root *root, const char *path)
{
	struct text text = {.bytes = NULL};
	text.rc = env_read_file(root, path, JSON_FILE_MAX, &text.bytes, &text.len);
	if (text.rc == 0 && !json_file_whole(text.bytes, text.len))
		text.rc = -EBADMSG;
	return text;
}

// What a file of JSON gives that is there no more, rotten, cut off, or unreadable. Any other error says nothing of it; a link or a directory in its place is no rot.
static bool is_worn(int rc)
{
	return rc == -ENOENT || rc == -EIO || rc == -EBADMSG || rc == -ENODATA || rc == -EFBIG;
}

bool copies_stand_in(struct env_root *root, const char *path, int rc)
{
	if (rc != -EBADMSG)
		return is_worn(rc);
	AUTO_TEXT struct text text = text_read(root, path);
	return is_worn(text.rc);
}

// --- one file and its copy ---

int copies_aside(struct env_root *root, const char *path)
{
	char aside[REPLICA_PATH_SIZE];
	struct env_stat st;
	int len = snprintf(aside, sizeof(aside), "%s.damaged", path);
	assert(len < (int)sizeof(aside)); // names have at most 63 bytes
	if (env_stat(root, aside, &st) != -ENOENT) // that of an earlier time stays
		return 0;
	int rc = env_rename(root, path, aside);
	return rc == -ENOENT ? 0 : rc;
}

static int restore(struct env_root *root, const char *dir, const char *path, const struct text *copy)
{
	int rc = copies_aside(root, path);
	return rc ? rc : env_replace(root, dir, path, copy->bytes, copy->len);
}

static bool alike(const struct text *file, const struct text *copy)
{
	return file->rc == 0 && copy->rc == 0 && file->len == copy->len && memcmp(file->bytes, copy->bytes, file->len) == 0;
}

static void copy_name(char copy[REPLICA_PATH_SIZE], const char *path)
{
	int len = snprintf(copy, REPLICA_PATH_SIZE, "%s" COPY_SUFFIX, path);
	assert(len < REPLICA_PATH_SIZE); // names have at most 63 bytes
}

void copies_state(struct env_root *root, const char *path, struct copies_state *ret_state)
{
	char copy_path[REPLICA_PATH_SIZE];
	copy_name(copy_path, path);
	AUTO_TEXT struct text file = text_read(root, path);
	AUTO_TEXT struct text copy = text_read(root, copy_path);
	*ret_state = (struct copies_state){.file = file.rc, .copy = copy.rc, .alike = alike(&file, &copy)};
}

// Makes both whole where one of them is; `dir` is the directory of `path`. Durable on return. After an error one of them still is. `certain`: a file that is whole
// is durable, and is not written once more with its copy.
static int copies_mend(struct env_root *root, const char *dir, const char *path, bool certain, enum copies_done *ret_done, struct err *err)
{
	char copy_path[REPLICA_PATH_SIZE];
	copy_name(copy_path, path);
	*ret_done = COPIES_NONE;
	AUTO_TEXT struct text file = text_read(root, path);
	AUTO_TEXT struct text copy = text_read(root, copy_path);
	if (alike(&file, &copy))
		return 0;
	int rc = 0;
	if (file.rc == 0 && (copy.rc == 0 || is_worn(copy.rc))) {
		*ret_done = COPIES_COPIED; // the file once more, too: its own sync may have failed, and another one says nothing of it
		rc = certain ? 0 : env_replace(root, dir, path, file.bytes, file.len);
		rc = rc ? rc : env_replace(root, dir, copy_path, file.bytes, file.len);
	} else if (is_worn(file.rc) && copy.rc == 0) {
		*ret_done = COPIES_RESTORED;
		rc = restore(root, dir, path, &copy);
	}
	return rc ? err_sys(err, rc, "%s: write it and its copy", path) : 0;
}

// A copy that stands in for its file is the only one that is whole: it goes nowhere before the file is.
static int file_made_good(struct env_root *root, const char *dir, const char *path, const char *copy_path)
{
	AUTO_TEXT struct text file = text_read(root, path);
	if (!is_worn(file.rc))
		return 0;
	AUTO_TEXT struct text copy = text_read(root, copy_path);
	return copy.rc ? 0 : restore(root, dir, path, &copy);
}

// Before its file changes, durably: a copy that is there says the same as the file, always.
static int copy_drop(struct env_root *root, const char *dir, const char *path, const char *copy)
{
	int rc = file_made_good(root, dir, path, copy);
	if (rc == 0)
		rc = env_unlink(root, copy);
	return rc && rc != -ENOENT ? rc : env_sync_dir(root, dir);
}

int copies_replace(struct env_root *root, const char *dir, const char *path, const char *text, size_t len, bool *ret_changed)
{
	char copy[REPLICA_PATH_SIZE];
	copy_name(copy, path);
	*ret_changed = false;
	int rc = copy_drop(root, dir, path, copy);
	if (rc == 0)
		rc = env_replace(root, dir, path, text, len);
	*ret_changed = rc == 0;
	return rc ? rc : env_replace(root, dir, copy, text, len);
}

int copies_rejoin(struct env_root *root, const char *dir, const char *path, const char *text, size_t len)
{
	char copy[REPLICA_PATH_SIZE];
	copy_name(copy, path);
	int rc = env_replace(root, dir, copy, text, len);
	return rc ? rc : env_replace(root, dir, path, text, len);
}

static int file_create(struct env_root *root, const char *path, const char *text, size_t len, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	int rc = env_open(root, path, ENV_CREATE, &file);
	if (rc == 0)
		rc = env_pwrite(file, text, len, 0);
	if (rc == 0)
		rc = env_sync(file);
	return rc ? err_sys(err, rc, "%s: write", path) : 0;
}

int copies_create(struct env_root *root, const char *path, const char *text, size_t len, struct err *err)
{
	char copy_path[REPLICA_PATH_SIZE];
	copy_name(copy_path, path);
	int rc = file_create(root, path, text, len, err);
	return rc ? rc : file_create(root, copy_path, text, len, err);
}

// --- those of a replica ---

static int mend_and_tell(struct replica *r, const char *dir, const char *path, bool certain, enum copies_done *ret_done, struct err *err)
{
	int rc = copies_mend(r->root, dir, path, certain, ret_done, err);
	if (rc == 0 && *ret_done == COPIES_RESTORED) {
		log_error("a file was damaged, and is restored from its copy protection=%s file=%s", r->name, path);
		event_emit(EVENT_WARNING, "damage", r->name, NULL, "%s was damaged, and is restored from its copy; nothing is lost, what it was is kept as %s.damaged", path,
			   path);
	}
	return rc;
}

// Both are whole and say two things, which no crash leaves: somebody put an older one back. A fence may be in one of the two alone.
static bool are_apart(struct env_root *root, const char *path)
{
	struct copies_state state;
	copies_state(root, path, &state);
	return state.file == 0 && state.copy == 0 && !state.alike;
}

int copies_mend_protection(struct replica *r, struct err *err)
{
	enum copies_done done;
	struct err why = {0};
	char path[REPLICA_PATH_SIZE];
	replica_file(r, path, "protection.json");
	if (are_apart(r->root, path))
		return err_set(err, -EBADMSG,
			       "%s and its copy differ: one of the two was put back, and which of them knows of a failover is not guessed; move the older one of %s/%s and %s.copy away, and "
			       "start the receiver again",
			       path, r->store_path, path, path);
	int rc = mend_and_tell(r, r->name, path, false, &done, &why);
	if (rc == 0)
		return 0;
	if (done == COPIES_RESTORED)
		return err_set(err, rc, "%s", why.text);
	log_warning("a file has no copy for now protection=%s reason=\"%s\"", r->name, why.text);
	return 0;
}

void copies_look(const struct replica *r)
{
	atomic_store(&((struct replica *)(uintptr_t)r)->copies_due, true); // the one member that a reader may write
}

// The first point above `number`; 0 when there is none.
static uint64_t point_after(const struct replica *r, uint64_t number)
{
	for (size_t i = 0; i < r->point_count; i++)
		if (r->points[i].number > number)
			return r->points[i].number;
	return 0;
}

// While it fails the replica is not broken, which would be the end of what memory knows: the next pass tries it again, and whoever finds its change there already saves it.
static int memory_write(struct replica *r, const char *path)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	bool changed = false;
	r->prot_certain = false;
	int rc = protection_encode(&r->prot, &text, &len);
	if (rc == 0)
		rc = copies_aside(r->root, path);
	if (rc == 0)
		rc = copies_replace(r->root, r->name, path, text, len, &changed);
	r->prot_certain = changed;
	return rc;
}

// Where the two differ neither is taken away: until both say what memory does, a start finds that they differ.
static int memory_write_both(struct replica *r, const char *path)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char copy_path[REPLICA_PATH_SIZE];
	copy_name(copy_path, path);
	r->prot_certain = false;
	int rc = protection_encode(&r->prot, &text, &len);
	if (rc == 0)
		rc = env_replace(r->root, r->name, path, text, len);
	r->prot_certain = rc == 0;
	return rc ? rc : env_replace(r->root, r->name, copy_path, text, len);
}

// Nobody changes protection.json but this process, so where neither of the two says anything any more, memory does. One that cannot be read says nothing of what is on it:
// a disk that is away, perhaps.
static int protection_from_memory(struct replica *r, const char *path, struct err *err)
{
	struct copies_state state;
	copies_state(r->root, path, &state);
	if (!is_worn(state.file) || !is_worn(state.copy))
		return 0;
	if (state.file == -EIO || state.copy == -EIO)
		return err_sys(err, -EIO, "%s: nor can its copy be read", path);
	int rc = memory_write(r, path);
	if (rc)
		return err_sys(err, rc, "%s and its copy were damaged; write them anew", path);
	log_error("a file and its copy were damaged, and are written anew from memory protection=%s file=%s", r->name, path);
	event_emit(EVENT_WARNING, "damage", r->name, NULL, "%s and its copy were both damaged, and are written anew from what this receiver has in memory; nothing is lost", path);
	return 0;
}

static int protection_mend(struct replica *r, bool *ret_wrote, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	enum copies_done done;
	int rc;
	replica_file(r, path, "protection.json");
	if (are_apart(r->root, path)) {
		*ret_wrote = true;
		log_warning("a file and its copy differ, and are written anew from memory protection=%s file=%s", r->name, path);
		rc = memory_write_both(r, path);
		return rc ? err_sys(err, rc, "%s and its copy differ; write them anew", path) : 0;
	}
	rc = mend_and_tell(r, r->name, path, false, &done, err);
	*ret_wrote = done != COPIES_NONE;
	return rc || *ret_wrote ? rc : protection_from_memory(r, path, err);
}

// As protection.json: nobody else changes it, and memory knows. Where it was lost before this receiver began, what is saved is that it was.
static int pins_from_memory(struct replica *r, const char *path, bool *ret_wrote, struct err *err)
{
	struct copies_state state;
	copies_state(r->root, path, &state);
	bool never = state.file == -ENOENT && state.copy == -ENOENT && !pins_known(r);
	if (never || !is_worn(state.file) || !is_worn(state.copy))
		return 0;
	if (state.file == -EIO || state.copy == -EIO)
		return r->pins_lost ? 0 : err_sys(err, -EIO, "%s: nor can its copy be read", path);
	int rc = pins_write(r, ret_wrote);
	if (rc)
		return err_sys(err, rc, "%s and its copy were damaged; write them anew", path);
	log_error("a file and its copy were damaged, and are written anew protection=%s file=%s lost=%llu", r->name, path, (unsigned long long)r->pins_lost);
	if (r->pins_lost)
		event_emit(EVENT_CRITICAL, "damage", r->name, NULL,
			   "%s and its copy were both damaged: nobody knows which points were pinned, and all up to point %llu are kept. Pin those that are to stay, then: kagami unpin %s --lost",
			   path, (unsigned long long)r->pins_lost, r->name);
	else
		event_emit(EVENT_WARNING, "damage", r->name, NULL, "%s and its copy were both damaged, and are written anew from what this receiver has in memory; nothing is lost", path);
	return 0;
}

static int pins_mend(struct replica *r, bool *ret_wrote, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	enum copies_done done;
	replica_file(r, path, "pins.json");
	if (r->pins_apart) {
		int apart = pins_rejoin(r, ret_wrote);
		return apart ? err_sys(err, apart, "%s: write it and its copy", path) : 0;
	}
	int rc = mend_and_tell(r, r->name, path, false, &done, err);
	*ret_wrote = done != COPIES_NONE;
	return rc || *ret_wrote ? rc : pins_from_memory(r, path, ret_wrote, err);
}

// As pins.json: nobody else changes it, and memory knows, if only that the record was lost. There is none before a first pass, or before anything was found.
static int scrub_from_memory(struct replica *r, const char *path, bool *ret_wrote, struct err *err)
{
	struct copies_state state;
	copies_state(r->root, path, &state);
	bool never = state.file == -ENOENT && state.copy == -ENOENT && !scrub_known(r);
	if (never || !is_worn(state.file) || !is_worn(state.copy) || state.file == -EIO || state.copy == -EIO)
		return 0;
	int rc = copies_aside(r->root, path);
	if (rc)
		return err_sys(err, rc, "%s and its copy were damaged; move it aside", path);
	rc = scrub_record(r, err);
	*ret_wrote = rc == 0;
	if (rc == 0)
		log_error("a file and its copy were damaged, and are written anew protection=%s file=%s", r->name, path);
	return rc;
}

static int scrub_mend(struct replica *r, bool *ret_wrote, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	enum copies_done done;
	replica_file(r, path, "scrub.json");
	if (r->scrub_apart) {
		*ret_wrote = true;
		return scrub_record(r, err);
	}
	int rc = mend_and_tell(r, r->name, path, false, &done, err);
	*ret_wrote = done != COPIES_NONE;
	return rc || *ret_wrote ? rc : scrub_from_memory(r, path, ret_wrote, err);
}

static int point_mend(struct replica *r, uint64_t number, bool *ret_wrote, struct err *err)
{
	char dir[REPLICA_PATH_SIZE], path[REPLICA_PATH_SIZE];
	enum copies_done done;
	replica_file(r, dir, "points/%llu", (unsigned long long)number);
	replica_file(r, path, "points/%llu/point.json", (unsigned long long)number);
	int rc = mend_and_tell(r, dir, path, false, &done, err);
	*ret_wrote = done != COPIES_NONE;
	return rc;
}

// The record of a failover: failover/ was made whole before it had its name, so the file is certain; and its time, by which the timer tells what was written since
// (failover_use.c), stays.
static int failover_mend(struct replica *r, bool *ret_wrote, struct err *err)
{
	char dir[REPLICA_PATH_SIZE], path[REPLICA_PATH_SIZE];
	enum copies_done done;
	if (!r->prot.fenced)
		return 0;
	replica_file(r, dir, "failover");
	replica_file(r, path, "failover/failover.json");
	int rc = mend_and_tell(r, dir, path, true, &done, err);
	*ret_wrote = done != COPIES_NONE;
	return rc;
}

// The next pair, under the lock: its directory is moved under it as well. False: there is nothing more to look at.
static bool pair_next(struct replica *r, bool *ret_wrote)
{
	struct copies_pass *pass = &r->copies;
	struct err why = {0};
	LOCK_SCOPE(&r->lock);
	if (r->broken || r->gone) // recovery has all looked at again
		return false;
	uint64_t number = pass->scrub_done ? point_after(r, pass->number) : 0;
	bool points_done = pass->scrub_done && number == 0;
	if (points_done && pass->failover_done)
		return false;
	int rc = points_done ? failover_mend(r, ret_wrote, &why) :
		 number	     ? point_mend(r, number, ret_wrote, &why) :
		 pass->pins_done ? scrub_mend(r, ret_wrote, &why) :
		 pass->protection_done ? pins_mend(r, ret_wrote, &why) :
					 protection_mend(r, ret_wrote, &why);
	pass->scrub_done = pass->pins_done;
	pass->pins_done = pass->protection_done;
	pass->protection_done = true;
	pass->failover_done = points_done;
	if (!points_done)
		pass->number = number;
	if (rc && pass->why.code == 0) // the others are looked at none the less
		pass->why = why;
	return true;
}

static void pass_end(struct replica *r)
{
	const struct err *why = &r->copies.why;
	if (why->code && !r->copies_failed)
		log_warning("files cannot be written twice, which is tried again protection=%s reason=\"%s\"", r->name, why->text);
	r->copies_failed = why->code != 0;
	r->copies.under_way = false;
	if (r->copies_failed)
		copies_look(r);
}

// A session and a commit wait for a pair at most; and for the disk, which each pair that is written keeps busy with some syncs, not longer than for a few.
void copies_round(struct replica *r)
{
	unsigned looked = 0, written = 0;
	if (!r->copies.under_way && !atomic_exchange(&r->copies_due, false))
		return;
	if (!r->copies.under_way)
		r->copies = (struct copies_pass){.under_way = true};
	while (looked < COPIES_LOOKED && written < COPIES_WRITTEN) {
		bool wrote = false;
		if (!pair_next(r, &wrote)) {
			pass_end(r);
			return;
		}
		looked++;
		written += wrote;
	}
}
