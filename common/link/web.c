// SPDX-License-Identifier: Apache-2.0
#include "link/web.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "link/control_http.h"
#include "link/net.h"
#include "link/private.h"
#include "link/web_assets.h"
#include "link/web_guard.h"
#include "link/web_seats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COOKIE_SIZE = 2 * SHA256_DIGEST_LENGTH + 1, REFUSED_REST_MS = 500 };
#define COOKIE "kagami"

struct listener {
	struct web *web;
	struct MHD_Daemon *daemon;
	bool metrics_only;
	struct web_seats seats;
};

struct web {
	const struct control_route *routes;
	size_t count;
	void *context;
	char token[WEB_TOKEN_MOST + 2]; // "" when none is asked for
	char cookie[COOKIE_SIZE];	// what the browser keeps in its place
	char address[NET_ADDRESS_SIZE];
	struct listener page, metrics;
};

// What the page needs to know. Nothing that the control API gives besides is for everybody at this address.
static const char *const readable[] = {
	"/v1/version",	 "/v1/protections",	      "/v1/protections/*",	  "/v1/protections/*/syncs", "/v1/protections/*/history", "/v1/protections/*/points",
	"/v1/protections/*/retention", "/v1/protections/*/scrub", "/v1/events",	  "/v1/store",	"/metrics",
};

// --- who asks ---

static const char *header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static bool allowed(const struct web *web, struct MHD_Connection *connection)
{
	const char *bearer = header(connection, MHD_HTTP_HEADER_AUTHORIZATION), *cookies = header(connection, MHD_HTTP_HEADER_COOKIE);
	return !web->token[0] || (bearer && web_bearer_is(bearer, web->token)) || (cookies && web_cookie_is(cookies, COOKIE, web->cookie));
}

// --- answers ---

static enum MHD_Result send_response(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response)
{
	static const char *const headers[][2] = {
		{"Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"},
		{"Cache-Control", "no-store"},
		{"X-Content-Type-Options", "nosniff"},
		{"X-Frame-Options", "DENY"},
		{"Referrer-Policy", "no-referrer"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
	};
	if (!response)
		return MHD_NO;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		(void)MHD_add_response_header(response, headers[i][0], headers[i][1]);
	enum MHD_Result rc = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return rc;
}

static enum MHD_Result send_failure(struct MHD_Connection *connection, unsigned status, int code, const char *text)
{
	json_t *body = NULL;
	(void)control_fail(&body, code, text);
	struct MHD_Response *response = control_response(body, NULL);
	if (response && status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	if (response && status == MHD_HTTP_UNAUTHORIZED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	return send_response(connection, status, response);
}

static enum MHD_Result send_asset(struct MHD_Connection *connection, const struct web_asset *asset)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(asset->len, (void *)(uintptr_t)asset->bytes, MHD_RESPMEM_PERSISTENT);
	if (response)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, asset->type);
	return send_response(connection, MHD_HTTP_OK, response);
}

// The page's form was right: from here on the browser says so itself. Scripts cannot read what it keeps.
static enum MHD_Result send_login(const struct web *web, struct MHD_Connection *connection)
{
	char cookie[COOKIE_SIZE + 80];
	struct MHD_Response *response = control_response(NULL, NULL);
	(void)snprintf(cookie, sizeof(cookie), COOKIE "=%s; HttpOnly; SameSite=Strict; Path=/", web->cookie);
	if (response && web->token[0])
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_SET_COOKIE, cookie);
	return send_response(connection, MHD_HTTP_OK, response);
}

static enum MHD_Result send_route(const struct web *web, struct MHD_Connection *connection, const char *url)
{
	json_t *body = NULL;
	struct control_stream stream = {.read = NULL};
	struct control_request request = {.query = control_query, .header = control_header, .stream = &stream, .private = connection, .body = json_object()};
	unsigned status = control_dispatch(web->routes, web->count, web->context, "GET", url, &request, &body);
	json_decref(request.body);
	if (stream.read) { // none of those that may be read is one
		stream.done(stream.context);
		return MHD_NO;
	}
	return send_response(connection, status, control_response(body, &request));
}

