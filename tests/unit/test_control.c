// SPDX-License-Identifier: Apache-2.0
// The control server, asked by libcurl over its socket in a run directory of the test's own.
#include "base/names.h"
#include "link/control.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SOCKET_NAME "test.sock"

struct world {
	char dir[80];
	char run[96];
	char path[160];
	struct control *control;
	int slow_read;	// the handler of /v1/slow waits until this can be read
	int slow_begun; // and says here that it runs
	bool slow_done;
	unsigned streams_done;
};

static unsigned handle_things(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	const char *which = request->query(request, "which");
	*ret_body = json_pack("{s:s}", "which", which ? which : "all");
	return 200;
}

static unsigned handle_part(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	*ret_body = json_pack("{s:s, s:s}", "thing", request->arg[0], "part", request->arg[1]);
	return 200;
}

static unsigned handle_create(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	const char *name = NULL;
	const char *note = "none";
	uint64_t size = 7;
	bool quick = false;
	json_t *parts = NULL;
	struct err err;
	const struct control_member members[] = {
		{"name", true, .text = &name, .is_name = true}, {"note", .text = &note, .most = 10},
		{"size", .number = &size, .least = 1, .most = 100},	{"quick", .flag = &quick},
		{"parts", .array = &parts, .least = 1, .most = 2},
	};
	if (control_read(request->body, members, sizeof(members) / sizeof(members[0]), &err))
		return control_fail(ret_body, err.code, err.text);
	*ret_body = json_pack("{s:s, s:s, s:I, s:b, s:i}", "name", name, "note", note, "size", (json_int_t)size, "quick",
			      quick, "parts", parts ? (int)json_array_size(parts) : -1);
	return 201;
}

static unsigned handle_fail(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	return control_fail(ret_body, -atoi(request->arg[0]), "as asked");
}

static unsigned handle_silent(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	(void)request;
	(void)ret_body;
	return 200;
}

static unsigned handle_slow(void *context, const struct control_request *request, json_t **ret_body)
{
	struct world *world = context;
	(void)request;
	(void)ret_body;
	char byte = 1;
	assert_int_equal(write(world->slow_begun, &byte, 1), 1);
	assert_int_equal(read(world->slow_read, &byte, 1), 1);
	world->slow_done = true;
	return 200;
}

struct streamed {
	struct world *world;
	size_t sent, total; // bytes of 'x'
	int end;	    // what is returned then
};

static ssize_t stream_read(void *context, char *buf, size_t cap)
{
	struct streamed *s = context;
	size_t part = s->total - s->sent < cap ? s->total - s->sent : cap;
	if (part == 0)
		return s->end;
	memset(buf, 'x', part);
	s->sent += part;
	return (ssize_t)part;
}

static void stream_done(void *context)
{
	struct streamed *s = context;
	(void)__atomic_add_fetch(&s->world->streams_done, 1, __ATOMIC_SEQ_CST);
	free(s);
}

// /v1/stream/N: N bytes, and an error at their end when N is odd.
static unsigned handle_stream(void *context, const struct control_request *request, json_t **ret_body)
{
	struct streamed *s = calloc(1, sizeof(*s));
	(void)ret_body;
	assert_non_null(s);
	s->world = context;
	s->total = strtoull(request->arg[0], NULL, 10);
	s->end = s->total % 2 ? -EIO : 0;
	*request->stream = (struct control_stream){.read = stream_read, .done = stream_done, .context = s};
	return 200;
}

