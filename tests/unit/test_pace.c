// SPDX-License-Identifier: Apache-2.0
// Whether a cycle lives on what is left of the processors: by the rule alone, and by what the kernel is then asked for.
#include "replicator/pace.h"

#include "replicator/priority.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MS_NS UINT64_C(1000000)

static enum pace_why step(struct pace *pace, uint64_t now_ms, uint64_t waited_ms, unsigned percent, bool crowded)
{
	const struct pace_view view = {
		.now_ns = now_ms * MS_NS, .waited_ns = waited_ms * MS_NS, .done_bytes = percent, .total_bytes = 100, .crowded = crowded};
	pace_step(pace, &view);
	return pace->why;
}

static void cycle_on_its_way_lives_on_what_is_left(void **state)
{
	struct pace pace;
	(void)state;
	pace_begin(&pace, 1000 * MS_NS, 11000 * MS_NS, 0);
	assert_false(pace_due(&pace, 1000 * MS_NS + PACE_LOOK_MS * MS_NS - 1));
	assert_true(pace_due(&pace, 1000 * MS_NS + PACE_LOOK_MS * MS_NS));
	for (unsigned i = 1; i <= 9; i++)
		assert_int_equal(step(&pace, 1000 + i * 1000, i * 900, 12 * i, false), PACE_SPARE);
}

static void cycle_with_no_point_to_replace_in_time_takes_its_share(void **state)
{
	struct pace pace;
	(void)state;
	pace_begin(&pace, 5000 * MS_NS, 0, 0);
	assert_int_equal(pace.why, PACE_OVERDUE);
	assert_int_equal(step(&pace, 5001, 0, 99, false), PACE_OVERDUE);
	pace_begin(&pace, 5000 * MS_NS, 5000 * MS_NS, 0);
	assert_int_equal(pace.why, PACE_OVERDUE);
}

// I1: half of its time given away is what a cycle that is late has not got.
static void cycle_that_is_late_does_not_rest(void **state)
{
	struct pace pace;
	(void)state;
	pace_begin(&pace, 0, 8000 * MS_NS, 0);
	assert_true(pace_may_rest(&pace));
	assert_int_equal(step(&pace, 2000, 0, 1, false), PACE_LATE);
	assert_false(pace_may_rest(&pace));
	pace_begin(&pace, 0, 8000 * MS_NS, 0);
	assert_int_equal(step(&pace, 100, 0, 99, true), PACE_CROWDED);
	assert_false(pace_may_rest(&pace));
	pace_begin(&pace, 9000 * MS_NS, 8000 * MS_NS, 0);
	assert_int_equal(pace.why, PACE_OVERDUE);
	assert_false(pace_may_rest(&pace));
	pace_begin(&pace, 9000 * MS_NS, 0, 0); // the first copy has no objective yet, and the guest has
	assert_int_equal(pace.why, PACE_OVERDUE);
	assert_true(pace_may_rest(&pace));
	pace_begin(&pace, 0, 800000 * MS_NS, 0);
	assert_int_equal(step(&pace, PACE_WINDOW_MS, PACE_WINDOW_MS, 0, false), PACE_STARVED);
	assert_true(pace_may_rest(&pace));
}

static void late_cycle_takes_its_share_to_its_end(void **state)
{
	struct pace pace;
	(void)state;
	pace_begin(&pace, 0, 8000 * MS_NS, 0);
	assert_int_equal(step(&pace, 999, 0, 0, false), PACE_SPARE); // an eighth says nothing yet
	assert_int_equal(step(&pace, 1000, 0, 14, false), PACE_SPARE);
	assert_int_equal(step(&pace, 2000, 0, 27, false), PACE_LATE); // that would take 7.4 of the 8 s
	assert_int_equal(step(&pace, 2100, 0, 90, false), PACE_LATE);
	assert_int_equal(step(&pace, 60000, 0, 99, false), PACE_LATE);
}

static void cycle_whose_cut_is_in_danger_takes_its_share(void **state)
{
	struct pace pace;
	(void)state;
	pace_begin(&pace, 0, 8000 * MS_NS, 0);
	assert_int_equal(step(&pace, 200, 0, 50, true), PACE_CROWDED);
	assert_int_equal(step(&pace, 400, 0, 60, false), PACE_CROWDED);
}

