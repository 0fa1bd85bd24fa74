// SPDX-License-Identifier: Apache-2.0
// What the load generator is told on its command line.
#ifndef KAGAMI_TOOLS_LOAD_OPTIONS_H
#define KAGAMI_TOOLS_LOAD_OPTIONS_H

#include <stdint.h>

enum { LOAD_SOURCES_MAX = 16 };

struct load_options {
	const char *token[LOAD_SOURCES_MAX];
	uint64_t sources, protections, active, cycles, blocks, interval_ms, disk_size, points, pid;
	uint64_t fair_percent; // 0: whatever the shares are
	const char *name, *keys;
	int json;
};

// Exits on --help (0) and on misuse (2, one line that says what is wrong).
void load_options_read(struct load_options *options, int argc, char **argv);

#endif
