// SPDX-License-Identifier: Apache-2.0
#include "link/json.h"

#include "base/auto.h"
#include "base/when.h"

#include <string.h>

json_t *json_when(int64_t wall_ns)
{
	if (wall_ns == 0)
		return json_null();
	char text[WHEN_SIZE];
	when_format(wall_ns, text);
	return json_string(text);
}

json_t *json_count(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

json_t *json_text(const char *text)
{
	json_t *json = json_string(text);
	if (json)
		return json;
	AUTO_FREE char *plain = strdup(text);
	if (!plain)
		return NULL;
	for (char *c = plain; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return json_string(plain);
}
