// SPDX-License-Identifier: Apache-2.0
#include "tools/cli_verify.h"

#include "tools/progress.h"
#include "tools/show.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { POLL_US = 200000, LOOKS = 3, LOOK_US = 40000 };

static bool state_is(const json_t *verify, const char *state)
{
	return strcmp(show_text_of(verify, "state"), state) == 0;
}

void cli_verify_line(const json_t *verify, char text[CLI_VERIFY_LINE])
{
	uint64_t done = show_number_of(verify, "done_bytes"), total = show_number_of(verify, "total_bytes");
	const struct shown number = show_integer_of(verify, "point");
	const char *point = number.text;
	text[0] = 0;
	const struct shown since = show_duration_of(verify, "since_ms");
	if (state_is(verify, "sound"))
		(void)snprintf(text, CLI_VERIFY_LINE, "point %s: every block was proven, %s, %s ago", point, show_size(total).text, since.text);
	else if (state_is(verify, "damaged"))
		(void)snprintf(text, CLI_VERIFY_LINE, "DAMAGED: %s", show_text_of(verify, "reason"));
	else if (state_is(verify, "unreadable"))
		(void)snprintf(text, CLI_VERIFY_LINE, "point %s cannot be read to be verified, and is tried again in %s: %s", point,
			       show_duration_of(verify, "again_in_ms").text, show_text_of(verify, "reason"));
	else if (state_is(verify, "running"))
		(void)snprintf(text, CLI_VERIFY_LINE, "point %s: %.0f %% of %s proven in %s%s%s%s%s", point,
			       total ? 100.0 * (double)done / (double)total : 0, show_size(total).text, since.text,
			       show_has(verify, "seconds_left") ? ", " : "",
			       !show_has(verify, "seconds_left")		? ""
			       : show_number_of(verify, "seconds_left") ? show_duration(show_number_of(verify, "seconds_left") * 1000).text
									: "less than 1s",
			       show_has(verify, "seconds_left") ? " left" : "",
			       show_number_of(verify, "damaged_blocks") ? "; DAMAGE was found" : "");
}

void cli_verify_note(struct table *table, const json_t *verify)
{
	char line[CLI_VERIFY_LINE];
	cli_verify_line(verify, line);
	if (state_is(verify, "running") && !show_number_of(verify, "damaged_blocks"))
		table_note(table, "  . verifies %s", line);
	else if (line[0] && !state_is(verify, "sound"))
		table_note(table, "  ! %s", line);
}

static int begin(const struct cli *cli, const struct parse_target *target, json_t **ret_verify)
{
	json_t *body = json_object();
	if (target->point)
		(void)json_object_set_new(body, "point", json_integer((json_int_t)target->point));
	return cli_ask(cli, HTTP_RECEIVER, "POST", body, ret_verify, "/v1/protections/%s/verify", target->name);
}

static int look(const struct cli *cli, const char *name, uint64_t point, json_t **ret_verify)
{
	return cli_ask(cli, HTTP_RECEIVER, "GET", NULL, ret_verify, "/v1/protections/%s/verify?point=%" PRIu64, name, point);
}

// To the end. The answer that says so takes the place of *verify, which is NULL when it could not be had.
static int wait_for_end(const struct cli *cli, struct parse_target *target, json_t **verify)
{
	struct progress progress;
	int rc = CLI_DONE;
	progress_begin(&progress, show_number_of(*verify, "total_bytes"));
	while (rc == CLI_DONE && (state_is(*verify, "running") || state_is(*verify, "none"))) {
		bool gone = state_is(*verify, "none"); // who used the point too let it go meanwhile, or the receiver started again
		progress.total = show_number_of(*verify, "total_bytes");
		if (progress.total)
			progress_at(&progress, show_number_of(*verify, "done_bytes"));
		json_decref(*verify);
		*verify = NULL;
		(void)usleep(POLL_US);
		rc = gone ? begin(cli, target, verify) : look(cli, target->name, target->point, verify);
	}
	progress_end(&progress);
	return rc;
}

int cli_verify_first(const struct cli *cli, struct parse_target *target)
{
	json_t *verify = NULL;
	if (!cli->option[OPT_VERIFY])
		return CLI_DONE;
	int rc = begin(cli, target, &verify);
	if (rc)
		return rc;
	target->point = show_number_of(verify, "point");
	rc = wait_for_end(cli, target, &verify);
	if (rc == CLI_DONE && state_is(verify, "unreadable"))
		rc = cli_fail(cli, CLI_REFUSED, "point %" PRIu64 " of %s cannot be read to be verified, which says nothing of whether it is damaged: %s; ask again",
			      target->point, target->name, show_text_of(verify, "reason"));
	else if (rc == CLI_DONE && state_is(verify, "damaged") && !cli->option[OPT_DAMAGED])
		rc = cli_fail(cli, CLI_REFUSED, "%s", show_text_of(verify, "reason"));
	json_decref(verify);
	return rc;
}

void cli_verify_print(const struct cli *cli, const char *name, const json_t *verify, bool read_before)
{
	char line[CLI_VERIFY_LINE];
	json_t *now = json_incref((json_t *)verify);
	for (unsigned i = 0; i < LOOKS && state_is(now, "running"); i++) { // what is small is proven by then
		json_t *next = NULL;
		(void)usleep(LOOK_US);
		if (look(cli, name, show_number_of(now, "point"), &next))
			break;
		json_decref(now);
		now = next;
	}
	cli_verify_line(now, line);
	if (state_is(now, "damaged") || state_is(now, "unreadable") || show_number_of(now, "damaged_blocks")) {
		(void)fflush(stdout);
		(void)fprintf(stderr, "kagami: WARNING: %s\n", line);
	} else if (state_is(now, "running")) {
		(void)printf("Being proven, beside its use: %s. %s\"kagami status %s\" shows how far that is.\n", line,
			     read_before ? "What is read before its turn is not proven yet: damage there is told when it is found. " : "", name);
	} else if (line[0]) {
		(void)printf("Proven: %s.\n", line);
	}
	json_decref(now);
}
