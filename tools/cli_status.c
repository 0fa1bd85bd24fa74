// SPDX-License-Identifier: Apache-2.0
// `kagami status`, in tables, and `kagami version`.
//
// A host may be a source, a target, or both: each daemon that answers adds its part. A protection that is not well has
// its reason on a line below it.
#include "tools/cli_status.h"

#include "link/health.h"
#include "tools/both.h"
#include "tools/cli.h"
#include "tools/cli_check.h"
#include "tools/cli_verify.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <errno.h>
#include <string.h>

// "3.1s of 15s": how old the newest point is, and how old it may be. No RPO binds a replica that was failed over, or whose source has ended it.
static struct shown show_age(const json_t *object)
{
	struct shown shown;
	if (cli_status_unbound(object))
		return show_duration_of(object, "age_ms");
	(void)snprintf(shown.text, sizeof(shown.text), "%.16s of %.16s", show_duration_of(object, "age_ms").text,
		       show_duration_of(object, "rpo_ms").text);
	return shown;
}

bool cli_status_failed_over(const json_t *object)
{
	return strcmp(show_text_of(object, "state"), "failed-over") == 0 || show_flag_of(object, "fenced");
}

bool cli_status_unbound(const json_t *object)
{
	return cli_status_failed_over(object) || strcmp(show_text_of(object, "state"), "unprotected") == 0 || show_has(object, "ending_ms");
}

static struct shown show_state(const json_t *protection)
{
	struct shown shown;
	const json_t *progress = json_object_get(protection, "progress");
	uint64_t done = show_number_of(progress, "done_bytes");
	uint64_t total = show_number_of(progress, "total_bytes");
	const char *state = show_text_of(protection, "state");
	if (total)
		(void)snprintf(shown.text, sizeof(shown.text), "%.32s %.0f%%", state, 100.0 * (double)done / (double)total);
	else
		(void)snprintf(shown.text, sizeof(shown.text), "%.32s", state);
	return shown;
}

static struct shown show_last_cycle(const json_t *protection)
{
	struct shown shown = {"-"};
	const json_t *last = json_object_get(protection, "last_cycle");
	bool older = !show_has(last, "cycle") && show_number_of(last, "point") != show_number_of(protection, "point"); // the agent died since
	uint64_t dirty = show_number_of(last, "dirty_bytes"), wire = show_number_of(last, "wire_bytes");
	if (json_is_object(last) && dirty > wire && wire)
		(void)snprintf(shown.text, sizeof(shown.text), "%.8s, %.10s, %.8s", show_duration_of(last, "duration_ms").text, show_size(wire).text,
			       show_ratio(dirty, wire).text);
	else if (json_is_object(last))
		(void)snprintf(shown.text, sizeof(shown.text), "%.8s, %.10s", show_duration_of(last, "duration_ms").text, show_size(wire).text);
	size_t used = strlen(shown.text);
	if (older && json_is_object(last))
		(void)snprintf(shown.text + used, sizeof(shown.text) - used, " (%.12s)", show_integer_of(last, "point").text);
	return shown;
}

// What would be read again if this host died now.
static struct shown show_price(const json_t *protection)
{
	return show_size_of(json_object_get(protection, "crash_price"), "reread_bytes");
}

// The lines below a protection that say what is wrong with it.
static void note_trouble(struct table *table, const json_t *object, bool target)
{
	json_t *why = health_why(object, target), *reason;
	const char *last_error = show_text_of(object, "last_error"), *sync = show_text_of(object, "sync_reason");
	bool said = false;
	size_t i;
	json_array_foreach(why, i, reason) {
		table_note(table, "  ! %s", show_text_of(reason, "text"));
		said |= strstr(show_text_of(reason, "text"), last_error) != NULL;
	}
	if (strcmp(show_text_of(object, "state"), "unprotected") == 0)
		table_note(table, "  . unprotected at the source on %.10s; its points are kept until `kagami forget %s`", show_time_of(object, "unprotected").text, show_text_of(object, "name"));
	if (sync[0])
		table_note(table, "  . compares %s: %s", cli_status_extent(sync), sync);
	if (last_error[0] && !said)
		table_note(table, "  ! last failure: %s", last_error);
	json_decref(why);
}

