// SPDX-License-Identifier: Apache-2.0
#include "base/thread.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#include <cmocka.h>

struct seen {
	sigset_t blocked;
	char name[16];
};

static void *look(void *context)
{
	struct seen *seen = context;
	(void)pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
	(void)pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
	return NULL;
}

static void *wait_for_name(void *context) // it is given once the thread runs
{
	struct seen *seen = context;
	for (int i = 0; i < 10000; i++) {
		(void)look(seen);
		if (seen->name[0] == 'k' && seen->name[1] == '-')
			break;
		const struct timespec moment = {.tv_nsec = 1000000};
		(void)nanosleep(&moment, NULL);
	}
	return NULL;
}

static void thread_has_its_name_and_no_signal_and_who_started_it_has_them_as_before(void **state)
{
	(void)state;
	pthread_t thread;
	struct seen seen = {.name = ""};
	sigset_t before, after;
	(void)sigemptyset(&before);
	(void)sigaddset(&before, SIGUSR2);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	assert_int_equal(thread_start(&thread, "k-test", wait_for_name, &seen), 0);
	(void)pthread_join(thread, NULL);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &after);
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE};
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		assert_int_equal(sigismember(&seen.blocked, signals[i]), 1);
		assert_int_equal(sigismember(&after, signals[i]), signals[i] == SIGUSR2);
	}
	assert_string_equal(seen.name, "k-test");
}

// By the wall clock that time would have been over since long ago.
static void wait_on_a_condition_goes_by_the_monotonic_clock(void **state)
{
	(void)state;
	enum { WAIT_NS = 2000000 };
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition;
	thread_condition_init(&condition);
	uint64_t before_ns = clock_mono_ns();
	const struct timespec until = clock_mono_after(WAIT_NS);
	int code = 0;
	(void)pthread_mutex_lock(&lock);
	while (code == 0)
		code = pthread_cond_timedwait(&condition, &lock, &until);
	(void)pthread_mutex_unlock(&lock);
	assert_int_equal(code, ETIMEDOUT);
	assert_true(clock_mono_ns() - before_ns >= WAIT_NS);
	(void)pthread_cond_destroy(&condition);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thread_has_its_name_and_no_signal_and_who_started_it_has_them_as_before),
		cmocka_unit_test(wait_on_a_condition_goes_by_the_monotonic_clock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
