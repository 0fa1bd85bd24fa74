// SPDX-License-Identifier: Apache-2.0
// Whether a failover's disks are in use. Apart from failover.c, since file locks are no part of the seam.
// What QEMU's locks are: image_use.c.
#include "receiver/failover.h"

#include "base/auto.h"
#include "base/beneath.h"
#include "receiver/copies.h"
#include "receiver/image_use.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { USE_NAME_SIZE = 256 };

// A file of a failover, never past a link: what is locked here is thrown away in the store. -ENOENT when there is none.
static int file_open(const struct store *store, const char *name, uint64_t flags)
{
	int root = env_root_fd(store_root(store));
	return root < 0 ? root : open_beneath(root, name, flags | O_NONBLOCK);
}

static int disk_open(const struct store *store, const char *protection, const char *disk, uint64_t flags,
		     char name[USE_NAME_SIZE])
{
	(void)snprintf(name, USE_NAME_SIZE, "%s/failover/%s.qcow2", protection, disk);
	return file_open(store, name, flags);
}

static int is_used(const struct store *store, const char *name, struct err *err)
{
	return err_set(err, -EBUSY, "a virtual machine has %s/%s open: shut it down first", store_path(store), name);
}

int failover_unused(const struct store *store, const struct failover_info *failover, struct err *err)
{
	for (unsigned i = 0; i < failover->disk_count; i++) {
		char name[USE_NAME_SIZE] = "";
		AUTO_CLOSE int fd = disk_open(store, failover->name, failover->disk[i], O_RDONLY, name);
		if (fd == -ENOENT)
			continue;
		int rc = fd < 0 ? fd : image_locked(fd);
		if (rc < 0)
			return err_sys(err, rc, "see whether %s is in use", name);
		if (rc)
			return is_used(store, name, err);
	}
	return 0;
}

static int changed_ns(int fd, int64_t *ret_ns)
{
	struct stat st;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	*ret_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	return 0;
}

// When its record was written, which was after the disks were made. Of the record and its copy one may have been made good since: the older of the two says it.
static int made_at(const struct store *store, const char *protection, char name[USE_NAME_SIZE], int64_t *ret_ns)
{
	int64_t record_ns = INT64_MAX, copy_ns = INT64_MAX;
	(void)snprintf(name, USE_NAME_SIZE, "%s/failover/failover.json" COPY_SUFFIX, protection);
	AUTO_CLOSE int copy = file_open(store, name, O_RDONLY);
	int copy_rc = changed_ns(copy, &copy_ns);
	(void)snprintf(name, USE_NAME_SIZE, "%s/failover/failover.json", protection);
	AUTO_CLOSE int record = file_open(store, name, O_RDONLY);
	int rc = changed_ns(record, &record_ns);
	*ret_ns = copy_ns < record_ns ? copy_ns : record_ns;
	return rc && copy_rc ? rc : 0;
}

int failover_written_last(const struct store *store, const struct failover_info *failover, int64_t *ret_ns, struct err *err)
{
	char name[USE_NAME_SIZE];
	int64_t made_ns = 0, last_ns = 0;
	int rc = made_at(store, failover->name, name, &made_ns);
	for (unsigned i = 0; rc == 0 && i < failover->disk_count; i++) {
		int64_t ns = 0;
		AUTO_CLOSE int fd = disk_open(store, failover->name, failover->disk[i], O_RDONLY, name);
		rc = fd == -ENOENT ? 0 : changed_ns(fd, &ns);
		if (ns > last_ns)
			last_ns = ns;
	}
	if (rc)
		return err_sys(err, rc, "see when %s was written", name);
	*ret_ns = last_ns > made_ns ? last_ns : 0;
	return 0;
}

static int lock_one(const struct store *store, const char *protection, const char *disk, int *ret_fd, struct err *err)
{
	char name[USE_NAME_SIZE] = "";
	AUTO_CLOSE int fd = disk_open(store, protection, disk, O_RDWR, name);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = IMAGE_LOCKS_FIRST, .l_len = IMAGE_LOCKS_LEN};
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return err_sys(err, fd, "lock %s", name);
	if (fcntl(fd, F_OFD_SETLK, &lock))
		return errno == EAGAIN || errno == EACCES ? is_used(store, name, err)
							  : err_sys(err, -errno, "lock %s", name);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int failover_lock(const struct store *store, const struct replica_info *replica, struct failover_locks *ret_locks,
		  struct err *err)
{
	int rc = 0;
	ret_locks->count = 0;
	for (unsigned i = 0; rc == 0 && i < replica->disk_count; i++) {
		int fd = -1;
		rc = lock_one(store, replica->name, replica->disk[i].name, &fd, err);
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
