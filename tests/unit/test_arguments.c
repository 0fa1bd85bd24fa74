// SPDX-License-Identifier: Apache-2.0
// What the command line is looked at for before anything is asked, and what a terminal is not shown.
#include "base/size.h"
#include "tools/arguments.h"
#include "tools/output.h"
#include "tools/plain.h"
#include "tools/said.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct cli_command pin = {.name = "pin", .usage = "NAME@POINT [TEXT]"};
static const struct cli_command export = {.name = "export", .usage = "NAME[@POINT] OUT [--disk DISK]"};
static const struct cli_command protect = {.name = "protect", .usage = "NAME DISK=PATH ... --to SITE"};
static const struct cli_command choice = {.name = "test", .usage = "start NAME\nlist"};

static const char *wrong(const struct cli_command *command, const char *first, const char *second)
{
	static struct err err;
	char *argv[] = {(char *)first, (char *)second};
	struct cli cli = {.command = command, .argc = second ? 2 : 1, .argv = argv};
	err = (struct err){.code = 0};
	int rc = arguments_check(&cli, &err);
	assert_int_equal(rc, rc ? -EINVAL : 0);
	return rc ? err.text : "";
}

static void argument_that_is_not_utf8_is_refused_by_its_name(void **state)
{
	(void)state;
	assert_string_equal(wrong(&pin, "vm1@2", "bad\xff"), "TEXT: \"bad\xff\" is not UTF-8");
	assert_string_equal(wrong(&pin, "vm\xc3", "x"), "NAME@POINT: \"vm\xc3\" is not UTF-8");
	assert_string_equal(wrong(&choice, "start", "vm\xc3"), "\"vm\xc3\" is not UTF-8");
	assert_string_equal(wrong(&pin, "vm1@2", "\xc3\xbcn\xc3\xaf"), "");
	struct err err;
	assert_int_equal(arguments_check_option("keep", "\xff", false, &err), -EINVAL);
	assert_string_equal(err.text, "--keep: \"\xff\" is not UTF-8");
	assert_int_equal(arguments_check_option("run-dir", "/\xff", true, &err), 0);
	assert_int_equal(arguments_check_option("keep", "15m:24", false, &err), 0);
}

static void path_that_stays_here_may_have_any_bytes(void **state)
{
	(void)state;
	assert_string_equal(wrong(&export, "vm1", "/x/b\xe9.raw"), "");
	assert_string_equal(wrong(&export, "vm\xe9", "/x"), "NAME[@POINT]: \"vm\xe9\" is not UTF-8");
	assert_string_equal(wrong(&protect, "vm1", "vda=/x/b\xe9.raw"), "");
	char *argv[80] = {"vm1"};
	struct cli cli = {.command = &protect, .argc = COUNT(argv), .argv = argv};
	struct err err;
	for (size_t i = 1; i < COUNT(argv); i++)
		argv[i] = "d=\xe9";
	assert_int_equal(arguments_check(&cli, &err), 0);
}

static void empty_argument_is_refused_by_its_name(void **state)
{
	(void)state;
	struct err err;
	assert_string_equal(wrong(&export, "vm1", ""), "OUT is empty");
	assert_string_equal(wrong(&export, "", "x"), "NAME[@POINT] is empty");
	assert_string_equal(wrong(&choice, "", NULL), "its first argument is empty");
	assert_string_equal(wrong(&choice, "start", ""), "what is behind \"start\" is empty");
	assert_string_equal(wrong(&pin, "vm1@2", ""), "");
	assert_int_equal(arguments_check_option("keep", "", false, &err), -EINVAL);
	assert_string_equal(err.text, "--keep is empty");
	assert_int_equal(arguments_check_option("run-dir", "", true, &err), -EINVAL);
}

static void arguments_are_called_what_the_usage_line_calls_them(void **state)
{
	(void)state;
	static const struct {
		const struct cli_command *command;
		int i;
		const char *name;
	} of[] = {{&pin, 0, "NAME@POINT"}, {&pin, 1, "TEXT"}, {&pin, 2, ""}, {&export, 0, "NAME[@POINT]"}, {&export, 1, "OUT"}, {&export, 2, ""}, {&choice, 0, ""},
		  {&protect, 1, "DISK=PATH"}};
	char name[64];
	for (size_t i = 0; i < COUNT(of); i++) {
		arguments_name(of[i].command, of[i].i, name, sizeof(name));
		assert_string_equal(name, of[i].name);
	}
}