static const struct control_route routes[] = {
	{"GET", "/v1/stream/*", handle_stream},
	{"GET", "/v1/things", handle_things},	   {"POST", "/v1/things", handle_create},
	{"GET", "/v1/things/*/parts/*", handle_part}, {"POST", "/v1/fail/*", handle_fail},
	{"DELETE", "/v1/silent", handle_silent},   {"POST", "/v1/slow", handle_slow},
};
enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	const char *tmp = getenv("TMPDIR");
	assert_non_null(world);
	(void)snprintf(world->dir, sizeof(world->dir), "%.60s/kagami-ctl.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(world->dir));
	(void)snprintf(world->run, sizeof(world->run), "%s/run", world->dir);
	(void)snprintf(world->path, sizeof(world->path), "%s/%s", world->run, SOCKET_NAME);
	struct err err = {0};
	if (control_start(world->run, SOCKET_NAME, routes, ROUTES, world, &world->control, &err))
		fail_msg("%s", err.text);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	control_stop(world->control);
	(void)unlink(world->path);
	(void)rmdir(world->run);
	(void)rmdir(world->dir);
	free(world);
	return 0;
}

struct reply {
	long status; // 0: no answer
	json_t *body;
	char text[65536];
	size_t len;
};

static size_t on_data(char *data, size_t one, size_t len, void *context)
{
	struct reply *reply = context;
	if (len > sizeof(reply->text) - reply->len)
		return 0;
	memcpy(reply->text + reply->len, data, len);
	reply->len += len;
	return one * len;
}

static void ask_sized(struct world *world, const char *method, const char *path, const char *body, size_t len,
		      struct curl_slist *headers, struct reply *ret_reply)
{
	char url[1200];
	CURL *curl = curl_easy_init();
	assert_non_null(curl);
	memset(ret_reply, 0, sizeof(*ret_reply));
	(void)snprintf(url, sizeof(url), "http://localhost%s", path);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, world->path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	if (body) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, ret_reply);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	if (curl_easy_perform(curl) == CURLE_OK)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret_reply->status);
	ret_reply->body = json_loadb(ret_reply->text, ret_reply->len, 0, NULL);
	curl_easy_cleanup(curl);
}

static struct reply ask(struct world *world, const char *method, const char *path, const char *body)
{
	struct reply reply;
	ask_sized(world, method, path, body, body ? strlen(body) : 0, NULL, &reply);
	return reply;
}

static const char *member(const struct reply *reply, const char *name)
{
	const char *text = json_string_value(json_object_get(reply->body, name));
	return text ? text : "(none)";
}

static const char *message_of(const struct reply *reply)
{
	const char *text = json_string_value(json_object_get(json_object_get(reply->body, "error"), "message"));
	return text ? text : "(none)";
}

// Asks, expects a status and a part of the error's text.
static void expect_failure(struct world *world, const char *method, const char *path, const char *body, long status,
			   const char *part)
{
	struct reply reply = ask(world, method, path, body);
	assert_int_equal(reply.status, status);
	if (!strstr(message_of(&reply), part))
		fail_msg("\"%s\" is not in: %s", part, message_of(&reply));
	json_decref(reply.body);
}

static void control_routes_by_path_and_gives_what_stars_matched(void **state)
{
	struct reply reply = ask(*state, "GET", "/v1/things/vm1/parts/disk%2dA", NULL);
	assert_int_equal(reply.status, 200);
	assert_string_equal(member(&reply, "thing"), "vm1");
	assert_string_equal(member(&reply, "part"), "disk-A");
	json_decref(reply.body);

	reply = ask(*state, "GET", "/v1/things?which=some%20of%2Fthem", NULL);
	assert_int_equal(reply.status, 200);
	assert_string_equal(member(&reply, "which"), "some of/them");
	json_decref(reply.body);

	reply = ask(*state, "DELETE", "/v1/silent", NULL);
	assert_int_equal(reply.status, 200);
	assert_true(json_is_object(reply.body));
	json_decref(reply.body);
}

static void wait_streams_done(const struct world *world, unsigned wanted)
{
	for (unsigned i = 0; i < 1000 && __atomic_load_n(&world->streams_done, __ATOMIC_SEQ_CST) != wanted; i++)
		(void)usleep(10000);
	assert_int_equal(__atomic_load_n(&world->streams_done, __ATOMIC_SEQ_CST), wanted);
}

