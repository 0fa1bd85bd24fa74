// SPDX-License-Identifier: Apache-2.0
// The control server: bodies and streams over libmicrohttpd. Routes and answers are control_http.c's.
//
// Each connection has a thread of MHD's. A request arrives in calls: the headers (exchange_begin), the body in parts
// (exchange_take), then once more with nothing (exchange_answer), where the handler runs. Whatever goes wrong has an
// answer in JSON; a connection is dropped without one only when memory is short. There is no idle timeout: a handler may
// take minutes, and a client that died is seen at once on a unix socket.
#include "link/control.h"

#include "link/control_http.h"
#include "link/control_socket.h"

#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { STREAM_PART = 128 << 10, ANSWERS_LEAVE_MS = 2000 };

struct control {
	struct MHD_Daemon *daemon;
	struct control_socket socket;
	const struct control_route *routes;
	size_t count;
	void *context;
	atomic_uint requests; // under way
};

// One request on its way in.
struct exchange {
	char *body;
	size_t len;
	bool too_long; // what is past CONTROL_BODY_MAX is read and dropped, because an answer in mid-body is not possible
};

// Parses the body; NULL, and the failure in *ret_body, when it is not a JSON object.
static json_t *body_parse(const struct exchange *exchange, unsigned *ret_status, json_t **ret_body)
{
	if (exchange->len == 0)
		return json_object();
	json_error_t why;
	char text[ERR_TEXT_MAX];
	json_t *body = json_loadb(exchange->body, exchange->len, JSON_REJECT_DUPLICATES, &why);
	if (json_is_object(body))
		return body;
	if (body)
		(void)snprintf(text, sizeof(text), "the body must be a JSON object");
	else
		(void)snprintf(text, sizeof(text), "the body is not JSON: line %d, column %d: %s", why.line, why.column, why.text);
	json_decref(body);
	*ret_status = control_fail(ret_body, -EINVAL, text);
	return NULL;
}

static enum MHD_Result answer_with(struct MHD_Connection *connection, unsigned status, json_t *body, struct control_request *request)
{
	struct MHD_Response *response = control_response(body, request);
	if (!response)
		return MHD_NO;
	enum MHD_Result rc = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return rc;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, json_t *body)
{
	return answer_with(connection, status, body, NULL);
}

static ssize_t on_stream(void *context, uint64_t at, char *buf, size_t cap)
{
	const struct control_stream *stream = context;
	(void)at;
	ssize_t len = stream->read(stream->context, buf, cap);
	return len > 0 ? len : len == 0 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void on_stream_end(void *context)
{
	struct control_stream *stream = context;
	stream->done(stream->context);
	free(stream);
}

static enum MHD_Result answer_stream(struct MHD_Connection *connection, unsigned status, const struct control_stream *stream)
{
	struct MHD_Response *response = NULL;
	struct control_stream *kept = malloc(sizeof(*kept));
	if (kept) {
		*kept = *stream;
		response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_PART, on_stream, kept, on_stream_end);
	}
	if (!response) {
		stream->done(stream->context);
		free(kept);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
	enum MHD_Result rc = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return rc;
}

static enum MHD_Result answer_not_allowed(struct MHD_Connection *connection)
{
	json_t *body = NULL;
	unsigned status = control_fail(&body, -EPERM,
				       "only root and the user that the daemon runs as are served: use sudo, or that user");
	return answer(connection, status, body);
}

static enum MHD_Result answer_too_long(struct MHD_Connection *connection)
{
	char text[80];
	json_t *body = NULL;
	(void)snprintf(text, sizeof(text), "the body is longer than %d bytes", CONTROL_BODY_MAX);
	(void)control_fail(&body, -EFBIG, text);
	return answer(connection, MHD_HTTP_CONTENT_TOO_LARGE, body);
}

static enum MHD_Result exchange_begin(struct control *control, struct MHD_Connection *connection, void **ret_exchange)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (!info || !control_socket_peer_ok(info->connect_fd))
		return answer_not_allowed(connection);
	const char *len = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (len && strtoull(len, NULL, 10) > CONTROL_BODY_MAX)
		return answer_too_long(connection);
	*ret_exchange = calloc(1, sizeof(struct exchange));
	if (*ret_exchange)
		atomic_fetch_add(&control->requests, 1);
	return *ret_exchange ? MHD_YES : MHD_NO;
}

