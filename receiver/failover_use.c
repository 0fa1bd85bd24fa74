// SPDX-License-Identifier: Apache-2.0
// Whether a failover's disks are in use. Apart from failover.c, since file locks are no part of the seam.
//
// QEMU marks what it does with an image by shared OFD locks on single bytes: from 100 on those permissions that it holds,
// from 200 on those that it does not share (block/file-posix.c). Any of them means that it is open.
#include "receiver/failover.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>

enum { LOCKS_FIRST = 100, LOCKS_LEN = 200, USE_PATH_SIZE = 4096 };

int failover_unused(const struct store *store, const struct failover_info *failover, struct err *err)
{
	for (unsigned i = 0; i < failover->disk_count; i++) {
		char path[USE_PATH_SIZE];
		if (failover_path(store, failover, i, path, sizeof(path)))
			return err_set(err, -ENAMETOOLONG, "the path of the store is too long");
		AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 && errno == ENOENT)
			continue;
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_FIRST, .l_len = LOCKS_LEN};
		if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock))
			return err_sys(err, -errno, "see whether %s is in use", path);
		if (lock.l_type != F_UNLCK)
			return err_set(err, -EBUSY, "a virtual machine has %s open: shut it down first", path);
	}
	return 0;
}
