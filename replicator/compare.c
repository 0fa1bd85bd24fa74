// SPDX-License-Identifier: Apache-2.0
// The order of a long pass: holes, then stretch by stretch what is left, each in the way that its neighbours say is cheaper.
#include "replicator/compare.h"

#include <errno.h>

enum { RUNS_MAX = 64 };

static int put_hole(const struct compare *c, const struct source_run *run, struct err *err)
{
	known_forget(sender_known(ship_sender(c->ship))); // what it knows of those blocks is not true any more
	struct wire_zeros zeros = {.disk = run->disk, .first = run->first, .count = run->count};
	void *to = channel_room(c->channel, WIRE_FRAME_MAX);
	if (!to || channel_put(c->channel, wire_put_zeros(to, WIRE_FRAME_MAX, &zeros))) {
		int rc = channel_flush(c->channel, err);
		return rc ? rc : err_set(err, -EMSGSIZE, "ZEROS does not fit into its frame");
	}
	c->stats->hole_blocks += run->count;
	progress_add(c->progress, run->count * BLOCK_SIZE, sender_now_ns(ship_sender(c->ship)));
	return 0;
}

static int ship_holes(const struct compare *c, struct err *err)
{
	struct source_run runs[RUNS_MAX];
	bool all = false;
	int rc = 0;
	while (rc == 0 && !all) {
		unsigned count = source_holes(c->source, runs, RUNS_MAX, &all);
		for (unsigned i = 0; i < count && rc == 0; i++)
			rc = put_hole(c, &runs[i], err);
	}
	return rc ? rc : channel_flush(c->channel, err);
}

static int ship_reached(const struct compare *c, struct wire_failure *failure, struct err *err)
{
	return ship_set(c->ship, c->source, c->channel, c->codec, c->key, c->stats, c->progress, failure, err);
}

// The next blocks, one by one. Whether nearly all of them were equal.
static int ship_stretch(const struct compare *c, uint64_t blocks, uint64_t *ret_blocks, bool *ret_equal,
			struct wire_failure *failure, struct err *err)
{
	uint64_t equal = c->stats->equal_blocks;
	*ret_blocks = source_reach(c->source, blocks);
	int rc = ship_reached(c, failure, err);
	equal = c->stats->equal_blocks - equal;
	*ret_equal = equal >= *ret_blocks - *ret_blocks / 8;
	return rc;
}

// Surveys, each followed by what it left, for as long as most is equal.
static int ship_surveyed(const struct compare *c, bool *ret_all, struct wire_failure *failure, struct err *err)
{
	uint64_t looked = 0, unequal = 0;
	int rc = 0;
	do {
		rc = survey_run(c, ret_all, &looked, &unequal, failure, err);
		if (rc == 0)
			rc = ship_reached(c, failure, err);
	} while (rc == 0 && !*ret_all && unequal <= looked / 2);
	return rc;
}

int compare_ship(const struct compare *c, struct wire_failure *ret_failure, struct err *err)
{
	uint64_t stretch_min = c->stretch_min ? c->stretch_min : STRETCH_BLOCKS_MIN, stretch = stretch_min;
	ret_failure->code = 0;
	if (c->nodes)
		known_forget(sender_known(ship_sender(c->ship))); // a survey asks about every block
	int rc = ship_holes(c, err);
	if (rc || !c->nodes)
		return rc ? rc : ship_reached(c, ret_failure, err);
	for (bool all = false; !all && rc == 0;) {
		uint64_t blocks;
		bool equal;
		rc = ship_stretch(c, stretch, &blocks, &equal, ret_failure, err);
		all = blocks < stretch;
		if (rc || all)
			break;
		stretch = min_u64(stretch * 2, STRETCH_BLOCKS_MAX);
		if (!equal)
			continue;
		rc = ship_surveyed(c, &all, ret_failure, err);
		stretch = stretch_min;
	}
	return rc;
}
