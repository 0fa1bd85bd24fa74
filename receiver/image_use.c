// SPDX-License-Identifier: Apache-2.0
// Whether an image is in use. By system calls of its own, since file locks are no part of the seam.
//
// QEMU marks what it does with an image by shared OFD locks on single bytes: from 100 on those permissions that it holds,
// from 200 on those that it does not share (block/file-posix.c). Any of them means that it is open.
#include "receiver/image_use.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>

enum { LOCKS_FIRST = 100, LOCKS_LEN = 200 };

int image_unused(const char *path, struct err *err)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return 0;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_FIRST, .l_len = LOCKS_LEN};
	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock))
		return err_sys(err, -errno, "see whether %s is in use", path);
	if (lock.l_type != F_UNLCK)
		return err_set(err, -EBUSY, "a virtual machine has %s open: shut it down first", path);
	return 0;
}
