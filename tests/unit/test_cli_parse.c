// SPDX-License-Identifier: Apache-2.0
// What an operator may write on the command line of `kagami`, and what is shown in return.
#include "link/history.h"
#include "tools/hopeless.h"
#include "tools/parse.h"
#include "tools/progress.h"
#include "tools/show.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void parse_duration_takes_a_number_and_a_unit(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {{"0s", 0},	     {"250ms", 250},	 {"15s", 15000},	{"5m", 300000},
		    {"1h", 3600000}, {"2d", 172800000}, {"36500d", 36500 * UINT64_C(86400000)}};
	static const char *const bad[] = {"",	  "s",	   "15",   "-1s",   "+1s",  "1.5s",   " 1s",	"1s ",
					  "1 s",  "1S",	   "1min", "36501d", "1sm", "0x10s", "18446744073709551616s",
					  "99999999999999999999999ms", "18446744073709551615d"};
	struct err err;
	for (size_t i = 0; i < COUNT(good); i++) {
		uint64_t ms = 1;
		assert_int_equal(parse_duration(good[i].text, &ms, &err), 0);
		assert_int_equal(ms, good[i].ms);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		uint64_t ms = 77;
		assert_int_equal(parse_duration(bad[i], &ms, &err), -EINVAL);
		assert_int_equal(ms, 77);
	}
}

static void parse_rpo_is_from_a_second_to_a_day(void **state)
{
	(void)state;
	uint64_t ms;
	struct err err;
	assert_int_equal(parse_rpo("1s", &ms, &err), 0);
	assert_int_equal(parse_rpo("1000ms", &ms, &err), 0);
	assert_int_equal(parse_rpo("24h", &ms, &err), 0);
	assert_int_equal(ms, 86400000);
	assert_int_equal(parse_rpo("250ms", &ms, &err), -EINVAL);
	assert_non_null(strstr(err.text, "250ms is out of range"));
	assert_int_equal(parse_rpo("999ms", &ms, &err), -EINVAL);
	assert_int_equal(parse_rpo("25h", &ms, &err), -EINVAL);
	assert_int_equal(parse_rpo("15", &ms, &err), -EINVAL);
	assert_non_null(strstr(err.text, "--rpo"));
}

static void parse_number_keeps_to_its_limits(void **state)
{
	(void)state;
	uint64_t number;
	struct err err;
	assert_int_equal(parse_number("--points", "1", 1, 9, &number, &err), 0);
	assert_int_equal(parse_number("--points", "9", 1, 9, &number, &err), 0);
	assert_int_equal(number, 9);
	static const char *const bad[] = {"0", "10", "", "x", "1x", "-1", "18446744073709551617"};
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(parse_number("--points", bad[i], 1, 9, &number, &err), -EINVAL);
		assert_non_null(strstr(err.text, "--points"));
	}
}

static void objective_is_read_exactly_and_refused_where_it_is_finer_than_it_is_kept(void **state)
{
	static const struct {
		const char *text;
		uint32_t ppm;
	} good[] = {{"99.9%", 999000}, {"99.9", 999000}, {"50", 500000}, {"100%", 1000000}, {"100.0000000", 1000000}, {"99.9999%", 999999}, {"99.99990%", 999999}, {"066.6%", 666000}};
	static const char *const bad[] = {"", "%", "x", "49.9999", "100.0001", "100.00000001", "101", "99.", ".5", "99,9%", "99.9%%", "99.9 %", "-99", "1e2", "nan",
					  "0x50", "18446744073709551716"};
	static const char *const finer[] = {"99.99999%", "99.99991", "50.000001%"};
	struct err err;
	uint32_t ppm = 7;
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(history_objective_read(good[i].text, 50, &ppm, &err), 0);
		assert_int_equal(ppm, good[i].ppm);
	}
	ppm = 7;
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(history_objective_read(bad[i], 50, &ppm, &err), -EINVAL);
		assert_non_null(strstr(err.text, "is no part of the time: give 50% to 100%"));
	}
	for (size_t i = 0; i < COUNT(finer); i++) {
		assert_int_equal(history_objective_read(finer[i], 50, &ppm, &err), -EINVAL);
		assert_non_null(strstr(err.text, "is finer than it is kept: give at most four digits"));
	}
	assert_int_equal(ppm, 7);
	assert_int_equal(history_objective_read("0%", 0, &ppm, &err), 0);
	assert_int_equal(ppm, 0);
}

