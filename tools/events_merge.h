// SPDX-License-Identifier: Apache-2.0
// The events of two daemons as one sequence.
#ifndef KAGAMI_TOOLS_EVENTS_MERGE_H
#define KAGAMI_TOOLS_EVENTS_MERGE_H

#include <jansson.h>

// Both as their daemon wrote them down. Each stays in its own order, whatever its clock was set to; of the two that are next the one that happened earlier
// comes first, by their "when", and of two at the same time the one of `a`. A new array.
json_t *events_merge(const json_t *a, const json_t *b);

#endif
