// SPDX-License-Identifier: Apache-2.0
#include "replicator/audit_record.h"

#include "base/auto.h"
#include "link/control.h"
#include "link/json.h"
#include "replicator/protection_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RECORD_FILE_MAX = 4 << 20, RECORD_PATH_SIZE = NAME_SIZE + 40 };
#define REGION_MOST (UINT64_C(1) << 40)

static void runs_join(struct audit_runs *runs)
{
	unsigned count = 0;
	for (unsigned i = 0; i < runs->count; i++) {
		struct audit_run *last = count ? &runs->run[count - 1] : NULL;
		if (last && runs->run[i].first - (last->first + last->count) <= runs->gap)
			last->count = runs->run[i].first + runs->run[i].count - last->first;
		else
			runs->run[count++] = runs->run[i];
	}
	runs->count = count;
}

void audit_runs_add(struct audit_runs *runs, uint64_t region)
{
	struct audit_run *last = runs->count ? &runs->run[runs->count - 1] : NULL;
	if (last && region - (last->first + last->count) <= runs->gap) {
		last->count = region + 1 - last->first;
		return;
	}
	while (runs->count == AUDIT_RUNS_MAX) {
		runs->gap = runs->gap ? 2 * runs->gap : 1;
		runs_join(runs);
	}
	runs->run[runs->count++] = (struct audit_run){.first = region, .count = 1};
}

static void record_path(const char *protection, char path[RECORD_PATH_SIZE])
{
	(void)snprintf(path, RECORD_PATH_SIZE, "protections/%s/audit.json", protection);
}

// ---- load

static int runs_decode(json_t *json, struct audit_runs *runs, struct err *err)
{
	uint64_t end = 0;
	int rc = 0;
	for (size_t i = 0; i < json_array_size(json) && rc == 0; i++) {
		struct audit_run *run = &runs->run[i];
		const struct control_member members[] = {
			{"first", true, .number = &run->first, .least = end, .most = REGION_MOST},
			{"count", true, .number = &run->count, .least = 1, .most = REGION_MOST},
		};
		rc = control_read_file(json_array_get(json, i), members, 2, err);
		end = run->first + run->count;
	}
	runs->count = (unsigned)json_array_size(json);
	return rc;
}

static int disk_decode(json_t *json, struct audit_disk *disk, struct err *err)
{
	const char *name = NULL, *why = NULL;
	json_t *runs = NULL;
	const struct control_member members[] = {
		{"name", true, .text = &name, .is_name = true},
		{"disbelieved", true, .text = &why, .most = AUDIT_WHY_SIZE - 1},
		{"unproven", true, .array = &runs, .most = AUDIT_RUNS_MAX},
	};
	int rc = control_read_file(json, members, 3, err);
	if (rc)
		return rc;
	(void)snprintf(disk->name, sizeof(disk->name), "%s", name);
	(void)snprintf(disk->why, sizeof(disk->why), "%s", why);
	return runs_decode(runs, &disk->unproven, err);
}

static int decode(json_t *json, struct audit_record *record, struct err *err)
{
	uint64_t version = 0;
	json_t *disks = NULL;
	const struct control_member members[] = {
		{"version", true, .number = &version, .least = 1, .most = 1},
		{"disks", true, .array = &disks, .most = DISKS_MAX},
	};
	int rc = control_read_file(json, members, 2, err);
	for (size_t i = 0; rc == 0 && i < json_array_size(disks); i++, record->count++) {
		rc = disk_decode(json_array_get(disks, i), &record->disk[i], err);
		for (size_t j = 0; rc == 0 && j < i; j++)
			if (strcmp(record->disk[i].name, record->disk[j].name) == 0)
				rc = err_set(err, -EBADMSG, "disk %s is there twice", record->disk[i].name);
	}
	return rc;
}

int audit_record_decode(const char *text, size_t len, struct audit_record *ret_record, struct err *err)
{
	json_error_t where;
	memset(ret_record, 0, sizeof(*ret_record));
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	int rc = json_is_object(json) ? decode(json, ret_record, err) : err_set(err, -EBADMSG, "not a JSON object (line %d: %s)", where.line, where.text);
	json_decref(json);
	return rc;
}

int audit_record_load(struct env_root *state, const char *protection, struct audit_record *ret_record, struct err *err)
{
	char path[RECORD_PATH_SIZE];
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	record_path(protection, path);
	memset(ret_record, 0, sizeof(*ret_record)); // also where there is none
	int rc = env_read_file(state, path, RECORD_FILE_MAX, &text, &len);
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return err_sys(err, rc, "read %s", path);
	rc = audit_record_decode(text, len, ret_record, err);
	return rc ? err_wrap(err, "%s", path) : 0;
}

// ---- save

static json_t *disk_encode(const struct audit_disk *disk)
{
	json_t *runs = json_array();
	for (unsigned i = 0; i < disk->unproven.count; i++)
		(void)json_array_append_new(runs, json_pack("{s:o, s:o}", "first", json_count(disk->unproven.run[i].first), "count",
							    json_count(disk->unproven.run[i].count)));
	return json_pack("{s:s, s:o, s:o}", "name", disk->name, "disbelieved", json_text(disk->why), "unproven", runs);
}

char *audit_record_encode(const struct audit_record *record)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < record->count; i++)
		(void)json_array_append_new(disks, disk_encode(&record->disk[i]));
	json_t *json = json_pack("{s:i, s:o}", "version", 1, "disks", disks);
	char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	json_decref(json);
	return text;
}

int audit_record_save(struct env_root *state, const char *protection, const struct audit_record *record, struct err *err)
{
	char dir[NAME_SIZE + 16], path[RECORD_PATH_SIZE];
	AUTO_FREE char *text = audit_record_encode(record);
	protection_dir(protection, dir);
	record_path(protection, path);
	int rc = text ? env_replace(state, dir, path, text, strlen(text)) : -ENOMEM;
	return rc ? err_sys(err, rc, "write the record of unproven holes %s", path) : 0;
}
