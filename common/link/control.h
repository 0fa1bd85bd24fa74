// SPDX-License-Identifier: Apache-2.0
// The control server of a daemon: HTTP/1.1 with JSON bodies on a unix socket (libmicrohttpd, jansson). API: docs/control.md.
//
// Handlers run on the server's own threads (one per connection), so they may block, and lock what they touch.
// Only root and the daemon's own user are served (SO_PEERCRED); the socket has mode 0600... 0660 in a 0750 directory.
#ifndef KAGAMI_LINK_CONTROL_H
#define KAGAMI_LINK_CONTROL_H

#include "base/err.h"

#include <jansson.h>
#include <stddef.h>

enum { CONTROL_ARGS_MAX = 4, CONTROL_BODY_MAX = 1 << 20 };

struct control_request {
	const char *arg[CONTROL_ARGS_MAX]; // what matched the '*' components of the route, in order; decoded
	json_t *body;			   // an object, empty when none was sent; owned by the server
	const char *(*query)(const struct control_request *request, const char *name); // value of ?name=..., or NULL
	void *private;
};

// Answers with an HTTP status and, in *ret_body, a JSON value that the server frees. On failure returns
// control_fail(); a NULL body gives an empty object.
typedef unsigned control_handler(void *context, const struct control_request *request, json_t **ret_body);

struct control_route {
	const char *method; // "GET", "POST", "DELETE"
	const char *path;   // "/v1/protections/*/cycle"
	control_handler *handler;
};

// Body {"error": {"code": "ENOENT", "message": text}} and the HTTP status that goes with `code` (a negative errno):
// 400 EINVAL EBADMSG ENAMETOOLONG, 403 EPERM EACCES, 404 ENOENT, 409 EEXIST EBUSY EALREADY ESTALE, 503 ENOTCONN ECONNREFUSED
// ETIMEDOUT, 507 ENOSPC, else 500. Returns the status.
unsigned control_fail(json_t **ret_body, int code, const char *text);

struct control;

// Serves `routes` (`count`, kept by the caller) at RUN_DIR/name. A stale socket is replaced; -EADDRINUSE when a daemon
// answers there. RUN_DIR is created (0750) when it is missing.
int control_start(const char *run_dir, const char *name, const struct control_route *routes, size_t count, void *context,
		  struct control **ret_control, struct err *err);
void control_stop(struct control *control); // takes NULL; waits for handlers under way

#endif
