// SPDX-License-Identifier: Apache-2.0
#include "link/webhook.h"

#include "base/auto.h"
#include "base/clock.h"
#include "link/private.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct webhook {
	char url[WEBHOOK_URL_MAX + 1];
	struct curl_slist *headers;
};

static int url_read(struct webhook *w, const char *path, struct err *err)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, w->url, WEBHOOK_URL_MAX);
	if (got < 0)
		return err_sys(err, -errno, "--webhook @%s", path);
	w->url[got] = 0;
	w->url[strcspn(w->url, "\r\n")] = 0;
	(void)private_file("the URL of --webhook", path, true); // there may be a secret in it
	return 0;
}

static int url_check(const char *url, struct err *err)
{
	if (strlen(url) <= WEBHOOK_URL_MAX && (strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0))
		return 0;
	return err_set(err, -EINVAL, "--webhook: give a URL that begins with https:// or http://, of at most %d bytes, or @FILE with one", WEBHOOK_URL_MAX);
}

int webhook_check(const char *url, struct err *err)
{
	return url[0] == '@' ? 0 : url_check(url, err);
}

static int url_take(struct webhook *w, const char *url, struct err *err)
{
	if (url[0] == '@') {
		int rc = url_read(w, url + 1, err);
		return rc ? rc : url_check(w->url, err);
	}
	int rc = url_check(url, err);
	if (rc == 0)
		(void)snprintf(w->url, sizeof(w->url), "%s", url);
	return rc;
}

int webhook_new(const char *url, struct webhook **ret_webhook, struct err *err)
{
	struct webhook *w = calloc(1, sizeof(*w));
	if (!w)
		return err_sys(err, -ENOMEM, "--webhook");
	int rc = url_take(w, url, err);
	if (rc == 0) {
		(void)curl_global_init(CURL_GLOBAL_DEFAULT);
		w->headers = curl_slist_append(NULL, "Content-Type: application/json");
		rc = w->headers ? 0 : err_sys(err, -ENOMEM, "--webhook");
	}
	if (rc) {
		webhook_free(w);
		return rc;
	}
	*ret_webhook = w;
	return 0;
}

void webhook_free(struct webhook *w)
{
	if (!w)
		return;
	curl_slist_free_all(w->headers);
	free(w);
}

static size_t drop(char *data, size_t one, size_t count, void *context)
{
	(void)data, (void)context;
	return one * count;
}

static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const _Atomic uint64_t *stop_ns = context;
	(void)a, (void)b, (void)c, (void)d;
	uint64_t stop = stop_ns ? atomic_load(stop_ns) : 0;
	return stop && clock_mono_ns() >= stop;
}

int webhook_post(struct webhook *w, const struct event *event, const _Atomic uint64_t *stop_ns, struct err *err)
{
	long status = 0;
	CURL *curl = curl_easy_init();
	if (!curl)
		return err_sys(err, -ENOMEM, "webhook");
	curl_easy_setopt(curl, CURLOPT_URL, w->url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, w->headers);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "kagami/" KAGAMI_VERSION);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, event->json);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)WEBHOOK_LIMIT_MS);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, (void *)(uintptr_t)stop_ns);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	CURLcode code = curl_easy_perform(curl);
	if (code == CURLE_OK)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	if (code != CURLE_OK)
		return err_set(err, -EIO, "the webhook was not reached: %s", curl_easy_strerror(code));
	if (status < 200 || status > 299)
		return err_set(err, -EREMOTEIO, "the webhook answered with status %ld", status);
	return 0;
}
