// SPDX-License-Identifier: Apache-2.0
// The receiver's routes for seeds.
#include "receiver/route.h"
#include "receiver/seeder.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

static int how_read(const char *text, enum seed_how *ret_how, struct err *err)
{
	static const char *const names[] = {[SEED_COPY] = "copy", [SEED_REFLINK] = "reflink", [SEED_MOVE] = "move"};
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(text, names[i]) == 0) {
			*ret_how = (enum seed_how)i;
			return 0;
		}
	return err_set(err, -EINVAL, "how: copy, reflink or move");
}

static unsigned post_seed(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	struct seed_request seed = {.peer = NULL};
	const char *format = NULL, *how = "copy";
	bool dry_run = false;
	json_t *answer = NULL;
	const struct control_member members[] = {
		{"protection", true, .text = &seed.protection, .is_name = true},
		{"disk", true, .text = &seed.disk, .is_name = true},
		{"path", true, .text = &seed.path, .least = 1},
		{"format", true, .text = &format},
		{"how", .text = &how},
		{"peer", .text = &seed.peer, .least = 1},
		{"dry_run", .flag = &dry_run},
	};
	if (control_read(request->body, members, 7, &err) || how_read(how, &seed.how, &err))
		return route_fail(&err, ret_body);
	seed.qcow2 = strcmp(format, "qcow2") == 0;
	if (!seed.qcow2 && strcmp(format, "raw") != 0) {
		(void)err_set(&err, -EINVAL, "format: raw or qcow2; it is never guessed");
		return route_fail(&err, ret_body);
	}
	if (seeder_begin(recovery->seeder, &seed, dry_run, &answer, &err))
		return route_fail(&err, ret_body);
	if (!dry_run)
		log_info("A seed is being made, as asked. protection=%s disk=%s path=%s", seed.protection, seed.disk, seed.path);
	return route_answer(dry_run ? HTTP_OK : HTTP_ACCEPTED, answer, ret_body);
}

static unsigned get_seeds(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	(void)request;
	return route_answer(HTTP_OK, seeder_json(recovery->seeder), ret_body);
}

static unsigned delete_seed(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	if (!name_ok(request->arg[0]) || !name_ok(request->arg[1]))
		(void)err_set(&err, -EINVAL, NAME_RULE);
	if (err.code || control_read(request->body, NULL, 0, &err) ||
	    seeder_drop(recovery->seeder, request->arg[0], request->arg[1], &err))
		return route_fail(&err, ret_body);
	log_info("Removed a seed, as asked. protection=%s disk=%s", request->arg[0], request->arg[1]);
	return route_answer(HTTP_OK, json_object(), ret_body);
}

const struct control_route seed_routes[SEED_ROUTES] = {
	{"POST", "/v1/seeds", post_seed},
	{"GET", "/v1/seeds", get_seeds},
	{"DELETE", "/v1/seeds/*/*", delete_seed},
};
