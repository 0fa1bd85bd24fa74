// SPDX-License-Identifier: Apache-2.0
// Fibers: many stacks on one thread, exactly one of which runs, until it yields. So a run is a function of who is resumed when.
#ifndef KAGAMI_WORLD_FIBER_H
#define KAGAMI_WORLD_FIBER_H

#include <stdbool.h>

struct fiber;

struct fiber *fiber_new(void (*run)(void *context), void *context); // begins with the first resume
void fiber_free(struct fiber *fiber);				    // has ended; takes NULL
void fiber_resume(struct fiber *fiber);				    // by the main stack
void fiber_yield(void);						    // by the fiber that runs: back to the main stack
struct fiber *fiber_self(void);					    // NULL on the main stack
bool fiber_ended(const struct fiber *fiber);

#endif
