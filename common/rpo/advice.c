// SPDX-License-Identifier: Apache-2.0
#include "rpo/advice.h"

#include "base/size.h"

#include <stdio.h>

uint64_t advice_step_ms(uint64_t at_least_ms)
{
	static const uint32_t steps_s[] = {1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400};
	size_t count = sizeof(steps_s) / sizeof(steps_s[0]);
	for (size_t i = 0; i < count; i++)
		if (steps_s[i] * UINT64_C(1000) >= at_least_ms)
			return steps_s[i] * UINT64_C(1000);
	return steps_s[count - 1] * UINT64_C(1000);
}

void advice_duration(uint64_t ms, char text[32])
{
	uint64_t s = ms / 1000;
	if (ms < 1000)
		(void)snprintf(text, 32, "%llu ms", (unsigned long long)ms);
	else if (ms < 10000 && ms % 1000)
		(void)snprintf(text, 32, "%llu.%llu s", (unsigned long long)s, (unsigned long long)(ms % 1000 / 100));
	else if (s < 60)
		(void)snprintf(text, 32, "%llu s", (unsigned long long)s);
	else if (s < 3600 && s % 60)
		(void)snprintf(text, 32, "%llu min %llu s", (unsigned long long)(s / 60), (unsigned long long)(s % 60));
	else if (s < 3600)
		(void)snprintf(text, 32, "%llu min", (unsigned long long)(s / 60));
	else if (s / 60 % 60)
		(void)snprintf(text, 32, "%llu h %llu min", (unsigned long long)(s / 3600), (unsigned long long)(s / 60 % 60));
	else
		(void)snprintf(text, 32, "%llu h", (unsigned long long)(s / 3600));
}

static uint64_t outage_ms(const struct ledger_summary *day, uint32_t outages)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		sum += outages >> i & 1 ? day->missed_by_ms[i] : 0;
	return sum;
}

// What would have been kept: of the ages the highest are left out, as many as the budget allows and as the outages made.
static bool advise_down(const struct ledger *l, const struct ledger_summary *day, uint64_t slow_ms, struct advice *advice)
{
	uint64_t allowed_ms = day->observed_ms * (LEDGER_PPM - l->objective_ppm) / LEDGER_PPM;
	uint64_t left_out_ms = min_u64(allowed_ms + (day->missed_ms - slow_ms), day->observed_ms);
	unsigned ppm = (unsigned)((day->observed_ms - left_out_ms) * LEDGER_PPM / day->observed_ms);
	uint64_t rpo_ms = advice_step_ms(ledger_percentile(l, LEDGER_DAY, ppm));
	char missed[32], better[32];
	if (slow_ms <= allowed_ms || rpo_ms <= l->rpo_ms)
		return false;
	advice->rpo_ms = rpo_ms;
	advice_duration(slow_ms, missed);
	advice_duration(rpo_ms, better);
	(void)snprintf(advice->why, sizeof(advice->why), "missed for %s of the last day, %.2f %% of the time where %.2f %% is allowed: %s would have been kept", missed,
		       (double)slow_ms * 100.0 / (double)day->observed_ms, (double)(LEDGER_PPM - l->objective_ppm) * 100.0 / LEDGER_PPM, better);
	return true;
}

// From a cut to its commit twice, and a quarter: at half the RPO it is kept whatever the moment of a disaster.
static bool advise_up(const struct ledger *l, const struct ledger_summary *day, struct advice *advice)
{
	uint64_t rpo_ms = advice_step_ms(day->lead_ms * 2 + day->lead_ms / 2);
	char lead[32], better[32];
	if (rpo_ms > l->rpo_ms / 4)
		return false;
	advice->rpo_ms = rpo_ms;
	advice_duration(day->lead_ms, lead);
	advice_duration(rpo_ms, better);
	(void)snprintf(advice->why, sizeof(advice->why), "every point of the last day was committed within %s of its cut: %s would be kept", lead, better);
	return true;
}

bool advice_of(const struct ledger *l, uint32_t outages, struct advice *ret_advice)
{
	struct ledger_summary day;
	ledger_sum(l, LEDGER_DAY, &day);
	if (!l->has_point || day.observed_ms < ADVICE_OBSERVED_MIN_MS)
		return false;
	uint64_t slow_ms = day.missed_ms - outage_ms(&day, outages);
	if (slow_ms)
		return advise_down(l, &day, slow_ms, ret_advice);
	return day.points >= ADVICE_POINTS_MIN && advise_up(l, &day, ret_advice);
}
