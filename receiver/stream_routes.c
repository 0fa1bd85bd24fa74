// SPDX-License-Identifier: Apache-2.0
// The receiver's routes that answer with content. API: docs/control.md, "Streams".
#include "receiver/recovery.h"

#include "receiver/point_stream.h"

#include <errno.h>
#include <stdlib.h>

enum { HTTP_OK = 200 };

static int number_read(const char *text, uint64_t *ret_number, struct err *err)
{
	char *end = NULL;
	uint64_t number = text[0] >= '1' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
	if (number == 0 || number > INT64_MAX || *end)
		return err_set(err, -EINVAL, "\"%.40s\" is not the number of a point", text);
	*ret_number = number;
	return 0;
}

unsigned recovery_get_content(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	uint64_t number = 0;
	struct replica *replica = store_find(recovery->store, request->arg[0]);
	if (!replica) {
		(void)err_set(&err, -ENOENT, "there is no protection %s on this receiver: `kagami status` lists what there is", request->arg[0]);
		return control_fail(ret_body, err.code, err.text);
	}
	if (number_read(request->arg[1], &number, &err) ||
	    point_stream_open(replica, number, request->arg[2], &recovery->streams, request->stream, &err))
		return control_fail(ret_body, err.code, err.text);
	return HTTP_OK;
}
