// SPDX-License-Identifier: Apache-2.0
// How well a protection is, as one word and the reason for it: what `kagami status --check` answers and `kagami watch` puts first. Pure.
#ifndef KAGAMI_TOOLS_HEALTH_H
#define KAGAMI_TOOLS_HEALTH_H

#include <jansson.h>
#include <stdbool.h>

enum health { HEALTH_OK = 0, HEALTH_WARNING = 1, HEALTH_CRITICAL = 2 }; // the exit status of a monitoring plugin, too
const char *health_name(enum health health);				// "OK"

struct health_limits { // the age of the newest point, in percent of the RPO, from which it is worse
	unsigned warning, critical;
};
extern const struct health_limits health_limits_default; // 80, 100

enum { HEALTH_WHY = 320 };
// Of an element of "protections" as the replicator (or with `target`, the receiver) tells it. `why`: one line, "" when it is well.
enum health health_of(const json_t *protection, bool target, struct health_limits limits, char why[HEALTH_WHY]);

// The age in parts of the RPO; negative where it is not judged: no point yet, or no RPO binds it any more.
double health_age(const json_t *protection);

#endif
