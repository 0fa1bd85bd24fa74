// SPDX-License-Identifier: Apache-2.0
#include "tools/parse.h"

#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SECOND_MS = 1000, DAY_MS = 24 * 3600 * SECOND_MS, DAYS_MOST = 36500 };

// Reads the digits at the front of `text` and returns what follows; NULL without digits or when the number is too large.
static const char *read_digits(const char *text, uint64_t *ret_number)
{
	uint64_t number = 0;
	const char *at = text;
	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(number, 10u, &number) || __builtin_add_overflow(number, (unsigned)(*at - '0'), &number))
			return NULL;
	*ret_number = number;
	return at == text ? NULL : at;
}

int parse_duration(const char *text, uint64_t *ret_ms, struct err *err)
{
	static const struct {
		const char *suffix;
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", SECOND_MS}, {"m", 60 * SECOND_MS}, {"h", 3600 * SECOND_MS}, {"d", DAY_MS}};
	uint64_t number, ms;
	const char *suffix = read_digits(text, &number);
	for (size_t i = 0; suffix && i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(suffix, units[i].suffix) != 0)
			continue;
		if (__builtin_mul_overflow(number, units[i].ms, &ms) || ms > (uint64_t)DAYS_MOST * DAY_MS)
			break;
		*ret_ms = ms;
		return 0;
	}
	return err_set(err, -EINVAL, "\"%s\" is not a duration: write a whole number and a unit, such as 250ms, 15s, 5m or 1h", text);
}

int parse_rpo(const char *text, uint64_t *ret_ms, struct err *err)
{
	uint64_t ms;
	int rc = parse_duration(text, &ms, err);
	if (rc)
		return err_wrap(err, "--rpo");
	if (ms < SECOND_MS || ms > DAY_MS)
		return err_set(err, -EINVAL, "--rpo: %s is out of range: an RPO is from 1s to 24h", text);
	*ret_ms = ms;
	return 0;
}

int parse_bytes(const char *text, uint64_t *ret_bytes, struct err *err)
{
	static const char units[] = "KMGT";
	uint64_t bytes;
	const char *suffix = read_digits(text, &bytes);
	const char *unit = suffix && *suffix ? strchr(units, *suffix >= 'a' && *suffix <= 'z' ? *suffix - 'a' + 'A' : *suffix) : NULL;
	for (const char *u = units; unit && suffix && u <= unit; u++)
		if (__builtin_mul_overflow(bytes, 1024u, &bytes))
			suffix = NULL;
	if (!suffix || (*suffix && (!unit || suffix[1])))
		return err_set(err, -EINVAL, "\"%s\" is not a size: write a whole number of bytes, or one with K, M, G or T, such as 20G", text);
	if (bytes == 0 || bytes > INT64_MAX)
		return err_set(err, -EINVAL, "%s is %s", text, bytes ? "too much" : "nothing at all");
	*ret_bytes = bytes;
	return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes, struct err *err)
{
	uint64_t bytes = 0;
	int rc = parse_bytes(text, &bytes, err);
	if (rc)
		return rc;
	if (!size_disk_ok(bytes))
		return err_set(err, -EINVAL, "a disk cannot have the size %s: it is a multiple of 512 bytes, up to 64T", text);
	*ret_bytes = bytes;
	return 0;
}

int parse_number(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *ret_number, struct err *err)
{
	uint64_t number;
	const char *rest = read_digits(text, &number);
	if ((!rest || *rest || number < least || number > most) && most == INT64_MAX)
		return err_set(err, -EINVAL, "%s: \"%s\" is not a number from %ju on", what, text, (uintmax_t)least);
	if (!rest || *rest || number < least || number > most)
		return err_set(err, -EINVAL, "%s: \"%s\" is not a number from %ju to %ju", what, text, (uintmax_t)least,
			       (uintmax_t)most);
	*ret_number = number;
	return 0;
}

int parse_name(const char *what, const char *text, struct err *err)
{
	if (name_ok(text))
		return 0;
	return err_set(err, -EINVAL, "\"%.80s\" cannot name a %s: %s", text, what, NAME_RULE);
}

int parse_new_name(const char *text, struct err *err)
{
	int rc = parse_name("protection", text, err);
	if (rc == 0 && name_reserved(text))
		rc = err_set(err, -EINVAL, "%s " NAME_RESERVED_RULE, text);
	return rc;
}

int parse_address(const char *text, struct err *err)
{
	uint64_t port;
	const char *colon = strrchr(text, ':');
	size_t host = colon ? (size_t)(colon - text) : 0;
	bool bracketed = host > 2 && text[0] == '[' && text[host - 1] == ']';
	bool plain = host > 0 && host < 254 && strcspn(text, ":[]") == host;
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c >= 0x7f)
			plain = bracketed = false;
	if ((plain || bracketed) && parse_number("port", colon + 1, 1, 65535, &port, NULL) == 0)
		return 0;
	return err_set(err, -EINVAL, "\"%s\" is not HOST:PORT, such as dr.example.org:7700 or [2001:db8::1]:7700", text);
}

// Copies the `len` bytes at `text` as a name that was checked.
static int copy_name(const char *what, const char *text, size_t len, char name[NAME_SIZE], struct err *err)
{
	char copy[NAME_SIZE + 1]; // one more than a name may have, so that a longer one is seen
	(void)snprintf(copy, sizeof(copy), "%.*s", (int)(len < NAME_SIZE ? len : NAME_SIZE), text);
	int rc = parse_name(what, copy, err);
	if (!rc)
		memcpy(name, copy, NAME_SIZE);
	return rc;
}

int parse_target(const char *text, struct parse_target *ret_target, struct err *err)
{
	struct parse_target target = {.point = 0};
	const char *at = strchrnul(text, '@');
	int rc = copy_name("protection", text, (size_t)(at - text), target.name, err);
	if (!rc && *at)
		rc = parse_number("the point behind '@'", at + 1, 1, INT64_MAX, &target.point, err);
	if (!rc)
		*ret_target = target;
	return rc;
}

int parse_disk(const char *text, struct parse_disk *ret_disk, struct err *err)
{
	struct parse_disk disk = {.path = strchr(text, '=')};
	if (!disk.path || !disk.path[1])
		return err_set(err, -EINVAL, "\"%s\" is not DISK=PATH, such as vda=/images/vm1.raw", text);
	int rc = copy_name("disk", text, (size_t)(disk.path - text), disk.name, err);
	disk.path++;
	if (!rc)
		*ret_disk = disk;
	return rc;
}

int parse_time(const char *text, int64_t *ret_ms)
{
	struct tm utc = {.tm_isdst = 0};
	int ms = 0;
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
	if (!rest)
		return -EINVAL;
	if (*rest == '.') {
		int scale = 100;
		for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
			ms += (*rest - '0') * scale;
	}
	if (strcmp(rest, "Z") != 0)
		return -EINVAL;
	*ret_ms = (int64_t)timegm(&utc) * SECOND_MS + ms;
	return 0;
}
