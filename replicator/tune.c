// SPDX-License-Identifier: Apache-2.0
#include "replicator/tune.h"

#include "base/size.h"

static const int levels[TUNE_STEPS] = {-5, -1, 1, 3, 6};
enum { STEP_FIRST = 2, NS_PER_MS = 1000000 };

const char *tune_limit_name(enum tune_limit limit)
{
	static const char *const names[] = {"none", "link", "cores"};
	return names[limit];
}

void tune_init(struct tune *tune)
{
	*tune = (struct tune){.step = STEP_FIRST, .patience = {TUNE_PATIENCE_MIN, TUNE_PATIENCE_MIN}};
}

int tune_level(const struct tune *tune)
{
	return levels[tune->step];
}

bool tune_sample_full(const struct tune_sample *sample)
{
	return sample->plain_bytes >= TUNE_SAMPLE_BYTES && sample->wall_ns >= (uint64_t)TUNE_SAMPLE_MS * NS_PER_MS;
}

static enum tune_limit limit_of(const struct tune_sample *sample)
{
	uint64_t bound_ns = sample->wall_ns / 100 * TUNE_BOUND_PERCENT;
	if (sample->send_ns > bound_ns)
		return TUNE_LINK;
	return sample->pack_ns > bound_ns ? TUNE_CORES : TUNE_NONE;
}

// The step that was tried stays or not.
static void judge(struct tune *tune)
{
	unsigned *patience = &tune->patience[tune->up];
	tune->trying = false;
	if (tune->rate >= tune->rate_before / 100 * (100 - TUNE_LOSS_PERCENT)) {
		*patience = TUNE_PATIENCE_MIN;
		tune->steps_kept++;
		return;
	}
	tune->step = tune->up ? tune->step - 1 : tune->step + 1;
	*patience = (unsigned)min_u64(2 * (uint64_t)*patience, TUNE_PATIENCE_MAX);
	tune->steps_taken_back++;
	tune->in_row = 0;
}

void tune_take(struct tune *tune, const struct tune_sample *sample)
{
	if (sample->wall_ns < NS_PER_MS)
		return;
	enum tune_limit limit = limit_of(sample);
	tune->in_row = limit == tune->limit ? tune->in_row + 1 : 1;
	tune->limit = limit;
	tune->rate = sample->plain_bytes * 1000 / (sample->wall_ns / NS_PER_MS);
	if (tune->trying) {
		judge(tune);
		return;
	}
	bool up = limit == TUNE_LINK;
	if (limit == TUNE_NONE || tune->in_row < tune->patience[up] || tune->step == (up ? TUNE_STEPS - 1 : 0))
		return;
	tune->step = up ? tune->step + 1 : tune->step - 1;
	tune->trying = true;
	tune->up = up;
	tune->rate_before = tune->rate;
	tune->in_row = 0;
}
