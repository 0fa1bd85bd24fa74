// SPDX-License-Identifier: Apache-2.0
// Who may look at the page, by what its request says, and what the page's listener gives to whom.
#include "link/control_http.h"
#include "link/web.h"
#include "link/web_assets.h"
#include "link/web_guard.h"

#include <curl/curl.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TOKEN "0123456789abcdef-token"

static unsigned done; // by the route that does something

static unsigned give(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	*ret_body = json_pack("{s:s}", "name", request->arg[0] ? request->arg[0] : "");
	return 200;
}

static unsigned act(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	(void)request;
	(void)ret_body;
	done++;
	return 200;
}

static unsigned measure(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	(void)ret_body;
	((struct control_request *)request)->text = strdup("up 1\n");
	((struct control_request *)request)->text_type = "text/plain";
	return 200;
}

static const struct control_route routes[] = {
	{"GET", "/v1/protections/*", give},   {"POST", "/v1/protections/*", act},	       {"GET", "/v1/protections/*/content", give},
	{"GET", "/v1/peers", give},	      {"DELETE", "/v1/protections/*", act},	       {"GET", "/metrics", measure},
};

static size_t drop(char *data, size_t one, size_t count, void *context)
{
	char *text = context;
	(void)snprintf(text, 256, "%.*s", (int)(one * count), data);
	return one * count;
}

static long ask(const char *address, const char *path, const char *method, const char *header, char text[256])
{
	char url[512];
	long status = 0;
	CURL *curl = curl_easy_init();
	struct curl_slist *headers = header ? curl_slist_append(NULL, header) : NULL;
	(void)snprintf(url, sizeof(url), "http://%s%s", address, path);
	text[0] = 0;
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, text);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	assert_int_equal(curl_easy_perform(curl), CURLE_OK);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	return status;
}

static void start(const struct web_config *config, struct web **web)
{
	struct err err = {0};
	int rc = web_start(config, routes, sizeof(routes) / sizeof(routes[0]), NULL, web, &err);
	if (rc)
		fail_msg("%s", err.text);
}

