// SPDX-License-Identifier: Apache-2.0
// What an operator writes on a command line: durations, NAME@POINT, DISK=PATH, numbers. Nothing here touches the world.
//
// Each returns 0, or -EINVAL and a text that says what was expected.
#ifndef KAGAMI_TOOLS_PARSE_H
#define KAGAMI_TOOLS_PARSE_H

#include "base/err.h"
#include "base/names.h"

#include <stdint.h>

// A whole number with a unit behind it: 250ms, 15s, 5m, 1h, 2d. At most 36500 days.
int parse_duration(const char *text, uint64_t *ret_ms, struct err *err);
// A recovery point objective: a duration from one second to one day, as the daemon takes it.
int parse_rpo(const char *text, uint64_t *ret_ms, struct err *err);
// The size of a disk: a whole number of bytes, or with a unit behind it (K, M, G, T: powers of 1024); a multiple of 512, up to 64 TiB.
int parse_size(const char *text, uint64_t *ret_bytes, struct err *err);
int parse_bytes(const char *text, uint64_t *ret_bytes, struct err *err); // the same, of any amount above 0
// A decimal number of `least` to `most`; `what` names it in the error.
int parse_number(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *ret_number, struct err *err);
// The name of a protection, disk or site; `what` says of which.
int parse_name(const char *what, const char *text, struct err *err);
// The name of a protection that is to be made: one that the receiver's store does not need itself.
int parse_new_name(const char *text, struct err *err);

// HOST:PORT or [IPV6]:PORT; whether it resolves is not asked.
int parse_address(const char *text, struct err *err);

struct parse_target {
	char name[NAME_SIZE];
	uint64_t point; // 0: none was named, so the newest
};
// NAME or NAME@POINT.
int parse_target(const char *text, struct parse_target *ret_target, struct err *err);

struct parse_disk {
	char name[NAME_SIZE];
	const char *path; // within the text that was parsed
};
// DISK=PATH; the path may hold any character.
int parse_disk(const char *text, struct parse_disk *ret_disk, struct err *err);

// A point in time as the daemons write it, RFC 3339 in UTC, as milliseconds since 1970.
int parse_time(const char *text, int64_t *ret_ms);

#endif
