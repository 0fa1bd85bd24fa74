// SPDX-License-Identifier: Apache-2.0
// Roll back and commit, as the control API has them. What it promises: no program has a disk open that is thrown away, and none is thrown away of which nobody knows what
// it is, unless that was said.
#include "receiver/failover_control.h"
#include "receiver/route.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <string.h>

// Of a failover that is there; without its record, what the replica knows of it. `why` is then why it does not read. -ENOENT: there is none.
static int load_or_assume(struct recovery *recovery, const struct replica_info *info, struct failover_info *ret_failover, struct err *why)
{
	int rc = failover_load(recovery->store, info->name, ret_failover, why);
	if (rc == 0 || rc == -ENOENT)
		return rc;
	failover_assume(info, ret_failover);
	return 0;
}

static int written_count(struct recovery *recovery, const struct replica_info *info, bool discard, uint64_t *ret_bytes, struct err *err)
{
	AUTO_FREE struct failover_info *failover = malloc(sizeof(*failover));
	struct err why = {.code = 0};
	if (!failover)
		return err_set(err, -ENOMEM, "out of memory");
	if (load_or_assume(recovery, info, failover, &why)) // cut short: there are no disks
		return 0;
	*ret_bytes = failover_written(recovery->store, failover);
	if (!failover->unread || discard)
		return 0;
	return err_set(err, -EUCLEAN,
		       "%.200s; the disks of the failover are there, and hold up to %llu bytes that were written since: keep them (kagami failover %s --commit), or say that they may go "
		       "(--discard-failover)",
		       why.text, (unsigned long long)*ret_bytes, info->name);
}

static int roll_back_unused(struct recovery *recovery, struct replica *replica, const struct replica_info *info, const struct rollback_ask *ask, struct err *err)
{
	struct failover_locks locks;
	int rc = failover_lock(recovery->store, info, &locks, err);
	if (rc)
		return rc;
	if (!ask->dry_run)
		rc = replica_unfence(replica, ask->number, err);
	failover_unlock(&locks);
	return rc;
}

int failover_roll_back(struct recovery *recovery, struct replica *replica, const struct rollback_ask *ask, struct rollback_result *ret_result, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct rollback_result result = {.written_bytes = 0};
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	LOCK_SCOPE(replica_recovery_lock(replica));
	replica_info(replica, info);
	int rc = replica_unfence_check(replica, ask->number, err);
	if (rc == 0)
		rc = written_count(recovery, info, ask->discard, &result.written_bytes, err);
	if (rc == 0)
		rc = roll_back_unused(recovery, replica, info, ask, err);
	if (rc)
		return rc;
	memcpy(result.name, info->name, sizeof(result.name));
	result.point = info->fenced_point;
	result.last_point = info->last_point;
	result.broken = info->broken;
	*ret_result = result;
	if (ask->dry_run)
		return 0;
	recovery_verify_settle(recovery);
	log_info("Took a failover back. protection=%s point=%llu written_bytes=%llu", result.name, (unsigned long long)result.point,
		 (unsigned long long)result.written_bytes);
	event_emit(EVENT_WARNING, "failover", result.name, json_pack("{s:I}", "point", (json_int_t)result.point),
		   "the failover of %s to point %llu was taken back: its source may go on%s", result.name, (unsigned long long)result.point,
		   result.broken ? " when the replica is not broken any more" : "");
	return 0;
}

// What is final is said in protection.json: the record of the disks need not read for that.
static int commit(struct recovery *recovery, struct replica *replica, uint64_t number, struct failover_info *ret_failover, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct err why = {.code = 0};
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	LOCK_SCOPE(replica_recovery_lock(replica));
	replica_info(replica, info);
	if (info->fenced && load_or_assume(recovery, info, ret_failover, &why))
		return err_set(err, -ENOENT, "the failover of %s was cut short and has no disks: ask for it again first", info->name);
	int rc = replica_fence_commit(replica, number, err);
	if (rc == 0)
		event_emit(EVENT_WARNING, "failover", info->name, NULL, "the failover of %s is final: its old source is fenced for good", info->name);
	return rc;
}

unsigned post_failover_rollback(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct rollback_result result;
	struct rollback_ask ask = {.number = 0};
	const struct control_member members[] = {{"point", .number = &ask.number, .least = 1, .most = INT64_MAX},
						 {"dry_run", .flag = &ask.dry_run},
						 {"discard", .flag = &ask.discard}};
	struct replica *replica = control_read(request->body, members, 3, &err) ? NULL : route_find(recovery, request, &err);
	if (!replica || failover_roll_back(recovery, replica, &ask, &result, &err))
		return route_fail(&err, ret_body);
	return route_answer(HTTP_OK, json_pack("{s:s, s:b, s:I, s:I, s:I, s:b}", "name", result.name, "broken", (int)result.broken, "point", (json_int_t)result.point,
				"last_point", (json_int_t)result.last_point, "written_bytes",
				(json_int_t)result.written_bytes, "dry_run", ask.dry_run),
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
