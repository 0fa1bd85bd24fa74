// SPDX-License-Identifier: Apache-2.0
#include "replicator/protect_check.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_BYTES = 512, FOOTER_BYTES = 512 };

#define BYTES(text) (text), sizeof(text) - 1

// The formats that QEMU tells by how a file begins, by its own names for them. LUKS is none of them: what is encrypted inside of the guest is raw.
static const struct {
	const char *format;
	size_t at;
	const char *magic;
	size_t len;
} known[] = {
	{"qcow", 0, BYTES("QFI\xfb\0\0\0\1")},
	{"qcow2", 0, BYTES("QFI\xfb")},
	{"qed", 0, BYTES("QED\0")},
	{"vmdk", 0, BYTES("KDMV")},
	{"vmdk", 0, BYTES("COWD")},
	{"vmdk", 0, BYTES("# Disk DescriptorFile")},
	{"vhdx", 0, BYTES("vhdxfile")},
	{"vdi", 0x40, BYTES("\x7f\x10\xda\xbe")},
	{"vpc", 0, BYTES("conectix")}, // VHD: the copy of the footer
	{"parallels", 0, BYTES("WithoutFreeSpace")},
	{"parallels", 0, BYTES("WithouFreSpacExt")},
	{"bochs", 0, BYTES("Bochs Virtual HD Image\0")},
	{"cloop", 0, BYTES("#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0")},
};

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

// By whatever links it is named.
static int in_the_state(const char *path, const char *state_dir, struct err *err)
{
	AUTO_FREE char *real = realpath(path, NULL), *state = realpath(state_dir, NULL);
	size_t len = state ? strlen(state) : 0;
	if (!real || !state || strncmp(real, state, len) != 0 || real[len] != '/')
		return 0;
	return err_set(err, -EINVAL, "image %s lies in the replicator's own state directory %s, of which it replaces and removes files: give an image that lies elsewhere, or move it", path, state_dir);
}

static bool has(const unsigned char *bytes, ssize_t got, size_t at, const char *magic, size_t len)
{
	return got >= (ssize_t)(at + len) && memcmp(bytes + at, magic, len) == 0;
}

// A VHD of fixed size is raw up to its last sector, by which alone it is told.
static bool is_fixed_vhd(int fd)
{
	unsigned char footer[FOOTER_BYTES];
	off_t size = lseek(fd, 0, SEEK_END);
	return size >= FOOTER_BYTES && has(footer, pread(fd, footer, FOOTER_BYTES, size - FOOTER_BYTES), 0, "conectix", 8);
}

static const char *format_of(const char *path)
{
	unsigned char head[HEAD_BYTES];
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t got = fd >= 0 ? pread(fd, head, sizeof(head), 0) : -1;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (has(head, got, known[i].at, known[i].magic, known[i].len))
			return known[i].format;
	return got >= 0 && is_fixed_vhd(fd) ? "vpc" : NULL;
}

static const char *format_name(const char *format)
{
	return strcmp(format, "vpc") == 0 ? "VHD (vpc)" : format;
}

int protect_check(const struct protection_config *config, const char *state_dir, uint16_t disk, bool raw, struct err *err)
{
	const char *path = config->disk[disk].path, *format = NULL;
	struct stat st;
	if (stat(path, &st) < 0)
		return err_sys(err, -errno, "open image %s (give the path of an existing raw image)", path);
	int rc = two_are_one(config, disk, &st, err);
	if (rc == 0)
		rc = in_the_state(path, state_dir, err);
	if (rc == 0 && !raw)
		format = format_of(path);
	if (format)
		return err_set(err, -EINVAL, "disk %s: %s is a %s image, and a raw one is needed: convert it with `qemu-img convert -f %s -O raw %s NEW.raw` and protect that "
			       "(or, if it is a raw disk in which a guest has put such a header, say --force)",
			       config->disk[disk].name, path, format_name(format), format, path);
	return rc;
}
