// SPDX-License-Identifier: Apache-2.0
// What sysfs says about a device, which waits for no disk. `sys`: where sysfs is; `dir`: the directory of a device in it.
#ifndef KAGAMI_REPLICATOR_SYSFS_H
#define KAGAMI_REPLICATOR_SYSFS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

bool sysfs_dir(const char *sys, dev_t device, char ret_dir[PATH_MAX]); // without links; false: it has none
bool sysfs_has(const char *dir, const char *what);
bool sysfs_read(const char *dir, const char *what, char *text, size_t size); // one line, without its end; one that does not fit is none
uint64_t sysfs_number(const char *dir, const char *what, uint64_t otherwise);
dev_t sysfs_device(const char *dir); // its number; 0: not told
// Each entry of dir/what, as its directory without links, until `visit` returns other than 0, which is returned. 0 also where it cannot be listed.
int sysfs_each(const char *dir, const char *what, int (*visit)(void *context, const char *dir), void *context);

#endif
