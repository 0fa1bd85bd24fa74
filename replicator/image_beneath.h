// SPDX-License-Identifier: Apache-2.0
// By what other names the bytes of an image can be written on this host, past what is tracked.
//
//	image                                     refused, and with it in use refuses
//	a file that a loop device shows           while that can be written to
//	a loop device                             its file as an image, and each other loop device over the same bytes of it that can be written to
//	a part of a file, by a loop device, a     the file as an image; another part of it is a disk beside it
//	partition of one, or a stack over one
//	a partition                               the whole device as a read-only image
//	a device that is read-only for its guest  while somebody may write to it (device_claim.h)
//
// A loop device under another is asked like the image itself. What is attached or mounted later is not seen.
#ifndef KAGAMI_REPLICATOR_IMAGE_BENEATH_H
#define KAGAMI_REPLICATOR_IMAGE_BENEATH_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/stat.h>

struct image;

// Of an image that is open, and locked itself. `read_only`: its guest does not write. -EBUSY: something else has its bytes; the error says what, and what to do.
int image_beneath_lock(struct image *image, bool read_only, struct err *err);
void image_beneath_unlock(const struct image *image);
void image_beneath_close(struct image *image);
// A loop device that can be written to shows the file or device at `path`: -EBUSY, and the error says which, and what to do.
int image_beneath_of_loop(const char *path, const struct stat *st, struct err *err);

#endif
