// SPDX-License-Identifier: Apache-2.0
// What the load generator found, phase by phase, as a table or as JSON.
#ifndef KAGAMI_TOOLS_LOAD_REPORT_H
#define KAGAMI_TOOLS_LOAD_REPORT_H

#include "tools/load_figures.h"

#include <jansson.h>
#include <stdbool.h>

struct load_phase {
	const char *name;
	unsigned sessions; // that were active
	uint64_t blocks;   // of a cycle
	struct load_times cycle, commit; // from the first COMPARE, and from SEAL, to COMMITTED
	uint64_t took_ns; // all of the phase
	uint64_t points, blocks_sent, stored_bytes;
	uint64_t slowest_ns, mean_ns; // what its cycles took the slowest session and the mean one; 0 where they are without an end
	struct load_usage usage; // the most seen in it
};

enum { LOAD_PHASES = 5 };
struct load_report {
	unsigned protections, sources;
	uint64_t connect_ns; // all of them, one after another
	bool watched;	     // usage was asked for
	struct load_phase phase[LOAD_PHASES];
	unsigned phases;
	double slowest_share; // of equal sessions: the slowest one's time to the mean one's
	double small_share;   // p99 of a small cycle beside the busy ones to the mean of their cycles, which is a fair turn
};

void load_report_print(const struct load_report *report);
json_t *load_report_json(const struct load_report *report); // NULL when out of memory

#endif
