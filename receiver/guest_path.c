// SPDX-License-Identifier: Apache-2.0
// A guest's paths. Every look-up goes through openat2(2) with the mounted directory as its root: links in it, absolute ones too, are
// resolved within. A thing is looked at by O_PATH first, which opens nothing, and opened when it is known to be a file or directory:
// opening a fifo waits, and opening a device does whatever it does.
#include "receiver/guest_path.h"

#include "base/auto.h"
#include "base/beneath.h"
#include "link/json.h"
#include "receiver/recovery.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { NS_PER_S = 1000000000, PROC_SIZE = 64, SHOWN_MAX = 200 };

// For an error's text, which has a bound: the reason behind it must not be cut off.
static const char *shown(const char *path)
{
	return strlen(path) <= SHOWN_MAX ? path : "a path as long as that";
}

static int not_there(int root, const char *path, struct err *err)
{
	char target[PATH_MAX];
	AUTO_CLOSE int fd = open_in_root(root, path, O_PATH | O_NOFOLLOW);
	ssize_t len = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
	if (len < 0)
		return err_set(err, -ENOENT, "there is no %s in this file system", shown(path));
	target[len] = 0;
	for (char *at = target; *at; at++) // a guest wrote it, and a person reads it
		if (*at < 0x20 || *at >= 0x7f)
			*at = '?';
	return err_set(err, -ENOENT, "%s is a link to %s, which is not in this file system: another partition or disk may have it", shown(path), shown(target));
}

// Looks `path` up below `directory`, following links; O_PATH.
static int look_up(const char *directory, const char *path, int *ret_fd, struct stat *ret_st, struct err *err)
{
	AUTO_CLOSE int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys(err, -errno, "open %s", directory);
	AUTO_CLOSE int fd = open_in_root(root, path, O_PATH);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return not_there(root, path, err);
	if (fd < 0)
		return err_sys(err, fd == -EXDEV ? -EINVAL : fd, "%s", shown(path));
	if (fstat(fd, ret_st))
		return err_sys(err, -errno, "%s", shown(path));
	*ret_fd = fd;
	fd = -1;
	return 0;
}

// Opens what an O_PATH descriptor stands for.
static int open_again(int fd, int flags)
{
	char path[PROC_SIZE];
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int opened = open(path, flags | O_CLOEXEC);
	return opened < 0 ? -errno : opened;
}

int guest_open_file(const char *directory, const char *path, int *ret_fd, struct stat *ret_st, struct err *err)
{
	AUTO_CLOSE int fd = -1;
	int rc = look_up(directory, path, &fd, ret_st, err);
	if (rc)
		return rc;
	if (S_ISDIR(ret_st->st_mode))
		return err_set(err, -EISDIR, "%s is a directory: list what is in it with ls, and get its files one by one", shown(path));
	if (!S_ISREG(ret_st->st_mode))
		return err_set(err, -EINVAL, "%s is no regular file: it has no content here", shown(path));
	int opened = open_again(fd, O_RDONLY | O_NOCTTY | O_NONBLOCK);
	if (opened < 0)
		return err_sys(err, opened, "open %s", shown(path));
	*ret_fd = opened;
	return 0;
}

// --- listing ---

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "link";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "device";
	}
}

json_t *guest_mode_json(mode_t mode)
{
	char text[16];
	(void)snprintf(text, sizeof(text), "%04o", (unsigned)(mode & 07777));
	return json_string(text);
}

