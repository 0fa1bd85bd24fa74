// SPDX-License-Identifier: Apache-2.0
// `kagami syncs`: every sync of a protection, why it was, and what it cost.
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <string.h>

static void add_sync(struct table *table, const json_t *sync)
{
	bool committed = strcmp(show_text_of(sync, "outcome"), "committed") == 0;
	struct shown point = {"-"}, compared = {"-"};
	if (show_number_of(sync, "candidate_bytes") || !show_number_of(sync, "read_bytes")) // a record of before there was the figure has read, and compared who knows what
		compared = show_size_of(sync, "candidate_bytes");
	if (committed)
		(void)snprintf(point.text, sizeof(point.text), "point %.20s", show_integer_of(sync, "point").text);
	table_add(table, "%.19s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", show_time_of(sync, "began").text, show_text_of(sync, "reason"),
		  show_duration_of(sync, "duration_ms").text, compared.text,
		  show_size_of(sync, "sent_bytes").text, show_size_of(sync, "saved_bytes").text,
		  show_size_of(sync, "kept_bytes").text, committed ? point.text : "not committed");
	if (!committed)
		table_note(table, "  ! tries: %s; %s", show_integer_of(sync, "tries").text, show_text_of(sync, "failure"));
}

static void print_syncs(const char *name, const json_t *syncs)
{
	const json_t *sync;
	size_t i;
	if (json_array_size(syncs) == 0) {
		(void)printf("%s has had no sync.\n", name);
		return;
	}
	struct table *table = table_new("llrrrrrl");
	table_add(table, "BEGAN\tREASON\tTIME\tCOMPARED\tSENT\tEQUAL\tKEPT\tOUTCOME");
	json_array_foreach(syncs, i, sync)
		add_sync(table, sync);
	table_print(table, stdout);
}

int cli_syncs(const struct cli *cli)
{
	struct err err = {0};
	json_t *answer;
	if (parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	int rc = cli_ask(cli, HTTP_REPLICATOR, "GET", NULL, &answer, "/v1/protections/%s/syncs", cli->argv[0]);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_syncs(cli->argv[0], json_object_get(answer, "syncs"));
	json_decref(answer);
	return CLI_DONE;
}
