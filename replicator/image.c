// SPDX-License-Identifier: Apache-2.0
// Opening, locking and identifying the image of a disk. Its I/O is in image_io.c.
#include "replicator/image.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/size.h"
#include "replicator/device_counts.h"
#include "replicator/device_loop.h"
#include "replicator/export.h"
#include "replicator/image_beneath.h"
#include "replicator/rest.h"
#include "replicator/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <xxhash.h>

// QEMU locks single bytes of an image: 100 + n says "I use permission n", 200 + n says "nobody else may". 1 is writing.
enum { QEMU_WRITES_AT = 101, QEMU_NO_WRITER_AT = 201 };

static int try_open(const char *path, bool read_only, struct err *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return err_sys(err, -errno, "open image %s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "%s is neither a regular file nor a block device: give the path of a raw image", path);
	int flags = O_CLOEXEC | (read_only ? O_RDONLY : O_RDWR);
	if (S_ISBLK(st.st_mode) && !read_only)
		flags |= O_EXCL; // refuses a device that is mounted, or part of another
	int fd = open(path, flags);
	if (fd >= 0) {
		(void)fcntl(fd, F_SETFL, O_NOATIME); // else a read that is answered from memory waits for a journal; of a file of somebody else's it is not granted
		return fd;
	}
	switch (errno) {
	case EACCES:
	case EROFS:
	case EPERM:
		return err_sys(err, -errno, "open image %s for writing (its owner, mode or file system forbids it: change that)", path);
	case EBUSY:
		return err_set(err, -EBUSY, "%s is in use (mounted, or part of another device): unmount it first", path);
	default:
		return err_sys(err, -errno, "open image %s", path);
	}
}

static int is_taken(const struct image *image, struct err *err)
{
	char loop[DEVICE_NAME_BYTES];
	struct stat st;
	if (fstat(image->fd, &st) == 0 && device_loop_over("/sys", "/proc/self/mountinfo", &st, false, NULL, loop))
		return err_set(err, -EBUSY,
			       "image %s is in use, and it is the file under the loop device /dev/%s: if that is protected, leave it at that; if not, detach it (losetup -d /dev/%s), or "
			       "stop the agent or program that has the image",
			       image->path, loop, loop);
	return err_set(err, -EBUSY, "image %s is in use by another agent or program: stop it, or unprotect it there", image->path);
}

static int take_locks(struct image *image, struct err *err)
{
	if (flock(image->fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return is_taken(image, err);
		return err_sys(err, -errno, "lock image %s", image->path);
	}
	// Of a read-only disk, too: what another program writes there would not be tracked.
	struct flock writer = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = QEMU_WRITES_AT, .l_len = 1};
	if (fcntl(image->fd, F_OFD_GETLK, &writer) == 0 && writer.l_type != F_UNLCK)
		return err_set(err, -EBUSY, "image %s is open in QEMU: stop the machine, and start it again on the disk's NBD URI", image->path);
	// A QEMU that starts on the image itself, past our tracking, is refused by its own locking while we hold this; tools that
	// only read are not. A file system without such locks has no such protection, which is no reason to refuse it.
	struct flock mine = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = QEMU_NO_WRITER_AT, .l_len = 1};
	(void)fcntl(image->fd, F_OFD_SETLK, &mine);
	return 0;
}

void image_unlock(const struct image *image)
{
	image_beneath_unlock(image);
	struct flock mine = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = QEMU_NO_WRITER_AT, .l_len = 1};
	(void)fcntl(image->fd, F_OFD_SETLK, &mine);
	(void)flock(image->fd, LOCK_UN);
}

// 0: its file system does not tell.
static int64_t born_ns(int fd)
{
	struct statx stx;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &stx) < 0 || !(stx.stx_mask & STATX_BTIME))
		return 0;
	return stx.stx_btime.tv_sec * INT64_C(1000000000) + stx.stx_btime.tv_nsec;
}

// Of a partition the disk says it.
static bool device_zeroes(dev_t device)
{
	char dir[PATH_MAX];
	if (!sysfs_dir("/sys", device, dir))
		return false;
	bool partition = sysfs_has(dir, "partition");
	return sysfs_number(dir, partition ? "../queue/write_zeroes_max_bytes" : "queue/write_zeroes_max_bytes", 0) != 0;
}

