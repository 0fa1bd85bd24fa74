// SPDX-License-Identifier: Apache-2.0
// The steps of one mount. Promises: no step trusts what the guest wrote; every mount is read-only, nosuid, nodev and noexec;
// nothing is left behind by a failure.
#include "receiver/mount_session.h"

#include "base/auto.h"
#include "receiver/child.h"
#include "receiver/loop.h"
#include "receiver/mount_table.h"
#include "receiver/overlay.h"
#include "receiver/raw_view.h"
#include "receiver/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define OWN_DIRECTORY "files"

enum { FUSE_MS = 60000, NAME_MAX_SIZE = 512, RECORD_MAX = 16384 };

// --- names ---

int mount_session_found(struct mount_session *session, const char *store_path, const char *protection, const char *id,
			struct err *err)
{
	int n = snprintf(session->name, sizeof(session->name), "%s/tests/%s", protection, id);
	int m = snprintf(session->path, sizeof(session->path), "%s/%s", store_path, session->name);
	if (n >= (int)sizeof(session->name) || m >= (int)sizeof(session->path))
		return err_set(err, -ENAMETOOLONG, "the path of the store is too long to mount from it");
	return 0;
}

int mount_session_name(struct mount_session *session, struct env *env, const char *store_path, struct err *err)
{
	unsigned char random[4];
	char id[32];
	int rc = env_random(env, random, sizeof(random));
	if (rc)
		return err_sys(err, rc, "get random bytes");
	(void)snprintf(id, sizeof(id), MOUNT_SESSION_PREFIX "%02x%02x%02x%02x", random[0], random[1], random[2], random[3]);
	return mount_session_found(session, store_path, session->info.protection, id, err);
}

int mount_session_own(struct mount_session *session, struct err *err)
{
	int n = snprintf(session->info.directory, sizeof(session->info.directory), "%s/%s", session->path, OWN_DIRECTORY);
	session->own = true;
	return n < (int)sizeof(session->info.directory) ? 0 : err_set(err, -ENAMETOOLONG, "the path of the store is too long");
}

static int name_in(const struct mount_session *session, const char *file, char name[NAME_MAX_SIZE])
{
	return snprintf(name, NAME_MAX_SIZE, "%s/%s", session->name, file) < NAME_MAX_SIZE ? 0 : -ENAMETOOLONG;
}

static void path_in(const struct mount_session *session, const char *file, char path[MOUNT_PATH_SIZE + 16])
{
	(void)snprintf(path, MOUNT_PATH_SIZE + 16, "%s/%s", session->path, file);
}

// --- prepare ---

static int record_write(const struct mount_session *session, struct env_root *root)
{
	char name[NAME_MAX_SIZE];
	const struct mount_info *info = &session->info;
	json_t *json = json_pack("{s:s, s:I, s:s, s:s}", "protection", info->protection, "point", (json_int_t)info->point,
				 "disk", info->disk, "directory", info->directory);
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	json_decref(json);
	if (!text)
		return -EINVAL;
	int rc = name_in(session, "mount.json", name);
	return rc ? rc : env_replace(root, session->name, name, text, strlen(text));
}

int mount_session_point(const struct mount_session *session, struct env_root *root, uint64_t *ret_point)
{
	char name[NAME_MAX_SIZE];
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = name_in(session, "mount.json", name);
	if (rc == 0)
		rc = env_read_file(root, name, RECORD_MAX, &text, &len);
	if (rc)
		return rc;
	json_t *json = json_loadb(text, len, 0, NULL);
	json_int_t point = json_integer_value(json_object_get(json, "point"));
	json_decref(json);
	if (point <= 0)
		return -EBADMSG;
	*ret_point = (uint64_t)point;
	return 0;
}

