// SPDX-License-Identifier: Apache-2.0
// The production side of the seam, over Linux system calls.
#include "base/env.h"

#include "base/auto.h"
#include "base/beneath.h"
#include "base/clock.h"
#include "base/file_system.h"
#include "base/size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

struct posix_root {
	struct env_root base;
	int fd;
};

struct posix_file {
	struct env_file base;
	int fd;
};

static int root_fd(const struct env_root *root)
{
	return ((const struct posix_root *)root)->fd;
}

static int file_fd(const struct env_file *file)
{
	return ((const struct posix_file *)file)->fd;
}

// Opens the directory that holds `name` and points `ret_last` at its last component: the calls that change names
// take a single component, so that they pass no link either.
static int open_parent(const struct env_root *root, const char *name, const char **ret_last)
{
	const char *slash = strrchr(name, '/');
	if (!slash) {
		*ret_last = name;
		return open_beneath(root_fd(root), ".", O_RDONLY | O_DIRECTORY);
	}
	char parent[512];
	size_t len = (size_t)(slash - name);
	if (len >= sizeof(parent))
		return -ENAMETOOLONG;
	memcpy(parent, name, len);
	parent[len] = 0;
	*ret_last = slash + 1;
	return open_beneath(root_fd(root), parent, O_RDONLY | O_DIRECTORY);
}

static int posix_root_open(struct env *env, const char *path, struct env_root **ret_root)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct posix_root *root = malloc(sizeof(*root));
	if (!root)
		return -ENOMEM;
	*root = (struct posix_root){.base = {.env = env}, .fd = fd};
	fd = -1;
	*ret_root = &root->base;
	return 0;
}

static void posix_root_close(struct env_root *root)
{
	(void)close(root_fd(root));
	free(root);
}

// What waits for somebody at its other end when it is opened does so no more, and is no file.
static int open_regular(int dir, const char *name, uint64_t flags)
{
	struct stat st;
	int fd = open_beneath(dir, name, flags | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)))
		return fd == -ENXIO ? -EISDIR : fd; // of a socket
	(void)close(fd);
	return -EISDIR;
}

static int posix_open(struct env_root *root, const char *name, enum env_open how, struct env_file **ret_file)
{
	static const uint64_t flags[] = {
		[ENV_READ] = O_RDONLY,
		[ENV_WRITE] = O_RDWR,
		[ENV_CREATE] = O_RDWR | O_CREAT | O_EXCL,
		[ENV_CREATE_OPEN] = O_RDWR | O_CREAT,
	};
	struct posix_file *file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	int fd = open_regular(root_fd(root), name, flags[how]);
	if (fd < 0) {
		free(file);
		return fd;
	}
	*file = (struct posix_file){.base = {.env = root->env}, .fd = fd};
	*ret_file = &file->base;
	return 0;
}

static void posix_close(struct env_file *file)
{
	(void)close(file_fd(file));
	free(file);
}

