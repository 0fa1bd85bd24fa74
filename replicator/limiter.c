// SPDX-License-Identifier: Apache-2.0
#include "replicator/limiter.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/size.h"
#include "base/thread.h"
#include "rpo/meter.h"
#include "rpo/shaper.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define RULES_NS UINT64_C(1000000000) // so often the local time is looked at
#define LOOK_NS (LIMITER_LOOK_MS * UINT64_C(1000000))

struct limiter {
	pthread_mutex_t lock;
	pthread_cond_t went; // somebody sent, or a limit changed
	struct shaper shaper;
	struct bandwidth rules;
	uint64_t rules_at_ns; // when they were last applied; 0: never
	unsigned waiting;
	struct meter went_bytes;
};

struct limiter_flow {
	struct limiter *limiter;
	struct shaper_flow share;
	struct bandwidth rules;
	uint64_t rules_at_ns;
	struct meter went_bytes;
};

int limiter_new(struct limiter **ret_limiter)
{
	struct limiter *limiter = calloc(1, sizeof(*limiter));
	if (!limiter)
		return -ENOMEM;
	(void)pthread_mutex_init(&limiter->lock, NULL);
	thread_condition_init(&limiter->went);
	*ret_limiter = limiter;
	return 0;
}

void limiter_free(struct limiter *limiter)
{
	if (!limiter)
		return;
	(void)pthread_cond_destroy(&limiter->went);
	(void)pthread_mutex_destroy(&limiter->lock);
	free(limiter);
}

// The rules as of now, into a bucket; each second.
static void apply(const struct bandwidth *rules, uint64_t *at_ns, struct bucket *bucket, uint64_t now_ns)
{
	if (*at_ns && now_ns - *at_ns < RULES_NS)
		return;
	*at_ns = now_ns;
	const struct bandwidth_time local = bandwidth_local(clock_wall_ns());
	bucket_set(bucket, bandwidth_at(rules, &local), now_ns);
}

static void apply_both(struct limiter_flow *flow, uint64_t now_ns)
{
	apply(&flow->limiter->rules, &flow->limiter->rules_at_ns, &flow->limiter->shaper.total, now_ns);
	apply(&flow->rules, &flow->rules_at_ns, &flow->share.bucket, now_ns);
}

void limiter_set(struct limiter *limiter, const struct bandwidth *total)
{
	LOCK_SCOPE(&limiter->lock);
	limiter->rules = *total;
	limiter->rules_at_ns = 0;
	(void)pthread_cond_broadcast(&limiter->went);
}

uint64_t limiter_rate(struct limiter *limiter)
{
	LOCK_SCOPE(&limiter->lock);
	apply(&limiter->rules, &limiter->rules_at_ns, &limiter->shaper.total, clock_mono_ns());
	return limiter->shaper.total.rate;
}

int limiter_join(struct limiter *limiter, const struct bandwidth *own, unsigned weight, struct limiter_flow **ret_flow)
{
	struct limiter_flow *flow = calloc(1, sizeof(*flow));
	if (!flow)
		return -ENOMEM;
	flow->limiter = limiter;
	flow->rules = *own;
	LOCK_SCOPE(&limiter->lock);
	shaper_join(&limiter->shaper, &flow->share, weight);
	*ret_flow = flow;
	return 0;
}

void limiter_leave(struct limiter_flow *flow)
{
	if (!flow)
		return;
	{
		LOCK_SCOPE(&flow->limiter->lock);
		shaper_leave(&flow->limiter->shaper, &flow->share);
		(void)pthread_cond_broadcast(&flow->limiter->went);
	}
	free(flow);
}

void limiter_flow_set(struct limiter_flow *flow, const struct bandwidth *own, unsigned weight)
{
	LOCK_SCOPE(&flow->limiter->lock);
	flow->rules = *own;
	flow->rules_at_ns = 0;
	flow->share.weight = weight;
	(void)pthread_cond_broadcast(&flow->limiter->went);
}

uint64_t limiter_flow_rate(struct limiter_flow *flow)
{
	LOCK_SCOPE(&flow->limiter->lock);
	apply_both(flow, clock_mono_ns());
	return flow->share.bucket.rate;
}

static void count(struct limiter_flow *flow, size_t bytes)
{
	uint64_t now_ns = clock_mono_ns();
	meter_add(&flow->went_bytes, now_ns, bytes);
	meter_add(&flow->limiter->went_bytes, now_ns, bytes);
}

uint64_t limiter_used(struct limiter *limiter)
{
	LOCK_SCOPE(&limiter->lock);
	return meter_rate(&limiter->went_bytes, clock_mono_ns());
}

uint64_t limiter_flow_used(struct limiter_flow *flow)
{
	LOCK_SCOPE(&flow->limiter->lock);
	return meter_rate(&flow->went_bytes, clock_mono_ns());
}

size_t limiter_piece(struct limiter_flow *flow)
{
	LOCK_SCOPE(&flow->limiter->lock);
	apply_both(flow, clock_mono_ns());
	size_t own = bucket_piece(flow->share.bucket.rate), total = bucket_piece(flow->limiter->shaper.total.rate);
	return own < total ? own : total;
}

int limiter_pass(struct limiter_flow *flow, size_t bytes, const atomic_bool *over)
{
	struct limiter *limiter = flow->limiter;
	LOCK_SCOPE(&limiter->lock);
	for (;;) {
		if (atomic_load(over)) {
			shaper_give_up(&flow->share);
			return -ECONNRESET;
		}
		uint64_t now_ns = clock_mono_ns();
		apply_both(flow, now_ns);
		uint64_t wait_ns = shaper_ask(&limiter->shaper, &flow->share, bytes, now_ns);
		if (wait_ns == 0)
			break;
		const struct timespec until = clock_mono_after(min_u64(wait_ns, LOOK_NS));
		limiter->waiting++;
		(void)pthread_cond_timedwait(&limiter->went, &limiter->lock, &until);
		limiter->waiting--;
	}
	count(flow, bytes);
	if (limiter->waiting)
		(void)pthread_cond_broadcast(&limiter->went);
	return 0;
}

void limiter_charge(struct limiter_flow *flow, size_t bytes)
{
	LOCK_SCOPE(&flow->limiter->lock);
	uint64_t now_ns = clock_mono_ns();
	apply_both(flow, now_ns);
	shaper_charge(&flow->limiter->shaper, &flow->share, bytes, now_ns);
	count(flow, bytes);
}
