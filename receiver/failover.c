// SPDX-License-Identifier: Apache-2.0
// Failover, as steps that a crash may cut anywhere:
//
//	1  replica_fence(n)             durable: the source is over, the point is pinned. From here on only n may follow
//	2  failover.new/ removed        what an earlier try left half done
//	3  failover.new/ made           an overlay for each disk, then failover.json, each durable, then their names
//	4  failover.new -> failover     one rename, then the protection's directory is synced: done
//
// The fence comes first: an overlay that existed before it could be booted beside a source that still replicates.
// failover/ exists if and only if all of it is durable, and its disks are never touched again: the guest writes there. So asking
// again starts at the step that is missing, and a failover that is done answers from failover.json, or the copy of that. It is the directory that says that there are
// disks: one whose record does not read is there none the less. Where there is no space for 3, what was made of it is removed, and then the fence is taken back.
#include "receiver/failover.h"

#include "base/auto.h"
#include "receiver/copies.h"
#include "receiver/json_file.h"
#include "receiver/overlay.h"

#include <errno.h>
#include <stdio.h>

enum { FAILOVER_VERSION = 1, FAILOVER_NAME_SIZE = 128, FAILOVER_PATH_SIZE = 256, NS_PER_MS = 1000000 };

#define FAILOVER_FORMAT "kagami-failover"

// --- failover.json ---

static int record_encode(const struct failover_info *failover, char **ret_text, size_t *ret_len)
{
	AUTO_JSON json_t *object = json_object();
	json_t *disks = json_array();
	for (unsigned i = 0; i < failover->disk_count; i++)
		if (json_array_append_new(disks, json_string(failover->disk[i]))) {
			json_decref(disks);
			return -ENOMEM;
		}
	if (json_object_set_new(object, "disks", disks) ||
	    json_object_set_new(object, "name", json_string(failover->name)) ||
	    json_object_set_new(object, "point", json_new_u64(failover->point)) ||
	    json_object_set_new(object, "cut", json_new_time(failover->cut_wall_ns)) || // for people
	    json_object_set_new(object, "cut_ns", json_integer(failover->cut_wall_ns)) ||
	    json_object_set_new(object, "lost_ms", json_new_u64(failover->lost_ms)) ||
	    json_object_set_new(object, "duration_ms", json_new_u64(failover->duration_ms)) ||
	    json_object_set_new(object, "empty_bytes", json_new_u64(failover->empty_bytes)))
		return -ENOMEM;
	return json_file_encode(object, FAILOVER_FORMAT, FAILOVER_VERSION, ret_text, ret_len);
}

static int disks_decode(const json_t *object, struct failover_info *failover, struct err *err)
{
	const json_t *disks;
	int rc = json_get_array(object, "disks", 1, DISKS_MAX, &disks, err);
	if (rc)
		return rc;
	failover->disk_count = (uint16_t)json_array_size(disks);
	for (unsigned i = 0; i < failover->disk_count; i++) {
		const char *name = json_string_value(json_array_get(disks, i));
		if (!name || !name_ok(name))
			return err_set(err, -EBADMSG, "disks: not a name");
		(void)snprintf(failover->disk[i], NAME_SIZE, "%s", name);
	}
	return 0;
}

int failover_decode(const char *text, size_t len, struct failover_info *ret_failover, struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	struct failover_info failover = {.point = 0};
	int rc = json_file_decode(text, len, FAILOVER_FORMAT, FAILOVER_VERSION, &object, err);
	if (rc == 0)
		rc = json_get_name(object, "name", failover.name, err);
	if (rc == 0)
		rc = json_get_u64(object, "point", 1, INT64_MAX, &failover.point, err);
	if (rc == 0)
		rc = json_get_ns(object, "cut_ns", &failover.cut_wall_ns, err);
	if (rc == 0)
		rc = json_get_u64(object, "lost_ms", 0, INT64_MAX, &failover.lost_ms, err);
	if (rc == 0)
		rc = json_get_u64(object, "duration_ms", 0, INT64_MAX, &failover.duration_ms, err);
	if (rc == 0 && json_object_get(object, "empty_bytes")) // not in records of before there was such a thing
		rc = json_get_u64(object, "empty_bytes", 0, INT64_MAX, &failover.empty_bytes, err);
	if (rc == 0)
		rc = disks_decode(object, &failover, err);
	if (rc == 0)
		*ret_failover = failover;
	return rc;
}

