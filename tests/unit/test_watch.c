// SPDX-License-Identifier: Apache-2.0
// What a person sees: the frames of `kagami watch`, the verdict of `status --check`, the plot of `history`.
#include "base/size.h"
#include "link/health.h"
#include "tools/plot.h"
#include "tools/redact.h"
#include "tools/text.h"
#include "tools/watch_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS_MAX = 400 };

struct shot {
	char *line[ROWS_MAX];
	unsigned count, items, scroll;
};

static json_t *parse(const char *text)
{
	json_error_t why;
	json_t *json = json_loads(text, 0, &why);
	assert_non_null(json);
	return json;
}

static json_t *protection(const char *name, const char *state, int age_ms, int rpo_ms, const char *reason)
{
	return json_pack("{s:s, s:s, s:i, s:i, s:s, s:i, s:{s:I, s:I}, s:s, s:I}", "name", name, "state", state, "age_ms", age_ms, "rpo_ms", rpo_ms,
			 "reason", reason, "dirty_bytes", 65536, "last_cycle", "duration_ms", (json_int_t)80, "wire_bytes", (json_int_t)40000, "site", "dr",
			 "next_cut_in_ms", (json_int_t)9000);
}

static json_t *many(unsigned count)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < count; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "vm%03u", i);
		(void)json_array_append_new(list, protection(name, "idle", 1000 + (int)i, 15000, ""));
	}
	return json_pack("{s:o}", "protections", list);
}

static void shoot(struct shot *shot, struct watch_view *view, unsigned columns, unsigned rows)
{
	*shot = (struct shot){.count = 0};
	view->now = "2026-01-31T12:00:03.000Z";
	view->host = "host";
	shot->count = watch_frame(view, columns, rows, shot->line, &shot->items, &shot->scroll);
	assert_in_range(shot->count, 1, rows);
	for (unsigned i = 0; i < shot->count; i++) // without colours nothing in a line is without a cell
		if (!view->colour)
			assert_in_range(text_width(shot->line[i]), 0, columns);
}

static void drop(struct shot *shot)
{
	for (unsigned i = 0; i < shot->count; i++)
		free(shot->line[i]);
}

static bool shows(const struct shot *shot, const char *text)
{
	for (unsigned i = 0; i < shot->count; i++)
		if (strstr(shot->line[i], text))
			return true;
	return false;
}

static int row_of(const struct shot *shot, const char *text)
{
	for (unsigned i = 0; i < shot->count; i++)
		if (strstr(shot->line[i], text))
			return (int)i;
	return -1;
}

static void frame_fits_every_screen(void **state)
{
	(void)state;
	json_t *source = many(200);
	struct watch_view view = {.source = source, .source_error = "", .target_error = ""};
	static const unsigned sizes[][2] = {{80, 24}, {200, 50}, {40, 10}, {20, 3}, {1, 1}, {500, 400}};
	for (unsigned blocks = 0; blocks < 2; blocks++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			struct shot shot;
			view.blocks = blocks;
			shoot(&shot, &view, sizes[i][0], sizes[i][1]);
			drop(&shot);
		}
	json_decref(source);
}

static void those_that_are_not_well_come_first_with_their_reasons(void **state)
{
	(void)state;
	json_t *source = many(3);
	json_t *list = json_object_get(source, "protections");
	(void)json_array_append_new(list, protection("zz-late", "idle", 22000, 15000, ""));
	(void)json_array_append_new(list, protection("yy-down", "target-down", 3000, 15000, "nobody listens at dr"));
	struct watch_view view = {.source = source, .source_error = "", .target_error = ""};
	struct shot shot;
	shoot(&shot, &view, 80, 24);
	assert_true(shows(&shot, "2 of 5 not well"));
	assert_true(row_of(&shot, "zz-late") < row_of(&shot, "yy-down") && row_of(&shot, "yy-down") < row_of(&shot, "vm002"));
	assert_true(row_of(&shot, "vm002") < row_of(&shot, "vm000")); // the older is the more urgent one
	assert_true(shows(&shot, "147% of the RPO"));
	assert_true(shows(&shot, "nobody listens at dr"));
	assert_true(shows(&shot, "22s of 15s"));
	drop(&shot);
	view.by_name = true;
	shoot(&shot, &view, 80, 24);
	assert_true(row_of(&shot, "vm000") < row_of(&shot, "vm001") && row_of(&shot, "yy-down") < row_of(&shot, "zz-late"));
	drop(&shot);
	json_decref(source);
}

