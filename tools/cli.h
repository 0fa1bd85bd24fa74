// SPDX-License-Identifier: Apache-2.0
// What the commands of `kagami` share: how one is described, what it was given, and how it asks, answers and fails.
//
// A command returns one of enum cli_exit, after it has printed why when that is not CLI_DONE.
#ifndef KAGAMI_TOOLS_CLI_H
#define KAGAMI_TOOLS_CLI_H

#include "base/err.h"
#include "tools/http.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CLI_RUN_DIR "/run/kagami"

enum cli_exit {
	CLI_DONE = 0,
	CLI_REFUSED = 1,     // the daemon said no, or the host did
	CLI_USAGE = 2,	     // the command line makes no sense, by itself or to the daemon
	CLI_UNREACHABLE = 3, // no daemon answers
	CLI_TIMED_OUT = 4,   // what was waited for did not happen in time
};

enum cli_option {
	OPT_HELP,
	OPT_VERSION,
	OPT_JSON,
	OPT_RUN_DIR,
	OPT_YES,
	OPT_TO,
	OPT_RPO,
	OPT_POINTS,
	OPT_CODEC,
	OPT_DIGEST,
	OPT_ADDRESS,
	OPT_WAIT,
	OPT_COMPARE,
	OPT_TIMEOUT,
	OPT_DRY_RUN,
	OPT_PARTITION,
	OPT_DISK,
	OPT_DISCARD,
	OPT_READ_ONLY,
	OPT_SIZE,
	OPT_ALL,
	OPT_STOP,
	OPT_RATE,
	OPT_DAMAGED,
	OPT_ROLLBACK,
	OPT_COMMIT,
	OPT_ROLLBACK_AFTER,
	OPT_QUOTA,
	OPT_NAME,
	OPT_FORCE,
	OPT_FORMAT,
	OPT_KEEP,
	OPT_FLOOR,
	OPT_SOURCE,
	OPT_MOVE,
	OPT_REFLINK,
	OPT_PEER,
	OPT_VERIFY,
	OPT_BANDWIDTH,
	OPT_OFFPEAK,
	OPT_PRIORITY,
	OPT_OBJECTIVE,
	OPT_CYCLES,
	OPT_SYNCS,
	OPT_CHECK,
	OPT_WARNING,
	OPT_CRITICAL,
	OPT_FOLLOW,
	OPT_CLASS,
	OPT_WINDOW,
	OPT_SEED,
	OPT_WITHOUT_SEED,
	OPT_LOST,
	OPT_REPLACE,
	OPT_COUNT,
};
#define OPT_BIT(option) (UINT64_C(1) << (option))

struct cli;

struct cli_command {
	const char *name;
	const char *usage;   // its arguments and options
	const char *summary; // one line for the list
	const char *help;    // what `kagami help NAME` adds
	const char *host;    // where it is run: "source", "target" or "source or target"
	int args_least, args_most;
	uint64_t options;    // OPT_BIT of its own; help, json and run-dir are everybody's
	int (*run)(const struct cli *cli);
};

struct cli {
	const struct cli_command *command;
	const char *run_dir;
	bool json;
	int argc;
	char **argv;			// the arguments without options
	const char *option[OPT_COUNT];	// value, "" for a flag, NULL when not given
};

// Prints "kagami: NAME: ..." to standard error and returns `exit`.
int cli_fail(const struct cli *cli, enum cli_exit exit, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// The same with the usage line behind it; returns CLI_USAGE, or with --check what a monitor takes for a misused plugin.
int cli_misused(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Whether it is `status --check`, whose exit statuses are a monitor's.
bool cli_is_check(const struct cli *cli);

// Asks a daemon. On CLI_DONE *ret_answer is the caller's; otherwise the failure has been printed. `body` may be NULL and is taken over.
int cli_ask(const struct cli *cli, enum http_daemon daemon, const char *method, json_t *body, json_t **ret_answer,
	    const char *path_fmt, ...) __attribute__((format(printf, 6, 7)));
// As cli_ask, where a daemon that is not there is no failure: CLI_DONE and *ret_answer NULL. So is a 404 with `absent_ok`.
int cli_ask_if_there(const struct cli *cli, enum http_daemon daemon, bool absent_ok, json_t **ret_answer,
		     const char *path_fmt, ...) __attribute__((format(printf, 5, 6)));
// The daemon answered with an error: prints it, and takes the body over. Returns CLI_REFUSED; CLI_USAGE for an argument that makes
// no sense to it, or CLI_UNREACHABLE when it does not serve this user.
int cli_refused(const struct cli *cli, enum http_daemon daemon, struct http_reply *reply);
// No answer came, for the reason in `err`: says what to do. Returns CLI_UNREACHABLE or CLI_TIMED_OUT.
int cli_unreachable(const struct cli *cli, enum http_daemon daemon, const struct err *err);
// Says that neither daemon answers here. Returns CLI_UNREACHABLE.
int cli_no_daemon(const struct cli *cli);

// Prints `answer` as JSON, and takes it over. Returns CLI_DONE.
int cli_print_json(json_t *answer);
void cli_print_json_line(const json_t *part); // one of several, each in a line of its own
// At the end of every command: with --json, the error of one that failed and has printed no answer.
void cli_print_json_error(const struct cli *cli, int exit);

// Asks on the terminal, when there is one and --yes was not given. False: the operator said no.
bool cli_confirmed(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool cli_on_terminal(void);

extern const struct cli_command cli_commands[]; // ends with a NULL name

int cli_pair_token(const struct cli *cli);
int cli_pair(const struct cli *cli);
int cli_sites(const struct cli *cli);
int cli_peers(const struct cli *cli);
int cli_unpair(const struct cli *cli);
int cli_protect(const struct cli *cli);
int cli_set(const struct cli *cli);
int cli_plan_rpo(const struct cli *cli);
// Adds --bandwidth, --offpeak, --priority and --objective, where given.
int cli_set_options(const struct cli *cli, json_t *body);
int cli_unprotect(const struct cli *cli);
int cli_pause(const struct cli *cli);
int cli_resume(const struct cli *cli);
int cli_cycle(const struct cli *cli);
int cli_resize(const struct cli *cli);
int cli_clear_error(const struct cli *cli);
int cli_status(const struct cli *cli);
int cli_syncs(const struct cli *cli);
int cli_points(const struct cli *cli);
int cli_retention(const struct cli *cli);
int cli_plan(const struct cli *cli);
int cli_pin(const struct cli *cli);
int cli_unpin(const struct cli *cli);
int cli_failover(const struct cli *cli);
int cli_limit(const struct cli *cli);
int cli_forget(const struct cli *cli);
int cli_mount(const struct cli *cli);
int cli_umount(const struct cli *cli);
int cli_mounts(const struct cli *cli);
int cli_scrub(const struct cli *cli);
int cli_seed(const struct cli *cli);
int cli_store(const struct cli *cli);
int cli_test(const struct cli *cli);
int cli_export(const struct cli *cli);
int cli_files(const struct cli *cli);
int cli_watch(const struct cli *cli);
int cli_events(const struct cli *cli);
int cli_history(const struct cli *cli);
int cli_bundle(const struct cli *cli);
int cli_version(const struct cli *cli);
int cli_help(const struct cli *cli);

#endif
