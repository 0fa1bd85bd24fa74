// SPDX-License-Identifier: Apache-2.0
// The log, where nobody reads it.
#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROOM = 4096, LINES = 20000 };
#define LAST_UNTOLD "line 19000 " // the newest is behind those
#define FIRST_TOLD "line 19001 "

// A process of its own that logs; its standard error is a pipe with little room, of which we have the other end.
static pid_t start(void (*run)(void), int *ret_out)
{
	int out[2];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(fcntl(out[1], F_SETPIPE_SZ, ROOM), ROOM);
	(void)fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		(void)alarm(30);
		(void)close(out[0]);
		(void)dup2(out[1], STDERR_FILENO);
		(void)close(out[1]);
		log_init("test", LOG_LEVEL_INFO);
		log_start();
		run();
		_exit(0);
	}
	(void)close(out[1]);
	*ret_out = out[0];
	return pid;
}

static void say_much(void)
{
	for (unsigned i = 0; i < LINES; i++)
		log_info("line %u of those that nobody reads", i);
}

// What there is room for is in the pipe, or comes.
static void say_much_and_fill_it(void)
{
	say_much();
	for (int have = 0; have < ROOM / 2; log_end())
		if (ioctl(STDERR_FILENO, FIONREAD, &have) < 0)
			_exit(1);
}

// Lines in order, and in place of those that were not kept how many. Returns the number of the next one.
static unsigned long long line_follows(const char *line, unsigned long long next, unsigned *lost)
{
	char want[64];
	unsigned long long count = 0;
	const char *warning = strstr(line, "warning: ");
	if (warning && strstr(line, "lines were not written here")) {
		assert_int_equal(sscanf(warning, "warning: %llu lines", &count), 1);
		assert_true(count > 0);
		(*lost)++;
		return next + count;
	}
	(void)snprintf(want, sizeof(want), "test info: line %llu of those that nobody reads", next);
	assert_non_null(strstr(line, next < LINES ? want : "test warning: the newest"));
	return next + 1;
}

static void nobody_who_logs_waits_for_who_reads(void **state)
{
	(void)state;
	char text[ROOM + 1];
	int status = -1, from;
	pid_t pid = start(say_much_and_fill_it, &from);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	ssize_t got = read(from, text, ROOM);
	assert_true(got > 0);
	text[got] = 0;
	char *rest = text;
	unsigned lost = 0;
	unsigned long long next = 0;
	for (char *line = strsep(&rest, "\n"); rest; line = strsep(&rest, "\n"))
		next = line_follows(line, next, &lost);
	assert_true(next > 10);
	(void)close(from);
}

static void say_much_and_wait(void)
{
	say_much();
	log_warning("the newest");
	char *kept = log_recent();
	if (!kept || !strstr(kept, "warning: the newest\n") || !strstr(kept, FIRST_TOLD) || strstr(kept, LAST_UNTOLD))
		_exit(1);
	free(kept);
	(void)raise(SIGSTOP); // it is read from here on
	for (unsigned i = 0; i < 100; i++)
		log_end();
}

static void what_was_kept_too_long_is_counted(void **state)
{
	(void)state;
	int status = -1, from;
	unsigned lost = 0;
	unsigned long long next = 0;
	char *text = NULL;
	size_t cap = 0;
	pid_t pid = start(say_much_and_wait, &from);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	(void)kill(pid, SIGCONT);
	FILE *file = fdopen(from, "r");
	while (getline(&text, &cap, file) > 0)
		next = line_follows(text, next, &lost);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(next, LINES + 1); // all, with the newest
	assert_true(lost > 0);
	free(text);
	(void)fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_who_logs_waits_for_who_reads),
		cmocka_unit_test(what_was_kept_too_long_is_counted),
	};
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