static void parse_size_reads_bytes_and_powers_of_1024(void **state)
{
	(void)state;
	uint64_t bytes = 0;
	struct err err;
	assert_int_equal(parse_size("1536", &bytes, &err), 0);
	assert_int_equal(bytes, 1536);
	assert_int_equal(parse_size("20G", &bytes, &err), 0);
	assert_int_equal(bytes, UINT64_C(20) << 30);
	assert_int_equal(parse_size("1k", &bytes, &err) + parse_bytes("3m", &bytes, &err), 0);
	assert_int_equal(bytes, 3 << 20);
	assert_int_equal(parse_size("64T", &bytes, &err), 0);
	assert_int_equal(bytes, UINT64_C(64) << 40);
	static const char *const bad[] = {"", "0", "G", "20GB", "20gg", "-1G", "20x", "20p", "1.5G", "513", "65T", "18446744073709551616", "16777216T"};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(parse_size(bad[i], &bytes, &err), -EINVAL);
	assert_int_equal(bytes, UINT64_C(64) << 40);
	assert_int_equal(parse_bytes("10", &bytes, &err), 0); // an amount is no disk
	assert_int_equal(bytes, 10);
	assert_int_equal(parse_bytes("0", &bytes, &err), -EINVAL);
	assert_int_equal(parse_bytes("9223372036854775808", &bytes, &err), -EINVAL);
	assert_int_equal(bytes, 10);
}

static void parse_new_name_refuses_what_the_store_needs_itself(void **state)
{
	(void)state;
	struct err err;
	assert_int_equal(parse_new_name("vm1", &err), 0);
	assert_int_equal(parse_new_name("lock2", &err), 0);
	assert_int_equal(parse_new_name("VM1", &err), -EINVAL);
	assert_int_equal(parse_new_name("lock", &err), -EINVAL);
	assert_string_equal(err.text, "lock is a name the store needs itself: protect under another name");
	assert_int_equal(parse_name("protection", "lock", &err), 0); // what was made so can still be ended
}

static void parse_target_splits_a_name_from_its_point(void **state)
{
	(void)state;
	struct parse_target target;
	struct err err;
	assert_int_equal(parse_target("vm1", &target, &err), 0);
	assert_string_equal(target.name, "vm1");
	assert_int_equal(target.point, 0);
	assert_int_equal(parse_target("vm1.a-b_c@42", &target, &err), 0);
	assert_string_equal(target.name, "vm1.a-b_c");
	assert_int_equal(target.point, 42);
	static const char *const bad[] = {"",	    "@",     "@1",	"vm1@",	      "vm1@0",		      "vm1@x",
					  "vm1@1@2", "Vm1",  "../vm1", "a/b",	      "vm1@9223372036854775808"};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(parse_target(bad[i], &target, &err), -EINVAL);
}

static void parse_target_takes_the_longest_name_and_no_longer_one(void **state)
{
	(void)state;
	struct parse_target target;
	struct err err;
	char text[80];
	memset(text, 'a', sizeof(text));
	(void)snprintf(text + 63, sizeof(text) - 63, "@7");
	assert_int_equal(parse_target(text, &target, &err), 0);
	assert_int_equal(strlen(target.name), 63);
	text[63] = 'a';
	(void)snprintf(text + 64, sizeof(text) - 64, "@7");
	assert_int_equal(parse_target(text, &target, &err), -EINVAL);
}

static void parse_disk_splits_at_the_first_equals_sign(void **state)
{
	(void)state;
	struct parse_disk disk;
	struct err err;
	assert_int_equal(parse_disk("vda=/images/a=b c.raw", &disk, &err), 0);
	assert_string_equal(disk.name, "vda");
	assert_string_equal(disk.path, "/images/a=b c.raw");
	static const char *const bad[] = {"", "vda", "vda=", "=/a", "VDA=/a", "a/b=/a"};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(parse_disk(bad[i], &disk, &err), -EINVAL);
}

