// SPDX-License-Identifier: Apache-2.0
// One disk of a point, read as its user would see it: through its overlays down to the base; and proven, block by block, against
// the digests that were committed with it.
//
//	hold the point; chain_open();
//	for (i = 0; i < size_blocks(chain_size(chain)); i++)
//		if (chain_holds(chain, i))
//			chain_get(chain, i, block, err);	// every other block is zeros
//	chain_close(); release the point
//
// The point must be held for as long as the chain is open: then no fold changes what lies below it. One thread at a time.
// Memory: 16 bytes for each block that is not zero, and up to 400 KiB for each overlay. Descriptors: one for each overlay, and one.
#ifndef KAGAMI_RECEIVER_CHAIN_H
#define KAGAMI_RECEIVER_CHAIN_H

#include "base/err.h"
#include "receiver/store.h"

#include <stdbool.h>
#include <stdint.h>

#define CHAIN_END UINT64_MAX

struct chain;

// Opens disk number `disk` of point `number`, and loads its digests. -ENOENT without such a point or disk; -EBADMSG, which names the
// file, when an overlay is damaged or does not stand on what it should, or a list or the table is not the one that should be there. A block whose digest was
// lost with its sector never proves.
int chain_open(struct replica *replica, uint64_t number, unsigned disk, struct chain **ret_chain, struct err *err);
// The same without digests, for chain_read() alone, by who has them already; `number` 0 is the base alone. The point may go while the chain is
// open: what is read is as good as its proof.
int chain_open_files(struct replica *replica, uint64_t number, unsigned disk, struct chain **ret_chain, struct err *err);
void chain_close(struct chain *chain); // takes NULL

uint64_t chain_size(const struct chain *chain);	     // of the disk at the cut, in bytes
uint64_t chain_depth(const struct chain *chain);     // for tests: overlays that it reads through
uint64_t chain_data_blocks(const struct chain *chain); // blocks that are not zeros, by their digests

// The next block at or after `from` that is not zeros, by its digest; CHAIN_END when there is none. A digest of zero is always true
// (docs/store.md), but a digest that was lost to zeros looks like one: who reads goes by chain_holds().
uint64_t chain_next(const struct chain *chain, uint64_t from);
bool chain_zeros(const struct chain *chain, uint64_t index); // whether the digest of a block says that
// Whether a block is anything but zeros: by its digest, or since a file holds something there, be it zeros. Of what no file holds nothing is read.
bool chain_holds(struct chain *chain, uint64_t index);

// What the files hold of block `index`: BLOCK_SIZE bytes, zeros past the end of the disk. Not proven.
int chain_read(struct chain *chain, uint64_t index, void *block, struct err *err);
// Whether an error of reading says only what this process lacks, or that it ends, and nothing of what is stored.
bool chain_lacks(int rc);
// Whether an error of opening says that a file is not what it was, so that asking again is of no use. What is neither this nor a lack could not be read now.
bool chain_is_damaged(int rc);
// Of a chain that chain_open() finds damaged: the lowest point whose file is (the oldest one, where it is the base's); condemn.c.
uint64_t chain_fault(struct replica *replica, uint64_t number, unsigned disk);
// chain_read(), and -EBADMSG when it is not what was committed: then `block` must not be used.
int chain_get(struct chain *chain, uint64_t index, void *block, struct err *err);

#endif
