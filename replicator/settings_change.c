// SPDX-License-Identifier: Apache-2.0
#include "replicator/settings_change.h"

#include "base/size.h"
#include "rpo/advice.h"

#include <stdio.h>
#include <string.h>

// How a value is written for whoever reads the event.

enum { VALUE_SIZE = 160, PPM_OF_PERCENT = 10000 };

static void write_duration(const json_t *value, char text[VALUE_SIZE])
{
	char duration[32];
	advice_duration((uint64_t)json_integer_value(value), duration);
	(void)snprintf(text, VALUE_SIZE, "%s", duration);
}

static void write_percent(const json_t *value, char text[VALUE_SIZE])
{
	(void)snprintf(text, VALUE_SIZE, "%.7g%%", (double)json_integer_value(value) / PPM_OF_PERCENT);
}

static void write_text(const json_t *value, char text[VALUE_SIZE])
{
	const char *is = json_string_value(value);
	(void)snprintf(text, VALUE_SIZE, "%s", is ? is : "none");
}

static void write_rules(const json_t *rules, char text[VALUE_SIZE])
{
	size_t used = 0, i;
	const json_t *rule;
	(void)snprintf(text, VALUE_SIZE, "unlimited");
	json_array_foreach(rules, i, rule) {
		if (used + strlen(json_string_value(rule)) + sizeof("; ...") >= VALUE_SIZE) {
			(void)snprintf(text + used, VALUE_SIZE - used, "; ...");
			return;
		}
		used += (size_t)snprintf(text + used, VALUE_SIZE - used, "%s%s", i ? "; " : "", json_string_value(rule));
	}
}

static void write_slots(const json_t *value, char text[VALUE_SIZE])
{
	if (json_integer_value(value))
		(void)snprintf(text, VALUE_SIZE, "%lld", (long long)json_integer_value(value));
	else
		(void)snprintf(text, VALUE_SIZE, "default");
}

static const struct shown {
	const char *member, *name;
	void (*write)(const json_t *value, char text[VALUE_SIZE]);
} shown[] = {
	{"rpo_ms", "RPO", write_duration},
	{"priority", "priority", write_text},
	{"objective_ppm", "objective", write_percent},
	{"offpeak", "off-peak window", write_text},
	{"bandwidth", "bandwidth", write_rules},
	{"cycles", "cycles at once", write_slots},
	{"syncs", "syncs at once", write_slots},
};

static void tell(const struct shown *of, const json_t *was, const json_t *is, char text[SETTINGS_CHANGE_SIZE])
{
	char before[VALUE_SIZE], now[VALUE_SIZE];
	size_t used = strlen(text);
	of->write(was, before);
	of->write(is, now);
	(void)snprintf(text + used, SETTINGS_CHANGE_SIZE - used, "%s%s %s (was %s)", used ? ", " : "", of->name, now, before);
}

// Takes over both.
static json_t *differences(json_t *was, json_t *is, char text[SETTINGS_CHANGE_SIZE])
{
	text[0] = 0;
	for (size_t i = 0; i < COUNT(shown); i++) {
		json_t *before = json_object_get(was, shown[i].member), *now = json_object_get(is, shown[i].member);
		if (before && now && !json_equal(before, now)) {
			tell(&shown[i], before, now, text);
			continue;
		}
		(void)json_object_del(was, shown[i].member);
		(void)json_object_del(is, shown[i].member);
	}
	if (text[0])
		return json_pack("{s:o, s:o}", "was", was, "is", is);
	json_decref(was);
	json_decref(is);
	return NULL;
}

static json_t *whole(const struct protection_settings *settings)
{
	json_t *json = json_pack("{s:I}", "rpo_ms", (json_int_t)settings->rpo_ms);
	settings_encode(settings, json);
	return json;
}

json_t *settings_change(const struct protection_settings *was, const struct protection_settings *is, char text[SETTINGS_CHANGE_SIZE])
{
	return differences(whole(was), whole(is), text);
}

static json_t *agent_whole(const struct agent_settings *settings)
{
	return json_pack("{s:o, s:I, s:I}", "bandwidth", bandwidth_json(&settings->bandwidth), "cycles", (json_int_t)settings->cycles, "syncs",
			 (json_int_t)settings->syncs);
}

json_t *agent_settings_change(const struct agent_settings *was, const struct agent_settings *is, char text[SETTINGS_CHANGE_SIZE])
{
	return differences(agent_whole(was), agent_whole(is), text);
}
