// SPDX-License-Identifier: Apache-2.0
// The receiver's routes for proof at rest: the check of the store, and the scrub.
#include "receiver/check_job.h"
#include "receiver/json_file.h"
#include "receiver/route.h"
#include "receiver/scrubber.h"

#include "base/log.h"
#include "base/size.h"
#include "link/json.h"

#include <errno.h>

static unsigned check_answer(struct recovery *recovery, unsigned status, json_t **ret_body)
{
	return route_answer(status, check_job_json(recovery->check), ret_body);
}

static unsigned post_check(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	if (control_read(request->body, NULL, 0, &err) || check_job_start(recovery->check, &err))
		return route_fail(&err, ret_body);
	return check_answer(recovery, HTTP_ACCEPTED, ret_body);
}

static unsigned get_check(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)request;
	return check_answer(context, HTTP_OK, ret_body);
}

// --- scrub ---

static json_t *last_json(const struct scrub_info *info)
{
	if (!info->ended)
		return json_null();
	return json_pack("{s:o, s:o, s:I, s:I}", "began", json_when(info->last_began_ns), "ended",
			 json_when(info->last_ended_ns), "proven_blocks", (json_int_t)info->last_proven, "mismatches",
			 (json_int_t)info->last_mismatches);
}

static json_t *pass_json(const struct scrub_info *info, unsigned waits)
{
	uint64_t left = info->total_bytes - min_u64(info->total_bytes, info->done_bytes);
	if (!info->open)
		return json_null();
	json_t *point = info->point ? json_new_u64(info->point) : json_null();
	json_t *seconds = info->bytes_per_second ? json_new_u64(left / info->bytes_per_second) : json_null();
	json_t *waits_ms = waits ? json_new_u64(waits * UINT64_C(60000)) : json_null();
	return json_pack("{s:b, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:I}", "asked", (int)info->asked, "waits_ms", waits_ms, "point", point, "began", json_when(info->began_ns), "rate",
			 (json_int_t)info->rate, "done_bytes", (json_int_t)info->done_bytes, "total_bytes", (json_int_t)info->total_bytes,
			 "bytes_per_second", (json_int_t)info->bytes_per_second, "seconds_left", seconds, "mismatches",
			 (json_int_t)info->mismatches);
}

json_t *proof_json_scrub(struct recovery *recovery, struct replica *replica)
{
	static const struct scrubber_config none;
	struct scrub_info info;
	char window[BANDWIDTH_TEXT_SIZE];
	const struct scrubber_config *config = recovery->scrubber ? scrubber_config(recovery->scrubber) : &none;
	int64_t now_ns = env_wall_ns(recovery->env);
	scrub_info(replica, &info);
	bandwidth_window_format(&config->window, window);
	return json_pack("{s:o, s:b, s:o, s:o, s:I, s:b, s:s}", "window", config->has_window ? json_string(window) : json_null(), "late",
			 (int)scrub_is_late(&info, now_ns, config->interval_ns), "pass", pass_json(&info, scrubber_waits(config, &info, now_ns)), "last", last_json(&info), "damaged_blocks",
			 (json_int_t)info.damaged_blocks, "in_doubt", info.suspect, "error", info.error);
}

static unsigned scrub_answer(unsigned status, struct recovery *recovery, struct replica *replica, json_t **ret_body)
{
	return route_answer(status, proof_json_scrub(recovery, replica), ret_body);
}

static unsigned post_scrub(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	uint64_t point = 0, rate = scrubber_config(recovery->scrubber)->rate;
	const struct control_member members[] = {
		{"point", .number = &point, .least = 1, .most = INT64_MAX},
		{"rate", .number = &rate, .least = 64 << 10, .most = INT64_MAX},
	};
	if (control_read(request->body, members, 2, &err))
		return route_fail(&err, ret_body);
	struct replica *replica = route_find(recovery, request, &err);
	if (!replica || scrub_begin(replica, point, rate, &err))
		return route_fail(&err, ret_body);
	log_info("A scrub began, as asked. protection=%s point=%llu rate=%llu", request->arg[0], (unsigned long long)point,
		 (unsigned long long)rate);
	scrubber_wake(recovery->scrubber);
	return scrub_answer(HTTP_ACCEPTED, recovery, replica, ret_body);
}

static unsigned delete_scrub(void *context, const struct control_request *request, json_t **ret_body)
{
	struct err err = {.code = 0};
	struct replica *replica = control_read(request->body, NULL, 0, &err) ? NULL : route_find(context, request, &err);
	if (!replica || scrub_end(replica, &err))
		return route_fail(&err, ret_body);
	return scrub_answer(HTTP_OK, context, replica, ret_body);
}

static unsigned get_scrub(void *context, const struct control_request *request, json_t **ret_body)
{
	struct err err = {.code = 0};
	struct replica *replica = route_find(context, request, &err);
	return replica ? scrub_answer(HTTP_OK, context, replica, ret_body) : route_fail(&err, ret_body);
}

const struct control_route proof_routes[] = {
	{"POST", "/v1/store/check", post_check},
	{"GET", "/v1/store/check", get_check},
	{"POST", "/v1/protections/*/scrub", post_scrub},
	{"GET", "/v1/protections/*/scrub", get_scrub},
	{"DELETE", "/v1/protections/*/scrub", delete_scrub},
};
const size_t proof_route_count = sizeof(proof_routes) / sizeof(proof_routes[0]);
