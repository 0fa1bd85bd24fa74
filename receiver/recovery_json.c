// SPDX-License-Identifier: Apache-2.0
// What the receiver knows, as JSON for the control API.
//
// jansson's packers take NULL as failure and free what they were given, so that each function builds its value in one
// expression and out of memory ends as NULL.
#include "receiver/recovery.h"

#include "base/auto.h"
#include "base/size.h"
#include "link/health.h"
#include "link/json.h"
#include "receiver/image_use.h"
#include "receiver/json_file.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NS_PER_MS = 1000000, JSON_PATH_SIZE = 4096 };

static json_t *age(struct env *env, int64_t cut_wall_ns, uint64_t *ret_age_ms)
{
	int64_t now = env_wall_ns(env);
	*ret_age_ms = now > cut_wall_ns ? (uint64_t)(now - cut_wall_ns) / NS_PER_MS : 0;
	return json_new_u64(*ret_age_ms);
}

// --- a broken one ---

static json_t *unread_json(struct replica *replica)
{
	struct unread_points unread;
	if (!replica_is_broken(replica) || replica_unread(replica, &unread))
		return json_null();
	return json_pack("{s:I, s:o}", "points", (json_int_t)unread.count, "newest", unread.count ? json_new_u64(unread.newest) : json_null());
}

json_t *recovery_json_broken(json_t *object, struct replica *replica)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	AUTO_JSON json_t *json = NULL;
	if (info) {
		replica_info(replica, info);
		json = json_pack("{s:b, s:s, s:o}", "broken", (int)info->broken, "reason", info->broken_reason, "unread", unread_json(replica));
	}
	if (json && object && json_object_update(object, json) == 0)
		return object;
	json_decref(object);
	return NULL;
}

// --- replica ---

static const char *state_name(const struct replica_info *info)
{
	if (info->broken || info->fenced)
		return info->broken ? "broken" : "failed-over";
	return info->session_open ? "connected" : info->unprotected_wall_ns ? "unprotected" : "disconnected";
}

// By an objective: there is a source, or is to be one.
static bool bound(const struct replica_info *info)
{
	return !info->fenced && (info->session_open || !info->unprotected_wall_ns);
}

static json_t *replica_disks(const struct replica_info *info)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < info->disk_count; i++)
		if (json_array_append_new(disks, json_pack("{s:s, s:I, s:b}", "name", info->disk[i].name, "size_bytes",
							   (json_int_t)info->disk[i].size, "doubted",
							   (int)(info->doubted_disks >> i & 1)))) {
			json_decref(disks);
			return NULL;
		}
	return disks;
}

// Bytes on disk of all bases and points.
static uint64_t stored_bytes(const struct recovery *recovery, struct replica *replica, const struct replica_info *info)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	uint64_t sum = 0;
	if (replica_points(replica, &points, &count) == 0)
		for (size_t i = 0; i < count; i++)
			sum += points[i].stored_bytes + points[i].damaged_bytes;
	for (unsigned i = 0; i < info->disk_count; i++) {
		char base[NAME_SIZE * 2 + 16];
		struct env_stat st;
		(void)snprintf(base, sizeof(base), "%s/base/%s.raw", info->name, info->disk[i].name);
		if (env_stat(store_root(recovery->store), base, &st) == 0)
			sum += st.allocated;
	}
	return sum;
}

static json_t *replica_failover(const struct recovery *recovery, const struct replica_info *info)
{
	AUTO_FREE struct failover_info *failover = info->fenced ? malloc(sizeof(*failover)) : NULL;
	struct err why = {.code = 0};
	int rc = failover ? failover_load(recovery->store, info->name, failover, &why) : -ENOENT;
	if (rc == -ENOENT)
		return json_null();
	if (rc)
		failover_assume(info, failover);
	json_t *json = recovery_json_failover(recovery, failover);
	if (json && rc)
		(void)json_object_set_new(json, "record_error", json_text(why.text));
	return json;
}

// Who holds the point, and how that ends: the first test or mount of it.
static void holder_text(struct recovery *recovery, const struct replica_info *info, char *text, size_t cap)
{
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	AUTO_FREE struct mount_info *mount = malloc(sizeof(*mount));
	for (size_t n = 0; test && recovery->tests && tests_at(recovery->tests, n, test); n++)
		if (strcmp(test->protection, info->name) == 0 && test->point == info->retention_waits_for) {
			(void)snprintf(text, cap, "the test %s (`kagami test stop %s %s` ends it)", test->name, info->name, test->name);
			return;
		}
	for (size_t n = 0; mount && recovery->mounts && mounts_at(recovery->mounts, n, mount); n++)
		if (strcmp(mount->protection, info->name) == 0 && mount->point == info->retention_waits_for) {
			(void)snprintf(text, cap, "a mount (`kagami umount %.160s` ends it)", mount->directory);
			return;
		}
	(void)snprintf(text, cap, "a mount or a test (`kagami mounts` and `kagami test list` show them)");
}

