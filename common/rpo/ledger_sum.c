// SPDX-License-Identifier: Apache-2.0
// What a ledger says: sums and percentiles over a window, and the budget.
#include "rpo/ledger.h"

#include "base/size.h"

#include <string.h>

#define HOUR_MS INT64_C(3600000)
#define WEEK_MS (168 * HOUR_MS)

// Quarter octaves of a millisecond: 2^(index / 4), in whole ones.
uint64_t ledger_bound_ms(unsigned index)
{
	static const uint64_t root[4] = {16777216, 19951584, 23726566, 28215801}; // 2^24 times 2^(0, 1/4, 2/4, 3/4)
	unsigned octave = index / 4;
	return octave <= 24 ? root[index % 4] >> (24 - octave) : root[index % 4] << (octave - 24);
}

static unsigned bucket_of(uint64_t age_ms)
{
	unsigned index = 0;
	while (index < LEDGER_SCALE_MAX && ledger_bound_ms(index) < age_ms)
		index++;
	return index;
}

unsigned ledger_first_bucket(uint64_t rpo_ms)
{
	unsigned index = bucket_of(rpo_ms / 64);
	return index + LEDGER_BUCKETS - 1 <= LEDGER_SCALE_MAX ? index : LEDGER_SCALE_MAX - LEDGER_BUCKETS + 1;
}

const char *ledger_window_name(enum ledger_window window)
{
	static const char *const names[] = {"hour", "day", "week"};
	return names[window];
}

enum ledger_scale ledger_window_scale(enum ledger_window window)
{
	return window == LEDGER_HOUR ? LEDGER_FINE : LEDGER_COARSE;
}

static int64_t window_ms(enum ledger_window window)
{
	return window == LEDGER_HOUR ? HOUR_MS : window == LEDGER_DAY ? 24 * HOUR_MS : WEEK_MS;
}

// --- sums ---

struct ages { // by bucket of all RPOs
	uint64_t ms[LEDGER_SCALE_MAX + 1];
};

static void ages_add(struct ages *ages, const struct ledger_slot *slot)
{
	unsigned first = ledger_first_bucket(slot->rpo_ms);
	for (unsigned i = 0; i + 1 < LEDGER_BUCKETS; i++)
		ages->ms[first + i] += slot->bucket_ms[i];
	ages->ms[bucket_of(slot->max_ms)] += slot->bucket_ms[LEDGER_BUCKETS - 1]; // no bound of its own but the highest
}

// The age that `ppm` of the time was not above.
static uint64_t ages_percentile(const struct ages *ages, const struct ledger_summary *sum, unsigned ppm)
{
	uint64_t wanted = (sum->observed_ms * ppm + LEDGER_PPM - 1) / LEDGER_PPM, seen = 0; // of eight days at most: far below 2^64
	if (!sum->observed_ms)
		return 0;
	for (unsigned i = 0; i <= LEDGER_SCALE_MAX; i++) {
		seen += ages->ms[i];
		if (seen >= wanted && seen)
			return min_u64(ledger_bound_ms(i), sum->max_ms);
	}
	return sum->max_ms;
}

static void sum_add(struct ledger_summary *sum, const struct ledger_slot *slot)
{
	sum->observed_ms += slot->observed_ms;
	sum->unobserved_ms += slot->unobserved_ms;
	for (unsigned i = 0; i < LEDGER_CAUSES; i++) {
		sum->missed_by_ms[i] += slot->missed_ms[i];
		sum->missed_ms += slot->missed_ms[i];
	}
	sum->max_ms = max_u64(sum->max_ms, slot->max_ms);
	sum->lead_ms = max_u64(sum->lead_ms, slot->lead_ms);
	sum->points += slot->points;
	sum->dirty_bytes += slot->dirty_bytes;
	sum->wire_bytes += slot->wire_bytes;
}

static void percentiles(const struct ages *ages, struct ledger_summary *sum)
{
	sum->p50_ms = ages_percentile(ages, sum, LEDGER_PPM / 2);
	sum->p99_ms = ages_percentile(ages, sum, LEDGER_PPM / 100 * 99);
}

static void collect(const struct ledger *l, enum ledger_window window, struct ledger_summary *sum, struct ages *ages)
{
	enum ledger_scale scale = ledger_window_scale(window);
	int64_t length = ledger_slot_length_ms(scale), from = l->clock_ms - window_ms(window);
	int64_t first = from > 0 ? from / length : 0;
	*sum = (struct ledger_summary){.from_ms = first * length, .to_ms = l->clock_ms};
	memset(ages, 0, sizeof(*ages));
	for (int64_t number = first; number <= l->clock_ms / length; number++) {
		const struct ledger_slot *slot = ledger_slot_at(l, scale, number);
		if (!slot)
			continue;
		sum_add(sum, slot);
		ages_add(ages, slot);
	}
}

void ledger_sum(const struct ledger *l, enum ledger_window window, struct ledger_summary *ret_summary)
{
	struct ages ages;
	collect(l, window, ret_summary, &ages);
	percentiles(&ages, ret_summary);
}

uint64_t ledger_percentile(const struct ledger *l, enum ledger_window window, unsigned ppm)
{
	struct ledger_summary sum;
	struct ages ages;
	collect(l, window, &sum, &ages);
	return ages_percentile(&ages, &sum, ppm);
}

void ledger_slot_sum(const struct ledger_slot *slot, struct ledger_summary *ret_summary)
{
	struct ages ages = {{0}};
	*ret_summary = (struct ledger_summary){.to_ms = slot->until_ms};
	sum_add(ret_summary, slot);
	ages_add(&ages, slot);
	percentiles(&ages, ret_summary);
}

// --- the budget ---

uint64_t ledger_budget_ms(const struct ledger *l)
{
	return (uint64_t)WEEK_MS / LEDGER_PPM * (LEDGER_PPM - l->objective_ppm) + (uint64_t)WEEK_MS % LEDGER_PPM * (LEDGER_PPM - l->objective_ppm) / LEDGER_PPM;
}

int64_t ledger_budget_left_ms(const struct ledger *l)
{
	struct ledger_summary week;
	ledger_sum(l, LEDGER_WEEK, &week);
	return (int64_t)ledger_budget_ms(l) - (int64_t)week.missed_ms;
}
