// SPDX-License-Identifier: Apache-2.0
// The receiver's routes for replicas, points, failover and mounts: one handler each, and the table at the end.
//
// A handler checks its body, calls the part that does the work, and turns the result or the error into JSON. It decides
// nothing else.
#include "receiver/route.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "link/json.h"
#include "receiver/failover_control.h"
#include "receiver/json_file.h"
#include "receiver/verifier.h"

#include <errno.h>
#include <string.h>

void recovery_init(struct recovery *recovery, struct env *env, struct store *store, struct mounts *mounts)
{
	*recovery = (struct recovery){.env = env, .store = store, .mounts = mounts};
}

// The replica that a request without a body names.
static struct replica *find_plain(const struct recovery *recovery, const struct control_request *request, struct err *err)
{
	return control_read(request->body, NULL, 0, err) ? NULL : route_find(recovery, request, err);
}

// --- replicas and points ---

static unsigned get_protections(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct replica *replica;
	(void)request;
	json_t *array = json_array();
	for (size_t n = 0; (replica = store_at(recovery->store, n)); n++)
		if (json_array_append_new(array, recovery_json_replica(recovery, replica))) {
			json_decref(array);
			return route_answer(HTTP_OK, NULL, ret_body);
		}
	return route_answer(HTTP_OK, json_pack("{s:o}", "protections", array), ret_body);
}

static unsigned get_protection(void *context, const struct control_request *request, json_t **ret_body)
{
	struct err err = {.code = 0};
	struct replica *replica = find_plain(context, request, &err);
	if (!replica)
		return route_fail(&err, ret_body);
	return route_answer(HTTP_OK, recovery_json_replica(context, replica), ret_body);
}

static unsigned get_points(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct replica *replica = find_plain(recovery, request, &err);
	json_t *points = replica ? recovery_json_points(recovery, replica, &err) : NULL;
	if (err.code)
		return route_fail(&err, ret_body);
	return route_answer(HTTP_OK, recovery_json_broken(json_pack("{s:o}", "points", points), replica), ret_body);
}

static unsigned post_limits(void *context, const struct control_request *request, json_t **ret_body)
{
	struct err err = {.code = 0};
	uint64_t quota = 0;
	const struct control_member members[] = {{"quota_bytes", true, .number = &quota, .most = INT64_MAX}};
	struct replica *replica = control_read(request->body, members, 1, &err) ? NULL : route_find(context, request, &err);
	if (!replica || replica_set_quota(replica, quota, &err))
		return route_fail(&err, ret_body);
	event_emit(EVENT_INFO, "settings", request->arg[0], json_pack("{s:I}", "quota_bytes", (json_int_t)quota), "the quota of %s is %llu bytes (0: none)", request->arg[0],
		   (unsigned long long)quota);
	return route_answer(HTTP_OK, recovery_json_replica(context, replica), ret_body);
}

static unsigned get_store(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	char displaced[ERR_TEXT_MAX];
	(void)request;
	uint64_t taken, memory = store_memory(recovery->store, &taken);
	json_t *away = store_displaced(recovery->store, displaced) ? json_text(displaced) : json_null();
	return route_answer(HTTP_OK,
		      json_pack("{s:s, s:o, s:I, s:I, s:o, s:o}", "path", store_path(recovery->store), "displaced", away, "free_bytes",
				(json_int_t)store_free_bytes(recovery->store), "reserve_bytes", (json_int_t)store_reserve(recovery->store), "memory_bytes",
				memory ? json_new_u64(memory) : json_null(), "memory_taken_bytes", json_new_u64(taken)),
		      ret_body);
}

