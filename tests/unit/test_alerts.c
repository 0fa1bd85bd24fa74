// SPDX-License-Identifier: Apache-2.0
// Hooks one by one: what they see, what ends them, what is not run; how often; and what the journal gets.
#include "link/hooks.h"
#include "link/journal.h"
#include "tests/lib/twin.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

static const struct event event = {
	.id = 17,
	.wall_ns = INT64_C(1769860800123000000),
	.severity = EVENT_CRITICAL,
	.class = "rpo-missed",
	.protection = "vm1",
	.text = (char[]){"late; $(touch /tmp/never) `x` \"y\""},
	.json = (char[]){"{\"id\":17}"},
};

static void script(const struct temp *temp, const char *name, mode_t mode, const char *body)
{
	char path[400];
	(void)snprintf(path, sizeof(path), "%s/%s", temp->dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "#!/bin/sh\n%s\n", body) > 0);
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
}

static __attribute__((noinline)) char *content(const struct temp *temp, const char *name)
{
	char *text = NULL;
	size_t len = 0;
	assert_int_equal(env_read_file(temp->root, name, 1 << 20, &text, &len), 0);
	return text;
}

static void hook_sees_the_event_and_nothing_of_the_daemon(void **state)
{
	(void)state;
	struct temp temp;
	struct err err = {0};
	char body[1000];
	temp_open(&temp);
	assert_int_equal(setenv("KAGAMI_SECRET", "of the daemon", 1), 0);
	int leaked = fcntl(STDERR_FILENO, F_DUPFD, 20); // without O_CLOEXEC
	assert_true(leaked >= 20);
	(void)snprintf(body, sizeof(body), "{ env; pwd; ls /proc/self/fd; cat; } >%s/out", temp.dir);
	script(&temp, "rpo-missed", 0700, body);
	assert_int_equal(hook_run(temp.dir, "rpo-missed", &event, 3, HOOK_LIMIT_MS, NULL, &err), 0);
	char *out = content(&temp, "out");
	static const char *const wanted[] = {
		"KAGAMI_EVENT_ID=17\n", "KAGAMI_EVENT_CLASS=rpo-missed\n", "KAGAMI_EVENT_SEVERITY=critical\n", "KAGAMI_EVENT_PROTECTION=vm1\n",
		"KAGAMI_EVENT_TEXT=late; $(touch /tmp/never) `x` \"y\"\n", "KAGAMI_EVENT_WHEN=2026-01-31T12:00:00.123Z\n", "KAGAMI_EVENT_JSON={\"id\":17}\n",
		"KAGAMI_EVENT_SUPPRESSED=3\n", "PATH=/usr/local/sbin:", "\n/\n",
	};
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		assert_non_null(strstr(out, wanted[i]));
	assert_null(strstr(out, "KAGAMI_SECRET"));
	assert_null(strstr(out, "HOME="));
	char number[20];
	(void)snprintf(number, sizeof(number), "\n%d\n", leaked);
	char *files = strstr(out, "\n/\n");
	assert_null(strstr(files, number));
	assert_int_not_equal(access("/tmp/never", F_OK), 0);
	free(out);
	(void)close(leaked);
	temp_close(&temp);
}

static void hook_that_hangs_is_ended_with_what_it_started(void **state)
{
	(void)state;
	struct temp temp;
	struct err err = {0};
	char body[1000];
	temp_open(&temp);
	(void)snprintf(body, sizeof(body), "trap '' TERM\nsleep 1000 & echo $! >%s/child\nwait; sleep 1000", temp.dir);
	script(&temp, "any", 0700, body);
	uint64_t began = clock_mono_ns();
	assert_int_equal(hook_run(temp.dir, "any", &event, 0, 1000, NULL, &err), -ETIMEDOUT);
	assert_true(clock_mono_ns() - began >= SECOND);
	assert_non_null(strstr(err.text, "did not end within 1 s, and was ended"));
	char *child = content(&temp, "child"), path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", atoi(child));
	for (unsigned i = 0; i < 500; i++) { // it is gone, or nobody has reaped it yet
		char stat[400] = "";
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			break;
		(void)!read(fd, stat, sizeof(stat) - 1);
		(void)close(fd);
		if (strstr(stat, ") Z "))
			break;
		assert_true(i < 499);
		(void)usleep(10000);
	}
	free(child);
	temp_close(&temp);
}

static void hook_is_ended_when_the_daemon_stops(void **state)
{
	(void)state;
	struct temp temp;
	struct err err = {0};
	_Atomic uint64_t stop_ns = clock_mono_ns();
	temp_open(&temp);
	script(&temp, "any", 0700, "exec sleep 1000");
	assert_int_equal(hook_run(temp.dir, "any", &event, 0, 600000, &stop_ns, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "was ended, since this daemon stops"));
	assert_null(strstr(err.text, "within"));
	temp_close(&temp);
}

