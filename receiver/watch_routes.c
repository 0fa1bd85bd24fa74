// SPDX-License-Identifier: Apache-2.0
// The receiver's routes for what is known over time: the history of ages, and events.
#include "link/events.h"
#include "receiver/route.h"

static unsigned get_history(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct replica *replica = control_read(request->body, NULL, 0, &err) ? NULL : route_find(recovery, request, &err);
	json_t *json = replica ? watch_history_json(recovery->watch, replica, request->arg[0], request->query(request, "window"), &err) : NULL;
	return json ? route_answer(HTTP_OK, json, ret_body) : route_fail(&err, ret_body);
}

const struct control_route watch_routes[WATCH_ROUTES] = {
	{"GET", "/v1/protections/*/history", get_history},
	{"GET", "/v1/events", events_get},
	{"GET", "/metrics", receiver_get_metrics},
};
