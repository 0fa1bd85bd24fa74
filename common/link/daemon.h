// SPDX-License-Identifier: Apache-2.0
// What both daemons do alike: options, signals, their version.
#ifndef KAGAMI_LINK_DAEMON_H
#define KAGAMI_LINK_DAEMON_H

#include "base/err.h"
#include "link/control.h"

#include <stdbool.h>
#include <stddef.h>

#define DAEMON_RUN_DIR "/run/kagami"

enum { DAEMON_EXIT_FAILED = 1, DAEMON_EXIT_USAGE = 2, DAEMON_EXIT_UNCLEAN = 3 }; // the last: a stop that was given up, or whose state was not saved

struct daemon_option { // --name VALUE or --name=VALUE
	const char *name;
	const char *value_name; // "DIR"
	const char *help;
	const char **value; // keeps its default when the option is absent
	bool required;
};

// Reads the options, and --log-level, --help and --version, which every daemon has; starts the log; blocks SIGTERM and SIGINT (to be
// taken by daemon_wait) and ignores SIGPIPE. To be called before the first thread. Exits on --help, --version (0, or DAEMON_EXIT_FAILED where that could not be written) and on
// misuse (2, one line that says what is wrong).
void daemon_start(const char *program, const char *summary, const struct daemon_option *options, size_t count, int argc,
		  char **argv);

// The value of an option is wrong, whatever host this is: says so in one line, and exits with DAEMON_EXIT_USAGE. Before anything is opened.
__attribute__((noreturn)) void daemon_misused(const struct err *err);

// `path` below the directory that the daemon was started in, when it is not absolute already. Lives as long as the process.
const char *daemon_absolute(const char *path);
// The same without a symbolic link on the way, as the kernel names what lies below it. A path that leads nowhere stays as it is, for whoever opens it to say.
// Of one path: the answer to the next takes its place.
const char *daemon_resolved(const char *path);

// All sockets answer: tells the service manager so (notify.h), and waits for SIGTERM or SIGINT. A second one while the daemon stops ends it at once, by the signal.
void daemon_wait(void);

// Answers GET /v1/version for the program that was started; any context.
unsigned daemon_version(void *context, const struct control_request *request, json_t **ret_body);

// GET /v1/configuration: what it was started with, without what may be secret; and its limits. GET /v1/log: its newest lines. Any context.
control_handler daemon_configuration, daemon_log;

#endif