static void scrolling_reaches_each_and_never_past_the_last(void **state)
{
	(void)state;
	json_t *source = many(50);
	struct watch_view view = {.source = source, .source_error = "", .target_error = "", .by_name = true};
	struct shot shot;
	bool seen[50] = {false};
	for (unsigned at = 0; at < 60; at++) {
		view.scroll = at;
		shoot(&shot, &view, 80, 24);
		for (unsigned i = 0; i < 50; i++) {
			char name[16];
			(void)snprintf(name, sizeof(name), "vm%03u ", i);
			seen[i] |= shows(&shot, name);
		}
		if (at >= 49)
			assert_true(shows(&shot, "vm049 ") && shows(&shot, "vm030 ")); // a full screen of the last ones
		drop(&shot);
	}
	for (unsigned i = 0; i < 50; i++)
		assert_true(seen[i]);
	json_decref(source);
}

static void progress_has_a_bar_and_its_figures(void **state)
{
	(void)state;
	json_t *source = many(1), *one = json_array_get(json_object_get(source, "protections"), 0);
	(void)json_object_set_new(one, "progress", parse("{\"done_bytes\": 1073741824, \"total_bytes\": 2147483648, \"bytes_per_second\": 104857600, \"left_ms\": 10000}"));
	struct watch_view view = {.source = source, .source_error = "", .target_error = ""};
	struct shot shot;
	shoot(&shot, &view, 80, 24);
	assert_true(shows(&shot, "##########----------  50%  1 GiB of 2 GiB, 100 MiB/s, 10s left"));
	drop(&shot);
	view.blocks = true;
	shoot(&shot, &view, 80, 24);
	assert_true(shows(&shot, "██████████··········  50%"));
	drop(&shot);
	json_decref(source);
}

static void events_are_at_the_foot_when_there_is_room(void **state)
{
	(void)state;
	json_t *source = many(1), *events = json_array();
	for (int i = 0; i < 9; i++)
		(void)json_array_append_new(events, json_pack("{s:s, s:s, s:s, s:s, s:s++}", "when", "2026-01-31T12:00:01.000Z", "class", "rpo-missed",
							      "severity", "critical", "protection", "vm000", "text", "missed ", i % 2 ? "odd" : "even", ""));
	struct watch_view view = {.source = source, .events = events, .source_error = "", .target_error = ""};
	struct shot shot;
	shoot(&shot, &view, 80, 24);
	assert_int_equal(row_of(&shot, " EVENTS"), 24 - 1 - 7);
	assert_true(shows(&shot, " 12:00:01  rpo-missed   vm000: missed even"));
	drop(&shot);
	shoot(&shot, &view, 80, 10);
	assert_false(shows(&shot, " EVENTS"));
	assert_true(shows(&shot, "vm000"));
	drop(&shot);
	json_decref(source);
	json_decref(events);
}

static void daemon_that_is_gone_is_said(void **state)
{
	(void)state;
	struct watch_view view = {.source_error = "kagami-replicator does not run any more", .target_error = ""};
	struct shot shot;
	shoot(&shot, &view, 80, 24);
	assert_true(shows(&shot, "! kagami-replicator does not run any more"));
	drop(&shot);
}

static void wide_characters_are_cut_whole(void **state)
{
	(void)state;
	unsigned used;
	assert_int_equal(text_width("鏡鏡"), 4);
	assert_int_equal(text_fit("鏡鏡", 3, &used), 3);
	assert_int_equal(used, 2);
	assert_int_equal(text_fit("a\xff\xfe", 9, &used), 3); // bytes that are no text take a cell each
	assert_int_equal(used, 3);
	assert_int_equal(text_fit("e\xcc\x81x", 1, &used), 3); // what combines goes with what it combines with
	struct line line;
	line_begin(&line, 5);
	line_cell(&line, 3, 1, "a");
	line_add(&line, "%s", "鏡z");
	assert_string_equal(line.text, "  a "); // of the wide one no half is shown, and nothing that came after it
}

static enum health judged(json_t *json, bool target, char why[HEALTH_WHY])
{
	enum health health = health_of(json, target, health_limits_default, why);
	json_decref(json);
	return health;
}

