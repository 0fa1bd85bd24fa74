// SPDX-License-Identifier: Apache-2.0
#include "replicator/failed_note.h"

#include "base/auto.h"
#include "replicator/run_note.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOTE_TEXT_BYTES = ERR_TEXT_MAX + 96 };

// That it is there says what matters: where there is no room for the text, there is for a name.
static int write_note(const char *path, const struct failed_note_of *of, const char *why)
{
	char text[NOTE_TEXT_BYTES], protection[UUID_TEXT_SIZE];
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	uuid_format(&of->protection, protection);
	int len = snprintf(text, sizeof(text), "%s %" PRIu64 " %" PRId64 "\n%.*s", protection, of->inode, of->born_ns, ERR_TEXT_MAX - 1, why);
	(void)!write(fd, text, (size_t)len);
	return 0;
}

int failed_note_write(const char *run_dir, const char *protection, const char *disk, const struct failed_note_of *of, const char *why, struct err *err)
{
	char path[RUN_NOTE_PATH_SIZE];
	int rc = run_note_place(path, run_dir, "failed", protection, disk);
	if (rc == 0)
		rc = write_note(path, of, why);
	return rc ? err_sys(err, rc, "write the note %s/failed/%s:%s", run_dir, protection, disk) : 0;
}

// False: it is torn, as where there was no room for it. What is behind its first line is why.
static bool parse(const char *text, struct failed_note_of *ret_of, const char **ret_why)
{
	char uuid[UUID_TEXT_SIZE];
	char *end;
	if (strlen(text) < sizeof(uuid) || text[sizeof(uuid) - 1] != ' ')
		return false;
	memcpy(uuid, text, sizeof(uuid) - 1);
	uuid[sizeof(uuid) - 1] = '\0';
	if (!uuid_read(uuid, &ret_of->protection))
		return false;
	ret_of->inode = strtoull(text + sizeof(uuid), &end, 10);
	if (*end != ' ')
		return false;
	ret_of->born_ns = strtoll(end + 1, &end, 10);
	if (*end != '\n')
		return false;
	*ret_why = end + 1;
	return true;
}

// What is not known of either tells nothing.
static bool of_same(const struct failed_note_of *a, const struct failed_note_of *b)
{
	if (!uuid_equal(&a->protection, &b->protection))
		return false;
	if (!a->inode || !b->inode)
		return true;
	return a->inode == b->inode && (!a->born_ns || !b->born_ns || a->born_ns == b->born_ns);
}

int failed_note_read(const char *run_dir, const char *protection, const char *disk, const struct failed_note_of *of, bool *ret_failed, char why[ERR_TEXT_MAX], struct err *err)
{
	char path[RUN_NOTE_PATH_SIZE], text[NOTE_TEXT_BYTES];
	const char *reason = "";
	struct failed_note_of noted;
	why[0] = '\0';
	*ret_failed = false;
	if (run_note_path(path, run_dir, "failed", protection, disk))
		return 0; // none was written
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return 0;
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (got < 0)
		return err_sys(err, -errno, "read the note %s, without which it is not known whether disk %s of %s failed", path, disk, protection);
	text[got] = '\0';
	*ret_failed = !parse(text, &noted, &reason) || of_same(&noted, of);
	(void)snprintf(why, ERR_TEXT_MAX, "%.*s", ERR_TEXT_MAX - 1, reason);
	return 0;
}

int failed_note_remove(const char *run_dir, const char *protection, const char *disk, struct err *err)
{
	char path[RUN_NOTE_PATH_SIZE];
	if (run_note_path(path, run_dir, "failed", protection, disk) || unlink(path) == 0 || errno == ENOENT)
		return 0;
	return err_sys(err, -errno, "remove the note %s/failed/%s:%s", run_dir, protection, disk);
}

int failed_note_remove_all(const char *run_dir, const char *protection, struct err *err)
{
	char path[RUN_NOTE_PATH_SIZE];
	size_t len = strlen(protection);
	if (snprintf(path, sizeof(path), "%s/failed", run_dir) >= (int)sizeof(path))
		return 0;
	DIR *dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "open %s", path);
	int rc = 0;
	for (struct dirent *entry; (entry = readdir(dir));)
		if (strncmp(entry->d_name, protection, len) == 0 && entry->d_name[len] == ':' && unlinkat(dirfd(dir), entry->d_name, 0) < 0 && errno != ENOENT)
			rc = err_sys(err, -errno, "remove the note %s/%s", path, entry->d_name);
	(void)closedir(dir);
	return rc;
}
