// SPDX-License-Identifier: Apache-2.0
#include "receiver/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int route_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret_number)
{
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || number < least || number > most)
		return -EINVAL;
	*ret_number = number;
	return 0;
}

struct replica *route_find(const struct recovery *recovery, const struct control_request *request, struct err *err)
{
	const char *name = request->arg[0];
	struct replica *replica = store_find(recovery->store, name);
	if (!replica)
		err_set(err, -ENOENT, "there is no protection %s on this receiver: `kagami status` lists what there is", name);
	return replica;
}

unsigned route_answer(unsigned status, json_t *json, json_t **ret_body)
{
	if (!json)
		return control_fail(ret_body, -ENOMEM, "out of memory: ask again");
	*ret_body = json;
	return status;
}

// An error of the host that nobody on the way has said more of: what to do.
unsigned route_fail(const struct err *err, json_t **ret_body)
{
	bool full = (err->code == -ENOSPC || err->code == -EDQUOT) && strstr(err->text, strerror(-err->code)) && !strstr(err->text, "free space");
	struct err said;
	(void)err_set(&said, err->code, "%.400s%s", err->text, full ? ": the target's store is full: free space there, and ask again" : "");
	return control_fail(ret_body, err->code, full ? said.text : err->text);
}
