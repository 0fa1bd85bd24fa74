// SPDX-License-Identifier: Apache-2.0
// `kagami plan NAME --rpo 15s,1m,5m,1h`: what other objectives would cost, from what the guest wrote.
#include "base/size.h"
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <stdio.h>
#include <string.h>

enum { RPOS_MAX = 16, RPOS_TEXT = 256 };

// "15s,1m" as "15000,60000".
static int rpos_read(const struct cli *cli, const char *text, char *query, size_t cap)
{
	size_t len = 0;
	for (unsigned count = 0;; count++) {
		char one[32];
		uint64_t ms = 0;
		struct err err;
		size_t n = strcspn(text, ",");
		if (count == RPOS_MAX || n >= sizeof(one))
			return cli_misused(cli, "--rpo: at most %d times, such as 15s,1m,5m,1h", RPOS_MAX);
		memcpy(one, text, n);
		one[n] = 0;
		if (parse_rpo(one, &ms, &err))
			return cli_misused(cli, "%s", err.text);
		len += (size_t)snprintf(query + len, cap - len, "%s%llu", count ? "," : "", (unsigned long long)ms);
		if (!text[n])
			return CLI_DONE;
		text += n + 1;
	}
}

static void print_plan(const json_t *plan)
{
	const json_t *kept = json_object_get(plan, "kept");
	(void)printf("%-8s %-5s %9s %9s %9s %10s %10s %10s %10s\n", show_duration_of(plan, "rpo_ms").text,
		     json_is_null(kept) ? "?" : json_is_true(kept) ? "yes" : "NO", show_duration_of(plan, "interval_ms").text,
		     show_size(show_number_of(plan, "delta_bytes")).text, show_duration_of(plan, "transfer_ms").text,
		     show_size(show_number_of(plan, "rate_needed")).text, show_size(show_number_of(plan, "day_wire_bytes")).text,
		     show_size(show_number_of(plan, "retention_bytes")).text, show_size(show_number_of(plan, "crash_reread_bytes")).text);
}

static void print_plans(const json_t *answer)
{
	const json_t *plan;
	size_t i;
	bool guessed = false;
	if (show_number_of(answer, "samples") == 0) {
		(void)printf("Nothing has been recorded of what %s writes: try again when it has had a point for a minute.\n",
			     show_text_of(answer, "name"));
		return;
	}
	(void)printf("%-8s %-5s %9s %9s %9s %10s %10s %10s %10s\n", "RPO", "kept", "a cut in", "delta", "transfer", "needs /s", "wire a day",
		     "points", "crash");
	json_array_foreach(json_object_get(answer, "plans"), i, plan) {
		print_plan(plan);
		guessed |= !json_is_true(json_object_get(plan, "measured"));
	}
	if (json_is_integer(json_object_get(answer, "rate")))
		(void)printf("\nThe present line takes %s/s of what is dirty", show_size(show_number_of(answer, "rate")).text);
	if (show_has(answer, "smallest_rpo_unknown"))
		(void)printf("\nThe smallest RPO that it keeps is not known: %s. 8 MiB/s are assumed above.\n", show_text_of(answer, "smallest_rpo_unknown"));
	else if (json_is_integer(json_object_get(answer, "smallest_rpo_ms")))
		(void)printf("; the smallest RPO that it keeps is %s.\n", show_duration_of(answer, "smallest_rpo_ms").text);
	else
		(void)printf("; it keeps none up to a day.\n");
	if (guessed)
		(void)printf("Stretches longer than those between cuts so far continue the curve of what was measured.\n");
}

int cli_plan_rpo(const struct cli *cli)
{
	static const struct {
		enum cli_option option;
		const char *name;
	} others[] = {{OPT_POINTS, "--points"}, {OPT_KEEP, "--keep"}, {OPT_FLOOR, "--floor"}, {OPT_SOURCE, "--source"}};
	char query[RPOS_TEXT * 2];
	struct err err;
	json_t *answer;
	for (unsigned i = 0; i < COUNT(others); i++)
		if (cli->option[others[i].option])
			return cli_misused(cli, "%s is for \"plan retention NAME\", not for --rpo", others[i].name);
	if (cli->argc != 1)
		return cli_misused(cli, "--rpo is of one protection: `kagami plan NAME --rpo 15s,1m,5m,1h`");
	if (parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	int rc = rpos_read(cli, cli->option[OPT_RPO], query, sizeof(query));
	if (rc)
		return rc;
	rc = cli_ask(cli, HTTP_REPLICATOR, "GET", NULL, &answer, "/v1/protections/%s/plan?rpo_ms=%s", cli->argv[0], query);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_plans(answer);
	json_decref(answer);
	return CLI_DONE;
}