static int posix_pread(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = pread(file_fd(file), (char *)buf + got, len - got, (off_t)(off + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	*ret_len = got;
	return 0;
}

static int posix_pwrite(struct env_file *file, const void *buf, size_t len, uint64_t off)
{
	size_t put = 0;
	while (put < len) {
		ssize_t n = pwrite(file_fd(file), (const char *)buf + put, len - put, (off_t)(off + put));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		put += (size_t)n;
	}
	return 0;
}

static int posix_truncate(struct env_file *file, uint64_t size)
{
	return ftruncate(file_fd(file), (off_t)size) ? -errno : 0;
}

// For file systems that cannot punch: zeros, written.
static int write_zeros(struct env_file *file, uint64_t off, uint64_t len)
{
	static const unsigned char zeros[BLOCK_SIZE];
	while (len) {
		size_t n = (size_t)min_u64(len, sizeof(zeros));
		int rc = posix_pwrite(file, zeros, n, off);
		if (rc)
			return rc;
		off += n;
		len -= n;
	}
	return 0;
}

static int posix_punch(struct env_file *file, uint64_t off, uint64_t len)
{
	if (len == 0)
		return 0;
	if (fallocate(file_fd(file), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	struct stat st;
	if (fstat(file_fd(file), &st))
		return -errno;
	uint64_t size = (uint64_t)st.st_size;
	return off >= size ? 0 : write_zeros(file, off, min_u64(len, size - off));
}

static int posix_data(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	off_t from = lseek(file_fd(file), (off_t)off, SEEK_DATA);
	if (from < 0 && errno == ENXIO) { // none up to the end
		*ret_from = *ret_to = off;
		return 0;
	}
	off_t to = from < 0 ? -1 : lseek(file_fd(file), from, SEEK_HOLE);
	if (to < 0)
		return -errno;
	*ret_from = (uint64_t)from;
	*ret_to = (uint64_t)to;
	return 0;
}

static bool posix_tells_holes(struct env_file *file)
{
	return file_system_tells_holes(file_fd(file));
}

static int posix_sync(struct env_file *file)
{
	return fdatasync(file_fd(file)) ? -errno : 0;
}

static int posix_size(struct env_file *file, uint64_t *ret_size)
{
	struct stat st;
	if (fstat(file_fd(file), &st))
		return -errno;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static int posix_lock(struct env_file *file)
{
	enum { PAUSE_US = 10 * 1000 };
	const int64_t until_ms = clock_mono_ms() + ENV_DEAD_MS;
	while (flock(file_fd(file), LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (clock_mono_ms() >= until_ms)
			return -EBUSY;
		(void)usleep(PAUSE_US);
	}
	return 0;
}

static int posix_mkdir(struct env_root *root, const char *name)
{
	const char *last;
	AUTO_CLOSE int parent = open_parent(root, name, &last);
	if (parent < 0)
		return parent;
	return mkdirat(parent, last, 0700) ? -errno : 0;
}

static int posix_rename(struct env_root *root, const char *from, const char *to)
{
	const char *last_from, *last_to;
	AUTO_CLOSE int parent_from = open_parent(root, from, &last_from);
	if (parent_from < 0)
		return parent_from;
	AUTO_CLOSE int parent_to = open_parent(root, to, &last_to);
	if (parent_to < 0)
		return parent_to;
	return renameat(parent_from, last_from, parent_to, last_to) ? -errno : 0;
}

static int posix_exchange(struct env_root *root, const char *a, const char *b)
{
	const char *last_a, *last_b;
	AUTO_CLOSE int parent_a = open_parent(root, a, &last_a);
	if (parent_a < 0)
		return parent_a;
	AUTO_CLOSE int parent_b = open_parent(root, b, &last_b);
	if (parent_b < 0)
		return parent_b;
	if (syscall(SYS_renameat2, parent_a, last_a, parent_b, last_b, RENAME_EXCHANGE) == 0)
		return 0;
	// EINVAL is both: a file system that does not know the flag, and a directory that would come to lie in itself.
	return errno == EINVAL || errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

static int unlink_flags(struct env_root *root, const char *name, int flags)
{
	const char *last;
	AUTO_CLOSE int parent = open_parent(root, name, &last);
	if (parent < 0)
		return parent;
	return unlinkat(parent, last, flags) ? -errno : 0;
}

static int posix_unlink(struct env_root *root, const char *name)
{
	return unlink_flags(root, name, 0);
}

static int posix_rmdir(struct env_root *root, const char *name)
{
	return unlink_flags(root, name, AT_REMOVEDIR);
}

// btrfs answers an fsync from a log of its own, and the log of a directory that was moved to another one may not be fit to be
// replayed: the whole file system does not mount after a power cut ("invalid nlink: has 2 expect no more than 1 for dir", Linux 6.18 and
// later; make test-fs shows it). Committing the transaction leaves no log to replay.
static int posix_sync_dir(struct env_root *root, const char *name)
{
	AUTO_CLOSE int fd = open_beneath(root_fd(root), name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	return (file_system_type(fd) == BTRFS_SUPER_MAGIC ? syncfs(fd) : fsync(fd)) ? -errno : 0;
}

static int posix_stat(struct env_root *root, const char *name, struct env_stat *ret_stat)
{
	AUTO_CLOSE int fd = open_beneath(root_fd(root), name, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return fd;
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	*ret_stat = (struct env_stat){
		.is_dir = S_ISDIR(st.st_mode), .size = (uint64_t)st.st_size, .allocated = (uint64_t)st.st_blocks * SECTOR_SIZE,
		.changed_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, .number = st.st_ino,
		.device = st.st_dev};
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int posix_list(struct env_root *root, const char *name, char ***ret_names, size_t *ret_count)
{
	int fd = open_beneath(root_fd(root), name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return -ENOMEM;
	}
	char **names = NULL;
	size_t count = 0, room = 0;
	int rc = 0;
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);
		if (!entry) {
			rc = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (count == room) {
			room = room ? room * 2 : 16;
			char **more = realloc(names, room * sizeof(*names));
			if (!more) {
				rc = -ENOMEM;
				break;
			}
			names = more;
		}
		names[count] = strdup(entry->d_name);
		if (!names[count]) {
			rc = -ENOMEM;
			break;
		}
		count++;
	}
	(void)closedir(dir);
	if (rc) {
		env_list_free(names, count);
		return rc;
	}
	if (count)
		qsort(names, count, sizeof(*names), by_name);
	*ret_names = names;
	*ret_count = count;
	return 0;
}

static int posix_space(struct env_root *root, uint64_t *ret_free)
{
	struct statvfs st;
	if (fstatvfs(root_fd(root), &st))
		return -errno;
	*ret_free = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

static uint64_t posix_mono_ns(struct env *env)
{
	(void)env;
	return clock_mono_ns();
}

static int64_t posix_wall_ns(struct env *env)
{
	(void)env;
	return clock_wall_ns();
}

static int posix_random(struct env *env, void *buf, size_t len)
{
	(void)env;
	size_t got = 0;
	while (got < len) {
		ssize_t n = getrandom((char *)buf + got, len - got, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		got += (size_t)n;
	}
	return 0;
}

struct env *env_posix(void)
{
	static const struct env_ops ops = {
		.root_open = posix_root_open,
		.root_close = posix_root_close,
		.root_fd = root_fd,
		.open = posix_open,
		.close = posix_close,
		.pread = posix_pread,
		.pwrite = posix_pwrite,
		.truncate = posix_truncate,
		.punch = posix_punch,
		.data = posix_data,
		.tells_holes = posix_tells_holes,
		.sync = posix_sync,
		.size = posix_size,
		.lock = posix_lock,
		.mkdir = posix_mkdir,
		.rename = posix_rename,
		.exchange = posix_exchange,
		.unlink = posix_unlink,
		.rmdir = posix_rmdir,
		.sync_dir = posix_sync_dir,
		.stat = posix_stat,
		.list = posix_list,
		.space = posix_space,
		.mono_ns = posix_mono_ns,
		.wall_ns = posix_wall_ns,
		.random = posix_random,
	};
	static struct env env = {.ops = &ops};
	return &env;
}
