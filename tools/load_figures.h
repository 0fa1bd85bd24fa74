// SPDX-License-Identifier: Apache-2.0
// What the load generator measures: times as percentiles, and what a process on this host uses.
#ifndef KAGAMI_TOOLS_LOAD_FIGURES_H
#define KAGAMI_TOOLS_LOAD_FIGURES_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct load_times {
	uint64_t count;
	uint64_t p50_ns, p99_ns, max_ns, mean_ns;
};
// Sorts `ns`. The p-th percentile is the smallest of them that at least p % do not exceed; all are 0 of none.
struct load_times load_times_of(uint64_t *ns, size_t count);

struct load_usage {
	uint64_t rss_bytes;
	uint64_t threads;
	uint64_t files; // open descriptors
};
// -ENOENT when there is no such process, -EACCES when it is another user's.
int load_usage_of(pid_t pid, struct load_usage *ret_usage, struct err *err);
// Each figure's greatest.
void load_usage_most(struct load_usage *most, const struct load_usage *seen);

#endif
