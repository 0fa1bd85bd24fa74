// SPDX-License-Identifier: Apache-2.0
// `kagami status --check`: one line and an exit status, as Nagios, Icinga and their like take them from a plugin.
//
//	KAGAMI WARNING - 1 of 3 not well: vm2 paused | 'vm1 age'=3.120s;15;15;0 ...
//
// 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. What a monitor shows is standard output: the reason of UNKNOWN is there, too.
//
// A plugin's guidelines keep UNKNOWN for what says nothing of the service: misuse, no permission to ask, nothing here that could be well or not. A service that
// does not run, or does not answer in time, is CRITICAL, be it one of the daemons or both. A daemon that was stopped takes its socket along, and is not missed;
// of one whose socket is there while nobody listens it is known that it died.
#include "tools/cli_check.h"

#include "base/auto.h"
#include "link/health.h"
#include "tools/both.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_UNKNOWN = 3, CHECK_WAITS_S = 8 }; // a monitor gives up on a plugin after ten seconds at the least

struct check {
	struct health_limits limits;
	const char *run_dir;
	const char *name; // of the only one that is looked at; NULL: all
	enum health worst;
	unsigned count, unwell;
	unsigned failed_over, unprotected, ending; // of those that are well: no RPO binds them
	bool down; // one of the daemons died, or does not answer
	FILE *trouble, *figures; // memory streams
};

static void check_one(struct check *check, const json_t *protection, bool target)
{
	char why[HEALTH_WHY];
	const char *name = show_text_of(protection, "name");
	if (check->name && strcmp(check->name, name) != 0)
		return;
	enum health health = health_of(protection, target, check->limits, why);
	check->count++;
	check->unwell += health != HEALTH_OK;
	check->failed_over += health == HEALTH_OK && strcmp(show_text_of(protection, "state"), "failed-over") == 0;
	check->unprotected += health == HEALTH_OK && strcmp(show_text_of(protection, "state"), "unprotected") == 0;
	check->ending += health == HEALTH_OK && show_has(protection, "ending_ms");
	check->worst = health > check->worst ? health : check->worst;
	for (char *bar = strchr(why, '|'); bar; bar = strchr(bar, '|'))
		*bar = '/'; // what is behind it are figures
	if (health != HEALTH_OK)
		(void)fprintf(check->trouble, "%s%s%s: %s", check->unwell > 1 ? "; " : "", name, target ? " (target)" : "", why);
	double rpo_s = (double)show_number_of(protection, "rpo_ms") / 1000;
	if (health_age(protection) >= 0)
		(void)fprintf(check->figures, " '%s%s age'=%.3fs;%.3f;%.3f;0", name, target ? " target" : "",
			      (double)show_number_of(protection, "age_ms") / 1000, rpo_s * check->limits.warning / 100,
			      rpo_s * check->limits.critical / 100);
}

static void check_all(struct check *check, const json_t *answer, bool target)
{
	const json_t *protection;
	size_t i;
	json_array_foreach(json_object_get(answer, "protections"), i, protection)
		check_one(check, protection, target);
}

// What one daemon has to say. Both are asked at once: two that hang take no longer than one.
struct asked {
	const struct cli *cli;
	enum http_daemon daemon;
	json_t *answer; // NULL: it could not be asked, for the reason in `why`
	struct err why;
};

// Died, or hangs: then it says nothing of what it did, and whatever the other one tells, all is not well.
static bool is_down(const struct asked *asked)
{
	return !asked->answer && (asked->why.code == -ECONNREFUSED || asked->why.code == -ETIMEDOUT);
}

static void check_down(struct check *check, const struct asked *asked)
{
	const char *name = http_daemon_name(asked->daemon), *between = check->unwell || check->down ? "; " : "";
	check->worst = HEALTH_CRITICAL;
	check->down = true;
	if (asked->why.code == -ECONNREFUSED)
		(void)fprintf(check->trouble, "%s%s died and does not run: its log says why, start it again", between, name);
	else
		(void)fprintf(check->trouble, "%s%s hangs: %.300s", between, name, asked->why.text);
}

static int percent_of(const struct cli *cli, enum cli_option option, const char *what, unsigned *percent)
{
	struct err err = {0};
	uint64_t number;
	const char *given = cli->option[option];
	if (!given)
		return CLI_DONE;
	size_t len = strlen(given);
	AUTO_FREE char *text = strndup(given, len && given[len - 1] == '%' ? len - 1 : len);
	if (!text)
		abort();
	if (parse_number(what, text, 1, 100000, &number, &err))
		return cli_misused(cli, "%s", err.text);
	*percent = (unsigned)number;
	return CLI_DONE;
}

// A limit that is not given is as far out as it may be: a warning never stands above what is critical.
static int limits_of(const struct cli *cli, struct health_limits *limits)
{
	if (percent_of(cli, OPT_WARNING, "--warning", &limits->warning) || percent_of(cli, OPT_CRITICAL, "--critical", &limits->critical))
		return CLI_USAGE;
	limits->given = cli->option[OPT_WARNING] || cli->option[OPT_CRITICAL];
	if (limits->warning <= limits->critical)
		return CLI_DONE;
	if (cli->option[OPT_WARNING])
		return cli_misused(cli, "--warning %u%% is above --critical %u%%%s: a warning comes first, so raise --critical to more than %u%%, or lower --warning",
				   limits->warning, limits->critical, cli->option[OPT_CRITICAL] ? "" : ", which it is by default", limits->warning);
	limits->warning = limits->critical;
	return CLI_DONE;
}

