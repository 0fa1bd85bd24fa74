// SPDX-License-Identifier: Apache-2.0
#include "link/history.h"

#include "link/json.h"
#include "rpo/advice.h"

#include <errno.h>
#include <string.h>

#define MS_NS INT64_C(1000000)

int history_window_read(const char *text, enum ledger_window *ret_window, struct err *err)
{
	*ret_window = LEDGER_DAY;
	if (!text)
		return 0;
	for (unsigned i = 0; i < LEDGER_WINDOWS; i++)
		if (strcmp(text, ledger_window_name((enum ledger_window)i)) == 0) {
			*ret_window = (enum ledger_window)i;
			return 0;
		}
	return err_set(err, -EINVAL, "window: \"%.40s\" is none: choose hour, day or week", text);
}

// "99.9" as 999000, and whether digits follow that are lost so. Returns what follows the number; NULL: there is none, or it is above 100.
static const char *read_percent(const char *text, uint64_t *ret_ppm, bool *ret_finer)
{
	const char *at = text;
	uint64_t ppm = 0, unit = LEDGER_PPM / 100;
	for (; *at >= '0' && *at <= '9' && ppm <= LEDGER_PPM; at++)
		ppm = ppm * 10 + (uint64_t)(*at - '0') * unit;
	if (at == text)
		return NULL;
	*ret_finer = false;
	if (*at == '.' && at[1] >= '0' && at[1] <= '9')
		for (at++; *at >= '0' && *at <= '9'; at++) {
			unit /= 10;
			ppm += unit * (uint64_t)(*at - '0');
			*ret_finer |= unit == 0 && *at != '0';
		}
	*ret_ppm = ppm;
	return ppm <= LEDGER_PPM ? at : NULL;
}

int history_objective_read(const char *text, unsigned least, uint32_t *ret_ppm, struct err *err)
{
	uint64_t ppm = 0;
	bool finer = false;
	const char *rest = read_percent(text, &ppm, &finer);
	if (!rest || (strcmp(rest, "") != 0 && strcmp(rest, "%") != 0) || ppm < (uint64_t)least * (LEDGER_PPM / 100) || (finer && ppm == LEDGER_PPM))
		return err_set(err, -EINVAL, "--objective: \"%.40s\" is no part of the time: give %u%% to 100%%, such as 99.9%%", text, least);
	if (finer)
		return err_set(err, -EINVAL, "--objective: %.40s is finer than it is kept: give at most four digits behind the point, such as 99.9999%%", text);
	*ret_ppm = (uint32_t)ppm;
	return 0;
}

static json_t *when_json(const struct ledger *l, int64_t clock_ms)
{
	return json_when(ledger_wall_ms(l, clock_ms) * MS_NS);
}

static json_t *cause_json(const uint64_t by_ms[LEDGER_CAUSES])
{
	unsigned worst = ledger_worst(by_ms);
	return worst == LEDGER_CAUSES ? json_null() : json_string(rpo_cause_name((enum rpo_cause)worst));
}

static json_t *advice_json(const struct ledger *l)
{
	struct advice advice;
	if (!advice_of(l, HISTORY_OUTAGES, &advice))
		return json_null();
	return json_pack("{s:o, s:s}", "rpo_ms", json_count(advice.rpo_ms), "why", advice.why);
}

// Null where nothing was observed.
static json_t *age_json(const struct ledger_summary *sum, uint64_t age_ms)
{
	return sum->observed_ms ? json_count(age_ms) : json_null();
}

static json_t *causes_json(const uint64_t by_ms[LEDGER_CAUSES])
{
	json_t *by = json_object();
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		if (by_ms[i])
			(void)json_object_set_new(by, rpo_cause_name((enum rpo_cause)i), json_count(by_ms[i]));
	return by;
}

// Of a counter: each cause, from the first moment on, so that the first miss for it is seen as one.
static json_t *totals_json(const uint64_t by_ms[LEDGER_CAUSES])
{
	json_t *by = json_object();
	for (unsigned i = RPO_CAUSE_NONE + 1; i < RPO_CAUSES; i++)
		(void)json_object_set_new(by, rpo_cause_name((enum rpo_cause)i), json_count(by_ms[i]));
	return by;
}

static json_t *miss_json(const struct ledger *l, const struct ledger_miss *miss)
{
	return json_pack("{s:o, s:o, s:s, s:o}", "began", when_json(l, miss->began_ms), "ended", miss->open ? json_null() : when_json(l, miss->ended_ms), "cause",
			 rpo_cause_name((enum rpo_cause)miss->cause), "max_age_ms", json_count(miss->max_ms));
}

