// SPDX-License-Identifier: Apache-2.0
// The command line of a daemon: what is wrong with it is said in one line, with exit status 2 (docs/man), before anything is opened.
#include "base/size.h"
#include "link/alerts.h"
#include "link/daemon.h"
#include "link/net.h"
#include "link/web.h"
#include "receiver/reserve.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { FINE = 40, TEXT_SIZE = 1024 };

static void be_daemon(int argc, char **argv)
{
	const char *state = NULL, *threads = NULL;
	const struct daemon_option options[] = {
		{"state", "DIR", "keys", &state, true},
		{"threads", "N", "of it", &threads, false},
	};
	daemon_start("kagami-test", "Tests.", options, COUNT(options), argc, argv);
	struct err err;
	if (threads && strcmp(threads, "0") == 0) {
		(void)err_set(&err, -EINVAL, "--threads %s: give 1 or more", threads);
		daemon_misused(&err);
	}
	_exit(FINE);
}

// What it exits with, and what it says, when it is called so.
static int call(const char *arguments, char said[TEXT_SIZE])
{
	int pipe_fd[2], status = 0;
	assert_int_equal(pipe(pipe_fd), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char *words = strdup(arguments), *rest = words, *argv[16] = {"kagami-test"};
		int argc = 1;
		while (argc < 15 && (argv[argc] = strsep(&rest, " ")))
			argc++;
		(void)dup2(pipe_fd[1], STDERR_FILENO);
		be_daemon(argc, argv);
	}
	(void)close(pipe_fd[1]);
	size_t used = 0;
	for (ssize_t got; (got = read(pipe_fd[0], said + used, TEXT_SIZE - 1 - used)) > 0;)
		used += (size_t)got;
	said[used] = 0;
	(void)close(pipe_fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void option_that_is_given_twice_is_refused(void **state)
{
	(void)state;
	static const char *const twice[][2] = {
		{"--state a --state b", "--state"},		      {"--state a --state=a", "--state"},
		{"--state a --threads=1 --threads 2", "--threads"}, {"--log-level info --state a --log-level debug", "--log-level"},
	};
	char said[TEXT_SIZE], expected[TEXT_SIZE];
	for (size_t i = 0; i < COUNT(twice); i++) {
		assert_int_equal(call(twice[i][0], said), DAEMON_EXIT_USAGE);
		(void)snprintf(expected, sizeof(expected), "kagami-test: %s is given twice (kagami-test --help lists the options)\n", twice[i][1]);
		assert_string_equal(said, expected);
	}
	assert_int_equal(call("--threads 1 --log-level info --state=--threads", said), FINE);
	assert_string_equal(said, "");
}

static void value_that_is_wrong_is_misuse(void **state)
{
	(void)state;
	char said[TEXT_SIZE];
	assert_int_equal(call("--state a --threads 0", said), DAEMON_EXIT_USAGE);
	assert_string_equal(said, "kagami-test: --threads 0: give 1 or more (kagami-test --help lists the options)\n");
	assert_int_equal(call("--threads 1", said), DAEMON_EXIT_USAGE);
	assert_int_equal(call("--state", said), DAEMON_EXIT_USAGE);
}

// ---- the values that several options have

static void address_is_checked_before_it_is_listened_on(void **state)
{
	(void)state;
	static const char *const bad[] = {"1", "x", ":1", "::1:80", "127.0.0.1:65536", "127.0.0.1:"};
	struct err err;
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(net_check_option("listen", bad[i], &err), -EINVAL);
		assert_int_equal(strncmp(err.text, "--listen: ", 10), 0);
	}
	assert_int_equal(net_check_option("listen", "127.0.0.1:0", &err), 0);
	assert_int_equal(net_check_option("listen", "[::]:7654", &err), 0);
}

static void page_is_checked_before_it_is_served(void **state)
{
	(void)state;
	static const struct web_config bad[] = {
		{.web = "x"}, {.metrics = "x"}, {.web = "127.0.0.1:0", .metrics = "1"}, {.token_file = "/nowhere"},
		{.metrics = "127.0.0.1:0", .token_file = "/nowhere"}, {.web = "0.0.0.0:0"}, {.web = "[::]:0"}, {.web = "192.0.2.1:0"},
	};
	static const struct web_config good[] = {
		{.web = NULL}, {.web = "127.0.0.1:0"}, {.web = "[::1]:0"}, {.web = "localhost:0"}, {.metrics = "0.0.0.0:0"},
		{.web = "0.0.0.0:0", .token_file = "/nowhere"}, {.web = "a-name-that-nobody-asks-for.invalid:0"},
	};
	struct err err;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(web_check(&bad[i], &err), -EINVAL);
	for (size_t i = 0; i < COUNT(good); i++)
		assert_int_equal(web_check(&good[i], &err), 0);
}

static void webhook_is_checked_before_it_is_told(void **state)
{
	(void)state;
	static const char *const good[] = {"https://example.com/a", "http://127.0.0.1:1", "@/nowhere"};
	static const char *const bad[] = {"ftp://x", "example.com", "file:///etc/passwd", "http:/x"};
	struct err err;
	for (size_t i = 0; i < COUNT(good); i++)
		assert_int_equal(alerts_check(&(struct alerts_config){.webhook = good[i]}, &err), 0);
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(alerts_check(&(struct alerts_config){.webhook = bad[i]}, &err), -EINVAL);
	assert_int_equal(alerts_check(&(struct alerts_config){.hooks = "/nowhere"}, &err), 0);
}

static void reserve_is_checked_before_there_is_a_store(void **state)
{
	(void)state;
	struct err err;
	assert_int_equal(reserve_check(NULL, &err), 0);
	assert_int_equal(reserve_check("10G", &err), 0);
	assert_int_equal(reserve_check("5%", &err), -EINVAL);
	assert_int_equal(reserve_check("10Q", &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(option_that_is_given_twice_is_refused),
		cmocka_unit_test(value_that_is_wrong_is_misuse),
		cmocka_unit_test(address_is_checked_before_it_is_listened_on),
		cmocka_unit_test(page_is_checked_before_it_is_served),
		cmocka_unit_test(webhook_is_checked_before_it_is_told),
		cmocka_unit_test(reserve_is_checked_before_there_is_a_store),
	};
	return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
