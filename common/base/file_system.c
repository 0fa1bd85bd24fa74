// SPDX-License-Identifier: Apache-2.0
// Which file systems are believed when they call a part of a file a hole. A wrong answer would lose data, so only those are that are known to count
// what is in the page cache and not written back yet: ext4, xfs and btrfs look for dirty pages over unwritten space, and tmpfs has
// nothing but the page cache. ZFS, network and stacked file systems are not.
#include "base/file_system.h"

#include <sys/vfs.h>

uint32_t file_system_type(int fd)
{
	struct statfs fs;
	return fstatfs(fd, &fs) < 0 ? 0 : (uint32_t)fs.f_type;
}

bool file_system_tells_holes(int fd)
{
	uint32_t type = file_system_type(fd);
	return type == EXT4_SUPER_MAGIC || type == XFS_SUPER_MAGIC || type == BTRFS_SUPER_MAGIC || type == TMPFS_MAGIC;
}
