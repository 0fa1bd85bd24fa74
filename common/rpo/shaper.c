// SPDX-License-Identifier: Apache-2.0
#include "rpo/shaper.h"

#include "base/size.h"

#define SHAPER_LOOK_NS UINT64_C(1000000)
#define SHAPER_LATE_NS UINT64_C(10000000) // who has not asked again so long after it could have is not waited for: its thread has no processor

void shaper_join(struct shaper *shaper, struct shaper_flow *flow, unsigned weight)
{
	flow->weight = weight ? weight : 1;
	flow->start = flow->finish = shaper->virtual_now;
	flow->wants = flow->again_ns = 0;
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

static bool is_late(const struct shaper_flow *flow, uint64_t now_ns)
{
	return now_ns > flow->again_ns + SHAPER_LATE_NS;
}

// Whether another that wants, and that its own limit lets go now, comes first.
static bool another_first(const struct shaper *shaper, const struct shaper_flow *flow, uint64_t now_ns)
{
	for (const struct shaper_flow *other = shaper->flows; other; other = other->next)
		if (other != flow && other->wants && other->start < flow->start && !is_late(other, now_ns) &&
		    bucket_wait_ns(&other->bucket, now_ns, other->wants) == 0)
			return true;
	return false;
}

uint64_t shaper_ask(struct shaper *shaper, struct shaper_flow *flow, uint64_t bytes, uint64_t now_ns)
{
	if (!flow->wants || is_late(flow, now_ns)) // what others had meanwhile it does not get back
		flow->start = flow->finish > shaper->virtual_now ? flow->finish : shaper->virtual_now;
	flow->wants = bytes;
	uint64_t wait_ns = max_u64(bucket_wait_ns(&flow->bucket, now_ns, bytes), bucket_wait_ns(&shaper->total, now_ns, bytes));
	if (wait_ns == 0 && shaper->total.rate != BANDWIDTH_UNLIMITED && another_first(shaper, flow, now_ns))
		wait_ns = SHAPER_LOOK_NS;
	flow->again_ns = now_ns + wait_ns;
	if (wait_ns)
		return wait_ns;
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
