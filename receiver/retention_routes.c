// SPDX-License-Identifier: Apache-2.0
// The receiver's routes for retention: the policy, what it would do, and pins. API: docs/control.md, "Receiver".
#include "receiver/route.h"

#include "base/auto.h"
#include "base/size.h"
#include "base/log.h"
#include "link/events.h"
#include "link/json.h"
#include "receiver/json_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void retain_soon(const struct recovery *recovery)
{
	if (recovery->retain)
		recovery->retain(recovery->retain_context);
}

// --- the policy ---

json_t *recovery_json_retention(const struct replica_info *info)
{
	char keep[RETENTION_TEXT_SIZE];
	retention_format(&info->retention, keep);
	return json_pack("{s:s, s:I, s:s, s:I, s:I}", "set_by", info->retention_set ? "operator" : "source", "points",
			 (json_int_t)info->retention.points, "keep", keep, "floor_hours", (json_int_t)info->retention.floor_hours,
			 "points_max", (json_int_t)RETENTION_KEEP_MAX);
}

json_t *recovery_json_kept_by(unsigned why)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {{KEPT_NEWEST, "newest"}, {KEPT_TIER, "tier"}, {KEPT_FLOOR, "floor"}, {KEPT_PINNED, "pin"}};
	json_t *array = json_array();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (why & names[i].bit && json_array_append_new(array, json_string(names[i].name))) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static json_t *bytes_json(const struct retention_bytes *bytes)
{
	return json_pack("{s:I, s:I, s:I}", "least", (json_int_t)bytes->least, "likely", (json_int_t)bytes->likely, "most", (json_int_t)bytes->most);
}

// What is known of the points that there are.
struct plan {
	struct point_info *points;
	struct retention_point *why;
	struct retention_bytes *after; // NULL: not asked for, or not known
	size_t count;
	struct retention_cost cost;
	struct err unknown; // why the cost is not known; code 0: it is
};

static void plan_done(struct plan *plan)
{
	free(plan->points);
	free(plan->why);
	free(plan->after);
}

static int plan_make(struct plan *plan, struct replica *replica, const struct retention *policy, bool cost, struct err *err)
{
	if (cost && replica_weigh_retention(replica, policy, &plan->points, &plan->why, &plan->after, &plan->count, &plan->cost, &plan->unknown) == 0)
		return 0;
	return replica_plan_retention(replica, policy, &plan->points, &plan->why, &plan->count, err);
}

static json_t *plan_point(const struct plan *plan, size_t i)
{
	const struct point_info *point = &plan->points[i];
	return json_pack("{s:I, s:o, s:I, s:o, s:b, s:o}", "point", (json_int_t)point->number, "commit", json_when(point->commit_wall_ns), "stored_bytes",
			 (json_int_t)point->stored_bytes, "stored_after", plan->after && plan->why[i].why ? bytes_json(&plan->after[i]) : json_null(),
			 "held", point->holds != 0, "kept_by", recovery_json_kept_by(plan->why[i].why));
}

static json_t *cost_json(const struct plan *plan)
{
	const struct retention_cost *cost = &plan->cost;
	if (!plan->after)
		return json_null();
	return json_pack("{s:I, s:o, s:o, s:I, s:I}", "used_bytes", (json_int_t)cost->used_bytes, "used_after", bytes_json(&cost->after), "base_after",
			 bytes_json(&cost->base), "copied_blocks", (json_int_t)cost->copied_blocks, "packed_again_blocks",
			 (json_int_t)cost->packed_again_blocks);
}