static int find_size(struct image *image, struct err *err)
{
	struct stat st;
	if (fstat(image->fd, &st) < 0)
		return err_sys(err, -errno, "stat image %s", image->path);
	image->block_device = S_ISBLK(st.st_mode);
	image->no_zeroes = image->block_device && !device_zeroes(st.st_rdev);
	image->file = image_file_of(&st);
	image->born_ns = image->block_device ? 0 : born_ns(image->fd);
	image->size = (uint64_t)st.st_size;
	if (image->block_device && ioctl(image->fd, BLKGETSIZE64, &image->size) < 0)
		return err_sys(err, -errno, "ask for the size of %s", image->path);
	if (image->block_device && image->size == 0)
		return err_set(err, -EINVAL, "device %s has no size: nothing is attached to it (a loop device without a file, a drive without a medium), attach it again", image->path);
	if (!size_disk_ok(image->size) && image->block_device)
		return err_set(err, -EINVAL, "device %s has %llu bytes, which is not a whole number of 512-byte sectors between 1 sector and 64 TiB: give it another size",
			       image->path, (unsigned long long)image->size);
	if (!size_disk_ok(image->size))
		return err_set(err, -EINVAL, "image %s has %llu bytes, which is not a whole number of 512-byte sectors between 1 sector and 64 TiB: resize it with truncate",
			       image->path, (unsigned long long)image->size);
	return 0;
}

// Its node opens for writing even so, and the first write of the guest would fail: for the guest that is a dead disk.
static int check_writable(const struct image *image, struct err *err)
{
	int read_only = 0;
	if (!image->block_device || ioctl(image->fd, BLKROGET, &read_only) < 0 || !read_only)
		return 0;
	return err_set(err, -EROFS, "device %s is read-only: make it writable (`blockdev --setrw`, or attach it anew), or, if its guest only reads, protect its disk with --read-only",
		       image->path);
}

// No more is read than was asked for. Who reads ahead is the guest, of its own files, and a copy, of what it will need (image_read.c, reader.c).
// The system's own reading ahead fills its cache with large folios, up to 2 MiB each, and ext4 goes through every block of a folio at each
// write to it: 36 us in place of 5 for 4 KiB (docs/performance.md).
static void read_as_asked(const struct image *image)
{
	(void)posix_fadvise(image->fd, 0, 0, POSIX_FADV_RANDOM);
}

int image_open(struct image *image, const char *path, bool read_only, struct err *err)
{
	*image = (struct image){.fd = -1};
	image->path = strdup(path);
	if (!image->path)
		return err_sys(err, -ENOMEM, "open image %s", path);
	bool apart = image_path_apart(path); // while it is not open here
	int code = try_open(path, read_only, err);
	if (code >= 0) {
		image->fd = code;
		code = take_locks(image, err);
	}
	if (code == 0)
		code = find_size(image, err);
	if (code == 0 && !read_only)
		code = check_writable(image, err);
	if (code == 0 && !apart) // else nothing can be beside it that writes, and the file systems of others are not asked
		code = image_beneath_lock(image, read_only, err);
	if (code == 0) {
		read_as_asked(image);
		image->times_tell = image_times_tell(image);
	}
	if (code < 0)
		image_close(image);
	return code;
}

