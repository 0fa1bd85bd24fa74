// SPDX-License-Identifier: Apache-2.0
// A protection's status as docs/control.md has it.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "link/health.h"
#include "link/json.h"
#include "replicator/limiter.h"
#include "replicator/price.h"
#include "replicator/state_marks.h"

#include <stdio.h>

enum { URI_SIZE = 8192 };

enum { COMMIT_LATE_S = 30 }; // a commit is awaited for so long before that is a reason

static json_t *reason_json(enum sync_reason reason)
{
	return reason == SYNC_NONE ? json_null() : json_string(sync_reason_name(reason));
}

// Of an agent's run before this one, as long as it can be of this line of points.
static json_t *known_cycle_json(const struct protection *p)
{
	bool known = p->last.number || (p->has_point && p->last.point <= p->point);
	return known ? last_cycle_json(&p->last) : json_null();
}

// How it packs now, and what is the limit while it ships.
static json_t *packing_json(struct protection *p)
{
	struct sender_view view;
	sender_view(ship_sender(p->ship), &view);
	return json_pack("{s:s, s:o, s:s, s:o}", "codec", codec_name(p->config.codec), "level",
			 p->config.codec == CODEC_ZSTD ? json_integer(view.level) : json_null(), "limit", tune_limit_name(view.limit),
			 "known_blocks", json_count(view.known_entries));
}

// Whether the next start will not believe the disk's state file, and why ("" when it will). With the lock held.
static const char *lost_why(const struct protection *p, uint16_t disk, const struct export_stats *stats)
{
	const char *why = p->tracking[disk].lost_why;
	return *why || !stats->tracking_lost ? why : stats->tracking_error;
}

// Whether the marks would not do for the next start: its state files name no cut, or one that the receiver does not have (protection_tracking.h, T1), or what was asked to be compared
// is not yet; or the receiver doubts the disk, and says so again until a point ends that. With the lock held.
static bool whole_disk(struct protection *p, uint16_t disk)
{
	return tracking_uncovered(p) || p->compare || p->config.compare || doubt_stands(p) >> disk & 1;
}

void protection_price(struct protection *p, uint16_t disk, const struct export_stats *stats, uint64_t size, struct price *price)
{
	price_add(price, stats, size, whole_disk(p, disk) || *lost_why(p, disk, stats), p->damaged_bytes[disk]);
}

static json_t *price_json(const struct protection *p, const struct price *price)
{
	uint64_t speed = sync_log_speed(&p->syncs);
	return json_pack("{s:o, s:o, s:o}", "reread_bytes", json_count(price->reread_bytes), "resend_bytes_max",
			 json_count(price_resend_max(price, p->settled)), "seconds",
			 speed ? json_real((double)price->reread_bytes / (double)speed) : json_null());
}

// Since this start.
static json_t *totals_json(const struct cycle_totals *totals)
{
	return json_pack("{s:{s:o, s:o}, s:o, s:o}", "cycles", "committed", json_count(totals->committed), "failed", json_count(totals->failed), "wire_bytes",
			 json_count(totals->wire_bytes), "read_bytes", json_count(totals->read_bytes));
}

static json_t *cuts_json(struct protection *p)
{
	struct export_cut_stats cuts;
	export_cut_stats(p->export, &cuts);
	json_t *buckets = json_array();
	for (unsigned i = 0; i < EXPORT_CUT_BUCKETS; i++)
		if (cuts.bucket[i])
			(void)json_array_append_new(buckets, json_pack("{s:o, s:o}", "below_us",
								       i + 1 < EXPORT_CUT_BUCKETS ? json_count(UINT64_C(1) << i) : json_null(),
								       "count", json_count(cuts.bucket[i])));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "sum_us", json_count(cuts.sum_us), "count", json_count(cuts.count), "given_up", json_count(cuts.given_up),
			 "overtaken", json_count(cuts.overtaken), "overtaken_why", cuts.overtaken ? json_text(cuts.overtaken_why) : json_null(), "p50_us",
			 json_count(export_cut_percentile(&cuts, 50)), "p99_us", json_count(export_cut_percentile(&cuts, 99)),
			 "max_us", json_count(cuts.max_us), "buckets", buckets);
}

static bool is_told(struct protection *p, uint16_t disk)
{
	return p->tracking[disk].lost_in_file || doubt_told(p, disk);
}

// Whether a start after this host's death would know: null while nothing is lost.
static json_t *told_json(struct protection *p, uint16_t disk, const char *lost)
{
	return *lost ? json_boolean(is_told(p, disk)) : json_null();
}

