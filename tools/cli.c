// SPDX-License-Identifier: Apache-2.0
// How a command asks a daemon, and what it says when that fails.
#include "tools/cli.h"

#include "base/wrap.h"

#include "tools/plain.h"
#include "tools/said.h"
#include "tools/show.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_SIZE = 8192 };

static struct said said = SAID_INIT;

static void vcomplain(const struct cli *cli, enum cli_exit exit, const char *fmt, va_list ap)
{
	char text[TEXT_SIZE];
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	(void)plain_make(text); // part of it may have come from a peer or a file name
	said_failure(&said, exit, text);
	(void)fflush(stdout);
	(void)fprintf(stderr, "kagami%s%s: %s\n", cli->command ? " " : "", cli->command ? cli->command->name : "", text);
}

int cli_fail(const struct cli *cli, enum cli_exit exit, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vcomplain(cli, exit, fmt, ap);
	va_end(ap);
	return exit;
}

static void usage_print(const struct cli_command *command)
{
	char name[64];
	(void)snprintf(name, sizeof(name), "kagami %s", command->name);
	wrap_usage(stderr, name, command->usage);
}

bool cli_is_check(const struct cli *cli)
{
	return cli->command && strcmp(cli->command->name, "status") == 0 && cli->option[OPT_CHECK];
}

int cli_misused(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vcomplain(cli, CLI_USAGE, fmt, ap);
	va_end(ap);
	if (cli->command)
		usage_print(cli->command);
	else
		(void)fprintf(stderr, "usage: kagami COMMAND ...; \"kagami help\" lists the commands\n");
	return cli_is_check(cli) ? CLI_UNREACHABLE : CLI_USAGE; // a monitor takes 2 for CRITICAL, and 3 for a plugin that is misused
}

void cli_print_json_line(const json_t *part)
{
	said_answer(&said);
	(void)json_dumpf(part, stdout, JSON_COMPACT);
	(void)putchar('\n');
}

void cli_print_json_error(const struct cli *cli, int exit)
{
	json_t *error = cli->json ? said_error(&said, exit) : NULL;
	if (error)
		(void)cli_print_json(error);
}

int cli_print_json(json_t *answer)
{
	said_answer(&said);
	int rc = json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	(void)fputc('\n', stdout);
	json_decref(answer);
	if (rc == 0 && fflush(stdout) == 0)
		return CLI_DONE;
	(void)fprintf(stderr, "kagami: write to standard output: %s\n", strerror(errno));
	return CLI_REFUSED;
}

bool cli_on_terminal(void)
{
	return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

bool cli_confirmed(const struct cli *cli, const char *fmt, ...)
{
	if (cli->option[OPT_YES] || !cli_on_terminal())
		return true;
	va_list ap;
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputs(" [y/N] ", stderr);
	char line[16];
	if (fgets(line, sizeof(line), stdin) && (strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0))
		return true;
	(void)fputs("Nothing was done.\n", stderr);
	return false;
}

static bool answers(const struct cli *cli, enum http_daemon daemon)
{
	struct http_reply reply;
	if (http_ask(cli->run_dir, daemon, "GET", "/v1/version", NULL, &reply, NULL))
		return false;
	json_decref(reply.body);
	return true;
}

// No answer from `daemon`: says what to do, which depends on why, and on whether this is the wrong host for the command.
int cli_unreachable(const struct cli *cli, enum http_daemon daemon, const struct err *err)
{
	enum http_daemon other = daemon == HTTP_REPLICATOR ? HTTP_RECEIVER : HTTP_REPLICATOR;
	if (err->code == -ETIMEDOUT)
		return cli_fail(cli, CLI_TIMED_OUT, "%s", err->text);
	if (err->code != -ENOENT && err->code != -ECONNREFUSED)
		return cli_fail(cli, CLI_UNREACHABLE, "%s", err->text);
	if (err->code == -ENOENT && answers(cli, other)) // else its socket is there, and it died
		return cli_fail(cli, CLI_UNREACHABLE,
				"this is a command for the %s host, where %s runs; at %s here only %s answers",
				daemon == HTTP_REPLICATOR ? "source" : "target", http_daemon_name(daemon), cli->run_dir,
				http_daemon_name(other));
	return cli_fail(cli, CLI_UNREACHABLE,
			"no %s answers at %s: start it on this (the %s) host, or say where its sockets are with --run-dir or "
			"KAGAMI_RUN_DIR",
			http_daemon_name(daemon), cli->run_dir, daemon == HTTP_REPLICATOR ? "source" : "target");
}

int cli_no_daemon(const struct cli *cli)
{
	return cli_fail(cli, CLI_UNREACHABLE,
			"neither kagami-replicator nor kagami-receiver answers at %s: start one, or say where its socket is with "
			"--run-dir or KAGAMI_RUN_DIR",
			cli->run_dir);
}

int cli_refused(const struct cli *cli, enum http_daemon daemon, struct http_reply *reply)
{
	const json_t *error = json_object_get(reply->body, "error");
	if (cli->json)
		said_refusal(&said, reply->body);
	else
		show_clean(reply->body);
	const char *message = show_text_of(error, "message");
	enum cli_exit exit = said_exit(reply->status, show_text_of(error, "code"), http_may_ask(cli->run_dir, daemon));
	int rc;
	if (message[0])
		rc = cli_fail(cli, exit, "%s", message);
	else
		rc = cli_fail(cli, exit, "%s answered with status %ld and no reason: see its log",
			      http_daemon_name(daemon), reply->status);
	json_decref(reply->body);
	return rc;
}

// A good answer goes to the caller, cleaned for the eyes unless it is printed as JSON, where every such byte is escaped.
static int accepted(const struct cli *cli, struct http_reply *reply, json_t **ret_answer)
{
	if (!cli->json)
		show_clean(reply->body);
	*ret_answer = reply->body;
	return CLI_DONE;
}

int cli_ask(const struct cli *cli, enum http_daemon daemon, const char *method, json_t *body, json_t **ret_answer,
	    const char *path_fmt, ...)
{
	char path[HTTP_PATH_SIZE];
	struct http_reply reply;
	struct err err = {0};
	va_list ap;
	va_start(ap, path_fmt);
	(void)vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	if (http_ask(cli->run_dir, daemon, method, path, body, &reply, &err))
		return cli_unreachable(cli, daemon, &err);
	return reply.status < 400 ? accepted(cli, &reply, ret_answer) : cli_refused(cli, daemon, &reply);
}

int cli_ask_if_there(const struct cli *cli, enum http_daemon daemon, bool absent_ok, json_t **ret_answer,
		     const char *path_fmt, ...)
{
	char path[HTTP_PATH_SIZE];
	struct http_reply reply;
	struct err err = {0};
	va_list ap;
	va_start(ap, path_fmt);
	(void)vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	*ret_answer = NULL;
	int rc = http_ask(cli->run_dir, daemon, "GET", path, NULL, &reply, &err);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		return CLI_DONE;
	if (rc)
		return cli_unreachable(cli, daemon, &err);
	if (absent_ok && reply.status == 404) {
		json_decref(reply.body);
		return CLI_DONE;
	}
	return reply.status < 400 ? accepted(cli, &reply, ret_answer) : cli_refused(cli, daemon, &reply);
}
