// SPDX-License-Identifier: Apache-2.0
// `kagami status --check`: one line and an exit status, as Nagios, Icinga and their like take them from a plugin.
//
//	KAGAMI WARNING - 1 of 3 not well: vm2 paused | 'vm1 age'=3.120s;12;15;0 ...
//
// 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: nobody answers, or there is nothing that could be well. What a monitor shows is standard output: the reason of
// UNKNOWN is there, too. A daemon that was stopped takes its socket along; of one whose socket is there while nobody listens it is known that it died.
#include "tools/cli_check.h"

#include "tools/health.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_UNKNOWN = 3, CHECK_WAITS_S = 8 }; // a monitor gives up on a plugin after ten seconds at the least

struct check {
	struct health_limits limits;
	const char *name; // of the only one that is looked at; NULL: all
	enum health worst;
	unsigned count, unwell;
	bool died; // one of the daemons, while the other one answers
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

// One that died says nothing of what it did: whatever the other one tells, all is not well.
static void check_died(struct check *check, enum http_daemon daemon, bool first)
{
	check->worst = HEALTH_CRITICAL;
	(void)fprintf(check->trouble, "%s%s died and does not run: its log says why, start it again", first ? "" : "; ", http_daemon_name(daemon));
}

static int percent_of(const struct cli *cli, enum cli_option option, const char *what, unsigned *percent)
{
	struct err err = {0};
	uint64_t number;
	char text[16] = "";
	const char *given = cli->option[option];
	if (!given)
		return CLI_DONE;
	size_t len = strcspn(given, "%");
	if (len < sizeof(text) && (given[len] == 0 || given[len + 1] == 0))
		(void)snprintf(text, sizeof(text), "%.*s", (int)len, given);
	if (parse_number(what, text, 1, 100000, &number, &err))
		return cli_misused(cli, "%s", err.text);
	*percent = (unsigned)number;
	return CLI_DONE;
}

static int print_verdict(const struct check *check, const char *trouble, const char *figures)
{
	if (check->died)
		return printf("KAGAMI CRITICAL - %s |%s\n", trouble, figures), HEALTH_CRITICAL;
	if (check->count == 0 && check->name)
		(void)printf("KAGAMI UNKNOWN - no protection is named %s here\n", check->name);
	else if (check->count == 0)
		(void)printf("KAGAMI UNKNOWN - nothing is protected here, and no replica is kept\n");
	else if (check->unwell == 0)
		(void)printf("KAGAMI OK - %u within %s RPO |%s\n", check->count, check->count == 1 ? "its" : "their", figures);
	else
		(void)printf("KAGAMI %s - %u of %u not well: %s |%s\n", health_name(check->worst), check->unwell, check->count, trouble, figures);
	return check->count ? (int)check->worst : CHECK_UNKNOWN;
}

// What a daemon has to say. False: it could not be asked, for the reason in `err`; -ENOENT: it is not there, -ECONNREFUSED: it died.
static bool ask(const struct cli *cli, enum http_daemon daemon, json_t **ret_answer, struct err *err)
{
	struct http_reply reply;
	*ret_answer = NULL;
	if (http_ask(cli->run_dir, daemon, "GET", "/v1/protections", NULL, &reply, err))
		return false;
	show_clean(reply.body);
	if (reply.status < 400) {
		*ret_answer = reply.body;
		return true;
	}
	(void)err_set(err, -EPROTO, "%s answers with status %ld: %.200s", http_daemon_name(daemon), reply.status,
		      show_text_of(json_object_get(reply.body, "error"), "message"));
	json_decref(reply.body);
	return false;
}

static int unknown(const char *why)
{
	return printf("KAGAMI UNKNOWN - %s\n", why), CHECK_UNKNOWN;
}

static int verdict_on(struct check *check, json_t *const answer[2], const struct err why[2])
{
	char *trouble = NULL, *figures = NULL;
	size_t len;
	check->trouble = open_memstream(&trouble, &len);
	check->figures = open_memstream(&figures, &len);
	if (!check->trouble || !check->figures)
		abort();
	check_all(check, answer[HTTP_REPLICATOR], false);
	check_all(check, answer[HTTP_RECEIVER], true);
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER; daemon++)
		if (!answer[daemon] && why[daemon].code == -ECONNREFUSED) {
			check->died = true;
			check_died(check, daemon, check->unwell == 0);
		}
	if (fclose(check->trouble) || fclose(check->figures))
		abort();
	int exit = print_verdict(check, trouble, figures);
	free(trouble);
	free(figures);
	return exit;
}

int cli_check_run(const struct cli *cli)
{
	json_t *answer[2] = {NULL, NULL};
	struct err why[2] = {{.code = 0}, {.code = 0}}, err = {0};
	char nobody[ERR_TEXT_MAX];
	struct check check = {.limits = health_limits_default, .name = cli->argc ? cli->argv[0] : NULL};
	if (percent_of(cli, OPT_WARNING, "--warning", &check.limits.warning) || percent_of(cli, OPT_CRITICAL, "--critical", &check.limits.critical))
		return CHECK_UNKNOWN; // what a monitor takes a misused plugin for
	if (check.name && parse_name("protection", check.name, &err))
		return unknown(err.text);
	int exit = -1;
	http_wait_at_most(CHECK_WAITS_S);
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER && exit < 0; daemon++)
		if (!ask(cli, daemon, &answer[daemon], &why[daemon]) && why[daemon].code != -ENOENT && why[daemon].code != -ECONNREFUSED)
			exit = unknown(why[daemon].text);
	(void)snprintf(nobody, sizeof(nobody), "no daemon answers at %.200s", cli->run_dir);
	if (exit < 0)
		exit = answer[HTTP_REPLICATOR] || answer[HTTP_RECEIVER] ? verdict_on(&check, answer, why) : unknown(nobody);
	json_decref(answer[HTTP_REPLICATOR]);
	json_decref(answer[HTTP_RECEIVER]);
	return exit;
}
