// SPDX-License-Identifier: Apache-2.0
// Reading an image beside the ring, by any thread: what a survey looks at.
//
// What is in memory is copied from there. Where it is not, the system is asked to read ahead, AHEAD bytes before its turn, for as long as what comes
// is not in memory either: its own window is too small for a disk that answers many requests at once.
#include "replicator/image.h"

#include "base/clock.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	ADVISE_STEP = 128 << 10, // the kernel takes no more of a range than its readahead window, and forgets the rest
	AHEAD = 4 << 20,
	AHEAD_READS = 256, // so many more after one that was not in memory
};

static void advise(const struct image *image, uint64_t off, uint64_t len)
{
	for (uint64_t at = off; at < off + len && at < image->size; at += ADVISE_STEP)
		(void)posix_fadvise(image->fd, (off_t)at, (off_t)min_u64(ADVISE_STEP, off + len - at), POSIX_FADV_WILLNEED);
}

// Its first bytes that are in memory; 0: none.
static size_t from_memory(struct image *image, uint64_t off, size_t len, void *data)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};
	ssize_t n = preadv2(image->fd, &iov, 1, (off_t)off, RWF_NOWAIT);
	return n > 0 ? (size_t)n : 0;
}

// What is left from `done` on, waiting for the disk.
static int read_rest(struct image *image, uint64_t off, uint64_t len, size_t done, void *data)
{
	while (done < len) {
		cold_wait_begins(&image->cold);
		ssize_t n = pread(image->fd, (char *)data + done, len - done, (off_t)(off + done));
		int code = errno;
		cold_wait_ends(&image->cold);
		errno = code;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			unreadable_add(&image->unreadable, off + done, len - done, clock_mono_ns());
			if (n == 0) // cut short behind our back
				image_note_disturbed(image);
			return n < 0 ? -code : -EIO;
		}
		done += (size_t)n;
	}
	if (unreadable_any(&image->unreadable))
		unreadable_well(&image->unreadable, off, len, clock_mono_ns());
	return 0;
}

static int read_now(struct image *image, uint64_t off, uint64_t len, void *data)
{
	unsigned ahead = atomic_load_explicit(&image->ahead, memory_order_relaxed);
	size_t done = from_memory(image, off, len, data);
	if (done < len && ahead == 0)
		advise(image, off + done, AHEAD);
	else if (ahead)
		advise(image, off + AHEAD, len);
	if (done < len || ahead)
		atomic_store_explicit(&image->ahead, done < len ? AHEAD_READS : ahead - 1, memory_order_relaxed);
	return read_rest(image, off, len, done, data);
}

int image_read_now(struct image *image, uint64_t off, uint64_t len, void *data)
{
	(void)atomic_fetch_add(&image->cold.reads, 1);
	int code = read_now(image, off, len, data);
	(void)atomic_fetch_sub(&image->cold.reads, 1);
	return code;
}

// A read that must not wait makes pages of a hole, too, and so cannot tell whether they were there. What is lost of others' is quickly made again.
int image_read_apart(struct image *image, uint64_t off, uint64_t len, void *data)
{
	(void)atomic_fetch_add(&image->cold.reads, 1);
	int code = read_rest(image, off, len, 0, data);
	(void)atomic_fetch_sub(&image->cold.reads, 1);
	(void)posix_fadvise(image->fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
	return code;
}
