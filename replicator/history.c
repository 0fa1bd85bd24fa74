// SPDX-License-Identifier: Apache-2.0
#include "replicator/history.h"

#include "base/size.h"
#include "replicator/forecast.h"

#include <string.h>

enum { PPM = 1000000, DAY_S = 24 * 3600 };
#define SECOND_NS UINT64_C(1000000000)
#define PPM_MAX (UINT64_C(1000) * PPM)

uint64_t history_stretch_ns(unsigned stretch)
{
	return SECOND_NS << stretch;
}

static uint64_t towards(uint64_t mean, uint64_t seen, uint64_t of)
{
	return seen > mean ? mean + (seen - mean + of - 1) / of : mean - (mean - seen) / of;
}

void history_see(struct history *h, unsigned stretch, uint64_t dirty_bytes)
{
	struct history_stretch *s = &h->stretch[stretch];
	s->mean_bytes = s->samples ? towards(s->mean_bytes, dirty_bytes, 16) : dirty_bytes;
	s->most_bytes = max_u64(dirty_bytes, s->most_bytes - s->most_bytes / 64);
	s->samples++;
}

static uint64_t ppm_of(uint64_t part, uint64_t of)
{
	double ppm = (double)part * PPM / (double)of;
	return ppm < (double)PPM_MAX ? (uint64_t)ppm : PPM_MAX;
}

void history_cycle(struct history *h, uint64_t dirty_bytes, uint64_t wire_bytes, uint64_t marked_bytes)
{
	if (dirty_bytes == 0)
		return;
	uint64_t wire = ppm_of(wire_bytes, dirty_bytes), marked = ppm_of(marked_bytes, dirty_bytes);
	h->wire_ppm = h->cycles ? towards(h->wire_ppm, wire, 4) : wire;
	h->marked_ppm = h->cycles ? towards(h->marked_ppm, marked, 4) : marked;
	h->cycles++;
}

// x^e for e in [0, 1] and x >= 1, without a math library: by square roots, to a 2^-20th of the exponent.
static double root(double x)
{
	double r = x > 1 ? x / 2 : 1;
	for (int i = 0; i < 60; i++)
		r = (r + x / r) / 2;
	return r;
}

static double power(double x, double e)
{
	double result = 1, factor = x;
	if (e >= 1)
		return x;
	for (int bit = 0; bit < 20; bit++) {
		factor = root(factor);
		e *= 2;
		if (e >= 1) {
			result *= factor;
			e -= 1;
		}
	}
	return result;
}

// The exponent between two stretches that are `steps` doublings apart: log2(b / a) / steps, in [0, 1].
static double exponent(double a, double b, unsigned steps)
{
	double low = 0, high = 1;
	if (a <= 0 || b <= a)
		return 0;
	double base = 2;
	for (unsigned i = 1; i < steps; i++)
		base *= 2;
	if (b / a >= base)
		return 1;
	for (int i = 0; i < 20; i++) {
		double middle = (low + high) / 2;
		if (power(base, middle) < b / a)
			low = middle;
		else
			high = middle;
	}
	return (low + high) / 2;
}

// The next stretch at or below (or above) `from` that was seen; HISTORY_STRETCHES: none.
static unsigned seen_below(const struct history *h, unsigned from)
{
	for (unsigned i = from + 1; i-- > 0;)
		if (h->stretch[i].samples)
			return i;
	return HISTORY_STRETCHES;
}

static unsigned seen_above(const struct history *h, unsigned from)
{
	while (from < HISTORY_STRETCHES && !h->stretch[from].samples)
		from++;
	return from;
}

// What is dirty in a stretch holds what is dirty in a shorter one. One that has clearly less was seen while the guest wrote less, before cuts came more
// often than it is long: it says nothing of the guest of now.
static struct history of_late(const struct history *h)
{
	struct history late = *h;
	uint64_t most = 0;
	for (unsigned i = 0; i < HISTORY_STRETCHES; i++) {
		struct history_stretch *s = &late.stretch[i];
		if (s->samples && s->mean_bytes < most - most / 4)
			s->samples = 0;
		else if (s->samples)
			most = max_u64(most, s->mean_bytes);
	}
	return late;
}

uint64_t history_bytes(const struct history *history, uint64_t ns, uint64_t disk_bytes, bool *ret_measured)
{
	const struct history late = of_late(history), *h = &late;
	unsigned at = 0;
	while (at + 1 < HISTORY_STRETCHES && history_stretch_ns(at + 1) <= ns)
		at++;
	bool shorter = ns < history_stretch_ns(0);
	unsigned low = shorter ? HISTORY_STRETCHES : seen_below(h, at), high = shorter ? seen_above(h, 0) : seen_above(h, at + 1);
	*ret_measured = low < HISTORY_STRETCHES && (high < HISTORY_STRETCHES || history_stretch_ns(low) == ns);
	if (low == HISTORY_STRETCHES) { // shorter than all that was seen: in proportion
		if (high == HISTORY_STRETCHES)
			return 0;
		return (uint64_t)((double)h->stretch[high].mean_bytes * ((double)ns / (double)history_stretch_ns(high)));
	}
	double bytes = (double)h->stretch[low].mean_bytes, e = 1;
	unsigned other = high < HISTORY_STRETCHES && high > low ? high : low > 0 ? seen_below(h, low - 1) : HISTORY_STRETCHES;
	if (other < HISTORY_STRETCHES && other > low)
		e = exponent(bytes, (double)h->stretch[other].mean_bytes, other - low);
	else if (other < HISTORY_STRETCHES)
		e = exponent((double)h->stretch[other].mean_bytes, bytes, low - other);
	double times = (double)ns / (double)history_stretch_ns(low);
	if (times > 1)
		bytes *= power(times, e);
	return min_u64((uint64_t)bytes, disk_bytes);
}

