// SPDX-License-Identifier: Apache-2.0
// `kagami resize`: a larger disk under a running VM.
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <string.h>

static void print_resized(const struct cli *cli, const json_t *answer, bool dry_run)
{
	const char *name = cli->argv[0], *disk = cli->argv[1];
	struct shown from = show_size_of(answer, "old_size_bytes"), to = show_size_of(answer, "size_bytes");
	bool alike = strcmp(from.text, to.text) == 0; // by less than what is shown of a size
	(void)printf("Disk %s of %s %s from %s to %s%s.\n", disk, name, dry_run ? "would grow" : "has grown", alike ? show_integer_of(answer, "old_size_bytes").text : from.text,
		     alike ? show_integer_of(answer, "size_bytes").text : to.text, alike ? " bytes" : "");
	(void)printf("The points stay; the next one %s the larger disk.\n", dry_run ? "would be of" : "is of");
	if (dry_run)
		(void)printf("The connection to the site would be opened anew. Nothing was changed.\n");
	else
		(void)printf("The VM sees the new size when it connects to the disk again, such as at its next start.\n");
}

int cli_resize(const struct cli *cli)
{
	struct err err = {0};
	uint64_t size = 0;
	bool dry_run = cli->option[OPT_DRY_RUN] != NULL;
	if (parse_name("protection", cli->argv[0], &err) || parse_name("disk", cli->argv[1], &err))
		return cli_misused(cli, "%s", err.text);
	if (!cli->option[OPT_SIZE])
		return cli_misused(cli, "--size is missing: say how large the disk is to be, such as --size 20G");
	if (parse_size(cli->option[OPT_SIZE], &size, &err))
		return cli_misused(cli, "--size: %s", err.text);
	json_t *body = json_pack("{s:s, s:I, s:b}", "disk", cli->argv[1], "size_bytes", (json_int_t)size, "dry_run", dry_run);
	json_t *answer;
	int rc = cli_ask(cli, HTTP_REPLICATOR, "POST", body, &answer, "/v1/protections/%s/resize", cli->argv[0]);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_resized(cli, answer, dry_run);
	json_decref(answer);
	return CLI_DONE;
}