static void print_source(const json_t *answer)
{
	const json_t *protections = json_object_get(answer, "protections");
	const json_t *protection;
	size_t i;
	if (json_array_size(protections) == 0) {
		(void)printf("Nothing is protected here. Begin with: kagami protect NAME DISK=PATH --to SITE --rpo 15s\n");
		return;
	}
	struct table *table = table_new("lllrlrrrl");
	table_add(table, "SOURCE\tSTATE\tNEWEST POINT\tPOINT\tLAST CYCLE: TIME, SENT\tDIRTY\tCRASH\tNEXT IN\tTO");
	json_array_foreach(protections, i, protection) {
		table_add(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", show_text_of(protection, "name"), show_state(protection).text,
			  show_age(protection).text, show_integer_of(protection, "point").text, show_last_cycle(protection).text,
			  show_size_of(protection, "dirty_bytes").text, show_price(protection).text, show_duration_of(protection, "next_cut_in_ms").text,
			  show_text_of(protection, "site"));
		note_trouble(table, protection, false);
	}
	table_print(table, stdout);
}

static void print_target(const json_t *answer)
{
	const json_t *replicas = json_object_get(answer, "protections");
	const json_t *replica, *verify;
	size_t i, n;
	if (json_array_size(replicas) == 0) {
		(void)printf("No replica is kept here. Let a source in with: kagami pair-token\n");
		return;
	}
	struct table *table = table_new("lllrrlr");
	table_add(table, "TARGET\tSTATE\tNEWEST POINT\tPOINTS\tLAST\tCUT\tSTORED");
	json_array_foreach(replicas, i, replica) {
		table_add(table, "%s\t%s\t%s\t%s\t%s\t%.19s\t%s", show_text_of(replica, "name"), show_text_of(replica, "state"),
			  show_age(replica).text, show_integer_of(replica, "points").text,
			  show_integer_of(replica, "last_point").text, show_time_of(replica, "last_cut").text,
			  show_size_of(replica, "stored_bytes").text);
		note_trouble(table, replica, true);
		json_array_foreach(json_object_get(replica, "verifications"), n, verify)
			cli_verify_note(table, verify);
	}
	table_print(table, stdout);
}

// Both daemons' answers in one object; the one that is not there is null.
static int print_both_json(json_t *source, json_t *target)
{
	return cli_print_json(json_pack("{s:o?, s:o?}", "replicator", source, "receiver", target));
}

static void print_both(const json_t *source, const json_t *target, void (*print_one)(const json_t *),
		       void (*print_other)(const json_t *))
{
	if (source)
		print_one(source);
	if (source && target)
		(void)putchar('\n');
	if (target)
		print_other(target);
}

struct asked {
	const struct cli *cli;
	enum http_daemon daemon;
	const char *path;
	bool absent_ok;
	json_t *answer;
	int rc;
};

static void ask(void *one)
{
	struct asked *asked = one;
	asked->rc = cli_ask_if_there(asked->cli, asked->daemon, asked->absent_ok, &asked->answer, "%s", asked->path);
	if (asked->rc)
		asked->answer = NULL;
}

// Asks both daemons for `path`. Each answer is the caller's, or NULL where there is none. Where one failed, which was said, the other's is there for people; a
// program gets both or none.
static int ask_both(const struct cli *cli, const char *path, bool absent_ok, json_t **ret_source, json_t **ret_target)
{
	struct asked source = {cli, HTTP_REPLICATOR, path, absent_ok, NULL, 0}, target = {cli, HTTP_RECEIVER, path, absent_ok, NULL, 0};
	both_ask(ask, &source, &target);
	int rc = source.rc ? source.rc : target.rc;
	if (rc && cli->json) {
		json_decref(source.answer);
		json_decref(target.answer);
		source.answer = target.answer = NULL;
	}
	*ret_source = source.answer;
	*ret_target = target.answer;
	return rc;
}