// What a policy says of the points that there are. What goes is not all freed: what a later point does not replace moves there, or to
// the base. NULL without an error in `err`: out of memory.
static json_t *plan_json(struct replica *replica, const struct replica_info *info, bool cost, struct err *err)
{
	struct plan plan = {.count = 0};
	size_t kept = 0;
	uint64_t kept_bytes = 0, goes_bytes = 0;
	if (plan_make(&plan, replica, &info->retention, cost, err))
		return NULL;
	json_t *array = json_array();
	for (size_t i = 0; i < plan.count; i++) {
		kept += plan.why[i].why != 0;
		*(plan.why[i].why ? &kept_bytes : &goes_bytes) += plan.points[i].stored_bytes;
		if (json_array_append_new(array, plan_point(&plan, i))) {
			json_decref(array);
			plan_done(&plan);
			return NULL;
		}
	}
	json_t *json = json_pack("{s:o, s:I, s:I, s:I, s:I, s:o, s:s, s:o}", "retention", recovery_json_retention(info), "kept", (json_int_t)kept,
				 "kept_bytes", (json_int_t)kept_bytes, "removed", (json_int_t)(plan.count - kept), "freed_bytes_most",
				 (json_int_t)goes_bytes, "cost", cost_json(&plan), "cost_error", plan.unknown.code ? plan.unknown.text : "", "points",
				 array);
	plan_done(&plan);
	return json;
}

static unsigned get_retention(void *context, const struct control_request *request, json_t **ret_body)
{
	struct err err = {.code = 0};
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!info)
		return route_answer(HTTP_OK, NULL, ret_body);
	struct replica *replica = control_read(request->body, NULL, 0, &err) ? NULL : route_find(context, request, &err);
	if (!replica)
		return route_fail(&err, ret_body);
	const char *cost = request->query(request, "cost");
	if (cost && strcmp(cost, "yes") != 0)
		return control_fail(ret_body, -EINVAL, "cost: \"yes\" is the only value");
	replica_info(replica, info);
	json_t *plan = plan_json(replica, info, cost != NULL, &err);
	return err.code ? route_fail(&err, ret_body) : route_answer(HTTP_OK, plan, ret_body);
}

// The policy that the request means: what it does not say is as it was.
static int policy_read(const struct control_request *request, struct replica_info *info, bool *ret_source, bool *ret_dry_run,
		       struct err *err)
{
	uint64_t points = info->retention.points, floor_hours = info->retention.floor_hours;
	const char *keep = NULL;
	const struct control_member members[] = {
		{"points", .number = &points, .least = 1, .most = RETENTION_KEEP_MAX},
		{"keep", .text = &keep, .most = RETENTION_TEXT_SIZE - 1},
		{"floor_hours", .number = &floor_hours, .most = RETENTION_KEEP_MAX},
		{"source", .flag = ret_source},
		{"dry_run", .flag = ret_dry_run},
	};
	int rc = control_read(request->body, members, 5, err);
	if (rc)
		return rc;
	info->retention.points = (uint32_t)points;
	info->retention.floor_hours = (uint32_t)floor_hours;
	info->retention_set = !*ret_source;
	if (*ret_source)
		info->retention = (struct retention){.points = info->points_keep, .floor_hours = RETENTION_FLOOR_HOURS};
	else if (keep && (rc = retention_read(keep, &info->retention, err)) == 0)
		rc = retention_distinct(&info->retention, err);
	return rc || *ret_source ? rc : retention_check(&info->retention, err);
}

static unsigned post_retention(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	bool source = false, dry_run = false;
	char keep[RETENTION_TEXT_SIZE];
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!info)
		return route_answer(HTTP_OK, NULL, ret_body);
	struct replica *replica = route_find(recovery, request, &err);
	if (!replica)
		return route_fail(&err, ret_body);
	replica_info(replica, info);
	if (policy_read(request, info, &source, &dry_run, &err) ||
	    (!dry_run && replica_set_retention(replica, source ? NULL : &info->retention, &err)))
		return route_fail(&err, ret_body);
	json_t *plan = plan_json(replica, info, dry_run, &err);
	if (plan && json_object_set_new(plan, "dry_run", json_boolean(dry_run))) {
		json_decref(plan);
		plan = NULL;
	}
	if (!dry_run) {
		retention_format(&info->retention, keep);
		log_info("Retention was set. protection=%s by=%s points=%u keep=%s floor_hours=%u", request->arg[0],
			 source ? "source" : "operator", info->retention.points, keep, info->retention.floor_hours);
		event_emit(EVENT_INFO, "settings", request->arg[0], NULL, "retention of %s was set: %u point%s%s%s", request->arg[0], info->retention.points,
			   PLURAL(info->retention.points), keep[0] ? ", " : "", keep);
		retain_soon(recovery);
	}
	return err.code ? route_fail(&err, ret_body) : route_answer(HTTP_OK, plan, ret_body);
}

