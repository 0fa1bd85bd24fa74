// SPDX-License-Identifier: Apache-2.0
// Seeds in the simulated receiver's store.
#ifndef KAGAMI_WORLD_WORLD_SEED_H
#define KAGAMI_WORLD_WORLD_SEED_H

#include "base/env.h"

#include <stdbool.h>

struct replica;

typedef bool world_fill(unsigned char *block); // false: a hole
// A seed for any source, whole and durable.
int world_seed_make(struct env *env, const char *name, const char *disk, uint64_t size, world_fill *fill);
bool world_seed_fill(unsigned char *block); // world_scenario.c
unsigned world_adopt(struct replica *replica, unsigned steps_max); // the steps that did something

#endif