uint64_t history_samples(const struct history *history)
{
	uint64_t most = 0;
	for (unsigned i = 0; i < HISTORY_STRETCHES; i++)
		most = max_u64(most, history->stretch[i].samples);
	return most;
}

// --- what if ---

// A cycle as the scheduler expects it, with its quarter and its little of the objective.
static uint64_t lead_ns(const struct what_if_setting *setting, uint64_t bytes)
{
	uint64_t ns = setting->fixed_ns + forecast_time_of(setting->rate ? setting->rate : FORECAST_RATE_UNKNOWN, bytes);
	return ns + ns / 4;
}

static uint64_t spare_ns(uint64_t rpo_ns)
{
	return min_u64(rpo_ns / 20, 60 * SECOND_NS) + min_u64(rpo_ns / 10, SECOND_NS / 2);
}

// The longest stretch between cuts after which the next point still comes in time; at least half of the objective.
static uint64_t interval_of(const struct history *h, const struct what_if_setting *setting, uint64_t rpo_ns)
{
	uint64_t low = 0, high = rpo_ns;
	bool measured;
	for (int i = 0; i < 50 && high - low > SECOND_NS / 1000; i++) {
		uint64_t middle = low + (high - low) / 2;
		uint64_t bytes = history_bytes(h, middle, setting->disk_bytes, &measured);
		if (middle + lead_ns(setting, bytes) + spare_ns(rpo_ns) <= rpo_ns)
			low = middle;
		else
			high = middle;
	}
	return max_u64(low, 1);
}

// What cycles without a pause would need: half of the objective for the transfer of what becomes dirty in the other half.
static uint64_t rate_needed(const struct history *h, const struct what_if_setting *setting, uint64_t rpo_ns)
{
	bool measured;
	uint64_t half_ns = rpo_ns / 2, bytes = history_bytes(h, half_ns, setting->disk_bytes, &measured);
	uint64_t ns = half_ns - min_u64(setting->fixed_ns, half_ns - 1);
	double rate = (double)bytes * (double)SECOND_NS / (double)ns;
	return rate < (double)FORECAST_RATE_MAX ? (uint64_t)rate : FORECAST_RATE_MAX;
}

static uint64_t part(uint64_t bytes, uint64_t ppm)
{
	return (uint64_t)((double)bytes * (double)ppm / PPM);
}

void history_what_if(const struct history *h, const struct what_if_setting *setting, uint64_t rpo_ns, struct what_if *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->rpo_ns = rpo_ns;
	ret->rate_needed = rate_needed(h, setting, rpo_ns);
	ret->kept = setting->fixed_ns < rpo_ns / 2 && ret->rate_needed <= (setting->rate ? setting->rate : FORECAST_RATE_UNKNOWN);
	ret->interval_ns = interval_of(h, setting, rpo_ns);
	ret->delta_bytes = history_bytes(h, ret->interval_ns, setting->disk_bytes, &ret->measured);
	ret->transfer_ns = lead_ns(setting, ret->delta_bytes) / 5 * 4;
	ret->interval_ns = max_u64(ret->interval_ns, ret->transfer_ns); // one cycle after the other
	ret->delta_bytes = history_bytes(h, ret->interval_ns, setting->disk_bytes, &ret->measured);
	ret->delta_wire_bytes = part(ret->delta_bytes, h->cycles ? h->wire_ppm : PPM);
	double day = (double)ret->delta_wire_bytes * ((double)DAY_S * (double)SECOND_NS / (double)max_u64(ret->interval_ns, SECOND_NS / 1000));
	ret->day_wire_bytes = day < 1e18 ? (uint64_t)day : UINT64_C(1000000000000000000);
	ret->retention_bytes = ret->delta_wire_bytes * setting->points_keep;
	uint64_t at_worst = history_bytes(h, rpo_ns, setting->disk_bytes, &(bool){false});
	ret->crash_bytes = min_u64(part(at_worst, h->cycles ? max_u64(h->marked_ppm, PPM) : PPM), setting->disk_bytes);
}

uint64_t history_smallest_rpo(const struct history *h, const struct what_if_setting *setting)
{
	const uint64_t least_ns = SECOND_NS, most_ns = DAY_S * SECOND_NS;
	struct what_if what_if;
	uint64_t smallest_ns = 0;
	if (setting->rate == 0)
		return 0;
	for (uint64_t rpo_ns = most_ns;; rpo_ns = max_u64(rpo_ns - rpo_ns / 16, least_ns)) {
		history_what_if(h, setting, rpo_ns, &what_if);
		if (!what_if.kept)
			return smallest_ns;
		smallest_ns = rpo_ns;
		if (rpo_ns == least_ns)
			return smallest_ns;
	}
}
