// SPDX-License-Identifier: Apache-2.0
#include "tools/health.h"

#include "base/size.h"
#include "tools/show.h"

#include <stdarg.h>
#include <string.h>

const struct health_limits health_limits_default = {.warning = 80, .critical = 100};

struct verdict {
	enum health health;
	char *why;
};

const char *health_name(enum health health)
{
	static const char *const names[] = {"OK", "WARNING", "CRITICAL"};
	return names[health];
}

// Of several reasons the worst is told, and of equals the first.
static void worse(struct verdict *verdict, enum health health, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void worse(struct verdict *verdict, enum health health, const char *fmt, ...)
{
	va_list ap;
	if (health <= verdict->health)
		return;
	verdict->health = health;
	va_start(ap, fmt);
	(void)vsnprintf(verdict->why, HEALTH_WHY, fmt, ap);
	va_end(ap);
}

static bool one_of(const char *state, const char *const *states, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(state, states[i]) == 0)
			return true;
	return false;
}

double health_age(const json_t *protection)
{
	const char *state = show_text_of(protection, "state");
	uint64_t rpo = show_number_of(protection, "rpo_ms");
	if (!show_has(protection, "age_ms") || rpo == 0 || strcmp(state, "failed-over") == 0 || strcmp(state, "fenced") == 0)
		return -1;
	return (double)show_number_of(protection, "age_ms") / (double)rpo;
}

static void judge_age(const json_t *protection, struct health_limits limits, struct verdict *verdict)
{
	double age = health_age(protection);
	if (age < 0)
		return;
	bool critical = age * 100 > limits.critical, warning = age * 100 > limits.warning;
	const char *reason = show_text_of(protection, "reason");
	if (!*reason) // then what the time is booked to
		reason = show_text_of(json_object_get(protection, "rpo"), "missing");
	if (critical || warning)
		worse(verdict, critical ? HEALTH_CRITICAL : HEALTH_WARNING, "the newest point is %s old, %.0f%% of the RPO of %s%s%.150s",
		      show_duration_of(protection, "age_ms").text, age * 100, show_duration_of(protection, "rpo_ms").text, *reason ? ": " : "",
		      reason);
}

static void judge_disks(const json_t *protection, struct verdict *verdict)
{
	const json_t *disk;
	size_t i;
	json_array_foreach(json_object_get(protection, "disks"), i, disk) {
		if (show_text_of(disk, "error")[0])
			worse(verdict, HEALTH_CRITICAL, "disk %s: %.200s", show_text_of(disk, "name"), show_text_of(disk, "error"));
		if (show_flag_of(disk, "tracking_lost"))
			worse(verdict, HEALTH_WARNING, "disk %s: its tracking is lost: %.200s", show_text_of(disk, "name"),
			      show_text_of(disk, "tracking_error"));
	}
}

static void judge_source(const json_t *protection, struct verdict *verdict)
{
	static const char *const bad[] = {"failed", "version-mismatch"};
	static const char *const poor[] = {"paused", "fenced", "target-down", "target-slow", "target-full", "quota-reached"};
	const char *state = show_text_of(protection, "state"), *reason = show_text_of(protection, "reason");
	if (one_of(state, bad, COUNT(bad)))
		worse(verdict, HEALTH_CRITICAL, "%s: %.250s", state, reason);
	judge_disks(protection, verdict);
	if (one_of(state, poor, COUNT(poor)))
		worse(verdict, HEALTH_WARNING, "%s%s%.250s", state, *reason ? ": " : "", reason);
	if (show_has(protection, "needs_sync"))
		worse(verdict, HEALTH_WARNING, "needs a sync at the next start: %.200s", show_text_of(protection, "needs_sync"));
	if (!show_has(protection, "age_ms"))
		worse(verdict, HEALTH_WARNING, "there is no point yet");
	if (*reason)
		worse(verdict, HEALTH_WARNING, "%.300s", reason);
}

static void judge_target(const json_t *replica, struct verdict *verdict)
{
	const char *state = show_text_of(replica, "state"), *reason = show_text_of(replica, "reason");
	const json_t *verify;
	size_t i;
	if (strcmp(state, "broken") == 0)
		worse(verdict, HEALTH_CRITICAL, "broken: %.250s", reason);
	json_array_foreach(json_object_get(replica, "verifications"), i, verify)
		if (show_number_of(verify, "damaged_blocks"))
			worse(verdict, HEALTH_CRITICAL, "point %s, which is in use, has damaged blocks", show_integer_of(verify, "point").text);
	if (show_number_of(json_object_get(replica, "scrub"), "damaged_blocks"))
		worse(verdict, HEALTH_CRITICAL, "%s blocks are damaged%s%.200s",
		      show_integer_of(json_object_get(replica, "scrub"), "damaged_blocks").text, *reason ? ": " : "", reason);
	if (strcmp(state, "disconnected") == 0)
		worse(verdict, HEALTH_WARNING, "the source is not connected");
	if (!show_has(replica, "last_point"))
		worse(verdict, HEALTH_WARNING, "there is no point yet");
	if (*reason)
		worse(verdict, HEALTH_WARNING, "%.300s", reason);
}

enum health health_of(const json_t *protection, bool target, struct health_limits limits, char why[HEALTH_WHY])
{
	struct verdict verdict = {HEALTH_OK, why};
	why[0] = 0;
	judge_age(protection, limits, &verdict);
	if (target)
		judge_target(protection, &verdict);
	else
		judge_source(protection, &verdict);
	return verdict.health;
}
