// SPDX-License-Identifier: Apache-2.0
#include "tools/said.h"

#include "base/auto.h"

#include <string.h>

static json_t *error_json(int exit, const char *message)
{
	static const char *const codes[] = {[CLI_USAGE] = "EINVAL", [CLI_UNREACHABLE] = "ENOTCONN", [CLI_TIMED_OUT] = "ETIMEDOUT"};
	return json_pack("{s:{s:s?, s:s}}", "error", "code", exit >= 0 && exit <= CLI_TIMED_OUT ? codes[exit] : NULL, "message", message);
}

void said_answer(struct said *said)
{
	LOCK_SCOPE(&said->lock);
	said->answer = true;
}

void said_refusal(struct said *said, json_t *body)
{
	LOCK_SCOPE(&said->lock);
	if (!said->error && json_is_object(json_object_get(body, "error")))
		said->error = json_incref(body);
}

void said_failure(struct said *said, enum cli_exit exit, const char *message)
{
	LOCK_SCOPE(&said->lock);
	if (exit != CLI_DONE && !said->error) // with CLI_DONE it is a remark
		said->error = error_json(exit, message);
}

json_t *said_error(struct said *said, int exit)
{
	LOCK_SCOPE(&said->lock);
	if (exit == CLI_DONE || said->answer)
		return NULL;
	return said->error ? json_incref(said->error) : error_json(exit, "it was not done");
}

enum cli_exit said_exit(long status, const char *code, bool may_ask)
{
	if (status == 403 && !may_ask)
		return CLI_UNREACHABLE;
	return strcmp(code, "EINVAL") == 0 ? CLI_USAGE : CLI_REFUSED; // what it was asked makes no sense to it
}
