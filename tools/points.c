// SPDX-License-Identifier: Apache-2.0
#include "tools/points.h"

#include "base/size.h"
#include "tools/show.h"

#include <inttypes.h>
#include <string.h>

int points_get(const struct cli *cli, const char *name, json_t **ret_answer)
{
	return cli_ask(cli, HTTP_RECEIVER, "GET", NULL, ret_answer, "/v1/protections/%s/points", name);
}

bool points_broken(const json_t *object)
{
	return show_flag_of(object, "broken") || strcmp(show_text_of(object, "state"), "broken") == 0;
}

json_t *points_find(const struct cli *cli, const struct parse_target *target, const json_t *answer)
{
	json_t *point, *points = json_object_get(answer, "points");
	size_t count = json_array_size(points), i;
	if (target->point == 0 && count)
		return json_array_get(points, count - 1);
	json_array_foreach(points, i, point)
		if (show_number_of(point, "point") == target->point)
			return point;
	if (points_broken(answer))
		(void)cli_fail(cli, CLI_REFUSED, "%s is broken: %s", target->name, show_text_of(answer, "reason"));
	else if (count == 0)
		(void)cli_fail(cli, CLI_REFUSED, "%s has no recovery point yet", target->name);
	else
		(void)cli_fail(cli, CLI_REFUSED, "%s has no point %" PRIu64 ": \"kagami points %s\" lists the ones it has", target->name, target->point,
			       target->name);
	return NULL;
}

void points_warn(FILE *out, const char *name, const json_t *object)
{
	const json_t *unread = json_object_get(object, "unread");
	uint64_t count = show_number_of(unread, "points");
	if (!points_broken(object))
		return;
	(void)fprintf(out, "! %s is broken: %s\n", name, show_text_of(object, "reason"));
	if (count)
		(void)fprintf(out, "! %s on disk, %s%s, %s newer and cannot be used.\n", show_count_of(unread, "points", "point").text,
			      count > 1 ? "the newest of them " : "", show_integer_of(unread, "newest").text, ARE(count));
}