static void text_is_utf8_as_the_standard_has_it(void **state)
{
	(void)state;
	static const char *const good[] = {"", "a\n", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
	static const char *const bad[] = {"\x80", "\xff", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3z", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82", "\xf0\x8f\xbf\xbf",
					  "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf0\x90\x80"};
	for (size_t i = 0; i < COUNT(good); i++)
		assert_true(plain_is_utf8(good[i]));
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(plain_is_utf8(bad[i]));
}

static void what_would_drive_or_deceive_a_terminal_is_not_shown(void **state)
{
	(void)state;
	char text[] = "a\033[2J\n\x7f\xc2\x9b" "b\xff\xe2\x80\xae" "c\xe2\x81\xa6" "d\xe2\x80\xa8" "e\xd8\x9c" "f\xc3\xa9\xe9\x8f\xa1";
	assert_true(plain_make(text));
	assert_string_equal(text, "a?[2J????b????c???d???e??f\xc3\xa9\xe9\x8f\xa1");
	char plain[] = "vm1 \xc3\xa9\xe9\x8f\xa1 \xf0\x9f\x98\x80 \xd7\xa9";
	assert_false(plain_make(plain));
	assert_string_equal(plain, "vm1 \xc3\xa9\xe9\x8f\xa1 \xf0\x9f\x98\x80 \xd7\xa9");
}

static void output_that_a_flush_lost_before_is_not_forgotten(void **state)
{
	(void)state;
	FILE *full = fopen("/dev/full", "w");
	assert_non_null(full);
	assert_false(output_lost(full));
	(void)fputs("a token\n", full);
	assert_int_not_equal(fflush(full), 0);
	assert_true(output_lost(full));
	(void)fclose(full);
	full = fopen("/dev/full", "w");
	assert_non_null(full);
	(void)fputs("a token\n", full);
	assert_true(output_lost(full));
	(void)fclose(full);
}

static bool error_is(struct said *said, int exit, const char *expected)
{
	json_t *error = said_error(said, exit), *wanted = expected ? json_loads(expected, 0, NULL) : NULL;
	bool same = expected ? wanted && json_equal(error, wanted) : !error;
	json_decref(error);
	json_decref(wanted);
	return same;
}

static void command_with_json_leaves_its_answer_or_its_first_error(void **state)
{
	(void)state;
	struct said said = SAID_INIT;
	said_failure(&said, CLI_DONE, "a remark");
	assert_true(error_is(&said, CLI_DONE, NULL));
	assert_true(error_is(&said, CLI_REFUSED, "{\"error\": {\"code\": null, \"message\": \"it was not done\"}}"));
	said_failure(&said, CLI_USAGE, "DIR is empty");
	said_failure(&said, CLI_REFUSED, "and so");
	assert_true(error_is(&said, CLI_USAGE, "{\"error\": {\"code\": \"EINVAL\", \"message\": \"DIR is empty\"}}"));
	assert_true(error_is(&said, CLI_DONE, NULL));
	said_answer(&said);
	assert_true(error_is(&said, CLI_REFUSED, NULL)); // what it found is in the answer, as of a store with damage
	json_decref(said.error);

	struct said asked = SAID_INIT;
	json_t *body = json_loads("{\"error\": {\"code\": \"ENOENT\", \"message\": \"no such point\"}}", 0, NULL), *odd = json_loads("{\"a\": 1}", 0, NULL);
	said_refusal(&asked, odd);
	said_refusal(&asked, body);
	said_failure(&asked, CLI_REFUSED, "the same, for the eyes");
	assert_true(error_is(&asked, CLI_REFUSED, "{\"error\": {\"code\": \"ENOENT\", \"message\": \"no such point\"}}"));
	json_decref(asked.error);
	json_decref(body);
	json_decref(odd);
}

static void refusal_ends_with_what_it_stands_for(void **state)
{
	(void)state;
	assert_int_equal(said_exit(403, "EPERM", false), CLI_UNREACHABLE); // this user may not ask
	assert_int_equal(said_exit(403, "EPERM", true), CLI_REFUSED);	  // a failover that is final
	assert_int_equal(said_exit(404, "ENOENT", false), CLI_REFUSED);
	assert_int_equal(said_exit(400, "EINVAL", true), CLI_USAGE);
	assert_int_equal(said_exit(400, "EBADMSG", true), CLI_REFUSED);
	assert_int_equal(said_exit(500, "", true), CLI_REFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(argument_that_is_not_utf8_is_refused_by_its_name),
		cmocka_unit_test(path_that_stays_here_may_have_any_bytes),
		cmocka_unit_test(empty_argument_is_refused_by_its_name),
		cmocka_unit_test(arguments_are_called_what_the_usage_line_calls_them),
		cmocka_unit_test(text_is_utf8_as_the_standard_has_it),
		cmocka_unit_test(output_that_a_flush_lost_before_is_not_forgotten),
		cmocka_unit_test(command_with_json_leaves_its_answer_or_its_first_error),
		cmocka_unit_test(refusal_ends_with_what_it_stands_for),
		cmocka_unit_test(what_would_drive_or_deceive_a_terminal_is_not_shown),
	};
	return cmocka_run_group_tests_name("arguments", tests, NULL, NULL);
}
