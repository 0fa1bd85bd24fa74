// SPDX-License-Identifier: Apache-2.0
// What the kernel has mounted from a file of ours, wherever it is mounted by now.
#ifndef KAGAMI_RECEIVER_MOUNT_TABLE_H
#define KAGAMI_RECEIVER_MOUNT_TABLE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

// Whether `source`, as the kernel's table of mounts names it, is `file` or a loop device that shows it.
bool mount_table_shows(const char *source, const char *file);

// Takes one line of /proc/self/mountinfo apart, in place, and undoes its octal escapes. False when it is not one.
bool mount_table_line(char *line, char **ret_directory, char **ret_source);

// The kernel's number of the newest mount on `directory`, which it has as long as it is mounted; with `which`, of the one of that number. -ENOENT: there is none.
int mount_table_id(const char *directory, uint64_t which, uint64_t *ret_id);

enum { MOUNT_TABLE_PATH_SIZE = 4096 };
// `file` without a symbolic link on the way, as the kernel's tables name it; as it is where its directory is not there.
void mount_table_resolve(const char *file, char resolved[MOUNT_TABLE_PATH_SIZE]);

// Unmounts everything that shows `file`, by whatever links that is named, newest first: where it was mounted, was moved to, or is bound. What was
// unmounted already is not there any more, and that is no error. With `force`, what is in use is detached and goes when its
// last user does; without, -EBUSY.
int mount_table_unmount(const char *file, bool force, struct err *err);

#endif
