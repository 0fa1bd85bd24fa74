// SPDX-License-Identifier: Apache-2.0
// What the operator wants left free of the store's file system, and of the machine's memory.
#ifndef KAGAMI_RECEIVER_RESERVE_H
#define KAGAMI_RECEIVER_RESERVE_H

#include "base/err.h"

#include <stdint.h>

// `text`: a number of bytes, or with K, M, G or T behind it; NULL: 5 % of the file system that `path` is on, at most 1 GiB.
// -EINVAL when it is something else, or all that there is. The first looks at the text alone.
int reserve_check(const char *text, struct err *err);
int reserve_get(const char *text, const char *path, uint64_t *ret_bytes, struct err *err);

// What heads and tables of digests may take of memory: a number likewise, 0: no bound; NULL: half of what the machine has. -EINVAL.
int memory_get(const char *text, uint64_t *ret_bytes, struct err *err);

#endif
