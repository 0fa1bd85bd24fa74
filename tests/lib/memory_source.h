// SPDX-License-Identifier: Apache-2.0
// A source (replicator/source.h) whose disks are in memory and whose guest is the test: for the tests of ship and cycle.
// It asserts that its caller keeps to the contract: no batch under way at a cut, a keep or a give_back.
#ifndef KAGAMI_TESTS_LIB_MEMORY_SOURCE_H
#define KAGAMI_TESTS_LIB_MEMORY_SOURCE_H

#include "replicator/source.h"

#include <pthread.h>

enum { MEMORY_DISKS_MAX = 4 };

struct memory_disk {
	unsigned char *now;    // padded to blocks with zeros
	unsigned char *frozen; // as it was at the last cut
	uint16_t *dirty;       // by block: pieces
	uint16_t *set;
	uint16_t *remembered;
};

struct memory_source {
	struct source source;
	struct memory_disk disk[MEMORY_DISKS_MAX];
	enum cut_mode mode;
	uint16_t at_disk; // what is fetched next
	uint64_t at_block;
	bool bounded; // to look_disk, look_block
	uint16_t look_disk;
	uint64_t look_block;
	unsigned under_way;
	bool given_up;

	// What the test may set.
	unsigned batch_blocks;					    // in a batch; SOURCE_BATCH_MAX by default
	void (*guest)(struct memory_source *source, void *context); // called at each fetch: the guest writes
	void *context;
	unsigned
		fail_at; // the wait after a cut that fails with fail_code, and all after it until the next cut; UINT_MAX never
	int fail_code;	// -ESTALE: only cuts of points are given up
	bool sparse;	// blocks of zeros are holes
	uint64_t unreadable; // 1 + the block of disk 0 that cannot be read when it is looked at; 0: none
	unsigned fails; // so many cuts fail, those after the first at their first wait

	// What it may look at.
	unsigned waits; // since the cut
	unsigned cuts, precopies, keeps, give_backs;
	uint64_t blocks_fetched, blocks_looked_at;
	pthread_mutex_t lock; // over what the disks hold now: the crew reads while the guest writes
	uint64_t reads;	      // of what was looked at
};

void memory_source_init(struct memory_source *source, uint16_t disks, const uint64_t *sizes);
void memory_source_done(struct memory_source *source);

// The guest writes.
void memory_source_write(struct memory_source *source, uint16_t disk, uint64_t off, const void *data, uint64_t len);
void memory_source_touch(struct memory_source *source, uint16_t disk, uint64_t off,
			 uint64_t len);					 // the same bytes again
void memory_source_random(struct memory_source *source, uint64_t *seed); // one write of some sort

#endif
