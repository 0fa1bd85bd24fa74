// SPDX-License-Identifier: Apache-2.0
// `kagami cycle`: a recovery point of now, and waiting for it.
//
// The daemon names the cycle that will hold everything acknowledged before it was asked. That cycle is done when
// cycles.committed has reached it. While the site cannot be reached the daemon goes on trying, and so does the wait; it
// ends early only in a state that no amount of waiting changes (hopeless.h).
#include "tools/cli.h"
#include "tools/hopeless.h"
#include "tools/parse.h"
#include "tools/show.h"

#include "base/clock.h"

#include <inttypes.h>
#include <time.h>

#define LINE_CLEAR "\r\033[K"

enum { POLL_MS = 200, SAY_MS = 10 * 1000, TIMEOUT_MS = 10 * 60 * 1000 };

static void print_progress(const json_t *protection, uint64_t cycle)
{
	const json_t *progress = json_object_get(protection, "progress");
	(void)fprintf(stderr, LINE_CLEAR "cycle %" PRIu64 ": %s", cycle, show_text_of(protection, "state"));
	if (json_is_object(progress))
		(void)fprintf(stderr, ", %s of %s", show_size_of(progress, "done_bytes").text,
			      show_size_of(progress, "total_bytes").text);
	if (show_text_of(protection, "last_error")[0])
		(void)fprintf(stderr, "; last error: %.50s", show_text_of(protection, "last_error"));
	(void)fflush(stderr);
}

struct wait {
	uint64_t cycle, failures, say_ms, deadline_ms; // `failures`: to connect, before it was asked for
	bool terminal, said;
};

// Without a terminal, too, it is said once what is waited for.
static void say_reason(const json_t *protection, struct wait *wait)
{
	const char *reason = show_text_of(protection, "reason");
	if (wait->said || !reason[0] || (uint64_t)clock_mono_ms() < wait->say_ms)
		return;
	(void)fprintf(stderr, "cycle %" PRIu64 " is waited for: %s: %s\n", wait->cycle, show_text_of(protection, "state"), reason);
	wait->said = true;
}

static int print_done(const struct cli *cli, const json_t *protection)
{
	json_t *last = json_object_get(protection, "last_cycle");
	if (cli->json)
		return cli_print_json(json_incref(last));
	(void)printf("Point %s of %s is committed: cut at %s, in %s.\n%s changed, %s sent.\n", show_integer_of(last, "point").text,
		     cli->argv[0], show_time_of(last, "cut").text, show_duration_of(last, "duration_ms").text,
		     show_size_of(last, "dirty_bytes").text, show_size_of(last, "wire_bytes").text);
	return CLI_DONE;
}

// With the reason that there is now, or without one, the last failure: that may be over.
static int fail_late(const struct cli *cli, const json_t *protection, uint64_t cycle)
{
	const char *reason = show_text_of(protection, "reason"), *error = show_text_of(protection, "last_error");
	return cli_fail(cli, CLI_TIMED_OUT, "cycle %" PRIu64 " is not committed yet (%s%s%s); it goes on without this command", cycle, show_text_of(protection, "state"),
			reason[0] ? ": " : error[0] ? "; last error: " : "", reason[0] ? reason : error);
}

// Looks once. Returns true when the wait is over, with its outcome.
static bool wait_step(const struct cli *cli, struct wait *wait, int *ret_rc)
{
	uint64_t cycle = wait->cycle;
	json_t *protection;
	*ret_rc = cli_ask(cli, HTTP_REPLICATOR, "GET", NULL, &protection, "/v1/protections/%s", cli->argv[0]);
	if (*ret_rc)
		return true;
	bool done = show_number_of(json_object_get(protection, "cycles"), "committed") >= cycle;
	char text[HOPELESS_TEXT];
	const char *why = done ? NULL : hopeless(protection, cycle, text);
	if (!done && !why)
		why = hopeless_refused(protection, wait->failures);
	bool late = !done && !why && (uint64_t)clock_mono_ms() >= wait->deadline_ms;
	if (wait->terminal && (done || why || late))
		(void)fputs(LINE_CLEAR, stderr);
	if (done)
		*ret_rc = print_done(cli, protection);
	else if (why)
		*ret_rc = cli_fail(cli, CLI_REFUSED, "cycle %" PRIu64 " will not be committed: %s", cycle, why);
	else if (late)
		*ret_rc = fail_late(cli, protection, cycle);
	else if (wait->terminal)
		print_progress(protection, cycle);
	else
		say_reason(protection, wait);
	json_decref(protection);
	return done || why || late;
}

static int wait_for(const struct cli *cli, uint64_t cycle, uint64_t failures, uint64_t timeout_ms)
{
	static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	uint64_t now_ms = (uint64_t)clock_mono_ms();
	struct wait wait = {.cycle = cycle, .failures = failures, .say_ms = now_ms + SAY_MS, .deadline_ms = now_ms + timeout_ms, .terminal = cli_on_terminal() && !cli->json, .said = cli->json};
	int rc;
	while (!wait_step(cli, &wait, &rc))
		(void)nanosleep(&pause, NULL);
	return rc;
}

// Asking for a cycle makes the agent try to connect at once: what that finds is told apart from what was found before.
static int failures_before(const struct cli *cli, uint64_t *ret_failures)
{
	json_t *protection;
	int rc = cli_ask(cli, HTTP_REPLICATOR, "GET", NULL, &protection, "/v1/protections/%s", cli->argv[0]);
	if (rc)
		return rc;
	*ret_failures = show_number_of(protection, "connect_failures");
	json_decref(protection);
	return CLI_DONE;
}

int cli_cycle(const struct cli *cli)
{
	uint64_t timeout_ms = TIMEOUT_MS;
	struct err err = {0};
	if (parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (cli->option[OPT_TIMEOUT] && !cli->option[OPT_WAIT])
		return cli_misused(cli, "--timeout is for --wait");
	if (cli->option[OPT_TIMEOUT] && parse_duration(cli->option[OPT_TIMEOUT], &timeout_ms, &err))
		return cli_misused(cli, "--timeout: %s", err.text);
	json_t *answer, *body = cli->option[OPT_COMPARE] ? json_pack("{s:b}", "compare", true) : NULL;
	uint64_t failures = 0;
	int rc = cli->option[OPT_WAIT] ? failures_before(cli, &failures) : CLI_DONE;
	if (rc) {
		json_decref(body);
		return rc;
	}
	rc = cli_ask(cli, HTTP_REPLICATOR, "POST", body, &answer, "/v1/protections/%s/cycle", cli->argv[0]);
	if (rc)
		return rc;
	uint64_t cycle = show_number_of(answer, "cycle");
	if (cli->option[OPT_WAIT]) {
		json_decref(answer);
		return wait_for(cli, cycle, failures, timeout_ms);
	}
	if (cli->json)
		return cli_print_json(answer);
	json_decref(answer);
	(void)printf("Cycle %" PRIu64 " of %s is asked for.\n", cycle, cli->argv[0]);
	return CLI_DONE;
}
