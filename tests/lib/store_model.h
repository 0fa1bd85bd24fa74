// SPDX-License-Identifier: Apache-2.0
// A store in the simulated world, and a model of what must be in it: every point's content, what the head holds, who holds what, pins, tests, a
// failover. An operation does the same to both, and store_model_check() compares all of it. Everything fails the test that calls, with the seed and the operations so far.
//
// An operation is a function of the model (store_model_ops: a table with weights). To add one: do it to the store, change the model
// if it succeeded, and where the power may go off in it, note what was asked for, and say in find() or model_recovery_find() what may then be there.
#ifndef KAGAMI_TESTS_LIB_STORE_MODEL_H
#define KAGAMI_TESTS_LIB_STORE_MODEL_H

#include "format/codec.h"
#include "receiver/store.h"
#include "receiver/tests.h"
#include "tests/sim/chooser.h"
#include "tests/sim/env_sim.h"

enum { MODEL_DISKS = 2, MODEL_BLOCKS_MAX = 9, MODEL_POINTS_MAX = 96, MODEL_DISK_MAX = MODEL_BLOCKS_MAX * BLOCK_SIZE, MODEL_HISTORY = 400 };
enum { MODEL_TESTS = 3, MODEL_PIN_SIZE = 16 };

struct model_point {
	uint64_t number;
	struct uuid cut;
	unsigned holds; // besides those of tests
	char pin[MODEL_PIN_SIZE]; // its text; "": not pinned
	uint64_t size[MODEL_DISKS];
	unsigned char *content[MODEL_DISKS]; // MODEL_DISK_MAX bytes each
};

struct model_did {
	unsigned cycles, folds, merges, cuts, failovers, rollbacks, commits, refused;
	unsigned pins, unpins, tests_started, tests_stopped;
	uint64_t compared; // points whose content was read and compared
};

struct store_model {
	uint64_t run, draws; // the seed, and what is drawn from it
	const char *history[MODEL_HISTORY];
	unsigned steps;

	struct sim *sim;
	struct chooser chooser;
	struct env_root *root;
	struct store *store;
	struct tests *tests;
	struct replica *replica;
	struct codec_context *codec;
	struct wire_open open;
	unsigned char pin[OWNER_PIN_SIZE];
	bool session;

	unsigned char *live[MODEL_DISKS]; // the source's disks now
	unsigned char *head[MODEL_DISKS]; // what the head shows; of the UUID below
	struct uuid head_uuid;
	struct model_point point[MODEL_POINTS_MAX]; // oldest first
	size_t points;
	uint64_t test[MODEL_TESTS]; // the point that test t0, t1, ... stands on; 0: there is none
	uint64_t fenced; // the point, 0: not
	bool fence_final;
	bool failover_disks; // they are there, for certain
	struct {	 // what was asked for and not answered, because the power went off
		struct model_point seal; // number 0: nothing
		size_t goes, goes_from; // so many points from that one
		bool forget, rollback, commit, test;
		uint64_t failover, pin, test_point; // of the test 0: that it be gone
		char pin_text[MODEL_PIN_SIZE];
		unsigned test_n;
	} asked;

	struct model_did did;
};

struct store_model_op {
	const char *name;
	unsigned weight;
	void (*run)(struct store_model *model);
	bool cut; // the power goes off within
};
extern const struct store_model_op store_model_ops[];
extern const size_t store_model_op_count;

void store_model_begin(struct store_model *model, uint64_t seed);
void store_model_end(struct store_model *model);
void store_model_step(struct store_model *model); // one operation, drawn by weight, and then the check
void store_model_check(struct store_model *model);

#endif
