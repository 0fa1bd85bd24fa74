// SPDX-License-Identifier: Apache-2.0
// Tests of a point: writable disks beside the replication, to be thrown away. test start, list, stop.
#include "tools/cli_verify.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <string.h>

static void print_test(const json_t *test)
{
	const json_t *disk;
	size_t i;
	(void)printf("The test %s of %s stands on point %s, cut at %s.\n\nDisks, writable qcow2, thrown away at its end:\n",
		     show_text_of(test, "name"), show_text_of(test, "protection"), show_integer_of(test, "point").text,
		     show_time_of(test, "cut").text);
	json_array_foreach(json_object_get(test, "disks"), i, disk)
		(void)printf("  %s  %s\n", show_text_of(disk, "name"), show_path_of(disk));
	(void)printf("\nTo boot it, without a network, where the original is:\n  %s\nTo end it: kagami test stop %s %s\n",
		     show_text_of(test, "command"), show_text_of(test, "protection"), show_text_of(test, "name"));
}

static int test_start(const struct cli *cli)
{
	struct parse_target target;
	struct err err;
	json_t *answer;
	const char *name = cli->option[OPT_NAME];
	if (cli->argc != 2)
		return cli_misused(cli, "start needs one protection");
	if (parse_target(cli->argv[1], &target, &err) || (name && parse_name("test", name, &err)))
		return cli_misused(cli, "%s", err.text);
	int rc = cli_verify_first(cli, &target);
	if (rc)
		return rc;
	json_t *body = json_object();
	if (target.point)
		(void)json_object_set_new(body, "point", json_integer((json_int_t)target.point));
	if (name)
		(void)json_object_set_new(body, "name", json_string(name));
	if (cli->option[OPT_DAMAGED])
		(void)json_object_set_new(body, "damaged", json_true());
	rc = cli_ask(cli, HTTP_RECEIVER, "POST", body, &answer, "/v1/protections/%s/tests", target.name);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_test(answer);
	cli_verify_print(cli, target.name, json_object_get(answer, "verify"), true);
	json_decref(answer);
	return CLI_DONE;
}

static void print_tests(const json_t *tests)
{
	const json_t *test;
	size_t i;
	struct table *table = table_new("llrlrrl");
	table_add(table, "PROTECTION\tTEST\tPOINT\tCUT\tAGE\tSPACE");
	json_array_foreach(tests, i, test) {
		table_add(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s", show_text_of(test, "protection"), show_text_of(test, "name"),
			  show_integer_of(test, "point").text, show_time_of(test, "cut").text,
			  show_has(test, "age_ms") ? show_duration_of(test, "age_ms").text : "-", show_size_of(test, "stored_bytes").text,
			  show_flag_of(test, "in_use") ? "in use" : "");
		if (show_text_of(test, "reason")[0])
			table_note(table, "! %s", show_text_of(test, "reason"));
		cli_verify_note(table, json_object_get(test, "verify"));
	}
	table_print(table, stdout);
}

// The tests of `name`, or all of them when it is NULL. On CLI_DONE *ret_tests is the caller's.
static int tests_get(const struct cli *cli, const char *name, json_t **ret_tests)
{
	json_t *answer, *test;
	size_t i;
	int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/tests");
	if (rc)
		return rc;
	json_t *tests = json_array();
	json_array_foreach(json_object_get(answer, "tests"), i, test)
		if (!name || strcmp(show_text_of(test, "protection"), name) == 0)
			(void)json_array_append(tests, test);
	json_decref(answer);
	*ret_tests = tests;
	return CLI_DONE;
}

static int test_list(const struct cli *cli)
{
	json_t *tests;
	struct err err;
	const char *name = cli->argc > 1 ? cli->argv[1] : NULL;
	if (cli->argc > 2)
		return cli_misused(cli, "\"%s\" is too much", cli->argv[2]);
	if (name && parse_name("protection", name, &err))
		return cli_misused(cli, "%s", err.text);
	int rc = tests_get(cli, name, &tests);
	if (rc)
		return rc;
	json_t *answer = NULL; // of none there may be no protection
	if (name && json_array_size(tests) == 0 && (rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/protections/%s", name))) {
		json_decref(tests);
		return rc;
	}
	json_decref(answer);
	if (cli->json)
		return cli_print_json(json_pack("{s:o}", "tests", tests));
	if (json_array_size(tests) == 0)
		(void)printf("There is no test%s%s.\n", name ? " of " : "", name ? name : "");
	else
		print_tests(tests);
	json_decref(tests);
	return CLI_DONE;
}

// The only test of a protection, where none was named.
static int test_only(const struct cli *cli, const char *protection, char name[NAME_SIZE])
{
	json_t *tests;
	int rc = tests_get(cli, protection, &tests);
	if (rc)
		return rc;
	size_t count = json_array_size(tests);
	if (count == 1)
		(void)snprintf(name, NAME_SIZE, "%s", show_text_of(json_array_get(tests, 0), "name"));
	else if (count == 0)
		rc = cli_fail(cli, CLI_REFUSED, "%s has no test: \"kagami test list\" shows what there is", protection);
	else
		rc = cli_misused(cli, "%s has %zu tests: name one (\"kagami test list %s\" shows them)", protection, count, protection);
	json_decref(tests);
	return rc;
}

static int test_stop(const struct cli *cli)
{
	struct err err;
	char name[NAME_SIZE];
	json_t *answer;
	int rc = CLI_DONE;
	if (cli->argc < 2)
		return cli_misused(cli, "stop needs a protection");
	if (parse_name("protection", cli->argv[1], &err) || (cli->argc > 2 && parse_name("test", cli->argv[2], &err)))
		return cli_misused(cli, "%s", err.text);
	if (cli->argc > 2)
		(void)snprintf(name, sizeof(name), "%s", cli->argv[2]);
	else
		rc = test_only(cli, cli->argv[1], name);
	if (rc == CLI_DONE)
		rc = cli_ask(cli, HTTP_RECEIVER, "DELETE", NULL, &answer, "/v1/protections/%s/tests/%s%s", cli->argv[1], name,
			     cli->option[OPT_FORCE] ? "?force=yes" : "");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("The test %s of %s is stopped, and its disks are gone.\n", name, cli->argv[1]);
	json_decref(answer);
	return CLI_DONE;
}

int cli_test(const struct cli *cli)
{
	const char *verb = cli->argv[0];
	if (strcmp(verb, "start") != 0 && cli->option[OPT_NAME])
		return cli_misused(cli, "--name is for start");
	if (strcmp(verb, "start") != 0 && cli->option[OPT_DAMAGED])
		return cli_misused(cli, "--damaged is for start");
	if (strcmp(verb, "start") != 0 && cli->option[OPT_VERIFY])
		return cli_misused(cli, "--verify is for start");
	if (strcmp(verb, "stop") != 0 && cli->option[OPT_FORCE])
		return cli_misused(cli, "--force is for stop");
	if (strcmp(verb, "start") == 0)
		return test_start(cli);
	if (strcmp(verb, "list") == 0)
		return test_list(cli);
	if (strcmp(verb, "stop") == 0)
		return test_stop(cli);
	return cli_misused(cli, "\"%s\" is not start, list or stop", verb);
}
