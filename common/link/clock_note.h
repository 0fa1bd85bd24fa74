// SPDX-License-Identifier: Apache-2.0
// The event that tells how far apart the clocks of a source and its receiver are: when they are further than can be let pass, and when they agree
// again. Either side tells its own operators.
#ifndef KAGAMI_LINK_CLOCK_NOTE_H
#define KAGAMI_LINK_CLOCK_NOTE_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_NOTE_NS INT64_C(2000000000) // an offset beyond it, and its error, is told

enum clock_side { CLOCK_AT_SOURCE, CLOCK_AT_TARGET };

// Emits an event of class clock when it has changed whether the clocks are too far apart since *told, which then says what it is. `offset_ns`: the receiver's
// clock less the source's, known to within `error_ns`.
void clock_note(const char *protection, enum clock_side side, int64_t offset_ns, uint64_t error_ns, bool *told);

#endif
