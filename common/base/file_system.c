// SPDX-License-Identifier: Apache-2.0
// Which file systems are believed when they call a part of a file a hole. A wrong answer would lose data, so only those are that are known to count
// what is in the page cache and not written back yet: ext4, xfs and btrfs look for dirty pages over unwritten space, and tmpfs has
// nothing but the page cache. ZFS, network and stacked file systems are not.
#include "base/file_system.h"

#include <linux/magic.h>
#include <sys/vfs.h>

// linux/magic.h has none.
#define XFS_MAGIC 0x58465342u

bool file_system_tells_holes(int fd)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return false;
	return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC;
}
