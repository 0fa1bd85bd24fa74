// SPDX-License-Identifier: Apache-2.0
// What a point of a store shows, read as a user's tools would: its overlay, then what the overlay names as its backing file, and so on down
// to the raw base. Trusts nothing of the store's own code but the qcow2 reader.
#ifndef KAGAMI_TESTS_LIB_CHAIN_H
#define KAGAMI_TESTS_LIB_CHAIN_H

#include "base/env.h"
#include "base/err.h"

#include <stdint.h>

// Reads the whole of `path` (a qcow2 below `root`), `size` bytes of virtual disk, which must be the overlay's own, to `to`, which has room for
// whole blocks. What lies past the end of a smaller file below is zeros.
int chain_show(struct env_root *root, const char *path, uint64_t size, unsigned char *to, struct err *err);

#endif
