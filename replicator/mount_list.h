// SPDX-License-Identifier: Apache-2.0
// What is mounted, as /proc/self/mountinfo lists it. No file system is asked.
#ifndef KAGAMI_REPLICATOR_MOUNT_LIST_H
#define KAGAMI_REPLICATOR_MOUNT_LIST_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct mount_line {
	dev_t device; // of the file system; some (btrfs) have a number that no device has
	char where[PATH_MAX], type[64], source[PATH_MAX];
	bool writes; // its file system does, however this mount of it is
};

// Each, until `visit` returns other than 0, which is returned. 0 also where the list cannot be read; a line that is none is left out.
int mount_list_each(const char *list, int (*visit)(void *context, const struct mount_line *line), void *context);
// Whether the file at `path`, without links in it, may be on the file system whose files have `device` as their st_dev. True where the list does not tell.
bool mount_list_may_be_on(const char *list, const char *path, dev_t device);

#endif
