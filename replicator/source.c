// SPDX-License-Identifier: Apache-2.0
// The memory of batches, the same for every kind of source.
#include "replicator/source.h"

#include <errno.h>
#include <stdlib.h>

int source_batch_init(struct source_batch *batch)
{
	*batch = (struct source_batch){0};
	batch->memory = aligned_alloc(PIECE_SIZE, (size_t)SOURCE_BATCH_MAX * BLOCK_SIZE);
	return batch->memory ? 0 : -ENOMEM;
}

void source_batch_done(struct source_batch *batch)
{
	free(batch->memory);
	*batch = (struct source_batch){0};
}
