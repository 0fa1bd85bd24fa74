// SPDX-License-Identifier: Apache-2.0
// Paths within a file system that a guest wrote, mounted somewhere below `directory`. No path and no link leads out of it, nothing but a
// regular file or a directory is ever opened, and nothing is executed or followed through /proc.
#ifndef KAGAMI_RECEIVER_GUEST_PATH_H
#define KAGAMI_RECEIVER_GUEST_PATH_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/stat.h>

enum { GUEST_ENTRIES_MAX = 65536 };

// Opens a regular file for reading. -ENOENT; -EISDIR a directory; -EINVAL a device, fifo or socket; each with what to do.
int guest_open_file(const char *directory, const char *path, int *ret_fd, struct stat *ret_st, struct err *err);

// The entries of a directory by name, or one for anything else: an array as docs/control.md lays it out, a new reference.
int guest_list(const char *directory, const char *path, json_t **ret_entries, bool *ret_truncated, struct err *err);

json_t *guest_mode_json(mode_t mode); // "0644"

#endif
