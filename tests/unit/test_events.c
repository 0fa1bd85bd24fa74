// SPDX-License-Identifier: Apache-2.0
// Events: their numbers, the two files, what a crash leaves of them, and who waits.
#include "base/auto.h"
#include "link/events.h"
#include "link/events_file.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/twin.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct events *open_at(struct temp *temp)
{
	struct events *e = NULL;
	struct err err = {0};
	assert_int_equal(events_open(env_posix(), temp->root, &e, &err), 0);
	return e;
}

static json_t *all_of(struct events *e, const struct event_filter *filter, unsigned last)
{
	json_t *json = events_json(e, filter, last, 0);
	assert_non_null(json);
	return json;
}

static size_t count_of(json_t *json)
{
	return json_array_size(json_object_get(json, "events"));
}

static uint64_t id_at(json_t *json, size_t index)
{
	return (uint64_t)json_integer_value(json_object_get(json_array_get(json_object_get(json, "events"), index), "id"));
}

static void numbers_go_on_where_an_earlier_run_ended(void **state)
{
	(void)state;
	struct temp temp;
	temp_open(&temp);
	struct events *e = open_at(&temp);
	events_emit(e, EVENT_INFO, "daemon", NULL, NULL, "started");
	events_emit(e, EVENT_CRITICAL, "rpo-missed", "vm1", json_pack("{s:i}", "age_ms", 5), "vm1: a point is late\nand so on");
	assert_true(events_newest(e) == 2 && events_count(e, "rpo-missed") == 1);
	events_close(e);
	e = open_at(&temp);
	assert_true(events_count(e, "rpo-missed") == 0); // of this process
	events_emit(e, EVENT_INFO, "daemon", NULL, NULL, "started");
	json_t *json = all_of(e, &(struct event_filter){.since = 0}, 0);
	assert_int_equal(count_of(json), 3);
	json_t *second = json_array_get(json_object_get(json, "events"), 1);
	assert_string_equal(json_string_value(json_object_get(second, "text")), "vm1: a point is late and so on");
	assert_string_equal(json_string_value(json_object_get(second, "severity")), "critical");
	assert_string_equal(json_string_value(json_object_get(second, "protection")), "vm1");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(second, "data"), "age_ms")), 5);
	assert_null(json_object_get(second, "when_ns"));
	assert_true(json_is_null(json_object_get(json_array_get(json_object_get(json, "events"), 0), "protection")));
	assert_true(id_at(json, 2) == 3 && json_integer_value(json_object_get(json, "next")) == 3);
	json_decref(json);
	events_close(e);
	temp_close(&temp);
}

static void filters_since_and_last_choose(void **state)
{
	(void)state;
	struct temp temp;
	temp_open(&temp);
	struct events *e = open_at(&temp);
	for (unsigned i = 1; i <= 30; i++)
		events_emit(e, EVENT_INFO, i % 3 ? "state" : "sync", i % 2 ? "vm1" : "vm2", NULL, "event %u", i);
	const struct {
		struct event_filter filter;
		unsigned last;
		size_t count;
		uint64_t first;
	} cases[] = {
		{{.since = 0}, 0, 30, 1},
		{{.since = 28}, 0, 2, 29},
		{{.since = 30}, 0, 0, 0},
		{{.since = 1000}, 0, 30, 1}, // of files that were lost
		{{.class = "sync"}, 0, 10, 3},
		{{.protection = "vm2"}, 0, 15, 2},
		{{.protection = "vm2", .class = "sync", .since = 6}, 0, 4, 12},
		{{.since = 0}, 7, 7, 24},
		{{.class = "sync"}, 2, 2, 27},
		{{.since = 29}, 7, 1, 30},
		{{.protection = "vm3"}, 7, 0, 0},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *json = all_of(e, &cases[i].filter, cases[i].last);
		assert_int_equal(count_of(json), cases[i].count);
		assert_true(cases[i].count == 0 || id_at(json, 0) == cases[i].first);
		assert_int_equal(json_integer_value(json_object_get(json, "next")), 30);
		json_decref(json);
	}
	events_close(e);
	temp_close(&temp);
}

static void more_than_one_answer_holds_are_told_in_several(void **state)
{
	(void)state;
	struct temp temp;
	temp_open(&temp);
	struct events *e = open_at(&temp);
	const unsigned all = EVENTS_ANSWER_MAX * 2 + 500;
	for (unsigned i = 1; i <= all; i++)
		events_emit(e, EVENT_INFO, i % 2 ? "state" : "sync", NULL, NULL, "event %u", i);
	struct event_filter filter = {.class = "state"};
	size_t seen = 0;
	for (unsigned answers = 0; answers < 2; answers++) {
		json_t *json = all_of(e, &filter, 0);
		assert_true(id_at(json, 0) == 2 * seen + 1);
		seen += count_of(json);
		filter.since = (uint64_t)json_integer_value(json_object_get(json, "next"));
		json_decref(json);
	}
	assert_int_equal(seen, all / 2);
	assert_int_equal(filter.since, all);
	events_close(e);
	temp_close(&temp);
}