// One that was stopped has taken its socket along: it is not of this host, or not wanted now.
static void note_dead(const struct cli *cli, enum http_daemon daemon)
{
	char path[256];
	struct err err = {0};
	if (http_socket_path(cli->run_dir, daemon, path, sizeof(path), &err) == 0 && http_probe(path, &err) == -ECONNREFUSED)
		(void)printf("\n! %s died and does not run: its log says why, start it again\n", http_daemon_name(daemon));
}

static int status_of_all(const struct cli *cli)
{
	json_t *source, *target;
	int rc = ask_both(cli, "/v1/protections", false, &source, &target);
	if (!source && !target)
		return rc ? rc : cli_no_daemon(cli);
	if (cli->json)
		return print_both_json(source, target);
	print_both(source, target, print_source, print_target);
	if (!rc && (!source || !target))
		note_dead(cli, source ? HTTP_RECEIVER : HTTP_REPLICATOR);
	json_decref(source);
	json_decref(target);
	return rc;
}

static int status_of_one(const struct cli *cli, const char *name)
{
	json_t *source, *target;
	char path[NAME_SIZE + 20];
	struct err err;
	if (parse_name("protection", name, &err))
		return cli_misused(cli, "%s", err.text);
	(void)snprintf(path, sizeof(path), "/v1/protections/%s", name);
	int rc = ask_both(cli, path, true, &source, &target);
	if (rc && !source && !target)
		return rc;
	if (!source && !target) { // absent on both sides, or nobody to ask
		rc = ask_both(cli, "/v1/version", false, &source, &target);
		bool any = source || target;
		json_decref(source);
		json_decref(target);
		if (rc || !any)
			return rc ? rc : cli_no_daemon(cli);
		return cli_fail(cli, CLI_REFUSED, "no protection is named \"%s\" here: \"kagami status\" lists them", name);
	}
	if (cli->json)
		return print_both_json(source, target);
	print_both(source, target, cli_status_print_source, cli_status_print_target);
	json_decref(source);
	json_decref(target);
	return rc;
}

enum { STATUS_WAITS_S = 30 }; // of a daemon that hangs: then it says so

int cli_status(const struct cli *cli)
{
	if (!cli->option[OPT_CHECK] && (cli->option[OPT_WARNING] || cli->option[OPT_CRITICAL]))
		return cli_misused(cli, "--warning and --critical go with --check");
	if (cli->option[OPT_CHECK] && cli->json)
		return cli_misused(cli, "--check prints a line for a monitor, and no JSON: \"kagami status --json\" has health and why of each");
	if (cli->option[OPT_CHECK])
		return cli_check_run(cli); // a monitor asks whether all is well, whatever of Kagami runs here
	http_wait_at_most(STATUS_WAITS_S);
	return cli->argc ? status_of_one(cli, cli->argv[0]) : status_of_all(cli);
}

static void print_version(enum http_daemon daemon, const json_t *answer)
{
	(void)printf("%-18s ", http_daemon_name(daemon));
	if (answer)
		(void)printf("%s, pid %s\n", show_text_of(answer, "version"), show_integer_of(answer, "pid").text);
	else
		(void)printf("does not answer\n");
}

int cli_version(const struct cli *cli)
{
	json_t *source, *target;
	int rc = ask_both(cli, "/v1/version", false, &source, &target);
	if (rc && cli->json)
		return rc;
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:o?, s:o?}", "kagami", KAGAMI_VERSION, "replicator", source, "receiver", target));
	(void)printf("%-18s %s\n", "kagami", KAGAMI_VERSION);
	print_version(HTTP_REPLICATOR, source);
	print_version(HTTP_RECEIVER, target);
	json_decref(source);
	json_decref(target);
	return rc;
}
