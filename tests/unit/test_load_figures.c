// SPDX-License-Identifier: Apache-2.0
#include "tools/load_figures.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static void percentiles_are_values_that_so_many_do_not_exceed(void **state)
{
	uint64_t ns[200];
	(void)state;
	for (unsigned i = 0; i < 200; i++)
		ns[i] = 200 - i; // 1 to 200, falling
	struct load_times t = load_times_of(ns, 200);
	assert_int_equal(t.count, 200);
	assert_int_equal(t.p50_ns, 100);
	assert_int_equal(t.p99_ns, 198);
	assert_int_equal(t.max_ns, 200);
	assert_int_equal(t.mean_ns, 100); // 100.5
}

static void times_of_few_and_of_none_are_theirs(void **state)
{
	uint64_t three[] = {30, 10, 20}, one[] = {7};
	(void)state;
	struct load_times t = load_times_of(three, 3);
	assert_int_equal(t.p50_ns, 20);
	assert_int_equal(t.p99_ns, 30);
	t = load_times_of(one, 1);
	assert_int_equal(t.p50_ns, 7);
	assert_int_equal(t.p99_ns, 7);
	t = load_times_of(one, 0);
	assert_int_equal(t.count, 0);
	assert_int_equal(t.max_ns, 0);
}

static void usage_of_this_process_counts_what_it_opens(void **state)
{
	struct load_usage before, after;
	struct err err = {0};
	int pipes[2];
	(void)state;
	assert_int_equal(load_usage_of(getpid(), &before, &err), 0);
	assert_int_equal(before.threads, 1);
	assert_true(before.rss_bytes > 100000);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(load_usage_of(getpid(), &after, &err), 0);
	assert_int_equal(after.files, before.files + 2);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	load_usage_most(&before, &after);
	assert_int_equal(before.files, after.files);
	assert_int_equal(load_usage_of(INT_MAX, &after, &err), -ENOENT);
	assert_int_not_equal(err.text[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percentiles_are_values_that_so_many_do_not_exceed),
		cmocka_unit_test(times_of_few_and_of_none_are_theirs),
		cmocka_unit_test(usage_of_this_process_counts_what_it_opens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
