// SPDX-License-Identifier: Apache-2.0
// A protection's status as docs/control.md has it.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "link/json.h"

enum { URI_SIZE = 8192 };
#define MS_NS UINT64_C(1000000)

static json_t *reason_json(enum sync_reason reason)
{
	return reason == SYNC_NONE ? json_null() : json_string(sync_reason_name(reason));
}

static json_t *last_cycle_json(const struct last_cycle *last)
{
	if (last->number == 0)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "cycle", json_count(last->number), "point",
			 json_count(last->point), "cut", json_when(last->cut_wall_ns), "commit",
			 json_when(last->commit_wall_ns), "duration_ms", json_count(last->duration_ns / MS_NS), "hold_us",
			 json_count(last->hold_ns / 1000), "sync_reason", reason_json(last->sync), "dirty_bytes",
			 json_count(last->dirty_bytes), "read_bytes", json_count(last->read_bytes), "sent_blocks",
			 json_count(last->sent_blocks), "wire_bytes", json_count(last->wire_bytes));
}

static json_t *disk_json(struct protection *p, uint16_t disk, uint64_t *dirty_bytes)
{
	char uri[URI_SIZE];
	struct export_stats stats;
	export_uri(p->export, disk, uri, sizeof(uri));
	export_stats(p->export, disk, &stats);
	*dirty_bytes += stats.dirty_bytes;
	return json_pack("{s:s, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
			 p->config.disk[disk].name, "path", json_text(p->config.disk[disk].path), "size_bytes",
			 json_count(export_disk_size(p->export, disk)), "uri", json_text(uri), "clients", (int)stats.clients,
			 "dirty_bytes", json_count(stats.dirty_bytes), "error", json_text(stats.error), "reads",
			 json_count(stats.reads), "writes", json_count(stats.writes), "flushes", json_count(stats.flushes),
			 "trims", json_count(stats.trims), "zeroes", json_count(stats.zeroes), "read_bytes",
			 json_count(stats.read_bytes), "written_bytes", json_count(stats.written_bytes));
}

static json_t *progress_json(struct protection *p)
{
	if (!p->in_cycle)
		return json_null();
	return json_pack("{s:o, s:o}", "done_bytes", json_count(atomic_load(&p->progress.done_bytes)), "total_bytes",
			 json_count(atomic_load(&p->progress.total_bytes)));
}

static void set_times(struct protection *p, json_t *json)
{
	uint64_t now_ns = env_mono_ns(p->place.env);
	uint64_t age_ms = p->has_point ? (now_ns - min_u64(now_ns, p->point_cut_mono_ns)) / MS_NS : 0;
	(void)json_object_set_new(json, "age_ms", p->has_point ? json_count(age_ms) : json_null());
	(void)json_object_set_new(json, "rpo_violated", json_boolean(p->has_point && age_ms > p->config.rpo_ms));
	uint64_t left_ns = p->next_cut_ns - min_u64(p->next_cut_ns, now_ns);
	(void)json_object_set_new(json, "next_cut_in_ms",
				  p->state == STATE_IDLE ? json_count(left_ns / MS_NS) : json_null());
}

json_t *protection_json(struct protection *p)
{
	char uuid[UUID_TEXT_SIZE];
	uint64_t dirty_bytes = 0;
	json_t *disks = json_array();
	for (unsigned i = 0; i < p->config.disk_count; i++)
		(void)json_array_append_new(disks, disk_json(p, (uint16_t)i, &dirty_bytes));
	uuid_format(&p->config.uuid, uuid);
	LOCK_SCOPE(&p->lock);
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:o, s:i, s:s, s:o, s:b, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o, s:o}",
				 "name", p->config.name, "uuid", uuid, "site", p->config.site, "codec",
				 codec_name(p->config.codec), "rpo_ms", json_count(p->config.rpo_ms), "points_keep",
				 (int)p->config.points_keep, "state", protection_state_name(p->state), "reason",
				 json_text(p->reason), "connected", p->channel && p->state != STATE_CONNECTING, "sync_reason",
				 reason_json(p->sync), "dirty_bytes", json_count(dirty_bytes), "progress", progress_json(p),
				 "cycles", "started", json_count(p->cycles_started), "committed",
				 json_count(p->cycles_committed), "last_cycle", last_cycle_json(&p->last), "last_error",
				 json_text(p->last_error), "disks", disks);
	if (json)
		set_times(p, json);
	return json;
}