static void health_is_the_worst_of_what_is_wrong(void **state)
{
	(void)state;
	char why[HEALTH_WHY];
	assert_int_equal(judged(protection("vm", "idle", 3000, 15000, ""), false, why), HEALTH_OK);
	assert_string_equal(why, "");
	assert_int_equal(judged(protection("vm", "idle", 15000, 15000, ""), false, why), HEALTH_OK); // the RPO is the bound, not past it
	assert_int_equal(judged(protection("vm", "idle", 15001, 15000, ""), false, why), HEALTH_CRITICAL);
	assert_int_equal(judged(protection("vm", "paused", 3000, 15000, ""), false, why), HEALTH_WARNING);
	assert_int_equal(judged(protection("vm", "failed", 3000, 15000, "not paired"), false, why), HEALTH_CRITICAL);
	assert_non_null(strstr(why, "not paired"));
	assert_int_equal(judged(protection("vm", "fenced", 99999999, 15000, "failed over"), false, why), HEALTH_WARNING);
	assert_int_equal(judged(parse("{\"name\": \"vm\", \"state\": \"syncing\", \"age_ms\": null, \"rpo_ms\": 1000}"), false, why), HEALTH_WARNING);
	assert_int_equal(judged(parse("{\"name\": \"vm\", \"state\": \"idle\", \"age_ms\": 1, \"rpo_ms\": 1000, \"disks\": [{\"name\": \"vda\", \"error\": \"EIO\"}]}"), false, why), HEALTH_CRITICAL);
	assert_string_equal(why, "disk vda: EIO");
	assert_int_equal(judged(parse("{\"name\": \"vm\", \"state\": \"connected\", \"age_ms\": 1, \"rpo_ms\": 1000, \"last_point\": 3}"), true, why), HEALTH_OK);
	assert_int_equal(judged(parse("{\"name\": \"vm\", \"state\": \"failed-over\", \"age_ms\": 99999, \"rpo_ms\": 1000, \"last_point\": 3}"), true, why), HEALTH_OK);
	assert_int_equal(judged(parse("{\"name\": \"vm\", \"state\": \"disconnected\", \"age_ms\": 1, \"rpo_ms\": 1000, \"last_point\": 3}"), true, why), HEALTH_WARNING);
	assert_int_equal(judged(parse("{\"name\": \"vm\", \"state\": \"connected\", \"age_ms\": 1, \"rpo_ms\": 1000, \"last_point\": 3, \"scrub\": {\"damaged_blocks\": 2}}"), true, why), HEALTH_CRITICAL);
	assert_int_equal(judged(parse("{\"name\": \"vm\", \"state\": \"broken\", \"age_ms\": 1, \"rpo_ms\": 1000, \"last_point\": 3, \"reason\": \"EIO\"}"), true, why), HEALTH_CRITICAL);
}

// One whose image hangs at the start: nothing is said for as long as a start may take, then that it does, and what keeps it; it is critical once the RPO is over.
static void start_that_does_not_end_is_said_and_becomes_critical(void **state)
{
	static const struct {
		uint64_t starting_ms, rpo_ms;
		enum health health;
		const char *why;
	} table[] = {
		{0, 15000, HEALTH_OK, ""},
		{5000, 15000, HEALTH_OK, ""},
		{5001, 15000, HEALTH_WARNING, "has been starting for 5.0 s: the image /x of disk vda does not open"},
		{15000, 15000, HEALTH_WARNING, "has been starting for 15 s: the image /x of disk vda does not open"},
		{15001, 15000, HEALTH_CRITICAL, "has been starting for 15 s: the image /x of disk vda does not open"},
		{7200000, 3600000, HEALTH_CRITICAL, "has been starting for 2 h: the image /x of disk vda does not open"},
		{5000, 1000, HEALTH_OK, ""}, // a start's own time
		{6000, 1000, HEALTH_CRITICAL, "has been starting for 6 s: the image /x of disk vda does not open"},
		{9000, 0, HEALTH_WARNING, "has been starting for 9 s: the image /x of disk vda does not open"}, // its configuration could not be read
	};
	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		char why[HEALTH_WHY];
		json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:I, s:n, s:[]}", "name", "vm", "state", "starting", "reason",
					 "the image /x of disk vda does not open", "rpo_ms", (json_int_t)table[i].rpo_ms, "starting_ms",
					 (json_int_t)table[i].starting_ms, "age_ms", "disks");
		assert_int_equal(judged(json, false, why), table[i].health);
		assert_string_equal(why, table[i].why);
	}
}

