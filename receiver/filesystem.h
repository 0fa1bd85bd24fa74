// SPDX-License-Identifier: Apache-2.0
// Which file system lies at the front of a disk or partition, from its superblock; a pure function over bytes.
//
// A file system is always mounted by the name found here, never by trial: a guest that leaves two superblocks would
// choose the parser that reads it.
#ifndef KAGAMI_RECEIVER_FILESYSTEM_H
#define KAGAMI_RECEIVER_FILESYSTEM_H

#include <stddef.h>

enum { FILESYSTEM_FRONT = (64 + 4) << 10 }; // bytes that detection looks at

struct filesystem {
	const char *name;    // for people: "ext4", "LUKS"
	const char *driver;  // of the kernel; NULL when it is recognised and cannot be mounted
	const char *options; // for mount(2), beside those of every mount
	const char *advice;  // what to do instead, when it cannot be mounted
};

// What the `len` bytes at `front` begin (fewer than FILESYSTEM_FRONT when it is smaller). NULL when it is nothing known.
const struct filesystem *filesystem_detect(const void *front, size_t len);

#endif
