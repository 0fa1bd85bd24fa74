// SPDX-License-Identifier: Apache-2.0
// How far a long command is, on the terminal; nothing where standard error is none.
#ifndef KAGAMI_TOOLS_PROGRESS_H
#define KAGAMI_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	bool shown;
	uint64_t total, began_ms, next_ms;
};

void progress_begin(struct progress *progress, uint64_t total_bytes);
void progress_at(struct progress *progress, uint64_t done_bytes); // as often as you like
void progress_end(struct progress *progress); // takes the line away
uint64_t progress_ms(const struct progress *progress); // since it began

// "412 MiB of 1.2 GiB, 33 %, 210 MiB/s, 4s left".
void progress_text(uint64_t done, uint64_t total, uint64_t elapsed_ms, char *text, size_t cap);

#endif
