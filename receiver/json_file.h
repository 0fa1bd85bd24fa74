// SPDX-License-Identifier: Apache-2.0
// JSON files that prove themselves: an object with "format", "version" and "check". Format: docs/store.md.
//
// Works on memory only. The getters fill `ret_` on success; otherwise -EBADMSG with the member's name.
#ifndef KAGAMI_RECEIVER_JSON_FILE_H
#define KAGAMI_RECEIVER_JSON_FILE_H

#include "base/err.h"
#include "base/names.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_FILE_MAX = 64 << 10 };

static inline void auto_json(json_t **json)
{
	json_decref(*json);
}
#define AUTO_JSON __attribute__((cleanup(auto_json)))

// Adds format, version and check to `object` and dumps it for people to read. The caller frees *ret_text. -ENOMEM, and
// -EFBIG above JSON_FILE_MAX.
int json_file_encode(json_t *object, const char *format, int version, char **ret_text, size_t *ret_len);
// The object in `text`, if it is of this format, at most of this version, and true to its check.
int json_file_decode(const char *text, size_t len, const char *format, int version, json_t **ret_object, struct err *err);
// Whether `text` is what was written once, of whatever format and version: an object that is true to its check.
bool json_file_whole(const char *text, size_t len);

int json_get_text(const json_t *object, const char *name, char *ret_text, size_t cap, struct err *err);
int json_get_name(const json_t *object, const char *name, char ret_name[NAME_SIZE], struct err *err);
int json_get_u64(const json_t *object, const char *name, uint64_t least, uint64_t most, uint64_t *ret_value, struct err *err);
int json_get_ns(const json_t *object, const char *name, int64_t *ret_ns, struct err *err);
int json_get_bool(const json_t *object, const char *name, bool *ret_value, struct err *err);
int json_get_uuid(const json_t *object, const char *name, struct uuid *ret_uuid, struct err *err);
int json_get_hex(const json_t *object, const char *name, unsigned char *ret_bytes, size_t len, struct err *err);
// The array `name` of `least` to `most` members; borrowed.
int json_get_array(const json_t *object, const char *name, size_t least, size_t most, const json_t **ret_array,
		   struct err *err);

// New values; NULL when out of memory, which json_object_set_new() takes and reports.
json_t *json_new_u64(uint64_t value); // above INT64_MAX: INT64_MAX
json_t *json_new_uuid(const struct uuid *uuid);
json_t *json_new_hex(const unsigned char *bytes, size_t len);
json_t *json_new_time(int64_t ns); // RFC 3339, UTC, milliseconds

#endif
