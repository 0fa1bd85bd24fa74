// SPDX-License-Identifier: Apache-2.0
// Of which type the file system of a file is, and which ones are believed when they call a part of a file a hole.
#ifndef KAGAMI_BASE_FILE_SYSTEM_H
#define KAGAMI_BASE_FILE_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/magic.h>

// These linux/magic.h does not have.
#define ZFS_MAGIC 0x2fc12fc1u
#define BCACHEFS_MAGIC 0xca451a4eu

// One of the *_MAGIC, or 0 where it cannot be told.
uint32_t file_system_type(int fd);

// Whether the file system of `fd` is one of those whose word is taken: ext4, xfs, btrfs, tmpfs. They count what is in the page cache and not written back yet.
bool file_system_tells_holes(int fd);

#endif
