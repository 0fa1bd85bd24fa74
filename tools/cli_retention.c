// SPDX-License-Identifier: Apache-2.0
// Which points a replica keeps: the policy, what it would do, and pins.
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <inttypes.h>
#include <string.h>

enum { MS_PER_HOUR = 3600000, FLOOR_HOURS_MAX = 200 };

static void print_policy(const json_t *policy)
{
	const char *keep = show_text_of(policy, "keep");
	(void)printf("policy     by the %s: the newest %s", show_text_of(policy, "set_by"), show_integer_of(policy, "points").text);
	if (keep[0])
		(void)printf(", and of %s the newest each", keep);
	if (show_number_of(policy, "floor_hours"))
		(void)printf("; of the last %s one each in any case", show_count_of(policy, "floor_hours", "hour").text);
	(void)printf("\n");
}

// The newest of the points from `at` on that somebody reads, and with it all below it; NULL when there is none.
static const json_t *reader_above(const json_t *points, size_t at)
{
	for (size_t i = json_array_size(points); i > at; i--)
		if (show_flag_of(json_array_get(points, i - 1), "held"))
			return json_array_get(points, i - 1);
	return NULL;
}

static void print_kept_by(const json_t *points, size_t at, char *text, size_t cap)
{
	const json_t *point = json_array_get(points, at), *why, *reader = reader_above(points, at);
	size_t i, used = 0;
	text[0] = 0;
	json_array_foreach(json_object_get(point, "kept_by"), i, why)
		used += (size_t)snprintf(text + used, cap - used, "%s%s", i ? ", " : "", json_string_value(why));
	if (used)
		return;
	if (!reader)
		(void)snprintf(text, cap, "goes");
	else if (reader == point)
		(void)snprintf(text, cap, "goes, but is held");
	else
		(void)snprintf(text, cap, "goes, once %s is not held", show_integer_of(reader, "point").text);
}

// "3.1 GiB", or where tables do not tell all of it "about 3.1 GiB (3.0 to 3.3 GiB)".
static void print_bytes(const char *what, const json_t *bytes)
{
	uint64_t least = show_number_of(bytes, "least"), most = show_number_of(bytes, "most");
	(void)printf("%s", what);
	if (least == most)
		(void)printf("%s\n", show_size_of(bytes, "most").text);
	else
		(void)printf("about %s (at least %s, at most %s)\n", show_size_of(bytes, "likely").text, show_size_of(bytes, "least").text,
			     show_size_of(bytes, "most").text);
}

static void print_keeps(const char *name, const json_t *plan)
{
	const json_t *cost = json_object_get(plan, "cost");
	const char *error = show_text_of(plan, "cost_error");
	(void)printf("keeps      %s of %s\nremoves    %s\n", show_count_of(plan, "kept", "point").text, name, show_count_of(plan, "removed", "point").text);
	if (json_is_object(cost)) {
		(void)printf("takes now  %s\n", show_size_of(cost, "used_bytes").text);
		print_bytes("then       ", json_object_get(cost, "used_after"));
	} else {
		(void)printf("takes now  %s for the points that stay; what goes frees at most %s: what no later point replaces moves there, or into the base\n",
			     show_size_of(plan, "kept_bytes").text, show_size_of(plan, "freed_bytes_most").text);
	}
	if (error[0])
		(void)printf("           what it takes then cannot be told: %s\n", error);
	(void)printf("\n");
}

// What a point takes then, where that is known and another than now.
static const char *print_after(const json_t *point, char *text, size_t cap)
{
	const json_t *after = json_object_get(point, "stored_after");
	if (!json_is_object(after))
		return "-";
	(void)snprintf(text, cap, "%s%s", show_number_of(after, "least") == show_number_of(after, "most") ? "" : "~", show_size_of(after, "likely").text);
	return text;
}

static void print_plan(const char *name, const json_t *plan, bool would)
{
	const json_t *point;
	size_t i;
	char why[128], after[64];
	bool cost = json_is_object(json_object_get(plan, "cost"));
	struct table *table = table_new(cost ? "rlrrl" : "rlrl");
	table_add(table, "POINT\tCOMMITTED\tSTORED\t%sKEPT BY", cost ? "THEN\t" : "");
	json_array_foreach(json_object_get(plan, "points"), i, point)
	{
		print_kept_by(json_object_get(plan, "points"), i, why, sizeof(why));
		table_add(table, "%s\t%s\t%s\t%s%s%s", show_integer_of(point, "point").text, show_time_of(point, "commit").text,
			  show_size_of(point, "stored_bytes").text, cost ? print_after(point, after, sizeof(after)) : "", cost ? "\t" : "", why);
	}
	print_policy(json_object_get(plan, "retention"));
	print_keeps(name, plan);
	table_print(table, stdout);
	if (would)
		(void)printf("\nNothing was changed.\n");
}

