// SPDX-License-Identifier: Apache-2.0
// Which file systems are believed when they call a part of a file a hole.
#ifndef KAGAMI_BASE_FILE_SYSTEM_H
#define KAGAMI_BASE_FILE_SYSTEM_H

#include <stdbool.h>

// Whether the file system of `fd` is one of those whose word is taken: ext4, xfs, btrfs, tmpfs. They count what is in the page cache and not written back yet.
bool file_system_tells_holes(int fd);

#endif
