// SPDX-License-Identifier: Apache-2.0
// The dirty history of a protection while it runs, and what it says of another RPO.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/json.h"

enum { SAVE_EVERY_S = 600 };

void dirt_load(struct protection *p)
{
	struct err err = {0};
	if (history_load(p->place.state, p->config.name, &p->history, &p->last, &err))
		log_warning("the dirty history is begun anew protection=%s: %s", p->config.name, err.text);
	p->history_saved_ns = protection_now_ns(p);
}

void dirt_save(struct protection *p)
{
	struct err err = {0};
	STATE_SCOPE(p);
	if (history_save(p->place.state, p->config.name, &p->history, &p->last, &err))
		log_warning("protection=%s: %s", p->config.name, err.text);
	p->history_saved_ns = protection_now_ns(p);
}

// A point is committed: what is dirty from its cut on is what a stretch is measured by. `dirty_bytes` were in the cycle.
void dirt_committed(struct protection *p, uint64_t cut_ns, uint64_t dirty_bytes, uint64_t wire_bytes, bool sync)
{
	uint64_t marked = 0;
	for (uint16_t i = 0; i < p->config.disk_count && !sync; i++) {
		struct export_stats stats;
		export_stats(p->export, i, &stats);
		marked += stats.marked_bytes;
	}
	p->stretch_from_ns = cut_ns;
	p->stretch = 0;
	LOCK_SCOPE(&p->lock);
	if (!sync)
		history_cycle(&p->history, dirty_bytes, wire_bytes, marked);
}

void dirt_forget(struct protection *p)
{
	p->stretch_from_ns = 0;
}

// Notes the stretch that ends now. Returns when to look again.
uint64_t dirt_look(struct protection *p, const struct schedule_load *load)
{
	if (load->now_ns - p->history_saved_ns > SAVE_EVERY_S * 1000 * MS_NS)
		dirt_save(p);
	if (!p->stretch_from_ns)
		return UINT64_MAX;
	uint64_t age_ns = load->now_ns - min_u64(p->stretch_from_ns, load->now_ns);
	for (; p->stretch < HISTORY_STRETCHES && history_stretch_ns(p->stretch) <= age_ns; p->stretch++) {
		uint64_t late_ns = age_ns - history_stretch_ns(p->stretch);
		if (late_ns > history_stretch_ns(p->stretch) / 8) // a transfer was under way when it ended
			continue;
		LOCK_SCOPE(&p->lock);
		history_see(&p->history, p->stretch, load->dirty_bytes);
	}
	return p->stretch < HISTORY_STRETCHES ? p->stretch_from_ns + history_stretch_ns(p->stretch) : UINT64_MAX;
}

// Whether it is kept is known where a cycle has shown what the line takes; the other figures then stand on what is assumed.
static json_t *what_if_json(const struct what_if *w, bool line_known)
{
	return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "rpo_ms", json_count(w->rpo_ns / MS_NS), "kept", line_known ? json_boolean(w->kept) : json_null(),
			 "measured", (int)w->measured, "interval_ms", json_count(w->interval_ns / MS_NS), "delta_bytes",
			 json_count(w->delta_bytes), "delta_wire_bytes", json_count(w->delta_wire_bytes), "transfer_ms",
			 json_count(w->transfer_ns / MS_NS), "rate_needed", json_count(w->rate_needed), "day_wire_bytes",
			 json_count(w->day_wire_bytes), "retention_bytes", json_count(w->retention_bytes), "crash_reread_bytes",
			 json_count(w->crash_bytes));
}

json_t *protection_plan_json(struct protection *p, const uint64_t *rpo_ms, unsigned count)
{
	LOCK_SCOPE(&p->lock);
	struct what_if_setting setting = {.rate = p->shown.forecast.rate,
					  .fixed_ns = p->shown.forecast.fixed_ns,
					  .points_keep = p->config.points_keep};
	for (uint16_t i = 0; i < p->config.disk_count; i++)
		setting.disk_bytes += export_disk_size(p->export, i);
	json_t *list = json_array();
	for (unsigned i = 0; i < count; i++) {
		struct what_if w;
		history_what_if(&p->history, &setting, rpo_ms[i] * MS_NS, &w);
		(void)json_array_append_new(list, what_if_json(&w, setting.rate != 0));
	}
	uint64_t samples = history_samples(&p->history), smallest_ns = samples ? history_smallest_rpo(&p->history, &setting) : 0;
	const char *unknown = !samples	      ? "nothing has been recorded yet of what becomes dirty"
			      : !setting.rate ? "no cycle has shown yet what the line takes: the first one of 1 MiB or more does"
					      : NULL;
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:s?, s:o}", "name", p->config.name, "rpo_ms", json_count(p->config.rpo_ms), "rate",
			 setting.rate ? json_count(setting.rate) : json_null(), "samples", json_count(samples), "smallest_rpo_ms",
			 smallest_ns ? json_count(smallest_ns / MS_NS) : json_null(), "smallest_rpo_unknown", unknown, "plans", list);
}
