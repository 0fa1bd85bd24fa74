// SPDX-License-Identifier: Apache-2.0
// Crash tests by enumeration: the power goes off before every operation, and recovery is checked on every disk that can
// be left and that it can tell apart. So it is when the process is killed there instead (the cache stays), and when the
// power goes off after the recovery from that. Anomaly tests: every operation fails, once and for good, until a run is clean.
//
//	static const struct crash_scenario commit = {.name = "commit", .setup = ..., .run = ..., .check = ...};
//	assert_true(crash_test(&commit));
//	assert_true(anomaly_test(&commit));
//
// A failure prints what was wrong, the operation at which it happened, and a line that makes the same run again:
//
//	CRASH_TEST=commit CHOICES=17,0,1 build/tests/unit/test_x        (ANOMALY_TEST=... from an anomaly test)
//
// Other scenarios are left out then.
//
// Where a crash point has more states than its share of states_max, half of the share goes to the enumeration and half to
// seeded draws, and the number printed says so; a draw that was seen before is not counted. The share of a failure is 1/256 of states_max, at least 16, or 2 where
// states_max is below 500.
//
// In the environment: KAGAMI_CRASH_STATES=n replaces states_max; KAGAMI_CRASH_THINNED=n makes it an n-th, and of the ways in
// which operations can fail tries an n-th; KAGAMI_CRASH_ONLY=glob and KAGAMI_CRASH_PART=k/n leave out other scenarios, by name and all but every n-th; KAGAMI_CRASH_AFRESH=1 checks also a disk that was found right before (explore.c).
#ifndef KAGAMI_SIM_CRASH_TEST_H
#define KAGAMI_SIM_CRASH_TEST_H

#include "base/env.h"
#include "base/err.h"
#include "tests/sim/env_sim.h"

// A step returns 0, or a negative errno with the reason in `err`. It closes all that it opened, also when it fails.
// It is a function of the disk and the context: it keeps no state of its own from run to run.
typedef int crash_step(struct env *env, void *context, struct err *err);

struct crash_scenario {
	const char *name;
	void *context;
	// The part of the context that notes what was promised: run clears it first, run and recover add to it, check reads it. All that check
	// depends on is this and the disk.
	void *promise;
	size_t promise_size;
	crash_step *setup; // on an empty disk; what it left is certain afterwards
	crash_step *run;     // what is cut or disturbed; must succeed when nothing disturbs it
	crash_step *recover; // may be NULL; what puts the disk in order; must succeed after a power cut
	crash_step *check;   // after recovery
	unsigned crashes;    // 2: recovery is cut too, anywhere, and begins again. 0 and 1: it is not
	// Power off only before operations that made something certain, and at the end. Every disk that a cut between two of them
	// can leave is also one that a cut before the later one can leave; so it loses nothing when what the run notes in
	// between only promises more. Kills are made before every operation either way.
	bool at_syncs;
	bool settles; // recovery leaves nothing to do: made once more, it changes nothing
	uint64_t states_max; // 0: 100,000
};

struct crash_result {
	uint64_t states;      // recoveries, each after other choices, whose outcome was checked or had been
	uint64_t contents;    // disks, with what was promised, that these left to check, each another
	uint64_t repeats;     // draws that came upon choices that were seen already: no states
	uint64_t points;      // ends of a run, or failures in one
	uint64_t exhausted;   // of them, those of which every state was seen
	bool failed;
	char line[1024];      // that replays the failure
	char text[ERR_TEXT_MAX + 256]; // what was wrong, and where
};

// Explore until the first failure. Quiet: for tests that want to see one.
void crash_explore(const struct crash_scenario *scenario, struct crash_result *ret_result);
void anomaly_explore(const struct crash_scenario *scenario, struct crash_result *ret_result);

// Prints a result on standard error. Returns whether all was well.
bool crash_report(const struct crash_scenario *scenario, const struct crash_result *result);

// Explore, print the result on standard error, and say whether all was well.
bool crash_test(const struct crash_scenario *scenario);
bool anomaly_test(const struct crash_scenario *scenario);
// The same, with standard error closed to what the scenario logs meanwhile: a store logs all that it finds broken.
bool crash_test_quiet(const struct crash_scenario *scenario);
bool anomaly_test_quiet(const struct crash_scenario *scenario);

#endif
