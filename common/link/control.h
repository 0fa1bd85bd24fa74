// SPDX-License-Identifier: Apache-2.0
// The control server of a daemon: HTTP/1.1 with JSON bodies on a unix socket (libmicrohttpd, jansson). API: docs/control.md.
//
// Handlers run on the server's own threads (one per connection), so they may block, and lock what they touch. Those threads
// inherit the signal mask of whoever calls control_start(): block what the main thread waits for before that.
// Only root and the daemon's own user are served (SO_PEERCRED); the socket has mode 0600 in a 0750 directory.
// Requests are bounded: CONTROL_BODY_MAX bytes of body, CONTROL_CLIENTS_MAX connections; what is more is refused or waits.
#ifndef KAGAMI_LINK_CONTROL_H
#define KAGAMI_LINK_CONTROL_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { CONTROL_ARGS_MAX = 4, CONTROL_BODY_MAX = 1 << 20, CONTROL_CLIENTS_MAX = 64 };

// A body that is made while it is sent, application/octet-stream. The server's thread that serves the request calls it.
struct control_stream {
	// Fills in up to `cap` bytes. Returns how many, 0 at the end, or a negative errno: then the answer breaks off.
	ssize_t (*read)(void *context, char *buf, size_t cap);
	void (*done)(void *context); // once, in the end, whatever happened: also when the caller went away
	void *context;
};

struct control_request {
	const char *arg[CONTROL_ARGS_MAX]; // what matched the '*' components of the route, in order; decoded
	json_t *body;			   // an object, empty when none was sent; owned by the server
	const char *(*query)(const struct control_request *request, const char *name); // value of ?name=..., or NULL
	const char *(*header)(const struct control_request *request, const char *name); // of the request, or NULL
	char *text; // filled in by a handler that answers with something else than JSON: malloc'ed, taken over by the server
	const char *text_type; // its content type; static
	struct control_stream *stream; // filled in by a handler that answers with a stream: it returns 200, and no JSON
	void *private;
};

// Answers with an HTTP status and, in *ret_body, a JSON value that the server frees. On failure returns
// control_fail(); a NULL body gives an empty object.
typedef unsigned control_handler(void *context, const struct control_request *request, json_t **ret_body);

// Makes the answer a text of its own type, instead of JSON; the handler returns 200. Takes over `text`, from malloc(); `type` is static.
void control_text(const struct control_request *request, const char *type, char *text);

struct control_route {
	const char *method; // "GET", "POST", "DELETE"
	const char *path;   // "/v1/protections/*/cycle"
	control_handler *handler;
};

// Body {"error": {"code": "ENOENT", "message": text}} and the HTTP status that goes with `code` (a negative errno):
// 400 EINVAL EBADMSG ENAMETOOLONG, 403 EPERM EACCES, 404 ENOENT, 409 EEXIST EBUSY EALREADY ESTALE, 503 ENOTCONN ECONNREFUSED
// ETIMEDOUT EHOSTUNREACH ENETUNREACH ECONNRESET, 507 ENOSPC, else 500. Returns the status.
unsigned control_fail(json_t **ret_body, int code, const char *text);

// One member that a JSON object may have. Which output is set says which type it must have; set exactly one.
struct control_member {
	const char *name;
	bool required;
	const char **text; // a string; with is_name one that name_ok() accepts; borrowed from the object
	bool is_name;
	uint64_t *number; // an integer
	bool *flag;	  // true or false
	json_t **array;	  // an array; borrowed
	uint64_t least;	  // of a number's value, a string's bytes, an array's elements
	uint64_t most;	  // the same; 0: the type's own bound (UINT64_MAX, 4095 bytes, 4095 elements)
};

// Reads `object` (a request's body, or an element of one of its arrays) by a table:
//
//	const char *name;
//	uint64_t points = 24;
//	const struct control_member members[] = {
//		{"name", true, .text = &name, .is_name = true},
//		{"points", .number = &points, .least = 1, .most = 1000},
//	};
//	if (control_read(request->body, members, 2, &err))
//		return control_fail(ret_body, err.code, err.text);
//
// What is absent or null leaves its output as it was. -EINVAL, and a text that names the member, when one is missing,
// unknown, of the wrong type or out of its limits. A handler that takes no body passes NULL and 0.
int control_read(const json_t *object, const struct control_member *members, size_t count, struct err *err);
// The same of an object in a file of this daemon. Where it has a member "version", above what is its `most` there, a newer version wrote it: that is said before
// anything else, for what else is in it is that one's.
int control_read_file(const json_t *object, const struct control_member *members, size_t count, struct err *err);

struct control;

// Serves `routes` (`count`, kept by the caller) at RUN_DIR/name. A stale socket is replaced; -EADDRINUSE when a daemon
// answers there. RUN_DIR is created (0750) when it is missing. A path that no route has is answered with 404, a method that
// its routes do not have with 405, a body on a GET with 400.
int control_start(const char *run_dir, const char *name, const struct control_route *routes, size_t count, void *context,
		  struct control **ret_control, struct err *err);
void control_stop(struct control *control); // takes NULL; waits for handlers under way
// The process is about to end without that, and the kernel may keep it for as long as a disk hangs: who would connect meanwhile finds nobody, and is not left waiting.
void control_abandon(const char *run_dir, const char *socket_name);

#endif
