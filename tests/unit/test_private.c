// SPDX-License-Identifier: Apache-2.0
// What others may write to or read is told, each once, with what to do; what is a daemon's own is not.
#include "link/private.h"

#include "base/size.h"
#include "link/events.h"
#include "tests/lib/twin.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	struct temp temp;
	struct events *events;
	char path[300];
};

static void begin(struct fixture *f)
{
	struct err err;
	temp_open(&f->temp);
	(void)snprintf(f->path, sizeof(f->path), "%s/file", f->temp.dir);
	int fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && close(fd) == 0);
	assert_int_equal(events_open(env_posix(), f->temp.root, &f->events, &err), 0);
	events_set_default(f->events);
}

static void end(struct fixture *f)
{
	events_set_default(NULL);
	events_close(f->events);
	temp_close(&f->temp);
}

static bool told(struct fixture *f, uint64_t since, const char *text)
{
	json_t *json = events_json(f->events, &(struct event_filter){.since = since, .class = "daemon"}, 0, 0);
	const json_t *event = json_array_get(json_object_get(json, "events"), 0);
	const char *said = json_string_value(json_object_get(event, "text"));
	bool is = said && strstr(said, text) && strcmp(json_string_value(json_object_get(event, "severity")), "warning") == 0;
	json_decref(json);
	return is;
}

static void directory_that_others_may_write_to_is_told(void **state)
{
	(void)state;
	static const struct {
		mode_t mode;
		bool ok;
	} cases[] = {{0700, true}, {0755, true}, {0750, true}, {0777, false}, {01777, false}, {0770, false}, {0702, false}, {0720, false}};
	struct fixture f;
	begin(&f);
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t before = events_newest(f.events);
		assert_int_equal(chmod(f.temp.dir, cases[i].mode), 0);
		assert_int_equal(private_directory("state", f.temp.dir), cases[i].ok);
		assert_int_equal(told(&f, before, "others may write to the state directory /"), !cases[i].ok);
		assert_int_equal(events_newest(f.events) - before, cases[i].ok ? 0 : 1);
	}
	assert_int_equal(chmod(f.temp.dir, 0700), 0);
	assert_true(private_directory("state", "/nowhere/at/all")); // whoever opens it says so
	end(&f);
}

static void secret_that_others_may_read_is_told(void **state)
{
	(void)state;
	static const struct {
		mode_t mode;
		bool own, of_group;
	} cases[] = {{0600, true, true}, {0400, true, true}, {0644, false, false}, {0604, false, false}, {0640, false, true}, {0660, false, false}, {0602, false, false}};
	struct fixture f;
	begin(&f);
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t before = events_newest(f.events);
		assert_int_equal(chmod(f.path, cases[i].mode), 0);
		assert_int_equal(private_file("the key", f.path, false), cases[i].own);
		assert_int_equal(told(&f, before, "others may get at the key in /"), !cases[i].own);
		assert_int_equal(private_file("the token", f.path, true), cases[i].of_group);
	}
	end(&f);
}

static void what_is_another_users_is_told(void **state)
{
	(void)state;
	if (geteuid())
		skip();
	struct fixture f;
	begin(&f);
	assert_int_equal(chown(f.path, 12345, 12345), 0);
	assert_int_equal(chmod(f.path, 0600), 0);
	assert_false(private_file("the key", f.path, false));
	assert_int_equal(chown(f.temp.dir, 12345, 12345), 0);
	assert_false(private_directory("store", f.temp.dir));
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directory_that_others_may_write_to_is_told),
		cmocka_unit_test(secret_that_others_may_read_is_told),
		cmocka_unit_test(what_is_another_users_is_told),
	};
	return cmocka_run_group_tests_name("private", tests, NULL, NULL);
}
