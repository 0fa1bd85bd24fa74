// SPDX-License-Identifier: Apache-2.0
#include "rpo/shaper.h"

#include "base/size.h"

#define SHAPER_LOOK_NS UINT64_C(1000000)

void shaper_join(struct shaper *shaper, struct shaper_flow *flow, unsigned weight)
{
	flow->weight = weight ? weight : 1;
	flow->start = flow->finish = shaper->virtual_now;
	flow->wants = 0;
	flow->previous = NULL;
	flow->next = shaper->flows;
	if (flow->next)
		flow->next->previous = flow;
	shaper->flows = flow;
}

void shaper_leave(struct shaper *shaper, struct shaper_flow *flow)
{
	if (flow->next)
		flow->next->previous = flow->previous;
	if (flow->previous)
		flow->previous->next = flow->next;
	else
		shaper->flows = flow->next;
	flow->next = flow->previous = NULL;
	flow->wants = 0;
}

static void take(struct shaper *shaper, struct shaper_flow *flow, uint64_t bytes, uint64_t now_ns)
{
	bucket_take(&shaper->total, now_ns, bytes);
	bucket_take(&flow->bucket, now_ns, bytes);
	flow->finish = flow->start + (double)bytes / flow->weight;
}

// Whether another that wants, and that its own limit lets go now, comes first.
static bool another_first(const struct shaper *shaper, const struct shaper_flow *flow, uint64_t now_ns)
{
	for (const struct shaper_flow *other = shaper->flows; other; other = other->next)
		if (other != flow && other->wants && other->start < flow->start && bucket_wait_ns(&other->bucket, now_ns, other->wants) == 0)
			return true;
	return false;
}

uint64_t shaper_ask(struct shaper *shaper, struct shaper_flow *flow, uint64_t bytes, uint64_t now_ns)
{
	if (!flow->wants)
		flow->start = flow->finish > shaper->virtual_now ? flow->finish : shaper->virtual_now;
	flow->wants = bytes;
	uint64_t wait_ns = max_u64(bucket_wait_ns(&flow->bucket, now_ns, bytes), bucket_wait_ns(&shaper->total, now_ns, bytes));
	if (wait_ns)
		return wait_ns;
	if (shaper->total.rate != BANDWIDTH_UNLIMITED && another_first(shaper, flow, now_ns))
		return SHAPER_LOOK_NS;
	shaper->virtual_now = flow->start > shaper->virtual_now ? flow->start : shaper->virtual_now;
	take(shaper, flow, bytes, now_ns);
	flow->wants = 0;
	return 0;
}

void shaper_give_up(struct shaper_flow *flow)
{
	flow->wants = 0;
}

void shaper_charge(struct shaper *shaper, struct shaper_flow *flow, uint64_t bytes, uint64_t now_ns)
{
	bucket_take(&shaper->total, now_ns, bytes);
	bucket_take(&flow->bucket, now_ns, bytes);
}
