// SPDX-License-Identifier: Apache-2.0
// `kagami scrub`: proves what a replica holds, and how far that is.
#include "tools/cli.h"
#include "tools/cli_status.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { POLL_US = 300000, RATE_LEAST = 64 << 10 };

static struct shown mismatches(const json_t *pass)
{
	uint64_t count = show_number_of(pass, "mismatches");
	struct shown shown;
	(void)snprintf(shown.text, sizeof(shown.text), "%" PRIu64 " %s", count, count == 1 ? "mismatch" : "mismatches");
	return shown;
}

void cli_scrub_line(const json_t *scrub, char text[CLI_SCRUB_LINE])
{
	const json_t *pass = json_object_get(scrub, "pass"), *last = json_object_get(scrub, "last");
	uint64_t total = show_number_of(pass, "total_bytes"), left = show_number_of(pass, "seconds_left");
	int used = 0;
	if (json_is_object(last))
		used = snprintf(text, CLI_SCRUB_LINE, "100 %% of blocks proven since %.19s, %s%s", show_time_of(last, "began").text,
				mismatches(last).text, show_number_of(scrub, "damaged_blocks") > show_number_of(last, "mismatches") ? " then" : "");
	else
		used = snprintf(text, CLI_SCRUB_LINE, "%s", "not every block was proven yet");
	if (show_number_of(scrub, "damaged_blocks") && used < CLI_SCRUB_LINE)
		used += snprintf(text + used, (size_t)(CLI_SCRUB_LINE - used), "; %s in quarantine",
				 show_count_of(scrub, "damaged_blocks", "damaged block").text);
	if (!json_is_object(pass) && show_has(scrub, "window") && used < CLI_SCRUB_LINE)
		used += snprintf(text + used, (size_t)(CLI_SCRUB_LINE - used), "; by itself %s only", show_text_of(scrub, "window"));
	if (json_is_object(pass) && used < CLI_SCRUB_LINE)
		used += snprintf(text + used, (size_t)(CLI_SCRUB_LINE - used), "; scrubbing %s%s: %.0f %%, %s",
				 show_has(pass, "point") ? "point " : "every point",
				 show_has(pass, "point") ? show_integer_of(pass, "point").text : "",
				 total ? 100.0 * (double)show_number_of(pass, "done_bytes") / (double)total : 0,
				 mismatches(pass).text);
	if (show_has(pass, "waits_ms") && used < CLI_SCRUB_LINE)
		used += snprintf(text + used, (size_t)(CLI_SCRUB_LINE - used), ", goes on in %s (%s)", show_duration_of(pass, "waits_ms").text,
				 show_text_of(scrub, "window"));
	if (show_flag_of(scrub, "late") && used < CLI_SCRUB_LINE)
		used += snprintf(text + used, (size_t)(CLI_SCRUB_LINE - used), ", late");
	if (json_is_object(pass) && show_has(pass, "seconds_left") && used < CLI_SCRUB_LINE)
		(void)snprintf(text + used, (size_t)(CLI_SCRUB_LINE - used), ", %s/s, %s left", show_size_of(pass, "bytes_per_second").text,
			       show_duration(left * 1000).text);
}

// 0 where none is given.
static int rate_read(const struct cli *cli, uint64_t *ret_rate)
{
	struct err err;
	const char *text = cli->option[OPT_RATE];
	*ret_rate = 0;
	if (text && parse_bytes(text, ret_rate, &err))
		return cli_misused(cli, "--rate: %s", err.text);
	if (text && *ret_rate < RATE_LEAST)
		return cli_misused(cli, "--rate: %s a second is too little to come to an end: at least 64K", text);
	return CLI_DONE;
}

