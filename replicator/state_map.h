// SPDX-License-Identifier: Apache-2.0
// The exact map of a clean stop: docs/format-state.md, "Map page".
#ifndef KAGAMI_REPLICATOR_STATE_MAP_H
#define KAGAMI_REPLICATOR_STATE_MAP_H

#include "replicator/state_header.h"

// Writes the pages that belong to `header` (of its size, instance and sequence), sets its page_count, and syncs.
int state_map_write(struct env_file *file, struct state_header *header, const struct dirty *dirty);
// Marks in `dirty`, which is of the header's size, what the pages name. False when a page does not check: `dirty` may hold
// a part then.
bool state_map_load(struct env_file *file, const struct state_header *header, struct dirty *dirty);

#endif