static int record_read(struct env_root *root, const char *path, struct failover_info *ret_failover, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(root, path, JSON_FILE_MAX, &text, &len);
	if (rc)
		return err_sys(err, rc, "read %s", path);
	return failover_decode(text, len, ret_failover, err) ? err_wrap(err, "%s does not check", path) : 0;
}

static int record_or_copy(struct env_root *root, const char *path, struct failover_info *ret_failover, bool *ret_worn, struct err *err)
{
	char copy[FAILOVER_PATH_SIZE + sizeof(COPY_SUFFIX)];
	(void)snprintf(copy, sizeof(copy), "%s" COPY_SUFFIX, path);
	int rc = record_read(root, path, ret_failover, err);
	*ret_worn = rc && copies_stand_in(root, path, rc);
	if (*ret_worn && record_read(root, copy, ret_failover, NULL) == 0)
		rc = 0;
	return rc;
}

static int dir_look(struct env_root *root, const char *name)
{
	char dir[FAILOVER_NAME_SIZE];
	struct env_stat st;
	(void)snprintf(dir, sizeof(dir), "%s/failover", name);
	return env_stat(root, dir, &st);
}

// -ENOENT: there is no failover/. The directory is looked at before the record, as one that is being made comes with it; and after it, as one that is taken back goes.
static int record_load(struct env_root *root, const char *name, struct failover_info *ret_failover, bool *ret_worn, struct err *err)
{
	char path[FAILOVER_PATH_SIZE];
	struct err why = {.code = 0};
	(void)snprintf(path, sizeof(path), "%s/failover/failover.json", name);
	*ret_worn = false;
	int rc = dir_look(root, name);
	if (rc)
		return err_sys(err, rc, "%s/failover", name);
	rc = record_or_copy(root, path, ret_failover, ret_worn, &why);
	if (rc == -ENOENT && dir_look(root, name) != -ENOENT)
		rc = err_set(&why, -EBADMSG, "%s is gone, and so is its copy", path);
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

// 0: the record is of the point that the replica is fenced to; or nothing is, while a failover is taken back.
static int record_check(const struct replica_info *replica, const struct failover_info *failover, struct err *err)
{
	if (!replica->fenced || failover->point == replica->fenced_point)
		return 0;
	return err_set(err, -EBADMSG, "%s/failover: its disks are of point %llu, and %s is failed over to point %llu", replica->name, (unsigned long long)failover->point,
		       replica->name, (unsigned long long)replica->fenced_point);
}

// --- the steps ---

// `size`: of each disk at the cut, which may have grown since.
static int disks_make(struct env_root *root, const char *dir, const struct replica_info *replica, uint64_t point,
		      const uint64_t *size, struct err *err)
{
	for (unsigned i = 0; i < replica->disk_count; i++) {
		char name[FAILOVER_PATH_SIZE], backing[FAILOVER_PATH_SIZE];
		(void)snprintf(name, sizeof(name), "%s/%s.qcow2", dir, replica->disk[i].name);
		(void)snprintf(backing, sizeof(backing), "../points/%llu/%s.qcow2", (unsigned long long)point,
			       replica->disk[i].name);
		int rc = overlay_create(root, name, size[i], backing, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int record_write(struct env_root *root, const char *dir, const struct failover_info *failover, struct err *err)
{
	char name[FAILOVER_PATH_SIZE];
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = record_encode(failover, &text, &len);
	(void)snprintf(name, sizeof(name), "%s/failover.json", dir);
	if (rc)
		return err_sys(err, rc, "write %s", name);
	rc = copies_create(root, name, text, len, err);
	if (rc)
		return rc;
	rc = env_sync_dir(root, dir); // the names of the disks, too
	return rc ? err_sys(err, rc, "sync %s", dir) : 0;
}

static uint64_t disks_allocated(struct env_root *root, const char *dir, const struct failover_info *failover)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < failover->disk_count; i++) {
		char name[FAILOVER_PATH_SIZE];
		struct env_stat st;
		(void)snprintf(name, sizeof(name), "%s/%s.qcow2", dir, failover->disk[i]);
		if (env_stat(root, name, &st) == 0)
			sum += st.allocated;
	}
	return sum;
}

// Steps 2 to 4. `failover` says all but how long it took, which is filled in. *published: the disks may be there, whatever is returned.
static int disks_publish(struct env_root *root, const struct replica_info *replica, const uint64_t *size, uint64_t began_ns,
			 struct failover_info *failover, bool *published, struct err *err)
{
	char temp[FAILOVER_NAME_SIZE], done[FAILOVER_NAME_SIZE];
	(void)snprintf(temp, sizeof(temp), "%s/failover.new", replica->name);
	(void)snprintf(done, sizeof(done), "%s/failover", replica->name);
	int rc = env_remove_tree(root, temp);
	if (rc == 0)
		rc = env_mkdir(root, temp);
	if (rc)
		return err_sys(err, rc, "make %s", temp);
	rc = disks_make(root, temp, replica, failover->point, size, err);
	if (rc)
		return rc;
	failover->empty_bytes = disks_allocated(root, temp, failover);
	failover->duration_ms = (env_mono_ns(root->env) - began_ns) / NS_PER_MS;
	rc = record_write(root, temp, failover, err);
	if (rc)
		return rc;
	*published = true;
	rc = env_rename(root, temp, done);
	if (rc == 0)
		rc = env_sync_dir(root, replica->name);
	return rc ? err_sys(err, rc, "rename %s to %s", temp, done) : 0;
}

static void describe(const struct replica_info *replica, const struct point_info *point, const struct watched_ages *ages,
		     struct failover_info *ret_failover)
{
	struct failover_info failover = {
		.point = point->number, .cut_wall_ns = point->cut_wall_ns, .lost_ms = watched_age_ms(ages, point->number, point->cut_wall_ns)};
	(void)snprintf(failover.name, sizeof(failover.name), "%s", replica->name);
	failover.disk_count = replica->disk_count;
	for (unsigned i = 0; i < replica->disk_count; i++)
		(void)snprintf(failover.disk[i], NAME_SIZE, "%s", replica->disk[i].name);
	*ret_failover = failover;
}

static int number_settle(const struct replica_info *info, uint64_t *number, struct err *err)
{
	if (!info->fenced)
		return 0;
	if (*number != 0 && *number != info->fenced_point)
		return err_set(err, -EALREADY, "%s was failed over to point %llu already, and a second active copy is never made: %s%s%s, or mount or test the other "
					       "one",
			       info->name, (unsigned long long)info->fenced_point,
			       info->fence_final ? "ask for that point" : "take it back first (kagami failover ", info->fence_final ? "" : info->name,
			       info->fence_final ? "" : " --rollback)");
	*number = info->fenced_point;
	return 0;
}

// Disks that cannot be opened are no answer: neither those that would be made, nor those that are there.
static int disks_open(struct replica *replica, const struct replica_info *info, uint64_t number, struct err *err)
{
	struct err why = {.code = 0};
	int rc = replica_point_opens(replica, number, &why);
	if (rc && info->fenced)
		return err_set(err, rc, "%s is failed over to point %llu, whose disks cannot be opened: %s", info->name, (unsigned long long)info->fenced_point, why.text);
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

// Whether this call's fence was taken back: for want of space, once nothing is there any more that could be booted.
static bool take_back(struct env_root *root, struct replica *replica, const struct failover_info *failover, int code)
{
	char temp[FAILOVER_NAME_SIZE];
	(void)snprintf(temp, sizeof(temp), "%s/failover.new", failover->name);
	return (code == -ENOSPC || code == -EDQUOT) && env_remove_tree(root, temp) == 0 && replica_unfence(replica, failover->point, NULL) == 0;
}

// The fence is there, and its disks are not.
static int disks_fail(const struct failover_info *failover, bool back, const struct err *why, struct err *err)
{
	if (back)
		return err_set(err, why->code, "%.250s: the target's store is full, and nothing was changed: free space there, and ask again", why->text);
	return err_set(err, why->code, "%.250s: %s is fenced, and its disks are not there yet: ask again, or take it back (kagami failover %s --rollback)", why->text,
		       failover->name, failover->name);
}

static int failover_do(struct env_root *root, struct replica *replica, const struct replica_info *info, uint64_t number, bool damaged,
		       const struct watched_ages *ages, struct failover_info *ret_failover, struct err *err)
{
	uint64_t began_ns = env_mono_ns(root->env);
	struct point_info point = {.number = 0};
	struct failover_info failover;
	uint64_t size[DISKS_MAX];
	int rc = replica_point_look(replica, number, &point, err);
	if (rc == 0)
		rc = damaged ? replica_fence(replica, number, err) : replica_fence_sound(replica, number, err);
	if (rc == 0 && number == 0) { // a point may have been committed since it was chosen: the fence says which one it is
		struct replica_info fenced;
		replica_info(replica, &fenced);
		rc = replica_point_look(replica, fenced.fenced_point, &point, err);
	}
	if (rc == 0) // the fence keeps the point
		rc = replica_point_sizes(replica, point.number, size, err);
	if (rc)
		return rc;
	describe(info, &point, ages, &failover);
	bool published = false;
	struct err why = {0};
	if (disks_publish(root, info, size, began_ns, &failover, &published, &why))
		return disks_fail(&failover, !info->fenced && !published && take_back(root, replica, &failover, why.code), &why, err);
	*ret_failover = failover;
	return 0;
}

int failover_run(struct env *env, struct store *store, struct replica *replica, uint64_t number, bool damaged, const struct watched_ages *ages,
		 struct failover_info *ret_failover, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct env_root *root = store_root(store);
	const struct watched_ages plain = {.wall_ns = env_wall_ns(env)};
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	replica_info(replica, info);
	int rc = number_settle(info, &number, err);
	if (rc == 0)
		rc = disks_open(replica, info, number, err);
	if (rc)
		return rc;
	rc = store_leads(store, info->name, err); // the paths that are told are of these disks
	if (rc)
		return rc;
	struct err load = {.code = 0};
	bool worn = false;
	rc = info->fenced ? record_load(root, info->name, ret_failover, &worn, &load) : -ENOENT;
	if (rc == -ENOENT) // not done, or cut short
		rc = failover_do(root, replica, info, number, damaged, ages ? ages : &plain, ret_failover, err);
	else if (rc == 0 && (rc = record_check(info, ret_failover, &load)))
		err_set(err, rc, "%.250s: take it back (kagami failover %s --rollback --discard-failover), and ask again", load.text, info->name);
	else if (rc)
		err_set(err, rc, "%.250s; %s is failed over, and its disks are there (kagami status %s names them): this is about the record beside them alone", load.text, info->name,
			info->name);
	if (worn)
		copies_look(replica);
	return rc;
}

int failover_load(struct store *store, const char *name, struct failover_info *ret_failover, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct replica *replica = store_find(store, name);
	bool worn = false;
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = record_load(store_root(store), name, ret_failover, &worn, err);
	if (rc == 0 && replica) {
		replica_info(replica, info);
		rc = record_check(info, ret_failover, err);
	}
	if (worn && replica)
		copies_look(replica);
	return rc;
}

void failover_assume(const struct replica_info *replica, struct failover_info *ret_failover)
{
	const struct point_info point = {.number = replica->fenced_point};
	const struct watched_ages none = {.newest = 0};
	describe(replica, &point, &none, ret_failover);
	ret_failover->unread = true;
}

uint64_t failover_written(const struct store *store, const struct failover_info *failover)
{
	char dir[FAILOVER_NAME_SIZE];
	(void)snprintf(dir, sizeof(dir), "%s/failover", failover->name);
	uint64_t now = disks_allocated(store_root(store), dir, failover);
	return now > failover->empty_bytes ? now - failover->empty_bytes : 0;
}
