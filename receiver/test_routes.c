// SPDX-License-Identifier: Apache-2.0
// The receiver's routes for tests. API: docs/control.md, "Receiver".
#include "receiver/route.h"

#include "base/auto.h"

#include <errno.h>
#include <string.h>

static json_t *test_json(struct recovery *recovery, const struct test_info *test)
{
	return recovery_json_verify(recovery, recovery_json_test(recovery, test), test->protection, test->point);
}

unsigned recovery_post_test(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	const char *name = NULL;
	uint64_t point = 0;
	bool damaged = false;
	const struct control_member members[] = {
		{"name", .text = &name, .is_name = true},
		{"point", .number = &point, .least = 1, .most = INT64_MAX},
		{"damaged", .flag = &damaged},
	};
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	if (!test)
		return route_answer(HTTP_OK, NULL, ret_body);
	if (control_read(request->body, members, 3, &err) || tests_start(recovery->tests, request->arg[0], name, point, damaged, test, &err))
		return route_fail(&err, ret_body);
	recovery_verify(recovery, test->protection, test->point);
	return route_answer(HTTP_CREATED, test_json(recovery, test), ret_body);
}

unsigned recovery_get_tests(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	(void)request;
	json_t *array = json_array();
	for (size_t n = 0; test && tests_at(recovery->tests, n, test); n++)
		if (json_array_append_new(array, test_json(recovery, test))) {
			json_decref(array);
			return route_answer(HTTP_OK, NULL, ret_body);
		}
	return route_answer(HTTP_OK, json_pack("{s:o}", "tests", array), ret_body);
}

// ?force=yes takes the disks from a virtual machine that has them open.
unsigned recovery_delete_test(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	const char *force = request->query(request, "force");
	if (force && strcmp(force, "yes") != 0)
		return control_fail(ret_body, -EINVAL, "force: \"yes\" is the only value");
	if (control_read(request->body, NULL, 0, &err) ||
	    tests_stop(recovery->tests, request->arg[0], request->arg[1], force != NULL, &err))
		return route_fail(&err, ret_body);
	recovery_verify_settle(recovery);
	return route_answer(HTTP_OK, json_object(), ret_body);
}