// The options as the daemon takes them; NULL and a message when one makes no sense. An empty object when none is given.
static json_t *policy_body(const struct cli *cli)
{
	struct err err = {0};
	uint64_t number = 0, floor_ms = 0;
	json_t *body = json_object();
	if (cli->option[OPT_POINTS] && parse_number("--points", cli->option[OPT_POINTS], 1, FLOOR_HOURS_MAX, &number, &err)) {
		(void)cli_misused(cli, "%s", err.text);
		json_decref(body);
		return NULL;
	}
	const char *floor = cli->option[OPT_FLOOR];
	bool none = floor && strcmp(floor, "none") == 0;
	if (floor && !none &&
	    (parse_duration(floor, &floor_ms, &err) || floor_ms % MS_PER_HOUR || floor_ms / MS_PER_HOUR > FLOOR_HOURS_MAX)) {
		(void)cli_misused(cli, "--floor: give whole hours, at most %dh, or none", FLOOR_HOURS_MAX);
		json_decref(body);
		return NULL;
	}
	if (cli->option[OPT_POINTS])
		(void)json_object_set_new(body, "points", json_integer((json_int_t)number));
	if (cli->option[OPT_KEEP])
		(void)json_object_set_new(body, "keep", json_string(strcmp(cli->option[OPT_KEEP], "none") ? cli->option[OPT_KEEP] : ""));
	if (floor)
		(void)json_object_set_new(body, "floor_hours", json_integer((json_int_t)(floor_ms / MS_PER_HOUR)));
	if (cli->option[OPT_SOURCE])
		(void)json_object_set_new(body, "source", json_true());
	return body;
}

// Asks for a plan, or for the policy to be set, and prints what comes of it.
static int retention(const struct cli *cli, const char *name, bool dry_run)
{
	struct err err = {0};
	json_t *answer;
	int rc;
	if (parse_name("protection", name, &err))
		return cli_misused(cli, "%s", err.text);
	if (cli->option[OPT_SOURCE] && (cli->option[OPT_POINTS] || cli->option[OPT_KEEP] || cli->option[OPT_FLOOR]))
		return cli_misused(cli, "--source takes the source's wish, and no policy beside it");
	json_t *body = policy_body(cli);
	if (!body)
		return CLI_USAGE;
	bool asks = json_object_size(body) > 0;
	if (asks && dry_run)
		(void)json_object_set_new(body, "dry_run", json_true());
	if (!asks) {
		json_decref(body);
		rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/protections/%s/retention%s", name, dry_run ? "?cost=yes" : "");
	} else {
		rc = cli_ask(cli, HTTP_RECEIVER, "POST", body, &answer, "/v1/protections/%s/retention", name);
	}
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_plan(name, answer, dry_run);
	json_decref(answer);
	return CLI_DONE;
}

int cli_retention(const struct cli *cli)
{
	return retention(cli, cli->argv[0], cli->option[OPT_DRY_RUN] != NULL);
}

int cli_plan(const struct cli *cli)
{
	if (cli->option[OPT_RPO])
		return cli_plan_rpo(cli);
	if (cli->argc == 1)
		return cli_misused(cli, "it needs to be told what: `kagami plan NAME --rpo 15s,1m,5m,1h` on the source, `kagami plan retention NAME` on the target");
	if (strcmp(cli->argv[0], "retention") != 0)
		return cli_misused(cli, "there is no plan of \"%s\": write \"plan retention NAME\"", cli->argv[0]);
	return retention(cli, cli->argv[1], true);
}

// It was pinned already: what its text was is nowhere else any more.
static void print_replaced(const json_t *answer)
{
	const char *was = show_text_of(answer, "replaced"), *is = show_text_of(answer, "text");
	if (!show_has(answer, "replaced"))
		return;
	if (strcmp(was, is) == 0)
		(void)printf("It was pinned already%s.\n", is[0] ? ", with the same text" : "");
	else if (was[0])
		(void)printf("Its text was \"%s\"; now it is %s%s%s.\n", was, is[0] ? "\"" : "", is[0] ? is : "empty", is[0] ? "\"" : "");
	else
		(void)printf("It was pinned already, without a text.\n");
}

static int pin(const struct cli *cli, const char *method, json_t *body, const char *done)
{
	struct parse_target target;
	struct err err = {0};
	json_t *answer;
	int rc = parse_target(cli->argv[0], &target, &err) ? cli_misused(cli, "%s", err.text) : CLI_DONE;
	if (rc == CLI_DONE && target.point == 0)
		rc = cli_misused(cli, "name the point, as %s@42: \"kagami points %s\" lists them", target.name, target.name);
	if (rc) {
		json_decref(body);
		return rc;
	}
	rc = cli_ask(cli, HTTP_RECEIVER, method, body, &answer, "/v1/protections/%s/points/%" PRIu64 "/pin", target.name, target.point);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	bool never = show_has(answer, "was_pinned") && !show_flag_of(answer, "was_pinned");
	(void)printf("Point %" PRIu64 " of %s %s\n", target.point, target.name, never ? "was not pinned." : done);
	print_replaced(answer);
	json_decref(answer);
	return CLI_DONE;
}

int cli_pin(const struct cli *cli)
{
	return pin(cli, "POST", json_pack("{s:s}", "text", cli->argc > 1 ? cli->argv[1] : ""), "stays until it is unpinned.");
}

static int unpin_lost(const struct cli *cli)
{
	const char *name = cli->argv[0];
	struct err err = {0};
	json_t *answer;
	if (parse_name("protection", name, &err))
		return cli_misused(cli, "--lost is about all points of a protection: %s", err.text);
	int rc = cli_ask(cli, HTTP_RECEIVER, "DELETE", NULL, &answer, "/v1/protections/%s/lost-pins", name);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("Of %s, what is pinned stays; the other points go when the policy does not keep them.\n", name);
	json_decref(answer);
	return CLI_DONE;
}

int cli_unpin(const struct cli *cli)
{
	if (cli->option[OPT_LOST])
		return unpin_lost(cli);
	return pin(cli, "DELETE", NULL, "is not pinned any more: it goes when the policy does not keep it.");
}