static void host_is_a_loopback_name_or_nothing(void **state)
{
	(void)state;
	static const char *const good[] = {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:443"};
	static const char *const bad[] = {"", "localhost.evil.example", "evil.example", "127.0.0.1.evil.example", "128.0.0.1", "[::2]", "[::1", "[::1]x", "localhost:80x",
					  "127.0.0.1@evil", " localhost", "::1", "[127.0.0.1]", "0.0.0.0"};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(web_host_is_loopback(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (web_host_is_loopback(bad[i]))
			fail_msg("\"%s\" is taken for a loopback name", bad[i]);
}

static void token_and_cookie_are_taken_whole(void **state)
{
	(void)state;
	assert_true(web_bearer_is("Bearer " TOKEN, TOKEN));
	assert_true(web_bearer_is("bearer " TOKEN, TOKEN));
	assert_false(web_bearer_is("Bearer " TOKEN "x", TOKEN));
	assert_false(web_bearer_is("Bearer 0123", TOKEN));
	assert_false(web_bearer_is("Basic " TOKEN, TOKEN));
	assert_false(web_bearer_is("Bearer ", ""));
	assert_true(web_cookie_is("a=1; kagami=xyz; b=2", "kagami", "xyz"));
	assert_true(web_cookie_is("kagami=xyz", "kagami", "xyz"));
	assert_false(web_cookie_is("kagami=xyzz", "kagami", "xyz"));
	assert_false(web_cookie_is("notkagami=xyz", "kagami", "xyz"));
	assert_false(web_cookie_is("kagami=", "kagami", ""));
}

static void page_shows_what_is_listed_and_does_nothing(void **state)
{
	(void)state;
	struct web *web;
	char text[256];
	start(&(struct web_config){.web = "127.0.0.1:0"}, &web);
	const char *at = web_address(web);
	assert_int_equal(ask(at, "/v1/protections/vm1", "GET", NULL, text), 200);
	assert_non_null(strstr(text, "vm1"));
	assert_int_equal(ask(at, "/", "GET", NULL, text), 200);
	assert_int_equal(ask(at, "/metrics", "GET", NULL, text), 200);
	assert_string_equal(text, "up 1\n");
	assert_int_equal(ask(at, "/v1/peers", "GET", NULL, text), 404);
	assert_int_equal(ask(at, "/v1/protections/vm1/content", "GET", NULL, text), 404);
	assert_int_equal(ask(at, "/v1/protections/vm1%2fcontent", "GET", NULL, text), 404);
	static const char *const methods[] = {"POST", "DELETE", "PUT", "OPTIONS", "PATCH"};
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		assert_int_equal(ask(at, "/v1/protections/vm1", methods[i], NULL, text), 405);
	assert_int_equal(done, 0);
	assert_int_equal(ask(at, "/v1/protections/vm1", "GET", "Host: evil.example", text), 421);
	assert_int_equal(ask(at, "/", "GET", "Host: evil.example", text), 421);
	web_stop(web);
}

static void page_with_a_token_is_for_who_knows_it(void **state)
{
	(void)state;
	struct web *web;
	char text[256], file[] = "/tmp/test_web.XXXXXX";
	int fd = mkstemp(file);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, TOKEN "\n", strlen(TOKEN) + 1), strlen(TOKEN) + 1);
	(void)close(fd);
	start(&(struct web_config){.web = "127.0.0.1:0", .token_file = file}, &web);
	const char *at = web_address(web);
	assert_int_equal(ask(at, "/", "GET", "Host: name.example", text), 200); // the form is for all, by any name
	assert_int_equal(ask(at, "/v1/protections/vm1", "GET", NULL, text), 401);
	assert_int_equal(ask(at, "/metrics", "GET", NULL, text), 401);
	assert_int_equal(ask(at, "/login", "GET", "Authorization: Bearer wrong", text), 401);
	assert_int_equal(ask(at, "/v1/protections/vm1", "GET", "Authorization: Bearer " TOKEN, text), 200);
	assert_int_equal(ask(at, "/v1/protections/vm1", "GET", "Cookie: kagami=" TOKEN, text), 401);
	assert_int_equal(ask(at, "/login", "GET", "Authorization: Bearer " TOKEN, text), 200);
	web_stop(web);
	(void)unlink(file);
}

static void metrics_alone_are_nothing_but_metrics(void **state)
{
	(void)state;
	struct web *web;
	struct err err = {0};
	start(&(struct web_config){.web = NULL}, &web);
	assert_null(web); // nothing was asked for
	assert_int_equal(web_start(&(struct web_config){.web = "0.0.0.0:0"}, routes, 1, NULL, &web, &err), -EINVAL);
	assert_null(web);
	assert_int_equal(web_start(&(struct web_config){.web = "127.0.0.1:0", .token_file = "/nowhere/token"}, routes, 1, NULL, &web, &err), -ENOENT);
	start(&(struct web_config){.metrics = "0.0.0.0:0"}, &web); // scraped from elsewhere
	web_stop(web);
}

static void assets_are_the_files(void **state)
{
	(void)state;
	struct web_asset asset;
	assert_true(web_asset_find("/", &asset));
	assert_true(asset.len > 1000 && memcmp(asset.bytes, "<!doctype html>", 15) == 0);
	assert_true(web_asset_find("/kagami.js", &asset) && web_asset_find("/kagami.css", &asset) && web_asset_find("/kagami.svg", &asset));
	assert_false(web_asset_find("/index.html", &asset));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_is_a_loopback_name_or_nothing),
		cmocka_unit_test(token_and_cookie_are_taken_whole),
		cmocka_unit_test(page_shows_what_is_listed_and_does_nothing),
		cmocka_unit_test(page_with_a_token_is_for_who_knows_it),
		cmocka_unit_test(metrics_alone_are_nothing_but_metrics),
		cmocka_unit_test(assets_are_the_files),
	};
	return cmocka_run_group_tests_name("web", tests, NULL, NULL);
}
