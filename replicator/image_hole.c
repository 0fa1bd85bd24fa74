// SPDX-License-Identifier: Apache-2.0
// What is believed of the file system of an image: the holes that it tells, and the times of a file. A wrong answer here would lose data, so only those are asked
// that base/file_system.h names; nor are block devices, which know no holes.
#include "replicator/image.h"

#include "base/file_system.h"
#include "base/size.h"
#include "replicator/holder.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_system_known(const struct image *image)
{
	return !image->block_device && file_system_tells_holes(image->fd);
}

// Not those of the network, which answer late or say what they knew a while ago, and whose clock is another; nor FUSE, where a program decides.
bool image_times_tell(const struct image *image)
{
	if (image->block_device)
		return false;
	switch (file_system_type(image->fd)) {
	case F2FS_SUPER_MAGIC:
	case OVERLAYFS_SUPER_MAGIC: // has the times of the file beneath
	case RAMFS_MAGIC:
	case ZFS_MAGIC:
	case BCACHEFS_MAGIC:
		return true;
	default:
		return file_system_known(image);
	}
}

bool image_reads_wait(const struct image *image)
{
	if (image->block_device)
		return false;
	uint32_t type = file_system_type(image->fd);
	return type == XFS_SUPER_MAGIC || type == 0;
}

// A file that is shorter than the disk is another matter (images_whole() of the protection): nothing is said of what it lacks. Nor how far data goes
// (image_extents.c): who looks for regions that are holes asks at the next.
static bool hole(struct aio_backend *backend, uint64_t off, uint64_t *ret_until)
{
	const struct image *image = HOLDER(backend, struct image, backend);
	struct stat st;
	*ret_until = image->size;
	if (image_stalled(image)) // the loop's thread asks
		return false;
	if (image->changing) { // by a worker that may hang with the lock of the file, which the question waits for
		*ret_until = off;
		return false;
	}
	if (fstat(image->fd, &st) < 0 || (uint64_t)st.st_size < image->size)
		return false;
	off_t data = lseek(image->fd, (off_t)off, SEEK_DATA);
	if (data < 0) // ENXIO: none up to the end. Anything else: nobody knows
		return errno == ENXIO;
	if ((uint64_t)data > off) {
		*ret_until = (uint64_t)data;
		return true;
	}
	*ret_until = min_u64(off + REGION_SIZE, image->size);
	return false;
}

// To a program a hole may be no more than a hint, as to QEMU's FUSE export.
static bool is_a_hint(int fd)
{
	uint32_t type = file_system_type(fd);
	return type == FUSE_SUPER_MAGIC || type == 0;
}

void image_believe_holes(struct image *image)
{
	image->known = file_system_known(image);
	if (image->known)
		image->backend.hole = hole;
	image->backend.punch_keeps = !image->block_device && is_a_hint(image->fd);
}
