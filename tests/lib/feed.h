// SPDX-License-Identifier: Apache-2.0
// A source as the receiver's store sees it, without a network: what it opens a protection with, the blocks that it sends, the seal.
#ifndef KAGAMI_TESTS_FEED_H
#define KAGAMI_TESTS_FEED_H

#include "format/codec.h"
#include "receiver/store.h"

extern const unsigned char feed_pin[OWNER_PIN_SIZE];

// Bytes that follow from `seed` and pack to about a half.
void feed_fill(unsigned char *to, size_t len, unsigned seed);

// The protection "vm1" with disks vda, vdb, ... of these sizes, in bytes.
struct wire_open feed_open(unsigned disks, const uint64_t *size, uint32_t keep);

// The pieces in which two contents of a block differ.
uint16_t feed_pieces(const unsigned char *old, const unsigned char *new);
// Sends the pieces in `mask` of a block whose whole content is `block`; zeros as zeros; all of it packed where that is shorter, unless there is
// no codec. No pieces: nothing.
int feed_block(const struct wire_open *open, struct codec_context *codec, struct replica *r, unsigned disk, uint64_t index,
		 const unsigned char *block, uint16_t mask, struct err *err);
// Seals what the session sent as the point after the newest, whose cut has this first byte.
int feed_seal(struct replica *r, unsigned char cut, int64_t cut_wall_ns, struct err *err);
// A session that makes one point, which is numbered by its cut, of zeros in the first block.
int feed_point(struct env *env, struct replica *r, const struct wire_open *open, struct err *err);
// Creates the protection and so many points of it.
int feed_points(struct env *env, struct store *store, const struct wire_open *open, unsigned points, struct err *err);

// Makes the directory of the store, below "/".
int feed_make_dir(struct env *env, const char *name, struct err *err);
bool feed_finds(struct env *env, const char *path); // below "/"
// Opens the store, lets `use` have it, and closes it.
typedef int feed_use(struct env *env, struct store *store, void *context, struct err *err);
int feed_with_store(struct env *env, const char *path, feed_use *use, void *context, struct err *err);
// Recovery of a store that is all of the disk, as a step of a crash scenario.
int feed_recover(struct env *env, void *context, struct err *err);

#endif