// What keeps retention from going on; "" when nothing does.
static void retention_reason(struct recovery *recovery, const struct replica_info *info, char text[ERR_TEXT_MAX])
{
	char holder[256];
	text[0] = 0;
	if (info->held_unknown) {
		(void)snprintf(text, ERR_TEXT_MAX,
			       "nobody knows which points its tests and mounts stand on, so that none goes: %s/%s/tests could not be read, or a mount not be undone; the log says why",
			       store_path(recovery->store), info->name);
	} else if (info->retention_waits_for && !info->fenced) { // none of a fenced one is to go
		holder_text(recovery, info, holder, sizeof(holder));
		(void)snprintf(text, ERR_TEXT_MAX, "retention waits: %llu of %llu points %s to go, but point %llu, which needs them, is held by %s",
			       (unsigned long long)info->surplus, (unsigned long long)info->point_count, ARE(info->surplus),
			       (unsigned long long)info->retention_waits_for, holder);
	} else if (info->pins_lost) {
		(void)snprintf(text, ERR_TEXT_MAX,
			       "pins.json and its copy were damaged, so nobody knows which points were pinned: all up to point %llu are kept; `kagami pin` those that are to stay, then "
			       "`kagami unpin %s --lost`",
			       (unsigned long long)info->pins_lost, info->name);
	} else if (info->stall.cause && !info->fenced) {
		(void)snprintf(text, ERR_TEXT_MAX, "%s", info->stall.reason);
	} else if (info->cannot_merge && info->surplus && !info->fenced) {
		(void)snprintf(text, ERR_TEXT_MAX,
			       "%llu point%s stay that retention would merge: the file system of %s cannot exchange directories; ext4, xfs and btrfs "
			       "can",
			       (unsigned long long)info->surplus, PLURAL(info->surplus), store_path(recovery->store));
	}
}

static void damage_reason(const struct replica_info *info, uint64_t damaged, char text[ERR_TEXT_MAX])
{
	(void)snprintf(text, ERR_TEXT_MAX,
		       "the newest point is in quarantine: %llu of its blocks %s damaged; %s (`kagami points %s` tells which points are sound)",
		       (unsigned long long)damaged, ARE(damaged), info->fenced || info->unprotected_wall_ns ? "no source will repair it" : "the next sync repairs them", info->name);
}

// What is short, and before what that asks for, which may be to give something up, the reason why retention does not free it.
static void limited_reason(const struct replica_info *info, const char *store, const char *cause, char text[ERR_TEXT_MAX])
{
	if (cause[0] && info->limited == LIMITED_SPACE)
		(void)snprintf(text, ERR_TEXT_MAX, "the target's store %.120s is full: %.340s", store, cause);
	else
		(void)snprintf(text, ERR_TEXT_MAX, "%.240s%s%.260s", cause, cause[0] ? "; " : "", info->limited_reason);
}

// Why it is not well; "" when it is.
static const char *replica_reason(struct recovery *recovery, const struct replica_info *info, uint64_t damaged, char text[ERR_TEXT_MAX])
{
	char cause[ERR_TEXT_MAX];
	text[0] = 0;
	if (info->broken)
		return info->broken_reason;
	retention_reason(recovery, info, cause);
	if (info->limited != LIMITED_NOT)
		limited_reason(info, store_path(recovery->store), cause, text);
	else if (damaged && (info->fenced || !info->retention_waits_for))
		damage_reason(info, damaged, text);
	else
		(void)snprintf(text, ERR_TEXT_MAX, "%s", cause);
	return text;
}

// The members that depend on there being a point.
static json_t *replica_newest(const struct recovery *recovery, const struct replica_info *info)
{
	uint64_t age_ms = 0;
	if (info->last_point == 0)
		return json_pack("{s:n, s:n, s:n, s:b, s:b}", "last_point", "last_cut", "age_ms", "rpo_violated", 0, "point_known", (int)!info->broken);
	json_t *at = age(recovery->env, info->last_cut_wall_ns, &age_ms);
	return json_pack("{s:I, s:o, s:o, s:b}", "last_point", (json_int_t)info->last_point, "last_cut",
			 json_when(info->last_cut_wall_ns), "age_ms", at, "rpo_violated",
			 bound(info) && age_ms > info->rpo_ms);
}

