// SPDX-License-Identifier: Apache-2.0
// One disk of a replica as each of its points shows it, read through overlays and base as QEMU does: for the scrub.
//
// The chain is that of the points that are there when it is opened; no fold or merge may run while it is used (retain_lock). One thread.
#ifndef KAGAMI_RECEIVER_SCRUB_CHAIN_H
#define KAGAMI_RECEIVER_SCRUB_CHAIN_H

#include "receiver/replica.h"

struct scrub_level { // a point's overlay of the disk
	uint64_t number, size;
	struct env_file *file;
	struct qcow2_reader *reader; // opened when it is first needed
	uint64_t unread_first, unread_end; // blocks whose table the disk did not give back: it is not asked again, as each try may take seconds
	struct err unread;
};

struct scrub_chain {
	const struct replica *replica;
	unsigned disk;
	struct scrub_level *level; // oldest first
	size_t count;
	bool unopened; // a level was damaged so that it could not be opened
	struct env_file *base;
	unsigned char *merge; // a block
};

// `number` and `size` of each level are set by the caller, who owns `level`.
int scrub_chain_open(struct scrub_chain *chain, struct err *err);
void scrub_chain_close(struct scrub_chain *chain); // takes one that could not be opened
// What point `at` shows of block `index`, which lies on its disk: BLOCK_SIZE bytes, zeros past the end. -EBADMSG or -EIO when it cannot
// be read as what it was written as; -ENOMEM.
int scrub_chain_read(struct scrub_chain *chain, size_t at, uint64_t index, unsigned char *block, struct err *err);
struct qcow2_reader *scrub_chain_overlay(struct scrub_chain *chain, size_t at); // NULL when it cannot be opened
// Whether the overlay of point `at` by its tables holds something of the block. Errors as above.
int scrub_chain_holds(struct scrub_chain *chain, size_t at, uint64_t index, bool *ret_holds, struct err *err);

#endif
