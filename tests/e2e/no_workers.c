// SPDX-License-Identifier: Apache-2.0
// Preloaded: whoever sets up an io_uring is first put into the control group whose file of tasks is named by KAGAMI_TEST_TASKS. So a limit on threads
// there is one on the workers that the kernel makes for this ring, and on nothing else of the process.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct io_uring;
struct io_uring_params;

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	int (*real)(unsigned, struct io_uring *, struct io_uring_params *);
	const char *path = getenv("KAGAMI_TEST_TASKS");
	char text[16];
	int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	int len = snprintf(text, sizeof(text), "%d", (int)gettid());
	if (fd < 0 || write(fd, text, (size_t)len) != len)
		abort();
	(void)close(fd);
	*(void **)&real = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
	return real(entries, ring, params);
}