static json_t *misses_json(const struct ledger *l, int64_t from_ms)
{
	json_t *list = json_array();
	if (l->missing)
		(void)json_array_append_new(list, miss_json(l, &l->miss));
	for (uint64_t serial = l->miss.serial; serial > 0 && json_array_size(list) <= LEDGER_MISSES; serial--) {
		const struct ledger_miss *miss = &l->ended[serial % LEDGER_MISSES];
		if (miss->serial == serial && miss->ended_ms >= from_ms)
			(void)json_array_append_new(list, miss_json(l, miss));
		else if (!l->missing || serial != l->miss.serial)
			break; // older ones are not kept, or before the window
	}
	return list;
}

static json_t *slot_json(const struct ledger *l, const struct ledger_slot *slot, int64_t length_ms)
{
	struct ledger_summary sum;
	ledger_slot_sum(slot, &sum);
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "from", when_json(l, slot->number * length_ms), "observed_ms",
			 json_count(sum.observed_ms), "unobserved_ms", json_count(sum.unobserved_ms), "missed_ms", json_count(sum.missed_ms), "max_ms",
			 age_json(&sum, sum.max_ms), "p50_ms", age_json(&sum, sum.p50_ms), "rpo_ms", json_count(slot->rpo_ms), "points", json_count(sum.points),
			 "dirty_bytes", json_count(sum.dirty_bytes), "wire_bytes", json_count(sum.wire_bytes), "cause", cause_json(sum.missed_by_ms));
}

static json_t *slots_json(const struct ledger *l, enum ledger_window window, const struct ledger_summary *sum)
{
	enum ledger_scale scale = ledger_window_scale(window);
	int64_t length = ledger_slot_length_ms(scale);
	json_t *list = json_array();
	for (int64_t number = sum->from_ms / length; number <= sum->to_ms / length; number++) {
		const struct ledger_slot *slot = ledger_slot_at(l, scale, number);
		if (slot && (slot->observed_ms || slot->unobserved_ms || slot->points))
			(void)json_array_append_new(list, slot_json(l, slot, length));
	}
	return list;
}

json_t *history_json(const struct ledger *l, const char *name, enum ledger_window window)
{
	struct ledger_summary sum;
	ledger_sum(l, window, &sum);
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o}, s:o, s:o, s:o, s:f, s:o, s:I, s:o, s:o, s:o, s:o}", "name", name, "rpo_ms",
			 json_count(l->rpo_ms), "window", ledger_window_name(window), "from", when_json(l, sum.from_ms), "to", when_json(l, sum.to_ms), "slot_ms",
			 json_count((uint64_t)ledger_slot_length_ms(ledger_window_scale(window))), "age", "current_ms",
			 l->has_point ? json_count(ledger_age_ms(l)) : json_null(), "p50_ms", age_json(&sum, sum.p50_ms), "p99_ms", age_json(&sum, sum.p99_ms),
			 "max_ms", age_json(&sum, sum.max_ms), "observed_ms", json_count(sum.observed_ms), "missed_ms", json_count(sum.missed_ms), "unobserved_ms",
			 json_count(sum.unobserved_ms), "objective", (double)l->objective_ppm / LEDGER_PPM, "budget_ms", json_count(ledger_budget_ms(l)),
			 "budget_left_ms", (json_int_t)ledger_budget_left_ms(l), "missed_by", causes_json(sum.missed_by_ms), "misses", misses_json(l, sum.from_ms), "advice",
			 advice_json(l), "slots", slots_json(l, window, &sum));
}

static json_t *window_json(const struct ledger *l, enum ledger_window window)
{
	struct ledger_summary sum;
	ledger_sum(l, window, &sum);
	return json_pack("{s:o, s:o, s:o}", "p50_ms", age_json(&sum, sum.p50_ms), "p99_ms", age_json(&sum, sum.p99_ms), "max_ms", age_json(&sum, sum.max_ms));
}

json_t *history_rpo_json(const struct ledger *l)
{
	json_t *missing = l->missing ? json_string(rpo_cause_name((enum rpo_cause)l->miss.cause)) : json_null();
	return json_pack("{s:o, s:{s:o, s:o, s:o}, s:f, s:o, s:I, s:o, s:o}", "missed_total_ms", totals_json(l->total_missed_ms), "age", "hour", window_json(l, LEDGER_HOUR), "day", window_json(l, LEDGER_DAY), "week",
			 window_json(l, LEDGER_WEEK), "objective", (double)l->objective_ppm / LEDGER_PPM, "budget_ms", json_count(ledger_budget_ms(l)),
			 "budget_left_ms", (json_int_t)ledger_budget_left_ms(l), "missing", missing, "advice", advice_json(l));
}

json_t *history_deadline_json(const struct ledger *l)
{
	return l->has_point ? json_integer((json_int_t)l->rpo_ms - (json_int_t)ledger_age_ms(l)) : json_null();
}