static void control_sends_a_stream_to_its_end_and_is_done_with_it_once(void **state)
{
	struct world *world = *state;
	static const char *const paths[] = {"/v1/stream/0", "/v1/stream/2", "/v1/stream/60000"};
	static const size_t lens[] = {0, 2, 60000};
	for (unsigned i = 0; i < 3; i++) {
		struct reply reply = ask(world, "GET", paths[i], NULL);
		assert_int_equal(reply.status, 200);
		assert_int_equal(reply.len, lens[i]);
		for (size_t k = 0; k < reply.len; k++)
			assert_int_equal(reply.text[k], 'x');
		wait_streams_done(world, i + 1);
	}
}

static void control_breaks_a_stream_off_that_failed(void **state)
{
	struct reply reply = ask(*state, "GET", "/v1/stream/50001", NULL);
	assert_int_equal(reply.status, 0); // it did not end as HTTP wants
	wait_streams_done(*state, 1);
}

static void control_is_done_with_a_stream_whose_caller_went_away(void **state)
{
	struct reply reply = ask(*state, "GET", "/v1/stream/8000000000", NULL); // takes 64 KiB of it
	assert_int_equal(reply.status, 0);
	wait_streams_done(*state, 1);
}

static void control_answers_404_to_a_path_without_a_route(void **state)
{
	static const char *const paths[] = {"/", "/v1", "/v1/thing", "/v1/things/", "/v1/things/a/parts", "/v1/things//parts/a",
					    "/v1/things/a/parts/b/c", "/v1/things/a%2Fparts/b/c", "/1/2/3/4/5/6/7/8/9/10"};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		expect_failure(*state, "GET", paths[i], NULL, 404, "there is no ");
	char longest[1000] = "/v1/things/";
	memset(longest + strlen(longest), 'a', 900);
	expect_failure(*state, "GET", longest, NULL, 404, "there is no ");
}

static void control_keeps_an_escaped_nul_from_ending_a_name(void **state)
{
	struct reply reply = ask(*state, "GET", "/v1/things/vm1%00x/parts/%zz%4", NULL);
	assert_int_equal(reply.status, 200);
	assert_string_equal(member(&reply, "thing"), "vm1%00x");
	assert_string_equal(member(&reply, "part"), "%zz%4");
	json_decref(reply.body);
}

static void control_answers_405_to_a_method_that_a_path_does_not_have(void **state)
{
	expect_failure(*state, "DELETE", "/v1/things", NULL, 405, "DELETE is not a method of /v1/things");
	expect_failure(*state, "PUT", "/v1/fail/1", "{}", 405, "PUT is not a method");
}

static void control_reads_a_body_by_its_table(void **state)
{
	struct reply reply =
		ask(*state, "POST", "/v1/things", "{\"name\":\"a.b\",\"size\":100,\"quick\":true,\"note\":null,\"parts\":[1]}");
	assert_int_equal(reply.status, 201);
	assert_string_equal(member(&reply, "name"), "a.b");
	assert_string_equal(member(&reply, "note"), "none");
	assert_int_equal(json_integer_value(json_object_get(reply.body, "size")), 100);
	assert_true(json_is_true(json_object_get(reply.body, "quick")));
	assert_int_equal(json_integer_value(json_object_get(reply.body, "parts")), 1);
	json_decref(reply.body);
}

