// SPDX-License-Identifier: Apache-2.0
// A writable qcow2 overlay on a disk of a committed point: what a failover boots from and what a mount writes to.
//
// It is empty, so that making one costs the same at any size of disk; the point below it is only ever read.
#ifndef KAGAMI_RECEIVER_OVERLAY_H
#define KAGAMI_RECEIVER_OVERLAY_H

#include "base/env.h"
#include "base/err.h"

enum { OVERLAY_NAME_SIZE = 256 };

// Creates the file `name` below `root` (-EEXIST when it is there) for a disk of `size` bytes, over the qcow2 `backing`, which
// is named relative to the new file's directory. Its content is durable on return; its name is not until the directory is
// synced.
int overlay_create(struct env_root *root, const char *name, uint64_t size, const char *backing, struct err *err);

#endif
