// SPDX-License-Identifier: Apache-2.0
#include "replicator/device_counts.h"

#include "base/auto.h"
#include "replicator/device_stack.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <xxhash.h>

#ifndef BLKGETDISKSEQ // newer than the headers
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif

enum { WRITTEN_FIELD = 6, DISCARDED_FIELD = 13, PATH_BYTES = 96 };

static int open_of(int fd, const char *what)
{
	struct stat st;
	char path[PATH_BYTES];
	if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode))
		return -1;
	(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(st.st_rdev), minor(st.st_rdev), what);
	return open(path, O_RDONLY | O_CLOEXEC);
}

// The queue is that of the whole device, beside which a partition is.
static bool does_count(int fd)
{
	char on = 0;
	AUTO_CLOSE int own = open_of(fd, "queue/iostats");
	AUTO_CLOSE int whole = own < 0 ? open_of(fd, "../queue/iostats") : -1;
	return read(own < 0 ? whole : own, &on, 1) == 1 && on == '1';
}

// The file of a loop device, if that path still is it: another may have the name by now, or here.
static bool open_file(int fd, const char *path, int flags, struct loop_info64 *ret_info, int *ret_fd)
{
	struct stat st;
	AUTO_CLOSE int file = open(path, flags | O_CLOEXEC);
	if (file < 0 || ioctl(fd, LOOP_GET_STATUS64, ret_info) < 0 || fstat(file, &st) < 0 || !S_ISREG(st.st_mode) || ret_info->lo_inode != st.st_ino)
		return false;
	*ret_fd = file;
	file = -1;
	return true;
}

bool device_watch_open(int fd, struct device_watch *ret_watch)
{
	struct device_stack stack;
	struct loop_info64 info;
	struct stat st;
	*ret_watch = (struct device_watch){.stat_fd = -1, .file_fd = -1};
	if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode) || !does_count(fd) || ioctl(fd, BLKGETDISKSEQ, &ret_watch->sequence) < 0 ||
	    !device_stack_read("/sys", st.st_rdev, &stack) || (stack.file[0] && !open_file(fd, stack.file, O_PATH, &info, &ret_watch->file_fd)))
		return false;
	ret_watch->layers = stack.layers;
	ret_watch->stat_fd = open_of(fd, "stat");
	return ret_watch->stat_fd >= 0;
}

void device_watch_close(struct device_watch *watch)
{
	if (watch->stat_fd >= 0)
		(void)close(watch->stat_fd);
	if (watch->file_fd >= 0)
		(void)close(watch->file_fd);
	*watch = (struct device_watch){.stat_fd = -1, .file_fd = -1};
}

static bool read_counts(int stat_fd, struct device_counts *counts)
{
	char text[512];
	ssize_t got = pread(stat_fd, text, sizeof(text) - 1, 0);
	if (got <= 0)
		return false;
	text[got] = 0;
	const char *at = text;
	for (unsigned field = 0; field <= DISCARDED_FIELD; field++) {
		char *end;
		uint64_t value = strtoull(at, &end, 10);
		if (end == at)
			return false;
		if (field == WRITTEN_FIELD)
			counts->written = value;
		else if (field == DISCARDED_FIELD)
			counts->discarded = value;
		at = end;
	}
	return true;
}

static bool read_file(int file_fd, struct device_counts *counts)
{
	struct stat st;
	if (fstat(file_fd, &st) < 0)
		return false;
	const int64_t how[] = {(int64_t)st.st_dev,    (int64_t)st.st_ino,     st.st_size, st.st_mtim.tv_sec,
			       st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec};
	counts->file = XXH3_64bits(how, sizeof(how));
	return true;
}

bool device_watch_read(const struct device_watch *watch, struct device_counts *ret_counts)
{
	*ret_counts = (struct device_counts){.sequence = watch->sequence, .layers = watch->layers};
	return watch->stat_fd >= 0 && read_counts(watch->stat_fd, ret_counts) && (watch->file_fd < 0 || read_file(watch->file_fd, ret_counts));
}

bool device_counts_read(int fd, struct device_counts *ret_counts)
{
	struct device_watch watch;
	bool told = device_watch_open(fd, &watch) && device_watch_read(&watch, ret_counts);
	device_watch_close(&watch);
	return told;
}

bool device_counts_same(const struct device_counts *a, const struct device_counts *b)
{
	return a->sequence == b->sequence && a->layers == b->layers && a->written == b->written && a->discarded == b->discarded && a->file == b->file;
}
