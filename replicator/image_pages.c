// SPDX-License-Identifier: Apache-2.0
// What the page cache has of an image, as the kernel counts it (cachestat, from Linux 6.5 on).
#include "replicator/image.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_cachestat // newer than the headers
#define SYS_cachestat 451
#endif

int image_pages(const struct image *image, uint64_t off, uint64_t len, struct image_pages *ret_pages)
{
	struct {
		uint64_t off, len;
	} range = {off, len};
	return syscall(SYS_cachestat, image->fd, &range, ret_pages, 0) < 0 ? -errno : 0;
}

uint64_t image_unwritten(const struct image *image)
{
	struct image_pages pages;
	return image_pages(image, 0, 0, &pages) ? 0 : pages.dirty + pages.writeback;
}
