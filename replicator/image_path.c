// SPDX-License-Identifier: Apache-2.0
#include "replicator/image_path.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <xxhash.h>

struct image_file image_file_of(const struct stat *st)
{
	bool device = S_ISBLK(st->st_mode);
	return (struct image_file){.block_device = device, .device = device ? st->st_rdev : st->st_dev, .inode = device ? 0 : st->st_ino};
}

bool image_file_same(const struct image_file *a, const struct image_file *b)
{
	return a->block_device == b->block_device && a->device == b->device && a->inode == b->inode;
}

static bool gone(int code)
{
	return code == ENOENT || code == ENOTDIR;
}

enum image_path image_path_look(const char *path, const struct image_file *file)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return gone(errno) ? IMAGE_PATH_GONE : IMAGE_PATH_UNKNOWN;
	const struct image_file there = image_file_of(&st);
	return image_file_same(&there, file) ? IMAGE_PATH_SAME : IMAGE_PATH_OTHER;
}

enum writers { WRITERS_NONE, WRITERS_SOME, WRITERS_UNKNOWN };

// The kernel gives a lease for reading only while nobody writes. Who comes just then to write waits until it is given back, of which this process is told by a signal:
// one that does nothing.
static enum writers writers_of(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return WRITERS_UNKNOWN;
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fcntl(fd, F_SETSIG, SIGURG) < 0)
		return WRITERS_UNKNOWN;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN ? WRITERS_SOME : WRITERS_UNKNOWN;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return WRITERS_NONE;
}

bool image_path_written(const char *path)
{
	return writers_of(path) == WRITERS_SOME;
}

bool image_path_apart(const char *path)
{
	return writers_of(path) == WRITERS_NONE;
}

uint64_t image_path_digest(const char *path, bool *ret_gone)
{
	struct stat st = {.st_size = 0};
	uint64_t what[6] = {0};
	*ret_gone = false;
	if (stat(path, &st) < 0) {
		*ret_gone = gone(errno);
		what[0] = (uint64_t)errno;
	} else {
		const struct image_file file = image_file_of(&st);
		what[1] = file.device;
		what[2] = file.inode;
		what[3] = (uint64_t)st.st_size;
		what[4] = (uint64_t)st.st_mtim.tv_sec;
		what[5] = (uint64_t)st.st_mtim.tv_nsec;
	}
	return XXH3_64bits(what, sizeof(what));
}
