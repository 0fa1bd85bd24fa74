// SPDX-License-Identifier: Apache-2.0
// The digest of a block: 128 bits that two hosts compare instead of 64 KiB.
//
// Keyed by a secret of the protection, so that a guest cannot prepare two blocks that look alike, and bound to
// the block's position (disk and index), so that a block in the wrong place is seen. A block of zeros has the
// digest zero wherever it lies: a table of a sparse disk is sparse, and a range of zeros is compared for nothing.
#ifndef KAGAMI_FORMAT_DIGEST_H
#define KAGAMI_FORMAT_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

enum { DIGEST_SIZE = 16, DIGEST_SECRET_SIZE = 192 };

enum digest_kind { DIGEST_XXH3 = 1 };

struct digest {
	unsigned char bytes[DIGEST_SIZE];
};

struct digest_key {
	enum digest_kind kind;
	unsigned char secret[DIGEST_SECRET_SIZE];
};

// Digest of BLOCK_SIZE bytes (what lies past the end of the disk is zero). Any thread.
struct digest digest_of(const struct digest_key *key, uint16_t disk, uint64_t index, const void *block);
bool digest_equal(const struct digest *a, const struct digest *b);
bool digest_is_zero(const struct digest *digest); // that of a block of zeros

#endif
