// SPDX-License-Identifier: Apache-2.0
// Which points are in use, and how far they are proven: what begins and ends verifications, and the routes that show them.
#include "receiver/route.h"

#include "base/auto.h"
#include "base/log.h"
#include "base/size.h"
#include "receiver/json_file.h"
#include "receiver/verifier.h"

#include <errno.h>
#include <string.h>

// --- what is in use ---

static bool is_mounted(const struct recovery *recovery, const char *protection, uint64_t point)
{
	AUTO_FREE struct mount_info *mount = malloc(sizeof(*mount));
	for (size_t n = 0; mount && mounts_at(recovery->mounts, n, mount); n++)
		if (mount->point == point && strcmp(mount->protection, protection) == 0)
			return true;
	return false;
}

static bool is_tested(const struct recovery *recovery, const char *protection, uint64_t point)
{
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	for (size_t n = 0; test && tests_at(recovery->tests, n, test); n++)
		if (test->point == point && strcmp(test->protection, protection) == 0)
			return true;
	return false;
}

static bool is_used(const struct recovery *recovery, const struct replica_info *info, uint64_t point)
{
	return (info->fenced && info->fenced_point == point) || is_mounted(recovery, info->name, point) ||
	       is_tested(recovery, info->name, point);
}

// --- beginning and ending ---

void recovery_verify(struct recovery *recovery, const char *protection, uint64_t point)
{
	struct err err = {.code = 0};
	struct replica *replica = store_find(recovery->store, protection);
	if (replica && recovery->verifier && verifier_begin(recovery->verifier, replica, point, false, &err))
		log_warning("a point that is used is not being verified; 'kagami scrub %s@%llu' does it. protection=%s reason=\"%s\"", protection,
			    (unsigned long long)point, protection, err.text);
}

static void settle(struct recovery *recovery, struct replica *replica, struct replica_info *info)
{
	struct verify_info verify;
	replica_info(replica, info);
	for (size_t n = 0; verifier_at(recovery->verifier, replica, n, &verify);)
		if ((verify.state == VERIFY_RUNNING || verify.state == VERIFY_UNREADABLE) && !verify.asked && !is_used(recovery, info, verify.point))
			verifier_drop(recovery->verifier, replica, verify.point);
		else
			n++;
}

void recovery_verify_settle(struct recovery *recovery)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct replica *replica;
	for (size_t n = 0; info && (replica = store_at(recovery->store, n)); n++)
		settle(recovery, replica, info);
}

// A failover that is final was verified, or was not to be doubted: its source cannot repair it any more.
void recovery_verify_resume(struct recovery *recovery)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	struct replica *replica;
	for (size_t n = 0; test && tests_at(recovery->tests, n, test); n++)
		if (test->point)
			recovery_verify(recovery, test->protection, test->point);
	for (size_t n = 0; info && (replica = store_at(recovery->store, n)); n++) {
		replica_info(replica, info);
		if (info->fenced && !info->fence_final && info->fenced_point)
			recovery_verify(recovery, info->name, info->fenced_point);
	}
}

// --- showing ---

static json_t *verify_json(const struct verify_info *info)
{
	uint64_t left = info->total_bytes - min_u64(info->total_bytes, info->done_bytes);
	bool known = info->state == VERIFY_RUNNING && info->bytes_per_second;
	return json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:s}", "point", (json_int_t)info->point, "state", verify_state_name(info->state),
			 "done_bytes", (json_int_t)info->done_bytes, "total_bytes", (json_int_t)info->total_bytes, "damaged_blocks",
			 (json_int_t)info->damaged_blocks, "since_ms", (json_int_t)info->since_ms, "seconds_left", known ? json_new_u64(left / info->bytes_per_second) : json_null(),
			 "again_in_ms", info->state == VERIFY_UNREADABLE ? json_new_u64(info->again_in_ms) : json_null(), "reason", info->reason);
}

json_t *recovery_json_verify(struct recovery *recovery, json_t *object, const char *protection, uint64_t point)
{
	const struct replica *replica = store_find(recovery->store, protection);
	struct verify_info info = {.state = VERIFY_NONE};
	if (replica)
		verifier_info(recovery->verifier, replica, point, &info);
	if (object && json_object_set_new(object, "verify", info.state == VERIFY_NONE ? json_null() : verify_json(&info)) == 0)
		return object;
	json_decref(object);
	return NULL;
}

json_t *recovery_json_verifications(struct recovery *recovery, struct replica *replica)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct verify_info verify;
	json_t *array = info ? json_array() : NULL;
	if (!array)
		return NULL;
	replica_info(replica, info);
	for (size_t n = 0; verifier_at(recovery->verifier, replica, n, &verify); n++) {
		if (verify.state != VERIFY_RUNNING && !is_used(recovery, info, verify.point))
			continue;
		if (json_array_append_new(array, verify_json(&verify))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

// --- the routes ---

// The point that `asked` means, 0 being the one that a failover or a mount would take.
static uint64_t point_meant(struct replica *replica, uint64_t asked)
{
	AUTO_FREE struct replica_info *info = asked ? NULL : malloc(sizeof(*info));
	if (!info)
		return asked;
	replica_info(replica, info);
	return info->fenced ? info->fenced_point : info->last_point;
}

static unsigned answer(struct recovery *recovery, unsigned status, struct replica *replica, uint64_t point, json_t **ret_body)
{
	struct verify_info info;
	verifier_info(recovery->verifier, replica, point, &info);
	return route_answer(status, verify_json(&info), ret_body);
}

static unsigned post_verify(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	uint64_t point = 0;
	const struct control_member members[] = {{"point", .number = &point, .least = 1, .most = INT64_MAX}};
	struct replica *replica = control_read(request->body, members, 1, &err) ? NULL : route_find(recovery, request, &err);
	if (!replica)
		return route_fail(&err, ret_body);
	point = point_meant(replica, point);
	struct point_info asked;
	if (replica_point_look(replica, point, &asked, &err) || verifier_begin(recovery->verifier, replica, point, true, &err))
		return route_fail(&err, ret_body);
	return answer(recovery, HTTP_ACCEPTED, replica, point, ret_body);
}

static unsigned get_verify(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	const char *text = request->query(request, "point");
	uint64_t point = 0;
	struct replica *replica = route_find(recovery, request, &err);
	if (replica && text && route_number(text, 1, INT64_MAX, &point))
		(void)err_set(&err, -EINVAL, "\"%.40s\" is not the number of a point", text);
	if (!replica || err.code)
		return route_fail(&err, ret_body);
	return answer(recovery, HTTP_OK, replica, point_meant(replica, point), ret_body);
}

const struct control_route verify_routes[VERIFY_ROUTES] = {
	{"POST", "/v1/protections/*/verify", post_verify},
	{"GET", "/v1/protections/*/verify", get_verify},
};
