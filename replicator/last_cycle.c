// SPDX-License-Identifier: Apache-2.0
#include "replicator/last_cycle.h"

#include "base/size.h"
#include "link/control.h"
#include "link/json.h"

#include <errno.h>
#include <string.h>

#define MS_NS UINT64_C(1000000)

// --- for who asks ---

json_t *last_cycle_stages_json(const uint64_t ns[RPO_STAGES])
{
	json_t *json = json_object();
	for (unsigned i = 0; i < RPO_STAGES; i++)
		(void)json_object_set_new(json, rpo_stage_name((enum rpo_stage)i), json_count(ns[i] / MS_NS));
	return json;
}

static json_t *reason_json(enum sync_reason reason)
{
	return reason == SYNC_NONE ? json_null() : json_string(sync_reason_name(reason));
}

json_t *last_cycle_json(const struct last_cycle *last)
{
	if (last->point == 0)
		return json_null();
	json_t *json = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "cycle", last->number ? json_count(last->number) : json_null(), "point",
			 json_count(last->point), "cut", json_when(last->cut_wall_ns), "commit",
			 json_when(last->commit_wall_ns), "duration_ms", json_count(last->duration_ns / MS_NS), "hold_us",
			 json_count(last->hold_ns / 1000), "sync_reason", reason_json(last->sync), "dirty_bytes",
			 json_count(last->dirty_bytes), "read_bytes", json_count(last->read_bytes), "sent_blocks",
			 json_count(last->sent_blocks), "wire_bytes", json_count(last->wire_bytes));
	(void)json_object_set_new(json, "precopies", json_count(last->precopies));
	(void)json_object_set_new(json, "cut_because", json_string(cycle_why_name(last->why)));
	(void)json_object_set_new(json, "point_bytes", json_count(last->point_bytes));
	(void)json_object_set_new(json, "stages", last_cycle_stages_json(last->stage_ns));
	(void)json_object_set_new(json, "known_blocks", json_count(last->known_blocks));
	(void)json_object_set_new(json, "unasked_blocks", json_count(last->unasked_blocks));
	(void)json_object_set_new(json, "piece_blocks", json_count(last->piece_blocks));
	(void)json_object_set_new(json, "plain_blocks", json_count(last->plain_blocks));
	return json;
}

// --- the file ---

enum { NUMBERS_MAX = 20 };

// The members of both directions, but for those that have names.
static size_t numbers_of(struct last_cycle *last, struct control_member members[NUMBERS_MAX])
{
	const struct control_member numbers[] = {
		{"point", true, .number = &last->point, .least = 1, .most = INT64_MAX},
		{"duration_ns", true, .number = &last->duration_ns, .most = INT64_MAX},
		{"hold_ns", true, .number = &last->hold_ns, .most = INT64_MAX},
		{"dirty_bytes", true, .number = &last->dirty_bytes, .most = INT64_MAX},
		{"read_bytes", true, .number = &last->read_bytes, .most = INT64_MAX},
		{"sent_blocks", true, .number = &last->sent_blocks, .most = INT64_MAX},
		{"wire_bytes", true, .number = &last->wire_bytes, .most = INT64_MAX},
		{"known_blocks", true, .number = &last->known_blocks, .most = INT64_MAX},
		{"unasked_blocks", true, .number = &last->unasked_blocks, .most = INT64_MAX},
		{"piece_blocks", true, .number = &last->piece_blocks, .most = INT64_MAX},
		{"plain_blocks", true, .number = &last->plain_blocks, .most = INT64_MAX},
		{"point_bytes", true, .number = &last->point_bytes, .most = INT64_MAX},
		{"precopies", true, .number = &last->precopies, .most = INT64_MAX},
	};
	memcpy(members, numbers, sizeof(numbers));
	return COUNT(numbers);
}

json_t *last_cycle_encode(const struct last_cycle *last)
{
	struct last_cycle copy = *last;
	struct control_member members[NUMBERS_MAX];
	size_t count = numbers_of(&copy, members);
	json_t *stages = json_array(), *json = json_pack("{s:I, s:I, s:s}", "cut_ns", (json_int_t)last->cut_wall_ns, "commit_ns",
							  (json_int_t)last->commit_wall_ns, "cut_because", cycle_why_name(last->why));
	for (size_t i = 0; i < count; i++)
		(void)json_object_set_new(json, members[i].name, json_count(*members[i].number));
	if (last->sync != SYNC_NONE)
		(void)json_object_set_new(json, "sync_reason", json_string(sync_reason_name(last->sync)));
	for (unsigned i = 0; i < RPO_STAGES; i++)
		(void)json_array_append_new(stages, json_count(last->stage_ns[i]));
	(void)json_object_set_new(json, "stages_ns", stages);
	return json;
}

static int names_decode(const char *why, const char *sync, struct last_cycle *last, struct err *err)
{
	enum cycle_why w = CYCLE_WHY_NONE;
	enum sync_reason s = SYNC_NONE;
	while (w <= CYCLE_WHY_RESTING && strcmp(cycle_why_name(w), why) != 0)
		w++;
	if (w > CYCLE_WHY_RESTING)
		return err_set(err, -EINVAL, "cut_because: \"%.40s\" is none", why);
	for (s = sync ? SYNC_INITIAL : SYNC_NONE; sync && s <= SYNC_LAST && strcmp(sync_reason_name(s), sync) != 0;)
		s++;
	if (s > SYNC_LAST)
		return err_set(err, -EINVAL, "sync_reason: \"%.40s\" is none", sync);
	last->why = w;
	last->sync = s;
	return 0;
}

static int stages_decode(const json_t *stages, struct last_cycle *last, struct err *err)
{
	for (unsigned i = 0; i < RPO_STAGES; i++) {
		const json_t *stage = json_array_get(stages, i);
		if (!json_is_integer(stage) || json_integer_value(stage) < 0)
			return err_set(err, -EINVAL, "stages_ns: not a time");
		last->stage_ns[i] = (uint64_t)json_integer_value(stage);
	}
	return 0;
}

int last_cycle_decode(const json_t *json, struct last_cycle *ret_last, struct err *err)
{
	struct last_cycle last;
	uint64_t cut_ns = 0, commit_ns = 0;
	const char *why = NULL, *sync = NULL;
	json_t *stages = NULL;
	memset(&last, 0, sizeof(last));
	struct control_member members[NUMBERS_MAX];
	size_t count = numbers_of(&last, members);
	const struct control_member others[] = {
		{"cut_ns", true, .number = &cut_ns, .most = INT64_MAX},
		{"commit_ns", true, .number = &commit_ns, .most = INT64_MAX},
		{"cut_because", true, .text = &why},
		{"sync_reason", false, .text = &sync},
		{"stages_ns", true, .array = &stages, .least = RPO_STAGES, .most = RPO_STAGES},
	};
	memcpy(members + count, others, sizeof(others));
	int rc = control_read_file(json, members, count + COUNT(others), err);
	if (rc == 0)
		rc = names_decode(why, sync, &last, err);
	if (rc == 0)
		rc = stages_decode(stages, &last, err);
	if (rc)
		return rc;
	last.cut_wall_ns = (int64_t)cut_ns;
	last.commit_wall_ns = (int64_t)commit_ns;
	*ret_last = last;
	return 0;
}