static json_t *replica_limits(const struct replica_info *info)
{
	static const char *const names[] = {[LIMITED_QUOTA] = "quota-reached", [LIMITED_SPACE] = "target-full", [LIMITED_MEMORY] = "quota-reached"};
	json_t *quota = info->quota_bytes ? json_new_u64(info->quota_bytes) : json_null();
	return json_pack("{s:I, s:o, s:s?}", "used_bytes", (json_int_t)info->used_bytes, "quota_bytes", quota, "limited",
			 names[info->limited]);
}

// What health and a failover's preview ask of the store: what is free, null where nobody says, and what a failover takes, 0 when there is one.
static json_t *replica_space(struct recovery *recovery, const struct replica_info *info)
{
	uint64_t free_bytes = 0, takes = info->fenced ? 0 : (uint64_t)info->disk_count * FAILOVER_DISK_BYTES;
	char displaced[ERR_TEXT_MAX];
	json_t *left = store_space(recovery->store, &free_bytes) ? json_null() : json_new_u64(free_bytes);
	json_t *away = store_displaced(recovery->store, displaced) ? json_text(displaced) : json_null();
	return json_pack("{s:o, s:o, s:I, s:I}", "store_displaced", away, "store_free_bytes", left, "store_reserve_bytes", (json_int_t)store_reserve(recovery->store), "failover_bytes",
			 (json_int_t)takes);
}

// The first test whose record cannot be trusted, which holds every point, or whose point is gone.
static json_t *replica_test_error(struct recovery *recovery, const struct replica_info *info)
{
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	for (size_t n = 0; test && recovery->tests && tests_at(recovery->tests, n, test); n++)
		if (test->reason[0] && strcmp(test->protection, info->name) == 0) {
			char text[ERR_TEXT_MAX];
			(void)snprintf(text, sizeof(text), "the test %s cannot be used any more; when no virtual machine has its disks, `kagami test stop %s %s%s` ends it: %.200s", test->name, info->name,
				       test->name, test->point ? "" : " --force", test->reason);
			return json_text(text);
		}
	return json_null();
}

static json_t *replica_stall(const struct replica_info *info)
{
	const struct stall_info *stall = &info->stall;
	if (!stall->cause || info->fenced)
		return json_null();
	return json_pack("{s:s, s:s, s:I, s:o}", "cause", stall_cause_name(stall->cause), "reason", stall->reason, "failures", (json_int_t)stall->failures,
			 "again_in_ms", stall->again_in_ms ? json_new_u64(stall->again_in_ms) : json_null());
}

static json_t *replica_seed(const struct replica_info *info)
{
	return info->adopting ? json_pack("{s:I, s:I}", "done_bytes", (json_int_t)info->adopted_bytes, "total_bytes",
					  (json_int_t)info->adopting_bytes)
			      : json_null();
}

// What the watch knows: the age by its clock, which takes the place of what the wall clock says, and the objective. NULL: nothing.
static json_t *replica_watched(struct recovery *recovery, struct replica *replica, const struct replica_info *info)
{
	struct watch_view view;
	if (!watch_look(recovery->watch, replica, &view))
		return NULL;
	json_t *json = watch_json(recovery->watch, replica);
	if (json && view.has_point && info->last_point)
		(void)json_object_set_new(json, "age_ms", json_new_u64(view.age_ms));
	if (json)
		(void)json_object_set_new(json, "rpo_violated", json_boolean(bound(info) && view.has_point && view.age_ms > view.rpo_ms));
	if (json && !bound(info))
		(void)json_object_set_new(json, "deadline_in_ms", json_null());
	return json;
}

