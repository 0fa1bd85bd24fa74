// SPDX-License-Identifier: Apache-2.0
// What the thread of all disks does by itself, without the ring: small writes into the page cache, and sends from there (image_io.c, W1 and W3).
#include "replicator/image_private.h"

#include "base/clock.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	DIRECT_BYTES_MAX = 128 << 10,
	PIPE_STEP = 64 << 10, // where what a pipe holds has to be copied
	SEND_BYTES_MIN = 64 << 10,
	LOOK_STEP = 64 << 10,
	LOOK_STEP_COUNTED = 128 << 10, // of pages that are all there: whether they are being read; a readahead begins so many
	AGAIN_MAX = 16,		       // writes that would wait, before any that would not
	SLOW_NS = 2 * 1000 * 1000,
	DETOUR_WRITES = 256,
	DETOUR_READS = 16,
};

// Only whole pieces: a part of a page that is not in memory would be read first, and the thread would wait for the disk.
bool image_writes_itself(struct image *image, const struct aio *aio)
{
	if ((!aio->pipe && aio->len > DIRECT_BYTES_MAX) || (aio->off | aio->len) % PIECE_SIZE)
		return false;
	if ((image->emptying && !image->block_device) || (aio->pipe && image->reads_wait && image->changing)) // the lock of the file is a worker's
		return false;
	if (image->detour) {
		image->detour--;
		return false;
	}
	return image_quick(image, clock_mono_ns());
}

// For file systems that take nothing from a pipe.
static ssize_t write_copied(struct image *image, int pipe, uint64_t off, size_t len)
{
	char data[PIPE_STEP];
	ssize_t have = read(pipe, data, min_u64(len, sizeof(data)));
	ssize_t at = 0;
	while (at < have) {
		ssize_t wrote = pwrite(image->fd, data + at, (size_t)(have - at), (off_t)off + at);
		if (wrote == 0 || (wrote < 0 && errno != EINTR))
			return wrote;
		at += wrote > 0 ? wrote : 0;
	}
	return have;
}

static ssize_t write_piped(struct image *image, int pipe, uint64_t off, size_t len)
{
	loff_t to = (loff_t)off;
	ssize_t wrote = image->no_pipe ? -1 : splice(pipe, NULL, image->fd, &to, len, 0);
	if (!image->no_pipe && wrote < 0 && errno == EINVAL)
		image->no_pipe = true;
	return image->no_pipe ? write_copied(image, pipe, off, len) : wrote;
}

// A file system that refuses every such write does it without a reason: xfs refuses one while the image is being read, and as long as that
// may be why, or one was taken before, nothing is concluded.
static bool never_takes(struct image *image)
{
	if (image->took || image->owed_reads.pending || image->owed_changes.pending || atomic_load(&image->cold.reads))
		return false;
	return ++image->again >= AGAIN_MAX;
}

// Without waiting, where the file system can do that. EAGAIN: it would have to wait.
static ssize_t write_quick(struct image *image, char *data, uint64_t off, size_t len)
{
	const struct iovec from = {.iov_base = data, .iov_len = len};
	if (image->waits)
		return pwrite(image->fd, data, len, (off_t)off);
	ssize_t wrote = pwritev2(image->fd, &from, 1, (off_t)off, RWF_NOWAIT);
	if (wrote >= 0) {
		image->took = true;
		return wrote;
	}
	if (errno != EOPNOTSUPP && (errno != EAGAIN || !never_takes(image)))
		return wrote;
	image->waits = true;
	return pwrite(image->fd, data, len, (off_t)off);
}

static ssize_t write_some(struct image *image, const struct aio *aio, uint64_t at)
{
	uint64_t off = aio->off + at, len = aio->len - at;
	return aio->pipe ? write_piped(image, *aio->pipe, off, len) : write_quick(image, (char *)aio->data + at, off, len);
}