static void starved_cycle_takes_its_share_for_a_while(void **state)
{
	struct pace pace;
	(void)state;
	pace_begin(&pace, 0, 3600 * 1000 * MS_NS, 7000 * MS_NS);
	assert_int_equal(step(&pace, PACE_WINDOW_MS - 1, 7000 + PACE_WINDOW_MS - 1, 50, false), PACE_SPARE);
	assert_int_equal(step(&pace, PACE_WINDOW_MS, 7000 + PACE_WINDOW_MS - 10, 50, false), PACE_STARVED);
	assert_int_equal(step(&pace, PACE_WINDOW_MS + PACE_HOLD_MS - 1, 7500, 50, false), PACE_STARVED);
	assert_int_equal(step(&pace, PACE_WINDOW_MS + PACE_HOLD_MS, 7501, 50, false), PACE_SPARE);
	uint64_t now = 2 * PACE_WINDOW_MS + PACE_HOLD_MS; // nine tenths of a window are not all of it
	assert_int_equal(step(&pace, now, 7501 + PACE_WINDOW_MS / 10 * 9, 50, false), PACE_SPARE);
}

// I1, with processors that are free for a part of the time: a cycle that its share would bring to its end with an eighth in hand
// is there in time, whatever is left over for it, and whenever that ends.
static void objective_is_met_whenever_the_share_would_meet_it(void **state)
{
	(void)state;
	for (unsigned has_ms = 2000; has_ms <= 60000; has_ms += 29000)
		for (unsigned work = 10; work <= 80; work += 10) // of what it has, in percent
			for (unsigned spare = 0; spare <= 100; spare += 10) // the rate of what is left over
				for (unsigned ends = 0; ends <= 100; ends += 10) { // when nothing is left over any more
					struct pace pace;
					double done = 0, needs = has_ms / 100.0 * work;
					uint64_t now = 0;
					pace_begin(&pace, 0, has_ms * MS_NS, 0);
					for (; done < needs && now <= has_ms; now += PACE_LOOK_MS) {
						(void)step(&pace, now, 0, (unsigned)(done * 100 / needs), false);
						done += PACE_LOOK_MS * (pace.why != PACE_SPARE ? 1 : now < has_ms / 100 * ends ? spare / 100.0 : 0);
					}
					assert_true(done >= needs);
				}
}

// ---- what the kernel is asked for

static int policy_of_copies(bool spare)
{
	priority_copy(spare);
	return sched_getscheduler(0);
}

static void *copy(void *ret_policies)
{
	int *policies = ret_policies;
	for (unsigned i = 0; i < 4; i++)
		policies[i] = policy_of_copies(i % 2);
	return NULL;
}

// True where the way back is allowed.
static bool may_return(void)
{
	struct rlimit limit = {0};
	(void)getrlimit(RLIMIT_NICE, &limit);
	return geteuid() == 0 || limit.rlim_cur >= 15;
}

static void copies_go_to_what_is_left_and_back(void **state)
{
	int policies[4];
	pthread_t thread;
	(void)state;
	if (!may_return())
		skip();
	assert_int_equal(pthread_create(&thread, NULL, copy, policies), 0);
	(void)pthread_join(thread, NULL);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(policies[i], i % 2 ? SCHED_IDLE : SCHED_OTHER);
}

// Whoever went there could not come back, however late the point is.
static void copies_keep_their_share_where_there_is_no_way_back(void **state)
{
	int status = 0;
	(void)state;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		const struct rlimit none = {0, 0};
		if (setrlimit(RLIMIT_NICE, &none) < 0 || (geteuid() == 0 && setuid(65534) < 0))
			_exit(2);
		_exit(policy_of_copies(true) == SCHED_OTHER ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cycle_on_its_way_lives_on_what_is_left),
		cmocka_unit_test(cycle_with_no_point_to_replace_in_time_takes_its_share),
		cmocka_unit_test(cycle_that_is_late_does_not_rest),
		cmocka_unit_test(late_cycle_takes_its_share_to_its_end),
		cmocka_unit_test(cycle_whose_cut_is_in_danger_takes_its_share),
		cmocka_unit_test(starved_cycle_takes_its_share_for_a_while),
		cmocka_unit_test(objective_is_met_whenever_the_share_would_meet_it),
		cmocka_unit_test(copies_keep_their_share_where_there_is_no_way_back), // first: what is found out once, a child has
		cmocka_unit_test(copies_go_to_what_is_left_and_back),
	};
	return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
