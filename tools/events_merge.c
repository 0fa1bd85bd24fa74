// SPDX-License-Identifier: Apache-2.0
#include "tools/events_merge.h"

#include <stdbool.h>
#include <string.h>

static const char *when_of(const json_t *event)
{
	const char *when = json_string_value(json_object_get(event, "when"));
	return when ? when : "";
}

json_t *events_merge(const json_t *a, const json_t *b)
{
	json_t *merged = json_array();
	size_t i = 0, j = 0;
	while (i < json_array_size(a) || j < json_array_size(b)) {
		json_t *first = json_array_get(a, i), *second = json_array_get(b, j);
		bool take_first = first && (!second || strcmp(when_of(first), when_of(second)) <= 0);
		(void)json_array_append(merged, take_first ? first : second);
		i += take_first;
		j += !take_first;
	}
	return merged;
}
