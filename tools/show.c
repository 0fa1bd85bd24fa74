// SPDX-License-Identifier: Apache-2.0
#include "tools/show.h"

#include "base/auto.h"
#include "tools/plain.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { COLUMNS_MAX = 12, ROW_MAX = 4096, INDENT = 4 };

struct table {
	const char *columns;
	char **row; // cells with tabs between; a note begins with '\n'
	size_t count;
};

struct shown show_size(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	struct shown shown;
	size_t unit = 0;
	double value = (double)bytes;
	while (value >= 1024 || (unit > 0 && value >= 1023.5)) { // so that 1023.9 MiB is not shown as 1024 MiB
		value /= 1024;
		unit++;
	}
	double tenths = value - (double)(uint64_t)value;
	bool whole = value >= 99.95 || tenths < 0.05 || tenths >= 0.95;
	(void)snprintf(shown.text, sizeof(shown.text), whole ? "%.0f %s" : "%.1f %s", value, units[unit]);
	return shown;
}

struct shown show_duration(uint64_t ms)
{
	struct shown shown;
	uint64_t s = (ms + 500) / 1000;
	uint64_t m = s / 60, h = m / 60, d = h / 24;
	char *to = shown.text;
	size_t cap = sizeof(shown.text);
	if (ms < 1000)
		(void)snprintf(to, cap, "%" PRIu64 "ms", ms);
	else if (ms < 9950 && ms % 1000)
		(void)snprintf(to, cap, "%.1fs", (double)ms / 1000);
	else if (s < 60)
		(void)snprintf(to, cap, "%" PRIu64 "s", s);
	else if (h == 0)
		(void)snprintf(to, cap, s % 60 ? "%" PRIu64 "m%02" PRIu64 "s" : "%" PRIu64 "m", m, s % 60);
	else if (d == 0)
		(void)snprintf(to, cap, m % 60 ? "%" PRIu64 "h%02" PRIu64 "m" : "%" PRIu64 "h", h, m % 60);
	else
		(void)snprintf(to, cap, h % 24 ? "%" PRIu64 "d%02" PRIu64 "h" : "%" PRIu64 "d", d, h % 24);
	return shown;
}

struct shown show_ratio(uint64_t of, uint64_t by)
{
	struct shown shown = {">9999x"};
	double ratio = (double)of / (double)(by ? by : 1);
	if (ratio < 9999.5)
		(void)snprintf(shown.text, sizeof(shown.text), ratio < 99.95 ? "%.1fx" : "%.0fx", ratio);
	return shown;
}

struct shown show_count(uint64_t count, const char *what)
{
	struct shown shown;
	(void)snprintf(shown.text, sizeof(shown.text), "%" PRIu64 " %.20s%s", count, what, count == 1 ? "" : "s");
	return shown;
}

// 2026-01-31 12:00:00.123Z, from RFC 3339; "-" for "".
static struct shown show_time(const char *time)
{
	struct shown shown;
	(void)snprintf(shown.text, sizeof(shown.text), "%s", time[0] ? time : "-");
	char *t = strchr(shown.text, 'T');
	if (t)
		*t = ' ';
	return shown;
}

const char *show_path_of(const json_t *disk)
{
	return show_has(disk, "path") ? show_text_of(disk, "path") : "no path leads to it: \"kagami status\" says what became of the store's";
}

const char *show_text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

uint64_t show_number_of(const json_t *object, const char *name)
{
	json_int_t number = json_integer_value(json_object_get(object, name));
	return number > 0 ? (uint64_t)number : 0;
}