void image_write_now(struct image *image, struct aio *aio)
{
	uint64_t begin = clock_mono_ns(), at = 0;
	int64_t stirred_ns = rest_stirred(&image->rest);
	int res = 0;
	atomic_store_explicit(&image->inside_ns, begin, memory_order_relaxed);
	while (res == 0 && at < aio->len) {
		ssize_t wrote = write_some(image, aio, at);
		if (wrote > 0) {
			at += (uint64_t)wrote;
		} else if (wrote < 0 && errno == EAGAIN && !aio->pipe) {
			atomic_store_explicit(&image->inside_ns, 0, memory_order_relaxed);
			image_submit_from(image, aio, at);
			return;
		} else if (wrote == 0)
			res = -EIO;
		else if (errno != EINTR)
			res = -errno;
	}
	atomic_store_explicit(&image->inside_ns, 0, memory_order_relaxed);
	image->wrote_ns = clock_mono_ns();
	if (image->wrote_ns - begin > SLOW_NS)
		image->detour = DETOUR_WRITES;
	if (res == 0)
		rest_wrote(&image->rest, stirred_ns, !image->owed_changes.pending);
	image_notice(image, aio, at, res);
	image_finish_later(image, aio, res);
}

// Whether every page of it is in memory. -ENOSYS: this kernel does not tell (before 6.5).
static int all_cached(const struct image *image, uint64_t off, uint64_t len)
{
	struct image_pages pages;
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	if (image_pages(image, off, len, &pages))
		return -ENOSYS;
	return pages.cached >= (off + len - 1) / page - off / page + 1;
}

// W3: whether a look at it, or a send from it, may keep the thread.
static bool in_place_keeps(const struct image *image, uint64_t now_ns)
{
	return image->changing || asked_since_ns(&image->asked) || image_stalled_at(image, now_ns);
}

// One byte of each step is looked at: whether it is there already, or still being read. Where pages cannot be counted they come and go in
// runs, and image_take() notices when that was wrong.
bool image_sendable(struct image *image, uint64_t off, uint64_t len)
{
	char byte;
	const struct iovec to = {.iov_base = &byte, .iov_len = 1};
	if (len < SEND_BYTES_MIN || unreadable_within(&image->unreadable, off, len) || in_place_keeps(image, clock_mono_ns()) || atomic_load_explicit(&image->stale, memory_order_relaxed))
		return false;
	if (image->send_detour) {
		image->send_detour--;
		return false;
	}
	int all = all_cached(image, off, len);
	if (all == 0)
		return false;
	uint64_t step = all > 0 ? LOOK_STEP_COUNTED : LOOK_STEP;
	for (uint64_t at = 0; at < len; at += step)
		if (preadv2(image->fd, &to, 1, (off_t)(off + at), RWF_NOWAIT) != 1)
			return false;
	return preadv2(image->fd, &to, 1, (off_t)(off + len - 1), RWF_NOWAIT) == 1;
}

int image_take(struct image *image, int pipe, uint64_t off, size_t len)
{
	uint64_t begin = clock_mono_ns();
	loff_t from = (loff_t)off;
	size_t done = 0;
	int code = 0;
	if (in_place_keeps(image, begin))
		return -EAGAIN;
	atomic_store_explicit(&image->inside_ns, begin, memory_order_relaxed);
	while (code == 0 && done < len) {
		ssize_t took = splice(image->fd, &from, pipe, NULL, len - done, SPLICE_F_NONBLOCK);
		if (took > 0) {
			done += (size_t)took;
		} else if (took == 0) { // the file has become shorter
			image_note_disturbed(image);
			code = -EIO;
		} else if (errno != EINTR) {
			code = -errno;
		}
	}
	atomic_store_explicit(&image->inside_ns, 0, memory_order_relaxed);
	uint64_t now_ns = clock_mono_ns();
	if (code || now_ns - begin > SLOW_NS)
		image->send_detour = DETOUR_READS;
	if (code && code != -EAGAIN)
		unreadable_add(&image->unreadable, off + done, len - done, now_ns);
	return code;
}
