// SPDX-License-Identifier: Apache-2.0
// The record of syncs: what a try adds, what is kept, what it measures, and its file.
#include "replicator/sync_log.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sync_record made(const char *reason, uint64_t point, uint64_t read_bytes, uint64_t ms)
{
	struct sync_record record = {.began_wall_ns = 1000, .ended_wall_ns = 2000, .duration_ms = ms, .tries = 1,
				     .candidate_bytes = read_bytes / 2, .read_bytes = read_bytes, .sent_bytes = 7, .saved_bytes = 3, .piece_blocks = 2, .kept_bytes = 5,
				     .point = point};
	(void)snprintf(record.reason, sizeof(record.reason), "%s", reason);
	(void)snprintf(record.failure, sizeof(record.failure), "%s", point ? "" : "the link broke");
	return record;
}

static void sync_that_is_tried_again_is_one_record_with_the_cost_of_all_tries(void **state)
{
	(void)state;
	static struct sync_log log;
	struct sync_record failed = made("initial", 0, 100, 10), good = made("initial", 4, 50, 5);
	good.began_wall_ns = 5000;
	good.ended_wall_ns = 6000;
	sync_log_add(&log, &failed);
	sync_log_add(&log, &failed);
	assert_int_equal(log.count, 1);
	assert_string_equal(log.record[0].failure, "the link broke");
	sync_log_add(&log, &good);
	assert_int_equal(log.count, 1);
	assert_int_equal(log.record[0].tries, 3);
	assert_int_equal(log.record[0].candidate_bytes, 50); // the same ones each time
	assert_int_equal(log.record[0].read_bytes, 250);
	assert_int_equal(log.record[0].sent_bytes, 21);
	assert_int_equal(log.record[0].saved_bytes, 9);
	assert_int_equal(log.record[0].piece_blocks, 6);
	assert_int_equal(log.record[0].kept_bytes, 15);
	assert_int_equal(log.record[0].duration_ms, 25);
	assert_int_equal(log.record[0].point, 4);
	assert_int_equal(log.record[0].began_wall_ns, 1000);
	assert_int_equal(log.record[0].ended_wall_ns, 6000);
	assert_string_equal(log.record[0].failure, "");
	sync_log_add(&log, &good); // one that is committed is over
	assert_int_equal(log.count, 2);
	struct sync_record other = made("position", 0, 1, 1);
	sync_log_add(&log, &other);
	sync_log_add(&log, &failed); // another reason, another sync
	assert_int_equal(log.count, 4);
}

static void sync_whose_answer_was_lost_is_closed_by_the_point_that_was_found(void **state)
{
	(void)state;
	static struct sync_log log;
	assert_false(sync_log_found_committed(&log, 1));
	struct sync_record failed = made("initial", 0, 100, 10);
	sync_log_add(&log, &failed);
	assert_true(sync_log_found_committed(&log, 9));
	assert_int_equal(log.record[0].point, 9);
	assert_string_equal(log.record[0].failure, "");
	assert_false(sync_log_found_committed(&log, 10));
	assert_int_equal(log.record[0].point, 9);
}

static void newest_hundred_are_kept(void **state)
{
	(void)state;
	static struct sync_log log;
	for (uint64_t i = 1; i <= SYNC_LOG_MAX + 7; i++) {
		struct sync_record record = made("unclean-stop", i, i, 1);
		sync_log_add(&log, &record);
	}
	assert_int_equal(log.count, SYNC_LOG_MAX);
	assert_int_equal(log.record[0].point, 8);
	assert_int_equal(log.record[SYNC_LOG_MAX - 1].point, SYNC_LOG_MAX + 7);
}

static void speed_is_that_of_the_newest_committed_syncs(void **state)
{
	(void)state;
	static struct sync_log log;
	assert_int_equal(sync_log_speed(&log), 0);
	struct sync_record failed = made("position", 0, 1 << 30, 1);
	sync_log_add(&log, &failed);
	assert_int_equal(sync_log_speed(&log), 0); // it measured a failure
	struct sync_record slow = made("initial", 1, 1000, 1000), fast = made("initial", 2, 9000, 1000);
	sync_log_add(&log, &slow);
	assert_int_equal(sync_log_speed(&log), 1000);
	sync_log_add(&log, &fast);
	assert_int_equal(sync_log_speed(&log), 5000);
	for (int i = 0; i < SYNC_LOG_SPEED_OF; i++)
		sync_log_add(&log, &fast);
	assert_int_equal(sync_log_speed(&log), 9000);
	struct sync_record instant = made("initial", 3, 500, 0);
	log.count = 0;
	sync_log_add(&log, &instant);
	assert_int_equal(sync_log_speed(&log), 500000);
}

static void file_gives_back_what_was_saved(void **state)
{
	(void)state;
	static struct sync_log log, again;
	struct temp temp;
	struct err err = {0};
	temp_open(&temp);
	assert_int_equal(env_mkdir(temp.root, "protections"), 0);
	assert_int_equal(env_mkdir(temp.root, "protections/vm1"), 0);
	assert_int_equal(sync_log_load(temp.root, "vm1", &again, &err), 0); // none yet
	assert_int_equal(again.count, 0);
	for (uint64_t i = 0; i < SYNC_LOG_MAX; i++) {
		struct sync_record record = made(i % 2 ? "position" : "initial", i % 3, i << 30, i);
		memset(record.failure, 'f', i % 3 ? 0 : sizeof(record.failure) - 1);
		sync_log_add(&log, &record);
	}
	assert_int_equal(sync_log_save(temp.root, "vm1", &log, &err), 0);
	assert_int_equal(sync_log_load(temp.root, "vm1", &again, &err), 0);
	assert_int_equal(again.count, log.count);
	assert_memory_equal(&again, &log, sizeof(log));
	temp_close(&temp);
}

static void damaged_file_is_an_error_and_an_empty_log(void **state)
{
	(void)state;
	static struct sync_log log;
	static const char *const bad[] = {
		"", "{", "[]", "{}", "{\"version\": 2, \"syncs\": []}", "{\"version\": 1, \"syncs\": [{}]}",
		"{\"version\": 1, \"syncs\": [], \"more\": 1}", "{\"version\": 1, \"syncs\": 3}",
	};
	struct temp temp;
	temp_open(&temp);
	assert_int_equal(env_mkdir(temp.root, "protections"), 0);
	assert_int_equal(env_mkdir(temp.root, "protections/vm1"), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = {0};
		log.count = 5;
		assert_int_equal(env_replace(temp.root, "protections/vm1", "protections/vm1/syncs.json", bad[i], strlen(bad[i])), 0);
		assert_true(sync_log_load(temp.root, "vm1", &log, &err) < 0);
		assert_non_null(strstr(err.text, "syncs.json"));
		assert_int_equal(log.count, 0);
	}
	temp_close(&temp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sync_that_is_tried_again_is_one_record_with_the_cost_of_all_tries),
		cmocka_unit_test(sync_whose_answer_was_lost_is_closed_by_the_point_that_was_found),
		cmocka_unit_test(newest_hundred_are_kept),
		cmocka_unit_test(speed_is_that_of_the_newest_committed_syncs),
		cmocka_unit_test(file_gives_back_what_was_saved),
		cmocka_unit_test(damaged_file_is_an_error_and_an_empty_log),
	};
	return cmocka_run_group_tests_name("sync_log", tests, NULL, NULL);
}
