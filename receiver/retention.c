// SPDX-License-Identifier: Apache-2.0
// The policy of retention. Docs/store.md, "Retention", has the rules and the reasons; in short:
//
// A tier cuts the receiver's time into buckets of its interval, counted from 1970, UTC. Going from the newest point back, each change of
// the bucket begins another run of points; of the first `count` runs the newest point is kept. So empty buckets do not
// count, a point never goes by age alone, and points that come faster do not push older buckets out.
//
// Runs, not buckets: a clock that was set back gives later points the buckets of old ones, and these must not be taken for
// one. A jump of the clock cuts a bucket, and may shift all further ones: two runs more are kept for it, so that nothing goes early.
#include "receiver/retention.h"

#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { HOUR_S = 3600, DAY_S = 86400, INTERVAL_MIN_S = 60, INTERVAL_MAX_S = 400 * DAY_S, JUMP_S = 30 * DAY_S };
#define NS_PER_S INT64_C(1000000000)

// --- the decision ---

static int64_t bucket_of(int64_t wall_ns, uint32_t interval_s)
{
	int64_t unit = (int64_t)interval_s * NS_PER_S;
	return wall_ns / unit - (wall_ns % unit < 0);
}

// Whether the clock was set between two neighbours, the older bucket first: back, or ahead by more than a month. A smaller
// step ahead looks like a pause, and may cost a tier one bucket.
static bool jumped(int64_t older, int64_t newer, uint32_t interval_s)
{
	int64_t month = JUMP_S / interval_s > 2 ? JUMP_S / interval_s : 2;
	return older > newer || newer - older > month;
}

static void tier_apply(const struct retention_tier *tier, unsigned why, struct retention_point *points, size_t count)
{
	uint32_t left = tier->count, jumps = RETENTION_JUMPS_MAX;
	int64_t before = 0;
	for (size_t i = count; i-- > 0;) {
		int64_t bucket = bucket_of(points[i].commit_wall_ns, tier->interval_s);
		bool first = i == count - 1;
		if (!first && bucket == before)
			continue;
		bool free = !first && jumps && jumped(bucket, before, tier->interval_s);
		if (!free && left == 0)
			return;
		if (free)
			jumps--, left++; // and one more, because the buckets on both sides may be short ones
		else
			left--;
		points[i].why |= why;
		before = bucket;
	}
}

// Newest first, as long as there are places. A pin is the operator's word: such a point stays, and takes none.
static void places_take(struct retention_point *points, size_t count, bool newest_alone, uint32_t *left)
{
	for (size_t i = count; i-- > 0;) {
		if (points[i].pinned || points[i].why == 0 || (points[i].why == KEPT_NEWEST) != newest_alone)
			continue;
		if (*left)
			--*left;
		else
			points[i].why = 0;
	}
}

// When it is too much, the oldest go of those that are kept for being new alone: how many these are, a source says. Only then, the oldest of the others. The newest
// is the first of every bucket, so it stays.
static void limit_apply(struct retention_point *points, size_t count)
{
	uint32_t left = RETENTION_KEEP_MAX;
	places_take(points, count, false, &left);
	places_take(points, count, true, &left);
}

void retention_apply(const struct retention *policy, struct retention_point *points, size_t count)
{
	const struct retention_tier floor = {.interval_s = HOUR_S, .count = policy->floor_hours};
	for (size_t i = 0; i < count; i++) {
		points[i].why = points[i].pinned ? KEPT_PINNED : 0;
		if (count - i <= policy->points)
			points[i].why |= KEPT_NEWEST;
	}
	if (floor.count)
		tier_apply(&floor, KEPT_FLOOR, points, count);
	for (uint32_t t = 0; t < policy->tier_count; t++)
		tier_apply(&policy->tier[t], KEPT_TIER, points, count);
	limit_apply(points, count);
}

// --- the text ---

static const struct {
	char letter;
	uint32_t seconds;
} units[] = {{'w', 7 * DAY_S}, {'d', DAY_S}, {'h', HOUR_S}, {'m', 60}, {'s', 1}};

