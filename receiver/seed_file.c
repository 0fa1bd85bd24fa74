// SPDX-License-Identifier: Apache-2.0
#include "receiver/seed_file.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "receiver/child.h"
#include "receiver/image_use.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#undef BLOCK_SIZE // of linux/fs.h, 1024: here it is a block of ours

enum {
	COPY_BYTES = 1 << 20,
	QCOW2_MAGIC = 0x514649fb,
	QCOW2_HEADER_MIN = 72,
	QCOW2_V3_HEADER_MIN = 104,
	QCOW2_FEATURES_KNOWN = 1 << 3 | 1 << 4, // another compression, extended entries: neither dirty, corrupt nor with a data file elsewhere
	CONVERT_POLL_US = 200000,
	UNREAD_TOLD = 10, // lines of the log
};

int seed_qcow2_check(const unsigned char *header, size_t len, uint64_t *ret_size, struct err *err)
{
	if (len < QCOW2_HEADER_MIN || get_be32(header) != QCOW2_MAGIC)
		return err_set(err, -EBADMSG, "it is no qcow2 image; say --format raw if it is a raw one");
	uint32_t version = get_be32(header + 4);
	if (version != 2 && version != 3)
		return err_set(err, -EBADMSG, "it is qcow2 of version %u, which is not known here", version);
	if (get_be64(header + 8) != 0)
		return err_set(err, -EINVAL, "it has a backing file: 'qemu-img convert -O qcow2' makes one image of both");
	if (get_be32(header + 32) != 0)
		return err_set(err, -EINVAL, "it is encrypted: convert it to raw first");
	if (version == 3 && (len < QCOW2_V3_HEADER_MIN || get_be64(header + 72) & ~(uint64_t)QCOW2_FEATURES_KNOWN))
		return err_set(err, -EINVAL, "it was not closed, is damaged, or keeps its data in another file: 'qemu-img check', then "
					     "'qemu-img convert -O qcow2'");
	*ret_size = get_be64(header + 24);
	if (*ret_size == 0 || *ret_size > DISK_SIZE_MAX)
		return err_set(err, -EINVAL, "it is of a disk of %llu bytes", (unsigned long long)*ret_size);
	return 0;
}

void seed_file_close(struct seed_file *file)
{
	if (file->fd >= 0)
		(void)close(file->fd);
	file->fd = -1;
}

static int header_read(const struct seed_file *file, const struct seed_request *request, uint64_t *ret_size, struct err *err)
{
	unsigned char header[QCOW2_V3_HEADER_MIN];
	ssize_t len = pread(file->fd, header, sizeof(header), 0);
	if (len < 0)
		return err_sys(err, -errno, "%s", request->path);
	int rc = seed_qcow2_check(header, (size_t)len, ret_size, err);
	return rc ? err_wrap(err, "%s", request->path) : 0;
}

static int file_measure(struct seed_file *file, const struct seed_request *request, struct err *err)
{
	struct stat st;
	if (fstat(file->fd, &st))
		return err_sys(err, -errno, "%s", request->path);
	file->block_device = S_ISBLK(st.st_mode);
	if (!S_ISREG(st.st_mode) && !file->block_device)
		return err_set(err, -EINVAL, "%s is neither a file nor a block device", request->path);
	off_t end = lseek(file->fd, 0, SEEK_END);
	file->size = end > 0 ? (uint64_t)end : 0;
	file->bytes = file->block_device ? file->size : min_u64(file->size, (uint64_t)st.st_blocks * SECTOR_SIZE);
	file->device = st.st_dev;
	file->links = st.st_nlink;
	int rc = request->qcow2 ? header_read(file, request, &file->size, err) : 0;
	if (rc)
		return rc;
	if (file->size == 0 || file->size > DISK_SIZE_MAX)
		return err_set(err, -EINVAL, "%s has %llu bytes, which no disk has", request->path, (unsigned long long)file->size);
	return 0;
}

// What is taken over as it is must be nobody else's.
static int file_alone(const struct seed_file *file, const struct seed_request *request, struct err *err)
{
	if (request->qcow2 || file->block_device)
		return err_set(err, -EINVAL, "only a raw file can be moved or shared: leave out --move and --reflink");
	if (request->how == SEED_MOVE && file->links != 1)
		return err_set(err, -EINVAL, "%s has another name, by which it could be written later: leave out --move", request->path);
	int used = request->how == SEED_MOVE ? image_locked(file->fd) : 0;
	return used > 0 ? err_set(err, -EBUSY, "a virtual machine, or the agent that protects it, has %s open: shut it down or unprotect it, or leave out --move", request->path)
	       : used ? err_sys(err, used, "see whether %s is in use", request->path)
		      : 0;
}