static int make_directories(const struct mount_session *session, struct env_root *root)
{
	char tests[NAME_SIZE + 8];
	(void)snprintf(tests, sizeof(tests), "%s/tests", session->info.protection);
	int rc = env_mkdir(root, tests);
	if (rc == 0 || rc == -EEXIST)
		rc = env_mkdir(root, session->name);
	if (rc || !session->own)
		return rc;
	char own[NAME_MAX_SIZE];
	rc = name_in(session, OWN_DIRECTORY, own);
	return rc ? rc : env_mkdir(root, own);
}

static int prepare(const struct mount_session *session, struct env_root *root, uint64_t size, struct err *err)
{
	char name[NAME_MAX_SIZE], backing[NAME_SIZE + 64];
	int rc = make_directories(session, root);
	if (rc)
		return err_sys(err, rc, "create %s", session->path);
	rc = record_write(session, root);
	if (rc)
		return err_sys(err, rc, "write %s/mount.json", session->path);
	(void)snprintf(backing, sizeof(backing), "../../points/%llu/%s.qcow2", (unsigned long long)session->info.point,
		       session->info.disk);
	rc = name_in(session, "overlay.qcow2", name);
	return rc ? err_sys(err, rc, "name the overlay") : overlay_create(root, name, size, backing, err);
}

// --- view ---