json_t *recovery_json_replica(struct recovery *recovery, struct replica *replica)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	char uuid[UUID_TEXT_SIZE], reason[ERR_TEXT_MAX];
	if (!info)
		return NULL;
	replica_info(replica, info);
	uint64_t bad = replica_damaged_blocks(replica, info->last_point);
	uuid_format(&info->protection, uuid);
	json_t *json = json_pack(
		"{s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:o, s:I, s:I, s:I, s:o, s:o}", "retention_stalled", replica_stall(info), "unprotected", info->unprotected_wall_ns ? json_when(info->unprotected_wall_ns) : json_null(), "seed", replica_seed(info), "scrub", proof_json_scrub(recovery, replica), "name", info->name,
		"uuid", uuid, "state", state_name(info), "reason", replica_reason(recovery, info, bad, reason), "owner",
		json_new_hex(info->owner_pin, OWNER_PIN_SIZE), "rpo_ms", (json_int_t)info->rpo_ms, "points_keep",
		(json_int_t)info->points_keep, "retention", recovery_json_retention(info), "points",
		(json_int_t)info->point_count, "head_bytes", (json_int_t)info->head_bytes, "stored_bytes",
		(json_int_t)stored_bytes(recovery, replica, info), "disks", replica_disks(info), "failover",
		replica_failover(recovery, info));
	AUTO_JSON json_t *newest = replica_newest(recovery, info);
	AUTO_JSON json_t *limits = replica_limits(info);
	AUTO_JSON json_t *space = replica_space(recovery, info);
	AUTO_JSON json_t *watched = replica_watched(recovery, replica, info);
	if (json && (json_object_set_new(json, "verifications", recovery_json_verifications(recovery, replica)) ||
		     json_object_set_new(json, "test_error", replica_test_error(recovery, info)))) {
		json_decref(json);
		return NULL;
	}
	if (json && (json_object_set_new(json, "unread", unread_json(replica)) || json_object_set_new(json, "fenced", json_boolean(info->fenced)))) {
		json_decref(json);
		return NULL;
	}
	if (json && newest && limits && space && json_object_update(json, newest) == 0 && json_object_update(json, limits) == 0 && json_object_update(json, space) == 0 &&
	    (!watched || json_object_update(json, watched) == 0)) {
		health_tell(json, true);
		return json;
	}
	json_decref(json);
	return NULL;
}

// --- points ---

// `leads`: the path of the store leads to it; without that no path is told.
static json_t *point_disks(struct replica *replica, const struct replica_info *info, uint64_t number, bool leads)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < info->disk_count; i++) {
		char path[JSON_PATH_SIZE];
		int rc = replica_point_path(replica, number, info->disk[i].name, path, sizeof(path));
		json_t *disk = rc ? NULL : json_pack("{s:s, s:s?}", "name", info->disk[i].name, "path", leads ? path : NULL);
		if (json_array_append_new(disks, disk)) {
			json_decref(disks);
			return NULL;
		}
	}
	return disks;
}

static json_t *pin_json(const struct point_info *point)
{
	if (!point->pinned)
		return json_null();
	return json_pack("{s:s, s:o}", "text", point->pin_text, "pinned", json_when(point->pinned_wall_ns));
}

static json_t *point_json(struct replica *replica, const struct replica_info *info, const struct point_info *point, const struct watched_ages *ages, unsigned why, bool leads)
{
	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:s, s:I, s:I, s:I, s:b, s:o, s:o, s:o}", "damaged_blocks",
			 (json_int_t)replica_damaged_blocks(replica, point->number), "point", (json_int_t)point->number, "cut",
			 json_when(point->cut_wall_ns), "age_ms", json_count(watched_age_ms(ages, point->number, point->cut_wall_ns)), "commit", json_when(point->commit_wall_ns),
			 "consistency", point_consistency_name(point->consistency), "dirty_bytes",
			 (json_int_t)point->dirty_bytes, "wire_bytes", (json_int_t)point->wire_bytes, "stored_bytes",
			 (json_int_t)point->stored_bytes, "held", point->holds != 0, "pin", pin_json(point), "kept_by",
			 recovery_json_kept_by(why), "disks",
			 point_disks(replica, info, point->number, leads));
}

