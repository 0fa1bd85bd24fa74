// SPDX-License-Identifier: Apache-2.0
// `kagami events`: what happened, as both daemons wrote it down; with --follow also what happens.
#include "tools/cli.h"
#include "tools/events_merge.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <string.h>
#include <unistd.h>

enum { EVENTS_SHOWN = 100, FOLLOW_EVERY_S = 1 };

struct reader {
	const struct cli *cli;
	uint64_t next[2];
	bool there[2];
};

static int read_one(struct reader *reader, int daemon, json_t *events)
{
	const struct cli *cli = reader->cli;
	const char *class = cli->option[OPT_CLASS], *name = cli->argc ? cli->argv[0] : NULL;
	for (;;) {
		json_t *answer, *event;
		size_t i;
		int rc = cli_ask_if_there(cli, daemon, false, &answer, "/v1/events?since=%llu%s%s%s%s", (unsigned long long)reader->next[daemon],
					  name ? "&protection=" : "", name ? name : "", class ? "&class=" : "", class ? class : "");
		if (rc || !answer)
			return rc;
		reader->there[daemon] = true;
		reader->next[daemon] = show_number_of(answer, "next");
		size_t count = json_array_size(json_object_get(answer, "events"));
		json_array_foreach(json_object_get(answer, "events"), i, event)
			(void)json_array_append(events, event);
		json_decref(answer);
		if (count == 0)
			return CLI_DONE;
	}
}

// What both have that is new.
static int read_new(struct reader *reader, json_t **ret_merged)
{
	json_t *events[] = {[HTTP_REPLICATOR] = json_array(), [HTTP_RECEIVER] = json_array()};
	int rc = CLI_DONE;
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER && rc == CLI_DONE; daemon++)
		rc = read_one(reader, daemon, events[daemon]);
	if (rc == CLI_DONE)
		*ret_merged = events_merge(events[HTTP_REPLICATOR], events[HTTP_RECEIVER]);
	json_decref(events[HTTP_REPLICATOR]);
	json_decref(events[HTTP_RECEIVER]);
	return rc;
}

static void print_event(const struct cli *cli, const json_t *event)
{
	if (cli->json) {
		cli_print_json_line(event);
		return;
	}
	const char *severity = show_text_of(event, "severity");
	const char *mark = strcmp(severity, "critical") == 0 ? "!!" : strcmp(severity, "warning") == 0 ? "!" : "";
	(void)printf("%.19s  %-2s %-12s %-16s %s\n", show_time_of(event, "when").text, mark, show_text_of(event, "class"),
		     show_has(event, "protection") ? show_text_of(event, "protection") : "-", show_text_of(event, "text"));
}

static void print_newest(const struct cli *cli, const json_t *events)
{
	size_t count = json_array_size(events);
	size_t first = cli->option[OPT_ALL] || count <= EVENTS_SHOWN ? 0 : count - EVENTS_SHOWN;
	if (first && !cli->json)
		(void)printf("(%zu older ones: --all shows them)\n", first);
	for (size_t i = first; i < count; i++)
		print_event(cli, json_array_get(events, i));
	(void)fflush(stdout);
}

// Whether a daemon here has the protection, or an event of it: one that was ended is not forgotten.
static int is_known(struct reader *reader, const char *name, bool *ret_known)
{
	*ret_known = false;
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER && !*ret_known; daemon++) {
		json_t *there = NULL, *answer = NULL;
		int rc = cli_ask_if_there(reader->cli, daemon, true, &there, "/v1/protections/%s", name);
		if (rc == CLI_DONE && !there)
			rc = cli_ask_if_there(reader->cli, daemon, false, &answer, "/v1/events?since=0&protection=%s", name);
		*ret_known = there || json_array_size(json_object_get(answer, "events")) > 0;
		json_decref(there);
		json_decref(answer);
		if (rc)
			return rc;
	}
	return CLI_DONE;
}

// Of the first look: nobody may be there to ask, or nothing may be known by that name.
static int check_first(struct reader *reader, size_t count)
{
	bool known = true;
	const struct cli *cli = reader->cli;
	if (!reader->there[HTTP_REPLICATOR] && !reader->there[HTTP_RECEIVER])
		return cli_no_daemon(cli);
	int rc = cli->argc && count == 0 ? is_known(reader, cli->argv[0], &known) : CLI_DONE;
	if (rc == CLI_DONE && !known)
		rc = cli_fail(cli, CLI_REFUSED, "no protection is named \"%s\" here, and none was: \"kagami status\" lists them", cli->argv[0]);
	return rc;
}

int cli_events(const struct cli *cli)
{
	struct reader reader = {.cli = cli};
	struct err err = {0};
	json_t *events = NULL;
	if (cli->argc && parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (cli->option[OPT_CLASS] && cli->option[OPT_CLASS][strspn(cli->option[OPT_CLASS], "abcdefghijklmnopqrstuvwxyz-")])
		return cli_misused(cli, "\"%s\" is no class of events; \"man kagami\" lists them", cli->option[OPT_CLASS]);
	for (bool first = true;; first = false) {
		int rc = read_new(&reader, &events);
		if (rc)
			return rc;
		rc = first ? check_first(&reader, json_array_size(events)) : CLI_DONE;
		if (rc) {
			json_decref(events);
			return rc;
		}
		if (first && json_array_size(events) == 0 && !cli->option[OPT_FOLLOW] && !cli->json)
			(void)printf("Nothing has happened yet.\n");
		print_newest(cli, events);
		json_decref(events);
		if (!cli->option[OPT_FOLLOW] || ferror(stdout)) // what could not be written is told at the end of every command
			return CLI_DONE;
		(void)sleep(FOLLOW_EVERY_S);
	}
}
