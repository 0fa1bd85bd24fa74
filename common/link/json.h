// SPDX-License-Identifier: Apache-2.0
// Small helpers for JSON bodies, in the conventions of docs/control.md.
#ifndef KAGAMI_LINK_JSON_H
#define KAGAMI_LINK_JSON_H

#include <jansson.h>
#include <stdint.h>

// An instant as a string; null when it is 0.
json_t *json_when(int64_t wall_ns);
// A size, a count: an integer, at most INT64_MAX.
json_t *json_count(uint64_t value);
// A text that came from outside: never fails on bytes that are not UTF-8 (they become '?').
json_t *json_text(const char *text);

#endif
