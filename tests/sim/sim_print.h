// SPDX-License-Identifier: Apache-2.0
// The fingerprint of a simulated disk: 128 bits of all that a process can find on it, and a set of such fingerprints.
//
// Two worlds with the same print answer every reader alike, whatever it reads, and ask the chooser the same questions: the print is of each
// name, size and byte that can be reached from the root, of where space is taken, and where something is undecided, of all that it may turn out to be. What is not in
// it: which of two equal readings is certain, as that matters only to the next power cut; free numbers; random bytes to come; and what
// of the clock is less than a second.
#ifndef KAGAMI_SIM_PRINT_H
#define KAGAMI_SIM_PRINT_H

#include "tests/sim/env_sim.h"

struct sim_print {
	uint64_t low, high; // both 0: none
};

// Costs little where little changed since the newest save: chunks keep theirs.
struct sim_print sim_print(struct sim *sim);
// Of `len` bytes, after another one: a chain of them tells the order.
struct sim_print sim_print_more(struct sim_print before, const void *bytes, size_t len);

struct sim_prints {
	struct sim_print *print; // a table; none: free
	size_t count, room;
};

bool sim_prints_have(const struct sim_prints *set, struct sim_print print);
bool sim_prints_add(struct sim_prints *set, struct sim_print print); // whether it is new
void sim_prints_done(struct sim_prints *set);

#endif