static bool may_be_read(const struct listener *listener, const char *url)
{
	if (listener->metrics_only)
		return strcmp(url, "/metrics") == 0;
	for (size_t i = 0; i < sizeof(readable) / sizeof(readable[0]); i++)
		if (control_path_is(url, readable[i]))
			return true;
	return false;
}

// --- seats ---

static struct web_seat *seat_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return info ? info->socket_context : NULL;
}

static void address_of(int fd, struct in6_addr *ret_address)
{
	struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(peer);
	memset(ret_address, 0, sizeof(*ret_address));
	if (getpeername(fd, (struct sockaddr *)&peer, &len))
		return;
	if (peer.ss_family == AF_INET6)
		*ret_address = ((const struct sockaddr_in6 *)&peer)->sin6_addr;
	else if (peer.ss_family == AF_INET)
		memcpy(&ret_address->s6_addr[12], &((const struct sockaddr_in *)&peer)->sin_addr, 4);
}

static void end_connection(int fd)
{
	(void)shutdown(fd, SHUT_RDWR); // its thread sees that, and closes it
}

static void on_connection(void *context, struct MHD_Connection *connection, void **seat, enum MHD_ConnectionNotificationCode what)
{
	struct listener *listener = context;
	struct in6_addr address;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		web_seats_leave(&listener->seats, *seat);
		return;
	}
	int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	address_of(fd, &address);
	*seat = web_seats_take(&listener->seats, fd, &address, clock_mono_ns());
}

static void on_answered(void *context, struct MHD_Connection *connection, void **seen, enum MHD_RequestTerminationCode why)
{
	struct listener *listener = context;
	(void)seen, (void)why;
	(void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)WEB_WAIT_S);
	web_seats_waits(&listener->seats, seat_of(connection), clock_mono_ns());
}

static void request_whole(struct listener *listener, struct MHD_Connection *connection)
{
	web_seats_busy(&listener->seats, seat_of(connection));
	(void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)WEB_ANSWER_S);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
				  const char *part, size_t *part_len, void **seen)
{
	struct listener *listener = context;
	const struct web *web = listener->web;
	struct web_asset asset;
	(void)version;
	(void)part;
	if (!*seen) { // the headers came; a body, where one follows, is dropped
		*seen = connection;
		return MHD_YES;
	}
	if (*part_len) {
		*part_len = 0;
		return MHD_YES;
	}
	request_whole(listener, connection);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return send_failure(connection, MHD_HTTP_METHOD_NOT_ALLOWED, -EOPNOTSUPP, "this address only shows: use kagami, or the control socket");
	const char *host = header(connection, MHD_HTTP_HEADER_HOST);
	if (!listener->metrics_only && !web->token[0] && (!host || !web_host_is_loopback(host)))
		return send_failure(connection, MHD_HTTP_MISDIRECTED_REQUEST, -EPERM, "ask for it as localhost: any other name needs --web-token");
	if (!listener->metrics_only && web_asset_find(url, &asset))
		return send_asset(connection, &asset);
	bool login = !listener->metrics_only && strcmp(url, "/login") == 0;
	if (!login && !may_be_read(listener, url))
		return send_failure(connection, MHD_HTTP_NOT_FOUND, -ENOENT, "there is nothing to see at this path");
	if (!listener->metrics_only && !allowed(web, connection)) {
		(void)usleep(REFUSED_REST_MS * 1000); // of this connection's thread
		return send_failure(connection, MHD_HTTP_UNAUTHORIZED, -EPERM, "this page asks for its token");
	}
	return login ? send_login(web, connection) : send_route(web, connection, url);
}

// --- life ---

static int token_read(const char *path, struct web *web, struct err *err)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char seed[sizeof(web->token) + 32];
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, web->token, sizeof(web->token) - 1);
	if (len < 0)
		return err_sys(err, -errno, "read the token of --web-token %s", path);
	web->token[len] = 0;
	web->token[strcspn(web->token, "\r\n")] = 0;
	size_t size = strlen(web->token);
	for (size_t i = 0; i < size; i++)
		if (web->token[i] <= ' ' || web->token[i] > '~')
			size = 0; // said below
	if (size < WEB_TOKEN_LEAST || size > WEB_TOKEN_MOST)
		return err_set(err, -EINVAL, "--web-token %s: its first line must have %d to %d printable characters, as of: openssl rand -hex 32", path,
			       WEB_TOKEN_LEAST, WEB_TOKEN_MOST);
	(void)private_file("the token of --web-token", path, true);
	(void)snprintf(seed, sizeof(seed), "kagami/web %s", web->token);
	(void)SHA256((const unsigned char *)seed, strlen(seed), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(web->cookie + 2 * i, 3, "%02x", digest[i]);
	OPENSSL_cleanse(seed, sizeof(seed));
	return 0;
}