// "disk vda: why", and what to do where no start would know.
static json_t *needs_sync_json(struct protection *p, uint16_t disk, const char *lost)
{
	char why[ERR_TEXT_MAX];
	const char *name = p->config.disk[disk].name;
	if (is_told(p, disk))
		return json_sprintf("disk %s: %s; once the state directory takes writes again, restart the replicator", name, lost);
	doubt_why(p, why);
	return json_sprintf("disk %s: %s; neither its state file nor the receiver says so yet%s%s: if %s before one does, remove "
			    "protections/%s/%s.state from the state directory before the next start",
			    name, lost, *why ? ", " : "", why, p->tracking[disk].lost_in_note ? "this host dies" : "this host dies or the replicator ends", p->config.name, name);
}

static void set_tracking(json_t *disk, const struct export_stats *stats, uint64_t size, const char *lost)
{
	(void)json_object_set_new(disk, "tracking_memory_bytes", json_count(stats->tracking_memory + state_marks_memory(size)));
	(void)json_object_set_new(disk, "unproven_hole_bytes", json_count(stats->unproven_bytes));
	(void)json_object_set_new(disk, "marked_regions", json_count(stats->marked_regions));
	(void)json_object_set_new(disk, "spilled_bytes", json_count(stats->spilled_bytes));
	(void)json_object_set_new(disk, "tracking_lost", json_boolean(*lost));
	(void)json_object_set_new(disk, "tracking_error", json_text(lost));
}

static void silent_text(const struct protection *p, uint16_t disk, uint64_t silent_ns, char text[ERR_TEXT_MAX])
{
	text[0] = 0;
	if (silent_ns >= SILENT_NS)
		(void)snprintf(text, ERR_TEXT_MAX, "the image %.350s has not answered for %llu s: see to the storage under it", p->config.disk[disk].path,
			       (unsigned long long)(silent_ns / (1000 * MS_NS)));
}

// Whatever thread waits for it, that of the guests too: nothing is asked of any.
static void set_silent(const struct protection *p, uint16_t disk, json_t *json, const struct export_stats *stats)
{
	uint64_t ms = stats->silent_ns / MS_NS;
	char text[ERR_TEXT_MAX];
	silent_text(p, disk, stats->silent_ns, text);
	(void)json_object_set_new(json, "silent_ms", *text ? json_count(ms) : json_null());
	(void)json_object_set_new(json, "silent", json_text(text));
}

static json_t *disk_json(struct protection *p, uint16_t disk, const struct export_stats *from)
{
	char uri[URI_SIZE];
	struct export_stats stats = *from;
	export_uri(p->export, disk, uri, sizeof(uri));
	return json_pack("{s:s, s:o, s:b, s:o, s:o, s:i, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
			 p->config.disk[disk].name, "path", json_text(p->config.disk[disk].path), "read_only",
			 (int)p->config.disk[disk].read_only, "size_bytes",
			 json_count(export_disk_size(p->export, disk)), "uri", json_text(uri), "clients", (int)stats.clients,
			 "dirty_bytes", json_count(stats.dirty_bytes), "error", json_text(stats.error), "errors", json_count(stats.errors),
			 "failed", (int)stats.failed, "error_ms_ago", stats.errors ? json_count(stats.error_ago_ns / MS_NS) : json_null(), "reads",
			 json_count(stats.reads), "writes", json_count(stats.writes), "flushes", json_count(stats.flushes),
			 "trims", json_count(stats.trims), "zeroes", json_count(stats.zeroes), "read_bytes",
			 json_count(stats.read_bytes), "written_bytes", json_count(stats.written_bytes));
}

static json_t *progress_json(struct protection *p)
{
	if (!p->in_cycle)
		return json_null();
	struct progress_view view;
	bool precopy = atomic_load(&p->progress.precopy); // then what the guest dirties now is still to come
	progress_view(&p->progress, protection_now_ns(p), precopy ? source_dirty_bytes(p->source) : 0, &view);
	json_t *json = json_pack("{s:o, s:o, s:o, s:o, s:o, s:i, s:s}", "done_bytes", json_count(view.done_bytes), "total_bytes",
			 json_count(view.total_bytes), "durable_bytes",
			 json_count(atomic_load(&p->progress.durable_blocks) * BLOCK_SIZE), "bytes_per_second", view.rate ? json_count(view.rate) : json_null(), "left_ms",
			 view.left_known ? json_count(view.left_ms) : json_null(), "pass", (int)view.pass, "kind",
			 view.pass == 0 ? "cut" : view.precopy ? "pre-copy" : "point");
	(void)json_object_set_new(json, "pace", json_string(pace_why_name(atomic_load(&p->pace_why))));
	(void)json_object_set_new(json, "yielded_ms", json_count(atomic_load(&p->progress.yielded_ns) / MS_NS));
	return json;
}

