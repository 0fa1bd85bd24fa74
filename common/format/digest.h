// SPDX-License-Identifier: Apache-2.0
// The digest of a block: 128 bits that two hosts compare instead of 64 KiB.
//
// Keyed by a secret of the protection, so that a guest cannot prepare two blocks that look alike, and bound to
// the block's position (disk and index), so that a block in the wrong place is seen. A block of zeros has the
// digest zero wherever it lies: a table of a sparse disk is sparse, and a range of zeros is compared for nothing.
// Which kind a protection has is chosen when it begins; why there are two: docs/security.md.
//
// A node is the digest of up to DIGEST_FAN digests below it: one of level 1 is over blocks, one of level 2 over nodes of level 1. Where all
// below it are zero it is zero. So two hosts agree on a run of blocks by one digest (docs/protocol.md, NODES).
#ifndef KAGAMI_FORMAT_DIGEST_H
#define KAGAMI_FORMAT_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_SIZE = 16, DIGEST_SECRET_SIZE = 192, DIGEST_FAN = 256 };

enum digest_kind {
	DIGEST_XXH3 = 1,    // fast; safe while nobody knows the secret
	DIGEST_BLAKE2B = 2, // a keyed cryptographic hash; safe against who knows the secret, too
};
bool digest_kind_known(unsigned kind);
const char *digest_kind_name(unsigned kind); // as `--digest` takes it
bool digest_kind_read(const char *name, enum digest_kind *ret_kind);

struct digest {
	unsigned char bytes[DIGEST_SIZE];
};

struct digest_key {
	enum digest_kind kind;
	unsigned char secret[DIGEST_SECRET_SIZE];
};

// Digest of BLOCK_SIZE bytes (what lies past the end of the disk is zero). Any thread.
struct digest digest_of(const struct digest_key *key, uint16_t disk, uint64_t index, const void *block);
// Digest of piece `piece` of a block: PIECE_SIZE bytes, zero past the end of the disk. Zeros have the digest zero. Any thread.
struct digest digest_piece(const struct digest_key *key, uint16_t disk, uint64_t index, unsigned piece, const void *data);
// Of all PIECES_PER_BLOCK pieces of a block.
void digest_pieces(const struct digest_key *key, uint16_t disk, uint64_t index, const void *block, struct digest *ret_digests);
bool digest_equal(const struct digest *a, const struct digest *b);
bool digest_is_zero(const struct digest *digest); // that of a block of zeros

// The node of `level` over 1 to DIGEST_FAN digests, in order. Any thread.
struct digest digest_node(const struct digest_key *key, unsigned level, const struct digest *below, size_t count);
// Blocks under a whole node.
static inline uint64_t digest_span(unsigned level)
{
	return level == 0 ? 1 : level == 1 ? DIGEST_FAN : (uint64_t)DIGEST_FAN * DIGEST_FAN;
}

#endif
