// SPDX-License-Identifier: Apache-2.0
#include "link/control_http.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_PARTS_MAX = 8, PATH_SIZE = 512 };

struct path {
	char text[PATH_SIZE]; // the parts, each with its NUL
	const char *part[PATH_PARTS_MAX];
	size_t count;
};

// False when the path has more or longer parts than any route could match.
static bool path_split(const char *url, struct path *ret_path)
{
	if (url[0] != '/' || strlen(url) >= sizeof(ret_path->text))
		return false;
	ret_path->count = 0;
	(void)snprintf(ret_path->text, sizeof(ret_path->text), "%s", url + 1);
	for (char *at = ret_path->text; at; ret_path->count++) {
		if (ret_path->count == PATH_PARTS_MAX)
			return false;
		ret_path->part[ret_path->count] = strsep(&at, "/");
	}
	return true;
}

// Whether `path` is one that `pattern` describes; what its '*' matched goes to `args`.
static bool path_matches(const struct path *path, const char *pattern, const char *args[CONTROL_ARGS_MAX])
{
	struct path want;
	size_t used = 0;
	memset(args, 0, CONTROL_ARGS_MAX * sizeof(*args));
	if (!path_split(pattern, &want) || want.count != path->count)
		return false;
	for (size_t i = 0; i < want.count; i++) {
		if (strcmp(want.part[i], "*") == 0 && path->part[i][0] && used < CONTROL_ARGS_MAX)
			args[used++] = path->part[i];
		else if (strcmp(want.part[i], path->part[i]) != 0)
			return false;
	}
	return true;
}

const char *control_query(const struct control_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->private, MHD_GET_ARGUMENT_KIND, name);
}

const char *control_header(const struct control_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->private, MHD_HEADER_KIND, name);
}

unsigned control_dispatch(const struct control_route *routes, size_t count, void *context, const char *method, const char *url,
			  struct control_request *request, json_t **ret_body)
{
	struct path path;
	bool known = false;
	bool possible = path_split(url, &path);
	char text[ERR_TEXT_MAX];
	for (size_t i = 0; possible && i < count; i++) {
		const struct control_route *route = &routes[i];
		if (!path_matches(&path, route->path, request->arg))
			continue;
		known = true;
		if (strcmp(method, route->method) != 0)
			continue;
		if (strcmp(method, "GET") == 0 && json_object_size(request->body))
			return control_fail(ret_body, -EINVAL, "a GET takes no body");
		return route->handler(context, request, ret_body);
	}
	if (known) {
		(void)snprintf(text, sizeof(text), "%s is not a method of %.200s: see docs/control.md", method, url);
		(void)control_fail(ret_body, -EOPNOTSUPP, text);
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	(void)snprintf(text, sizeof(text), "there is no %.200s here: see docs/control.md", url);
	return control_fail(ret_body, -ENOENT, text);
}

bool control_path_is(const char *url, const char *pattern)
{
	struct path path;
	const char *args[CONTROL_ARGS_MAX];
	return path_split(url, &path) && path_matches(&path, pattern, args);
}

struct MHD_Response *control_response(json_t *body, struct control_request *request)
{
	char *text = request && request->text ? request->text : body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("{}");
	const char *type = request && request->text ? request->text_type : "application/json";
	json_decref(body);
	if (!text)
		return NULL;
	struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(text);
		return NULL;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	return response;
}

static int url_digit(char c)
{
	return hex_digit(c >= 'A' && c <= 'F' ? (char)(c | 0x20) : c);
}

// Decodes %XX in place. A %00 stays as it is written: it would end the name before it, and so make it another one.
size_t control_unescape(void *context, struct MHD_Connection *connection, char *text)
{
	(void)context;
	(void)connection;
	char *to = text;
	for (const char *from = text; *from; from++) {
		int high = from[0] == '%' ? url_digit(from[1]) : -1;
		int low = high >= 0 ? url_digit(from[2]) : -1;
		if (low >= 0 && high + low > 0) {
			*to++ = (char)(high << 4 | low);
			from += 2;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return (size_t)(to - text);
}
