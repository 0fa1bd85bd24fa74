// SPDX-License-Identifier: Apache-2.0
// Whether bytes look as if no codec could make them smaller: a cheap look, for who would otherwise try it in vain.
#ifndef KAGAMI_FORMAT_ENTROPY_H
#define KAGAMI_FORMAT_ENTROPY_H

#include <stdbool.h>
#include <stddef.h>

enum { ENTROPY_RUNS = 64, ENTROPY_RUN = 16, ENTROPY_SAMPLES = ENTROPY_RUNS * ENTROPY_RUN, ENTROPY_LEN_MIN = 4096 };

// True when a sample of the bytes, ENTROPY_RUNS short runs at places by chance, has every value about equally often, as what is encrypted or compressed
// has. Below ENTROPY_LEN_MIN bytes it is false. A wrong answer costs bytes on the wire or time, never more: about one block of random bytes
// in a hundred thousand is taken for others; of others, those are taken for random whose bytes are spread so, though they repeat.
bool entropy_full(const void *data, size_t len);

#endif
