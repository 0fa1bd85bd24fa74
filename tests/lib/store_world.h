// SPDX-License-Identifier: Apache-2.0
// A protection of two small disks under crash enumeration: an oracle of what the disks held at each cut, a source that sends it, and the
// checks of what any crash may leave. Every check is of the whole content of every point, read through the overlays and the base as a
// user's tools would, of the disks of a failover and of a test, and of the digests that the next session would compare with.
//
//	struct store_world *w = world_new(8, 2);
//	world_survive(w, "commit", run_commit);
//	world_free(w);
#ifndef KAGAMI_TESTS_STORE_WORLD_H
#define KAGAMI_TESTS_STORE_WORLD_H

#include "base/size.h"
#include "tests/lib/feed.h"
#include "tests/sim/crash_test.h"

// In a world whose disks grow far, blocks 3 and 4 of the oracle are 31 and 32 of the disk, and zeros lie between: a sector of a digest table
// has 31 blocks, so that the table must get longer too.
enum { WORLD_DISKS = 2, WORLD_BLOCKS = 5, WORLD_POINTS_MAX = 5, WORLD_IMAGE_SIZE = WORLD_BLOCKS * BLOCK_SIZE };
enum { WORLD_NEAR_BLOCKS = 3, WORLD_FAR = 28, WORLD_DISK_BLOCKS_MAX = WORLD_BLOCKS + WORLD_FAR };
enum { WORLD_TEST_POINT = 2 }; // that tests stand on

struct world_promise { // what the run was told, or asked for; cleared at its start
	uint64_t first_from, first_to; // the oldest point is one of these
	uint64_t last_from, last_to;   // and the newest
	bool created;
	uint64_t fenced; // 0: not
	bool fence_asked;
	bool disks_must;	    // the failover was answered: its disks are there
	unsigned gone_may, gone_must; // bit n: point n, in the middle, may be gone, or is for certain
	unsigned pinned_must;	      // these points are there, and pinned
	unsigned unpinned_must;	      // these are not pinned
	bool test_may, test_must;     // a test was asked for, or answered and not given back
	uint64_t doubt_must, doubt_may; // disks that are in doubt for certain, or may be
	uint64_t doubt_until;		// from this point on the doubt may have ended; 0: it stays
	bool goodbye_must, goodbye_may; // its source has said it for certain, or may have
};

struct store_world {
	unsigned char oracle[WORLD_POINTS_MAX + 1][WORLD_DISKS][WORLD_IMAGE_SIZE]; // [point]; [0] is the empty disk
	struct digest digest[WORLD_POINTS_MAX + 1][WORLD_DISKS][WORLD_BLOCKS];
	struct wire_open open;
	uint32_t keep;
	uint64_t setup_points;
	uint64_t small_to;     // the newest point of the small disks; WORLD_POINTS_MAX where they do not grow
	uint64_t far;	       // WORLD_FAR, or 0: how many blocks of zeros come before block 3 of the oracle
	uint64_t step_ns;      // that pass after each commit of the setup
	unsigned pins;	       // bit n: point n is pinned at the end of the setup, and there is an operator's policy
	bool recovery_retains; // recovery folds and merges too
	bool recovery_grows;   // recovery meets the source with the large disks
	bool ends_there;       // the check does not make the next point
	bool tests;	       // there are tests (receiver/tests.h), also in recovery
	bool sync_may_fail;    // a sync that failed before recovery, in a process before it, cannot be made good by it
	crash_step *setup;     // NULL: world_setup
	uint64_t states_max;   // of each enumeration; 0: 100
	crash_step *found;     // what recovery finds is looked at first, and may be changed; NULL: nothing is
	struct world_promise promise;
	struct codec_context *codec;
};

// Fails the test when out of memory. `keep` points stay; the setup makes `setup_points`; those after `small_to` are of larger disks.
struct store_world *world_new(uint32_t keep, uint64_t setup_points);
struct store_world *world_growing(uint32_t keep, uint64_t setup_points, uint64_t small_to);
struct store_world *world_growing_far(uint32_t keep, uint64_t setup_points, uint64_t small_to); // their tables need another sector
void world_free(struct store_world *world);

uint64_t world_size_at(const struct store_world *world, uint64_t point, unsigned disk);
uint64_t world_place_of(const struct store_world *world, uint64_t block); // where a block of the oracle is on its disk
void world_open_at(struct store_world *world, uint64_t point);		   // world->open is that of a source which is to make `point`
extern const char *const world_disk_name[WORLD_DISKS];

// What point `number` changes, written into the head; with `decoy`, other bytes in the same places.
int world_send(struct store_world *world, struct replica *replica, uint64_t number, bool decoy, struct err *err);
// A session that makes point `number`. With `again`, a session before it writes other bytes and goes, and so does this one first.
int world_commit(struct store_world *world, struct store *store, uint64_t number, bool again, struct err *err);

// Steps of scenarios; the context is the world.
int world_setup_empty(struct env *env, void *context, struct err *err);
int world_setup(struct env *env, void *context, struct err *err);
int world_recover(struct env *env, void *context, struct err *err);
int world_check(struct env *env, void *context, struct err *err);
// As world_check, and then the next point can be committed and is right: a crash costs no operator.
int world_check_and_go_on(struct env *env, void *context, struct err *err);

// The contents of points, and of disks in `dir` that show `point` (store_world_read.c).
int world_read_points(struct store_world *world, struct env *env, uint64_t first, uint64_t last, unsigned there, struct err *err);
int world_read_disks(struct store_world *world, struct env *env, const char *dir, uint64_t point, struct err *err);

// Opens the store for `use`, which gets its protection.
typedef int world_use(struct env *env, struct store_world *world, struct store *store, struct replica *replica, struct err *err);
int world_with(struct env *env, struct store_world *world, world_use *use, struct err *err);

// Every crash of `run`; every crash of it and of the recovery; every failing operation; and that with a recovery that is cut. Fails the
// test at the first state that must not be.
void world_survive(struct store_world *world, const char *name, crash_step *run);

#endif
