// SPDX-License-Identifier: Apache-2.0
// `kagami limit`: what a replica may take on disk.
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <string.h>

static void print_limit(const json_t *replica)
{
	uint64_t quota = show_number_of(replica, "quota_bytes"), used = show_number_of(replica, "used_bytes");
	if (quota == 0)
		(void)printf("%s has no quota; it takes %s.\n", show_text_of(replica, "name"), show_size(used).text);
	else
		(void)printf("%s may take %s, and takes %s.\n", show_text_of(replica, "name"), show_size(quota).text,
			     show_size(used).text);
	if (quota && used >= quota)
		(void)printf("It is over that: its points stay, and no new one is taken until there is room.\n");
}

int cli_limit(const struct cli *cli)
{
	struct err err = {0};
	const char *text = cli->option[OPT_QUOTA];
	uint64_t quota = 0;
	json_t *answer;
	if (parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (!text)
		return cli_misused(cli, "--quota is missing: say how much it may take, such as --quota 200G, or none");
	if (strcmp(text, "none") != 0 && parse_bytes(text, &quota, &err))
		return cli_misused(cli, "--quota: %s", err.text);
	int rc = cli_ask(cli, HTTP_RECEIVER, "POST", json_pack("{s:I}", "quota_bytes", (json_int_t)quota), &answer,
			 "/v1/protections/%s/limits", cli->argv[0]);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_limit(answer);
	json_decref(answer);
	return CLI_DONE;
}
