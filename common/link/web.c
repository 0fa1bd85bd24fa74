// SPDX-License-Identifier: Apache-2.0
#include "link/web.h"

#include "base/auto.h"
#include "link/control_http.h"
#include "link/net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REFUSALS_MAX = 5, REFUSAL_MS = 125, ANSWERS_LEAVE_MS = 2000 };

// Nothing here has content of a disk, a file of a guest, a key or a token.
const char *const web_paths[] = {
	"/metrics",
	"/v1/version",
	"/v1/events",
	"/v1/store",
	"/v1/protections",
	"/v1/protections/*",
	"/v1/protections/*/points",
	"/v1/protections/*/history",
	"/v1/protections/*/syncs",
	"/v1/protections/*/retention",
	"/v1/protections/*/scrub",
	"/v1/protections/*/plan",
	"/v1/tests",
	NULL,
};

struct web {
	struct web_config config;
	struct MHD_Daemon *daemon;
	char address[NET_ADDRESS_SIZE];
	char token[WEB_TOKEN_MAX + 1]; // "" for none
	atomic_uint refusals; // one after another
	atomic_uint requests; // under way
};

const char *web_address(const struct web *web)
{
	return web->address;
}

// --- answers ---

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type, const void *bytes, size_t length,
			      enum MHD_ResponseMemoryMode memory)
{
	static const char *const headers[][2] = {
		{"Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"},
		{"X-Content-Type-Options", "nosniff"},
		{"X-Frame-Options", "DENY"},
		{"Referrer-Policy", "no-referrer"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
		{"Cache-Control", "no-store"},
	};
	struct MHD_Response *response = MHD_create_response_from_buffer(length, (void *)(uintptr_t)bytes, memory);
	if (!response) {
		if (memory == MHD_RESPMEM_MUST_FREE)
			free((void *)(uintptr_t)bytes);
		return MHD_NO;
	}
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		(void)MHD_add_response_header(response, headers[i][0], headers[i][1]);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	if (status == MHD_HTTP_UNAUTHORIZED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"kagami\"");
	enum MHD_Result rc = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return rc;
}

static enum MHD_Result answer_json(struct MHD_Connection *connection, unsigned status, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("{}");
	json_decref(body);
	return text ? answer(connection, status, "application/json", text, strlen(text), MHD_RESPMEM_MUST_FREE) : MHD_NO;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, int code, const char *why)
{
	json_t *body = NULL;
	(void)control_fail(&body, code, why);
	return answer_json(connection, status, body);
}

// The text of a handler that answers with a stream of a type of its own.
static enum MHD_Result answer_text(struct MHD_Connection *connection, struct control_stream *stream)
{
	char *text = NULL;
	size_t len = 0, room = 0;
	ssize_t got = 0;
	do {
		if (room - len < 4096) {
			room = room * 2 + 65536;
			char *more = realloc(text, room);
			if (!more)
				break;
			text = more;
		}
		got = stream->read(stream->context, text + len, room - len);
		len += got > 0 ? (size_t)got : 0;
	} while (got > 0);
	stream->done(stream->context);
	if (!text || got != 0) {
		free(text);
		return MHD_NO;
	}
	return answer(connection, MHD_HTTP_OK, stream->type, text, len, MHD_RESPMEM_MUST_FREE);
}

// --- who may ask ---

static bool host_is_loopback(const char *host)
{
	char name[64];
	if (!host)
		return false;
	if (host[0] == '[')
		return strncmp(host, "[::1]", 5) == 0 && (host[5] == 0 || host[5] == ':');
	size_t len = strcspn(host, ":");
	if (len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = 0;
	unsigned a, b, c;
	char rest;
	return strcasecmp(name, "localhost") == 0 || sscanf(name, "127.%3u.%3u.%3u%c", &a, &b, &c, &rest) == 3;
}

static bool address_is_loopback(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
	return address->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static bool token_equal(const struct web *web, const char *given, size_t len)
{
	char padded[WEB_TOKEN_MAX + 1] = {0};
	bool fits = len <= WEB_TOKEN_MAX;
	memcpy(padded, given, fits ? len : 0);
	return CRYPTO_memcmp(padded, web->token, sizeof(padded)) == 0 && fits && len > 0;
}

static bool token_given(const struct web *web, struct MHD_Connection *connection, bool *ret_any)
{
	const char *bearer = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
	const char *cookie = MHD_lookup_connection_value(connection, MHD_COOKIE_KIND, "kagami_token");
	bool is_bearer = bearer && strncasecmp(bearer, "Bearer ", 7) == 0;
	*ret_any = is_bearer || cookie;
	return (is_bearer && token_equal(web, bearer + 7, strlen(bearer + 7))) || (cookie && token_equal(web, cookie, strlen(cookie)));
}

// Wrong tokens are answered later and later; the right one never waits.
static bool token_ok(struct web *web, struct MHD_Connection *connection)
{
	bool any = false;
	if (!web->token[0])
		return true;
	if (token_given(web, connection, &any)) {
		atomic_store(&web->refusals, 0);
		return true;
	}
	if (any) {
		unsigned before = atomic_fetch_add(&web->refusals, 1);
		(void)usleep(1000u * REFUSAL_MS << (before < REFUSALS_MAX ? before : REFUSALS_MAX));
	}
	return false;
}

// --- requests ---

static bool is_listed(const char *url)
{
	for (const char *const *path = web_paths; *path; path++)
		if (control_path_like(url, *path))
			return true;
	return false;
}

static enum MHD_Result serve_route(struct web *web, struct MHD_Connection *connection, const char *url)
{
	json_t *result = NULL;
	struct control_stream stream = {.read = NULL};
	struct control_request request = control_request_of(connection, &stream);
	request.body = json_object();
	unsigned status = control_dispatch(web->config.routes, web->config.route_count, web->config.context, "GET", url, &request, &result);
	json_decref(request.body);
	return stream.read ? answer_text(connection, &stream) : answer_json(connection, status, result);
}

static enum MHD_Result serve(struct web *web, struct MHD_Connection *connection, const char *method, const char *url)
{
	const struct web_config *config = &web->config;
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, -EOPNOTSUPP, "this only shows: use the control socket to change anything");
	if (!config->metrics_only && !web->token[0] && !host_is_loopback(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host")))
		return refuse(connection, MHD_HTTP_FORBIDDEN, -EPERM, "without a token this is for localhost alone: the Host of the request is another one");
	for (size_t i = 0; i < config->asset_count; i++)
		if (strcmp(config->assets[i].path, url) == 0)
			return answer(connection, MHD_HTTP_OK, config->assets[i].content_type, config->assets[i].bytes, config->assets[i].length,
				      MHD_RESPMEM_PERSISTENT);
	if (config->metrics_only ? strcmp(url, "/metrics") != 0 : !is_listed(url))
		return refuse(connection, MHD_HTTP_NOT_FOUND, -ENOENT, "there is nothing of this name here");
	if (!token_ok(web, connection))
		return refuse(connection, MHD_HTTP_UNAUTHORIZED, -EACCES, "the token is missing or wrong");
	return serve_route(web, connection, url);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
				  const char *part, size_t *part_len, void **seen)
{
	struct web *web = context;
	(void)version;
	(void)part;
	if (!*seen) { // the headers are here; an answer may be queued from the next call on
		*seen = web;
		atomic_fetch_add(&web->requests, 1);
		return MHD_YES;
	}
	if (*part_len) { // a body: of no use
		*part_len = 0;
		return MHD_YES;
	}
	return serve(web, connection, method, url);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **seen, enum MHD_RequestTerminationCode why)
{
	struct web *web = context;
	(void)connection;
	(void)why;
	if (*seen)
		atomic_fetch_sub(&web->requests, 1);
}

// --- life ---

static int token_read(struct web *web, const char *path, struct err *err)
{
	char line[WEB_TOKEN_MAX + 3] = "";
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "--web-token %s", path);
	ssize_t got = read(fd, line, sizeof(line) - 1);
	if (got < 0)
		return err_sys(err, -errno, "--web-token %s", path);
	line[got] = 0;
	line[strcspn(line, "\r\n")] = 0;
	size_t len = strlen(line);
	if (len < WEB_TOKEN_MIN || len > WEB_TOKEN_MAX || strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") != len)
		return err_set(err, -EINVAL,
			       "--web-token %s: the first line is to be %d to %d letters, digits or -._~+/= (make one: openssl rand -hex 32)", path,
			       WEB_TOKEN_MIN, WEB_TOKEN_MAX);
	memcpy(web->token, line, len);
	return 0;
}

static int check_loopback(const struct web *web, int fd, struct err *err)
{
	struct sockaddr_storage local = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(local);
	if (getsockname(fd, (struct sockaddr *)&local, &len) == 0 && address_is_loopback(&local))
		return 0;
	return err_set(err, -EPERM, "%s %s: only loopback is served without a token: use 127.0.0.1:PORT, or give --web-token FILE as well", web->config.option,
		       web->config.address);
}

static int listen_at(struct web *web, struct err *err)
{
	const struct web_config *config = &web->config;
	int rc = config->token_file ? token_read(web, config->token_file, err) : 0;
	if (rc)
		return rc;
	int fd = net_listen(config->address, err);
	if (fd < 0)
		return err_wrap(err, "%s", config->option);
	rc = net_local(fd, web->address, sizeof(web->address));
	if (rc)
		(void)err_sys(err, rc, "%s %s", config->option, config->address);
	else if (!config->metrics_only && !web->token[0])
		rc = check_loopback(web, fd, err);
	if (rc == 0) {
		web->daemon = MHD_start_daemon(
			MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL, on_request, web,
			MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, web, MHD_OPTION_UNESCAPE_CALLBACK, control_unescape, NULL,
			MHD_OPTION_CONNECTION_LIMIT, (unsigned)WEB_CLIENTS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)WEB_CLIENTS_PER_ADDRESS,
			MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)WEB_IDLE_SECONDS, MHD_OPTION_END);
		rc = web->daemon ? 0 : err_set(err, -EIO, "%s %s: the listener did not start", config->option, config->address);
	}
	if (rc)
		(void)close(fd);
	return rc;
}

int web_start(const struct web_config *config, struct web **ret_web, struct err *err)
{
	struct web *web = calloc(1, sizeof(*web));
	if (!web)
		return err_sys(err, -ENOMEM, "%s", config->option);
	web->config = *config;
	int rc = listen_at(web, err);
	if (rc) {
		OPENSSL_cleanse(web->token, sizeof(web->token));
		free(web);
		return rc;
	}
	*ret_web = web;
	return 0;
}

void web_stop(struct web *web)
{
	if (!web)
		return;
	int fd = MHD_quiesce_daemon(web->daemon);
	for (unsigned waited_ms = 0; atomic_load(&web->requests) && waited_ms < ANSWERS_LEAVE_MS; waited_ms += 10)
		(void)usleep(10000);
	MHD_stop_daemon(web->daemon);
	if (fd >= 0)
		(void)close(fd);
	OPENSSL_cleanse(web->token, sizeof(web->token));
	free(web);
}
