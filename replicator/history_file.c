// SPDX-License-Identifier: Apache-2.0
// The file of a dirty history: docs/format-state.md.
#include "replicator/history.h"

#include "base/auto.h"
#include "base/names.h"
#include "link/control.h"
#include "link/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { HISTORY_FILE_MAX = 1 << 14, HISTORY_PATH_SIZE = NAME_SIZE + 40, PPM_MOST = 1000000000 };

static void file_path(const char *protection, char dir[HISTORY_PATH_SIZE], char path[HISTORY_PATH_SIZE])
{
	(void)snprintf(dir, HISTORY_PATH_SIZE, "protections/%s", protection);
	(void)snprintf(path, HISTORY_PATH_SIZE, "protections/%s/history.json", protection);
}

// The cycle is a member of its own kind: taken out first.
static int last_decode(json_t *json, struct last_cycle *ret_last, struct err *err)
{
	const json_t *last = json_object_get(json, "last_cycle");
	int rc = last ? last_cycle_decode(last, ret_last, err) : 0;
	(void)json_object_del(json, "last_cycle");
	return rc ? err_wrap(err, "last_cycle") : 0;
}

static int decode(json_t *json, struct history *ret_history, struct last_cycle *ret_last, struct err *err)
{
	struct history h;
	struct last_cycle last;
	uint64_t version = 0;
	json_t *stretches = NULL;
	memset(&h, 0, sizeof(h));
	memset(&last, 0, sizeof(last));
	int rc = last_decode(json, &last, err);
	if (rc)
		return rc;
	const struct control_member members[] = {
		{"version", true, .number = &version, .least = 1, .most = 1},
		{"cycles", true, .number = &h.cycles, .most = INT64_MAX},
		{"wire_ppm", true, .number = &h.wire_ppm, .most = PPM_MOST},
		{"marked_ppm", true, .number = &h.marked_ppm, .most = PPM_MOST},
		{"stretches", true, .array = &stretches, .least = HISTORY_STRETCHES, .most = HISTORY_STRETCHES},
	};
	rc = control_read_file(json, members, sizeof(members) / sizeof(members[0]), err);
	for (unsigned i = 0; i < HISTORY_STRETCHES && rc == 0; i++) {
		struct history_stretch *s = &h.stretch[i];
		const struct control_member of_one[] = {
			{"samples", true, .number = &s->samples, .most = INT64_MAX},
			{"mean_bytes", true, .number = &s->mean_bytes, .most = INT64_MAX},
			{"most_bytes", true, .number = &s->most_bytes, .most = INT64_MAX},
		};
		rc = control_read_file(json_array_get(stretches, i), of_one, 3, err);
	}
	if (rc)
		return rc;
	*ret_history = h;
	*ret_last = last;
	return 0;
}

int history_load(struct env_root *state, const char *protection, struct history *ret_history, struct last_cycle *ret_last, struct err *err)
{
	char dir[HISTORY_PATH_SIZE], path[HISTORY_PATH_SIZE];
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	json_error_t where;
	memset(ret_history, 0, sizeof(*ret_history));
	memset(ret_last, 0, sizeof(*ret_last));
	file_path(protection, dir, path);
	int rc = env_read_file(state, path, HISTORY_FILE_MAX, &text, &len);
	if (rc)
		return rc == -ENOENT ? 0 : err_sys(err, rc, "read %s", path);
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	rc = json_is_object(json) ? decode(json, ret_history, ret_last, err)
				  : err_set(err, -EBADMSG, "not a JSON object (line %d: %s)", where.line, where.text);
	json_decref(json);
	return rc ? err_wrap(err, "%s", path) : 0;
}

int history_save(struct env_root *state, const char *protection, const struct history *history, const struct last_cycle *last, struct err *err)
{
	char dir[HISTORY_PATH_SIZE], path[HISTORY_PATH_SIZE];
	file_path(protection, dir, path);
	json_t *stretches = json_array();
	for (unsigned i = 0; i < HISTORY_STRETCHES; i++) {
		const struct history_stretch *s = &history->stretch[i];
		(void)json_array_append_new(stretches, json_pack("{s:o, s:o, s:o}", "samples", json_count(s->samples), "mean_bytes",
								 json_count(s->mean_bytes), "most_bytes", json_count(s->most_bytes)));
	}
	json_t *json = json_pack("{s:i, s:o, s:o, s:o, s:o}", "version", 1, "cycles", json_count(history->cycles), "wire_ppm",
				 json_count(history->wire_ppm), "marked_ppm", json_count(history->marked_ppm), "stretches", stretches);
	if (last->point)
		(void)json_object_set_new(json, "last_cycle", last_cycle_encode(last));
	AUTO_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	int rc = text ? env_replace(state, dir, path, text, strlen(text)) : -ENOMEM;
	return rc ? err_sys(err, rc, "write %s", path) : 0;
}
