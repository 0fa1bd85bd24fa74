// SPDX-License-Identifier: Apache-2.0
#include "link/health.h"

#include "base/size.h"
#include "link/json.h"
#include "rpo/advice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MINUTE_MS = 60000, ERROR_FRESH_MS = 10 * MINUTE_MS, ERROR_OLD_MS = 24 * 60 * MINUTE_MS };

const struct health_limits health_limits_default = {.warning = 100, .critical = 100};

const char *health_name(enum health health)
{
	static const char *const names[] = {"ok", "warning", "critical"};
	return names[health];
}

// --- members of a status; what is missing, null or of another type is "", 0 or false ---

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

static uint64_t number_of(const json_t *object, const char *name)
{
	json_int_t number = json_integer_value(json_object_get(object, name));
	return number > 0 ? (uint64_t)number : 0;
}

static bool has(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	return value && !json_is_null(value);
}

struct duration {
	char text[32];
};

static struct duration duration_of(const json_t *object, const char *name)
{
	struct duration duration = {""};
	advice_duration(number_of(object, name), duration.text);
	return duration;
}

// --- the verdict ---

struct verdict {
	enum health health;
	json_t *why; // what is critical, then what is a warning, each in the order in which it was found
	size_t critical;
};

// One that another reason, no lesser, says as a part of it is not said twice.
static bool is_said(const struct verdict *verdict, enum health health, const char *text)
{
	size_t count = health == HEALTH_CRITICAL ? verdict->critical : json_array_size(verdict->why);
	for (size_t i = 0; i < count; i++)
		if (strstr(text_of(json_array_get(verdict->why, i), "text"), text))
			return true;
	return false;
}

