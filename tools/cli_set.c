// SPDX-License-Identifier: Apache-2.0
// `kagami set`: what can be changed of a protection, or of the replicator, while it runs; and the same options of `kagami protect`.
#include "link/history.h"
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <string.h>
#include <strings.h>

enum { PPM = 1000000, OBJECTIVE_LEAST = 50 }; // percent

// Rules apart by ";" (kagami.c joins those of several --bandwidth so). "none": no rule.
static json_t *rules_json(const char *text)
{
	json_t *rules = json_array();
	if (strcasecmp(text, "none") == 0)
		return rules;
	for (;;) {
		size_t len = strcspn(text, ";"), skip = strspn(text, " ");
		if (skip < len)
			(void)json_array_append_new(rules, json_stringn(text + skip, len - skip));
		if (!text[len])
			return rules;
		text += len + 1;
	}
}

// An empty one is a variable of somebody's script that is not set: it takes no limit away.
static int bandwidth_add(const struct cli *cli, json_t *body)
{
	const char *text = cli->option[OPT_BANDWIDTH];
	json_t *rules = text ? rules_json(text) : NULL;
	if (!text)
		return CLI_DONE;
	bool nothing = json_array_size(rules) == 0 && strcasecmp(text, "none") != 0;
	if (nothing || json_object_set_new(body, "bandwidth", rules)) {
		json_decref(nothing ? rules : NULL);
		return cli_misused(cli, "--bandwidth: give a rule, such as 50mbit, or none to take all of them away");
	}
	return CLI_DONE;
}

int cli_set_options(const struct cli *cli, json_t *body)
{
	const char *const *option = cli->option;
	uint32_t ppm = 0;
	struct err err;
	int rc = bandwidth_add(cli, body);
	if (rc != CLI_DONE)
		return rc;
	if (option[OPT_OFFPEAK])
		(void)json_object_set_new(body, "offpeak", json_string(option[OPT_OFFPEAK]));
	if (option[OPT_PRIORITY])
		(void)json_object_set_new(body, "priority", json_string(option[OPT_PRIORITY]));
	if (!option[OPT_OBJECTIVE])
		return CLI_DONE;
	if (history_objective_read(option[OPT_OBJECTIVE], OBJECTIVE_LEAST, &ppm, &err))
		return cli_misused(cli, "%s", err.text);
	(void)json_object_set_new(body, "objective_ppm", json_integer((json_int_t)ppm));
	return CLI_DONE;
}

static void print_rules(const json_t *of, const char *otherwise)
{
	const json_t *rule, *rules = json_object_get(of, "bandwidth");
	size_t i;
	if (json_array_size(rules) == 0)
		(void)printf("%s", otherwise);
	json_array_foreach(rules, i, rule)
		(void)printf("%s%s", i ? "; " : "", json_string_value(rule));
}

static void print_rate(const json_t *of)
{
	if (json_is_integer(json_object_get(of, "bandwidth_limit")))
		(void)printf(" (now %s/s)", show_size(show_number_of(of, "bandwidth_limit")).text);
}

static void print_protection(const json_t *protection)
{
	const char *offpeak = show_text_of(protection, "offpeak");
	(void)printf("%s: RPO %s for %.7g%% of the time, priority %s, bandwidth ", show_text_of(protection, "name"),
		     show_duration_of(protection, "rpo_ms").text, (double)show_number_of(protection, "objective_ppm") / (PPM / 100.0),
		     show_text_of(protection, "priority"));
	print_rules(protection, "unlimited");
	print_rate(protection);
	if (*offpeak)
		(void)printf(", its initial sync only %s", offpeak);
	(void)printf(".\n");
}

static void print_agent(const json_t *settings)
{
	(void)printf("All protections together: %s and %s at once, bandwidth ", show_count_of(settings, "cycles", "cycle").text,
		     show_count_of(settings, "syncs", "sync").text);
	print_rules(settings, "unlimited");
	print_rate(settings);
	(void)printf(".\n");
}

static int number_add(const struct cli *cli, json_t *body, enum cli_option option, const char *name, const char *flag)
{
	uint64_t number = 0;
	struct err err;
	if (!cli->option[option])
		return CLI_DONE;
	if (strcmp(cli->option[option], "default") == 0)
		number = 0;
	else if (parse_number(flag, cli->option[option], 1, 256, &number, &err))
		return cli_misused(cli, "%s", err.text);
	(void)json_object_set_new(body, name, json_integer((json_int_t)number));
	return CLI_DONE;
}

static int agent_body(const struct cli *cli, json_t *body)
{
	if (cli->option[OPT_RPO] || cli->option[OPT_OFFPEAK] || cli->option[OPT_PRIORITY] || cli->option[OPT_OBJECTIVE])
		return cli_misused(cli, "that is of one protection: name it, as in `kagami set vm1 --rpo 5m`");
	int rc = number_add(cli, body, OPT_CYCLES, "cycles", "--cycles");
	if (rc == CLI_DONE)
		rc = number_add(cli, body, OPT_SYNCS, "syncs", "--syncs");
	return rc == CLI_DONE ? cli_set_options(cli, body) : rc;
}

static int protection_body(const struct cli *cli, json_t *body)
{
	uint64_t rpo_ms = 0;
	struct err err;
	if (parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (cli->option[OPT_CYCLES] || cli->option[OPT_SYNCS])
		return cli_misused(cli, "--cycles and --syncs are of all protections together: `kagami set` without a name");
	if (cli->option[OPT_RPO]) {
		if (parse_rpo(cli->option[OPT_RPO], &rpo_ms, &err))
			return cli_misused(cli, "%s", err.text);
		(void)json_object_set_new(body, "rpo_ms", json_integer((json_int_t)rpo_ms));
	}
	return cli_set_options(cli, body);
}

int cli_set(const struct cli *cli)
{
	json_t *body = json_object(), *answer = NULL;
	bool one = cli->argc > 0;
	int rc = one ? protection_body(cli, body) : agent_body(cli, body);
	if (rc == CLI_DONE && json_object_size(body) == 0 && one)
		rc = cli_misused(cli, "it needs to be told what: --rpo, --bandwidth, --offpeak, --priority or --objective");
	if (rc != CLI_DONE) {
		json_decref(body);
		return rc;
	}
	bool look = json_object_size(body) == 0; // `kagami set` alone shows what is
	if (look)
		json_decref(body);
	rc = one ? cli_ask(cli, HTTP_REPLICATOR, "POST", body, &answer, "/v1/protections/%s/settings", cli->argv[0])
		 : cli_ask(cli, HTTP_REPLICATOR, look ? "GET" : "POST", look ? NULL : body, &answer, "/v1/settings");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	if (one)
		print_protection(answer);
	else
		print_agent(answer);
	json_decref(answer);
	return CLI_DONE;
}
