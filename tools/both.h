// SPDX-License-Identifier: Apache-2.0
// Both daemons at once, so that one that hangs keeps nobody from what the other one says.
#ifndef KAGAMI_TOOLS_BOTH_H
#define KAGAMI_TOOLS_BOTH_H

// Runs `ask` for each of the two, the first on a thread of its own; returns when both are done.
void both_ask(void (*ask)(void *one), void *first, void *second);

#endif
