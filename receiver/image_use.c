// SPDX-License-Identifier: Apache-2.0
// Whether an image is in use. By system calls of its own, since file locks are no part of the seam.
//
// QEMU marks what it does with an image by shared OFD locks on single bytes: from 100 on those permissions that it holds,
// from 200 on those that it does not share (block/file-posix.c). Any of them means that it is open.
#include "receiver/image_use.h"

#include "base/auto.h"
#include "base/beneath.h"

#include <errno.h>
#include <fcntl.h>

int image_locked(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = IMAGE_LOCKS_FIRST, .l_len = IMAGE_LOCKS_LEN};
	return fcntl(fd, F_OFD_GETLK, &lock) ? -errno : lock.l_type != F_UNLCK;
}

int image_unused(const struct store *store, const char *name, struct err *err)
{
	int root = env_root_fd(store_root(store));
	AUTO_CLOSE int fd = root < 0 ? root : open_beneath(root, name, O_RDONLY | O_NONBLOCK);
	if (fd == -ENOENT)
		return 0;
	int rc = fd < 0 ? fd : image_locked(fd);
	if (rc < 0)
		return err_sys(err, rc, "see whether %s/%s is in use", store_path(store), name);
	if (rc)
		return err_set(err, -EBUSY, "a virtual machine has %s/%s open: shut it down first", store_path(store), name);
	return 0;
}
