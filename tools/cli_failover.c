// SPDX-License-Identifier: Apache-2.0
// A failover taken back, or made final. Before something is thrown away the command says what, and asks.
#include "tools/cli_failover.h"

#include "tools/show.h"

static json_t *body_of(const struct parse_target *target, bool dry_run)
{
	json_t *body = json_object();
	if (target->point)
		(void)json_object_set_new(body, "point", json_integer((json_int_t)target->point));
	if (dry_run)
		(void)json_object_set_new(body, "dry_run", json_true());
	return body;
}

static int roll_back(const struct cli *cli, const struct parse_target *target, bool dry_run, json_t **ret_answer)
{
	json_t *body = body_of(target, dry_run);
	if (cli->option[OPT_DISCARD])
		(void)json_object_set_new(body, "discard", json_true());
	return cli_ask(cli, HTTP_RECEIVER, "POST", body, ret_answer,
		       "/v1/protections/%s/failover/rollback", target->name);
}

static void print_rollback(const json_t *answer, bool dry_run)
{
	(void)printf("The failover of %s to point %s %s taken back.\n", show_text_of(answer, "name"),
		     show_integer_of(answer, "point").text, dry_run ? "would be" : "is");
	(void)printf("%s that were written to its disks since %s thrown away; the points stay.\n",
		     show_size_of(answer, "written_bytes").text, dry_run ? "would be" : "are");
	if (show_flag_of(answer, "broken"))
		(void)printf("The replica is broken (kagami status %s says why): the source can go on when it is not any more.\n", show_text_of(answer, "name"));
	else
		(void)printf("The source %s go on from point %s: by itself within a minute, or at once with \"kagami resume "
		     "%s\" there.\n",
		     dry_run ? "could" : "can", show_integer_of(answer, "last_point").text,
		     show_text_of(answer, "name"));
	if (dry_run)
		(void)printf("Nothing was done.\n");
}

static int rollback_command(const struct cli *cli, const struct parse_target *target)
{
	json_t *answer;
	bool dry_run = cli->option[OPT_DRY_RUN];
	if (!dry_run && !cli->option[OPT_YES] && !cli_on_terminal())
		return cli_misused(cli, "this throws away what was written to the failover's disks: see --dry-run, and "
					"say --yes to mean it");
	if (!dry_run && !cli->option[OPT_YES]) {
		int rc = roll_back(cli, target, true, &answer);
		if (rc)
			return rc;
		bool go_on = cli_confirmed(cli,
					   "Take back the failover of %s to point %s? %s that were written to its "
					   "disks since are thrown away, and the "
					   "source may replicate again.",
					   target->name, show_integer_of(answer, "point").text,
					   show_size_of(answer, "written_bytes").text);
		json_decref(answer);
		if (!go_on)
			return CLI_REFUSED;
	}
	int rc = roll_back(cli, target, dry_run, &answer);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_rollback(answer, dry_run);
	json_decref(answer);
	return CLI_DONE;
}

static int commit_command(const struct cli *cli, const struct parse_target *target)
{
	json_t *answer;
	if (!cli_confirmed(
		    cli,
		    "Make the failover of %s final? Its old source can then never replicate into this replica again.",
		    target->name))
		return CLI_REFUSED;
	int rc = cli_ask(cli, HTTP_RECEIVER, "POST", body_of(target, false), &answer,
			 "/v1/protections/%s/failover/commit", target->name);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("The failover of %s to point %s is final. Its disks stay where they are, on that point.\n"
		     "The way back: protect it from here to the other host, with the image there as the seed (docs/failback.md).\n",
		     show_text_of(answer, "name"), show_integer_of(answer, "point").text);
	json_decref(answer);
	return CLI_DONE;
}

int cli_failover_end(const struct cli *cli, const struct parse_target *target)
{
	return cli->option[OPT_ROLLBACK] ? rollback_command(cli, target) : commit_command(cli, target);
}