static uint64_t file_size(struct temp *temp, const char *name)
{
	struct env_stat st;
	return env_stat(temp->root, name, &st) ? 0 : st.size;
}

static void files_and_memory_are_bounded(void **state)
{
	(void)state;
	struct temp temp;
	temp_open(&temp);
	struct events *e = open_at(&temp);
	char text[300];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (unsigned i = 0; i < EVENTS_MAX + 2000; i++)
		events_emit(e, EVENT_INFO, "state", "vm1", NULL, "%s %u", text, i);
	json_t *json = all_of(e, &(struct event_filter){.since = 1}, 1000);
	assert_int_equal(count_of(json), 1000);
	json_decref(json);
	json = all_of(e, &(struct event_filter){.since = 1}, 0);
	assert_true(id_at(json, 0) == 2001); // the older ones are forgotten
	assert_true(events_lost(e, 0) == 2000 && events_lost(e, 1500) == 500 && events_lost(e, 2000) == 0 && events_lost(e, events_newest(e)) == 0);
	json_decref(json);
	events_close(e);
	assert_true(file_size(&temp, EVENTS_FILE) <= EVENTS_FILE_MAX && file_size(&temp, EVENTS_FILE_OLD) <= EVENTS_FILE_MAX);
	assert_true(file_size(&temp, EVENTS_FILE_OLD) > EVENTS_FILE_MAX / 2);
	e = open_at(&temp);
	assert_true(events_newest(e) == EVENTS_MAX + 2000);
	events_close(e);
	temp_close(&temp);
}

static void put_file(struct temp *temp, const char *name, const char *text)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(temp->root, name, ENV_CREATE, &file), 0);
	assert_int_equal(env_pwrite(file, text, strlen(text), 0), 0);
	env_close(file);
}

#define LINE(id, text) "{\"id\":" #id ",\"when\":\"\",\"when_ns\":5,\"class\":\"state\",\"severity\":\"info\",\"protection\":null,\"text\":\"" text "\",\"data\":{}}\n"

static void torn_and_damaged_lines_are_left_out(void **state)
{
	(void)state;
	struct temp temp;
	temp_open(&temp);
	put_file(&temp, EVENTS_FILE_OLD, LINE(3, "three") "no event\n" LINE(4, "four"));
	put_file(&temp, EVENTS_FILE, LINE(4, "again") LINE(5, "five") "{}\n" LINE(6, "six") "{\"id\":7,\"when\":\"");
	struct events *e = open_at(&temp);
	events_emit(e, EVENT_INFO, "daemon", NULL, NULL, "seven");
	events_close(e);
	e = open_at(&temp); // what was torn is cut off, so that what was written behind it is whole
	json_t *json = all_of(e, &(struct event_filter){.since = 0}, 0);
	assert_int_equal(count_of(json), 5);
	for (uint64_t i = 0; i < 5; i++)
		assert_true(id_at(json, i) == 3 + i);
	json_decref(json);
	events_close(e);
	temp_close(&temp);
}

static void count_and_drop(void *context, struct event *event)
{
	unsigned *count = context;
	(*count)++;
	event_done(event);
}

static void file_that_could_not_be_read_is_kept_aside(void **state)
{
	(void)state;
	struct temp temp;
	struct env_stat st;
	temp_open(&temp);
	put_file(&temp, EVENTS_FILE_OLD, LINE(3, "three"));
	put_file(&temp, EVENTS_FILE, LINE(4, "four"));
	bad_disk_begin(env_posix());
	bad_disk_set(EVENTS_FILE, 0, 1000, -EIO);
	struct events *e = open_at(&temp);
	bad_disk_heal();
	events_emit(e, EVENT_INFO, "daemon", NULL, NULL, "later");
	assert_true(events_newest(e) > 4); // whatever the file had, numbers rise
	events_close(e);
	bad_disk_end();
	assert_int_equal(env_stat(temp.root, EVENTS_FILE EVENTS_UNREAD, &st), 0);
	assert_int_equal(st.size, strlen(LINE(4, "four")));
	e = open_at(&temp);
	json_t *json = all_of(e, &(struct event_filter){.since = 4}, 0);
	assert_int_equal(count_of(json), 1);
	json_decref(json);
	events_close(e);
	temp_close(&temp);
}

