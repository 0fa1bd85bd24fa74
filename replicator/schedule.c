// SPDX-License-Identifier: Apache-2.0
#include "replicator/schedule.h"

#include "base/size.h"

#include <limits.h>

enum { BACKOFF_DOUBLINGS = 5 };
#define SECOND_NS UINT64_C(1000000000)

// A little of the objective: a busy host is late.
uint64_t schedule_spare_ns(const struct schedule *schedule)
{
	return min_u64(schedule->rpo_ns / 20, 60 * SECOND_NS) + min_u64(schedule->rpo_ns / 10, SECOND_NS / 2);
}

static uint64_t with_quarter(uint64_t ns)
{
	return ns + ns / 4; // the next transfer is not the last one's twin
}

uint64_t schedule_lead_ns(const struct schedule *schedule, uint64_t dirty_bytes)
{
	return with_quarter(forecast_lead_ns(&schedule->forecast, dirty_bytes));
}

uint64_t schedule_age_ns(const struct schedule *schedule, uint64_t now_ns)
{
	bool past = schedule->last_cut_ns < 0 || (uint64_t)schedule->last_cut_ns <= now_ns;
	return past ? now_ns - (uint64_t)schedule->last_cut_ns : 0;
}

uint64_t schedule_deadline(const struct schedule *schedule)
{
	uint64_t last_ns = (uint64_t)schedule->last_cut_ns; // modulo 2^64
	if (!schedule->has_point)
		return 0;
	return schedule->last_cut_ns < 0 && schedule->rpo_ns <= 0 - last_ns ? 1 : last_ns + schedule->rpo_ns;
}

// Bytes a second. Soon after a cut it is what the cycles before saw: what little there is was written in no time at all.
static uint64_t growth_of(const struct schedule *schedule, const struct schedule_load *load)
{
	uint64_t ns = schedule_age_ns(schedule, load->now_ns);
	if (ns < schedule->rpo_ns / 8 || ns == 0)
		return schedule->forecast.growth;
	double rate = (double)load->dirty_bytes * (double)SECOND_NS / (double)ns;
	return rate < (double)FORECAST_RATE_MAX ? (uint64_t)rate : FORECAST_RATE_MAX;
}

uint64_t schedule_dirty_at(const struct schedule *schedule, const struct schedule_load *load, uint64_t at_ns)
{
	uint64_t ahead_ns = at_ns - min_u64(load->now_ns, at_ns);
	return load->dirty_bytes + forecast_bytes_in(growth_of(schedule, load), ahead_ns);
}

// A cycle that stood still, or a long one that others are moved ahead of, would else make cut follow upon cut until it is forgotten or over: points
// of the same instant in place of those that retention would keep.
uint64_t schedule_earliest(const struct schedule *schedule)
{
	int64_t earliest_ns = schedule->last_cut_ns < INT64_MAX / 2 ? schedule->last_cut_ns + (int64_t)(schedule->rpo_ns / 8) : schedule->last_cut_ns;
	return schedule->has_point && earliest_ns > 0 ? (uint64_t)earliest_ns : 0;
}

// The instant t at which t + D'(dirty at t) is the deadline: each second of waiting costs itself, and the time for what becomes dirty in it.
uint64_t schedule_next_cut(const struct schedule *schedule, const struct schedule_load *load)
{
	const struct forecast *f = &schedule->forecast;
	if (schedule->failures) // a failure is not retried in a tight loop, however late the point is
		return schedule->last_failure_ns + schedule_backoff_ns(schedule->failures - 1, schedule->jitter);
	if (!schedule->has_point)
		return load->now_ns;
	uint64_t deadline_ns = schedule_deadline(schedule);
	uint64_t spare_ns = schedule_spare_ns(schedule);
	uint64_t latest_ns = deadline_ns - min_u64(min_u64(schedule_lead_ns(schedule, 0) + spare_ns, schedule->rpo_ns), deadline_ns);
	uint64_t left_ns = deadline_ns - min_u64(load->now_ns, deadline_ns);
	uint64_t need_ns = with_quarter(f->fixed_ns + forecast_time_of(forecast_rate(f), load->dirty_bytes)) + spare_ns;
	if (need_ns >= left_ns)
		return max_u64(min_u64(latest_ns, load->now_ns), schedule_earliest(schedule));
	double slope = 1.25 * (double)growth_of(schedule, load) / (double)forecast_rate(f);
	uint64_t due_ns = min_u64(latest_ns, load->now_ns + (uint64_t)((double)(left_ns - need_ns) / (1.0 + slope)));
	return max_u64(due_ns, schedule_earliest(schedule));
}

