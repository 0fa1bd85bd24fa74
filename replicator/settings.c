// SPDX-License-Identifier: Apache-2.0
#include "replicator/settings.h"

#include "base/auto.h"
#include "link/control.h"
#include "replicator/planner.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum { SETTINGS_FILE_MAX = 1 << 16 };
#define SETTINGS_FILE "settings.json"

static const char *const priorities[] = {[PRIORITY_NORMAL] = "normal", [PRIORITY_LOW] = "low", [PRIORITY_HIGH] = "high"};

const char *priority_name(enum priority priority)
{
	return priorities[priority];
}

bool priority_read(const char *name, enum priority *ret_priority)
{
	for (unsigned i = 0; i < sizeof(priorities) / sizeof(priorities[0]); i++)
		if (strcmp(priorities[i], name) == 0) {
			*ret_priority = (enum priority)i;
			return true;
		}
	return false;
}

json_t *bandwidth_json(const struct bandwidth *bandwidth)
{
	json_t *rules = json_array();
	for (unsigned i = 0; i < bandwidth->count; i++) {
		char text[BANDWIDTH_TEXT_SIZE];
		bandwidth_rule_format(&bandwidth->rule[i], text);
		(void)json_array_append_new(rules, json_string(text));
	}
	return rules;
}

int bandwidth_from_json(const json_t *rules, struct bandwidth *ret_bandwidth, struct err *err)
{
	struct bandwidth bandwidth = {.count = 0};
	for (size_t i = 0; i < json_array_size(rules); i++) {
		const char *text = json_string_value(json_array_get(rules, i));
		if (i == BANDWIDTH_RULES_MAX)
			return err_set(err, -EINVAL, "bandwidth: at most %d rules", BANDWIDTH_RULES_MAX);
		if (!text)
			return err_set(err, -EINVAL, "bandwidth: rule %zu is no text", i + 1);
		int rc = bandwidth_rule_read(text, &bandwidth.rule[bandwidth.count++], err);
		if (rc)
			return rc;
	}
	*ret_bandwidth = bandwidth;
	return 0;
}

void settings_encode(const struct protection_settings *settings, json_t *object)
{
	char offpeak[BANDWIDTH_TEXT_SIZE];
	bandwidth_window_format(&settings->offpeak, offpeak);
	(void)json_object_set_new(object, "priority", json_string(priority_name(settings->priority)));
	uint64_t ppm = settings->objective_ppm ? settings->objective_ppm : OBJECTIVE_PPM_DEFAULT;
	(void)json_object_set_new(object, "objective_ppm", json_integer((json_int_t)ppm));
	(void)json_object_set_new(object, "offpeak", settings->has_offpeak ? json_string(offpeak) : json_null());
	(void)json_object_set_new(object, "bandwidth", bandwidth_json(&settings->bandwidth));
}

int settings_read(const struct settings_text *text, struct protection_settings *settings, struct err *err)
{
	if (text->priority && !priority_read(text->priority, &settings->priority))
		return err_set(err, -EINVAL, "\"%s\" is not a priority: choose low, normal or high", text->priority);
	if (text->offpeak) {
		settings->has_offpeak = strcasecmp(text->offpeak, "none") != 0;
		int rc = settings->has_offpeak ? bandwidth_window_read(text->offpeak, &settings->offpeak, err) : 0;
		if (rc)
			return rc;
	}
	return text->bandwidth ? bandwidth_from_json(text->bandwidth, &settings->bandwidth, err) : 0;
}

static int decode(const json_t *json, struct agent_settings *ret_settings, struct err *err)
{
	struct agent_settings settings = {.cycles = 0};
	uint64_t version = 0;
	json_t *bandwidth = NULL;
	const struct control_member members[] = {
		{"version", true, .number = &version, .least = 1, .most = 1},
		{"bandwidth", true, .array = &bandwidth, .most = BANDWIDTH_RULES_MAX},
		{"cycles", .number = &settings.cycles, .most = PLANNER_SLOTS_MAX},
		{"syncs", .number = &settings.syncs, .most = PLANNER_SLOTS_MAX},
	};
	int rc = control_read_file(json, members, sizeof(members) / sizeof(members[0]), err);
	if (rc == 0)
		rc = bandwidth_from_json(bandwidth, &settings.bandwidth, err);
	if (rc == 0)
		*ret_settings = settings;
	return rc;
}

int agent_settings_load(struct env_root *state, struct agent_settings *ret_settings, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	json_error_t where;
	*ret_settings = (struct agent_settings){.cycles = 0};
	int rc = env_read_file(state, SETTINGS_FILE, SETTINGS_FILE_MAX, &text, &len);
	if (rc)
		return rc == -ENOENT ? 0 : err_sys(err, rc, "read %s", SETTINGS_FILE);
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	rc = json_is_object(json) ? decode(json, ret_settings, err)
				  : err_set(err, -EBADMSG, "not a JSON object (line %d: %s)", where.line, where.text);
	json_decref(json);
	return rc ? err_wrap(err, "%s (remove it to go on without what was set)", SETTINGS_FILE) : 0;
}

int agent_settings_save(struct env_root *state, const struct agent_settings *settings, struct err *err)
{
	json_t *json = json_pack("{s:i, s:o, s:I, s:I}", "version", 1, "bandwidth", bandwidth_json(&settings->bandwidth), "cycles",
				 (json_int_t)settings->cycles, "syncs", (json_int_t)settings->syncs);
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	json_decref(json);
	int rc = text ? env_replace(state, ".", SETTINGS_FILE, text, strlen(text)) : -ENOMEM;
	return rc ? err_sys(err, rc, "write %s", SETTINGS_FILE) : 0;
}
