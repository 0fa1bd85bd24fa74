// SPDX-License-Identifier: Apache-2.0
// Starts and ends qemu-storage-daemon for one image.
//
// Nothing is probed: the image is opened as qcow2, and our writer records the format of each backing file, so that a guest
// that writes a qcow2 header into its raw disk shows bytes and opens nothing. Options travel as JSON, so that no path can
// be read as an option.
#include "receiver/raw_view.h"

#include "base/auto.h"
#include "base/log.h"
#include "receiver/child.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { START_MS = 30000, STOP_MS = 10000, VIEW_PATH_SIZE = 4096 };

static int view_path(const char *directory, const char *name, char path[VIEW_PATH_SIZE], struct err *err)
{
	if (snprintf(path, VIEW_PATH_SIZE, "%s/%s", directory, name) >= VIEW_PATH_SIZE)
		return err_set(err, -ENAMETOOLONG, "the path of %s is too long: use a store with a shorter path", directory);
	return 0;
}

// FUSE takes a file to cover, as other file systems take a directory.
static int view_file_create(const char *path, struct err *err)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 && errno != EEXIST ? err_sys(err, -errno, "create %s", path) : 0;
}

// Takes ownership of `value`. NULL when out of memory or when a path is not UTF-8, which JSON needs.
static char *json_text(json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
	json_decref(value);
	return text;
}

static char *node_file(const char *image)
{
	return json_text(json_pack("{s:s, s:s, s:s, s:{s:b}}", "driver", "file", "node-name", "file", "filename", image,
				   "cache", "no-flush", 1)); // thrown away after: nothing in it needs to survive a crash
}

// On what its header says it stands on, or with `below` on the node of that name.
static char *node_qcow2(const char *below)
{
	return json_text(json_pack("{s:s, s:s, s:s, s:{s:b}, s:s*}", "driver", "qcow2", "node-name", "disk", "file", "file",
				   "cache", "no-flush", 1, "backing", below));
}

static char *node_nbd(const char *socket)
{
	return json_text(json_pack("{s:s, s:s, s:b, s:{s:s, s:s, s:b}}", "driver", "nbd", "node-name", "below", "read-only", 1, "server", "type",
				   "unix", "path", socket, "abstract", 1));
}

static char *export_fuse(const char *file)
{
	return json_text(json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "type", "fuse", "id", "view", "node-name", "disk",
				   "mountpoint", file, "writable", 1, "growable", 0));
}

int raw_view_start(const char *directory, const char *image, const char *backing, struct err *err)
{
	char program[CHILD_PATH_SIZE], file[VIEW_PATH_SIZE], pid[VIEW_PATH_SIZE];
	int rc = child_find("qemu-storage-daemon", "qemu-system-common", program, sizeof(program), err);
	if (rc == 0)
		rc = view_path(directory, RAW_VIEW_FILE, file, err);
	if (rc == 0)
		rc = view_path(directory, "pid", pid, err);
	if (rc == 0)
		rc = view_file_create(file, err);
	if (rc)
		return rc;
	AUTO_FREE char *node = node_file(image);
	AUTO_FREE char *below = backing ? node_nbd(backing) : NULL;
	AUTO_FREE char *format = node_qcow2(backing ? "below" : NULL);
	AUTO_FREE char *export = export_fuse(file);
	if (!node || !format || !export || (backing && !below))
		return err_set(err, -EINVAL, "the path %s is not UTF-8: use a store whose path is", directory);
	const char *argv[13] = {program, "--daemonize", "--pidfile", pid, "--blockdev", node};
	unsigned argc = 6;
	if (below) {
		argv[argc++] = "--blockdev";
		argv[argc++] = below;
	}
	argv[argc++] = "--blockdev";
	argv[argc++] = format;
	argv[argc++] = "--export";
	argv[argc++] = export;
	struct err why = {.code = 0};
	return child_check(argv, START_MS, &why) ? raw_view_fail(&why, err) : 0;
}

// What a mount without root needs and this user does not have; NULL when nothing is known to be missing.
static const char *lack(void)
{
	char program[CHILD_PATH_SIZE];
	if (geteuid() == 0)
		return NULL;
	if (faccessat(AT_FDCWD, "/dev/fuse", R_OK | W_OK, AT_EACCESS))
		return errno == ENOENT ? "there is no /dev/fuse" : "this user may not open /dev/fuse";
	if (child_find("fusermount3", "fuse3", program, sizeof(program), NULL))
		return "fusermount3 is not installed";
	return child_find("fuse2fs", "fuse2fs", program, sizeof(program), NULL) ? "fuse2fs is not installed" : NULL;
}

int raw_view_fail(const struct err *why, struct err *err)
{
	const char *missing = lack();
	if (!missing)
		return err_set(err, why->code, "%s", why->text);
	log_warning("a mount failed, this user lacks what it needs lack=\"%s\" reason=\"%s\"", missing, why->text);
	return err_set(err, -EPERM, "mount needs root, or access to /dev/fuse and fuse2fs: start the receiver as root (%s)", missing);
}

// Whether something lies over the file: another device than its directory's, or one that no longer answers.
static bool view_mounted(const char *directory, const char *file)
{
	struct stat above, here;
	if (lstat(file, &here))
		return errno != ENOENT;
	return lstat(directory, &above) == 0 && above.st_dev != here.st_dev;
}

// What a killed daemon leaves: a mount that answers ENOTCONN. Lazily, since a loop device may still hold the file.
static int view_unmount(const char *file, struct err *err)
{
	if (umount2(file, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno != EPERM)
		return err_sys(err, -errno, "unmount %s", file);
	char program[CHILD_PATH_SIZE];
	int rc = child_find("fusermount3", "fuse3", program, sizeof(program), err);
	const char *const argv[] = {program, "-u", "-z", "--", file, NULL};
	return rc ? rc : child_check(argv, STOP_MS, err);
}

int raw_view_stop(const char *directory, struct err *err)
{
	char file[VIEW_PATH_SIZE], pid[VIEW_PATH_SIZE];
	int rc = view_path(directory, RAW_VIEW_FILE, file, err);
	if (rc == 0)
		rc = view_path(directory, "pid", pid, err);
	if (rc == 0)
		rc = child_end(pid, file, STOP_MS, err);
	if (rc == 0 && view_mounted(directory, file))
		rc = view_unmount(file, err);
	return rc;
}