// A failed-over protection is more than a copy: its disks may be the guest's only ones. So it goes only when the request says
// so (?failover=discard), and never below a running guest.
static int check_forget(struct recovery *recovery, struct replica *replica, const struct control_request *request, struct err *err)
{
	AUTO_FREE struct failover_info *failover = malloc(sizeof(*failover));
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!failover || !info)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = failover_load(recovery->store, request->arg[0], failover, NULL);
	if (rc == -ENOENT)
		return 0;
	const char *said = request->query(request, "failover");
	if (!said || strcmp(said, "discard") != 0)
		return err_set(err, -EBUSY,
			       "%s was failed over, and what its guest wrote since is in the failover's disks only: copy them first, then "
			       "say --discard-failover (DELETE /v1/protections/%s?failover=discard)",
			       request->arg[0], request->arg[0]);
	if (rc) { // its record does not read
		replica_info(replica, info);
		failover_assume(info, failover);
	}
	return failover_unused(recovery->store, failover, err);
}

static int forget_locked(struct recovery *recovery, struct replica *replica, const struct control_request *request, struct err *err)
{
	LOCK_SCOPE(replica_recovery_lock(replica)); // no failover between the check and the removal
	int rc = tests_none(recovery->tests, request->arg[0], err);
	if (rc == 0)
		rc = check_forget(recovery, replica, request, err);
	if (rc == 0 && recovery->verifier)
		verifier_drop(recovery->verifier, replica, 0); // it holds points
	return rc ? rc : store_forget(recovery->store, request->arg[0], err);
}

static unsigned delete_protection(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct replica *replica = find_plain(recovery, request, &err);
	if (!replica || forget_locked(recovery, replica, request, &err))
		return route_fail(&err, ret_body);
	log_info("Removed a protection and its points, as asked. protection=%s", request->arg[0]);
	event_emit(EVENT_INFO, "settings", request->arg[0], NULL, "%s and all its points were removed, as asked", request->arg[0]);
	return route_answer(HTTP_OK, json_object(), ret_body);
}

// --- failover ---

static int failover_locked(struct recovery *recovery, struct replica *replica, uint64_t point, bool damaged, uint64_t rollback_after_ms,
			   struct failover_info *ret_failover, struct err *err)
{
	const struct watched_ages ages = watch_ages(recovery->watch, recovery->env, replica);
	LOCK_SCOPE(replica_recovery_lock(replica));
	int rc = rollback_after_ms ? replica_unfence_ready(replica, err) : 0;
	if (rc)
		return err_wrap(err, "a failover that is made now could not be taken back, so ask without a time");
	rc = failover_run(recovery->env, recovery->store, replica, point, damaged, &ages, ret_failover, err);
	if (rc == 0 && rollback_after_ms)
		rc = replica_fence_timer(replica, rollback_after_ms, err);
	if (rc == 0)
		log_info("Failed over. protection=%s point=%llu lost_ms=%llu duration_ms=%llu", ret_failover->name,
			 (unsigned long long)ret_failover->point, (unsigned long long)ret_failover->lost_ms,
			 (unsigned long long)ret_failover->duration_ms);
	if (rc == 0)
		event_emit(EVENT_WARNING, "failover", ret_failover->name,
			   json_pack("{s:I, s:I}", "point", (json_int_t)ret_failover->point, "lost_ms", (json_int_t)ret_failover->lost_ms),
			   "%s was failed over to point %llu", ret_failover->name, (unsigned long long)ret_failover->point);
	return rc;
}

static unsigned post_failover(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	uint64_t point = 0, rollback_after_ms = 0;
	bool damaged = false;
	const struct control_member members[] = {{"point", .number = &point, .least = 1, .most = INT64_MAX},
						 {"rollback_after_ms", .number = &rollback_after_ms, .least = 1, .most = INT64_MAX / 2},
						 {"damaged", .flag = &damaged}};
	if (control_read(request->body, members, 3, &err))
		return route_fail(&err, ret_body);
	struct replica *replica = route_find(recovery, request, &err);
	AUTO_FREE struct failover_info *failover = malloc(sizeof(*failover));
	if (!failover)
		return route_answer(HTTP_OK, NULL, ret_body);
	if (!replica || failover_locked(recovery, replica, point, damaged, rollback_after_ms, failover, &err))
		return route_fail(&err, ret_body);
	recovery_verify(recovery, failover->name, failover->point);
	json_t *json = recovery_json_broken(recovery_json_failover(recovery, failover), replica);
	uint64_t free_bytes = 0;
	if (json) {
		(void)json_object_set_new(json, "store_free_bytes", store_space(recovery->store, &free_bytes) ? json_null() : json_new_u64(free_bytes));
		(void)json_object_set_new(json, "store_reserve_bytes", json_new_u64(store_reserve(recovery->store)));
	}
	return route_answer(HTTP_OK, recovery_json_verify(recovery, json, failover->name, failover->point), ret_body);
}

