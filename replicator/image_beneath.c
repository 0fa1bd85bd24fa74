// SPDX-License-Identifier: Apache-2.0
#include "replicator/image_beneath.h"

#include "base/auto.h"
#include "replicator/device_claim.h"
#include "replicator/device_loop.h"
#include "replicator/image.h"
#include "replicator/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *const sys = "/sys", *const mounts = "/proc/self/mountinfo";

struct beneath {
	struct image *image;
	bool all; // of the loop device that is asked, the image has everything
	struct err *err;
};

static int lock_loops(struct beneath *beneath, dev_t device);

// ---- other loop devices over the same bytes

static int other_loop(const char *what, const char *path, const struct stat *st, const struct device_loop *beside, struct err *err)
{
	char name[DEVICE_NAME_BYTES];
	if (!device_loop_over(sys, mounts, st, true, beside, name))
		return 0;
	return err_set(err, -EBUSY,
		       "%s %s is %sunder the loop device /dev/%s, by which it may be written past what is tracked: unmount that (umount) and detach it (losetup -d /dev/%s), "
		       "or attach it read-only (losetup -r)%s",
		       what, path, S_ISBLK(st->st_mode) ? "" : "the file ", name, name, beside ? "" : "; or protect the loop device in its place");
}

int image_beneath_of_loop(const char *path, const struct stat *st, struct err *err)
{
	return other_loop(S_ISBLK(st->st_mode) ? "device" : "image", path, st, NULL, err);
}

// ---- what lies beneath a device

// What a loop device shows, if that path still is it: another may have the name by now, or here. -1: it is not, or cannot be told.
static int open_shown(const struct device_loop *loop)
{
	char node[DEVICE_NAME_BYTES + 8];
	struct loop_info64 info;
	struct stat st;
	(void)snprintf(node, sizeof(node), "/dev/%s", loop->name);
	AUTO_CLOSE int device = open(node, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	AUTO_CLOSE int file = device < 0 ? -1 : open(loop->file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (file < 0 || ioctl(device, LOOP_GET_STATUS64, &info) < 0 || fstat(file, &st) < 0 || info.lo_inode != st.st_ino || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return -1;
	int fd = file;
	file = -1;
	return fd;
}

static int lock_shown(void *context, const struct device_loop *loop, bool all)
{
	struct beneath *beneath = context;
	struct image *image = beneath->image;
	struct stat st;
	if (image->beneath_count == IMAGE_BENEATH_MAX)
		return err_set(beneath->err, -E2BIG, "image %s lies on more than %d loop devices: give it a device of its own", image->path, IMAGE_BENEATH_MAX);
	int file = open_shown(loop);
	if (file < 0)
		return 0;
	image->beneath[image->beneath_count++] = file;
	all = all && beneath->all && device_loop_shows_all(loop);
	if (flock(file, (all ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_set(beneath->err, -EBUSY,
			       "image %s: the file under the loop device /dev/%s is in use by another agent or program, or as another disk: protect one of the two, not both", image->path,
			       loop->name);
	if (fstat(file, &st) < 0)
		return err_sys(beneath->err, -errno, "stat %s", loop->file);
	int code = other_loop("what lies beneath", image->path, &st, loop, beneath->err);
	if (code || !S_ISBLK(st.st_mode))
		return code;
	struct beneath further = {.image = image, .all = all, .err = beneath->err};
	return lock_loops(&further, st.st_rdev);
}

static int lock_loops(struct beneath *beneath, dev_t device)
{
	return device_loops_beneath(sys, device, lock_shown, beneath);
}

// For an instant: who only reads the whole claims nothing, and the kernel would let both have it. Tools that change partitions wait for whoever has the lock.
static int look_at_whole(const struct image *image, dev_t device, struct err *err)
{
	char dir[PATH_MAX], node[DEVICE_NAME_BYTES + 8];
	if (!sysfs_dir(sys, device, dir) || !sysfs_has(dir, "partition"))
		return 0;
	if (snprintf(node, sizeof(node), "/dev/%s", basename(dirname(dir))) >= (int)sizeof(node))
		return 0;
	AUTO_CLOSE int whole = open(node, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (whole < 0 || flock(whole, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return err_set(err, -EBUSY, "image %s is a partition of %s, which is in use by another agent or program, or as another disk: protect one of the two, not both",
		       image->path, node);
}

// ---- a device that is read-only for its guest

static int look_for_writer(const struct image *image, dev_t device, struct err *err)
{
	struct device_writer writer;
	if (!device_claim_writes(sys, mounts, device, &writer))
		return 0;
	if (writer.mount[0])
		return err_set(err, -EBUSY,
			       "image %s is read-only for its guest, but /dev/%s is mounted for writing at %s: unmount that, or mount it for reading alone (mount -o remount,ro %s)",
			       image->path, writer.name, writer.mount, writer.mount);
	return err_set(err, -EBUSY,
		       "image %s is read-only for its guest, but /dev/%s is in use by another program, or in another container, which may write to it: stop that first", image->path,
		       writer.name);
}

int image_beneath_lock(struct image *image, bool read_only, struct err *err)
{
	struct beneath beneath = {.image = image, .all = true, .err = err};
	struct stat st;
	if (fstat(image->fd, &st) < 0)
		return err_sys(err, -errno, "stat image %s", image->path);
	int code = image_beneath_of_loop(image->path, &st, err);
	if (code || !S_ISBLK(st.st_mode))
		return code;
	code = lock_loops(&beneath, st.st_rdev);
	if (code == 0)
		code = look_at_whole(image, st.st_rdev, err);
	if (code == 0 && read_only)
		code = look_for_writer(image, st.st_rdev, err);
	return code;
}

void image_beneath_unlock(const struct image *image)
{
	for (unsigned i = 0; i < image->beneath_count; i++)
		(void)flock(image->beneath[i], LOCK_UN);
}

void image_beneath_close(struct image *image)
{
	while (image->beneath_count)
		(void)close(image->beneath[--image->beneath_count]);
}