// One whose image hangs while it is unprotected, or at a stop: likewise, and how old its points are matters no more.
static void end_that_does_not_end_is_said_and_no_objective_binds_it(void **state)
{
	static const struct {
		int ending_ms; // below 0: and no disk is silent
		enum health health;
		const char *why;
	} table[] = {
		{0, HEALTH_OK, ""},
		{5000, HEALTH_OK, ""},
		{5001, HEALTH_WARNING, "has been ending for 5.0 s: it is being unprotected: disk vda: the image /x has not answered for 5 s"},
		{7200000, HEALTH_WARNING, "has been ending for 2 h: it is being unprotected: disk vda: the image /x has not answered for 5 s"},
		{-5001, HEALTH_OK, ""}, // nothing is known to hang: a receiver that is away may keep it for a moment
		{-30000, HEALTH_OK, ""},
		{-30001, HEALTH_WARNING, "has been ending for 30 s: it is being unprotected: disk vda: the image /x has not answered for 5 s"},
	};
	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		char why[HEALTH_WHY];
		json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:[{s:s, s:s, s:s}]}", "name", "vm", "state", "ending", "reason",
					 "it is being unprotected: disk vda: the image /x has not answered for 5 s", "rpo_ms", 1000, "ending_ms", abs(table[i].ending_ms), "age_ms",
					 99999, "disks", "name", "vda", "error", "EIO", "silent", table[i].ending_ms < 0 ? "" : "it hangs");
		assert_true(health_age(json) < 0);
		assert_int_equal(judged(json, false, why), table[i].health);
		assert_string_equal(why, table[i].why);
	}
}

// A disk that hangs keeps a cycle, and so the pause: who paused it sees that it is not forgotten, and what for.
static void pause_that_waits_for_a_cycle_is_said(void **state)
{
	(void)state;
	char why[HEALTH_WHY];
	json_t *json = parse("{\"name\": \"vm\", \"state\": \"cutting\", \"paused\": true, \"age_ms\": 1, \"rpo_ms\": 1000, \"reason\": \"\", \"disks\": []}");
	assert_int_equal(judged(json_incref(json), false, why), HEALTH_WARNING);
	assert_string_equal(why, "paused as soon as what is under way has ended (cutting)");
	(void)json_object_set_new(json, "reason", json_string("disk vda: it hangs"));
	assert_int_equal(judged(json_incref(json), false, why), HEALTH_WARNING);
	assert_string_equal(why, "paused as soon as what is under way has ended (cutting): disk vda: it hangs");
	(void)json_object_set_new(json, "state", json_string("paused"));
	assert_int_equal(judged(json_incref(json), false, why), HEALTH_WARNING);
	assert_string_equal(why, "paused: disk vda: it hangs");
	(void)json_object_set_new(json, "state", json_string("idle")); // the thread has not turned yet: nothing is under way
	(void)json_object_set_new(json, "reason", json_string(""));
	assert_int_equal(judged(json, false, why), HEALTH_OK);
}

// What a daemon tells is what a judge of its answer finds; each reason once, what is critical first.
static void health_tells_each_reason_once_and_the_worst_first(void **state)
{
	(void)state;
	char why[HEALTH_WHY];
	json_t *json = parse("{\"name\": \"vm\", \"state\": \"paused\", \"age_ms\": 2000, \"rpo_ms\": 1000, \"reason\": \"disk vda: EIO\","
			     " \"disks\": [{\"name\": \"vda\", \"error\": \"EIO\", \"tracking_lost\": true, \"tracking_error\": \"ENOSPC\"},"
			     " {\"name\": \"vdb\", \"silent\": \"it hangs\", \"holes_disbelieved\": \"it lied\"}]}");
	static const char *const wanted[][2] = {
		{"critical", "the newest point is 2 s old, 200% of the RPO of 1 s: disk vda: EIO"}, // so the disk is said
		{"warning", "disk vda: its tracking is lost: ENOSPC"},
		{"warning", "disk vdb: it hangs"},
		{"warning", "disk vdb: no hole of it is believed: it lied"},
		{"warning", "paused: disk vda: EIO"},
	};
	health_tell(json, false);
	assert_string_equal(json_string_value(json_object_get(json, "health")), "critical");
	json_t *told = json_object_get(json, "why");
	assert_int_equal(json_array_size(told), 5);
	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(json_string_value(json_object_get(json_array_get(told, i), "level")), wanted[i][0]);
		assert_string_equal(json_string_value(json_object_get(json_array_get(told, i), "text")), wanted[i][1]);
	}
	// What was told is shown, also by one that would judge it otherwise; other limits are judged anew.
	(void)json_object_set_new(json, "age_ms", json_integer(1));
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_CRITICAL);
	assert_string_equal(why, wanted[0][1]);
	assert_int_equal(health_of(json, false, (struct health_limits){.warning = 50, .critical = 90, .given = true}, why), HEALTH_CRITICAL);
	assert_string_equal(why, "disk vda: EIO");
	json_decref(json);
	json = parse("{\"name\": \"vm\", \"state\": \"idle\", \"age_ms\": 1, \"rpo_ms\": 1000, \"reason\": \"another\", \"short_of\": \"no threads\"}");
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_WARNING);
	assert_string_equal(why, "no threads");
	json_decref(json);
	json = parse("{\"name\": \"vm\", \"state\": \"idle\", \"age_ms\": 1, \"rpo_ms\": 1000, \"state_silent\": \"it hangs\"}");
	assert_int_equal(health_of(json, false, health_limits_default, why), HEALTH_WARNING);
	assert_string_equal(why, "it hangs");
	json_decref(json);
	json = parse("{\"name\": \"vm\", \"state\": \"idle\", \"age_ms\": 1, \"rpo_ms\": 1000}");
	health_tell(json, false);
	assert_string_equal(json_string_value(json_object_get(json, "health")), "ok");
	assert_int_equal(json_array_size(json_object_get(json, "why")), 0);
	json_decref(json);
}

