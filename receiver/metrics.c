// SPDX-License-Identifier: Apache-2.0
// GET /metrics of the receiver: docs/rpo.md, "Metrics".
#include "link/status_metrics.h"
#include "receiver/route.h"

#include <string.h>

static const struct status_metric table[] = {
	{"kagami_connected", OPENMETRICS_GAUGE, "", "1 while the source has a session.", STATUS_NUMBER, "connected", 1, NULL},
	{"kagami_paused", OPENMETRICS_GAUGE, "", "1 while the source said that it is paused.", STATUS_NUMBER, "source_paused", 1, NULL},
	{"kagami_dirty_bytes", OPENMETRICS_GAUGE, "bytes", "Dirty at the source, as it said last.", STATUS_NUMBER, "source_dirty_bytes", 1, NULL},
	{"kagami_clock_offset_seconds", OPENMETRICS_GAUGE, "seconds", "This host's clock less the source's.", STATUS_NUMBER, "clock_offset_ms", 1e-3, NULL},
	{"kagami_clock_error_seconds", OPENMETRICS_GAUGE, "seconds", "By how much that may be wrong.", STATUS_NUMBER, "clock_error_ms", 1e-3, NULL},
	{"kagami_points", OPENMETRICS_GAUGE, "", "Points that are kept.", STATUS_NUMBER, "points", 1, NULL},
	{"kagami_stored_bytes", OPENMETRICS_GAUGE, "bytes", "On disk: base, points and head.", STATUS_NUMBER, "used_bytes", 1, NULL},
	{"kagami_quota_bytes", OPENMETRICS_GAUGE, "bytes", "That may be on disk, where there is a quota.", STATUS_NUMBER, "quota_bytes", 1, NULL},
	{"kagami_damaged_blocks", OPENMETRICS_GAUGE, "", "Blocks that are not what was committed.", STATUS_NUMBER, "scrub.damaged_blocks", 1, NULL},
	{"kagami_scrub_coverage_ratio", OPENMETRICS_GAUGE, "ratio", "How far the scrub under way is; 1 when none is and one came to its end, 0 when none ever did.",
	 STATUS_NUMBER, "scrub_coverage", 1, NULL},
	{"kagami_sessions", OPENMETRICS_GAUGE, "", "Sources that have a session.", STATUS_COUNT, "connected", 1, NULL},
};

static double scrub_coverage(const json_t *scrub)
{
	const json_t *pass = json_object_get(scrub, "pass");
	double of = json_number_value(json_object_get(pass, "total_bytes")), done = json_number_value(json_object_get(pass, "done_bytes"));
	if (json_is_object(pass))
		return of > 0 ? done / of : 1;
	return json_is_object(json_object_get(scrub, "last")) ? 1 : 0;
}

// The status, with what only a metric wants.
static json_t *replicas_json(struct recovery *recovery)
{
	struct replica *replica;
	json_t *list = json_array();
	for (size_t n = 0; (replica = store_at(recovery->store, n)); n++) {
		json_t *json = recovery_json_replica(recovery, replica);
		const char *state = json_string_value(json_object_get(json, "state"));
		(void)json_object_set_new(json, "connected", json_boolean(state && strcmp(state, "connected") == 0));
		(void)json_object_set_new(json, "scrub_coverage", json_real(scrub_coverage(json_object_get(json, "scrub"))));
		if (json_array_append_new(list, json)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

unsigned receiver_get_metrics(void *context, const struct control_request *request, json_t **ret_body)
{
	struct recovery *recovery = context;
	struct openmetrics m;
	json_t *list = replicas_json(recovery);
	if (!list)
		return route_answer(HTTP_OK, NULL, ret_body);
	status_metrics_begin(&m, request);
	status_metrics_daemon(&m, "kagami-receiver");
	status_metrics_rpo(&m, list);
	status_metrics(&m, table, sizeof(table) / sizeof(table[0]), list);
	json_decref(list);
	openmetrics_family(&m, "kagami_store_free_bytes", OPENMETRICS_GAUGE, "bytes", "Free on the file system of the store.");
	openmetrics_value(&m, NULL, 0, (double)store_free_bytes(recovery->store));
	openmetrics_family(&m, "kagami_store_reserve_bytes", OPENMETRICS_GAUGE, "bytes", "Of it, what is kept free.");
	openmetrics_value(&m, NULL, 0, (double)store_reserve(recovery->store));
	return status_metrics_end(&m, request, ret_body);
}
