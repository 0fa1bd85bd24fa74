// SPDX-License-Identifier: Apache-2.0
// A stream from a daemon, by libcurl: as long as it takes, and given up when nothing comes for ten minutes.
#include "tools/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SILENCE_S = 600, BUFFER_SIZE = 256 << 10, ERROR_MAX = 64 << 10, SOCKET_PATH_MAX = 256 };

struct transfer {
	CURL *curl;
	struct stream_reader reader;
	stream_take *take;
	void *context;
	const volatile sig_atomic_t *stop;
	int rc; // why we ended it
	struct err *err;
	char *error; // an answer that is no stream
	size_t error_len;
};

static size_t keep_error(struct transfer *t, const char *data, size_t len)
{
	char *more = len <= ERROR_MAX - t->error_len ? realloc(t->error, t->error_len + len) : NULL;
	if (!more)
		return 0;
	memcpy(more + t->error_len, data, len);
	t->error = more;
	t->error_len += len;
	return len;
}

static size_t on_data(char *data, size_t one, size_t count, void *context)
{
	struct transfer *t = context;
	long status = 0;
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
		return keep_error(t, data, one * count);
	t->rc = stream_reader_feed(&t->reader, data, one * count, t->take, t->context, t->err);
	return t->rc ? 0 : one * count;
}

static int on_tick(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct transfer *t = context;
	(void)a, (void)b, (void)c, (void)d;
	return *t->stop != 0;
}

static CURLcode perform(struct transfer *t, const char *socket, const char *path, char *why)
{
	char url[HTTP_PATH_SIZE + 32];
	(void)snprintf(url, sizeof(url), "http://localhost%s", path);
	curl_easy_setopt(t->curl, CURLOPT_UNIX_SOCKET_PATH, socket);
	curl_easy_setopt(t->curl, CURLOPT_URL, url);
	curl_easy_setopt(t->curl, CURLOPT_PROXY, ""); // whatever the environment says
	curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->curl, CURLOPT_PATH_AS_IS, 1L); // a guest's path may hold ".."
	curl_easy_setopt(t->curl, CURLOPT_BUFFERSIZE, (long)BUFFER_SIZE);
	curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
	curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_tick);
	curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
	return curl_easy_perform(t->curl);
}

// What became of it.
static int conclude(const struct transfer *t, CURLcode code, const char *why, struct http_reply *reply, struct err *err)
{
	if (t->rc)
		return t->rc;
	if (*t->stop)
		return err_set(err, -EINTR, "ended by a signal");
	if (t->error_len) {
		curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &reply->status);
		reply->body = json_loadb(t->error, t->error_len, 0, NULL);
		return reply->body ? 0 : err_set(err, -EPROTO, "what answers does not speak the control protocol: is it a Kagami daemon?");
	}
	if (code == CURLE_OPERATION_TIMEDOUT)
		return err_set(err, -ETIMEDOUT, "nothing came from the daemon for %d minutes: see its log", SILENCE_S / 60);
	if (code != CURLE_OK || !stream_reader_ended(&t->reader))
		return err_set(err, -EPIPE, "the stream broke off (%s): did the daemon end? see its log", why[0] ? why : "it has no end");
	return 0;
}

int http_stream(const char *run_dir, enum http_daemon daemon, const char *path, stream_take *take, void *context,
		const volatile sig_atomic_t *stop, struct http_reply *ret_reply, struct err *err)
{
	char socket[SOCKET_PATH_MAX], why[CURL_ERROR_SIZE] = "";
	struct http_reply reply = {.status = 0};
	struct transfer t = {.take = take, .context = context, .stop = stop, .err = err};
	int rc = http_socket_path(run_dir, daemon, socket, sizeof(socket), err);
	if (rc == 0)
		rc = http_reach(socket, daemon, err);
	if (rc)
		return rc;
	stream_reader_init(&t.reader);
	t.curl = curl_easy_init();
	if (!t.curl)
		return err_sys(err, -ENOMEM, "make the request");
	CURLcode code = perform(&t, socket, path, why);
	rc = conclude(&t, code, why, &reply, err);
	curl_easy_cleanup(t.curl);
	stream_reader_done(&t.reader);
	free(t.error);
	if (rc == 0)
		*ret_reply = reply;
	return rc;
}
