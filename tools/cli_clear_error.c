// SPDX-License-Identifier: Apache-2.0
// `kagami clear-error`: the operator's word that a disk that failed is good again, and its guest a new one.
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/show.h"

static void print_cleared(const struct cli *cli, const json_t *answer, bool dry_run)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	(void)printf("Flushes of disk %s of %s %s promised again. It had failed:\n  %s\n", cli->argv[1], cli->argv[0], dry_run ? "would be" : "are", error ? error : "");
	if (dry_run)
		(void)printf("Its image would be synced, and what it may have lost sent anew. Nothing was changed.\n");
	else
		(void)printf("What the image may have lost is sent anew. Check the guest's file systems when it starts.\n");
}

int cli_clear_error(const struct cli *cli)
{
	struct err err = {0};
	bool dry_run = cli->option[OPT_DRY_RUN] != NULL;
	if (parse_name("protection", cli->argv[0], &err) || parse_name("disk", cli->argv[1], &err))
		return cli_misused(cli, "%s", err.text);
	json_t *body = json_pack("{s:s, s:b}", "disk", cli->argv[1], "dry_run", dry_run);
	json_t *answer;
	int rc = cli_ask(cli, HTTP_REPLICATOR, "POST", body, &answer, "/v1/protections/%s/clear-error", cli->argv[0]);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_cleared(cli, answer, dry_run);
	json_decref(answer);
	return CLI_DONE;
}
