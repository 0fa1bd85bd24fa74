// SPDX-License-Identifier: Apache-2.0
#include "replicator/forecast.h"

#include "base/size.h"

enum { STANDSTILL_FACTOR = 4, STANDSTILL_PART = 4 };
#define SECOND_NS UINT64_C(1000000000)

uint64_t forecast_bytes_in(uint64_t rate, uint64_t ns)
{
	rate = min_u64(rate, FORECAST_RATE_MAX);
	ns = min_u64(ns, FORECAST_NS_MAX);
	uint64_t whole = ns / SECOND_NS, rest_us = ns % SECOND_NS / 1000; // 2^30 s and 10^6 us, by 2^34: there is room
	return min_u64(whole, UINT64_C(1) << 29) * rate + rest_us * rate / 1000000;
}

uint64_t forecast_time_of(uint64_t rate, uint64_t bytes)
{
	rate = min_u64(rate, FORECAST_RATE_MAX);
	if (rate == 0)
		return 0;
	uint64_t whole_s = bytes / rate;
	if (whole_s >= FORECAST_NS_MAX / SECOND_NS)
		return FORECAST_NS_MAX;
	return whole_s * SECOND_NS + (bytes % rate) * (SECOND_NS / 8) / rate * 8; // 2^34 by 2^27
}

uint64_t forecast_rate(const struct forecast *f)
{
	return f->rate ? f->rate : FORECAST_RATE_UNKNOWN;
}

// A quarter of the way to what was seen; the first time all of it.
static uint64_t towards(uint64_t mean, uint64_t seen)
{
	if (mean == 0)
		return seen;
	return seen > mean ? mean + (seen - mean + 3) / 4 : mean - (mean - seen) / 4;
}

static uint64_t rate_of(uint64_t bytes, uint64_t ns)
{
	double rate = (double)bytes * (double)SECOND_NS / (double)(ns ? ns : 1);
	return rate >= (double)FORECAST_RATE_MAX ? FORECAST_RATE_MAX : max_u64((uint64_t)rate, 1);
}

// What is learned of the time that a cycle took. The first cycle says what it says.
static uint64_t believed_ns(const struct forecast *f, const struct forecast_sample *sample)
{
	uint64_t lead_ns = min_u64(sample->lead_ns, FORECAST_NS_MAX);
	uint64_t most_ns = max_u64(STANDSTILL_FACTOR * forecast_lead_ns(f, sample->bytes), sample->objective_ns / STANDSTILL_PART);
	return f->longest_ns ? min_u64(lead_ns, most_ns) : lead_ns;
}

void forecast_learn(struct forecast *f, const struct forecast_sample *sample)
{
	uint64_t lead_ns = believed_ns(f, sample);
	f->longest_ns = max_u64(min_u64(lead_ns, sample->objective_ns), f->longest_ns - f->longest_ns / 8);
	if (sample->fresh_ns)
		f->growth = towards(f->growth, rate_of(sample->bytes, sample->fresh_ns));
	if (sample->bytes < FORECAST_LITTLE_BYTES) {
		f->fixed_ns = towards(f->fixed_ns, lead_ns);
		uint64_t least = rate_of(sample->bytes, lead_ns); // with what is fixed in it: what the line can do is no less
		if (f->rate && least > f->rate)
			f->rate = towards(f->rate, least);
	} else { // at least half of it was the bytes' own: what is fixed was measured at other times
		f->rate = towards(f->rate, rate_of(sample->bytes, lead_ns - min_u64(f->fixed_ns, lead_ns / 2)));
	}
}

uint64_t forecast_lead_ns(const struct forecast *f, uint64_t bytes)
{
	uint64_t ns = min_u64(f->fixed_ns + forecast_time_of(forecast_rate(f), bytes), FORECAST_NS_MAX);
	return max_u64(ns, f->longest_ns);
}
