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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROOM = 4096, LINES = 3000 };

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

// What the pipe took is the oldest, whole lines and in order.
static unsigned lines_read(char *text)
{
	unsigned count = 0;
	char *rest = text, want[64];
	for (char *line = strsep(&rest, "\n"); rest; line = strsep(&rest, "\n")) {
		(void)snprintf(want, sizeof(want), "test info: line %u of those that nobody reads", count++);
		assert_non_null(strstr(line, want));
	}
	return count;
}

static void nobody_who_logs_waits_for_who_reads(void **state)
{
	(void)state;
	char text[ROOM + 1];
	int status = -1, from;
	pid_t pid = start(say_much, &from);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	ssize_t got = read(from, text, ROOM);
	assert_true(got > 0);
	text[got] = 0;
	assert_true(lines_read(text) > 10);
	(void)close(from);
}

static void say_much_and_wait(void)
{
	say_much();
	log_warning("the newest");
	char *kept = log_recent();
	if (!kept || !strstr(kept, "warning: the newest\n") || !strstr(kept, "line 2001 ") || strstr(kept, "line 2000 "))
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
	unsigned long long lost = 0;
	unsigned lines = 0, warnings = 0;
	bool newest = false;
	char *text = NULL;
	size_t cap = 0;
	pid_t pid = start(say_much_and_wait, &from);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	(void)kill(pid, SIGCONT);
	FILE *file = fdopen(from, "r");
	while (getline(&text, &cap, file) > 0) {
		lines++;
		if (strstr(text, "lines were not written here")) {
			assert_int_equal(sscanf(strstr(text, "warning: "), "warning: %llu lines", &lost), 1);
			warnings++;
		}
		newest = strstr(text, "warning: the newest\n");
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(newest);
	assert_int_equal(warnings, 1);
	assert_int_equal(lines - 1 + lost, LINES + 1);
	assert_true(lost > 0 && lost <= LINES + 1 - LOG_RECENT_LINES);
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
