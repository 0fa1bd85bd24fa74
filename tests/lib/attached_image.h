// SPDX-License-Identifier: Apache-2.0
// An empty image of `size` bytes in a directory of its own, attached to a ring that is the caller's thread's. In a header: who replaces parts of the
// replicator by others is not to be linked with the image.
#ifndef KAGAMI_TESTS_ATTACHED_IMAGE_H
#define KAGAMI_TESTS_ATTACHED_IMAGE_H

#include "replicator/image.h"
#include "tests/lib/twin.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static inline void attached_image_begin(struct temp *temp, struct ring *ring, struct image *image, uint64_t size)
{
	struct err err = {0};
	char path[512];
	temp_open(temp);
	(void)snprintf(path, sizeof(path), "%s/image", temp->dir);
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
	if (ring_open(ring, &err) || ring_init(ring, &err))
		fail_msg("%s", err.text);
	assert_int_equal(image_open(image, path, false, &err), 0);
	image_attach(image, ring);
}

static inline void attached_image_end(struct temp *temp, struct ring *ring, struct image *image)
{
	ring_refuse(ring);
	image_close(image);
	ring_done(ring);
	ring_close(ring);
	temp_close(temp);
}

#endif