static void set_times(struct protection *p, json_t *json)
{
	uint64_t now_ns = env_mono_ns(p->place.env);
	int64_t age_ns = (int64_t)now_ns - p->point_cut_mono_ns;
	uint64_t age_ms = p->has_point && age_ns > 0 ? (uint64_t)age_ns / MS_NS : 0;
	(void)json_object_set_new(json, "point", p->has_point ? json_count(p->point) : json_null());
	(void)json_object_set_new(json, "point_known", json_boolean(!p->point_unknown));
	(void)json_object_set_new(json, "age_ms", p->has_point ? json_count(age_ms) : json_null());
	(void)json_object_set_new(json, "rpo_violated", json_boolean(!p->fenced && p->has_point && age_ms > p->config.rpo_ms));
	uint64_t retry_ns = p->backoff.not_before_ns - min_u64(p->backoff.not_before_ns, now_ns);
	bool waits = !p->channel && !p->paused && p->backoff.failures;
	(void)json_object_set_new(json, "retry_in_ms", waits ? json_count(retry_ns / MS_NS) : json_null());
	(void)json_object_set_new(json, "connect_failures", json_count(p->backoff.failures));
	(void)json_object_set_new(json, "stuck", json_boolean(p->stuck));
	uint64_t left_ns = p->next_cut_ns - min_u64(p->next_cut_ns, now_ns);
	(void)json_object_set_new(json, "waits_for_slot", json_boolean(p->waits_for_slot));
	(void)json_object_set_new(json, "next_cut_in_ms",
				  p->state == STATE_IDLE ? json_count(left_ns / MS_NS) : json_null());
}

// When the point under way is committed: a cycle that lives on what is left of the processors is in no danger, and can go faster. With the lock held.
static uint64_t point_under_way(const struct protection *p, const struct schedule_load *load)
{
	struct progress_view view;
	uint64_t more = atomic_load(&p->progress.precopy) ? load->dirty_bytes : 0;
	progress_view(&p->progress, load->now_ns, more, &view);
	struct schedule_under_way way = {
		.left_bytes = view.pass == 0 ? load->dirty_bytes : view.total_bytes - view.done_bytes + more,
		.rate = view.rate,
		.settled = view.whole && atomic_load(&p->pace_why) != PACE_SPARE,
	};
	return schedule_point_under_way(&p->shown, load->now_ns, &way);
}

// When the next point is expected; null where nothing says it. With the lock held.
static json_t *next_point_json(const struct protection *p, const struct schedule_load *load)
{
	uint64_t at_ns = 0;
	if (p->in_cycle)
		at_ns = point_under_way(p, load);
	else if (p->state == STATE_IDLE && p->has_point && !p->fenced)
		at_ns = schedule_next_point(&p->shown, load, p->next_cut_ns);
	return at_ns ? json_count((at_ns - load->now_ns) / MS_NS) : json_null();
}

// What the objective is, how it is pursued, and what is in its way. With the lock held.
static void set_objective(struct protection *p, json_t *json)
{
	uint64_t now_ns = env_mono_ns(p->place.env);
	enum rpo_cause cause = protection_cause(p, now_ns);
	struct schedule_load load = {.now_ns = now_ns, .dirty_bytes = source_dirty_bytes(p->source)};
	settings_encode(&p->config.settings, json);
	(void)json_object_set_new(json, "cause", cause == RPO_CAUSE_NONE ? json_null() : json_string(rpo_cause_name(cause)));
	(void)json_object_set_new(json, "rpo", account_rpo_json(p));
	(void)json_object_set_new(json, "forecast",
				  json_pack("{s:o, s:o, s:o}", "transfer_ms", json_count(schedule_lead_ns(&p->shown, load.dirty_bytes) / MS_NS),
					    "dirty_bytes", json_count(schedule_dirty_at(&p->shown, &load, max_u64(p->next_cut_ns, now_ns))), "rate",
					    p->shown.forecast.rate ? json_count(p->shown.forecast.rate) : json_null()));
	(void)json_object_set_new(json, "clock_offset_ms", p->greeted ? json_integer(p->clock_offset.offset_ns / (int64_t)MS_NS) : json_null());
	(void)json_object_set_new(json, "clock_error_ms", p->greeted ? json_count(p->clock_offset.error_ns / MS_NS) : json_null());
	int64_t left_ns = p->point_cut_mono_ns + (int64_t)(p->config.rpo_ms * MS_NS) - (int64_t)now_ns;
	bool bound = p->has_point && !p->fenced; // by an objective: nothing newer comes of one that was failed over
	(void)json_object_set_new(json, "deadline_in_ms", bound ? json_integer(left_ns / (int64_t)MS_NS) : json_null());
	(void)json_object_set_new(json, "next_point_in_ms", next_point_json(p, &load));
	uint64_t rate = p->flow ? limiter_flow_rate(p->flow) : BANDWIDTH_UNLIMITED;
	(void)json_object_set_new(json, "bandwidth_limit", rate == BANDWIDTH_UNLIMITED ? json_null() : json_count(rate));
	(void)json_object_set_new(json, "bandwidth_used", p->flow ? json_count(limiter_flow_used(p->flow)) : json_null());
}