static void control_refuses_a_body_that_breaks_its_table_and_names_the_member(void **state)
{
	static const char *const cases[][2] = {
		{"{}", "\"name\" is missing"},
		{"{\"name\":null}", "\"name\" is missing"},
		{"{\"name\":\"a\",\"sise\":1}", "\"sise\" is not a member"},
		{"{\"name\":7}", "\"name\" must be a string"},
		{"{\"name\":\"../a\"}", "is not allowed"},
		{"{\"name\":\"a\",\"note\":\"12345678901\"}", "\"note\" must be 0 to 10 bytes long, not 11"},
		{"{\"name\":\"a\",\"size\":0}", "\"size\" must be 1 to 100, not 0"},
		{"{\"name\":\"a\",\"size\":101}", "\"size\" must be 1 to 100, not 101"},
		{"{\"name\":\"a\",\"size\":-1}", "\"size\" must be an integer"},
		{"{\"name\":\"a\",\"size\":1.5}", "\"size\" must be an integer"},
		{"{\"name\":\"a\",\"size\":\"5\"}", "\"size\" must be an integer"},
		{"{\"name\":\"a\",\"quick\":1}", "\"quick\" must be true or false"},
		{"{\"name\":\"a\",\"parts\":{}}", "\"parts\" must be an array"},
		{"{\"name\":\"a\",\"parts\":[]}", "\"parts\" must be 1 to 2 elements, not 0"},
		{"{\"name\":\"a\",\"parts\":[1,2,3]}", "\"parts\" must be 1 to 2 elements, not 3"},
		{"{\"name\":\"a\",\"name\":\"b\"}", "the body is not JSON"}, // which of the two was meant?
		{"{\"name\":\"a\\u0000b\"}", "the body is not JSON"},
		{"{\"name\":", "the body is not JSON: line 1"},
		{"{\"name\":\"a\"} x", "the body is not JSON"},
		{"\xff\xfe", "the body is not JSON"},
		{"[1]", "must be a JSON object"},
		{"7", "the body is not JSON"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_failure(*state, "POST", "/v1/things", cases[i][0], 400, cases[i][1]);
	expect_failure(*state, "GET", "/v1/things", "{\"which\":\"a\"}", 400, "a GET takes no body");
}

static void control_refuses_a_body_past_the_bound_and_takes_one_at_it(void **state)
{
	static char body[CONTROL_BODY_MAX + 2];
	struct reply reply;
	memset(body, ' ', sizeof(body));
	memcpy(body, "{\"name\":\"a\"}", 12);
	ask_sized(*state, "POST", "/v1/things", body, CONTROL_BODY_MAX, NULL, &reply);
	assert_int_equal(reply.status, 201);
	json_decref(reply.body);
	ask_sized(*state, "POST", "/v1/things", body, CONTROL_BODY_MAX + 1, NULL, &reply);
	assert_int_equal(reply.status, 413);
	json_decref(reply.body);
	// The same without a length in front.
	struct curl_slist *chunked = curl_slist_append(NULL, "Transfer-Encoding: chunked");
	ask_sized(*state, "POST", "/v1/things", body, CONTROL_BODY_MAX + 1, chunked, &reply);
	assert_int_equal(reply.status, 413);
	assert_non_null(strstr(message_of(&reply), "longer than 1048576 bytes"));
	json_decref(reply.body);
	curl_slist_free_all(chunked);
}

static void control_maps_each_error_to_its_status(void **state)
{
	static const struct {
		int code;
		long status;
		const char *name;
	} cases[] = {
		{EINVAL, 400, "EINVAL"},	 {EBADMSG, 400, "EBADMSG"},	  {ENAMETOOLONG, 400, "ENAMETOOLONG"},
		{EPERM, 403, "EPERM"},		 {EACCES, 403, "EACCES"},	  {ENOENT, 404, "ENOENT"},
		{EEXIST, 409, "EEXIST"},	 {EBUSY, 409, "EBUSY"},		  {EALREADY, 409, "EALREADY"},
		{ESTALE, 409, "ESTALE"},	 {ENOTCONN, 503, "ENOTCONN"},	  {ECONNREFUSED, 503, "ECONNREFUSED"},
		{ETIMEDOUT, 503, "ETIMEDOUT"},	 {EHOSTUNREACH, 503, "EHOSTUNREACH"}, {ENOSPC, 507, "ENOSPC"},
		{EIO, 500, "EIO"},		 {ENOMEM, 500, "ENOMEM"},	  {99999, 500, "EIO"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char path[40];
		(void)snprintf(path, sizeof(path), "/v1/fail/%d", cases[i].code);
		struct reply reply = ask(*state, "POST", path, NULL);
		assert_int_equal(reply.status, cases[i].status);
		json_t *error = json_object_get(reply.body, "error");
		assert_string_equal(json_string_value(json_object_get(error, "code")), cases[i].name);
		assert_string_equal(message_of(&reply), "as asked");
		json_decref(reply.body);
	}
}

static void control_fails_with_text_that_is_not_utf8(void **state)
{
	(void)state;
	json_t *body = NULL;
	assert_int_equal(control_fail(&body, -ENOENT, "/images/\xff.raw"), 404);
	assert_non_null(json_string_value(json_object_get(json_object_get(body, "error"), "message")));
	json_decref(body);
}

static void control_socket_is_for_its_owner_only(void **state)
{
	struct world *world = *state;
	struct stat st;
	assert_int_equal(stat(world->run, &st), 0);
	assert_int_equal(st.st_mode & 07777 & ~0750u, 0);
	assert_int_equal(stat(world->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777 & ~0600u, 0);
}

// Even when somebody opened the modes, who asks is checked.
static void control_refuses_another_user(void **state)
{
	struct world *world = *state;
	if (geteuid() != 0)
		skip(); // only root can be somebody else
	assert_int_equal(chmod(world->dir, 0755) | chmod(world->run, 0755) | chmod(world->path, 0666), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setuid(65534))
			_exit(2);
		struct reply reply = ask(world, "GET", "/v1/things", NULL);
		_exit(reply.status == 403 && strstr(message_of(&reply), "sudo") ? 0 : 1);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void control_start_is_refused_where_a_daemon_answers(void **state)
{
	struct world *world = *state;
	struct control *second = NULL;
	struct err err = {0};
	assert_int_equal(control_start(world->run, SOCKET_NAME, routes, ROUTES, world, &second, &err), -EADDRINUSE);
	assert_null(second);
	assert_non_null(strstr(err.text, "already answers"));
	struct reply reply = ask(world, "GET", "/v1/things", NULL); // the first is as it was
	assert_int_equal(reply.status, 200);
	json_decref(reply.body);
}

static void control_start_replaces_the_socket_of_a_dead_daemon(void **state)
{
	struct world *world = *state;
	control_stop(world->control);
	world->control = NULL;
	assert_int_equal(access(world->path, F_OK), -1); // a clean stop leaves nothing

	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.107s", world->path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(close(fd), 0); // what a kill leaves behind
	struct err err = {0};
	assert_int_equal(control_start(world->run, SOCKET_NAME, routes, ROUTES, world, &world->control, &err), 0);
	struct reply reply = ask(world, "GET", "/v1/things", NULL);
	assert_int_equal(reply.status, 200);
	json_decref(reply.body);
}

static void control_start_touches_no_file_that_is_not_a_socket(void **state)
{
	struct world *world = *state;
	control_stop(world->control);
	world->control = NULL;
	FILE *file = fopen(world->path, "w");
	assert_non_null(file);
	assert_int_equal(fclose(file), 0);
	struct err err = {0};
	assert_int_equal(control_start(world->run, SOCKET_NAME, routes, ROUTES, world, &world->control, &err), -EEXIST);
	assert_non_null(strstr(err.text, "not a socket"));
	assert_int_equal(access(world->path, F_OK), 0);
}

static void control_start_says_why_a_run_directory_will_not_do(void **state)
{
	struct world *world = *state;
	struct control *second = NULL;
	struct err err = {0};
	char path[300];
	(void)snprintf(path, sizeof(path), "%s/missing/run", world->dir);
	assert_int_equal(control_start(path, SOCKET_NAME, routes, ROUTES, world, &second, &err), -ENOENT);
	assert_non_null(strstr(err.text, "--run-dir"));
	assert_int_equal(control_start(world->path, SOCKET_NAME, routes, ROUTES, world, &second, &err), -ENOTDIR);
	memset(path, 'a', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(control_start(path, SOCKET_NAME, routes, ROUTES, world, &second, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.text, "shorter"));
}

static void *ask_slow(void *context)
{
	struct reply *reply = calloc(1, sizeof(*reply));
	assert_non_null(reply);
	ask_sized(context, "POST", "/v1/slow", NULL, 0, NULL, reply);
	return reply;
}

struct stopper {
	struct control *control;
	int done;
};

static void *stop_now(void *context)
{
	struct stopper *stopper = context;
	control_stop(stopper->control);
	char byte = 1;
	assert_int_equal(write(stopper->done, &byte, 1), 1);
	return NULL;
}

// A handler that blocks holds up neither other requests nor, once it ends, a stop; and a stop waits for it.
static void control_serves_others_and_waits_in_stop_while_a_handler_blocks(void **state)
{
	struct world *world = *state;
	int go[2], begun[2], done[2];
	char byte = 1;
	assert_int_equal(pipe(go) | pipe(begun) | pipe(done), 0);
	world->slow_read = go[0];
	world->slow_begun = begun[1];
	pthread_t asker, stopping;
	assert_int_equal(pthread_create(&asker, NULL, ask_slow, world), 0);
	assert_int_equal(read(begun[0], &byte, 1), 1);
	struct reply other = ask(world, "GET", "/v1/things", NULL);
	assert_int_equal(other.status, 200);
	json_decref(other.body);

	struct stopper stopper = {world->control, done[1]};
	assert_int_equal(pthread_create(&stopping, NULL, stop_now, &stopper), 0);
	assert_false(world->slow_done);
	assert_int_equal(write(go[1], &byte, 1), 1);
	assert_int_equal(read(done[0], &byte, 1), 1);
	assert_true(world->slow_done);
	world->control = NULL;

	struct reply *reply = NULL;
	assert_int_equal(pthread_join(stopping, NULL), 0);
	assert_int_equal(pthread_join(asker, (void **)&reply), 0);
	json_decref(reply->body);
	free(reply);
	for (int i = 0; i < 2; i++)
		assert_int_equal(close(go[i]) | close(begun[i]) | close(done[i]), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(control_routes_by_path_and_gives_what_stars_matched),
		TEST(control_sends_a_stream_to_its_end_and_is_done_with_it_once),
		TEST(control_breaks_a_stream_off_that_failed),
		TEST(control_is_done_with_a_stream_whose_caller_went_away),
		TEST(control_answers_404_to_a_path_without_a_route),
		TEST(control_keeps_an_escaped_nul_from_ending_a_name),
		TEST(control_answers_405_to_a_method_that_a_path_does_not_have),
		TEST(control_reads_a_body_by_its_table),
		TEST(control_refuses_a_body_that_breaks_its_table_and_names_the_member),
		TEST(control_refuses_a_body_past_the_bound_and_takes_one_at_it),
		TEST(control_maps_each_error_to_its_status),
		TEST(control_fails_with_text_that_is_not_utf8),
		TEST(control_socket_is_for_its_owner_only),
		TEST(control_refuses_another_user),
		TEST(control_start_is_refused_where_a_daemon_answers),
		TEST(control_start_replaces_the_socket_of_a_dead_daemon),
		TEST(control_start_touches_no_file_that_is_not_a_socket),
		TEST(control_start_says_why_a_run_directory_will_not_do),
		TEST(control_serves_others_and_waits_in_stop_while_a_handler_blocks),
	};
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	int failed = cmocka_run_group_tests_name("control", tests, NULL, NULL);
	curl_global_cleanup();
	return failed;
}
