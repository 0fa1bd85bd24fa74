// SPDX-License-Identifier: Apache-2.0
// The one place where a name is opened relative to a directory so that it never becomes a path out of it: openat2(2).
#ifndef KAGAMI_BASE_BENEATH_H
#define KAGAMI_BASE_BENEATH_H

#include <stdint.h>

// Opens `name` below the directory `dir`: past no link, symbolic or magic, and never out of it. `flags` as open(2) has them; O_CLOEXEC is added, and what is
// created has mode 0600. A descriptor, or a negative errno: -ELOOP for a link, -EXDEV for a name that leads out.
int open_beneath(int dir, const char *name, uint64_t flags);
// Opens `path` as a program would that has `dir` for its root: links in it, absolute ones too, and ".." lead nowhere else. Not past a magic link, nor into
// another file system (-EXDEV).
int open_in_root(int dir, const char *path, uint64_t flags);

#endif