// The disks, with what they add up to. With the lock held.
static json_t *disks_json(struct protection *p, struct price *price, json_t **ret_needs_sync)
{
	json_t *disks = json_array();
	bool all_told = true;
	for (uint16_t i = 0; i < p->config.disk_count; i++) {
		struct export_stats stats;
		export_stats(p->export, i, &stats);
		const char *lost = lost_why(p, i, &stats);
		json_t *disk = disk_json(p, i, &stats);
		protection_price(p, i, &stats, export_disk_size(p->export, i), price);
		if (disk) {
			set_tracking(disk, &stats, export_disk_size(p->export, i), lost);
			(void)json_object_set_new(disk, "tracking_told", told_json(p, i, lost));
			(void)json_object_set_new(disk, "holes_disbelieved", json_text(p->audit.why[i]));
			set_silent(p, i, disk, &stats);
			(void)json_object_set_new(disk, "cut_short", json_text(p->cut_short[i]));
			(void)json_object_set_new(disk, "displaced", json_text(p->displaced[i]));
		}
		if (*lost && (!*ret_needs_sync || (all_told && !is_told(p, i)))) { // first of all one with which something is to be done
			json_decref(*ret_needs_sync);
			*ret_needs_sync = needs_sync_json(p, i, lost);
			all_told = is_told(p, i);
		}
		(void)json_array_append_new(disks, disk);
	}
	return disks;
}

// What is known of a disk that whoever looks at the protection must see; "": nothing.
static const char *disk_reason(const struct protection *p, size_t i, const json_t *disk)
{
	if (health_of_disk_error(disk) == HEALTH_CRITICAL)
		return json_string_value(json_object_get(disk, "error"));
	const char *silent = json_string_value(json_object_get(disk, "silent"));
	if (silent && *silent)
		return silent;
	return p->audit.found_here >> i & 1 ? p->audit.why[i] : "";
}

static void set_reason_if_none(json_t *json, const char *text)
{
	if (*text && !json_string_length(json_object_get(json, "reason")))
		(void)json_object_set_new(json, "reason", json_text(text));
}

// A disk that failed is news for whoever looks at the protection alone: a reason, where there is no other.
static void set_disk_reason(const struct protection *p, json_t *json, const json_t *disks)
{
	const json_t *disk;
	size_t i;
	if (json_string_length(json_object_get(json, "reason")))
		return;
	json_array_foreach(disks, i, disk) {
		const char *error = disk_reason(p, i, disk);
		if (!*error)
			continue;
		(void)json_object_set_new(json, "reason",
					  json_sprintf("disk %s: %s", json_string_value(json_object_get(disk, "name")), error));
		return;
	}
}

// A receiver that has all of a point and does not say that it is durable may be at work, or hang: nobody should have to wait for its 10 minutes to be told.
static void set_commit_reason(const struct protection *p, json_t *json)
{
	uint64_t waited_ns = protection_now_ns(p) - p->commit_asked_ns;
	if (p->state != STATE_COMMITTING || waited_ns < COMMIT_LATE_S * 1000 * MS_NS || json_string_length(json_object_get(json, "reason")))
		return;
	(void)json_object_set_new(json, "reason",
				  json_sprintf("the receiver has not answered for %llu s since it has all of the point: its disks are slow, or they or its process hang; "
					       "see its log and `kagami status` there",
					       (unsigned long long)(waited_ns / (1000 * MS_NS))));
}

// What guests feel and the process alone is to blame for: a reason, where there is no other.
static void set_short(const struct protection *p, json_t *json)
{
	char text[EXPORT_SHORT_SIZE];
	export_short(p->export, text);
	(void)json_object_set_new(json, "short_of", json_text(text));
	set_reason_if_none(json, text);
}