static int fd_read(void *context, uint64_t off, void *buf, uint32_t len)
{
	const int *fd = context;
	for (uint32_t got = 0; got < len;) {
		ssize_t n = pread(*fd, (char *)buf + got, len - got, (off_t)(off + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		got += (uint32_t)n;
	}
	return 0;
}

static int choose(const char *file, uint64_t size, uint32_t partition, struct volume *ret_volume, struct err *err)
{
	AUTO_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "open %s", file);
	struct disk_source disk = {.read = fd_read, .context = &fd, .size = size};
	return volume_choose(&disk, partition, ret_volume, err);
}

// --- attach ---

static int attach_kernel(const char *file, const struct volume *volume, const char *directory, struct err *err)
{
	char device[LOOP_NAME_SIZE];
	AUTO_CLOSE int keep = loop_attach(file, volume->off, volume->len, device, err);
	if (keep < 0)
		return keep;
	const struct filesystem *fs = volume->filesystem;
	if (mount(device, directory, fs->driver, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, fs->options) == 0)
		return 0;
	int rc = -errno;
	if (rc == -EEXIST && strcmp(fs->driver, "btrfs") == 0)
		return err_set(err, -EBUSY, "this kernel (older than 6.7) takes two copies of one btrfs for the same, and one is mounted: "
					    "unmount the other point first (kagami mounts lists them)");
	if (rc == -EINVAL) // what the guest has there, and nothing that was asked wrongly
		return err_set(err, -EUCLEAN, "this kernel refuses the %s file system (dmesg has its reason): look at it in a virtual machine (kagami test start), or take the disk as a "
					      "whole (kagami export)", fs->name);
	return err_sys(err, rc, "mount the %s file system on %s (the kernel's reason is in dmesg)", fs->name, directory);
}

// What the kernel does by itself: fuse2fs shows nothing read-only before its journal was replayed.
static int replay_journal(const char *file, const struct volume *volume, struct err *err)
{
	char program[CHILD_PATH_SIZE], target[MOUNT_PATH_SIZE + 64];
	struct child_result result;
	int rc = child_find("e2fsck", "e2fsprogs", program, sizeof(program), err);
	(void)snprintf(target, sizeof(target), "%s?offset=%llu", file, (unsigned long long)volume->off);
	const char *const argv[] = {program, "-y", "-E", "journal_only", target, NULL};
	if (rc == 0)
		rc = child_run(argv, FUSE_MS, &result, err);
	if (rc == 0 && (result.exit_code < 0 || result.exit_code > 1)) // 1: something was put right
		rc = err_set(err, -EIO, "replay the journal: %s failed: %s", program, result.text);
	return rc;
}

static int attach_fuse(const char *file, const struct volume *volume, const char *directory, struct err *err)
{
	char program[CHILD_PATH_SIZE], options[96];
	int rc = child_find("fuse2fs", "fuse2fs", program, sizeof(program), err);
	if (rc == 0)
		rc = replay_journal(file, volume, err);
	if (rc)
		return rc;
	(void)snprintf(options, sizeof(options), "ro,fakeroot,nosuid,nodev,noexec,offset=%llu",
		       (unsigned long long)volume->off);
	const char *const argv[] = {program, "-o", options, file, directory, NULL};
	return child_check(argv, FUSE_MS, err);
}

// Whether the error says that this host or user cannot, rather than that the file system is bad.
static bool is_lack(int rc)
{
	return rc == -EPERM || rc == -EACCES || rc == -ENOENT || rc == -ENXIO || rc == -ENODEV;
}

static int attach(const char *file, const struct volume *volume, const char *directory, struct err *err)
{
	struct err kernel = {.code = 0}, fuse = {.code = 0};
	int rc = attach_kernel(file, volume, directory, &kernel);
	if (rc == 0)
		return 0;
	if (!is_lack(rc))
		return err_set(err, rc, "%s", kernel.text);
	rc = rc == -EACCES ? -EPERM : rc == -ENOENT ? -ENODEV : rc; // "not found" would read as a point that is not there
	if (strcmp(volume->filesystem->driver, "ext4") != 0)
		return err_set(err, rc, "%s: run the receiver as root on a host with loop devices and the %s driver", kernel.text,
			       volume->filesystem->driver);
	if (attach_fuse(file, volume, directory, &fuse) == 0)
		return 0;
	struct err why = {.code = 0};
	(void)err_set(&why, rc, "%s, and without root and loop devices: %s", kernel.text, fuse.text);
	return raw_view_fail(&why, err);
}

int mount_session_do(struct mount_session *session, struct env_root *root, uint64_t size, uint32_t partition,
		     struct err *err)
{
	char image[MOUNT_PATH_SIZE + 16], file[MOUNT_PATH_SIZE + 16];
	struct volume volume;
	path_in(session, "overlay.qcow2", image);
	path_in(session, RAW_VIEW_FILE, file);
	int rc = prepare(session, root, size, err);
	if (rc == 0)
		rc = raw_view_start(session->path, image, session->proven ? proven_view_name(session->proven) : NULL, err);
	if (rc == 0)
		rc = choose(file, size, partition, &volume, err);
	if (rc == 0)
		rc = attach(file, &volume, session->info.directory, err);
	if (rc == 0 && (rc = mount_table_mark(session->info.directory, &session->mark)))
		rc = err_sys(err, rc == -ENOENT ? -EIO : rc, "find the mount on %s in the table of mounts", session->info.directory);
	if (rc)
		return rc;
	session->info.partition = volume.partition;
	(void)snprintf(session->info.filesystem, sizeof(session->info.filesystem), "%s", volume.filesystem->name);
	return 0;
}

// --- undo ---

// What was unmounted by hand is gone, whatever is mounted there now; what is there still was only not found.
static int gone_check(const struct mount_session *session, struct err *err)
{
	if (session->mark.id == 0 || mount_table_there(session->info.directory, &session->mark) == -ENOENT)
		return 0;
	return err_set(err, -EBUSY, "%s is mounted still, but not from %s: if the store was moved or renamed, move it back; or unmount it with umount(8) first",
		       session->info.directory, session->path);
}

int mount_session_undo(struct mount_session *session, struct env_root *root, bool force, struct err *err)
{
	char file[MOUNT_PATH_SIZE + 16];
	path_in(session, RAW_VIEW_FILE, file);
	int rc = mount_table_unmount(file, force, err);
	if (rc == 0)
		rc = gone_check(session, err);
	if (rc == 0)
		rc = raw_view_stop(session->path, err);
	if (rc)
		return rc;
	proven_view_stop(session->proven);
	session->proven = NULL;
	rc = env_remove_tree(root, session->name);
	return rc ? err_sys(err, rc, "remove %s", session->path) : 0;
}