static void hook_that_fails_is_told_with_its_status(void **state)
{
	(void)state;
	struct temp temp;
	struct err err = {0};
	temp_open(&temp);
	script(&temp, "any", 0700, "exit 7");
	assert_int_equal(hook_run(temp.dir, "any", &event, 0, HOOK_LIMIT_MS, NULL, &err), -EREMOTEIO);
	assert_non_null(strstr(err.text, "exit status 7"));
	script(&temp, "any", 0700, "kill -9 $$");
	assert_int_equal(hook_run(temp.dir, "any", &event, 0, HOOK_LIMIT_MS, NULL, &err), -EREMOTEIO);
	assert_non_null(strstr(err.text, "signal 9"));
	temp_close(&temp);
}

static void what_others_may_write_or_nobody_may_run_is_not_run(void **state)
{
	(void)state;
	struct temp temp;
	struct err err = {0};
	char body[1000];
	temp_open(&temp);
	(void)snprintf(body, sizeof(body), "touch %s/ran", temp.dir);
	assert_int_equal(hook_run(temp.dir, "state", &event, 0, HOOK_LIMIT_MS, NULL, &err), -ENOENT);
	script(&temp, "state", 0600, body);
	assert_int_equal(hook_run(temp.dir, "state", &event, 0, HOOK_LIMIT_MS, NULL, &err), -EACCES);
	script(&temp, "state", 0777, body);
	assert_int_equal(hook_run(temp.dir, "state", &event, 0, HOOK_LIMIT_MS, NULL, &err), -EACCES);
	assert_non_null(strstr(err.text, "chmod go-w"));
	assert_int_equal(env_mkdir(temp.root, "any"), 0);
	assert_int_equal(hook_run(temp.dir, "any", &event, 0, HOOK_LIMIT_MS, NULL, &err), -EACCES);
	struct env_stat st;
	assert_int_equal(env_stat(temp.root, "ran", &st), -ENOENT);
	assert_int_equal(hooks_check(temp.dir, &err), 0);
	assert_int_equal(chmod(temp.dir, 0770), 0);
	assert_int_equal(hooks_check(temp.dir, &err), -EPERM);
	assert_int_equal(hooks_check("/nowhere/at/all", &err), -ENOENT);
	temp_close(&temp);
}

static void more_than_ten_a_minute_are_suppressed_and_counted(void **state)
{
	(void)state;
	struct hook_rates *rates = calloc(1, sizeof(*rates));
	unsigned suppressed = 99;
	assert_non_null(rates);
	for (unsigned i = 0; i < 10; i++)
		assert_true(hook_rate_take(rates, "vm1", 100 * SECOND + i, &suppressed) && suppressed == 0);
	for (unsigned i = 0; i < 5; i++)
		assert_false(hook_rate_take(rates, "vm1", 159 * SECOND, &suppressed));
	assert_true(hook_rate_take(rates, "vm2", 159 * SECOND, &suppressed)); // each for itself
	assert_true(hook_rate_take(rates, "vm1", 160 * SECOND, &suppressed) && suppressed == 5);
	assert_true(hook_rate_take(rates, "vm1", 160 * SECOND, &suppressed) && suppressed == 0);
	for (unsigned i = 0; i < 1000; i++) { // bounded, whatever comes
		char name[20];
		(void)snprintf(name, sizeof(name), "p%u", i);
		assert_true(hook_rate_take(rates, name, (200 + i) * SECOND, &suppressed));
	}
	assert_int_equal(rates->count, HOOK_RATES_MAX);
	free(rates);
}

static void journal_gets_a_field_for_each_part(void **state)
{
	(void)state;
	struct temp temp;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char got[4000] = "";
	temp_open(&temp);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/j", temp.dir);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	journal_send(address.sun_path, "kagami-test", &event);
	assert_true(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
	assert_string_equal(got, "MESSAGE=late; $(touch /tmp/never) `x` \"y\"\nPRIORITY=2\nSYSLOG_IDENTIFIER=kagami-test\nKAGAMI_EVENT_ID=17\nKAGAMI_CLASS=rpo-missed\n"
				 "KAGAMI_SEVERITY=critical\nKAGAMI_PROTECTION=vm1\nKAGAMI_JSON={\"id\":17}\n");
	char small[50];
	assert_int_equal(journal_format(&event, "x", small, sizeof(small)), 0);
	(void)close(fd);
	temp_close(&temp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hook_sees_the_event_and_nothing_of_the_daemon),
		cmocka_unit_test(hook_that_hangs_is_ended_with_what_it_started),
		cmocka_unit_test(hook_is_ended_when_the_daemon_stops),
		cmocka_unit_test(hook_that_fails_is_told_with_its_status),
		cmocka_unit_test(what_others_may_write_or_nobody_may_run_is_not_run),
		cmocka_unit_test(more_than_ten_a_minute_are_suppressed_and_counted),
		cmocka_unit_test(journal_gets_a_field_for_each_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