uint64_t schedule_look_again(const struct schedule *schedule, uint64_t now_ns, uint64_t due_ns)
{
	if (due_ns <= now_ns)
		return due_ns;
	return min_u64(due_ns, now_ns + max_u64((due_ns - now_ns) / 2, schedule->rpo_ns / 64));
}

uint64_t schedule_next_point(const struct schedule *schedule, const struct schedule_load *load, uint64_t cut_ns)
{
	const struct forecast *f = &schedule->forecast;
	uint64_t begin_ns = max_u64(cut_ns, load->now_ns), bytes = schedule_dirty_at(schedule, load, begin_ns);
	if (f->rate == 0 && (f->fixed_ns == 0 || bytes >= FORECAST_LITTLE_BYTES))
		return 0;
	return begin_ns + f->fixed_ns + forecast_time_of(f->rate, bytes); // not the longest one of late: that one may have stood still
}

uint64_t schedule_point_under_way(const struct schedule *schedule, uint64_t now_ns, const struct schedule_under_way *way)
{
	uint64_t rate = way->settled && way->rate ? way->rate : max_u64(way->rate, schedule->forecast.rate);
	return rate || way->left_bytes == 0 ? now_ns + forecast_time_of(rate, way->left_bytes) : 0;
}

void schedule_committed(struct schedule *schedule, const struct schedule_done *done)
{
	uint64_t since_ns = schedule->has_point ? schedule_age_ns(schedule, done->begin_ns) : 0;
	struct forecast_sample sample = {
		.bytes = done->dirty_bytes,
		.lead_ns = done->commit_ns - (done->sync ? done->cut_ns : done->begin_ns),
		.fresh_ns = done->sync ? 0 : since_ns,
		.objective_ns = schedule->rpo_ns,
	};
	if (done->sync) // of all disks, perhaps, of which most was equal: what much of it took says nothing
		sample.bytes = 0;
	if (!done->sync || done->cut_bytes < FORECAST_LITTLE_BYTES)
		forecast_learn(&schedule->forecast, &sample);
	schedule->has_point = true;
	schedule->last_cut_ns = (int64_t)done->cut_ns;
	schedule->failures = 0;
}

void schedule_found(struct schedule *schedule, bool has_point, int64_t cut_ns)
{
	schedule->has_point = has_point;
	schedule->last_cut_ns = cut_ns;
}

void schedule_failed(struct schedule *schedule, uint64_t now_ns, uint32_t random)
{
	schedule->jitter = random;
	schedule->failures++;
	schedule->last_failure_ns = now_ns;
}

uint64_t schedule_backoff_ns(unsigned failures, uint32_t random)
{
	unsigned doublings = failures < BACKOFF_DOUBLINGS ? failures : BACKOFF_DOUBLINGS;
	uint64_t whole_ns = min_u64(SECOND_NS << doublings, 30 * SECOND_NS);
	uint64_t jitter_us = whole_ns / 4000 * random / UINT32_MAX; // in microseconds the product has room
	return whole_ns - jitter_us * 1000;
}

void backoff_failed(struct backoff *backoff, uint64_t now_ns, uint32_t random)
{
	backoff->not_before_ns = now_ns + schedule_backoff_ns(backoff->failures, random);
	backoff->failures += backoff->failures < UINT_MAX;
}

void backoff_progress(struct backoff *backoff)
{
	*backoff = (struct backoff){.failures = 0};
}
