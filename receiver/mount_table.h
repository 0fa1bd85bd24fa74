// SPDX-License-Identifier: Apache-2.0
// What the kernel has mounted from a file of ours, wherever it is mounted by now.
#ifndef KAGAMI_RECEIVER_MOUNT_TABLE_H
#define KAGAMI_RECEIVER_MOUNT_TABLE_H

#include "base/err.h"

#include <stdbool.h>

// Whether `source`, as the kernel's table of mounts names it, is `file` or a loop device that shows it.
bool mount_table_shows(const char *source, const char *file);

// Takes one line of /proc/self/mountinfo apart, in place, and undoes its octal escapes. False when it is not one.
bool mount_table_line(char *line, char **ret_directory, char **ret_source);

// Unmounts everything that shows `file`, newest first: where it was mounted, was moved to, or is bound. What was
// unmounted already is not there any more, and that is no error. With `force`, what is in use is detached and goes when its
// last user does; without, -EBUSY.
int mount_table_unmount(const char *file, bool force, struct err *err);

#endif
