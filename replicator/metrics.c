// SPDX-License-Identifier: Apache-2.0
// GET /metrics of the replicator: docs/rpo.md, "Metrics".
#include "replicator/metrics.h"

#include "link/status_metrics.h"

static const struct status_metric table[] = {
	{"kagami_connected", OPENMETRICS_GAUGE, "", "1 while a session is open.", STATUS_NUMBER, "connected", 1, NULL},
	{"kagami_paused", OPENMETRICS_GAUGE, "", "1 while the operator has paused it.", STATUS_NUMBER, "paused", 1, NULL},
	{"kagami_cycles", OPENMETRICS_COUNTER, "", "Cycles since the daemon started, by result.", STATUS_BY, "totals.cycles", 1, "result"},
	{"kagami_cycle_duration_seconds", OPENMETRICS_GAUGE, "seconds", "Of the last cycle, from its cut to the commit.", STATUS_NUMBER, "last_cycle.duration_ms", 1e-3, NULL},
	{"kagami_stage_seconds", OPENMETRICS_COUNTER, "seconds", "What cycles waited for, by stage.", STATUS_BY, "totals.stage_ms", 1e-3, "stage"},
	{"kagami_dirty_bytes", OPENMETRICS_GAUGE, "bytes", "Dirty now.", STATUS_NUMBER, "dirty_bytes", 1, NULL},
	{"kagami_wire_bytes", OPENMETRICS_COUNTER, "bytes", "Sent to the receiver by cycles that were committed.", STATUS_NUMBER, "totals.wire_bytes", 1, NULL},
	{"kagami_read_bytes", OPENMETRICS_COUNTER, "bytes", "Read from images by cycles that were committed.", STATUS_NUMBER, "totals.read_bytes", 1, NULL},
	{"kagami_crash_reread_bytes", OPENMETRICS_GAUGE, "bytes", "What would be examined if this host died now.", STATUS_NUMBER, "crash_price.reread_bytes", 1, NULL},
	{"kagami_cut_hold_seconds", OPENMETRICS_HISTOGRAM, "seconds", "How long cuts held new writes.", STATUS_BUCKETS, "cuts", 1e-6, NULL},
	{"kagami_disk_reads", OPENMETRICS_COUNTER, "", "Reads by the guest.", STATUS_DISKS, "reads", 1, NULL},
	{"kagami_disk_writes", OPENMETRICS_COUNTER, "", "Writes by the guest.", STATUS_DISKS, "writes", 1, NULL},
	{"kagami_disk_flushes", OPENMETRICS_COUNTER, "", "Flushes by the guest.", STATUS_DISKS, "flushes", 1, NULL},
	{"kagami_disk_read_bytes", OPENMETRICS_COUNTER, "bytes", "Read by the guest.", STATUS_DISKS, "read_bytes", 1, NULL},
	{"kagami_disk_written_bytes", OPENMETRICS_COUNTER, "bytes", "Written by the guest.", STATUS_DISKS, "written_bytes", 1, NULL},
	{"kagami_tracking_lost", OPENMETRICS_GAUGE, "", "1 when the disk needs a compare after the next start.", STATUS_DISKS, "tracking_lost", 1, NULL},
	{"kagami_unproven_hole_bytes", OPENMETRICS_GAUGE, "bytes", "Of the disk, that its file system called holes in a sync, and that nobody has read since.", STATUS_DISKS,
	 "unproven_hole_bytes", 1, NULL},
	{"kagami_bandwidth_limit_bytes", OPENMETRICS_GAUGE, "bytes", "A second, where there is a limit now.", STATUS_NUMBER, "bandwidth_limit", 1, NULL},
	{"kagami_bandwidth_used_bytes", OPENMETRICS_GAUGE, "bytes", "That went to the receiver, a second, over the last ten.", STATUS_NUMBER, "bandwidth_used", 1, NULL},
	{"kagami_clock_offset_seconds", OPENMETRICS_GAUGE, "seconds", "The receiver's clock less this host's.", STATUS_NUMBER, "clock_offset_ms", 1e-3, NULL},
	{"kagami_clock_error_seconds", OPENMETRICS_GAUGE, "seconds", "By how much that may be wrong.", STATUS_NUMBER, "clock_error_ms", 1e-3, NULL},
	{"kagami_sessions", OPENMETRICS_GAUGE, "", "Protections that have a session.", STATUS_COUNT, "connected", 1, NULL},
};

static void put_total(struct openmetrics *m, const char *name, const char *help, const json_t *value)
{
	openmetrics_family(m, name, OPENMETRICS_GAUGE, "bytes", help);
	if (json_is_number(value))
		openmetrics_value(m, NULL, 0, json_number_value(value));
}

unsigned replicator_metrics(const json_t *protections, const json_t *settings, const struct control_request *request, json_t **ret_body)
{
	struct openmetrics m;
	status_metrics_begin(&m, request);
	status_metrics_daemon(&m, "kagami-replicator");
	status_metrics_rpo(&m, protections);
	status_metrics(&m, table, sizeof(table) / sizeof(table[0]), protections);
	put_total(&m, "kagami_bandwidth_total_limit_bytes", "A second, for all protections together, where there is a limit now.", json_object_get(settings, "bandwidth_limit"));
	put_total(&m, "kagami_bandwidth_total_used_bytes", "That went to receivers, a second, over the last ten.", json_object_get(settings, "bandwidth_used"));
	return status_metrics_end(&m, request, ret_body);
}