// For NFS, FAT and others: a name that nobody had, and that is gone before anything is written.
static int scratch_named(const char *dir)
{
	char name[PATH_MAX];
	if (snprintf(name, sizeof(name), "%s/.kagami-spill-XXXXXX", dir) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	int fd = mkostemp(name, O_CLOEXEC); // O_EXCL, mode 0600
	if (fd < 0)
		return -errno;
	if (unlink(name) == 0)
		return fd;
	int code = -errno; // a file that others can see is not used
	(void)close(fd);
	return code;
}

static int scratch_open(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	// EISDIR: a kernel or file system that takes the flag for O_DIRECTORY alone.
	return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL ? scratch_named(dir) : -errno;
}

int image_open_scratch(struct image *image, const char *dir, struct err *err)
{
	*image = (struct image){.fd = -1};
	image->path = strdup(dir);
	if (!image->path)
		return err_sys(err, -ENOMEM, "create a spill file in %s", dir);
	int code = scratch_open(dir);
	if (code >= 0) {
		image->fd = code;
		return 0;
	}
	(void)err_sys(err, code, "create a spill file in %s", dir);
	image_close(image);
	return code;
}

enum { WRITE_PIECE_MIN = 1 << 20, WRITE_PIECE_MAX = 1 << 30, WRITE_PIECE_PAGES = 256, WRITE_PIECES_MAX = 32768 };

// Whatever code it is (image_sync.c).
static int write_piece(struct image *image, int fd, uint64_t off, uint64_t len)
{
	int rc = sync_file_range(fd, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	int code = rc < 0 ? -errno : 0;
	asked_moves(&image->asked, clock_mono_ns());
	return code;
}

// The length of a piece from `off` on: as much as a disk writes in a moment, where what waits in it can be counted. 0 pages: nothing is to be written there.
static uint64_t piece_from(const struct image *image, uint64_t off, uint64_t before, uint64_t *ret_pages)
{
	uint64_t len = min_u64(2 * before, WRITE_PIECE_MAX);
	for (;; len /= 2) {
		struct image_pages pages = {0};
		*ret_pages = image_pages(image, off, len, &pages) ? 1 : pages.dirty + pages.writeback;
		if (*ret_pages <= WRITE_PIECE_PAGES || len <= WRITE_PIECE_MIN)
			return len;
	}
}

// What waits to be written, in pieces, so that a process that is killed can end in between (unwritten.h). Called while it is asked. Where the kernel does not tell what waits (before
// Linux 6.5), they are of a length.
static int write_pieces(struct image *image, int fd)
{
	struct image_pages any;
	bool tells = image_pages(image, 0, 1, &any) == 0;
	uint64_t len = max_u64(WRITE_PIECE_MIN, image->size / WRITE_PIECES_MAX), pages = 1;
	int code = 0;
	if (sync_file_range(fd, 0, 0, 0) < 0) // not allowed: the sync behind it does all
		return 0;
	for (uint64_t off = 0; off < image->size && code == 0; off += len) {
		if (tells)
			len = piece_from(image, off, off ? len : WRITE_PIECE_MAX, &pages);
		if (pages)
			code = write_piece(image, fd, off, len);
	}
	return code;
}

// A file description of its own: an error that the sync finds is still told to the guest by the one that serves it (G5), as long as this process lives.
static int sync_apart(struct image *image, int (*sync)(int), int *ret_failed)
{
	char path[32];
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_failed = write_pieces(image, fd);
	if (*ret_failed == 0)
		*ret_failed = sync(fd) < 0 ? -errno : 0;
	return *ret_failed;
}

static int extend(struct image *image, uint64_t size, int *ret_failed, struct err *err)
{
	struct stat st;
	uint64_t has = 0;
	if (fstat(image->fd, &st) < 0)
		return err_sys(err, -errno, "stat image %s", image->path);
	if (!image->block_device) {
		int rc = (uint64_t)st.st_size < size && ftruncate(image->fd, (off_t)size) < 0 ? -errno : 0;
		if (rc == -EFBIG)
			return err_set(err, rc, "the file system of image %s, or a limit of this process, allows no file of %llu bytes, and the disk stays as it is: give a smaller size, or move the image to one that does, such as xfs",
				       image->path, (unsigned long long)size);
		if (rc)
			return err_sys(err, rc, "extend image %s to %llu bytes", image->path, (unsigned long long)size);
		// The receiver is told this size next, and takes no smaller one ever again: a power cut must not take it back.
		int code = sync_apart(image, fsync, ret_failed);
		if (code && (uint64_t)st.st_size < size)
			(void)!ftruncate(image->fd, st.st_size); // nobody wrote there; or the next start would find a larger image
		return code ? err_sys(err, code, "make the size of image %s durable", image->path) : 0;
	}
	if (ioctl(image->fd, BLKGETSIZE64, &has) < 0)
		return err_sys(err, -errno, "ask for the size of %s", image->path);
	if (has < size)
		return err_set(err, -EINVAL, "device %s has %llu bytes, not %llu: make it larger first", image->path,
			       (unsigned long long)has, (unsigned long long)size);
	return 0;
}

void image_drop_cache(struct image *image, uint64_t off, uint64_t len)
{
	ASKED_SCOPE(&image->asked, clock_mono_ns());
	(void)posix_fadvise(image->fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
}

int image_extend(struct image *image, uint64_t size, int *ret_failed, struct err *err)
{
	ASKED_SCOPE(&image->asked, clock_mono_ns());
	return extend(image, size, ret_failed, err);
}

bool image_settle(struct image *image, int *ret_failed)
{
	ASKED_SCOPE(&image->asked, clock_mono_ns());
	return sync_apart(image, fdatasync, ret_failed) == 0;
}

int image_renew(struct image *image, struct err *err)
{
	int failed = 0;
	ASKED_SCOPE(&image->asked, clock_mono_ns());
	int code = sync_apart(image, fdatasync, &failed);
	if (code == 0)
		(void)fdatasync(image->fd); // nothing waits: what it tells is of before
	if (code)
		return err_sys(err, code, "sync image %s", image->path);
	image_drop_cache(image, 0, 0);
	return 0;
}

// Who takes these times for those of what is there now must not have a change behind them (rest.h, N5).
static void times_wait(const struct image *image)
{
	struct stat st;
	uint64_t ns = fstat(image->fd, &st) == 0 ? rest_hidden_ns(&st) : 0;
	if (ns)
		(void)nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)}, NULL);
}

