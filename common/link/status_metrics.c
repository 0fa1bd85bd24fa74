// SPDX-License-Identifier: Apache-2.0
#include "link/status_metrics.h"

#include "link/events.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PATH_PART_SIZE = 64, BUCKETS = 26 };

static const json_t *at_path(const json_t *json, const char *path)
{
	char part[PATH_PART_SIZE];
	while (json && *path) {
		size_t len = strcspn(path, ".");
		(void)snprintf(part, sizeof(part), "%.*s", (int)len, path);
		json = json_object_get(json, part);
		path += len + (path[len] == '.');
	}
	return json;
}

static bool value_of(const json_t *json, double *ret_value)
{
	if (!json_is_number(json) && !json_is_boolean(json))
		return false;
	*ret_value = json_is_boolean(json) ? json_is_true(json) : json_number_value(json);
	return true;
}

static void put_value(struct openmetrics *m, const struct status_metric *d, const json_t *json, const struct openmetrics_label *labels, size_t count)
{
	double value = 0;
	if (value_of(json, &value))
		openmetrics_value(m, labels, count, value * d->scale);
}

static void put_by(struct openmetrics *m, const struct status_metric *d, const json_t *json, struct openmetrics_label *labels)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)json, name, value) {
		labels[1] = (struct openmetrics_label){d->label, name};
		put_value(m, d, value, labels, 2);
	}
}

static void put_disks(struct openmetrics *m, const struct status_metric *d, const json_t *protection, struct openmetrics_label *labels)
{
	size_t index;
	json_t *disk;
	json_array_foreach(json_object_get(protection, "disks"), index, disk) {
		const char *name = json_string_value(json_object_get(disk, "name"));
		labels[1] = (struct openmetrics_label){"disk", name ? name : ""};
		put_value(m, d, at_path(disk, d->path), labels, 2);
	}
}

static void put_windows(struct openmetrics *m, const struct status_metric *d, const json_t *json, struct openmetrics_label *labels)
{
	static const struct {
		const char *member, *name;
	} ages[] = {{"p50_ms", "p50"}, {"p99_ms", "p99"}, {"max_ms", "max"}};
	const char *window;
	json_t *of;
	json_object_foreach((json_t *)(uintptr_t)json, window, of) for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++)
	{
		labels[1] = (struct openmetrics_label){"window", window};
		labels[2] = (struct openmetrics_label){"stat", ages[i].name};
		put_value(m, d, json_object_get(of, ages[i].member), labels, 3);
	}
}

// How many values there are of less than `us`, by buckets of which only those with some are listed.
static double below(const json_t *buckets, double us)
{
	double sum = 0;
	size_t index;
	json_t *bucket;
	json_array_foreach((json_t *)(uintptr_t)buckets, index, bucket) {
		double bound = INFINITY, count = 0;
		(void)value_of(json_object_get(bucket, "below_us"), &bound);
		(void)value_of(json_object_get(bucket, "count"), &count);
		sum += bound <= us ? count : 0;
	}
	return sum;
}

static void put_buckets(struct openmetrics *m, const struct status_metric *d, const json_t *json, const struct openmetrics_label *labels)
{
	const json_t *buckets = json_object_get(json, "buckets");
	double sum = 0;
	if (!json_is_array(buckets))
		return;
	for (unsigned i = 0; i + 1 < BUCKETS; i++)
		openmetrics_bucket(m, labels, 1, ldexp(1, (int)i) * d->scale, below(buckets, ldexp(1, (int)i)));
	openmetrics_bucket(m, labels, 1, INFINITY, below(buckets, INFINITY));
	(void)value_of(json_object_get(json, "sum_us"), &sum);
	openmetrics_total(m, labels, 1, below(buckets, INFINITY), sum * d->scale);
}

static void put_one(struct openmetrics *m, const struct status_metric *d, const json_t *protection)
{
	const char *name = json_string_value(json_object_get(protection, "name"));
	struct openmetrics_label labels[OPENMETRICS_LABELS_MAX] = {{"protection", name ? name : ""}};
	const json_t *json = at_path(protection, d->path);
	switch (d->kind) {
	case STATUS_NUMBER:
		put_value(m, d, json, labels, 1);
		break;
	case STATUS_TEXT:
		labels[1] = (struct openmetrics_label){d->label, json_string_value(json)};
		if (labels[1].value)
			openmetrics_value(m, labels, 2, 1);
		break;
	case STATUS_BY:
		put_by(m, d, json, labels);
		break;
	case STATUS_DISKS:
		put_disks(m, d, protection, labels);
		break;
	case STATUS_WINDOWS:
		put_windows(m, d, json, labels);
		break;
	case STATUS_BUCKETS:
		put_buckets(m, d, json, labels);
		break;
	case STATUS_COUNT:
		break;
	}
}

