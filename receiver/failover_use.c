// SPDX-License-Identifier: Apache-2.0
// Whether a failover's disks are in use. Apart from failover.c, since file locks are no part of the seam.
//
// QEMU marks what it does with an image by shared OFD locks on single bytes: from 100 on those permissions that it holds,
// from 200 on those that it does not share (block/file-posix.c). Any of them means that it is open.
#include "receiver/failover.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { LOCKS_FIRST = 100, LOCKS_LEN = 200, USE_PATH_SIZE = 4096 };

static int is_used(const char *path, struct err *err)
{
	return err_set(err, -EBUSY, "a virtual machine has %s open: shut it down first", path);
}

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
			return is_used(path, err);
	}
	return 0;
}

static int lock_one(const char *path, int *ret_fd, struct err *err)
{
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_FIRST, .l_len = LOCKS_LEN};
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) == 0) {
		*ret_fd = fd;
		fd = -1;
		return 0;
	}
	return fd >= 0 && (errno == EAGAIN || errno == EACCES) ? is_used(path, err) : err_sys(err, -errno, "lock %s", path);
}

int failover_lock(const struct store *store, const struct replica_info *replica, struct failover_locks *ret_locks, struct err *err)
{
	int rc = 0;
	ret_locks->count = 0;
	for (unsigned i = 0; rc == 0 && i < replica->disk_count; i++) {
		char path[USE_PATH_SIZE];
		int fd = -1;
		int len = snprintf(path, sizeof(path), "%s/%s/failover/%s.qcow2", store_path(store), replica->name, replica->disk[i].name);
		if (len < 0 || len >= (int)sizeof(path))
			rc = err_set(err, -ENAMETOOLONG, "the path of the store is too long");
		else
			rc = lock_one(path, &fd, err);
		if (fd >= 0)
			ret_locks->fd[ret_locks->count++] = fd;
	}
	if (rc)
		failover_unlock(ret_locks);
	return rc;
}

void failover_unlock(struct failover_locks *locks)
{
	while (locks->count)
		(void)close(locks->fd[--locks->count]);
}
