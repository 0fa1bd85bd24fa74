// SPDX-License-Identifier: Apache-2.0
// The last descriptors are the process's own: no pipe for a guest takes one.
#include "base/descriptor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { LIMIT = 64, SPARE = LIMIT / DESCRIPTORS_SPARE_PART };

static int lowest(void)
{
	int fd = dup(0);
	assert_true(fd >= 0);
	(void)close(fd);
	return fd;
}

// Takes descriptors until `end` is the lowest that is free.
static void take_up_to(int end)
{
	while (lowest() < end)
		assert_true(dup(0) >= 0);
}

static void pipe_takes_none_of_the_last(void **state)
{
	int ends[2];
	(void)state;
	assert_true(descriptor_pipe(ends));
	assert_int_equal(write(ends[1], "x", 1), 1);
	char byte;
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(read(ends[0], &byte, 1), -1); // and does not wait
	(void)close(ends[0]);
	(void)close(ends[1]);
	take_up_to(LIMIT - SPARE - 2);
	assert_true(descriptor_pipe(ends)); // the last two of the others
	assert_int_equal(lowest(), LIMIT - SPARE);
	assert_false(descriptor_pipe((int[2]){0}));
	assert_int_equal(lowest(), LIMIT - SPARE);
	(void)close(LIMIT - SPARE - 1);
	assert_false(descriptor_pipe(ends)); // one of its two would be
	assert_int_equal(lowest(), LIMIT - SPARE - 1);
}

static int limit_descriptors(void **state)
{
	struct rlimit limit;
	(void)state;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return -1;
	limit.rlim_cur = LIMIT;
	return setrlimit(RLIMIT_NOFILE, &limit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(pipe_takes_none_of_the_last, limit_descriptors),
	};
	return cmocka_run_group_tests_name("descriptor", tests, NULL, NULL);
}
