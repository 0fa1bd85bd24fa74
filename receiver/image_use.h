// SPDX-License-Identifier: Apache-2.0
// Whether an image is in use by QEMU.
#ifndef KAGAMI_RECEIVER_IMAGE_USE_H
#define KAGAMI_RECEIVER_IMAGE_USE_H

#include "receiver/store.h"

// Whether a program (a virtual machine, most likely) has the image `name` of the store open, by whatever path. -EBUSY, which names it, or 0, also when there
// is no such file. Asks the locks that QEMU takes.
int image_unused(const struct store *store, const char *name, struct err *err);

enum { IMAGE_LOCKS_FIRST = 100, IMAGE_LOCKS_LEN = 200 }; // the bytes of those locks
// The same of an open image: 1 when a program has it open, 0, or negative errno.
int image_locked(int fd);

#endif