static void put_count(struct openmetrics *m, const struct status_metric *d, const json_t *list)
{
	double count = 0;
	size_t index;
	json_t *protection;
	json_array_foreach((json_t *)(uintptr_t)list, index, protection) {
		double value = 0;
		count += value_of(at_path(protection, d->path), &value) && value != 0;
	}
	openmetrics_value(m, NULL, 0, count);
}

void status_metrics(struct openmetrics *m, const struct status_metric *table, size_t count, const json_t *list)
{
	for (size_t i = 0; i < count; i++) {
		const struct status_metric *d = &table[i];
		size_t index;
		json_t *protection;
		openmetrics_family(m, d->name, d->type, d->unit, d->help);
		if (d->kind == STATUS_COUNT)
			put_count(m, d, list);
		else
			json_array_foreach((json_t *)(uintptr_t)list, index, protection) put_one(m, d, protection);
	}
}

void status_metrics_rpo(struct openmetrics *m, const json_t *list)
{
	static const struct status_metric table[] = {
		{"kagami_point_age_seconds", OPENMETRICS_GAUGE, "seconds", "Age of the newest point, from its cut.", STATUS_NUMBER, "age_ms", 1e-3, NULL},
		{"kagami_rpo_seconds", OPENMETRICS_GAUGE, "seconds", "The objective: the age that is not to be exceeded.", STATUS_NUMBER, "rpo_ms", 1e-3, NULL},
		{"kagami_rpo_deadline_seconds", OPENMETRICS_GAUGE, "seconds", "Time left until the age is the objective; negative while it is missed.", STATUS_NUMBER,
		 "deadline_in_ms", 1e-3, NULL},
		{"kagami_rpo_violated", OPENMETRICS_GAUGE, "", "1 while the age is above the objective.", STATUS_NUMBER, "rpo_violated", 1, NULL},
		{"kagami_point_age_window_seconds", OPENMETRICS_GAUGE, "seconds", "Age over the last hour, day and week: median, 99th percentile and maximum.", STATUS_WINDOWS,
		 "rpo.age", 1e-3, NULL},
		{"kagami_rpo_missed_seconds", OPENMETRICS_COUNTER, "seconds", "Time in which the age was above the objective, by cause.", STATUS_BY, "rpo.missed_total_ms", 1e-3,
		 "cause"},
		{"kagami_rpo_budget_seconds", OPENMETRICS_GAUGE, "seconds", "Time of a week that may be missed.", STATUS_NUMBER, "rpo.budget_ms", 1e-3, NULL},
		{"kagami_rpo_budget_left_seconds", OPENMETRICS_GAUGE, "seconds", "What is left of that; negative when it is overspent.", STATUS_NUMBER, "rpo.budget_left_ms", 1e-3,
		 NULL},
		{"kagami_state", OPENMETRICS_GAUGE, "", "1, with the state that the protection is in.", STATUS_TEXT, "state", 1, "state"},
	};
	status_metrics(m, table, sizeof(table) / sizeof(table[0]), list);
}

void status_metrics_daemon(struct openmetrics *m, const char *program)
{
	const struct openmetrics_label build[] = {{"program", program}, {"version", KAGAMI_VERSION}};
	struct events *events = events_default();
	openmetrics_family(m, "kagami_build", OPENMETRICS_INFO, "", "Which program this is, and its version.");
	openmetrics_value(m, build, 2, 1);
	openmetrics_family(m, "kagami_up", OPENMETRICS_GAUGE, "", "1: the daemon answers.");
	openmetrics_value(m, NULL, 0, 1);
	openmetrics_family(m, "kagami_events", OPENMETRICS_COUNTER, "", "Events since the daemon started, by class.");
	for (unsigned i = 0; events && i < event_class_count; i++) {
		const struct openmetrics_label class = {"class", event_classes[i]};
		openmetrics_value(m, &class, 1, (double)events_count(events, event_classes[i]));
	}
}

void status_metrics_begin(struct openmetrics *m, const struct control_request *request)
{
	openmetrics_init(m, openmetrics_accepted(request->header(request, "Accept")));
}

unsigned status_metrics_end(struct openmetrics *m, const struct control_request *request, json_t **ret_body)
{
	enum openmetrics_format format = m->format;
	size_t length = 0;
	char *text = openmetrics_finish(m, &length);
	if (!text)
		return control_fail(ret_body, -ENOMEM, "out of memory");
	control_text(request, openmetrics_content_type(format), text);
	return 200;
}
