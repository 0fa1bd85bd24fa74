// SPDX-License-Identifier: Apache-2.0
// What a path on this host names, for a command that is about to tell a daemon of it. The storage under it may hang, and whoever asks does not.
#ifndef KAGAMI_TOOLS_IMAGE_LOOK_H
#define KAGAMI_TOOLS_IMAGE_LOOK_H

#include "base/err.h"

#include <limits.h>
#include <sys/types.h>

enum { IMAGE_LOOK_MS = 5000 };

struct image_look {
	char path[PATH_MAX]; // absolute; links on the way stay in it
	mode_t mode;
};

// -ETIMEDOUT: there was no answer for IMAGE_LOOK_MS; else what getcwd(3) and stat(2) say. The error has the path.
int image_look(const char *path, struct image_look *ret_look, struct err *err);

#endif
