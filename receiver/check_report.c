// SPDX-License-Identifier: Apache-2.0
// The check of a whole store, online and offline, as one JSON report.
//
// Online, files change while they are looked at: a disk may grow between protection.json and a point, a replica may be removed. The
// newest point is held, so that nothing up to it goes; what comes after it is not looked at, for retention may take that away again. To a broken replica
// nothing comes, and what makes it broken lies after the last point that can be read: all of it is looked at. And damage counts only if a second look
// finds it again.
#include "receiver/check.h"

#include "receiver/json_file.h"
#include "receiver/replica.h"

#include <errno.h>
#include <stdio.h>

struct report {
	const struct check_progress *progress;
	const char *name; // of the protection under way
	json_t *damage, *unreadable, *notes;
};

static void on_found(void *context, enum check_kind kind, const char *text)
{
	struct report *r = context;
	(void)json_array_append_new(kind == CHECK_DAMAGE ? r->damage : kind == CHECK_UNREADABLE ? r->unreadable : r->notes, json_string(text));
}

static bool is_sound(const struct check_result *result)
{
	return result->damage == 0 && result->unreadable == 0;
}

static bool on_looked(void *context, uint64_t files, uint64_t of)
{
	struct report *r = context;
	r->progress->looked(r->progress->context, r->name, files, of);
	return !r->progress->stopping(r->progress->context);
}

// The directory alone does not tell that its newest point is gone: the one below was the newest once, too. Its receiver knows.
static void held_look(struct env_root *root, uint64_t held, struct report *report, struct check_result *result)
{
	char name[NAME_SIZE + 48], text[NAME_SIZE + 128];
	struct env_stat st;
	(void)snprintf(name, sizeof(name), "%s/points/%llu", report->name, (unsigned long long)held);
	if (env_stat(root, name, &st) != -ENOENT)
		return;
	(void)snprintf(text, sizeof(text), "%s: missing; it was committed, and no point stands on it", name);
	on_found(report, CHECK_DAMAGE, text);
	result->damage++;
}

// One protection's object; NULL when it failed. `held`: a point that must be there; 0: none.
static json_t *protection_report(struct env_root *root, const char *path, const char *name, uint64_t to, uint64_t held,
				 const struct check_progress *progress, struct check_result *ret_result, struct err *err)
{
	struct report report = {.progress = progress, .name = name, .damage = json_array(), .unreadable = json_array(), .notes = json_array()};
	const struct check_watch watch = {.found = on_found, .looked = on_looked, .context = &report};
	if (check_protection(root, path, name, to, &watch, ret_result, err)) {
		json_decref(report.damage);
		json_decref(report.unreadable);
		json_decref(report.notes);
		return NULL;
	}
	if (held)
		held_look(root, held, &report, ret_result);
	json_t *json = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o}", "name", name, "points", (json_int_t)ret_result->points, "files",
				 (json_int_t)ret_result->files, "damage", report.damage, "unreadable", report.unreadable, "notes", report.notes);
	if (!json)
		(void)err_set(err, -ENOMEM, "out of memory");
	return json;
}

static json_t *live_report(struct env_root *root, const char *path, struct replica *replica, const struct check_progress *progress,
			   struct check_result *ret_result, struct err *err)
{
	struct replica_info info;
	uint64_t held = 0;
	replica_info(replica, &info);
	bool holds = replica_hold(replica, 0, &held, NULL) == 0; // without a point there is nothing to hold
	uint64_t to = info.broken ? 0 : held;
	json_t *json = protection_report(root, path, info.name, to, held, progress, ret_result, err);
	if (json && !is_sound(ret_result)) {
		json_decref(json);
		json = protection_report(root, path, info.name, to, held, progress, ret_result, err);
	}
	if (holds)
		replica_release(replica, held);
	return json;
}

static int report_finish(json_t *protections, bool sound, json_t **ret_report, struct err *err)
{
	*ret_report = json_pack("{s:b, s:o}", "sound", sound, "protections", protections);
	return *ret_report ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int report_add(json_t *protections, json_t *one, struct err *err)
{
	if (!one)
		return err->code;
	return json_array_append_new(protections, one) ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int check_live(struct store *store, const struct check_progress *progress, json_t **ret_report, struct err *err)
{
	struct replica *replica;
	int rc = 0;
	AUTO_JSON json_t *protections = json_array();
	bool sound = true;
	for (size_t n = 0; rc == 0 && (replica = store_at(store, n)); n++) {
		struct check_result result = {.damage = 0};
		json_t *one = live_report(store_root(store), store_path(store), replica, progress, &result, err);
		if (one && !is_sound(&result) && store_at(store, n) != replica) { // it was removed meanwhile, or another one: nobody misses it
			json_decref(one);
			continue;
		}
		rc = report_add(protections, one, err);
		sound = sound && is_sound(&result);
	}
	return rc ? rc : report_finish(json_incref(protections), sound, ret_report, err);
}

static int names_check(struct env_root *root, const char *path, const struct check_progress *progress, json_t *protections,
		       bool *ret_sound, struct err *err)
{
	char **names = NULL;
	size_t count = 0;
	int rc = env_list(root, ".", &names, &count);
	if (rc)
		return err_sys(err, rc, "list the store %s", path);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct check_result result = {.damage = 0};
		if (!store_has_protection(root, names[i]))
			continue;
		rc = report_add(protections, protection_report(root, path, names[i], 0, 0, progress, &result, err), err);
		*ret_sound = *ret_sound && is_sound(&result);
	}
	env_list_free(names, count);
	return rc;
}

// A store that no receiver ever opened has no lock, and nobody to disturb.
static int lock_take(struct env_root *root, const char *path, struct env_file **ret_lock, struct err *err)
{
	int rc = env_open(root, STORE_LOCK, ENV_READ, ret_lock);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		rc = env_lock(*ret_lock);
	if (rc == -EBUSY)
		return err_set(err, rc, "a receiver runs on the store %s: ask it, with `kagami store check`", path);
	return rc ? err_sys(err, rc, "lock the store %s", path) : 0;
}

int check_directory(struct env *env, const char *path, const struct check_progress *progress, json_t **ret_report, struct err *err)
{
	struct env_root *root = NULL;
	AUTO_FILE struct env_file *lock = NULL;
	int rc = env_root_open(env, path, &root);
	if (rc)
		return err_directory(err, rc, "store", path);
	AUTO_JSON json_t *protections = json_array();
	bool sound = true;
	rc = lock_take(root, path, &lock, err);
	if (rc == 0)
		rc = names_check(root, path, progress, protections, &sound, err);
	if (rc == 0 && !lock && json_array_size(protections) == 0) // sound would be said of any directory
		rc = err_set(err, -EINVAL, "%s is no store: there is neither a protection in it, nor has a receiver had it open", path);
	env_root_close(root);
	return rc ? rc : report_finish(json_incref(protections), sound, ret_report, err);
}
