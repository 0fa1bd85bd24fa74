// SPDX-License-Identifier: Apache-2.0
#include "replicator/look.h"

#include "replicator/holder.h"
#include "replicator/pack.h"

// Neighbours from block `i` on that are read at once.
static unsigned run_of(const struct look_part *part, unsigned i)
{
	const struct source_block *block = part->look->batch.block;
	unsigned count = 1;
	while (count < LOOK_READ_BLOCKS && i + count < part->end && block[i + count].disk == block[i].disk &&
	       block[i + count].index == block[i].index + count)
		count++;
	return count;
}

static void run_part(struct crew_job *job, void *kit)
{
	struct look_part *part = HOLDER(job, struct look_part, job);
	const struct source_block *block = part->look->batch.block;
	unsigned char *room = pack_kit_room(kit);
	for (unsigned i = part->first, count; i < part->end; i += count) {
		count = run_of(part, i);
		part->code = source_read(part->source, block[i].disk, block[i].index, count, room);
		part->failed = i;
		if (part->code)
			return;
		for (unsigned n = 0; n < count; n++)
			part->look->digest[i + n] = digest_of(part->key, block[i].disk, block[i].index + n, room + (size_t)n * BLOCK_SIZE);
	}
}

void look_start(struct look *look, struct crew *crew, const struct digest_key *key, struct source *source)
{
	look->parts = 0;
	for (unsigned at = 0; at < look->batch.count; at += LOOK_JOB_BLOCKS, look->parts++) {
		struct look_part *part = &look->part[look->parts];
		unsigned end = at + LOOK_JOB_BLOCKS < look->batch.count ? at + LOOK_JOB_BLOCKS : look->batch.count;
		*part = (struct look_part){.job = {.run = run_part}, .look = look, .source = source, .key = key, .first = at, .end = end};
		crew_start(crew, &part->job);
	}
}

int look_wait(struct look *look, struct crew *crew, void *kit, const struct source_block **ret_failed)
{
	int rc = 0;
	for (unsigned i = 0; i < look->parts; i++) {
		crew_wait(crew, &look->part[i].job, kit);
		if (rc == 0 && look->part[i].code) {
			rc = look->part[i].code;
			*ret_failed = &look->batch.block[look->part[i].failed];
		}
	}
	look->parts = 0;
	return rc;
}
