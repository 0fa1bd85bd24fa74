// SPDX-License-Identifier: Apache-2.0
#include "replicator/failed_note.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOTE_PATH_BYTES = 4096, NOTE_TEXT_BYTES = ERR_TEXT_MAX + 32 };

// No name of ours has a colon: two disks never share a note.
static int path_of(char path[NOTE_PATH_BYTES], const char *run_dir, const char *protection, const char *disk)
{
	int need = snprintf(path, NOTE_PATH_BYTES, "%s/failed/%s:%s", run_dir, protection, disk);
	return need < NOTE_PATH_BYTES ? 0 : -ENAMETOOLONG;
}

// That it is there says what matters: what there is no room for is the reason.
static int write_note(const char *path, uint64_t inode, const char *why)
{
	char text[NOTE_TEXT_BYTES];
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	int len = snprintf(text, sizeof(text), "%" PRIu64 "\n%.*s", inode, ERR_TEXT_MAX - 1, why);
	return write(fd, text, (size_t)len) < 0 ? -errno : 0;
}

int failed_note_write(const char *run_dir, const char *protection, const char *disk, uint64_t inode, const char *why, struct err *err)
{
	char path[NOTE_PATH_BYTES], dir[NOTE_PATH_BYTES];
	int rc = path_of(path, run_dir, protection, disk);
	(void)snprintf(dir, sizeof(dir), "%s/failed", run_dir);
	if (rc == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0)
		rc = write_note(path, inode, why);
	return rc ? err_sys(err, rc, "write the note %s/failed/%s:%s", run_dir, protection, disk) : 0;
}

bool failed_note_read(const char *run_dir, const char *protection, const char *disk, uint64_t inode, char why[ERR_TEXT_MAX])
{
	char path[NOTE_PATH_BYTES], text[NOTE_TEXT_BYTES], *end = text;
	why[0] = '\0';
	if (path_of(path, run_dir, protection, disk))
		return false; // none was written
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno != ENOENT;
	ssize_t got = read(fd, text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = '\0';
	uint64_t of = strtoull(text, &end, 10);
	if (*end != '\n')
		return true;
	(void)snprintf(why, ERR_TEXT_MAX, "%.*s", ERR_TEXT_MAX - 1, end + 1);
	return !of || !inode || of == inode;
}

int failed_note_remove(const char *run_dir, const char *protection, const char *disk, struct err *err)
{
	char path[NOTE_PATH_BYTES];
	if (path_of(path, run_dir, protection, disk) || unlink(path) == 0 || errno == ENOENT)
		return 0;
	return err_sys(err, -errno, "remove the note %s/failed/%s:%s", run_dir, protection, disk);
}
