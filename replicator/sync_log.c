// SPDX-License-Identifier: Apache-2.0
#include "replicator/sync_log.h"

#include "base/auto.h"
#include "base/size.h"
#include "link/control.h"
#include "link/json.h"
#include "replicator/protection_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LOG_FILE_MAX = 1 << 20, LOG_PATH_SIZE = NAME_SIZE + 40 };

void sync_log_add(struct sync_log *log, const struct sync_record *try)
{
	struct sync_record *newest = log->count ? &log->record[log->count - 1] : NULL;
	if (newest && newest->point == 0 && strcmp(newest->reason, try->reason) == 0) {
		newest->ended_wall_ns = try->ended_wall_ns;
		newest->duration_ms += try->duration_ms;
		newest->tries += try->tries;
		newest->candidate_bytes = max_u64(newest->candidate_bytes, try->candidate_bytes);
		newest->read_bytes += try->read_bytes;
		newest->sent_bytes += try->sent_bytes;
		newest->saved_bytes += try->saved_bytes;
		newest->piece_blocks += try->piece_blocks;
		newest->kept_bytes += try->kept_bytes;
		newest->point = try->point;
		memcpy(newest->failure, try->failure, sizeof(newest->failure));
		return;
	}
	if (log->count == SYNC_LOG_MAX)
		memmove(&log->record[0], &log->record[1], --log->count * sizeof(log->record[0]));
	log->record[log->count++] = *try;
}

bool sync_log_found_committed(struct sync_log *log, uint64_t point)
{
	struct sync_record *newest = log->count ? &log->record[log->count - 1] : NULL;
	if (!newest || newest->point)
		return false;
	newest->point = point;
	newest->failure[0] = 0;
	return true;
}

uint64_t sync_log_speed(const struct sync_log *log)
{
	uint64_t bytes = 0, ms = 0;
	unsigned taken = 0;
	for (unsigned i = log->count; i > 0 && taken < SYNC_LOG_SPEED_OF; i--) {
		const struct sync_record *record = &log->record[i - 1];
		if (record->point == 0 || record->read_bytes == 0)
			continue;
		bytes += record->read_bytes;
		ms += record->duration_ms ? record->duration_ms : 1;
		taken++;
	}
	return ms ? (uint64_t)((double)bytes / (double)ms * 1000.0) : 0;
}

static json_t *record_json(const struct sync_record *record)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "reason", record->reason, "began",
			 json_when(record->began_wall_ns), "ended", json_when(record->ended_wall_ns), "duration_ms",
			 json_count(record->duration_ms), "tries", json_count(record->tries), "candidate_bytes",
			 json_count(record->candidate_bytes), "read_bytes", json_count(record->read_bytes), "sent_bytes", json_count(record->sent_bytes), "saved_bytes",
			 json_count(record->saved_bytes), "piece_blocks", json_count(record->piece_blocks), "kept_bytes",
			 json_count(record->kept_bytes), "outcome", record->point ? "committed" : "failed", "point",
			 record->point ? json_count(record->point) : json_null(), "failure", json_text(record->failure));
}

json_t *sync_log_json(const struct sync_log *log)
{
	json_t *syncs = json_array();
	for (unsigned i = log->count; i > 0; i--)
		(void)json_array_append_new(syncs, record_json(&log->record[i - 1]));
	return json_pack("{s:o}", "syncs", syncs);
}

// ---- the file

static void log_path(const char *protection, char path[LOG_PATH_SIZE])
{
	(void)snprintf(path, LOG_PATH_SIZE, "protections/%s/syncs.json", protection);
}

static json_t *record_encode(const struct sync_record *record)
{
	return json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "reason", record->reason, "began_ns",
			 (json_int_t)record->began_wall_ns, "ended_ns", (json_int_t)record->ended_wall_ns, "duration_ms",
			 json_count(record->duration_ms), "tries", json_count(record->tries), "candidate_bytes",
			 json_count(record->candidate_bytes), "read_bytes", json_count(record->read_bytes), "sent_bytes", json_count(record->sent_bytes), "saved_bytes",
			 json_count(record->saved_bytes), "piece_blocks", json_count(record->piece_blocks), "kept_bytes",
			 json_count(record->kept_bytes), "point", json_count(record->point), "failure",
			 json_text(record->failure));
}