static bool bound_to_loopback(int fd)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	return getsockname(fd, (struct sockaddr *)&address, &len) == 0 && net_is_loopback((const struct sockaddr *)&address);
}

static int too_open(const char *address, struct err *err)
{
	return err_set(err, -EINVAL, "--web %s is no loopback address: give --web-token FILE as well, or 127.0.0.1 and a tunnel (ssh -L)", address);
}

static int listener_start(struct listener *listener, const char *option, const char *address, char *ret_address, struct err *err)
{
	AUTO_CLOSE int fd = net_listen(address, err);
	if (fd < 0) {
		int rc = fd;
		return err ? err_wrap(err, "--%s", option) : rc;
	}
	if (!listener->metrics_only && !listener->web->token[0] && !bound_to_loopback(fd))
		return too_open(address, err);
	(void)net_local(fd, ret_address, NET_ADDRESS_SIZE);
	listener->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL, on_request,
					    listener, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_UNESCAPE_CALLBACK, control_unescape, NULL,
					    MHD_OPTION_NOTIFY_CONNECTION, on_connection, listener, MHD_OPTION_NOTIFY_COMPLETED, on_answered, listener,
					    MHD_OPTION_CONNECTION_LIMIT, (unsigned)WEB_SEATS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)WEB_WAIT_S, MHD_OPTION_END);
	if (!listener->daemon)
		return err_set(err, -EIO, "--%s %s: the server did not start: is a limit on threads or descriptors reached?", option, address);
	fd = -1; // the server closes it
	log_info("%s address=%s", listener->metrics_only ? "metrics are served" : "the page is served", ret_address);
	return 0;
}

int web_check(const struct web_config *config, struct err *err)
{
	if (!config->web && config->token_file)
		return err_set(err, -EINVAL, "--web-token goes with --web");
	int rc = config->web ? net_check_option("web", config->web, err) : 0;
	if (rc == 0 && config->metrics)
		rc = net_check_option("metrics", config->metrics, err);
	if (rc == 0 && config->web && !config->token_file && net_is_elsewhere(config->web))
		rc = too_open(config->web, err);
	return rc;
}

int web_start(const struct web_config *config, const struct control_route *routes, size_t count, void *context, struct web **ret_web, struct err *err)
{
	char metrics[NET_ADDRESS_SIZE];
	int rc = web_check(config, err);
	*ret_web = NULL;
	if (rc)
		return rc;
	if (!config->web && !config->metrics)
		return 0;
	struct web *web = calloc(1, sizeof(*web));
	if (!web)
		return err_sys(err, -ENOMEM, "start the page's server");
	web->routes = routes;
	web->count = count;
	web->context = context;
	web->page.web = web->metrics.web = web;
	web->metrics.metrics_only = true;
	web_seats_init(&web->page.seats, end_connection);
	web_seats_init(&web->metrics.seats, end_connection);
	rc = config->token_file ? token_read(config->token_file, web, err) : 0;
	if (!rc && config->web)
		rc = listener_start(&web->page, "web", config->web, web->address, err);
	if (!rc && config->metrics)
		rc = listener_start(&web->metrics, "metrics", config->metrics, metrics, err);
	if (rc) {
		web_stop(web);
		return rc;
	}
	*ret_web = web;
	return 0;
}

void web_stop(struct web *web)
{
	if (!web)
		return;
	if (web->page.daemon)
		MHD_stop_daemon(web->page.daemon);
	if (web->metrics.daemon)
		MHD_stop_daemon(web->metrics.daemon);
	web_seats_done(&web->page.seats);
	web_seats_done(&web->metrics.seats);
	OPENSSL_cleanse(web->token, sizeof(web->token));
	free(web);
}

const char *web_address(const struct web *web)
{
	return web ? web->address : "";
}