static const char *status_name(enum health health)
{
	static const char *const names[] = {"OK", "WARNING", "CRITICAL"};
	return names[health];
}

static void print_well(const struct check *check, const char *figures)
{
	unsigned within = check->count - check->failed_over - check->unprotected - check->ending;
	const char *before = "";
	(void)printf("KAGAMI OK - ");
	if (within) {
		(void)printf("%u within %s RPO", within, within == 1 ? "its" : "their");
		before = ", ";
	}
	if (check->failed_over) {
		(void)printf("%s%u failed over", before, check->failed_over);
		before = ", ";
	}
	if (check->unprotected) {
		(void)printf("%s%u unprotected at the source", before, check->unprotected);
		before = ", ";
	}
	if (check->ending)
		(void)printf("%s%u ending", before, check->ending);
	(void)printf(" |%s\n", figures);
}

static int print_verdict(const struct check *check, const char *trouble, const char *figures)
{
	if (check->down)
		return printf("KAGAMI CRITICAL - %s |%s\n", trouble, figures), HEALTH_CRITICAL;
	if (check->count == 0 && check->name)
		(void)printf("KAGAMI UNKNOWN - no protection is named %s here\n", check->name);
	else if (check->count == 0)
		(void)printf("KAGAMI UNKNOWN - nothing is protected here, and no replica is kept\n");
	else if (check->unwell == 0)
		print_well(check, figures);
	else
		(void)printf("KAGAMI %s - %u of %u not well: %s |%s\n", status_name(check->worst), check->unwell, check->count, trouble, figures);
	return check->count ? (int)check->worst : CHECK_UNKNOWN;
}

static void ask(void *one)
{
	struct asked *asked = one;
	struct http_reply reply;
	if (http_ask(asked->cli->run_dir, asked->daemon, "GET", "/v1/protections", NULL, &reply, &asked->why))
		return;
	show_clean(reply.body);
	if (reply.status < 400) {
		asked->answer = reply.body;
		return;
	}
	(void)err_set(&asked->why, -EPROTO, "%s answers with status %ld: %.200s", http_daemon_name(asked->daemon), reply.status,
		      show_text_of(json_object_get(reply.body, "error"), "message"));
	json_decref(reply.body);
}

static int unknown(const char *why)
{
	return printf("KAGAMI UNKNOWN - %s\n", why), CHECK_UNKNOWN;
}

static int verdict_on(struct check *check, const struct asked asked[2])
{
	char *trouble = NULL, *figures = NULL;
	size_t len;
	check->trouble = open_memstream(&trouble, &len);
	check->figures = open_memstream(&figures, &len);
	if (!check->trouble || !check->figures)
		abort();
	check_all(check, asked[HTTP_REPLICATOR].answer, false);
	check_all(check, asked[HTTP_RECEIVER].answer, true);
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER; daemon++)
		if (is_down(&asked[daemon]))
			check_down(check, &asked[daemon]);
	if (fclose(check->trouble) || fclose(check->figures))
		abort();
	int exit = print_verdict(check, trouble, figures);
	free(trouble);
	free(figures);
	return exit;
}

// Of what could not be asked for another reason than that it is absent or down: that says nothing of it.
static int verdict(struct check *check, const struct asked asked[2])
{
	char nobody[ERR_TEXT_MAX];
	unsigned absent = 0;
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER; daemon++) {
		if (!asked[daemon].answer && !is_down(&asked[daemon]) && asked[daemon].why.code != -ENOENT)
			return unknown(asked[daemon].why.text);
		absent += !asked[daemon].answer && !is_down(&asked[daemon]);
	}
	(void)snprintf(nobody, sizeof(nobody), "no daemon runs at %.200s", check->run_dir);
	return absent == 2 ? unknown(nobody) : verdict_on(check, asked);
}

int cli_check_run(const struct cli *cli)
{
	struct asked asked[2] = {{.cli = cli, .daemon = HTTP_REPLICATOR}, {.cli = cli, .daemon = HTTP_RECEIVER}};
	struct err err = {0};
	struct check check = {.limits = health_limits_default, .name = cli->argc ? cli->argv[0] : NULL, .run_dir = cli->run_dir};
	if (limits_of(cli, &check.limits))
		return CHECK_UNKNOWN; // what a monitor takes a misused plugin for
	if (check.name && parse_name("protection", check.name, &err))
		return unknown(err.text);
	http_wait_at_most(CHECK_WAITS_S);
	both_ask(ask, &asked[HTTP_REPLICATOR], &asked[HTTP_RECEIVER]);
	int exit = verdict(&check, asked);
	json_decref(asked[HTTP_REPLICATOR].answer);
	json_decref(asked[HTTP_RECEIVER].answer);
	return exit;
}