// The second failure meets a file of which nothing is durable: the older one stays.
static void two_syncs_that_fail_cost_one_file(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = NULL;
	struct events_file f;
	unsigned count = 0;
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	events_file_open(&f, sim_env(sim), root, count_and_drop, &count);
	assert_int_equal(events_file_write(&f, LINE(1, "one"), strlen(LINE(1, "one"))), 0);
	assert_int_equal(events_file_sync(&f, true), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(events_file_write(&f, LINE(2, "two"), strlen(LINE(2, "two"))), 0);
		sim_fail_at(sim, sim_ops(sim), -EIO, false);
		assert_int_equal(events_file_sync(&f, true), -EIO);
		sim_fail_at(sim, SIM_NEVER, 0, false);
	}
	assert_int_equal(events_file_write(&f, LINE(5, "five"), strlen(LINE(5, "five"))), 0);
	assert_int_equal(events_file_sync(&f, true), 0);
	events_file_close(&f);
	events_file_open(&f, sim_env(sim), root, count_and_drop, &count);
	assert_int_equal(count, 3); // one, two as it was first, and five
	events_file_close(&f);
	env_root_close(root);
	sim_free(sim);
}

static void *emit_late(void *context)
{
	events_emit(context, EVENT_INFO, "state", "vm2", NULL, "not this");
	events_emit(context, EVENT_INFO, "state", "vm1", NULL, "this");
	return NULL;
}

static void *wait_for_vm1(void *context)
{
	return events_json(context, &(struct event_filter){.protection = "vm1"}, 0, EVENTS_WAIT_MS_MAX);
}

static void waiting_ends_with_the_event_or_with_the_daemon(void **state)
{
	(void)state;
	struct temp temp;
	temp_open(&temp);
	for (unsigned wake = 0; wake < 2; wake++) {
		struct events *e = open_at(&temp);
		pthread_t waiter, emitter;
		void *json = NULL;
		assert_int_equal(pthread_create(&waiter, NULL, wait_for_vm1, e), 0);
		if (wake) {
			events_wake(e);
		} else {
			assert_int_equal(pthread_create(&emitter, NULL, emit_late, e), 0);
			assert_int_equal(pthread_join(emitter, NULL), 0);
		}
		assert_int_equal(pthread_join(waiter, &json), 0);
		assert_int_equal(count_of(json), 1); // with wake: the one from before
		json_decref(json);
		events_close(e);
	}
	temp_close(&temp);
}

static void nothing_waits_after_the_wake(void **state)
{
	(void)state;
	struct temp temp;
	struct event event;
	temp_open(&temp);
	struct events *e = open_at(&temp);
	events_wake(e);
	assert_int_equal(events_next(e, &(struct event_filter){.since = 0}, UINT_MAX, &event), 0); // or it would be here for weeks
	events_close(e);
	temp_close(&temp);
}

static void without_a_log_of_events_emitting_does_nothing(void **state)
{
	(void)state;
	event_emit(EVENT_INFO, "state", "vm1", json_object(), "nobody hears");
	assert_null(events_default());
}

static void every_event_reads_as_it_was_written(void **state)
{
	(void)state;
	const struct event event = {.id = 77, .wall_ns = INT64_C(1790000000123000000), .severity = EVENT_WARNING, .class = "space", .protection = "vm1",
				    .text = (char[]){"a \"text\" with \\ and \xc3\xa4"}};
	json_t *data = json_pack("{s:i}", "bytes", 7);
	AUTO_FREE char *line = event_encode(&event, data);
	struct event got;
	assert_int_equal(event_decode(line, strlen(line), &got), 0);
	assert_true(got.id == 77 && got.wall_ns == event.wall_ns && got.severity == EVENT_WARNING);
	assert_string_equal(got.class, "space");
	assert_string_equal(got.protection, "vm1");
	assert_string_equal(got.text, event.text);
	assert_string_equal(got.json, line);
	event_done(&got);
	for (size_t cut = 0; cut < strlen(line); cut++)
		assert_int_equal(event_decode(line, cut, &got), -EBADMSG);
	json_decref(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_log_of_events_emitting_does_nothing),
		cmocka_unit_test(every_event_reads_as_it_was_written),
		cmocka_unit_test(numbers_go_on_where_an_earlier_run_ended),
		cmocka_unit_test(filters_since_and_last_choose),
		cmocka_unit_test(more_than_one_answer_holds_are_told_in_several),
		cmocka_unit_test(files_and_memory_are_bounded),
		cmocka_unit_test(torn_and_damaged_lines_are_left_out),
		cmocka_unit_test(file_that_could_not_be_read_is_kept_aside),
		cmocka_unit_test(two_syncs_that_fail_cost_one_file),
		cmocka_unit_test(waiting_ends_with_the_event_or_with_the_daemon),
		cmocka_unit_test(nothing_waits_after_the_wake),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
