// SPDX-License-Identifier: Apache-2.0
// The receiver's routes for proof at rest: the check of the store.
#include "receiver/check_job.h"
#include "receiver/recovery.h"

#include <errno.h>

enum { HTTP_OK = 200, HTTP_ACCEPTED = 202 };

static unsigned check_answer(struct recovery *recovery, unsigned status, json_t **ret_body)
{
	*ret_body = check_job_json(recovery->check);
	return *ret_body ? status : control_fail(ret_body, -ENOMEM, "out of memory: ask again");
}

static unsigned post_check(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	if (control_read(request->body, NULL, 0, &err) || check_job_start(recovery->check, &err))
		return control_fail(ret_body, err.code, err.text);
	return check_answer(recovery, HTTP_ACCEPTED, ret_body);
}

static unsigned get_check(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)request;
	return check_answer(context, HTTP_OK, ret_body);
}

const struct control_route proof_routes[] = {
	{"POST", "/v1/store/check", post_check},
	{"GET", "/v1/store/check", get_check},
};
const size_t proof_route_count = sizeof(proof_routes) / sizeof(proof_routes[0]);
