// SPDX-License-Identifier: Apache-2.0
// What a person reads: tables, sizes, ages, times, and the members of a daemon's answer.
#ifndef KAGAMI_TOOLS_SHOW_H
#define KAGAMI_TOOLS_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

// A short text by value: printf("%s", show_size(n).text).
struct shown {
	char text[48];
};

struct shown show_size(uint64_t bytes);	   // 512 B, 64 KiB, 1.2 GiB
struct shown show_duration(uint64_t ms);   // 80ms, 3.1s, 45s, 5m12s, 3h05m, 2d04h
struct shown show_ratio(uint64_t of, uint64_t by);	   // 3.1x, 240x; >9999x: of a sparse disk next to nothing is sent
struct shown show_count(uint64_t count, const char *what); // 1 point, 12 points

// Members of an answer. What is missing, null or of another type gives "", 0, false, or for the texts below "-".
const char *show_text_of(const json_t *object, const char *name);
const char *show_path_of(const json_t *disk); // its "path"; where it has none, why
uint64_t show_number_of(const json_t *object, const char *name);
bool show_flag_of(const json_t *object, const char *name);
bool show_has(const json_t *object, const char *name); // there, and not null
struct shown show_size_of(const json_t *object, const char *name);
struct shown show_duration_of(const json_t *object, const char *name);
struct shown show_time_of(const json_t *object, const char *name);
struct shown show_integer_of(const json_t *object, const char *name);
struct shown show_count_of(const json_t *object, const char *name, const char *what);

// Replaces what is not shown (plain.h) in every string of `value`: what a peer wrote must not drive the operator's terminal.
void show_clean(json_t *value);

// A copy of it without what is not shown (plain.h). The caller frees.
char *show_plain(const char *text);
// A path as a shell reads it back: as it is when every character of it is plain, in single quotes otherwise. The caller frees.
char *show_quoted(const char *path);

// A table whose columns are as wide as their widest cell.
struct table;
// `columns`: one letter each, 'l' or 'r', for the side that a column keeps to.
struct table *table_new(const char *columns);
// A row, with a tab between two cells.
void table_add(struct table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Text of its own behind the last row, past no column; control characters shown as they are.
void table_note(struct table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Prints and frees it. On a terminal that is too narrow for it, the columns that do not fit follow on lines of their own, of the head as of each row; a file or a pipe gets each
// row in one line.
void table_print(struct table *table, FILE *to);
void table_print_within(struct table *table, FILE *to, size_t columns);

#endif