static void parse_address_needs_a_host_and_a_port(void **state)
{
	(void)state;
	static const char *const good[] = {"dr.example.org:7700", "192.0.2.1:1", "[2001:db8::1]:65535"};
	static const char *const bad[] = {"",	 ":",	   ":1",  "host",	 "host:",	  "host:0", "host:65536",
					  "h:x", "2001:db8::1", "[]:1", "[::1]", "ho st:1", "host:1\n", "h\xff:1"};
	struct err err;
	for (size_t i = 0; i < COUNT(good); i++)
		assert_int_equal(parse_address(good[i], &err), 0);
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(parse_address(bad[i], &err), -EINVAL);
}

static void parse_time_reads_what_the_daemons_write(void **state)
{
	(void)state;
	int64_t ms;
	assert_int_equal(parse_time("1970-01-01T00:00:01.234Z", &ms), 0);
	assert_int_equal(ms, 1234);
	assert_int_equal(parse_time("2026-01-31T12:00:00Z", &ms), 0);
	assert_int_equal(ms, INT64_C(1769860800000));
	assert_int_equal(parse_time("2026-01-31T12:00:00.123456789Z", &ms), 0);
	assert_int_equal(ms, INT64_C(1769860800123));
	assert_int_equal(parse_time("", &ms), -EINVAL);
	assert_int_equal(parse_time("2026-01-31T12:00:00+01:00", &ms), -EINVAL);
	assert_int_equal(parse_time("2026-01-31T12:00:00.1x", &ms), -EINVAL);
}

static void show_ratio_and_count_as_a_person_would_say_them(void **state)
{
	(void)state;
	assert_string_equal(show_ratio(3, 1).text, "3.0x");
	assert_string_equal(show_ratio(314, 100).text, "3.1x");
	assert_string_equal(show_ratio(99949, 1000).text, "99.9x");
	assert_string_equal(show_ratio(9996, 100).text, "100x");
	assert_string_equal(show_ratio(9999, 1).text, "9999x");
	assert_string_equal(show_ratio(10000, 1).text, ">9999x");
	assert_string_equal(show_ratio(UINT64_C(1) << 46, 54).text, ">9999x"); // a sparse disk
	assert_string_equal(show_ratio(1, 0).text, "1.0x");
	assert_string_equal(show_count(0, "point").text, "0 points");
	assert_string_equal(show_count(1, "point").text, "1 point");
	assert_string_equal(show_count(2, "damaged block").text, "2 damaged blocks");
	json_t *object = json_pack("{s:i, s:n}", "points", 1, "none");
	assert_string_equal(show_count_of(object, "points", "point").text, "1 point");
	assert_string_equal(show_count_of(object, "none", "point").text, "-");
	json_decref(object);
}

static void show_size_and_duration_round_as_a_person_would(void **state)
{
	(void)state;
	assert_string_equal(show_size(0).text, "0 B");
	assert_string_equal(show_size(512).text, "512 B");
	assert_string_equal(show_size(65536).text, "64 KiB");
	assert_string_equal(show_size(40233).text, "39.3 KiB");
	assert_string_equal(show_size((1 << 20) - 1).text, "1 MiB");
	assert_string_equal(show_size(UINT64_MAX).text, "16 EiB");
	assert_string_equal(show_duration(0).text, "0ms");
	assert_string_equal(show_duration(999).text, "999ms");
	assert_string_equal(show_duration(3120).text, "3.1s");
	assert_string_equal(show_duration(15000).text, "15s");
	assert_string_equal(show_duration(59999).text, "1m");
	assert_string_equal(show_duration(312000).text, "5m12s");
	assert_string_equal(show_duration(3600000 + 300000).text, "1h05m");
	assert_string_equal(show_duration(2 * UINT64_C(86400000) + 3600000).text, "2d01h");
}

static void show_quoted_gives_one_word_to_the_shell(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {{"/mnt/vm1", "/mnt/vm1"}, {"/mnt/a b", "'/mnt/a b'"}, {"", "''"},
					       {"/it's", "'/it'\\''s'"}, {"/$(x)", "'/$(x)'"},	   {"/鏡", "'/鏡'"}};
	for (size_t i = 0; i < COUNT(pairs); i++) {
		char *quoted = show_quoted(pairs[i][0]);
		assert_string_equal(quoted, pairs[i][1]);
		free(quoted);
	}
}

