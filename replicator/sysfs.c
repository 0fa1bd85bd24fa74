// SPDX-License-Identifier: Apache-2.0
#include "replicator/sysfs.h"

#include "base/auto.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { NUMBER_BYTES = 64 };

bool sysfs_dir(const char *sys, dev_t device, char ret_dir[PATH_MAX])
{
	char path[PATH_MAX];
	return snprintf(path, sizeof(path), "%s/dev/block/%u:%u", sys, major(device), minor(device)) < (int)sizeof(path) && realpath(path, ret_dir);
}

bool sysfs_has(const char *dir, const char *what)
{
	char path[PATH_MAX];
	return snprintf(path, sizeof(path), "%s/%s", dir, what) < (int)sizeof(path) && access(path, F_OK) == 0;
}

bool sysfs_read(const char *dir, const char *what, char *text, size_t size)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/%s", dir, what) >= (int)sizeof(path))
		return false;
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, text, size) : -1;
	if (got < 0 || (size_t)got == size)
		return false;
	text[got] = 0;
	text[strcspn(text, "\n")] = 0;
	return true;
}

uint64_t sysfs_number(const char *dir, const char *what, uint64_t otherwise)
{
	char text[NUMBER_BYTES];
	return sysfs_read(dir, what, text, sizeof(text)) ? strtoull(text, NULL, 10) : otherwise;
}

dev_t sysfs_device(const char *dir)
{
	char text[NUMBER_BYTES], *at;
	if (!sysfs_read(dir, "dev", text, sizeof(text)))
		return 0;
	unsigned long high = strtoul(text, &at, 10);
	return *at == ':' ? makedev(high, strtoul(at + 1, NULL, 10)) : 0;
}

int sysfs_each(const char *dir, const char *what, int (*visit)(void *context, const char *dir), void *context)
{
	char path[PATH_MAX], real[PATH_MAX];
	const struct dirent *entry;
	int rc = 0;
	if (snprintf(path, sizeof(path), "%s/%s", dir, what) >= (int)sizeof(path))
		return 0;
	DIR *list = opendir(path);
	if (!list)
		return 0;
	while (rc == 0 && (entry = readdir(list)))
		if (entry->d_name[0] != '.' && snprintf(path, sizeof(path), "%s/%s/%s", dir, what, entry->d_name) < (int)sizeof(path) && realpath(path, real))
			rc = visit(context, real);
	(void)closedir(list);
	return rc;
}