static int request(const struct cli *cli, const char *method, const char *name, uint64_t point, json_t **ret_scrub)
{
	uint64_t rate;
	json_t *body = NULL;
	int rc = rate_read(cli, &rate);
	if (rc)
		return rc;
	if (strcmp(method, "POST") == 0) {
		body = json_object();
		if (point)
			(void)json_object_set_new(body, "point", json_integer((json_int_t)point));
		if (rate)
			(void)json_object_set_new(body, "rate", json_integer((json_int_t)rate));
	}
	return cli_ask(cli, HTTP_RECEIVER, method, body, ret_scrub, "/v1/protections/%s/scrub", name);
}

// Until the pass is over. The answer that says so takes the place of *scrub.
static int wait_for_end(const struct cli *cli, const char *name, json_t **scrub)
{
	char line[CLI_SCRUB_LINE];
	while (show_has(*scrub, "pass")) {
		cli_scrub_line(*scrub, line);
		if (isatty(STDERR_FILENO))
			(void)fprintf(stderr, "\r%s: %s\033[K", name, line);
		json_decref(*scrub);
		*scrub = NULL;
		(void)usleep(POLL_US);
		int rc = request(cli, "GET", name, 0, scrub);
		if (rc)
			return rc;
		if (show_text_of(*scrub, "error")[0] && show_has(*scrub, "pass"))
			return cli_fail(cli, CLI_REFUSED, "the scrub of %s does not come on: %s", name, show_text_of(*scrub, "error"));
	}
	if (isatty(STDERR_FILENO))
		(void)fputs("\r\033[K", stderr);
	return CLI_DONE;
}

static int scrub_one(const struct cli *cli, const char *name, uint64_t point, json_t *all)
{
	char line[CLI_SCRUB_LINE];
	json_t *scrub = NULL;
	bool stop = cli->option[OPT_STOP], wait = cli->option[OPT_WAIT];
	int rc = request(cli, stop ? "DELETE" : "POST", name, point, &scrub);
	if (rc == CLI_DONE && wait)
		rc = wait_for_end(cli, name, &scrub);
	if (rc == CLI_DONE && !cli->json) {
		cli_scrub_line(scrub, line);
		(void)printf("%s: %s\n", name, line);
	}
	if (rc == CLI_DONE && wait && show_number_of(scrub, "damaged_blocks"))
		rc = cli_fail(cli, CLI_REFUSED, "%s in %s: \"kagami points %s\" tells which points show what is damaged",
			      show_count_of(scrub, "damaged_blocks", "damaged block").text, name, name);
	if (scrub)
		(void)json_object_set_new(all, name, scrub);
	return rc;
}

static int scrub_all(const struct cli *cli, json_t *all)
{
	json_t *answer;
	const json_t *replica;
	size_t i;
	int worst = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/protections");
	if (worst)
		return worst;
	json_array_foreach(json_object_get(answer, "protections"), i, replica) {
		int rc = scrub_one(cli, show_text_of(replica, "name"), 0, all);
		worst = rc > worst ? rc : worst;
	}
	if (json_array_size(json_object_get(answer, "protections")) == 0 && !cli->json)
		(void)printf("There is nothing to scrub: the store has no protection.\n");
	json_decref(answer);
	return worst;
}

int cli_scrub(const struct cli *cli)
{
	struct parse_target target;
	struct err err;
	if (!cli->option[OPT_ALL] == (cli->argc == 0))
		return cli_misused(cli, cli->argc ? "name a protection, or say --all, not both" : "name a protection, or say --all");
	if (cli->argc && parse_target(cli->argv[0], &target, &err))
		return cli_misused(cli, "%s", err.text);
	uint64_t rate;
	int rc = rate_read(cli, &rate); // once, whatever number of them is asked
	if (rc)
		return rc;
	json_t *all = json_object();
	rc = cli->argc ? scrub_one(cli, target.name, target.point, all) : scrub_all(cli, all);
	if (cli->json && rc != CLI_USAGE && rc != CLI_UNREACHABLE && (json_object_size(all) || cli->option[OPT_ALL])) {
		int printed = cli_print_json(all);
		return rc ? rc : printed;
	}
	json_decref(all);
	return rc;
}