static void show_members_that_are_missing_do_no_harm(void **state)
{
	(void)state;
	json_t *object = json_pack("{s:n, s:s, s:i}", "null", "text", "a", "number", -5);
	assert_string_equal(show_text_of(object, "null"), "");
	assert_string_equal(show_text_of(NULL, "text"), "");
	assert_int_equal(show_number_of(object, "number"), 0);
	assert_int_equal(show_number_of(object, "text"), 0);
	assert_string_equal(show_size_of(object, "null").text, "-");
	assert_string_equal(show_time_of(object, "missing").text, "-");
	assert_false(show_has(object, "null"));
	json_decref(object);
}

static void show_clean_leaves_nothing_that_drives_a_terminal(void **state)
{
	(void)state;
	json_t *value = json_loads("{\"a\":[\"x\\u001b[2J\\u007f\\u009bz\\n\", {\"b\":\"\\u00e9\\u93e1\"}]}", 0, NULL);
	show_clean(value);
	json_t *list = json_object_get(value, "a");
	assert_string_equal(json_string_value(json_array_get(list, 0)), "x?[2J???z?");
	assert_string_equal(show_text_of(json_array_get(list, 1), "b"), "é鏡"); // letters stay
	json_decref(value);
}

static void table_aligns_its_columns_and_ends_no_line_in_blanks(void **state)
{
	(void)state;
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);
	assert_non_null(to);
	struct table *table = table_new("lrl");
	table_add(table, "NAME\tSIZE\tNOTE");
	table_add(table, "a\t1234567\t");
	table_note(table, "  ! a line of its own, longer than the table is wide");
	table_add(table, "longer\t\tx");
	table_print(table, to);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(text, "NAME       SIZE  NOTE\n"
				  "a       1234567\n"
				  "  ! a line of its own, longer than the table is wide\n"
				  "longer           x\n");
	free(text);
}

static void progress_shows_rate_and_time_left_once_they_can_be_known(void **state)
{
	(void)state;
	static const struct {
		uint64_t done, total, ms;
		const char *text;
	} of[] = {
		{0, 1 << 30, 0, "0 B of 1 GiB, 0 %"},
		{64 << 20, 1 << 30, 900, "64 MiB of 1 GiB, 6 %"},
		{256 << 20, 1 << 30, 2000, "256 MiB of 1 GiB, 25 %, 128 MiB/s, 6s left"},
		{1 << 30, 1 << 30, 8000, "1 GiB of 1 GiB, 100 %, 128 MiB/s, 0ms left"},
		{0, 0, 5000, "0 B of 0 B, 100 %"},
		{UINT64_C(3) << 40, UINT64_C(6) << 40, UINT64_C(3) << 20, "3 TiB of 6 TiB, 50 %, 1000 MiB/s, 52m25s left"},
	};
	for (size_t i = 0; i < COUNT(of); i++) {
		char text[160];
		progress_text(of[i].done, of[i].total, of[i].ms, text, sizeof(text));
		assert_string_equal(text, of[i].text);
	}
}

// --- waiting for a cycle ---

static const char *hope(const char *members, const char *disk)
{
	static char text[HOPELESS_TEXT], *of;
	free(of);
	of = NULL;
	if (asprintf(&of, "{\"state\": \"idle\", \"cycles\": {\"started\": 4, \"committed\": 3}, %s, \"disks\": [{\"name\": \"vda\"}, {\"name\": \"vdb\", %s}]}", members, disk) < 0)
		return NULL;
	json_t *json = json_loads(of, 0, NULL);
	assert_non_null(json);
	const char *why = hopeless(json, 4, text);
	json_decref(json);
	return why;
}

