// SPDX-License-Identifier: Apache-2.0
// The frame of protection.json and point.json: what makes them valid, and getters that refuse rather than guess.
#include "receiver/json_file.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/when.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CHECK_SIZE = 16, HEX_MAX = 512 };

// The check of an object without its member "check".
static int check_of(const json_t *object, char check[CHECK_SIZE])
{
	AUTO_JSON json_t *bare = json_copy((json_t *)(uintptr_t)object);
	if (!bare)
		return -ENOMEM;
	(void)json_object_del(bare, "check");
	AUTO_FREE char *text = json_dumps(bare, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	if (!text)
		return -ENOMEM;
	(void)snprintf(check, CHECK_SIZE, "crc32c:%08x", crc32c(text, strlen(text)));
	return 0;
}

int json_file_encode(json_t *object, const char *format, int version, char **ret_text, size_t *ret_len)
{
	char check[CHECK_SIZE];
	if (json_object_set_new(object, "format", json_string(format)) ||
	    json_object_set_new(object, "version", json_integer(version)))
		return -ENOMEM;
	int rc = check_of(object, check);
	if (rc)
		return rc;
	if (json_object_set_new(object, "check", json_string(check)))
		return -ENOMEM;
	char *text = json_dumps(object, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	if (!text)
		return -ENOMEM;
	size_t len = strlen(text);
	if (len > JSON_FILE_MAX) {
		free(text);
		return -EFBIG;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int json_file_decode(const char *text, size_t len, const char *format, int version, json_t **ret_object, struct err *err)
{
	json_error_t where;
	char check[CHECK_SIZE], found[64];
	uint64_t found_version;
	AUTO_JSON json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	if (!object)
		return err_set(err, -EBADMSG, "line %d: %s", where.line, where.text);
	if (!json_is_object(object))
		return err_set(err, -EBADMSG, "not a JSON object");
	int rc = json_get_text(object, "format", found, sizeof(found), err);
	if (rc)
		return rc;
	if (strcmp(found, format) != 0)
		return err_set(err, -EBADMSG, "format: not %s", format);
	rc = json_get_u64(object, "version", 1, INT32_MAX, &found_version, err);
	if (rc)
		return rc;
	if (found_version > (uint64_t)version)
		return err_set(err, -EBADMSG, "version: written by a newer receiver; use that one");
	rc = json_get_text(object, "check", found, sizeof(found), err);
	if (rc)
		return rc;
	rc = check_of(object, check);
	if (rc)
		return err_sys(err, rc, "check");
	if (strcmp(found, check) != 0)
		return err_set(err, -EBADMSG, "check: the file was changed or damaged");
	*ret_object = STEAL(object);
	return 0;
}

bool json_file_whole(const char *text, size_t len)
{
	char check[CHECK_SIZE];
	AUTO_JSON json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *found = json_is_object(object) ? json_string_value(json_object_get(object, "check")) : NULL;
	return found && check_of(object, check) == 0 && strcmp(found, check) == 0;
}

int json_get_text(const json_t *object, const char *name, char *ret_text, size_t cap, struct err *err)
{
	const json_t *value = json_object_get(object, name);
	if (!json_is_string(value))
		return err_set(err, -EBADMSG, "%s: missing or not a string", name);
	if (json_string_length(value) >= cap || strlen(json_string_value(value)) != json_string_length(value))
		return err_set(err, -EBADMSG, "%s: too long", name);
	memcpy(ret_text, json_string_value(value), json_string_length(value) + 1);
	return 0;
}

int json_get_name(const json_t *object, const char *name, char ret_name[NAME_SIZE], struct err *err)
{
	char text[NAME_SIZE];
	int rc = json_get_text(object, name, text, sizeof(text), err);
	if (rc)
		return rc;
	if (!name_ok(text))
		return err_set(err, -EBADMSG, "%s: not a name", name);
	memcpy(ret_name, text, NAME_SIZE);
	return 0;
}

int json_get_u64(const json_t *object, const char *name, uint64_t least, uint64_t most, uint64_t *ret_value, struct err *err)
{
	const json_t *value = json_object_get(object, name);
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return err_set(err, -EBADMSG, "%s: missing or not a number", name);
	uint64_t number = (uint64_t)json_integer_value(value);
	if (number < least || number > most)
		return err_set(err, -EBADMSG, "%s: out of its limits", name);
	*ret_value = number;
	return 0;
}

int json_get_ns(const json_t *object, const char *name, int64_t *ret_ns, struct err *err)
{
	const json_t *value = json_object_get(object, name);
	if (!json_is_integer(value))
		return err_set(err, -EBADMSG, "%s: missing or not a number", name);
	*ret_ns = json_integer_value(value);
	return 0;
}

int json_get_bool(const json_t *object, const char *name, bool *ret_value, struct err *err)
{
	const json_t *value = json_object_get(object, name);
	if (!json_is_boolean(value))
		return err_set(err, -EBADMSG, "%s: missing or not true or false", name);
	*ret_value = json_is_true(value);
	return 0;
}

int json_get_uuid(const json_t *object, const char *name, struct uuid *ret_uuid, struct err *err)
{
	char text[UUID_TEXT_SIZE];
	int rc = json_get_text(object, name, text, sizeof(text), err);
	if (rc)
		return rc;
	return uuid_read(text, ret_uuid) ? 0 : err_set(err, -EBADMSG, "%s: not a UUID", name);
}

int json_get_hex(const json_t *object, const char *name, unsigned char *ret_bytes, size_t len, struct err *err)
{
	char text[HEX_MAX + 1];
	int rc = json_get_text(object, name, text, sizeof(text), err);
	if (rc)
		return rc;
	if (strlen(text) != 2 * len)
		return err_set(err, -EBADMSG, "%s: not %zu hex digits", name, 2 * len);
	for (size_t i = 0; i < 2 * len; i++)
		if (hex_digit(text[i]) < 0)
			return err_set(err, -EBADMSG, "%s: not hex digits", name);
	for (size_t i = 0; i < len; i++)
		ret_bytes[i] = (unsigned char)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
	return 0;
}

int json_get_array(const json_t *object, const char *name, size_t least, size_t most, const json_t **ret_array,
		   struct err *err)
{
	const json_t *value = json_object_get(object, name);
	if (!json_is_array(value))
		return err_set(err, -EBADMSG, "%s: missing or not an array", name);
	if (json_array_size(value) < least || json_array_size(value) > most)
		return err_set(err, -EBADMSG, "%s: has %zu members", name, json_array_size(value));
	*ret_array = value;
	return 0;
}

json_t *json_new_u64(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

json_t *json_new_uuid(const struct uuid *uuid)
{
	char text[UUID_TEXT_SIZE];
	uuid_format(uuid, text);
	return json_string(text);
}

json_t *json_new_hex(const unsigned char *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char text[HEX_MAX + 1];
	if (len > HEX_MAX / 2)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	return json_stringn(text, 2 * len);
}

json_t *json_new_time(int64_t ns)
{
	char text[WHEN_SIZE];
	when_format(ns, text);
	return json_string(text);
}