bool show_flag_of(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

bool show_has(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	return value && !json_is_null(value);
}

static const struct shown shown_none = {"-"};

struct shown show_size_of(const json_t *object, const char *name)
{
	return show_has(object, name) ? show_size(show_number_of(object, name)) : shown_none;
}

struct shown show_duration_of(const json_t *object, const char *name)
{
	return show_has(object, name) ? show_duration(show_number_of(object, name)) : shown_none;
}

struct shown show_time_of(const json_t *object, const char *name)
{
	return show_time(show_text_of(object, name));
}

struct shown show_integer_of(const json_t *object, const char *name)
{
	struct shown shown;
	if (!show_has(object, name))
		return shown_none;
	(void)snprintf(shown.text, sizeof(shown.text), "%" PRIu64, show_number_of(object, name));
	return shown;
}

struct shown show_count_of(const json_t *object, const char *name, const char *what)
{
	return show_has(object, name) ? show_count(show_number_of(object, name), what) : shown_none;
}

static void clean_string(json_t *value)
{
	AUTO_FREE char *text = strdup(json_string_value(value));
	if (text && plain_make(text))
		(void)json_string_set(value, text);
}

void show_clean(json_t *value)
{
	const char *name;
	json_t *element;
	size_t i;
	if (json_is_string(value))
		clean_string(value);
	json_array_foreach(value, i, element)
		show_clean(element);
	json_object_foreach(value, name, element)
		show_clean(element);
}

char *show_plain(const char *text)
{
	char *plain = strdup(text);
	if (!plain)
		abort();
	(void)plain_make(plain);
	return plain;
}

char *show_quoted(const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=";
	char *quoted = malloc(4 * strlen(path) + 3), *to = quoted;
	if (!quoted)
		abort();
	if (path[0] && path[strspn(path, plain)] == 0)
		return strcpy(quoted, path);
	*to++ = '\'';
	for (; *path; path++)
		to = *path == '\'' ? stpcpy(to, "'\\''") : stpncpy(to, path, 1);
	(void)strcpy(to, "'");
	return quoted;
}

struct table *table_new(const char *columns)
{
	struct table *table = calloc(1, sizeof(*table));
	assert(strlen(columns) <= COLUMNS_MAX);
	if (!table)
		abort(); // a command line tool without memory has nothing to say
	table->columns = columns;
	return table;
}

static void table_push(struct table *table, const char *text)
{
	char **row = realloc(table->row, (table->count + 1) * sizeof(*row));
	char *copy = strdup(text);
	if (!row || !copy)
		abort();
	row[table->count++] = copy;
	table->row = row;
}

void table_add(struct table *table, const char *fmt, ...)
{
	char text[ROW_MAX];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	table_push(table, text);
}

void table_note(struct table *table, const char *fmt, ...)
{
	char text[ROW_MAX] = "\n";
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text + 1, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	table_push(table, text);
}

static void table_widths(const struct table *table, size_t width[COLUMNS_MAX])
{
	for (size_t i = 0; i < table->count; i++) {
		const char *cell = table->row[i];
		for (size_t column = 0; cell[0] != '\n' && column < strlen(table->columns); column++) {
			size_t len = strcspn(cell, "\t");
			if (len > width[column])
				width[column] = len;
			cell += len;
			if (*cell)
				cell++;
		}
	}
}

// Whether a column begins another line, since it would end past the `most`-th place of this one.
static void table_breaks(const struct table *table, const size_t width[COLUMNS_MAX], size_t most, bool breaks[COLUMNS_MAX])
{
	size_t at = 0;
	for (size_t column = 0; column < strlen(table->columns); column++) {
		breaks[column] = column && width[column] && at + width[column] > most;
		at = (breaks[column] ? INDENT : at) + width[column] + 2;
	}
}

static void row_print(const struct table *table, const char *cell, const size_t width[COLUMNS_MAX], const bool breaks[COLUMNS_MAX], FILE *to)
{
	size_t blanks = 0; // printed only when something follows, so that no line ends in blanks
	for (size_t column = 0; column < strlen(table->columns); column++) {
		size_t len = strcspn(cell, "\t");
		size_t pad = width[column] - len;
		bool right = table->columns[column] == 'r';
		if (breaks[column] && cell[strspn(cell, "\t")]) {
			(void)fputc('\n', to);
			blanks = INDENT;
		}
		if (right)
			blanks += pad;
		if (len) {
			(void)fprintf(to, "%*s%.*s", (int)blanks, "", (int)len, cell);
			blanks = 0;
		}
		blanks += (right ? 0 : pad) + 2;
		cell += len;
		if (*cell)
			cell++;
	}
	(void)fputc('\n', to);
}

static size_t terminal_columns(FILE *to)
{
	struct winsize size;
	return isatty(fileno(to)) && ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : SIZE_MAX;
}

void table_print(struct table *table, FILE *to)
{
	table_print_within(table, to, terminal_columns(to));
}

void table_print_within(struct table *table, FILE *to, size_t most)
{
	size_t width[COLUMNS_MAX] = {0};
	bool breaks[COLUMNS_MAX];
	table_widths(table, width);
	table_breaks(table, width, most, breaks);
	for (size_t i = 0; i < table->count; i++) {
		if (table->row[i][0] == '\n')
			(void)fprintf(to, "%s\n", table->row[i] + 1);
		else
			row_print(table, table->row[i], width, breaks, to);
		free(table->row[i]);
	}
	free(table->row);
	free(table);
}
