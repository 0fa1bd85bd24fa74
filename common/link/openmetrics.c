// SPDX-License-Identifier: Apache-2.0
#include "link/openmetrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NUMBER_SIZE = 40 };

const char *openmetrics_content_type(enum openmetrics_format format)
{
	return format == OPENMETRICS_1_0 ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8";
}

// Whether the parameters of a media range, up to its comma, give it a weight of 0 (RFC 9110, 12.4.2).
static bool refused(const char *parameters)
{
	for (const char *p = parameters; *p == ';' || *p == ' ' || *p == '\t'; p += strcspn(p, ";,")) {
		p += strspn(p, "; \t");
		if (strncasecmp(p, "q=0", 3) == 0 && strspn(p + 3, ".0") == strcspn(p + 3, ";, \t"))
			return true;
	}
	return false;
}

enum openmetrics_format openmetrics_accepted(const char *accept)
{
	static const char name[] = "application/openmetrics-text";
	for (const char *range = accept; range && *range; range += strcspn(range, ",")) {
		range += strspn(range, ", \t");
		size_t len = strcspn(range, ";, \t");
		if (len == sizeof(name) - 1 && strncasecmp(range, name, len) == 0 && !refused(range + len))
			return OPENMETRICS_1_0;
	}
	return OPENMETRICS_TEXT_0_0_4;
}

void openmetrics_init(struct openmetrics *m, enum openmetrics_format format)
{
	*m = (struct openmetrics){.format = format};
}

static void put(struct openmetrics *m, const char *text, size_t len)
{
	if (m->room - m->len <= len) {
		size_t room = (m->room + len) * 2 + 4096;
		char *more = m->failed ? NULL : realloc(m->text, room);
		if (!more) {
			m->failed = true;
			return;
		}
		m->text = more;
		m->room = room;
	}
	memcpy(m->text + m->len, text, len);
	m->len += len;
	m->text[m->len] = 0;
}

static void put_text(struct openmetrics *m, const char *text)
{
	put(m, text, strlen(text));
}

// How long the UTF-8 character at `c` is; 0 when it is none.
static size_t character(const unsigned char *c)
{
	size_t len = *c < 0x80 ? 1 : *c >= 0xf0 ? 4 : *c >= 0xe0 ? 3 : 2;
	if (*c >= 0x80 && (*c < 0xc2 || *c > 0xf4))
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	bool wrong = (*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] >= 0xa0) || (*c == 0xf0 && c[1] < 0x90) || (*c == 0xf4 && c[1] >= 0x90);
	return wrong ? 0 : len;
}

// With a backslash before what would end the value or the line. A quote is one in a label only.
static void put_escaped(struct openmetrics *m, const char *text, bool quoted)
{
	for (const unsigned char *c = (const unsigned char *)text; *c;) {
		size_t len = character(c);
		if (*c == '\\' || (*c == '"' && quoted))
			put_text(m, *c == '"' ? "\\\"" : "\\\\");
		else if (*c == '\n')
			put_text(m, "\\n");
		else
			put(m, len ? (const char *)c : "?", len ? len : 1);
		c += len ? len : 1;
	}
}

static void number(double value, char text[NUMBER_SIZE])
{
	if (isnan(value))
		(void)snprintf(text, NUMBER_SIZE, "NaN");
	else if (isinf(value))
		(void)snprintf(text, NUMBER_SIZE, value < 0 ? "-Inf" : "+Inf");
	else if (value == rint(value) && fabs(value) < 1e15)
		(void)snprintf(text, NUMBER_SIZE, "%.0f", value);
	else
		(void)snprintf(text, NUMBER_SIZE, "%.12g", value);
}

static void put_meta(struct openmetrics *m, const char *what, const char *name, const char *suffix, const char *text)
{
	put_text(m, "# ");
	put_text(m, what);
	put_text(m, " ");
	put_text(m, name);
	put_text(m, suffix);
	put_text(m, " ");
	put_escaped(m, text, m->format == OPENMETRICS_1_0);
	put_text(m, "\n");
}

void openmetrics_family(struct openmetrics *m, const char *name, enum openmetrics_type type, const char *unit, const char *help)
{
	static const char *const types[] = {"gauge", "counter", "info", "histogram"};
	bool older = m->format == OPENMETRICS_TEXT_0_0_4;
	// In the older format a family has the name of its samples, and there is no info.
	const char *suffix = !older ? "" : type == OPENMETRICS_COUNTER ? "_total" : type == OPENMETRICS_INFO ? "_info" : "";
	m->family = name;
	m->type = type;
	put_meta(m, "TYPE", name, suffix, older && type == OPENMETRICS_INFO ? "gauge" : types[type]);
	if (*unit && !older)
		put_meta(m, "UNIT", name, "", unit);
	put_meta(m, "HELP", name, suffix, help);
}

static void sample(struct openmetrics *m, const char *suffix, const struct openmetrics_label *labels, size_t count, const char *bound, double value)
{
	char text[NUMBER_SIZE];
	const char *before = "{";
	put_text(m, m->family);
	put_text(m, suffix);
	for (size_t i = 0; i < count; i++) {
		put_text(m, before);
		put_text(m, labels[i].name);
		put_text(m, "=\"");
		put_escaped(m, labels[i].value, true);
		put_text(m, "\"");
		before = ",";
	}
	if (bound) {
		put_text(m, before);
		put_text(m, "le=\"");
		put_text(m, bound);
		put_text(m, "\"");
	}
	put_text(m, count || bound ? "} " : " ");
	number(value, text);
	put_text(m, text);
	put_text(m, "\n");
}

void openmetrics_value(struct openmetrics *m, const struct openmetrics_label *labels, size_t count, double value)
{
	sample(m, m->type == OPENMETRICS_COUNTER ? "_total" : m->type == OPENMETRICS_INFO ? "_info" : "", labels, count, NULL, value);
}

void openmetrics_bucket(struct openmetrics *m, const struct openmetrics_label *labels, size_t count, double bound, double value)
{
	char text[NUMBER_SIZE];
	number(bound, text);
	if (!isinf(bound) && !strpbrk(text, ".e")) // a bound is a float, and its text part of the name
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), ".0");
	sample(m, "_bucket", labels, count, text, value);
}

void openmetrics_total(struct openmetrics *m, const struct openmetrics_label *labels, size_t count, double times, double sum)
{
	sample(m, "_count", labels, count, NULL, times);
	sample(m, "_sum", labels, count, NULL, sum);
}

char *openmetrics_finish(struct openmetrics *m, size_t *ret_length)
{
	if (m->format == OPENMETRICS_1_0)
		put_text(m, "# EOF\n");
	char *text = m->text;
	if (m->failed) {
		free(text);
		text = NULL;
	}
	*ret_length = m->len;
	*m = (struct openmetrics){.format = m->format};
	return text;
}
