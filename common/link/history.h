// SPDX-License-Identifier: Apache-2.0
// A ledger as JSON: GET /v1/protections/NAME/history, and the member "rpo" of a protection's status. Both daemons answer alike: docs/rpo.md.
#ifndef KAGAMI_LINK_HISTORY_H
#define KAGAMI_LINK_HISTORY_H

#include "base/err.h"
#include "rpo/cause.h"
#include "rpo/ledger.h"

#include <jansson.h>

// Causes that no RPO cures: advice_of() leaves them out.
enum {
	HISTORY_OUTAGES = 1 << RPO_CAUSE_PAUSED | 1 << RPO_CAUSE_FENCED | 1 << RPO_CAUSE_SOURCE_DOWN | 1 << RPO_CAUSE_TARGET_DOWN | 1 << RPO_CAUSE_SPACE |
			  1 << RPO_CAUSE_SOURCE_ERROR | 1 << RPO_CAUSE_TARGET_ERROR,
};

// "hour", "day", "week"; NULL is a day. -EINVAL with what to say.
int history_window_read(const char *text, enum ledger_window *ret_window, struct err *err);

// New references, NULL when out of memory. The ledger is as of its last tick.
json_t *history_json(const struct ledger *ledger, const char *name, enum ledger_window window);
json_t *history_rpo_json(const struct ledger *ledger);
// How long until the age is the RPO; below 0: for so long it has been above. Null without a point.
json_t *history_deadline_json(const struct ledger *ledger);

// "99.9%", "99.9": the objective, in millionths, from `least` percent on. -EINVAL with what to say, of one that is finer than millionths too.
int history_objective_read(const char *text, unsigned least, uint32_t *ret_ppm, struct err *err);

#endif
