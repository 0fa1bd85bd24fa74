// SPDX-License-Identifier: Apache-2.0
#include "rpo/shaper.h"

#include "base/size.h"

#define SHAPER_LOOK_NS UINT64_C(1000000)
#define SHAPER_LATE_NS UINT64_C(10000000)
#define SHAPER_CREDIT_NS (SHAPER_CREDIT_MS * UINT64_C(1000000))

void shaper_join(struct shaper *shaper, struct shaper_flow *flow, unsigned weight)
{
	shaper->went.stretch_ns = SHAPER_CREDIT_NS / METER_SUMS;
	flow->weight = weight ? weight : 1;
	flow->start = flow->finish = shaper->virtual_now;
	flow->wants = flow->asked_ns = flow->again_ns = 0;
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
	meter_add(&shaper->went, now_ns, bytes);
	flow->finish = flow->start + (double)bytes / flow->weight;
}

static bool is_late(const struct shaper_flow *flow, uint64_t now_ns)
{
	return now_ns > flow->again_ns + SHAPER_LATE_NS;
}

static bool takes_part(const struct shaper_flow *flow, uint64_t now_ns)
{
	return flow->asked_ns && now_ns < flow->asked_ns + SHAPER_CREDIT_NS;
}

// How far a flow may be behind on the virtual clock: the bytes that each unit of weight would have had of what went, with this flow there.
static double credit(const struct shaper *shaper, const struct shaper_flow *flow, uint64_t now_ns)
{
	double weights = flow->weight;
	for (const struct shaper_flow *other = shaper->flows; other; other = other->next)
		weights += other != flow && takes_part(other, now_ns) ? other->weight : 0;
	return (double)meter_sum(&shaper->went, now_ns) / weights;
}

// Where its piece begins, the one that it wants or its next.
static double start_of(const struct shaper *shaper, const struct shaper_flow *flow, double behind_most)
{
	double start = flow->wants ? flow->start : flow->finish, least = shaper->virtual_now - behind_most;
	return start > least ? start : least;
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

// S2: bytes that others may have until they are where this flow is, as far as their own limits let them; no more than leaves `bytes` in a bucket that is
// three quarters full, since what comes into a full one is lost.
static uint64_t kept_for_others(const struct shaper *shaper, const struct shaper_flow *flow, uint64_t bytes, double behind_most, uint64_t now_ns)
{
	double kept = 0, most = (double)bucket_depth(shaper->total.rate) * 3 / 4 - (double)bytes;
	for (const struct shaper_flow *other = shaper->flows; other; other = other->next) {
		double behind = other != flow && takes_part(other, now_ns) ? flow->start - start_of(shaper, other, behind_most) : 0;
		if (behind > 0)
			kept += bucket_most(&other->bucket, now_ns, behind * other->weight);
	}
	kept = kept < most ? kept : most;
	return kept > 0 ? (uint64_t)kept : 0;
}

uint64_t shaper_ask(struct shaper *shaper, struct shaper_flow *flow, uint64_t bytes, uint64_t now_ns)
{
	double behind_most = credit(shaper, flow, now_ns);
	flow->start = start_of(shaper, flow, behind_most);
	flow->wants = bytes;
	flow->asked_ns = now_ns;
	uint64_t kept = kept_for_others(shaper, flow, bytes, behind_most, now_ns);
	uint64_t wait_ns = max_u64(bucket_wait_ns(&flow->bucket, now_ns, bytes), bucket_wait_ns(&shaper->total, now_ns, bytes + kept));
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
