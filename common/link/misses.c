// SPDX-License-Identifier: Apache-2.0
#include "link/misses.h"

#include "link/events.h"
#include "link/json.h"
#include "rpo/advice.h"
#include "rpo/cause.h"

struct misses misses_of(const struct ledger *ledger)
{
	return (struct misses){ledger->miss.serial, ledger->misses_ended};
}

static void missed_emit(const char *protection, const struct ledger *ledger)
{
	char age[32], rpo[32];
	const char *cause = rpo_cause_name((enum rpo_cause)ledger->miss.cause);
	advice_duration(ledger->miss.max_ms, age);
	advice_duration(ledger->rpo_ms, rpo);
	event_emit(EVENT_CRITICAL, "rpo-missed", protection,
		   json_pack("{s:o, s:o, s:s, s:o}", "age_ms", json_count(ledger->miss.max_ms), "rpo_ms", json_count(ledger->rpo_ms), "cause", cause, "point",
			     json_count(ledger->point)),
		   "the newest point of %s is %s old, its objective is %s: %s", protection, age, rpo, cause);
}

static void kept_emit(const char *protection, const struct ledger *ledger)
{
	const struct ledger_miss *miss = &ledger->ended[ledger->miss.serial % LEDGER_MISSES];
	char lasted[32];
	const char *cause = rpo_cause_name((enum rpo_cause)miss->cause);
	advice_duration((uint64_t)(miss->ended_ms - miss->began_ms), lasted);
	event_emit(EVENT_INFO, "rpo-kept", protection,
		   json_pack("{s:o, s:s, s:o}", "missed_ms", json_count((uint64_t)(miss->ended_ms - miss->began_ms)), "cause", cause, "max_age_ms",
			     json_count(miss->max_ms)),
		   ledger->has_point ? "%s is within its objective again; it was missed for %s: %s" : "no point of %s is bound by an objective any more; it was missed for %s: %s", protection, lasted,
		   cause);
}

void misses_emit(const char *protection, const struct ledger *ledger, struct misses before)
{
	if (ledger->miss.serial > before.begun)
		missed_emit(protection, ledger);
	if (ledger->misses_ended > before.ended)
		kept_emit(protection, ledger);
}
