// SPDX-License-Identifier: Apache-2.0
// Names of protections, disks and sites, and the UUIDs behind them.
#ifndef KAGAMI_BASE_NAMES_H
#define KAGAMI_BASE_NAMES_H

#include <stdbool.h>
#include <stdint.h>

enum { NAME_SIZE = 64, UUID_SIZE = 16, UUID_TEXT_SIZE = 37 };

struct uuid {
	unsigned char bytes[UUID_SIZE];
};

// Whether `name` matches [a-z0-9][a-z0-9._-]{0,62}: safe as a directory name, an export name and a wire string.
bool name_ok(const char *name);

// What a name must look like, for error messages.
#define NAME_RULE "a name has 1 to 63 of a-z, 0-9, '.', '_', '-', and starts with a letter or digit"

// Whether a name, which name_ok() takes, is one that the receiver's store has for itself beside the protections.
bool name_reserved(const char *name);
#define NAME_RESERVED "lock"
#define NAME_RESERVED_RULE "is a name the store needs itself: protect under another name"

struct env;

// A random (version 4) UUID.
int uuid_new(struct env *env, struct uuid *ret_uuid);
void uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE]);
// False, and nothing stored, when `text` is not a UUID.
bool uuid_read(const char *text, struct uuid *ret_uuid);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_zero(const struct uuid *uuid);

#endif