static enum MHD_Result exchange_take(struct exchange *exchange, const char *part, size_t *len)
{
	size_t more = *len;
	*len = 0; // all of it is taken, or dropped
	if (exchange->too_long || more > CONTROL_BODY_MAX - exchange->len) {
		exchange->too_long = true;
		return MHD_YES;
	}
	char *body = realloc(exchange->body, exchange->len + more);
	if (!body)
		return MHD_NO;
	memcpy(body + exchange->len, part, more);
	exchange->body = body;
	exchange->len += more;
	return MHD_YES;
}

static enum MHD_Result exchange_answer(const struct control *control, const struct exchange *exchange,
				       struct MHD_Connection *connection, const char *method, const char *url)
{
	if (exchange->too_long)
		return answer_too_long(connection);
	unsigned status = 0;
	json_t *result = NULL;
	struct control_stream stream = {.read = NULL};
	struct control_request request = {.query = control_query, .header = control_header, .stream = &stream, .private = connection};
	request.body = body_parse(exchange, &status, &result);
	if (request.body)
		status = control_dispatch(control->routes, control->count, control->context, method, url, &request, &result);
	json_decref(request.body);
	return stream.read ? answer_stream(connection, status, &stream) : answer_with(connection, status, result, &request);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *part, size_t *part_len, void **exchange)
{
	(void)version;
	if (!*exchange)
		return exchange_begin(context, connection, exchange);
	if (*part_len)
		return exchange_take(*exchange, part, part_len);
	return exchange_answer(context, *exchange, connection, method, url);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **at, enum MHD_RequestTerminationCode why)
{
	struct control *control = context;
	(void)connection;
	(void)why;
	struct exchange *exchange = *at;
	if (!exchange)
		return;
	atomic_fetch_sub(&control->requests, 1);
	free(exchange->body);
	free(exchange);
	*at = NULL;
}

int control_start(const char *run_dir, const char *name, const struct control_route *routes, size_t count, void *context,
		  struct control **ret_control, struct err *err)
{
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return err_sys(err, -ENOMEM, "start the control server");
	control->routes = routes;
	control->count = count;
	control->context = context;
	int rc = control_socket_open(run_dir, name, &control->socket, err);
	if (rc) {
		free(control);
		return rc;
	}
	control->daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
		on_request, control, MHD_OPTION_LISTEN_SOCKET, control->socket.fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, control,
		MHD_OPTION_UNESCAPE_CALLBACK, control_unescape, NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONTROL_CLIENTS_MAX,
		MHD_OPTION_END);
	if (!control->daemon) {
		rc = err_set(err, -EIO, "the control server did not start at %s: is a limit on threads or descriptors reached?",
			     control->socket.address.sun_path);
		control_socket_unlink(&control->socket);
		(void)close(control->socket.fd);
		free(control);
		return rc;
	}
	*ret_control = control;
	return 0;
}

// Requests that ended with us have their answers: they need no more than to leave.
static void answers_leave(struct control *control)
{
	for (unsigned waited_ms = 0; atomic_load(&control->requests) && waited_ms < ANSWERS_LEAVE_MS; waited_ms += 10)
		(void)usleep(10000);
}

void control_stop(struct control *control)
{
	if (!control)
		return;
	control_socket_unlink(&control->socket);
	int fd = MHD_quiesce_daemon(control->daemon);
	answers_leave(control);
	MHD_stop_daemon(control->daemon); // closes the socket, unless it was handed back
	if (fd >= 0)
		(void)close(fd);
	free(control);
}

void control_abandon(const char *run_dir, const char *socket_name)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%s/%s", run_dir, socket_name);
	(void)unlink(path);
}