void protection_state_silent_text(const char *state_dir, uint64_t silent_ns, char text[ERR_TEXT_MAX])
{
	text[0] = 0;
	if (silent_ns >= SILENT_NS)
		(void)snprintf(text, ERR_TEXT_MAX, "the state directory %.350s has not answered for %llu s: see to the storage under it", state_dir,
			       (unsigned long long)(silent_ns / (1000 * MS_NS)));
}

// Whatever waits for it: the marks of a guest, a point on its way, a change that an operator asked for.
static void set_state_silent(const struct protection *p, json_t *json)
{
	uint64_t ns = protection_state_silent_ns(p);
	char text[ERR_TEXT_MAX];
	protection_state_silent_text(p->place.state_dir, ns, text);
	(void)json_object_set_new(json, "state_silent_ms", *text ? json_count(ns / MS_NS) : json_null());
	(void)json_object_set_new(json, "state_silent", json_text(text));
	set_reason_if_none(json, text);
}

int protection_hangs(struct protection *p, char text[ERR_TEXT_MAX])
{
	for (uint16_t i = 0; i < p->config.disk_count; i++) {
		struct export_stats stats;
		export_stats(p->export, i, &stats);
		silent_text(p, i, stats.silent_ns, text);
		if (*text)
			return i;
	}
	protection_state_silent_text(p->place.state_dir, protection_state_silent_ns(p), text);
	return *text ? PROTECTION_HANGS_STATE : PROTECTION_HANGS_NOT;
}

struct point_known protection_point(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	return (struct point_known){.known = !p->point_unknown, .point = p->has_point ? p->point : 0, .cut_wall_ns = p->has_point ? p->position.last_cut_wall_ns : 0};
}

json_t *protection_json(struct protection *p)
{
	char uuid[UUID_TEXT_SIZE];
	struct price price = {0};
	json_t *needs_sync = NULL;
	uuid_format(&p->config.uuid, uuid);
	LOCK_SCOPE(&p->lock);
	json_t *disks = disks_json(p, &price, &needs_sync);
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:s, s:o, s:b, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o, s:o}",
				 "name", p->config.name, "uuid", uuid, "site", p->config.site, "codec",
				 protection_codec_name(&p->config), "digest", digest_kind_name(p->config.digest.kind), "rpo_ms", json_count(p->config.rpo_ms), "points_keep",
				 (int)p->config.points_keep, "state", protection_state_name(p->state == STATE_PAUSED && !p->paused ? STATE_CONNECTING : p->state), "reason",
				 json_text(p->reason), "connected", (int)p->greeted, "sync_reason",
				 reason_json(p->sync), "dirty_bytes", json_count(price.dirty_bytes), "progress", progress_json(p),
				 "cycles", "started", json_count(p->cycles_started), "committed",
				 json_count(p->cycles_committed), "last_cycle", known_cycle_json(p), "last_error",
				 json_text(p->last_error), "disks", disks);
	if (!json) {
		json_decref(needs_sync);
		return NULL;
	}
	set_times(p, json);
	(void)json_object_set_new(json, "seed_since",
				  p->config.seed_since_wall_ns && !p->has_point ? json_when(p->config.seed_since_wall_ns) : json_null());
	set_disk_reason(p, json, disks);
	set_state_silent(p, json);
	set_commit_reason(p, json);
	set_short(p, json);
	(void)json_object_set_new(json, "crash_price", price_json(p, &price));
	(void)json_object_set_new(json, "cuts", cuts_json(p));
	json_t *totals = totals_json(&p->totals);
	(void)json_object_set_new(totals, "stage_ms", last_cycle_stages_json(p->stage_total_ns));
	(void)json_object_set_new(json, "totals", totals);
	(void)json_object_set_new(json, "starting_ms", json_null()); // it has: routes.c tells it of one that is being started
	(void)json_object_set_new(json, "ending_ms", json_null());   // nor does it end: likewise
	(void)json_object_set_new(json, "paused", json_boolean(p->paused));
	(void)json_object_set_new(json, "compare_asked", json_boolean(p->compare || p->config.compare));
	(void)json_object_set_new(json, "packing", packing_json(p));
	set_objective(p, json);
	if (*p->unknown_why && !needs_sync)
		needs_sync = json_sprintf("its configuration was removed while it runs, and cannot be written anew: the next start does not know it: %s", p->unknown_why);
	if (*p->audit.unsaved_why && !needs_sync)
		needs_sync = json_sprintf("cannot %s; it is tried again with each point, and a start before that compares all disks", p->audit.unsaved_why);
	(void)json_object_set_new(json, "needs_sync", needs_sync ? needs_sync : json_null());
	health_tell(json, false);
	return json;
}

json_t *protection_syncs_json(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	return sync_log_json(&p->syncs);
}
