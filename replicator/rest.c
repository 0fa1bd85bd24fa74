// SPDX-License-Identifier: Apache-2.0
#include "replicator/rest.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

static const char MAGIC[8] = "KAGAMIRE";

enum { REST_FILE_BYTES = 4096, REST_PATH_BYTES = 4096 };

static int64_t ns_of(const struct timespec *ts)
{
	return ts->tv_sec * INT64_C(1000000000) + ts->tv_nsec;
}

// 0 where the kernel does not tell: the note is in memory as a rule, and no older than the boot.
static uint64_t boot_hash(void)
{
	char text[64];
	AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
	return got > 0 ? XXH3_64bits(text, (size_t)got) : 0;
}

static int64_t boot_wall_ns(void)
{
	struct timespec since = {0};
	(void)clock_gettime(CLOCK_BOOTTIME, &since);
	return clock_wall_ns() - ns_of(&since);
}

// No name of ours has a colon: two disks never share a note.
static int path_of(char path[REST_PATH_BYTES], const char *run_dir, const char *protection, const char *disk)
{
	int need = snprintf(path, REST_PATH_BYTES, "%s/rest/%s:%s", run_dir, protection, disk);
	return need < REST_PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static bool note_read(const char *path, struct rest_page *ret_page)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && read(fd, ret_page, sizeof(*ret_page)) == (ssize_t)sizeof(*ret_page) &&
	       memcmp(ret_page->magic, MAGIC, sizeof(MAGIC)) == 0 && ret_page->boot == boot_hash();
}

static bool same(const struct rest_page *page, const struct stat *st)
{
	return page->inode == st->st_ino && page->size == (uint64_t)st->st_size && page->mtime_ns == ns_of(&st->st_mtim) &&
	       page->ctime_ns == ns_of(&st->st_ctim);
}

bool rest_disturbed(const char *run_dir, const char *protection, const char *disk, int fd)
{
	char path[REST_PATH_BYTES];
	struct rest_page page;
	struct stat st;
	if (path_of(path, run_dir, protection, disk) || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	if (note_read(path, &page))
		return atomic_load(&page.at_rest) && !same(&page, &st);
	return ns_of(&st.st_ctim) > boot_wall_ns();
}

// All of its room is taken now: a page of it that could not be had later would be the end of the process.
static int note_make(const char *path, struct rest_page **ret_page)
{
	const char zeros[REST_FILE_BYTES] = {0};
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ssize_t wrote = write(fd, zeros, sizeof(zeros));
	if (wrote != (ssize_t)sizeof(zeros))
		return wrote < 0 ? -errno : -ENOSPC;
	void *at = mmap(NULL, REST_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret_page = at;
	return 0;
}

int rest_begin(struct rest *rest, const char *run_dir, const char *protection, const char *disk, struct err *err)
{
	char path[REST_PATH_BYTES], dir[REST_PATH_BYTES];
	(void)snprintf(dir, sizeof(dir), "%s/rest", run_dir);
	*rest = (struct rest){0};
	int rc = path_of(path, run_dir, protection, disk);
	if (rc == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0) {
		(void)unlink(path); // the file is new: whoever has the older one mapped does not write to ours
		rc = note_make(path, &rest->page);
		if (rc)
			(void)unlink(path);
	}
	if (rc)
		return err_sys(err, rc, "make the note %s", path);
	rest->page->boot = boot_hash();
	memcpy(rest->page->magic, MAGIC, sizeof(MAGIC));
	return 0;
}

void rest_end(struct rest *rest)
{
	if (rest->page)
		(void)munmap(rest->page, REST_FILE_BYTES);
	rest->page = NULL;
}

void rest_now(struct rest *rest, int fd)
{
	struct rest_page *page = rest->page;
	struct stat st;
	if (!page || atomic_load_explicit(&page->at_rest, memory_order_relaxed) || fstat(fd, &st) < 0)
		return;
	page->inode = st.st_ino;
	page->size = (uint64_t)st.st_size;
	page->mtime_ns = ns_of(&st.st_mtim);
	page->ctime_ns = ns_of(&st.st_ctim);
	atomic_store_explicit(&page->at_rest, 1, memory_order_release);
}