int seed_file_outside(const char *path, const char *store, struct err *err)
{
	AUTO_FREE char *real = realpath(path, NULL), *root = NULL;
	if (!real)
		return err_sys(err, -errno, "%s", path);
	root = realpath(store, NULL);
	if (!root)
		return err_sys(err, -errno, "%s", store);
	size_t len = strlen(root);
	if (strncmp(real, root, len) == 0 && (real[len] == '/' || real[len] == 0))
		return err_set(err, -EINVAL, "%s is part of the store, which needs it where it is: leave out --move", path);
	return 0;
}

int seed_file_open(const struct seed_request *request, struct seed_file *ret_file, struct err *err)
{
	struct seed_file file = {.qcow2 = request->qcow2};
	if (request->path[0] != '/')
		return err_set(err, -EINVAL, "%s: give its absolute path", request->path);
	file.fd = open(request->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (file.fd < 0)
		return err_sys(err, -errno, "open %s, as the user that kagami-receiver runs as", request->path);
	int rc = file_measure(&file, request, err);
	if (rc == 0 && request->how != SEED_COPY)
		rc = file_alone(&file, request, err);
	if (rc) {
		seed_file_close(&file);
		return rc;
	}
	*ret_file = file;
	return 0;
}

// --- bringing ---

struct bringing {
	const struct seed_file *file;
	struct seed_progress *progress;
	int (*room)(void *context, uint64_t bytes, struct err *err);
	void *context;
	int to;
	unsigned char *buf;
	uint64_t unread; // blocks
};

// The next data at or behind `at`; the end of the file when there is none. Where the file system cannot say, everything is data. A wrong answer costs what
// travels: what is left out here reads as zeros, and is digested as that.
static uint64_t data_next(const struct seed_file *file, uint64_t at)
{
	off_t data = file->block_device ? -1 : lseek(file->fd, (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO && !file->block_device ? file->size : at;
	return max_u64(at, (uint64_t)data / BLOCK_SIZE * BLOCK_SIZE);
}

static int part_write(struct bringing *b, size_t len, uint64_t at, struct err *err)
{
	for (size_t i = 0; i < len;) {
		size_t part = min_u64(BLOCK_SIZE, len - i), done = 0;
		while (!bytes_zero(b->buf + i, part) && done < part) {
			ssize_t n = pwrite(b->to, b->buf + i + done, part - done, (off_t)(at + i + done));
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return err_sys(err, n ? -errno : -EIO, "write the seed");
			done += (size_t)n;
		}
		i += part;
	}
	return 0;
}

// What cannot be read is left out, block by block: it costs what travels, and not the seed.
static ssize_t part_read(struct bringing *b, uint64_t at)
{
	size_t len = (size_t)min_u64(COPY_BYTES, b->file->size - at);
	ssize_t n = pread(b->file->fd, b->buf, len, (off_t)at);
	if (n >= 0 || errno != EIO)
		return n;
	len = (size_t)min_u64(len, BLOCK_SIZE - at % BLOCK_SIZE);
	n = pread(b->file->fd, b->buf, len, (off_t)at);
	if (n >= 0 || errno != EIO)
		return n;
	if (b->unread++ < UNREAD_TOLD)
		log_warning("a block of a seed cannot be read, and is sent by the source file_block=%llu", (unsigned long long)(at / BLOCK_SIZE));
	memset(b->buf, 0, len);
	return (ssize_t)len;
}

static int copy_run(struct bringing *b, struct err *err)
{
	uint64_t at = 0;
	while ((at = data_next(b->file, at)) < b->file->size) {
		if (atomic_load(&b->progress->stop))
			return err_set(err, -ECANCELED, "it was given up");
		int rc = b->room(b->context, COPY_BYTES, err);
		if (rc)
			return rc;
		ssize_t n = part_read(b, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n ? -errno : -ENODATA, "read the file at %llu", (unsigned long long)at);
		rc = part_write(b, (size_t)n, at, err);
		if (rc)
			return rc;
		at += (uint64_t)n;
		atomic_store(&b->progress->done, at);
	}
	return 0;
}

static int raw_copy(struct bringing *b, const char *to, struct err *err)
{
	AUTO_FREE unsigned char *buf = malloc(COPY_BYTES);
	AUTO_CLOSE int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || !buf)
		return err_sys(err, buf ? -errno : -ENOMEM, "%s", to);
	if (ftruncate(fd, (off_t)b->file->size))
		return err_sys(err, -errno, "%s", to);
	b->to = fd;
	b->buf = buf;
	return copy_run(b, err);
}

static int raw_share(const struct seed_file *file, const char *to, struct err *err)
{
	AUTO_CLOSE int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(err, -errno, "%s", to);
	if (ioctl(fd, FICLONE, file->fd) == 0)
		return 0;
	return err_set(err, -errno, "the file cannot share its blocks with the store (%s): that takes one btrfs or xfs for both; leave out --reflink",
		       strerror(errno));
}

// Nobody took its name, or opened it, between the look at it and the move.
static bool still_alone(const struct seed_file *file, const char *to)
{
	struct stat there, own;
	return lstat(to, &there) == 0 && fstat(file->fd, &own) == 0 && there.st_dev == own.st_dev && there.st_ino == own.st_ino &&
	       own.st_nlink == 1 && image_locked(file->fd) == 0;
}

static int raw_move(const struct seed_file *file, const struct seed_request *request, const char *to, struct err *err)
{
	if (access(request->path, R_OK | W_OK))
		return err_sys(err, -errno, "%s, which the receiver must be able to write", request->path);
	if (rename(request->path, to) == 0) {
		if (still_alone(file, to))
			return 0;
		if (renameat2(AT_FDCWD, to, AT_FDCWD, request->path, RENAME_NOREPLACE) == 0)
			return err_set(err, -EBUSY, "%s changed hands, or was opened, while it was moved: it is where it was", request->path);
		return err_sys(err, -errno, "%s changed hands, or was opened, while it was moved, and is now %s; move back", request->path, to);
	}
	return errno == EXDEV ? err_set(err, -EXDEV, "%s is on another file system than the store: leave out --move", request->path)
			      : err_sys(err, -errno, "move %s", request->path);
}

// --- qcow2, by qemu-img ---

static int header_still(const struct seed_file *file, const struct seed_request *request, struct err *err)
{
	uint64_t size = 0;
	struct err why = {0};
	if (header_read(file, request, &size, &why) == 0 && size == file->size)
		return 0;
	return err_set(err, -EBUSY, "%s was changed while it was copied: is it in use? copy it again", request->path);
}

static int convert_wait(pid_t pid, struct bringing *b, const char *to, struct err *err)
{
	for (;;) {
		struct stat st;
		int status;
		pid_t ended = waitpid(pid, &status, WNOHANG);
		if (ended == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return chmod(to, 0600) ? err_sys(err, -errno, "%s", to) : 0;
		if (ended)
			return err_set(err, -EIO, "qemu-img could not convert it: is the image in use, or damaged? 'qemu-img check' tells");
		int rc = b->room(b->context, 0, err);
		if (rc == 0 && atomic_load(&b->progress->stop))
			rc = err_set(err, -ECANCELED, "it was given up");
		if (rc) {
			(void)kill(pid, SIGKILL);
			(void)waitpid(pid, &status, 0);
			return rc;
		}
		if (stat(to, &st) == 0)
			atomic_store(&b->progress->done, (uint64_t)st.st_blocks * SECTOR_SIZE);
		(void)usleep(CONVERT_POLL_US);
	}
}

// What qemu-img reads is the file that was looked at, whatever its name stands for by now, and nothing that it names by now: no backing file is
// followed. Data in another file is: so the header must be, at the end, the one that was looked at.
static int convert(struct bringing *b, const struct seed_request *request, const char *to, struct err *err)
{
	static char from[] = "json:{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"/dev/fd/3\"}, \"backing\": null}";
	char program[CHILD_PATH_SIZE];
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int rc = child_find("qemu-img", "qemu-utils", program, sizeof(program), err);
	if (rc)
		return rc;
	char *argv[] = {program, "convert", "-O", "raw", "-S", "65536", from, (char *)(uintptr_t)to, NULL};
	char *environment[] = {"LC_ALL=C", "PATH=/usr/bin:/bin", NULL};
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	(void)posix_spawn_file_actions_adddup2(&actions, 0, 1);
	(void)posix_spawn_file_actions_adddup2(&actions, 0, 2);
	(void)posix_spawn_file_actions_adddup2(&actions, b->file->fd, 3);
	rc = -posix_spawn(&pid, program, &actions, NULL, argv, environment);
	(void)posix_spawn_file_actions_destroy(&actions);
	rc = rc ? err_sys(err, rc, "run %s", program) : convert_wait(pid, b, to, err);
	return rc ? rc : header_still(b->file, request, err);
}

int seed_file_bring(const struct seed_file *file, const struct seed_request *request, const char *to, struct seed_progress *progress,
		    int (*room)(void *context, uint64_t bytes, struct err *err), void *context, struct err *err)
{
	struct bringing b = {.file = file, .progress = progress, .room = room, .context = context};
	atomic_store(&progress->total, request->qcow2 ? file->bytes : file->size);
	if (request->how == SEED_MOVE)
		return raw_move(file, request, to, err);
	if (request->how == SEED_REFLINK)
		return raw_share(file, to, err);
	return request->qcow2 ? convert(&b, request, to, err) : raw_copy(&b, to, err);
}