static void cycle_of_a_disk_that_failed_or_is_short_is_not_waited_for(void **state)
{
	(void)state;
#define FAILED "\"failed\": true, \"error\": \"at ten: sync of image b.raw: Input/output error\""
#define SHORT "\"failed\": false, \"cut_short\": \"the image of disk vdb was cut\""
	assert_string_equal(hope("\"progress\": null", FAILED),
			    "disk vdb failed, and no point is made of it until its guest is shut down, its storage repaired, and `kagami clear-error` given: at ten: sync of image b.raw: Input/output error");
	assert_string_equal(hope("\"progress\": null", SHORT), "the image of disk vdb was cut");
	assert_non_null(hope("\"state\": \"target-down\"", FAILED)); // the receiver may come back, the disk does not
	assert_null(hope("\"progress\": {\"kind\": \"cut\"}", FAILED)); // it was cut before, perhaps
	assert_null(hope("\"cycles\": {\"started\": 3, \"committed\": 3}", SHORT)); // as the try before found it
}

static void cycle_is_not_waited_for_once_a_try_found_what_stays(void **state)
{
	(void)state;
	json_t *json = json_loads("{\"state\": \"connecting\", \"reason\": \"broken\", \"stuck\": true, \"connect_failures\": 3}", 0, NULL);
	assert_non_null(json);
	assert_string_equal(hopeless_refused(json, 2), "broken");
	assert_null(hopeless_refused(json, 3)); // as it was before: somebody may have acted
	(void)json_object_set_new(json, "stuck", json_false());
	assert_null(hopeless_refused(json, 2));
	json_decref(json);
}

static void cycle_is_waited_for_while_it_may_come_by_itself(void **state)
{
	(void)state;
	static const char *const states[] = {"connecting", "target-down", "target-slow", "target-full", "quota-reached", "idle", "cutting", "starting"};
	char members[200];
	for (size_t i = 0; i < COUNT(states); i++) {
		(void)snprintf(members, sizeof(members), "\"state\": \"%s\", \"reason\": \"why\", \"last_error\": \"why\"", states[i]);
		assert_null(hope(members, "\"failed\": false, \"error\": \"at ten: read, image b.raw at byte 7: Input/output error\", \"cut_short\": \"\""));
	}
	assert_string_equal(hope("\"state\": \"fenced\", \"reason\": \"failed over\"", "\"failed\": false"), "failed over");
	assert_string_equal(hope("\"state\": \"ending\", \"reason\": \"it is being unprotected\"", "\"failed\": false"), "it is being unprotected");
	assert_non_null(hope("\"state\": \"paused\"", "\"failed\": false"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(progress_shows_rate_and_time_left_once_they_can_be_known),
		cmocka_unit_test(parse_duration_takes_a_number_and_a_unit),
		cmocka_unit_test(parse_rpo_is_from_a_second_to_a_day),
		cmocka_unit_test(parse_number_keeps_to_its_limits),
		cmocka_unit_test(objective_is_read_exactly_and_refused_where_it_is_finer_than_it_is_kept),
		cmocka_unit_test(parse_size_reads_bytes_and_powers_of_1024),
		cmocka_unit_test(parse_new_name_refuses_what_the_store_needs_itself),
		cmocka_unit_test(parse_target_splits_a_name_from_its_point),
		cmocka_unit_test(parse_target_takes_the_longest_name_and_no_longer_one),
		cmocka_unit_test(parse_disk_splits_at_the_first_equals_sign),
		cmocka_unit_test(parse_address_needs_a_host_and_a_port),
		cmocka_unit_test(parse_time_reads_what_the_daemons_write),
		cmocka_unit_test(show_size_and_duration_round_as_a_person_would),
		cmocka_unit_test(show_ratio_and_count_as_a_person_would_say_them),
		cmocka_unit_test(show_quoted_gives_one_word_to_the_shell),
		cmocka_unit_test(show_members_that_are_missing_do_no_harm),
		cmocka_unit_test(show_clean_leaves_nothing_that_drives_a_terminal),
		cmocka_unit_test(cycle_of_a_disk_that_failed_or_is_short_is_not_waited_for),
		cmocka_unit_test(cycle_is_waited_for_while_it_may_come_by_itself),
		cmocka_unit_test(cycle_is_not_waited_for_once_a_try_found_what_stays),
		cmocka_unit_test(table_aligns_its_columns_and_ends_no_line_in_blanks),
	};
	return cmocka_run_group_tests_name("cli_parse", tests, NULL, NULL);
}
