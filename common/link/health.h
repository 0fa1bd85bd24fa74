// SPDX-License-Identifier: Apache-2.0
// How well a protection is, in one word, and each reason for it. The only judge of it: both daemons tell its verdict with each protection, and the page, `kagami
// watch` and `kagami status --check` show that. Pure. docs/control.md, "Health".
#ifndef KAGAMI_LINK_HEALTH_H
#define KAGAMI_LINK_HEALTH_H

#include <jansson.h>
#include <stdbool.h>

enum health { HEALTH_OK = 0, HEALTH_WARNING = 1, HEALTH_CRITICAL = 2 }; // the exit status of a monitoring plugin, too
const char *health_name(enum health health);				// "ok"

// The age of the newest point, in percent of the RPO, above which it is worse. The scheduler lets a point become nearly as old as the RPO before the next one
// replaces it: by default what is judged is the promise itself.
struct health_limits {
	unsigned warning, critical;
	bool given; // by whoever looks: it is judged anew, whatever a daemon told
};
extern const struct health_limits health_limits_default; // 100, 100

// Judges an element of "protections" as the replicator (or with `target`, the receiver) tells it. *ret_why: a new array of {"level", "text"}, the worst first.
enum health health_judge(const json_t *protection, bool target, struct health_limits limits, json_t **ret_why);
// Sets its members "health" and "why", by the default limits; when all others are set.
void health_tell(json_t *protection, bool target);

enum { HEALTH_WHY = 640 };
// What a daemon told, or where the limits are others, or it told nothing, what is judged here. `why`: the worst of the reasons, "" when it is well.
enum health health_of(const json_t *protection, bool target, struct health_limits limits, char why[HEALTH_WHY]);

// Each of the reasons, as health_of() by the default limits: a new reference.
json_t *health_why(const json_t *protection, bool target);

// An error of an element of "disks": critical for ten minutes, a warning for a day, and for as long as the agent runs where the disk failed for good.
enum health health_of_disk_error(const json_t *disk);
bool health_pause_waits(const json_t *protection); // it is paused once what is under way has ended

// The age in parts of the RPO; negative where it is not judged: no point yet, or no RPO binds it any more.
double health_age(const json_t *protection);

#endif