static const char *label(double value)
{
	static char text[32];
	(void)snprintf(text, sizeof(text), "%.0f", value);
	return text;
}

static void plot_shows_each_value_at_its_height(void **state)
{
	(void)state;
	double value[4] = {0, 50, 100, -1};
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);
	struct plot plot = {.value = value, .columns = 4, .rows = 4, .bound = 80, .label = label, .from = "a", .to = "b"};
	assert_non_null(to);
	plot_print(&plot, to);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(text, "      80 |--#-\n         |  # \n         | ## \n         |### \n       0 +----\n          ab\n");
	free(text);
}

static void urls_lose_what_may_be_a_secret(void **state)
{
	(void)state;
	static const struct {
		const char *text, *covered;
		size_t count;
	} table[] = {
		{"nothing here: a@b?c", "nothing here: a@b?c", 0},
		{"--webhook https://user:pa@ss@host.example:8443/x/y?key=1#z --next", "--webhook https://***@host.example:8443/x/y?*** --next", 2},
		{"http://host/path", "http://host/path", 0},
		{"http://u@h", "http://***@h", 1},
		{"a http://h/?q b https://i#f c", "a http://h/?*** b https://i#*** c", 2},
		{"http://h/a@b", "http://h/a@b", 0},
		{"://", "://", 0},
		{"nbd+unix:///vda?socket=/run/x", "nbd+unix:///vda?***", 1},
		{"\"http://a:b@c/d?e\"", "\"http://***@c/d?***\"", 2},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char text[256];
		(void)snprintf(text, sizeof(text), "%s", table[i].text);
		assert_int_equal(redact_urls(text, sizeof(text)), table[i].count);
		assert_string_equal(text, table[i].covered);
	}
	char tight[11] = "http://a@b"; // no room for the cover: nothing of the secret stays, and nothing is written past the end
	assert_int_equal(redact_urls(tight, sizeof(tight)), 1);
	assert_string_equal(tight, "http://***");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_fits_every_screen),
		cmocka_unit_test(those_that_are_not_well_come_first_with_their_reasons),
		cmocka_unit_test(scrolling_reaches_each_and_never_past_the_last),
		cmocka_unit_test(progress_has_a_bar_and_its_figures),
		cmocka_unit_test(events_are_at_the_foot_when_there_is_room),
		cmocka_unit_test(daemon_that_is_gone_is_said),
		cmocka_unit_test(wide_characters_are_cut_whole),
		cmocka_unit_test(health_is_the_worst_of_what_is_wrong),
		cmocka_unit_test(start_that_does_not_end_is_said_and_becomes_critical),
		cmocka_unit_test(end_that_does_not_end_is_said_and_no_objective_binds_it),
		cmocka_unit_test(pause_that_waits_for_a_cycle_is_said),
		cmocka_unit_test(health_tells_each_reason_once_and_the_worst_first),
		cmocka_unit_test(urls_lose_what_may_be_a_secret),
		cmocka_unit_test(plot_shows_each_value_at_its_height),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
