// SPDX-License-Identifier: Apache-2.0
// Standard output, as what somebody relies on: what did not get there is not told as done.
#ifndef KAGAMI_TOOLS_OUTPUT_H
#define KAGAMI_TOOLS_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

// First of all: a standard descriptor that is closed is taken by something that cannot be written (or read), so that no file or socket gets its number.
void output_guard(void);

// Whether something written to `to` so far did not get there, at whatever flush that was.
bool output_lost(FILE *to);

#endif