int sync_log_save(struct env_root *state, const char *protection, const struct sync_log *log, struct err *err)
{
	char dir[NAME_SIZE + 16], path[LOG_PATH_SIZE];
	protection_dir(protection, dir);
	log_path(protection, path);
	json_t *syncs = json_array();
	for (unsigned i = 0; i < log->count; i++)
		(void)json_array_append_new(syncs, record_encode(&log->record[i]));
	json_t *json = json_pack("{s:i, s:o}", "version", 1, "syncs", syncs);
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	json_decref(json);
	int rc = text ? env_replace(state, dir, path, text, strlen(text)) : -ENOMEM;
	return rc ? err_sys(err, rc, "write the record of syncs %s", path) : 0;
}

static int record_decode(json_t *json, struct sync_record *record, struct err *err)
{
	const char *reason = NULL, *failure = NULL;
	uint64_t began = 0, ended = 0;
	const struct control_member members[] = {
		{"reason", true, .text = &reason, .least = 1, .most = SYNC_REASON_SIZE - 1},
		{"began_ns", true, .number = &began, .most = INT64_MAX},
		{"ended_ns", true, .number = &ended, .most = INT64_MAX},
		{"duration_ms", true, .number = &record->duration_ms},
		{"tries", true, .number = &record->tries},
		{"candidate_bytes", false, .number = &record->candidate_bytes}, // of an older agent's record it is missing, as the two below may be
		{"read_bytes", true, .number = &record->read_bytes},
		{"sent_bytes", true, .number = &record->sent_bytes},
		{"saved_bytes", true, .number = &record->saved_bytes},
		{"piece_blocks", false, .number = &record->piece_blocks},
		{"kept_bytes", false, .number = &record->kept_bytes},
		{"point", true, .number = &record->point},
		{"failure", true, .text = &failure, .most = SYNC_FAILURE_SIZE - 1},
	};
	int rc = control_read_file(json, members, sizeof(members) / sizeof(members[0]), err);
	if (rc)
		return rc;
	record->began_wall_ns = (int64_t)began;
	record->ended_wall_ns = (int64_t)ended;
	(void)snprintf(record->reason, sizeof(record->reason), "%s", reason);
	(void)snprintf(record->failure, sizeof(record->failure), "%s", failure);
	return 0;
}

static int log_decode(json_t *json, struct sync_log *log, struct err *err)
{
	uint64_t version = 0;
	json_t *syncs = NULL;
	const struct control_member members[] = {
		{"version", true, .number = &version, .least = 1, .most = 1},
		{"syncs", true, .array = &syncs, .most = SYNC_LOG_MAX},
	};
	int rc = control_read_file(json, members, sizeof(members) / sizeof(members[0]), err);
	for (size_t i = 0; rc == 0 && i < json_array_size(syncs); i++) {
		rc = record_decode(json_array_get(syncs, i), &log->record[i], err);
		if (rc)
			(void)err_wrap(err, "sync %zu", i + 1);
		else
			log->count++;
	}
	return rc;
}

int sync_log_load(struct env_root *state, const char *protection, struct sync_log *ret_log, struct err *err)
{
	char path[LOG_PATH_SIZE];
	log_path(protection, path);
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	memset(ret_log, 0, sizeof(*ret_log));
	int rc = env_read_file(state, path, LOG_FILE_MAX, &text, &len);
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return err_sys(err, rc, "read %s", path);
	json_error_t where;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	rc = json_is_object(json) ? log_decode(json, ret_log, err)
				  : err_set(err, -EBADMSG, "not a JSON object (line %d: %s)", where.line, where.text);
	json_decref(json);
	if (rc == 0)
		return 0;
	memset(ret_log, 0, sizeof(*ret_log));
	return err_wrap(err, "%s", path);
}