// Digits at *at, at most `most`; moves behind them. 0 when there are none, or too much.
static uint32_t number_read(const char **at, uint32_t most)
{
	uint64_t number = 0;
	for (; **at >= '0' && **at <= '9'; (*at)++)
		if (number <= most)
			number = number * 10 + (uint64_t)(**at - '0');
	return number <= most ? (uint32_t)number : 0;
}

static int tier_read(const char **at, struct retention_tier *tier, struct err *err)
{
	uint32_t number = number_read(at, INTERVAL_MAX_S), unit = 0;
	for (size_t i = 0; **at && i < sizeof(units) / sizeof(units[0]); i++)
		if (units[i].letter == **at)
			unit = units[i].seconds;
	if (number == 0 || unit == 0)
		return err_set(err, -EINVAL, "keep: write INTERVAL:COUNT, such as 15m:24,1h:24,1d:14,1w:8");
	uint64_t interval = (uint64_t)number * unit;
	if (interval < INTERVAL_MIN_S || interval > INTERVAL_MAX_S)
		return err_set(err, -EINVAL, "keep: an interval is one minute to 400 days");
	if (*++*at != ':')
		return err_set(err, -EINVAL, "keep: how many are to be kept is missing, as in 15m:24");
	++*at;
	tier->interval_s = (uint32_t)interval;
	tier->count = number_read(at, RETENTION_KEEP_MAX);
	return tier->count ? 0 : err_set(err, -EINVAL, "keep: a count is 1 to %d", RETENTION_KEEP_MAX);
}

int retention_read(const char *text, struct retention *policy, struct err *err)
{
	struct retention next = *policy;
	next.tier_count = 0;
	for (const char *at = text; *at;) {
		if (next.tier_count == RETENTION_TIERS_MAX)
			return err_set(err, -EINVAL, "keep: more than %d tiers", RETENTION_TIERS_MAX);
		int rc = tier_read(&at, &next.tier[next.tier_count], err);
		if (rc)
			return rc;
		next.tier_count++;
		if (*at && (*at != ',' || !at[1]))
			return err_set(err, -EINVAL, "keep: \"%.20s\" makes no sense there; a comma stands between two tiers", at);
		at += *at == ',';
	}
	*policy = next;
	return 0;
}

void retention_format(const struct retention *policy, char text[RETENTION_TEXT_SIZE])
{
	size_t used = 0;
	text[0] = 0;
	for (uint32_t t = 0; t < policy->tier_count; t++) {
		const struct retention_tier *tier = &policy->tier[t];
		size_t u = 0;
		while (tier->interval_s % units[u].seconds)
			u++;
		used += (size_t)snprintf(text + used, RETENTION_TEXT_SIZE - used, "%s%u%c:%u", t ? "," : "",
					 tier->interval_s / units[u].seconds, units[u].letter, tier->count);
	}
}

int retention_distinct(const struct retention *policy, struct err *err)
{
	for (uint32_t t = 0; t < policy->tier_count; t++)
		for (uint32_t other = t + 1; other < policy->tier_count; other++)
			if (policy->tier[t].interval_s == policy->tier[other].interval_s) {
				const struct retention one = {.tier_count = 1, .tier = {policy->tier[other]}};
				char text[RETENTION_TEXT_SIZE];
				retention_format(&one, text);
				return err_set(err, -EINVAL, "keep: a tier before %s has the same interval: give each interval once", text);
			}
	return 0;
}

int retention_check(const struct retention *policy, struct err *err)
{
	uint64_t sum = (uint64_t)policy->points + policy->floor_hours;
	for (uint32_t t = 0; t < policy->tier_count; t++)
		sum += policy->tier[t].count;
	if (policy->points < 1)
		return err_set(err, -EINVAL, "points: at least the newest one is kept");
	if (sum > RETENTION_KEEP_MAX)
		return err_set(err, -EINVAL,
			       "this policy keeps up to %llu points: the newest %u, the floor's %u, and those of the tiers; a chain has at most %d, "
			       "so ask for fewer",
			       (unsigned long long)sum, policy->points, policy->floor_hours, RETENTION_KEEP_MAX);
	return 0;
}
