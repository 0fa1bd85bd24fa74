// SPDX-License-Identifier: Apache-2.0
// Preloaded: whoever gives a file the name that KAGAMI_TEST_NAME says waits while the file that KAGAMI_TEST_HELD says is there, and then finds the directory broken if it came to wait.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	int (*real)(int, const char *, int, const char *);
	const char *name = getenv("KAGAMI_TEST_NAME"), *held = getenv("KAGAMI_TEST_HELD"), *last = strrchr(to, '/');
	unsigned waited = 0;
	if (name && held && strcmp(last ? last + 1 : to, name) == 0)
		for (; access(held, F_OK) == 0; waited++)
			(void)usleep(10000);
	if (waited) {
		errno = EIO;
		return -1;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "renameat");
	return real(from_dir, from, to_dir, to);
}
