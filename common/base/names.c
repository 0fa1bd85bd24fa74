// SPDX-License-Identifier: Apache-2.0
#include "base/names.h"

#include "base/env.h"

#include <string.h>
#include <uuid/uuid.h>

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool name_ok(const char *name)
{
	if (!is_alnum(name[0]))
		return false;
	size_t len = 1;
	for (; name[len]; len++)
		if (len >= NAME_SIZE - 1 || !(is_alnum(name[len]) || strchr("._-", name[len])))
			return false;
	return true;
}

bool name_reserved(const char *name)
{
	return strcmp(name, NAME_RESERVED) == 0;
}

int uuid_new(struct env *env, struct uuid *ret_uuid)
{
	struct uuid uuid;
	int rc = env_random(env, uuid.bytes, UUID_SIZE);
	if (rc)
		return rc;
	uuid.bytes[6] = (unsigned char)((uuid.bytes[6] & 0x0f) | 0x40); // RFC 4122, 4.4
	uuid.bytes[8] = (unsigned char)((uuid.bytes[8] & 0x3f) | 0x80);
	*ret_uuid = uuid;
	return 0;
}

void uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE])
{
	uuid_unparse_lower(uuid->bytes, text);
}

bool uuid_read(const char *text, struct uuid *ret_uuid)
{
	uuid_t bytes;
	if (strlen(text) != UUID_TEXT_SIZE - 1 || uuid_parse(text, bytes) != 0)
		return false;
	memcpy(ret_uuid->bytes, bytes, UUID_SIZE);
	return true;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->bytes, b->bytes, UUID_SIZE) == 0;
}

bool uuid_is_zero(const struct uuid *uuid)
{
	static const struct uuid null;
	return uuid_equal(uuid, &null);
}
