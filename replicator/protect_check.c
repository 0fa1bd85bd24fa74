// SPDX-License-Identifier: Apache-2.0
#include "replicator/protect_check.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *format, *magic;
	size_t len;
} known[] = {{"qcow2", "QFI\xfb", 4}, {"qed", "QED\0", 4}, {"vmdk", "KDMV", 4}, {"vhdx", "vhdxfile", 8}};

static int two_are_one(const struct protection_config *config, uint16_t disk, const struct stat *st, struct err *err)
{
	for (uint16_t d = 0; d < disk; d++) {
		struct stat other;
		if (stat(config->disk[d].path, &other) < 0)
			continue;
		bool one = S_ISBLK(st->st_mode) ? S_ISBLK(other.st_mode) && st->st_rdev == other.st_rdev
						: st->st_dev == other.st_dev && st->st_ino == other.st_ino;
		if (one)
			return err_set(err, -EINVAL, "the disks %s and %s are one image, %s: give each disk an image of its own", config->disk[d].name,
				       config->disk[disk].name, config->disk[disk].path);
	}
	return 0;
}

static const char *format_of(const char *path)
{
	char head[8];
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t got = fd >= 0 ? pread(fd, head, sizeof(head), 0) : -1;
	for (size_t i = 0; got == (ssize_t)sizeof(head) && i < sizeof(known) / sizeof(*known); i++)
		if (memcmp(head, known[i].magic, known[i].len) == 0)
			return known[i].format;
	return NULL;
}

int protect_check(const struct protection_config *config, uint16_t disk, bool raw, struct err *err)
{
	const char *path = config->disk[disk].path, *format = NULL;
	struct stat st;
	if (stat(path, &st) < 0)
		return 0;
	int rc = two_are_one(config, disk, &st, err);
	if (rc == 0 && !raw)
		format = format_of(path);
	if (format)
		return err_set(err, -EINVAL, "disk %s: %s is a %s image, and a raw one is needed: convert it with `qemu-img convert -O raw %s NEW.raw` and protect that "
			       "(or, if it is a raw disk in which a guest has put such a header, say --force)",
			       config->disk[disk].name, path, format, path);
	return rc;
}
