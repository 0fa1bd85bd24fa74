// SPDX-License-Identifier: Apache-2.0
// The three descriptors that a program is started with.
#ifndef KAGAMI_BASE_STANDARD_H
#define KAGAMI_BASE_STANDARD_H

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

// Before anything is opened. Where one of them is closed, the next file that is opened would be it, and have messages written into it. In its place comes what can be
// neither read nor written, so that who tries learns of it.
static inline void standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			abort();
}

#endif
