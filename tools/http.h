// SPDX-License-Identifier: Apache-2.0
// One request to a daemon's control socket, and its answer. The API is docs/control.md.
#ifndef KAGAMI_TOOLS_HTTP_H
#define KAGAMI_TOOLS_HTTP_H

#include "base/err.h"
#include "format/stream.h"

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

enum { HTTP_PATH_SIZE = 16 << 10 }; // a path of a file system, each byte of it as %XX, and what is before it

enum http_daemon { HTTP_REPLICATOR, HTTP_RECEIVER };
const char *http_daemon_name(enum http_daemon daemon); // "kagami-replicator"

// RUN_DIR/replicator.sock or RUN_DIR/receiver.sock. -ENAMETOOLONG when no unix socket can have that path.
int http_socket_path(const char *run_dir, enum http_daemon daemon, char *path, size_t cap, struct err *err);

// Whether somebody listens there: 0, -ENOENT, -ECONNREFUSED or -EACCES.
int http_probe(const char *socket_path, struct err *err);
// As that, of a daemon by its name; who may not ask it is told who may.
int http_reach(const char *socket_path, enum http_daemon daemon, struct err *err);
// Whether the daemon serves this user: root, or who owns the socket, which is whom it runs as. Where that cannot be seen, it does.
bool http_may_ask(const char *run_dir, enum http_daemon daemon);

// How long the requests of this process wait for an answer, instead of ten minutes: for who is waited for himself. Before the first one.
void http_wait_at_most(unsigned seconds);
// From now on a request ends with -EINTR, within a second or two, once *flag is not 0.
void http_stop_at(const volatile sig_atomic_t *flag);

struct http_reply {
	long status;
	json_t *body; // an object or array; the caller's
};

// Sends one request, with `body` (may be NULL; taken over) as JSON. Returns 0 when an answer came, whatever its status;
// -ENOENT, -ECONNREFUSED or -EACCES when the socket is missing, nobody listens there, or we may not connect; -ETIMEDOUT
// after ten minutes; -EPROTO or -EIO when the answer made no sense or broke off.
int http_ask(const char *run_dir, enum http_daemon daemon, const char *method, const char *path, json_t *body,
	     struct http_reply *ret_reply, struct err *err);

// GETs what is no JSON. 0 and the text (the caller frees; NULL when there was none) with status 200; -ENOENT with another one, and the errors of http_ask().
int http_text(const char *run_dir, enum http_daemon daemon, const char *path, char **ret_text, size_t *ret_len, struct err *err);

// GETs a stream (docs/control.md, "Streams") and feeds it to `take`. 0 when it ended with END or ERROR, or when it never began and the daemon
// answered with an error: then ret_reply->body is that, and NULL otherwise. Errors as http_ask(), what `take` returned, -EINTR when
// *stop became true, and -EPIPE when it broke off.
int http_stream(const char *run_dir, enum http_daemon daemon, const char *path, stream_take *take, void *context,
		const volatile sig_atomic_t *stop, struct http_reply *ret_reply, struct err *err);

#endif
