// SPDX-License-Identifier: Apache-2.0
// What a client is told of the holes of an image, within a bounded time: the thread that asks serves all disks of a protection.
//
// Where data ends is not asked of the file system: for SEEK_HOLE it goes through every extent up to the next hole, wherever that is, and of those a disk
// that was written here and there has hundreds of thousands. Whether data begins right here it says at once. So that is asked, step by step:
//
//	data          data          data                     hole
//	 │──4 KiB──────│──8 KiB──────│──16 KiB … 64 KiB───────│     only now: where between the last two does it begin (SEEK_HOLE)
//
// E1: an answer costs SEEKS_MAX questions at most, and ends where they do: the client asks on from there.
// E2: SEEK_HOLE is asked only where a hole, or the file's end, is known to come within a step.
// E3: what is told as a hole is one that SEEK_DATA told. What is told as data may have holes in it, each smaller than a step.
// E4: only the file systems of base/file_system.h are asked: one that takes data for a hole has whoever copies the disk by this answer lose it. Of others, and of
//     block devices, all is data.
//
// Not bounded is how long SEEK_DATA goes through space that was allocated and never written, extent by extent, at about 1 us each. A file of 100 GiB that was allocated
// as a whole has 800 of them on ext4, of up to 128 MiB, and 13 on xfs: 25 and 10 us. Many small ones, which an old file system or a guest with WRITE_ZEROES
// of every other 4 KiB of a hole makes (130 ms for each GiB of those), that guest waits for, and pays for with a request each. FIEMAP, which counts extents, does not tell
// what of an unwritten one is data that is in memory alone.
#include "replicator/image.h"

#include "base/size.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SEEKS_MAX = 256, // in one answer: 16 MiB of data
	UNKNOWN_MAX = 1 << 20,
};

// Where data starts or ends at or after `at`. A file system that does not know says that all is data.
static uint64_t seek(const struct image *image, uint64_t at, int whence, uint64_t otherwise)
{
	off_t found = lseek(image->fd, (off_t)at, whence);
	if (found >= 0)
		return (uint64_t)found;
	return whence == SEEK_DATA && errno == ENXIO ? image->size : otherwise; // ENXIO: a hole up to the end
}

// Where the file ends by now. What a file that was cut short lacks is no hole: it cannot be read, and who copies the disk must find out.
static uint64_t file_end(const struct image *image)
{
	struct stat st;
	return fstat(image->fd, &st) < 0 ? 0 : min_u64((uint64_t)st.st_size, image->size);
}

// E2. A hole begins behind `at`, where data is, and not behind `until`.
static uint64_t hole_begins(const struct image *image, uint64_t at, uint64_t until)
{
	uint64_t hole = seek(image, at, SEEK_HOLE, until);
	return hole > at ? min_u64(hole, until) : until;
}

// How far the data at `at` goes, as far as `end` and the questions do.
static uint64_t data_until(const struct image *image, uint64_t at, uint64_t end, uint64_t file, unsigned *seeks)
{
	for (uint64_t step = PIECE_SIZE; at < end && *seeks; step = min_u64(2 * step, BLOCK_SIZE)) {
		uint64_t next = min_u64(at + step, end);
		--*seeks;
		if (next == file || seek(image, next, SEEK_DATA, next) > next)
			return hole_begins(image, at, next);
		at = next;
	}
	return at;
}

unsigned image_extents(const struct image *image, uint64_t off, uint32_t len, struct nbd_extent *extents, unsigned most)
{
	uint64_t at = off, end = off + len;
	unsigned count = 0, seeks = SEEKS_MAX;
	bool stalled = image_stalled(image);
	bool untold = !image->known || stalled; // E4
	if (untold || image->changing) { // the latter is soon over, or stalls: of the rest it may be known then
		extents[0] = (struct nbd_extent){.len = untold ? len : (uint32_t)min_u64(len, UNKNOWN_MAX)};
		return 1;
	}
	uint64_t file = file_end(image);
	while (at < end && count < most && seeks > 1) {
		uint64_t next = end, data = at;
		if (at < file) {
			seeks--;
			data = min_u64(seek(image, at, SEEK_DATA, at), file);
			next = data > at ? min_u64(data, end) : data_until(image, at, min_u64(end, file), file, &seeks);
		}
		extents[count++] = (struct nbd_extent){.len = (uint32_t)(next - at), .hole = data > at};
		at = next;
	}
	return count;
}
