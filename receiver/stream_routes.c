// SPDX-License-Identifier: Apache-2.0
// The receiver's routes that answer with content. API: docs/control.md, "Streams".
#include "receiver/route.h"

#include "base/names.h"
#include "receiver/file_stream.h"
#include "receiver/point_stream.h"

#include <errno.h>
#include <string.h>

static int number_read(const char *what, const char *text, uint64_t most, uint64_t *ret_number, struct err *err)
{
	int rc = route_number(text, 1, most, ret_number);
	return rc ? err_set(err, rc, "\"%.40s\" is not the number of a %s", text, what) : 0;
}

unsigned recovery_get_content(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct err err = {.code = 0};
	uint64_t number = 0;
	struct replica *replica = route_find(recovery, request, &err);
	if (!replica)
		return route_fail(&err, ret_body);
	const char *damaged = request->query(request, "damaged");
	if (damaged && strcmp(damaged, "yes") != 0)
		return control_fail(ret_body, -EINVAL, "damaged: \"yes\" is the only value");
	if (number_read("point", request->arg[1], INT64_MAX, &number, &err) ||
	    point_stream_open(replica, number, request->arg[2], damaged != NULL, recovery->verifier, &recovery->streams, request->stream, &err))
		return route_fail(&err, ret_body);
	return HTTP_OK;
}

// What the query says; borrowed from it.
static int files_read(const struct control_request *request, struct mount_request *mount,
		      const char **ret_path, struct err *err)
{
	const char *path = request->query(request, "path"), *point = request->query(request, "point");
	const char *partition = request->query(request, "partition"), *damaged = request->query(request, "damaged");
	uint64_t number = 0;
	int rc = 0;
	mount->protection = request->arg[0];
	mount->proven = damaged == NULL;
	mount->disk = request->query(request, "disk");
	*ret_path = path ? path : "/";
	if (mount->disk && !name_ok(mount->disk))
		return err_set(err, -EINVAL, "disk: " NAME_RULE);
	if (point)
		rc = number_read("point", point, INT64_MAX, &mount->point, err);
	if (rc == 0 && partition) {
		rc = number_read("partition", partition, UINT32_MAX, &number, err);
		mount->partition = (uint32_t)number;
	}
	if (rc == 0 && damaged && strcmp(damaged, "yes") != 0)
		rc = err_set(err, -EINVAL, "damaged: \"yes\" is the only value");
	return rc;
}

unsigned recovery_get_files(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct mount_request mount = {.point = 0};
	struct err err = {.code = 0};
	const char *path;
	if (files_read(request, &mount, &path, &err) || file_list(recovery->mounts, &mount, path, ret_body, &err))
		return route_fail(&err, ret_body);
	return HTTP_OK;
}

unsigned recovery_get_file(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct mount_request mount = {.point = 0};
	struct err err = {.code = 0};
	const char *path;
	if (files_read(request, &mount, &path, &err) ||
	    file_stream_open(recovery->mounts, &mount, path, &recovery->streams, request->stream, &err))
		return err.code == -EISDIR ? control_fail(ret_body, -EINVAL, err.text) : route_fail(&err, ret_body);
	return HTTP_OK;
}
