// SPDX-License-Identifier: Apache-2.0
#include "receiver/child.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { LONG_MS = 60000 };

static struct child_result run_sh(const char *script, unsigned timeout_ms)
{
	struct child_result result;
	struct err err = {.code = 0};
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};
	assert_int_equal(child_run(argv, timeout_ms, &result, &err), 0);
	return result;
}

static void child_reports_exit_code_and_what_was_said(void **state)
{
	(void)state;
	struct child_result result = run_sh("echo one; echo ' two\nlines ' >&2; exit 3", LONG_MS);
	assert_int_equal(result.exit_code, 3);
	assert_int_equal(result.signal, 0);
	assert_false(result.timed_out);
	assert_string_equal(result.text, "one  two lines");
}

static void child_reports_the_signal_that_ended_it(void **state)
{
	(void)state;
	struct child_result result = run_sh("kill -SEGV $$", LONG_MS);
	assert_int_equal(result.exit_code, -1);
	assert_int_equal(result.signal, SIGSEGV);
}

static void child_arguments_are_never_read_by_a_shell(void **state)
{
	(void)state;
	struct child_result result;
	const char *const argv[] = {"/bin/sh", "-c", "printf %s \"$1\" >&2", "sh", "$(echo x); `id` 'q' *", NULL};
	assert_int_equal(child_run(argv, LONG_MS, &result, NULL), 0);
	assert_string_equal(result.text, "$(echo x); `id` 'q' *");
}

static void child_that_takes_too_long_is_killed_with_its_own_children(void **state)
{
	(void)state;
	struct child_result result = run_sh("sleep 600 & echo $! >&2; wait", 300);
	assert_true(result.timed_out);
	assert_int_equal(result.signal, SIGKILL);
	pid_t grandchild = atoi(result.text);
	assert_true(grandchild > 1);
	for (unsigned i = 0; i < 1000 && kill(grandchild, 0) == 0; i++) { // it is init's to reap, or a zombie until then
		char path[64], stat[256] = "";
		(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)grandchild);
		int fd = open(path, O_RDONLY);
		if (fd >= 0 && read(fd, stat, sizeof(stat) - 1) > 0 && strstr(stat, ") Z"))
			i = 1000;
		if (fd >= 0)
			(void)close(fd);
		assert_true(i != 999);
		usleep(10000);
	}
}

static void child_that_floods_its_errors_keeps_the_last_of_them(void **state)
{
	(void)state;
	struct child_result result = run_sh("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done >&2; echo end >&2", LONG_MS);
	assert_int_equal(result.exit_code, 0);
	assert_true(strlen(result.text) < CHILD_TEXT_SIZE);
	assert_string_equal(result.text + strlen(result.text) - 3, "end");
}

static void child_that_leaves_a_daemon_behind_has_ended(void **state)
{
	(void)state;
	struct child_result result = run_sh("sleep 600 & echo $! >&2; exit 0", LONG_MS); // the pipe stays open
	assert_int_equal(result.exit_code, 0);
	assert_false(result.timed_out);
	pid_t daemon = atoi(result.text);
	assert_true(daemon > 1);
	assert_int_equal(kill(daemon, SIGKILL), 0);
}

static void child_inherits_no_descriptor_and_no_environment(void **state)
{
	(void)state;
	int fd = open("/dev/null", O_RDONLY); // without O_CLOEXEC
	assert_true(fd > 2);
	assert_int_equal(setenv("KAGAMI_TEST_SECRET", "x", 1), 0);
	char script[128];
	(void)snprintf(script, sizeof(script), "[ ! -e /proc/self/fd/%d ] && [ -z \"$KAGAMI_TEST_SECRET\" ]", fd);
	assert_int_equal(run_sh(script, LONG_MS).exit_code, 0);
	assert_int_equal(unsetenv("KAGAMI_TEST_SECRET"), 0);
	assert_int_equal(close(fd), 0);
}

static void child_check_tells_failure_from_success(void **state)
{
	(void)state;
	struct err err = {.code = 0};
	const char *const good[] = {"/bin/sh", "-c", "echo noise >&2", NULL};
	const char *const bad[] = {"/bin/sh", "-c", "echo the disk is on fire >&2; exit 1", NULL};
	const char *const slow[] = {"/bin/sh", "-c", "exec sleep 600", NULL};
	const char *const none[] = {"/nonexistent/program", NULL};
	assert_int_equal(child_check(good, LONG_MS, &err), 0);
	assert_int_equal(child_check(bad, LONG_MS, &err), -EIO);
	assert_non_null(strstr(err.text, "the disk is on fire"));
	assert_int_equal(child_check(slow, 100, &err), -ETIMEDOUT);
	assert_int_equal(child_check(none, LONG_MS, &err), -ENOENT);
}

static void child_find_names_the_package_of_what_is_missing(void **state)
{
	(void)state;
	char path[CHILD_PATH_SIZE];
	struct err err = {.code = 0};
	assert_int_equal(child_find("sh", "dash", path, sizeof(path), &err), 0);
	assert_int_equal(path[0], '/');
	assert_int_equal(child_find("no-such-program-here", "some-package", path, sizeof(path), &err), -ENOPKG);
	assert_non_null(strstr(err.text, "apt-get install some-package"));
}

