// SPDX-License-Identifier: Apache-2.0
#include "replicator/worth.h"

#include "base/size.h"

const struct worth_rule worth_pieces = {.sample = 32, .least = 32 * PIECES_PER_BLOCK / 4, .rest_min = 64, .rest_max = 4096};
const struct worth_rule worth_question = {.sample = 64, .least = 64 / 8, .rest_min = 1024, .rest_max = 65536};

bool worth_asks(const struct worth *worth)
{
	return worth->rest == 0;
}

void worth_asked(struct worth *worth, const struct worth_rule *rule, unsigned gain)
{
	worth->gained += gain;
	if (++worth->seen < rule->sample)
		return;
	bool paid = worth->gained >= rule->least;
	worth->rest = paid ? 0 : worth->next_rest ? worth->next_rest : rule->rest_min;
	worth->next_rest = paid ? rule->rest_min : (unsigned)min_u64(2 * (uint64_t)worth->rest, rule->rest_max);
	worth->seen = worth->gained = 0;
}

void worth_not_asked(struct worth *worth)
{
	worth->rest -= worth->rest > 0;
}