// --- pins ---

static int point_number(const struct control_request *request, uint64_t *ret_number, struct err *err)
{
	int rc = route_number(request->arg[1], 1, INT64_MAX, ret_number);
	return rc ? err_set(err, rc, "the number of a point makes no sense") : 0;
}

static unsigned post_pin(void *context, const struct control_request *request, json_t **ret_body)
{
	struct err err = {.code = 0};
	uint64_t number = 0;
	const char *text = "";
	bool was = false;
	char old[POINT_PIN_SIZE] = "";
	const struct control_member members[] = {{"text", .text = &text, .most = POINT_PIN_SIZE - 1}};
	struct replica *replica = route_find(context, request, &err);
	if (!replica || point_number(request, &number, &err) || control_read(request->body, members, 1, &err) ||
	    replica_pin_again(replica, number, text, &was, old, &err))
		return route_fail(&err, ret_body);
	log_info("A point was pinned. protection=%s point=%llu", request->arg[0], (unsigned long long)number);
	event_emit(EVENT_INFO, "settings", request->arg[0], NULL, was ? "the text of the pin of point %llu of %s was replaced" : "point %llu of %s was pinned",
		   (unsigned long long)number, request->arg[0]);
	return route_answer(HTTP_OK, json_pack("{s:I, s:b, s:s, s:o}", "point", (json_int_t)number, "pinned", 1, "text", text, "replaced", was ? json_text(old) : json_null()),
			    ret_body);
}

static unsigned delete_pin(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	uint64_t number = 0;
	bool was = false;
	struct replica *replica = route_find(recovery, request, &err);
	if (!replica || point_number(request, &number, &err) || control_read(request->body, NULL, 0, &err) ||
	    replica_unpin_again(replica, number, &was, &err))
		return route_fail(&err, ret_body);
	if (was) {
		log_info("A pin was taken back. protection=%s point=%llu", request->arg[0], (unsigned long long)number);
		event_emit(EVENT_INFO, "settings", request->arg[0], NULL, "the pin of point %llu of %s was taken back", (unsigned long long)number, request->arg[0]);
		retain_soon(recovery);
	}
	return route_answer(HTTP_OK, json_pack("{s:I, s:b, s:b}", "point", (json_int_t)number, "pinned", 0, "was_pinned", (int)was), ret_body);
}

// Those of before the pins were lost.
static unsigned delete_lost_pins(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct replica *replica = route_find(recovery, request, &err);
	if (!replica || control_read(request->body, NULL, 0, &err) || replica_unpin_lost(replica, &err))
		return route_fail(&err, ret_body);
	log_info("What was kept because the pins were lost is the policy's again. protection=%s", request->arg[0]);
	event_emit(EVENT_INFO, "settings", request->arg[0], NULL, "what was kept of %s because its pins were lost is the policy's again", request->arg[0]);
	retain_soon(recovery);
	return route_answer(HTTP_OK, json_object(), ret_body);
}

const struct control_route retention_routes[RETENTION_ROUTES] = {
	{"GET", "/v1/protections/*/retention", get_retention},
	{"POST", "/v1/protections/*/retention", post_retention},
	{"POST", "/v1/protections/*/points/*/pin", post_pin},
	{"DELETE", "/v1/protections/*/points/*/pin", delete_pin},
	{"DELETE", "/v1/protections/*/lost-pins", delete_lost_pins},
};
