// SPDX-License-Identifier: Apache-2.0
// One request to a daemon's control socket, by libcurl.
//
// Whether somebody listens is found out by a connect() of our own first: libcurl tells "missing" from "refused" from
// "not allowed" on unix sockets only in part, and an operator needs to know which.
#include "tools/http.h"

#include "base/auto.h"
#include "base/clock.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX = 64 << 20, ANSWER_TIMEOUT_S = 600, SAY_WAITED_MS = 5000 };

static unsigned answer_timeout_s = ANSWER_TIMEOUT_S;

void http_wait_at_most(unsigned seconds)
{
	answer_timeout_s = seconds;
}

static const volatile sig_atomic_t *stop;

void http_stop_at(const volatile sig_atomic_t *flag)
{
	stop = flag;
}

enum { SOCKET_PATH_SIZE = sizeof(((struct sockaddr_un *)0)->sun_path) };

struct answer {
	char *text;
	size_t len;
};

const char *http_daemon_name(enum http_daemon daemon)
{
	return daemon == HTTP_REPLICATOR ? "kagami-replicator" : "kagami-receiver";
}

int http_socket_path(const char *run_dir, enum http_daemon daemon, char *path, size_t cap, struct err *err)
{
	size_t most = SOCKET_PATH_SIZE;
	int used = snprintf(path, cap, "%s/%s.sock", run_dir, daemon == HTTP_REPLICATOR ? "replicator" : "receiver");
	if (used < 0 || (size_t)used >= cap || (size_t)used >= most)
		return err_set(err, -ENAMETOOLONG, "the run directory %.100s... is too long for a socket in it (%zu bytes at most)",
			       run_dir, most - sizeof("/replicator.sock"));
	return 0;
}

int http_probe(const char *path, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, -errno, "make a socket");
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return err_sys(err, errno == ENOTDIR ? -ENOENT : -errno, "connect to %s", path);
	return 0;
}

int http_reach(const char *path, enum http_daemon daemon, struct err *err)
{
	struct err why = {0};
	int rc = http_probe(path, &why);
	if (rc == -EACCES || rc == -EPERM)
		return err_set(err, rc, "this user may not ask %s: %.300s: use sudo, or the user that it runs as", http_daemon_name(daemon), why.text);
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

bool http_may_ask(const char *run_dir, enum http_daemon daemon)
{
	char path[SOCKET_PATH_SIZE];
	struct stat st;
	if (geteuid() == 0 || http_socket_path(run_dir, daemon, path, sizeof(path), NULL) || stat(path, &st))
		return true;
	return st.st_uid == geteuid();
}

static size_t on_data(char *data, size_t one, size_t count, void *context)
{
	struct answer *answer = context;
	size_t len = one * count;
	if (len > ANSWER_MAX - answer->len)
		return 0;
	char *text = realloc(answer->text, answer->len + len + 1);
	if (!text)
		return 0;
	memcpy(text + answer->len, data, len);
	answer->text = text;
	answer->len += len;
	return len;
}

struct waited {
	int64_t since_ms; // 0: nothing is said of it
};

// Comes about once a second. What changes something is durable once it is answered, and who asked for it is not left to wonder what it waits for.
static int on_tick(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct waited *waited = context;
	(void)a, (void)b, (void)c, (void)d;
	if (waited->since_ms && clock_mono_ms() - waited->since_ms >= SAY_WAITED_MS) {
		(void)fprintf(stderr, "kagami: still waiting for kagami-replicator: `kagami status` says whether its state directory or a disk hangs\n");
		waited->since_ms = 0;
	}
	return stop && *stop;
}

static int perform(CURL *curl, const char *socket, enum http_daemon daemon, const char *method, const char *path, const char *body,
		   struct answer *answer, long *ret_status, struct err *err)
{
	bool says = daemon == HTTP_REPLICATOR && strcmp(method, "GET") != 0 && strcmp(path, "/v1/sites") != 0; // that waits for the receiver, within a bound
	struct waited waited = {.since_ms = says ? clock_mono_ms() : 0};
	char url[HTTP_PATH_SIZE + 32];
	char why[CURL_ERROR_SIZE] = "";
	(void)snprintf(url, sizeof(url), "http://localhost%s", path);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); // whatever the environment says
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)answer_timeout_s);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_tick);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &waited);
	if (strcmp(method, "POST") == 0)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body ? body : "");
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	CURLcode rc = curl_easy_perform(curl);
	if (rc == CURLE_ABORTED_BY_CALLBACK)
		return err_set(err, -EINTR, "ended by a signal");
	if (rc == CURLE_OPERATION_TIMEDOUT)
		return err_set(err, -ETIMEDOUT, "no answer from %s within %u %s: see the daemon's log", socket,
			       answer_timeout_s < 120 ? answer_timeout_s : answer_timeout_s / 60, answer_timeout_s < 120 ? "seconds" : "minutes");
	if (rc != CURLE_OK)
		return err_set(err, -EIO, "the daemon at %s did not answer to the end (%s): see its log", socket,
			       why[0] ? why : curl_easy_strerror(rc));
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
	return 0;
}

static int reply_parse(const struct answer *answer, const char *socket, struct http_reply *reply, struct err *err)
{
	json_error_t why;
	reply->body = answer->len ? json_loadb(answer->text, answer->len, 0, &why) : NULL;
	if (!reply->body)
		return err_set(err, -EPROTO, "what answers as %s does not speak the control protocol: is it a Kagami daemon?", socket);
	return 0;
}

static int exchange(const char *run_dir, enum http_daemon daemon, const char *method, const char *path, const char *text, struct answer *answer,
		    long *ret_status, struct err *err)
{
	char socket[SOCKET_PATH_SIZE];
	int rc = http_socket_path(run_dir, daemon, socket, sizeof(socket), err);
	if (!rc)
		rc = http_reach(socket, daemon, err);
	if (rc)
		return rc;
	CURL *curl = curl_easy_init();
	if (!curl)
		rc = err_sys(err, -ENOMEM, "make the request");
	else
		rc = perform(curl, socket, daemon, method, path, text, answer, ret_status, err);
	curl_easy_cleanup(curl);
	return rc;
}

int http_ask(const char *run_dir, enum http_daemon daemon, const char *method, const char *path, json_t *body,
	     struct http_reply *ret_reply, struct err *err)
{
	struct answer answer = {.len = 0};
	struct http_reply reply = {.status = 0};
	AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	bool unsaid = body && !text;
	json_decref(body);
	if (unsaid)
		return err_sys(err, -ENOMEM, "make the request");
	int rc = exchange(run_dir, daemon, method, path, text, &answer, &reply.status, err);
	if (!rc)
		rc = reply_parse(&answer, http_daemon_name(daemon), &reply, err);
	free(answer.text);
	if (!rc)
		*ret_reply = reply;
	return rc;
}

int http_text(const char *run_dir, enum http_daemon daemon, const char *path, char **ret_text, size_t *ret_len, struct err *err)
{
	struct answer answer = {.len = 0};
	long status = 0;
	int rc = exchange(run_dir, daemon, "GET", path, NULL, &answer, &status, err);
	if (!rc && status != 200)
		rc = err_set(err, -ENOENT, "%s answers with status %ld", http_daemon_name(daemon), status);
	if (rc) {
		free(answer.text);
		return rc;
	}
	*ret_text = answer.text;
	*ret_len = answer.len;
	return 0;
}