json_t *recovery_json_points(struct recovery *recovery, struct replica *replica, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	AUTO_FREE struct point_info *points = NULL;
	AUTO_FREE struct retention_point *plan = NULL;
	size_t count = 0;
	if (!info || replica_list_points(replica, &points, &plan, &count, err))
		return NULL;
	replica_info(replica, info);
	const struct watched_ages ages = watch_ages(recovery->watch, recovery->env, replica);
	bool leads = store_leads(recovery->store, info->name, NULL) == 0;
	json_t *array = json_array();
	for (size_t i = 0; i < count; i++) {
		char path[JSON_PATH_SIZE];
		json_t *point = point_json(replica, info, &points[i], &ages, plan[i].why, leads);
		if (!point && replica_point_path(replica, points[i].number, NULL, path, sizeof(path)) == -ENOENT)
			continue; // gone since it was listed
		if (json_array_append_new(array, point)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

// --- failover, mounts and tests ---

static json_t *failover_disks(const struct recovery *recovery, const struct failover_info *failover, bool leads)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < failover->disk_count; i++) {
		char path[JSON_PATH_SIZE];
		int rc = failover_path(recovery->store, failover, i, path, sizeof(path));
		json_t *disk = rc ? NULL : json_pack("{s:s, s:s?, s:s}", "name", failover->disk[i], "path", leads ? path : NULL, "format", "qcow2");
		if (json_array_append_new(disks, disk)) {
			json_decref(disks);
			return NULL;
		}
	}
	return disks;
}

json_t *recovery_json_failover(const struct recovery *recovery, const struct failover_info *failover)
{
	char dir[NAME_SIZE + 16];
	(void)snprintf(dir, sizeof(dir), "%s/failover", failover->name);
	bool leads = store_leads(recovery->store, dir, NULL) == 0;
	AUTO_FREE char *command = failover_command(recovery->store, failover);
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct replica *replica = store_find(recovery->store, failover->name);
	if (!command || !info)
		return NULL;
	memset(info, 0, sizeof(*info));
	if (replica) // else it was removed since
		replica_info(replica, info);
	json_t *left = info->rollback_in_ms ? json_new_u64(info->rollback_in_ms) : json_null();
	const char *late = NULL;
	if (info->rollback_in_ms && info->rollback_barred)
		late = "the replica is broken, which only a start of the receiver finds the truth about";
	else if (info->rollback_in_ms && failover->unread)
		late = "its record does not read";
	bool known = !failover->unread;
	struct point_info point; // without it the disks cannot be opened
	bool boots = leads && replica && replica_point_look(replica, failover->point, &point, NULL) == 0;
	return json_pack("{s:s?, s:n, s:s, s:I, s:o, s:o, s:o, s:o, s:s?, s:b, s:o, s:I}", "rollback_late", late, "record_error", "name", failover->name, "point",
			 (json_int_t)failover->point, "cut", known ? json_when(failover->cut_wall_ns) : json_null(), "lost_ms",
			 known ? json_new_u64(failover->lost_ms) : json_null(), "duration_ms", known ? json_new_u64(failover->duration_ms) : json_null(), "disks",
			 failover_disks(recovery, failover, leads), "command", boots ? command : NULL, "final", info->fence_final, "rollback_in_ms", left,
			 "written_bytes", (json_int_t)failover_written(recovery->store, failover));
}

json_t *recovery_json_mount(const struct mount_info *mount)
{
	json_t *partition = mount->partition ? json_integer(mount->partition) : json_null();
	return json_pack("{s:s, s:s, s:I, s:s, s:o, s:s, s:b}", "directory", mount->directory, "protection", mount->protection,
			 "point", (json_int_t)mount->point, "disk", mount->disk, "partition", partition, "filesystem",
			 mount->filesystem, "proven", mount->proven);
}

static json_t *test_disks(const struct recovery *recovery, const struct test_info *test, bool leads, bool *ret_in_use)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < test->disk_count; i++) {
		char path[JSON_PATH_SIZE];
		int rc = tests_path(recovery->tests, test, i, path, sizeof(path));
		*ret_in_use |= tests_unused(recovery->tests, test, i, NULL) == -EBUSY;
		json_t *disk = rc ? NULL : json_pack("{s:s, s:s?, s:s}", "name", test->disk[i], "path", leads ? path : NULL, "format", "qcow2");
		if (json_array_append_new(disks, disk)) {
			json_decref(disks);
			return NULL;
		}
	}
	return disks;
}

// Of a test that cannot be trusted only its name is known.
json_t *recovery_json_test(const struct recovery *recovery, const struct test_info *test)
{
	AUTO_FREE char *command = test->reason[0] ? NULL : tests_command(recovery->tests, test);
	char dir[NAME_SIZE + TEST_PATH_SIZE];
	(void)snprintf(dir, sizeof(dir), "%s/tests/%s", test->protection, test->name);
	bool in_use = false, known = test->point != 0, leads = store_leads(recovery->store, dir, NULL) == 0;
	uint64_t age_ms = 0;
	if (!test->reason[0] && !command)
		return NULL;
	json_t *disks = test_disks(recovery, test, leads, &in_use);
	json_t *lasted = known ? age(recovery->env, test->started_wall_ns, &age_ms) : json_null();
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:b, s:s, s:o, s:s?}", "protection", test->protection, "name", test->name,
			 "point", known ? json_new_u64(test->point) : json_null(), "cut",
			 known ? json_when(test->cut_wall_ns) : json_null(), "started",
			 known ? json_when(test->started_wall_ns) : json_null(), "age_ms", lasted, "stored_bytes",
			 (json_int_t)tests_bytes(recovery->tests, test), "in_use", in_use, "reason", test->reason, "disks", disks,
			 "command", leads ? command : NULL);
}
