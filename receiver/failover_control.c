// SPDX-License-Identifier: Apache-2.0
// Roll back and commit, as the control API has them. What it promises: no program has a disk open that is thrown away.
#include "receiver/failover_control.h"
#include "receiver/route.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <string.h>

static int roll_back_unused(struct recovery *recovery, struct replica *replica, const struct replica_info *info,
			    uint64_t number, bool dry_run, struct err *err)
{
	struct failover_locks locks;
	int rc = failover_lock(recovery->store, info, &locks, err);
	if (rc)
		return rc;
	if (!dry_run)
		rc = replica_unfence(replica, number, err);
	failover_unlock(&locks);
	return rc;
}

int failover_roll_back(struct recovery *recovery, struct replica *replica, uint64_t number, bool dry_run,
		       struct rollback_result *ret_result, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	AUTO_FREE struct failover_info *failover = malloc(sizeof(*failover));
	struct rollback_result result = {.written_bytes = 0};
	if (!info || !failover)
		return err_set(err, -ENOMEM, "out of memory");
	LOCK_SCOPE(replica_recovery_lock(replica));
	replica_info(replica, info);
	int rc = replica_unfence_check(replica, number, err);
	if (rc)
		return rc;
	if (failover_load(recovery->env, recovery->store, info->name, failover, NULL) == 0)
		result.written_bytes = failover_written(recovery->env, recovery->store, failover);
	rc = roll_back_unused(recovery, replica, info, number, dry_run, err);
	if (rc)
		return rc;
	memcpy(result.name, info->name, sizeof(result.name));
	result.point = info->fenced_point;
	result.last_point = info->last_point;
	*ret_result = result;
	if (!dry_run)
		recovery_verify_settle(recovery);
	if (!dry_run)
		log_info("Took a failover back. protection=%s point=%llu written_bytes=%llu", result.name,
			 (unsigned long long)result.point, (unsigned long long)result.written_bytes);
	if (!dry_run)
		event_emit(EVENT_WARNING, "failover", result.name, json_pack("{s:I}", "point", (json_int_t)result.point),
			   "the failover of %s to point %llu was taken back: its source may go on", result.name, (unsigned long long)result.point);
	return 0;
}

static int commit(struct recovery *recovery, struct replica *replica, uint64_t number,
		  struct failover_info *ret_failover, struct err *err)
{
	struct replica_info *info = malloc(sizeof(*info));
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	replica_info(replica, info);
	bool fenced = info->fenced;
	AUTO_FREE char *name = strdup(info->name);
	free(info);
	LOCK_SCOPE(replica_recovery_lock(replica));
	int rc = fenced ? failover_load(recovery->env, recovery->store, name, ret_failover, err) : 0;
	if (rc == -ENOENT)
		return err_set(err, rc, "the failover of %s was cut short and has no disks: ask for it again first",
			       name);
	if (rc == 0)
		rc = replica_fence_commit(replica, number, err);
	if (rc == 0)
		event_emit(EVENT_WARNING, "failover", name, NULL, "the failover of %s is final: its old source is fenced for good", name);
	return rc;
}

unsigned post_failover_rollback(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct rollback_result result;
	uint64_t point = 0;
	bool dry_run = false;
	const struct control_member members[] = {{"point", .number = &point, .least = 1, .most = INT64_MAX},
						 {"dry_run", .flag = &dry_run}};
	struct replica *replica =
		control_read(request->body, members, 2, &err) ? NULL : route_find(recovery, request, &err);
	if (!replica || failover_roll_back(recovery, replica, point, dry_run, &result, &err))
		return route_fail(&err, ret_body);
	return route_answer(HTTP_OK, json_pack("{s:s, s:I, s:I, s:I, s:b}", "name", result.name, "point", (json_int_t)result.point,
				"last_point", (json_int_t)result.last_point, "written_bytes",
				(json_int_t)result.written_bytes, "dry_run", dry_run),
		      ret_body);
}

unsigned post_failover_commit(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	uint64_t point = 0;
	const struct control_member members[] = {{"point", .number = &point, .least = 1, .most = INT64_MAX}};
	AUTO_FREE struct failover_info *failover = malloc(sizeof(*failover));
	if (!failover)
		return route_answer(HTTP_OK, NULL, ret_body);
	struct replica *replica =
		control_read(request->body, members, 1, &err) ? NULL : route_find(recovery, request, &err);
	if (!replica || commit(recovery, replica, point, failover, &err))
		return route_fail(&err, ret_body);
	return route_answer(HTTP_OK, recovery_json_failover(recovery, failover), ret_body);
}