// --- mounts ---

static json_t *mount_json(struct recovery *recovery, const struct mount_info *info)
{
	return recovery_json_verify(recovery, recovery_json_mount(info), info->protection, info->point);
}

static unsigned post_mount(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct mount_request mount = {.protection = request->arg[0]};
	struct mount_info info;
	uint64_t partition = 0;
	bool damaged = false;
	const struct control_member members[] = {
		{"directory", true, .text = &mount.directory, .least = 1},
		{"point", .number = &mount.point, .least = 1, .most = INT64_MAX},
		{"disk", .text = &mount.disk, .is_name = true},
		{"partition", .number = &partition, .least = 1, .most = UINT32_MAX},
		{"damaged", .flag = &damaged},
	};
	if (control_read(request->body, members, 5, &err))
		return route_fail(&err, ret_body);
	mount.partition = (uint32_t)partition;
	mount.proven = !damaged;
	if (mounts_add(recovery->mounts, &mount, &info, &err))
		return route_fail(&err, ret_body);
	recovery_verify(recovery, info.protection, info.point);
	return route_answer(HTTP_CREATED, mount_json(recovery, &info), ret_body);
}

static unsigned get_mounts(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct mount_info info;
	(void)request;
	json_t *array = json_array();
	for (size_t n = 0; mounts_at(recovery->mounts, n, &info); n++)
		if (json_array_append_new(array, mount_json(recovery, &info))) {
			json_decref(array);
			return route_answer(HTTP_OK, NULL, ret_body);
		}
	return route_answer(HTTP_OK, json_pack("{s:o}", "mounts", array), ret_body);
}

static unsigned post_umount(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	const char *directory = NULL;
	const struct control_member members[] = {{"directory", true, .text = &directory, .least = 1}};
	if (control_read(request->body, members, 1, &err) || mounts_remove(recovery->mounts, directory, &err))
		return route_fail(&err, ret_body);
	recovery_verify_settle(recovery);
	return route_answer(HTTP_OK, json_object(), ret_body);
}

const struct control_route recovery_routes[] = {
	{"GET", "/v1/protections", get_protections},
	{"GET", "/v1/protections/*", get_protection},
	{"DELETE", "/v1/protections/*", delete_protection},
	{"GET", "/v1/protections/*/points", get_points},
	{"POST", "/v1/protections/*/failover", post_failover},
	{"POST", "/v1/protections/*/failover/rollback", post_failover_rollback},
	{"POST", "/v1/protections/*/failover/commit", post_failover_commit},
	{"POST", "/v1/protections/*/limits", post_limits},
	{"GET", "/v1/store", get_store},
	{"POST", "/v1/protections/*/mounts", post_mount},
	{"GET", "/v1/mounts", get_mounts},
	{"POST", "/v1/umount", post_umount},
	{"GET", "/v1/protections/*/points/*/disks/*/content", recovery_get_content},
	{"GET", "/v1/protections/*/files", recovery_get_files},
	{"GET", "/v1/protections/*/files/content", recovery_get_file},
	{"POST", "/v1/protections/*/tests", recovery_post_test},
	{"GET", "/v1/tests", recovery_get_tests},
	{"DELETE", "/v1/protections/*/tests/*", recovery_delete_test},
};
const size_t recovery_route_count = sizeof(recovery_routes) / sizeof(recovery_routes[0]);
