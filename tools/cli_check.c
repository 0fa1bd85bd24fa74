// SPDX-License-Identifier: Apache-2.0
// `kagami status --check`: one line and an exit status, as Nagios, Icinga and their like take them from a plugin.
//
//	KAGAMI WARNING - 1 of 3 not well: vm2 paused | 'vm1 age'=3.120s;12;15;0 ...
//
// 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: nobody answers, or there is nothing that could be well.
#include "tools/cli_check.h"

#include "tools/health.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <stdlib.h>
#include <string.h>

enum { CHECK_UNKNOWN = 3 };

struct check {
	struct health_limits limits;
	const char *name; // of the only one that is looked at; NULL: all
	enum health worst;
	unsigned count, unwell;
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

int cli_check_run(const struct cli *cli, const json_t *source, const json_t *target)
{
	char *trouble = NULL, *figures = NULL;
	size_t len;
	struct check check = {.limits = health_limits_default, .name = cli->argc ? cli->argv[0] : NULL};
	if (percent_of(cli, OPT_WARNING, "--warning", &check.limits.warning) || percent_of(cli, OPT_CRITICAL, "--critical", &check.limits.critical))
		return CHECK_UNKNOWN; // what a monitor takes a misused plugin for
	check.trouble = open_memstream(&trouble, &len);
	check.figures = open_memstream(&figures, &len);
	if (!check.trouble || !check.figures)
		abort();
	check_all(&check, source, false);
	check_all(&check, target, true);
	if (fclose(check.trouble) || fclose(check.figures))
		abort();
	int exit = print_verdict(&check, trouble, figures);
	free(trouble);
	free(figures);
	return exit;
}
