// SPDX-License-Identifier: Apache-2.0
// What the kernel has mounted from a file of ours, wherever it is mounted by now.
#ifndef KAGAMI_RECEIVER_MOUNT_TABLE_H
#define KAGAMI_RECEIVER_MOUNT_TABLE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

// Whether `source`, as the kernel's table of mounts names it, is `file` or a loop device that shows it.
bool mount_table_shows(const char *source, const char *file);

enum { MOUNT_TABLE_PATH_SIZE = 4096 };

struct mount_line {
	uint64_t id;
	const char *device; // "7:0"
	const char *directory, *source;
};
// Takes one line of /proc/self/mountinfo apart, in place, and undoes its octal escapes. False when it is not one.
bool mount_table_line(char *line, struct mount_line *ret_line);

// One mount, as long as it is there. The kernel gives its number to another one afterwards, often the next on the same directory: only with what it is of is it told apart.
struct mount_mark {
	uint64_t id; // 0: of none
	char device[24];
	char source[MOUNT_TABLE_PATH_SIZE];
};
// Of the newest mount on `directory`. -ENOENT: there is none.
int mount_table_mark(const char *directory, struct mount_mark *ret_mark);
// Whether that one is on `directory` still. -ENOENT: it is not.
int mount_table_there(const char *directory, const struct mount_mark *mark);

// `file` without a symbolic link on the way, as the kernel's tables name it; as it is where its directory is not there.
void mount_table_resolve(const char *file, char resolved[MOUNT_TABLE_PATH_SIZE]);

// Unmounts everything that shows `file`, by whatever links that is named, newest first: where it was mounted, was moved to, or is bound. What was
// unmounted already is not there any more, and that is no error. With `force`, what is in use is detached and goes when its
// last user does; without, -EBUSY.
int mount_table_unmount(const char *file, bool force, struct err *err);

#endif
