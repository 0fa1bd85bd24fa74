// SPDX-License-Identifier: Apache-2.0
// A source that is a model: disks in memory, and what a session sends of them to a store; for the tests of receiver/store.
// Everything fails the test that calls when the store refuses what it should take.
#ifndef KAGAMI_TESTS_LIB_STORE_TWIN_H
#define KAGAMI_TESTS_LIB_STORE_TWIN_H

#include "format/codec.h"
#include "receiver/store.h"
#include "tests/lib/twin.h"

enum { STORE_TWIN_DISKS = 2, STORE_TWIN_POINTS = 64 };

struct store_twin {
	struct temp temp;
	struct wire_open open;
	unsigned char pin[OWNER_PIN_SIZE];
	struct store *store;
	struct replica *replica;
	struct wire_opened opened;
	struct codec_context *packer;
	uint64_t seed;
	unsigned char *disk[STORE_TWIN_DISKS]; // as the source has it now, padded to blocks with zeros
	unsigned char *point[STORE_TWIN_POINTS][STORE_TWIN_DISKS]; // as it was at each point's cut
	uint64_t point_size[STORE_TWIN_POINTS][STORE_TWIN_DISKS];
	uint64_t cuts;
};

// A temporary store with the protection "vm1" of two disks, none a whole number of blocks, and no session yet.
void store_twin_begin(struct store_twin *twin, uint64_t seed);
void store_twin_end(struct store_twin *twin);
int store_twin_bad_disk_end(void **state); // the teardown of a test whose state is a twin over a bad disk (bad_disk.h)
void store_twin_reopen(struct store_twin *twin); // ends the session, closes the store, opens it again
void store_twin_session(struct store_twin *twin);

// Changes pieces of a block of the model; zeros past the disk's end.
void store_twin_change(struct store_twin *twin, unsigned disk, uint64_t index, uint16_t mask);
// The source's disk is larger from the next session on; what is new is zeros.
void store_twin_grow(struct store_twin *twin, unsigned disk, uint64_t size);
// Sends a block as the model has it: the pieces in `mask`, packed with `codec` (plain where it does not get smaller).
int store_twin_send(struct store_twin *twin, unsigned disk, uint64_t index, uint16_t mask, enum codec codec, struct err *err);
// In a session: sends whole what the store says is damaged in its newest point, as a source does; how many blocks that were.
uint64_t store_twin_send_damaged(struct store_twin *twin);
int store_twin_zeros(struct store_twin *twin, unsigned disk, uint64_t first, uint64_t count, struct err *err); // model, too
uint64_t store_twin_scrub(struct store_twin *twin, uint64_t point); // to the end; 0: every point. How many mismatches
void store_twin_keep(struct store_twin *twin, uint32_t points); // the operator's policy: the newest so many, without a floor
struct wire_seal store_twin_cut(const struct store_twin *twin);
void store_twin_seal(struct store_twin *twin); // and remembers the disks
// One of the above, drawn.
void store_twin_random(struct store_twin *twin);

// Whether every point that the store lists reads as the disks were at its cut, through our reader; with `qemu`, also
// by qemu-img check and compare. False when qemu-img was asked for and is missing.
bool store_twin_check(struct store_twin *twin, bool qemu);
// A file of the store, below the protection's directory.
void store_twin_path(const struct store_twin *twin, char *path, size_t cap, const char *rest);

#endif
