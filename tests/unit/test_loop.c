// SPDX-License-Identifier: Apache-2.0
// Loop devices under a race for them. Without root, or without loop devices, there is nothing to race for: skipped.
#include "receiver/loop.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { RACERS = 8, ROUNDS = 150, FILE_SIZE = 1 << 20 };

struct racer {
	pthread_t thread;
	char file[256];
	unsigned char stamp;
	int failed;
	struct err err;
};

// Takes a device, sees its own file through it, and gives it back.
static int race_once(struct racer *racer)
{
	char name[LOOP_NAME_SIZE], shown[256] = "";
	unsigned char byte = 0;
	AUTO_CLOSE int device = loop_attach(racer->file, 4096, 8192, name, &racer->err);
	if (device < 0)
		return device;
	if (pread(device, &byte, 1, 0) != 1 || byte != racer->stamp)
		return err_set(&racer->err, -EIO, "%s shows %u, which is another's", name, byte);
	if (loop_file(name, shown, sizeof(shown)) || strcmp(shown, racer->file) != 0)
		return err_set(&racer->err, -EIO, "%s is said to show %s", name, shown);
	return 0;
}

static void *race(void *context)
{
	struct racer *racer = context;
	for (unsigned i = 0; i < ROUNDS && !racer->failed; i++)
		racer->failed = race_once(racer);
	return NULL;
}

static void racer_file(struct racer *racer, unsigned char stamp)
{
	const char *directory = getenv("TMPDIR");
	(void)snprintf(racer->file, sizeof(racer->file), "%s/loop-race-%d-%u", directory ? directory : "/tmp", (int)getpid(), stamp);
	AUTO_CLOSE int fd = open(racer->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	racer->stamp = stamp;
	AUTO_FREE unsigned char *bytes = malloc(FILE_SIZE);
	assert_non_null(bytes);
	memset(bytes, stamp, FILE_SIZE);
	assert_int_equal(write(fd, bytes, FILE_SIZE), FILE_SIZE);
}

static void loop_devices_raced_for_are_each_ones_own(void **unused)
{
	(void)unused;
	static struct racer racer[RACERS];
	if (access("/dev/loop-control", R_OK | W_OK))
		skip();
	for (unsigned i = 0; i < RACERS; i++)
		racer_file(&racer[i], (unsigned char)(i + 1));
	for (unsigned i = 0; i < RACERS; i++)
		assert_int_equal(pthread_create(&racer[i].thread, NULL, race, &racer[i]), 0);
	for (unsigned i = 0; i < RACERS; i++)
		(void)pthread_join(racer[i].thread, NULL);
	for (unsigned i = 0; i < RACERS; i++)
		(void)unlink(racer[i].file);
	for (unsigned i = 0; i < RACERS; i++) {
		if (racer[i].failed)
			print_message("racer %u: %s\n", i, racer[i].err.text);
		assert_int_equal(racer[i].failed, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loop_devices_raced_for_are_each_ones_own),
	};
	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
