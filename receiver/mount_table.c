// SPDX-License-Identifier: Apache-2.0
// Unmounts by what a mount shows, and not by where it once was: a directory may carry another mount by now, and a loop
// device's number another file; only the file behind it says that a mount is ours.
//
//	36 35 98:0 /root /directory options fields... - type source options     (proc_pid_mountinfo(5))
#include "receiver/mount_table.h"

#include "base/auto.h"
#include "base/clock.h"
#include "receiver/child.h"
#include "receiver/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

enum { UNMOUNT_MS = 10000, BUSY_MS = 2000, BUSY_PAUSE_US = 10000, UNMOUNTS_MAX = 64 };

bool mount_table_shows(const char *source, const char *file)
{
	char shown[MOUNT_TABLE_PATH_SIZE];
	if (strcmp(source, file) == 0)
		return true;
	return loop_file(source, shown, sizeof(shown)) == 0 && strcmp(shown, file) == 0;
}

static bool is_octal(const char *at)
{
	return at[0] >= '0' && at[0] <= '3' && at[1] >= '0' && at[1] <= '7' && at[2] >= '0' && at[2] <= '7';
}

static void unescape(char *text)
{
	char *to = text;
	for (const char *from = text; *from; to++) {
		if (*from == '\\' && is_octal(from + 1)) {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = 0;
}

enum { FIELD_ID = 0, FIELD_DEVICE = 2, FIELD_DIRECTORY = 4, FIELDS };

bool mount_table_line(char *line, struct mount_line *ret_line)
{
	char *rest = strstr(line, " - "), *save = NULL, *field[FIELDS];
	if (!rest)
		return false;
	*rest = 0;
	for (unsigned i = 0; i < FIELDS; i++)
		if (!(field[i] = strtok_r(i ? NULL : line, " ", &save)))
			return false;
	char *type = strtok_r(rest + 3, " \n", &save);
	char *source = type ? strtok_r(NULL, " \n", &save) : NULL;
	if (!source)
		return false;
	unescape(field[FIELD_DIRECTORY]);
	unescape(source);
	*ret_line = (struct mount_line){.id = strtoull(field[FIELD_ID], NULL, 10),
					.device = field[FIELD_DEVICE],
					.directory = field[FIELD_DIRECTORY],
					.source = source};
	return true;
}

struct mount_lines { // of this process' table, the oldest mount first
	FILE *file;
	char *line;
	size_t cap;
	struct mount_line at; // the newest: within it
};

static int lines_open(struct mount_lines *lines)
{
	*lines = (struct mount_lines){.file = fopen("/proc/self/mountinfo", "re")};
	return lines->file ? 0 : -errno;
}

static bool lines_next(struct mount_lines *lines)
{
	while (getline(&lines->line, &lines->cap, lines->file) > 0)
		if (mount_table_line(lines->line, &lines->at))
			return true;
	return false;
}

static void lines_close(struct mount_lines *lines)
{
	free(lines->line);
	(void)fclose(lines->file);
}

static void mark_fill(const struct mount_line *line, struct mount_mark *mark)
{
	mark->id = line->id;
	(void)snprintf(mark->device, sizeof(mark->device), "%s", line->device);
	(void)snprintf(mark->source, sizeof(mark->source), "%s", line->source);
}

int mount_table_mark(const char *directory, struct mount_mark *ret_mark)
{
	struct mount_lines lines;
	int rc = lines_open(&lines);
	if (rc)
		return rc;
	rc = -ENOENT;
	while (lines_next(&lines)) {
		if (strcmp(lines.at.directory, directory) != 0)
			continue;
		mark_fill(&lines.at, ret_mark);
		rc = 0;
	}
	lines_close(&lines);
	return rc;
}

int mount_table_there(const char *directory, const struct mount_mark *mark)
{
	struct mount_lines lines;
	AUTO_FREE struct mount_mark *other = malloc(sizeof(*other));
	int rc = other ? lines_open(&lines) : -ENOMEM;
	if (rc)
		return rc;
	rc = -ENOENT;
	while (lines_next(&lines)) {
		mark_fill(&lines.at, other);
		if (strcmp(lines.at.directory, directory) == 0 && other->id == mark->id && strcmp(other->device, mark->device) == 0 &&
		    strcmp(other->source, mark->source) == 0)
			rc = 0;
	}
	lines_close(&lines);
	return rc;
}

// Where the newest mount that shows `file` is. -ENOENT when there is none.
static int find_newest(const char *file, char directory[MOUNT_TABLE_PATH_SIZE])
{
	struct mount_lines lines;
	int rc = lines_open(&lines);
	if (rc)
		return rc;
	rc = -ENOENT;
	while (lines_next(&lines))
		if (strcmp(lines.at.directory, file) != 0 && mount_table_shows(lines.at.source, file))
			rc = snprintf(directory, MOUNT_TABLE_PATH_SIZE, "%s", lines.at.directory) < MOUNT_TABLE_PATH_SIZE ? 0 : -ENAMETOOLONG;
	lines_close(&lines);
	return rc;
}

// A user's FUSE mount is taken away by its own helper.
static int unmount_fuse(const char *directory, bool force, struct err *err)
{
	char program[CHILD_PATH_SIZE];
	int rc = child_find("fusermount3", "fuse3", program, sizeof(program), err);
	const char *const argv[] = {program, force ? "-uz" : "-u", "--", directory, NULL};
	if (rc == 0)
		rc = child_check(argv, UNMOUNT_MS, err);
	return rc == -EIO ? -EBUSY : rc;
}

static int unmount_try(const char *directory, bool force, struct err *err)
{
	int rc = umount2(directory, UMOUNT_NOFOLLOW) ? -errno : 0;
	if (rc == -EBUSY && force)
		rc = umount2(directory, UMOUNT_NOFOLLOW | MNT_DETACH) ? -errno : 0;
	return rc == -EPERM ? unmount_fuse(directory, force, err) : rc;
}

// Whoever looks into the directory for a moment (a find over the disk, a prompt, a monitor) keeps it busy for that moment: that is
// waited for, and only who stays is the operator's business.
static int unmount_one(const char *directory, bool force, struct err *err)
{
	int64_t until_ms = clock_mono_ms() + BUSY_MS;
	int rc;
	while ((rc = unmount_try(directory, force, err)) == -EBUSY && clock_mono_ms() < until_ms)
		(void)usleep(BUSY_PAUSE_US);
	if (rc == -EBUSY)
		return err_set(err, rc, "%s is in use: end what uses it (fuser -vm %s) and unmount it again", directory,
			       directory);
	return rc && rc != -EINVAL ? err_sys(err, rc, "unmount %s", directory) : 0;
}

// The kernel names a file without the links that led to it. What shows the file may be gone, and it then cannot be looked at: so its directory is.
void mount_table_resolve(const char *file, char resolved[MOUNT_TABLE_PATH_SIZE])
{
	char directory[MOUNT_TABLE_PATH_SIZE];
	const char *name = strrchr(file, '/');
	(void)snprintf(directory, sizeof(directory), "%.*s", name ? (int)(name - file) : 0, file);
	AUTO_FREE char *real = name ? realpath(directory, NULL) : NULL;
	if (!real || snprintf(resolved, MOUNT_TABLE_PATH_SIZE, "%s%s", real, name) >= MOUNT_TABLE_PATH_SIZE)
		(void)snprintf(resolved, MOUNT_TABLE_PATH_SIZE, "%s", file);
}

int mount_table_unmount(const char *given, bool force, struct err *err)
{
	char directory[MOUNT_TABLE_PATH_SIZE], file[MOUNT_TABLE_PATH_SIZE];
	mount_table_resolve(given, file);
	for (unsigned i = 0; i < UNMOUNTS_MAX; i++) {
		int rc = find_newest(file, directory);
		if (rc)
			return rc == -ENOENT ? 0 : err_sys(err, rc, "read the table of mounts");
		rc = unmount_one(directory, force, err);
		if (rc)
			return rc;
	}
	return err_set(err, -EBUSY, "%s is mounted again and again: unmount what shows it by hand", file);
}
