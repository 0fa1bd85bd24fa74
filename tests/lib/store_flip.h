// SPDX-License-Identifier: Apache-2.0
// A disk that rots under a store: one byte is not what it was.
#ifndef KAGAMI_TESTS_LIB_STORE_FLIP_H
#define KAGAMI_TESTS_LIB_STORE_FLIP_H

#include "tests/lib/store_twin.h"

// Flips a bit of the byte at `off` of a file below the protection's directory; done twice, it is as it was.
void store_flip_at(struct store_twin *twin, const char *rest, uint64_t off);
// The same, of what the point's overlay stores of a block; the overlay must hold something of it.
void store_flip_block(struct store_twin *twin, uint64_t point, unsigned disk, uint64_t index);

#endif