int image_settle_times(struct image *image, int *ret_failed, struct err *err)
{
	if (image->block_device)
		return 0;
	ASKED_SCOPE(&image->asked, clock_mono_ns());
	(void)sync_apart(image, fsync, ret_failed); // which may not have been to be had
	times_wait(image);
	return *ret_failed ? err_sys(err, *ret_failed, "sync image %s", image->path) : 0;
}

void image_note_disturbed(struct image *image)
{
	rest_note_disturbed(&image->rest);
	(void)atomic_fetch_add(&image->disturbances, 1);
}

// The note is asked second: who counted there, and not here yet, met the end before what follows from this.
bool image_was_disturbed(struct image *image)
{
	uint32_t was = image->disturbances_taken;
	image->disturbances_taken = atomic_load(&image->disturbances);
	image->disturbances_noted = rest_disturbances(&image->rest);
	return image->disturbances_taken != was;
}

void image_disturbance_told(struct image *image)
{
	rest_disturbances_told(&image->rest, image->disturbances_noted);
	atomic_store(&image->disturbances_told, image->disturbances_taken);
}

bool image_disturbance_untold(const struct image *image)
{
	return atomic_load(&image->disturbances) != atomic_load(&image->disturbances_told);
}

void image_look_at_rest(struct image *image)
{
	struct stat st;
	if (!image->block_device && fstat(image->fd, &st) == 0 && (rest_broken(&image->rest, &st) || (uint64_t)st.st_size < image->size))
		image_note_disturbed(image);
}

static int64_t stat_ns(const struct timespec *ts)
{
	return ts->tv_sec * INT64_C(1000000000) + ts->tv_nsec;
}

static bool look(const struct image *image, struct image_seen *ret_seen)
{
	struct stat st;
	if (image->block_device || fstat(image->fd, &st) < 0)
		return false;
	*ret_seen = (struct image_seen){.judged = true, .size = (uint64_t)st.st_size, .mtime_ns = stat_ns(&st.st_mtim), .ctime_ns = stat_ns(&st.st_ctim)};
	return true;
}

void image_judged(struct image *image)
{
	(void)look(image, &image->seen);
}

void image_look_at_judged(struct image *image)
{
	const struct image_seen was = image->seen;
	struct image_seen is;
	if (was.judged && look(image, &is) && (is.size != was.size || is.mtime_ns != was.mtime_ns || is.ctime_ns != was.ctime_ns))
		image_note_disturbed(image);
}

enum image_path image_look(const struct image *image, bool *ret_named)
{
	struct stat st;
	enum image_path at = image_path_look(image->path, &image->file);
	*ret_named = at != IMAGE_PATH_SAME && fstat(image->fd, &st) == 0 && st.st_nlink > 0;
	return at;
}

// A block device has no time of its last change: mounting it and writing files touches nothing of its node. What stands in
// is what the kernel counts: sectors written and discarded since the device came up, which device that was (a
// sequence number that each attachment gets), what lies beneath it, and since which boot. Where one cannot be read, or does not tell of all that changes it, no two
// identities are the same.
static void device_identify(const struct image *image, struct image_identity *identity)
{
	struct device_counts counts = {0};
	const uint64_t boot = rest_boot();
	bool known = boot && device_counts_read(image->fd, &counts);
	const uint64_t which[] = {boot, counts.layers, counts.file};
	identity->inode = counts.sequence;
	identity->mtime_ns = (int64_t)(counts.written ^ counts.discarded << 40);
	identity->ctime_ns = known ? (int64_t)XXH3_64bits(which, sizeof(which)) : clock_wall_ns();
}

int image_identify(struct image *image, struct image_identity *ret_identity, struct err *err)
{
	struct stat st;
	uint64_t size = 0; // of a device; one that grew is as large as the disk until that grows as well
	ASKED_SCOPE(&image->asked, clock_mono_ns());
	int code = fstat(image->fd, &st);
	if (code == 0 && image->block_device)
		code = ioctl(image->fd, BLKGETSIZE64, &size);
	code = code < 0 ? -errno : 0;
	if (code)
		return err_sys(err, code, "stat image %s", image->path);
	*ret_identity = (struct image_identity){
		.device = image->block_device ? st.st_rdev : st.st_dev,
		.inode = st.st_ino,
		.size = image->block_device ? min_u64(size, image->size) : (uint64_t)st.st_size,
		.mtime_ns = stat_ns(&st.st_mtim),
		.ctime_ns = stat_ns(&st.st_ctim),
		.times_tell = image->times_tell,
		.born_ns = image->born_ns,
	};
	if (image->block_device)
		device_identify(image, ret_identity);
	return 0;
}
