// SPDX-License-Identifier: Apache-2.0
// What a service manager is told (link/notify.h).
#include "link/notify.h"

#include "base/auto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

// '@' in front: without a file.
static int manager(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	memcpy(address.sun_path, name, strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0 && bind(fd, (const struct sockaddr *)&address, len) == 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static void hears(int fd, const char *wanted)
{
	char text[1024] = "";
	ssize_t len = recv(fd, text, sizeof(text) - 1, 0);
	assert_true(len >= 0);
	assert_string_equal(text, wanted);
}

static void hears_nothing(int fd)
{
	char text[64];
	assert_int_equal(recv(fd, text, sizeof(text), 0), -1);
}

static void the_manager_hears_when_it_serves_stops_and_goes_on(void **state)
{
	(void)state;
	char path[64], names[2][64];
	(void)snprintf(path, sizeof(path), "/tmp/kagami-notify-%d", (int)getpid());
	(void)snprintf(names[0], 64, "%s", path);
	(void)snprintf(names[1], 64, "@kagami-notify-%d", (int)getpid());
	for (unsigned i = 0; i < 2; i++) {
		AUTO_CLOSE int fd = manager(names[i]);
		notify_open();
		assert_null(getenv("NOTIFY_SOCKET")); // no hook speaks for us
		notify_ready();
		hears(fd, "READY=1\nSTATUS=");
		notify_stopping();
		hears(fd, "STOPPING=1");
		notify_stop_goes_on(60, "Stopping: 7 MiB");
		hears(fd, "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=Stopping: 7 MiB");
		hears_nothing(fd);
	}
	(void)unlink(path);
}

static void without_a_manager_nothing_is_sent(void **state)
{
	(void)state;
	static const char *const names[] = {NULL, "", "@", "x", "vsock:2:1234"};
	char name[64], far[200];
	memset(far, 'a', sizeof(far) - 1);
	far[0] = '/';
	far[sizeof(far) - 1] = 0;
	(void)snprintf(name, sizeof(name), "@kagami-notify-%d", (int)getpid());
	AUTO_CLOSE int fd = manager(name); // of before
	notify_open();
	for (unsigned i = 0; i <= sizeof(names) / sizeof(names[0]); i++) {
		const char *is = i < sizeof(names) / sizeof(names[0]) ? names[i] : far;
		if (is)
			assert_int_equal(setenv("NOTIFY_SOCKET", is, 1), 0);
		else
			(void)unsetenv("NOTIFY_SOCKET");
		notify_open();
		notify_ready();
		notify_stopping();
		hears_nothing(fd);
	}
}

// It may be stopped itself: a stop of ours does not wait for it.
static void a_manager_that_takes_nothing_holds_nothing_up(void **state)
{
	(void)state;
	char name[64];
	(void)snprintf(name, sizeof(name), "@kagami-notify-%d", (int)getpid());
	AUTO_CLOSE int fd = manager(name);
	notify_open();
	for (unsigned i = 0; i < 10000; i++) // more than any queue has places
		notify_stop_goes_on(60, "");
	hears(fd, "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=");
	(void)setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1);
	notify_open();
	notify_ready();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_manager_hears_when_it_serves_stops_and_goes_on),
		cmocka_unit_test(without_a_manager_nothing_is_sent),
		cmocka_unit_test(a_manager_that_takes_nothing_holds_nothing_up),
	};
	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
