// SPDX-License-Identifier: Apache-2.0
// Metrics by a table: from the status of protections, as the control API tells it, to families of samples. What the status has not (a null, or no
// such member) has no sample.
#ifndef KAGAMI_LINK_STATUS_METRICS_H
#define KAGAMI_LINK_STATUS_METRICS_H

#include "link/control.h"
#include "link/openmetrics.h"

enum status_metric_kind {
	STATUS_NUMBER,	// a number or a truth value at `path`: {protection}
	STATUS_TEXT,	// a text: 1 {protection, `label`}
	STATUS_BY,	// an object of numbers: {protection, `label`} by the names of its members
	STATUS_DISKS,	// of each of "disks", the member `path`: {protection, disk}
	STATUS_WINDOWS, // `path` is an object as rpo.age: {protection, window, stat}
	STATUS_BUCKETS, // `path` is an object as cuts: a histogram {protection}, of microseconds
	STATUS_COUNT,	// how many protections have a number other than 0, or true, at `path`; no label
};

struct status_metric {
	const char *name; // without the suffix of its type
	enum openmetrics_type type;
	const char *unit; // "" for none
	const char *help;
	enum status_metric_kind kind;
	const char *path; // "rpo.budget_left_ms"
	double scale;	  // of what the path has
	const char *label;
};

// `list`: an array of protections, borrowed.
void status_metrics(struct openmetrics *metrics, const struct status_metric *table, size_t count, const json_t *list);
// What both sides say of each protection: its objective and how it is kept, and its state. `list` as above.
void status_metrics_rpo(struct openmetrics *metrics, const json_t *list);
// What every daemon has: build_info, up, events.
void status_metrics_daemon(struct openmetrics *metrics, const char *program);
// A control handler's answer with the text, in the format that the request asks for: begins, and ends.
void status_metrics_begin(struct openmetrics *metrics, const struct control_request *request);
unsigned status_metrics_end(struct openmetrics *metrics, const struct control_request *request, json_t **ret_body);

#endif
