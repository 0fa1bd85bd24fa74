// SPDX-License-Identifier: Apache-2.0
// Loop devices: a range of a file as a block device, that the kernel can mount.
//
// Every device is attached with the kernel's autoclear flag: it goes when its last user closes it, be that our descriptor
// or a mount. So no loop device can be left behind, at whatever step the receiver ends, and there is no detach.
#ifndef KAGAMI_RECEIVER_LOOP_H
#define KAGAMI_RECEIVER_LOOP_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { LOOP_NAME_SIZE = 32 };

// Shows bytes [off, off + len) of `file` (absolute; written through to it) as a free loop device. Stores its path; returns a
// descriptor that keeps it: the caller closes it once the device is mounted. Negative errno on failure, -EPERM and
// -ENOENT where this process may not or the system has none.
int loop_attach(const char *file, uint64_t off, uint64_t len, char name[LOOP_NAME_SIZE], struct err *err);

// What a loop device ("/dev/loop3") shows now. -ENOENT when it is not a loop device or shows nothing.
int loop_file(const char *device, char *file, size_t cap);

#endif
