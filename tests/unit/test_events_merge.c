// SPDX-License-Identifier: Apache-2.0
// In which order `kagami events` shows what two daemons wrote down.
#include "tools/events_merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

// Events at these seconds, as one daemon wrote them; 0 ends. Numbered from `id`.
static json_t *events(int id, const int *second)
{
	json_t *array = json_array();
	for (; *second; second++) {
		char when[40];
		(void)snprintf(when, sizeof(when), "2026-01-01T00:00:%02d.000Z", *second);
		assert_int_equal(json_array_append_new(array, json_pack("{s:i, s:s}", "id", id++, "when", when)), 0);
	}
	return array;
}

static void check(const int *a, const int *b, const int *ids)
{
	json_t *first = events(1, a), *second = events(101, b), *merged = events_merge(first, second), *event;
	size_t i;
	json_array_foreach(merged, i, event)
		assert_int_equal(json_integer_value(json_object_get(event, "id")), ids[i]);
	assert_int_equal(ids[json_array_size(merged)], 0);
	json_decref(merged);
	json_decref(first);
	json_decref(second);
}

static void events_of_two_daemons_are_in_the_order_of_time(void **state)
{
	(void)state;
	check((const int[]){1, 3, 5, 0}, (const int[]){2, 3, 6, 0}, (const int[]){1, 101, 2, 102, 3, 103, 0});
	check((const int[]){0}, (const int[]){2, 3, 0}, (const int[]){101, 102, 0});
	check((const int[]){2, 3, 0}, (const int[]){0}, (const int[]){1, 2, 0});
}

static void events_of_a_daemon_whose_clock_was_set_back_stay_in_its_order(void **state)
{
	(void)state;
	check((const int[]){10, 11, 5, 6, 0}, (const int[]){7, 12, 0}, (const int[]){101, 1, 2, 3, 4, 102, 0});
	check((const int[]){20, 1, 0}, (const int[]){0}, (const int[]){1, 2, 0});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_of_two_daemons_are_in_the_order_of_time),
		cmocka_unit_test(events_of_a_daemon_whose_clock_was_set_back_stay_in_its_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
