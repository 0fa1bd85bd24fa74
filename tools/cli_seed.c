// SPDX-License-Identifier: Apache-2.0
// `kagami seed`: an older copy of a disk, put into the store before its protection is there.
#include "base/auto.h"
#include "base/names.h"
#include "tools/cli.h"
#include "tools/image_look.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_US = 200000, LOOKS = 5 };

struct seed_name {
	char protection[NAME_SIZE], disk[NAME_SIZE];
};

static int name_read(const struct cli *cli, const char *text, struct seed_name *ret_name)
{
	const char *slash = strchr(text, '/');
	struct seed_name name;
	if (!slash || (size_t)(slash - text) >= sizeof(name.protection) || strlen(slash + 1) >= sizeof(name.disk))
		return cli_misused(cli, "\"%s\": name a protection and a disk of it, as in vm1/vda", text);
	(void)snprintf(name.protection, sizeof(name.protection), "%.*s", (int)(slash - text), text);
	(void)snprintf(name.disk, sizeof(name.disk), "%s", slash + 1);
	if (!name_ok(name.protection) || !name_ok(name.disk))
		return cli_misused(cli, "\"%s\": " NAME_RULE, text);
	*ret_name = name;
	return CLI_DONE;
}

static int list(const struct cli *cli)
{
	json_t *answer;
	const json_t *seed;
	size_t i;
	int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/seeds");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	const json_t *making = json_object_get(answer, "making");
	if (json_array_size(json_object_get(answer, "seeds")) == 0 && !json_is_object(making))
		(void)printf("There is no seed.\n");
	json_array_foreach(json_object_get(answer, "seeds"), i, seed)
		(void)printf("%s/%s  %s  for %.16s  made %.19s\n", show_text_of(seed, "protection"), show_text_of(seed, "disk"),
			     show_size_of(seed, "size").text, show_text_of(seed, "source"), show_time_of(seed, "made").text);
	if (json_is_object(making))
		(void)printf("%s/%s  is being made: %s of %s\n", show_text_of(making, "protection"), show_text_of(making, "disk"),
			     show_size_of(making, "done_bytes").text, show_size_of(making, "total_bytes").text);
	if (!json_is_object(making) && show_text_of(answer, "error")[0])
		(void)printf("! The newest one was not made: %s\n", show_text_of(answer, "error"));
	json_decref(answer);
	return CLI_DONE;
}

static int drop(const struct cli *cli, const struct seed_name *name)
{
	json_t *answer;
	int rc = cli_ask(cli, HTTP_RECEIVER, "DELETE", NULL, &answer, "/v1/seeds/%s/%s", name->protection, name->disk);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	json_decref(answer);
	(void)printf("The seed of %s/%s was removed.\n", name->protection, name->disk);
	return CLI_DONE;
}

// Until nothing is being made any more, or, to see whether it fails at once, for a moment; why the newest failed, if it did.
static int wait_for(const struct cli *cli, const struct seed_name *name)
{
	bool wait = cli->option[OPT_WAIT];
	for (unsigned look = 0;; look++) {
		json_t *answer;
		int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/seeds");
		if (rc)
			return rc;
		const json_t *making = json_object_get(answer, "making");
		bool done = !json_is_object(making);
		if (wait && isatty(STDERR_FILENO))
			(void)fprintf(stderr, done ? "\r\033[K" : "\r%s/%s: %s of %s\033[K", name->protection, name->disk,
				      show_size_of(making, "done_bytes").text, show_size_of(making, "total_bytes").text);
		if (done && show_text_of(answer, "error")[0])
			rc = cli_fail(cli, CLI_REFUSED, "the seed was not made: %s", show_text_of(answer, "error"));
		json_decref(answer);
		if (done || (!wait && look == LOOKS))
			return rc;
		(void)usleep(POLL_US);
	}
}

static json_t *request(const struct cli *cli, const struct seed_name *name, const char *path)
{
	const char *how = cli->option[OPT_MOVE] ? "move" : cli->option[OPT_REFLINK] ? "reflink" : "copy";
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s*, s:b}", "protection", name->protection, "disk", name->disk, "path", path, "format",
			 cli->option[OPT_FORMAT], "how", how, "peer", cli->option[OPT_PEER], "dry_run", cli->option[OPT_DRY_RUN] != NULL);
}

static int make(const struct cli *cli, const struct seed_name *name, const char *file)
{
	static struct image_look look;
	struct err err = {0};
	json_t *answer;
	if (!cli->option[OPT_FORMAT])
		return cli_misused(cli, "--format is missing: raw or qcow2; it is never guessed, since a disk's content can look like either");
	if (cli->option[OPT_MOVE] && cli->option[OPT_REFLINK])
		return cli_misused(cli, "--move or --reflink, not both");
	if (image_look(file, &look, &err))
		return cli_fail(cli, err.code == -ETIMEDOUT ? CLI_TIMED_OUT : CLI_REFUSED, "%s", err.text);
	json_t *body = request(cli, name, look.path);
	if (!body)
		return cli_misused(cli, "%s: the path is not UTF-8: rename it", look.path);
	int rc = cli_ask(cli, HTTP_RECEIVER, "POST", body, &answer, "/v1/seeds");
	if (rc == CLI_DONE && !cli->option[OPT_DRY_RUN] && (rc = wait_for(cli, name)))
		json_decref(answer);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	AUTO_FREE char *shown = show_plain(file);
	(void)printf("%s %s: a disk of %s%s.\n", shown,
		     cli->option[OPT_DRY_RUN] ? "would become the seed" : cli->option[OPT_WAIT] ? "is the seed" : "becomes the seed",
		     show_size_of(answer, "size").text, cli->option[OPT_MOVE] ? "; the file itself, which is gone from its place" : "");
	json_decref(answer);
	return CLI_DONE;
}

int cli_seed(const struct cli *cli)
{
	struct seed_name name;
	if (strcmp(cli->argv[0], "list") == 0)
		return cli->argc == 1 ? list(cli) : cli_misused(cli, "\"%s\" is too much", cli->argv[1]);
	bool dropping = strcmp(cli->argv[0], "drop") == 0;
	if (cli->argc != 2)
		return cli_misused(cli, dropping ? "say which seed, as in vm1/vda" : "name a disk and a file");
	int rc = name_read(cli, cli->argv[dropping ? 1 : 0], &name);
	if (rc)
		return rc;
	return dropping ? drop(cli, &name) : make(cli, &name, cli->argv[1]);
}