static void say(struct verdict *verdict, enum health health, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(struct verdict *verdict, enum health health, const char *fmt, ...)
{
	char text[HEALTH_WHY];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (health > verdict->health)
		verdict->health = health;
	if (is_said(verdict, health, text))
		return;
	size_t at = health == HEALTH_CRITICAL ? verdict->critical++ : json_array_size(verdict->why);
	(void)json_array_insert_new(verdict->why, at, json_pack("{s:s, s:o}", "level", health_name(health), "text", json_text(text)));
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
	const char *state = text_of(protection, "state");
	uint64_t rpo = number_of(protection, "rpo_ms");
	static const char *const unbound[] = {"failed-over", "fenced", "unprotected", "ending"};
	if (!has(protection, "age_ms") || rpo == 0 || one_of(state, unbound, COUNT(unbound)) ||
	    json_is_true(json_object_get(protection, "fenced"))) // of a replica that is failed over and broken, too
		return -1;
	return (double)number_of(protection, "age_ms") / (double)rpo;
}

static void judge_age(const json_t *protection, struct health_limits limits, struct verdict *verdict)
{
	const char *state = text_of(protection, "state");
	double age = health_age(protection);
	if (age < 0)
		return;
	bool critical = age * 100 > limits.critical, warning = age * 100 > limits.warning;
	const char *reason = text_of(protection, "reason");
	if (!*reason) // then what the time is booked to
		reason = text_of(json_object_get(protection, "rpo"), "missing");
	if (strcmp(reason, "source-down") == 0 && strcmp(state, "connected") == 0)
		reason = "source-down: its source was away for most of that time, and is connected now";
	else if (strcmp(reason, "source-down") == 0 && has(protection, "source_paused")) // only a receiver tells of the latter
		reason = "source-down: look at the source, or, if it was unprotected there for good, forget its replica (`kagami forget`)";
	if (critical || warning)
		say(verdict, critical ? HEALTH_CRITICAL : HEALTH_WARNING, "the newest point is %s old, %.0f%% of the RPO of %s%s%.480s",
		    duration_of(protection, "age_ms").text, age * 100, duration_of(protection, "rpo_ms").text, *reason ? ": " : "", reason);
}

// The point to come: of one that is too old already it is said how old it is. What is less than a twentieth of the RPO beyond it is within what a forecast errs by.
static void judge_next(const json_t *protection, struct health_limits limits, struct verdict *verdict)
{
	double age = health_age(protection), rpo = (double)number_of(protection, "rpo_ms");
	unsigned bound = limits.warning > 100 ? limits.warning : 100;
	if (age < 0 || age * 100 > bound || !has(protection, "next_point_in_ms"))
		return;
	double then = age + (double)number_of(protection, "next_point_in_ms") / rpo;
	if (then * 100 > bound + 5)
		say(verdict, HEALTH_WARNING, "the next point is expected in %s: by then the newest one is %.0f%% of the RPO of %s old",
		    duration_of(protection, "next_point_in_ms").text, then * 100, duration_of(protection, "rpo_ms").text);
}

static void judge_budget(const json_t *protection, struct verdict *verdict)
{
	json_int_t left_ms = json_integer_value(json_object_get(json_object_get(protection, "rpo"), "budget_left_ms"));
	char over[32];
	if (health_age(protection) < 0 || left_ms >= 0)
		return;
	advice_duration((uint64_t)-left_ms, over);
	say(verdict, HEALTH_WARNING, "the RPO was missed for %s more in a week than the objective allows: `kagami history %.64s` says when and why", over,
	    text_of(protection, "name"));
}

enum health health_of_disk_error(const json_t *disk)
{
	if (!text_of(disk, "error")[0])
		return HEALTH_OK;
	if (json_is_true(json_object_get(disk, "failed")) || !has(disk, "error_ms_ago")) // the latter: by a daemon that tells no more of it
		return HEALTH_CRITICAL;
	uint64_t ago_ms = number_of(disk, "error_ms_ago");
	return ago_ms < ERROR_FRESH_MS ? HEALTH_CRITICAL : ago_ms < ERROR_OLD_MS ? HEALTH_WARNING : HEALTH_OK;
}

// In whole minutes: a monitor's text that changes with each look is read by nobody.
static struct duration ago(uint64_t ms)
{
	struct duration of = {"within a minute"};
	if (ms >= MINUTE_MS) {
		advice_duration(ms - ms % MINUTE_MS, of.text);
		(void)strncat(of.text, " ago", sizeof(of.text) - strlen(of.text) - 1);
	}
	return of;
}

static void judge_error(const json_t *disk, const char *name, struct verdict *verdict)
{
	enum health health = health_of_disk_error(disk);
	uint64_t count = number_of(disk, "errors");
	if (health == HEALTH_OK)
		return;
	if (json_is_true(json_object_get(disk, "failed")))
		say(verdict, health,
		    "disk %s failed, no flush of it is promised until its guest is shut down, its storage repaired (if it must be mounted anew, with the replicator stopped), and "
		    "`kagami clear-error` given: %.380s",
		    name, text_of(disk, "error"));
	else if (count > 1)
		say(verdict, health, "disk %s: %" PRIu64 " errors, the last one %s: %.440s", name, count, ago(number_of(disk, "error_ms_ago")).text, text_of(disk, "error"));
	else
		say(verdict, health, "disk %s: %.480s", name, text_of(disk, "error"));
}

static void judge_disks(const json_t *protection, struct verdict *verdict)
{
	const json_t *disk;
	size_t i;
	json_array_foreach(json_object_get(protection, "disks"), i, disk) {
		const char *name = text_of(disk, "name");
		judge_error(disk, name, verdict);
		if (text_of(disk, "silent")[0])
			say(verdict, HEALTH_WARNING, "disk %s: %.480s", name, text_of(disk, "silent"));
		if (json_is_true(json_object_get(disk, "tracking_lost")))
			say(verdict, HEALTH_WARNING, "disk %s: its tracking is lost: %.480s", name, text_of(disk, "tracking_error"));
		if (text_of(disk, "holes_disbelieved")[0])
			say(verdict, HEALTH_WARNING, "disk %s: no hole of it is believed: %.480s", name, text_of(disk, "holes_disbelieved"));
	}
}

// Guests go on, and what they write is gone with the process.
static void judge_places(const json_t *protection, struct verdict *verdict)
{
	const json_t *disk;
	size_t i;
	json_array_foreach(json_object_get(protection, "disks"), i, disk)
		if (text_of(disk, "displaced")[0])
			say(verdict, HEALTH_CRITICAL, "disk %s: %.500s", text_of(disk, "name"), text_of(disk, "displaced"));
}

bool health_pause_waits(const json_t *protection)
{
	static const char *const under_way[] = {"syncing", "cutting", "shipping", "committing"};
	return json_is_true(json_object_get(protection, "paused")) && one_of(text_of(protection, "state"), under_way, COUNT(under_way));
}

static void judge_source(const json_t *protection, struct verdict *verdict)
{
	static const char *const bad[] = {"failed", "version-mismatch"};
	static const char *const poor[] = {"paused", "fenced", "target-down", "target-slow", "target-full", "quota-reached"};
	const char *state = text_of(protection, "state"), *reason = text_of(protection, "reason");
	if (one_of(state, bad, COUNT(bad)))
		say(verdict, HEALTH_CRITICAL, "%s: %.480s", state, reason);
	judge_disks(protection, verdict);
	judge_places(protection, verdict);
	if (health_pause_waits(protection))
		say(verdict, HEALTH_WARNING, "paused as soon as what is under way has ended (%s)%s%.480s", state, *reason ? ": " : "", reason);
	if (one_of(state, poor, COUNT(poor)))
		say(verdict, HEALTH_WARNING, "%s%s%.480s", state, *reason ? ": " : "", reason);
	if (text_of(protection, "state_silent")[0])
		say(verdict, HEALTH_WARNING, "%.480s", text_of(protection, "state_silent"));
	if (text_of(protection, "short_of")[0])
		say(verdict, HEALTH_WARNING, "%.480s", text_of(protection, "short_of"));
	if (has(protection, "needs_sync"))
		say(verdict, HEALTH_WARNING, "needs a sync at the next start: %.480s", text_of(protection, "needs_sync"));
}

// The words without what is free: that changes with each look.
static void judge_space(const json_t *replica, struct verdict *verdict)
{
	uint64_t free_bytes = number_of(replica, "store_free_bytes"), takes = number_of(replica, "failover_bytes"), reserve = number_of(replica, "store_reserve_bytes");
	if (!has(replica, "store_free_bytes"))
		return;
	bool over = strcmp(text_of(replica, "state"), "failed-over") == 0 || json_is_object(json_object_get(replica, "failover"));
	if (over && free_bytes < reserve) { // no point is to come; a guest writes there
		say(verdict, HEALTH_CRITICAL, "failed over, and the target's store has less free than its reserve of %llu MiB: once that is full, its virtual machine's writes will fail: "
					      "free space there", (unsigned long long)reserve >> 20);
		return;
	}
	if (free_bytes < takes)
		say(verdict, HEALTH_CRITICAL, "the target's store has no room for a failover, which takes %llu KiB: free space there", (unsigned long long)takes >> 10);
	else if (free_bytes < reserve)
		say(verdict, HEALTH_WARNING, "the target's store has less free than its reserve of %llu MiB, and takes no new point: free space there",
		    (unsigned long long)reserve >> 20);
}

static void judge_target(const json_t *replica, struct verdict *verdict)
{
	const char *state = text_of(replica, "state"), *reason = text_of(replica, "reason");
	const json_t *verify, *scrub = json_object_get(replica, "scrub");
	size_t i;
	if (strcmp(state, "broken") == 0)
		say(verdict, HEALTH_CRITICAL, "broken: %.480s", reason);
	if (has(replica, "store_displaced"))
		say(verdict, HEALTH_CRITICAL, "%.500s", text_of(replica, "store_displaced"));
	const json_t *failover = json_object_get(replica, "failover");
	const char *record = text_of(failover, "record_error");
	if (*record) // of one that is final nobody throws the disks away
		say(verdict, json_is_true(json_object_get(failover, "final")) ? HEALTH_WARNING : HEALTH_CRITICAL, "failed over, and the record of that does not read, its disks are there: %.480s", record);
	json_array_foreach(json_object_get(replica, "verifications"), i, verify)
		if (number_of(verify, "damaged_blocks"))
			say(verdict, HEALTH_CRITICAL, "point %llu, which is in use, has damaged blocks%s%.480s", (unsigned long long)number_of(verify, "point"),
			    text_of(verify, "reason")[0] ? ": " : "", text_of(verify, "reason"));
	if (*text_of(replica, "test_error"))
		say(verdict, HEALTH_WARNING, "%.480s", text_of(replica, "test_error"));
	uint64_t damaged = number_of(scrub, "damaged_blocks");
	if (damaged)
		say(verdict, HEALTH_CRITICAL, "%llu block%s %s damaged%s%.480s", (unsigned long long)damaged, PLURAL(damaged), ARE(damaged), *reason ? ": " : "", reason);
	judge_space(replica, verdict);
	if (strcmp(state, "disconnected") == 0)
		say(verdict, HEALTH_WARNING, "the source is not connected");
}

enum { START_MS = 5000 }; // a start's own time
enum { END_MS = 30000 };  // an end's, where nothing of it is known to hang

// Of one that starts nothing else is known yet: that it goes on starting is what is wrong, and from the RPO on as much so as a point that is too old.
static void judge_start(const json_t *protection, struct health_limits limits, struct verdict *verdict)
{
	uint64_t ms = number_of(protection, "starting_ms"), rpo = number_of(protection, "rpo_ms");
	if (ms > START_MS)
		say(verdict, rpo && (double)ms * 100 > (double)rpo * limits.critical ? HEALTH_CRITICAL : HEALTH_WARNING, "has been starting for %s: %.480s",
		    duration_of(protection, "starting_ms").text, text_of(protection, "reason"));
}

static bool a_disk_is_silent(const json_t *protection)
{
	const json_t *disk;
	size_t i;
	json_array_foreach(json_object_get(protection, "disks"), i, disk)
		if (text_of(disk, "silent")[0])
			return true;
	return false;
}

// Nothing more comes of one that ends: only what keeps it is wrong. A try to reach a receiver that is away may do so for a moment, and is none of its disks'.
static void judge_end(const json_t *protection, struct verdict *verdict)
{
	bool hangs = text_of(protection, "state_silent")[0] || a_disk_is_silent(protection);
	if (number_of(protection, "ending_ms") > (hangs ? START_MS : END_MS))
		say(verdict, HEALTH_WARNING, "has been ending for %s: %.480s", duration_of(protection, "ending_ms").text, text_of(protection, "reason"));
}

enum health health_judge(const json_t *protection, bool target, struct health_limits limits, json_t **ret_why)
{
	struct verdict verdict = {.why = json_array()};
	const char *reason = text_of(protection, "reason");
	*ret_why = verdict.why;
	if (has(protection, "starting_ms")) {
		judge_start(protection, limits, &verdict);
		return verdict.health;
	}
	if (has(protection, "ending_ms")) {
		judge_end(protection, &verdict);
		return verdict.health;
	}
	judge_age(protection, limits, &verdict);
	judge_next(protection, limits, &verdict);
	judge_budget(protection, &verdict);
	if (target)
		judge_target(protection, &verdict);
	else
		judge_source(protection, &verdict);
	bool over = strcmp(text_of(protection, "state"), "unprotected") == 0; // none is to come
	if (!over && !has(protection, target ? "last_point" : "age_ms") && !has(protection, "point") && !json_is_false(json_object_get(protection, "point_known")))
		say(&verdict, HEALTH_WARNING, "there is no point yet");
	if (*reason)
		say(&verdict, HEALTH_WARNING, "%.480s", reason);
	return verdict.health;
}

void health_tell(json_t *protection, bool target)
{
	json_t *why;
	if (!protection)
		return;
	enum health health = health_judge(protection, target, health_limits_default, &why);
	(void)json_object_set_new(protection, "health", json_string(health_name(health)));
	(void)json_object_set_new(protection, "why", why);
}

static bool told(const json_t *protection, enum health *ret_health)
{
	const char *health = text_of(protection, "health");
	for (unsigned h = HEALTH_OK; h <= HEALTH_CRITICAL; h++)
		if (strcmp(health, health_name((enum health)h)) == 0) {
			*ret_health = (enum health)h;
			return true;
		}
	return false;
}

enum health health_of(const json_t *protection, bool target, struct health_limits limits, char why[HEALTH_WHY])
{
	enum health health;
	json_t *judged = NULL;
	const json_t *reasons = json_object_get(protection, "why");
	if (limits.given || !told(protection, &health)) {
		health = health_judge(protection, target, limits, &judged);
		reasons = judged;
	}
	(void)snprintf(why, HEALTH_WHY, "%s", text_of(json_array_get(reasons, 0), "text"));
	json_decref(judged);
	return health;
}

json_t *health_why(const json_t *protection, bool target)
{
	enum health health;
	json_t *why = json_incref(json_object_get(protection, "why"));
	if (json_is_array(why) && told(protection, &health))
		return why;
	json_decref(why);
	(void)health_judge(protection, target, health_limits_default, &why);
	return why;
}
