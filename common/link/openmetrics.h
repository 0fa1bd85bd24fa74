// SPDX-License-Identifier: Apache-2.0
// Metrics as text: the text format of Prometheus (0.0.4), or OpenMetrics 1.0 for who asks for it.
//
//	struct openmetrics m;
//	openmetrics_init(&m, format);
//	openmetrics_family(&m, "kagami_wire_bytes", OPENMETRICS_COUNTER, "bytes", "Sent to the receiver.");
//	openmetrics_value(&m, labels, 2, 17.0);      kagami_wire_bytes_total{a="b",c="d"} 17
//	char *text = openmetrics_finish(&m, &length);
//
// All samples of a family stand together, as both formats want it.
#ifndef KAGAMI_LINK_OPENMETRICS_H
#define KAGAMI_LINK_OPENMETRICS_H

#include <stdbool.h>
#include <stddef.h>

enum openmetrics_format { OPENMETRICS_1_0, OPENMETRICS_TEXT_0_0_4 };
enum openmetrics_type { OPENMETRICS_GAUGE, OPENMETRICS_COUNTER, OPENMETRICS_INFO, OPENMETRICS_HISTOGRAM };
enum { OPENMETRICS_LABELS_MAX = 4 };

struct openmetrics {
	enum openmetrics_format format;
	char *text;
	size_t len, room;
	bool failed; // out of memory
	const char *family;
	enum openmetrics_type type;
};

struct openmetrics_label {
	const char *name;
	const char *value; // any text; what is no UTF-8 becomes '?'
};

const char *openmetrics_content_type(enum openmetrics_format format);
// What a request's Accept header asks for: OpenMetrics where it names application/openmetrics-text; NULL (none), */* and anything else the older format.
enum openmetrics_format openmetrics_accepted(const char *accept);

void openmetrics_init(struct openmetrics *m, enum openmetrics_format format);
// `name` without the suffix of its type, and with `unit` ("" for none) at its end. `help` is a sentence. Names live as long as `m`.
void openmetrics_family(struct openmetrics *m, const char *name, enum openmetrics_type type, const char *unit, const char *help);
void openmetrics_value(struct openmetrics *m, const struct openmetrics_label *labels, size_t count, double value);
// Of a histogram: a bucket, cumulative, of values up to `bound` (INFINITY at the end); then how many and how much.
void openmetrics_bucket(struct openmetrics *m, const struct openmetrics_label *labels, size_t count, double bound, double value);
void openmetrics_total(struct openmetrics *m, const struct openmetrics_label *labels, size_t count, double number, double sum);
// The whole text, the caller's; NULL when out of memory. It ends `m`.
char *openmetrics_finish(struct openmetrics *m, size_t *ret_length);

#endif