static void child_find_ignores_relative_entries_of_path(void **state)
{
	(void)state;
	char path[CHILD_PATH_SIZE], *was = getenv("PATH"), *old = strdup(was ? was : "");
	assert_int_equal(setenv("PATH", ".:bin", 1), 0);
	assert_int_equal(child_find("sh", "dash", path, sizeof(path), NULL), 0);
	assert_int_equal(path[0], '/');
	assert_int_equal(setenv("PATH", old, 1), 0);
	free(old);
}

// --- ending by pid file ---

struct victim {
	pid_t pid;
	char pidfile[128];
};

static void victim_start(struct victim *victim, const char *script, const char *mark)
{
	const char *temp = getenv("TMPDIR");
	int ready[2];
	char byte;
	assert_int_equal(pipe(ready), 0);
	victim->pid = fork();
	assert_true(victim->pid >= 0);
	if (victim->pid == 0) {
		(void)dup2(ready[1], STDOUT_FILENO);
		(void)close(ready[0]);
		(void)close(ready[1]);
		(void)execl("/bin/sh", "sh", "-c", script, mark, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(close(ready[1]), 0);
	assert_int_equal(read(ready[0], &byte, 1), 1); // it runs, with its own command line
	assert_int_equal(close(ready[0]), 0);
	(void)snprintf(victim->pidfile, sizeof(victim->pidfile), "%.60s/kagami-child-XXXXXX", temp ? temp : "/tmp");
	int fd = mkstemp(victim->pidfile);
	assert_true(fd >= 0 && dprintf(fd, "%d\n", (int)victim->pid) > 0);
	assert_int_equal(close(fd), 0);
}

static int victim_end(const struct victim *victim)
{
	int status = 0;
	assert_int_equal(waitpid(victim->pid, &status, 0), victim->pid);
	assert_int_equal(unlink(victim->pidfile), 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void child_end_ends_the_process_that_carries_the_mark(void **state)
{
	(void)state;
	struct victim victim;
	victim_start(&victim, "echo; while :; do sleep 0.1; done", "/store/vm1/mark");
	assert_int_equal(child_end(victim.pidfile, "/store/vm1/mark", LONG_MS, NULL), 0);
	assert_int_equal(victim_end(&victim), SIGTERM);
}

static void child_end_kills_what_ignores_sigterm(void **state)
{
	(void)state;
	struct victim victim;
	victim_start(&victim, "trap '' TERM; echo; while :; do sleep 0.1; done", "/store/vm1/mark");
	assert_int_equal(child_end(victim.pidfile, "/store/vm1/mark", 200, NULL), 0);
	assert_int_equal(victim_end(&victim), SIGKILL);
}

static void child_end_leaves_a_stranger_with_that_number_alone(void **state)
{
	(void)state;
	struct victim victim;
	victim_start(&victim, "echo; while :; do sleep 0.1; done", "/somebody/else");
	assert_int_equal(child_end(victim.pidfile, "/store/vm1/mark", LONG_MS, NULL), 0);
	assert_int_equal(waitpid(victim.pid, NULL, WNOHANG), 0); // still there
	assert_int_equal(kill(victim.pid, SIGKILL), 0);
	assert_int_equal(victim_end(&victim), SIGKILL);
}

static void child_end_takes_a_bad_pid_file_for_none(void **state)
{
	(void)state;
	static const char *const texts[] = {"", "\n", "x", "0\n", "1\n", "-1\n", "99999999999999999999\n", "12 34\n"};
	char path[] = "/tmp/kagami-pid-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, texts[i], strlen(texts[i]), 0), (ssize_t)strlen(texts[i]));
		assert_int_equal(child_end(path, "", LONG_MS, NULL), 0); // the empty mark would fit every process
	}
	assert_int_equal(close(fd), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(child_end(path, "", LONG_MS, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(child_reports_exit_code_and_what_was_said),
		cmocka_unit_test(child_reports_the_signal_that_ended_it),
		cmocka_unit_test(child_arguments_are_never_read_by_a_shell),
		cmocka_unit_test(child_that_takes_too_long_is_killed_with_its_own_children),
		cmocka_unit_test(child_that_floods_its_errors_keeps_the_last_of_them),
		cmocka_unit_test(child_that_leaves_a_daemon_behind_has_ended),
		cmocka_unit_test(child_inherits_no_descriptor_and_no_environment),
		cmocka_unit_test(child_check_tells_failure_from_success),
		cmocka_unit_test(child_find_names_the_package_of_what_is_missing),
		cmocka_unit_test(child_find_ignores_relative_entries_of_path),
		cmocka_unit_test(child_end_ends_the_process_that_carries_the_mark),
		cmocka_unit_test(child_end_kills_what_ignores_sigterm),
		cmocka_unit_test(child_end_leaves_a_stranger_with_that_number_alone),
		cmocka_unit_test(child_end_takes_a_bad_pid_file_for_none),
	};
	return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}
