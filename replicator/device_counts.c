// SPDX-License-Identifier: Apache-2.0
#include "replicator/device_counts.h"

#include "base/auto.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

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

int device_counts_open(int fd)
{
	return does_count(fd) ? open_of(fd, "stat") : -1;
}

bool device_counts_again(int stat_fd, struct device_counts *counts)
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

bool device_counts_read(int fd, struct device_counts *ret_counts)
{
	AUTO_CLOSE int stat_fd = device_counts_open(fd);
	return stat_fd >= 0 && ioctl(fd, BLKGETDISKSEQ, &ret_counts->sequence) == 0 && device_counts_again(stat_fd, ret_counts);
}