// What a guest wrote, as UTF-8: bytes that are none show as '?'.
static json_t *text_json(const char *bytes)
{
	json_t *text = json_string(bytes);
	AUTO_FREE char *copy = text ? NULL : strdup(bytes);
	for (char *at = copy; at && *at; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	return text ? text : copy ? json_string(copy) : NULL;
}

static json_t *hex_json(const char *bytes)
{
	char text[2 * NAME_MAX + 1];
	size_t len = strnlen(bytes, NAME_MAX);
	for (size_t i = 0; i < len; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", (unsigned char)bytes[i]);
	return json_stringn(text, 2 * len);
}

// `dir` and `name` as for fstatat(2).
static json_t *entry_json(int dir, const char *name, const char *shown, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t len = S_ISLNK(st->st_mode) ? readlinkat(dir, name, target, sizeof(target) - 1) : -1;
	if (len >= 0)
		target[len] = 0;
	json_t *entry = json_pack("{s:o, s:s, s:I, s:o, s:I, s:I, s:o, s:o}", "name", text_json(shown), "type", type_name(st->st_mode),
				  "size_bytes", (json_int_t)st->st_size, "mode", guest_mode_json(st->st_mode), "uid",
				  (json_int_t)st->st_uid, "gid", (json_int_t)st->st_gid, "modified",
				  json_when((int64_t)st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec), "target",
				  len >= 0 ? text_json(target) : json_null());
	json_t *plain = json_string(shown);
	if (entry && !plain && json_object_set_new(entry, "hex", hex_json(shown))) {
		json_decref(entry);
		entry = NULL;
	}
	json_decref(plain);
	return entry;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int by_name(const void *a, const void *b)
{
	const json_t *left = *(json_t *const *)a, *right = *(json_t *const *)b;
	return strcmp(json_string_value(json_object_get(left, "name")), json_string_value(json_object_get(right, "name")));
}

static json_t *sorted(json_t *const *entries, size_t count)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < count; i++)
		if (json_array_append(array, entries[i])) {
			json_decref(array);
			array = NULL;
		}
	return array;
}

static int entries_read(DIR *dir, json_t **entries, size_t *ret_count, bool *ret_truncated, struct err *err)
{
	const struct dirent *at;
	struct stat st;
	size_t count = 0;
	int rc = 0;
	*ret_truncated = false;
	while (rc == 0 && (errno = 0, at = readdir(dir))) {
		if (is_dots(at->d_name) || fstatat(dirfd(dir), at->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		*ret_truncated = count == GUEST_ENTRIES_MAX;
		if (*ret_truncated)
			break;
		entries[count] = entry_json(dirfd(dir), at->d_name, at->d_name, &st);
		rc = entries[count] ? 0 : -ENOMEM;
		count += rc == 0;
	}
	if (rc == 0 && !at && errno)
		rc = -errno;
	*ret_count = count;
	return rc ? err_sys(err, rc, "read the directory") : 0;
}

static int directory_list(int fd, json_t **ret_entries, bool *ret_truncated, struct err *err)
{
	AUTO_FREE json_t **entries = calloc(GUEST_ENTRIES_MAX, sizeof(json_t *));
	size_t count = 0;
	int opened = open_again(fd, O_RDONLY | O_DIRECTORY);
	if (opened < 0)
		return err_sys(err, opened, "open the directory");
	DIR *dir = fdopendir(opened);
	if (!dir || !entries) {
		if (dir)
			(void)closedir(dir);
		else
			(void)close(opened);
		return err_set(err, -ENOMEM, "out of memory");
	}
	int rc = entries_read(dir, entries, &count, ret_truncated, err);
	(void)closedir(dir);
	if (rc == 0) {
		qsort(entries, count, sizeof(*entries), by_name);
		*ret_entries = sorted(entries, count);
		rc = *ret_entries ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < count; i++)
		json_decref(entries[i]);
	return rc;
}

int guest_list(const char *directory, const char *path, json_t **ret_entries, bool *ret_truncated, struct err *err)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	int rc = look_up(directory, path, &fd, &st, err);
	if (rc)
		return rc;
	if (S_ISDIR(st.st_mode)) {
		rc = directory_list(fd, ret_entries, ret_truncated, err);
		return rc && err ? err_wrap(err, "%s", shown(path)) : rc;
	}
	const char *slash = strrchr(path, '/');
	*ret_truncated = false;
	*ret_entries = json_pack("[o]", entry_json(fd, "", slash ? slash + 1 : path, &st));
	return *ret_entries ? 0 : err_set(err, -ENOMEM, "out of memory");
}
