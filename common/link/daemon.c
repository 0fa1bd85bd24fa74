// SPDX-License-Identifier: Apache-2.0
#include "link/daemon.h"

#include "base/auto.h"
#include "base/log.h"
#include "base/size.h"
#include "base/wrap.h"
#include "link/json.h"
#include "link/notify.h"

#include <assert.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { OPTIONS_MAX = 40 };

static const char *daemon_program = "kagami";
static struct daemon_option daemon_options[OPTIONS_MAX]; // what was said of them is read later
static char daemon_values[OPTIONS_MAX][PATH_MAX];
static size_t daemon_option_count;

static void usage_option(FILE *to, const char *name, const char *value_name, const char *help, unsigned widest)
{
	int used = fprintf(to, "  --%s %s", name, value_name);
	unsigned column = widest + 6;
	(void)fprintf(to, "%*s", (int)column - used, "");
	wrap_print(to, column, column, help);
}

static void usage(FILE *to, const char *program, const char *summary, const struct daemon_option *options, size_t count)
{
	char form[1024] = "";
	size_t used = 0;
	unsigned widest = 0;
	for (size_t i = 0; i < count; i++) {
		used += (size_t)snprintf(form + used, sizeof(form) - used, options[i].required ? "--%s %s " : "[--%s %s] ", options[i].name, options[i].value_name);
		assert(used < sizeof(form));
		widest = (unsigned)max_u64(widest, strlen(options[i].name) + strlen(options[i].value_name) + 1);
	}
	(void)snprintf(form + used, sizeof(form) - used, "[--log-level LEVEL]");
	wrap_usage(to, program, form);
	(void)fputc('\n', to);
	wrap_print(to, 0, 0, summary);
	(void)fputc('\n', to);
	for (size_t i = 0; i < count; i++)
		usage_option(to, options[i].name, options[i].value_name, options[i].help, widest);
	usage_option(to, "log-level", "LEVEL", "error, warning, info (the default) or debug", widest);
	(void)fprintf(to, "  --help, --version\n\nThe manual: man 8 %s\n", program);
}

__attribute__((noreturn, format(printf, 1, 2))) static void misuse(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)fprintf(stderr, "%s: ", daemon_program);
	(void)vfprintf(stderr, fmt, ap);
	(void)fprintf(stderr, " (%s --help lists the options)\n", daemon_program);
	va_end(ap);
	exit(DAEMON_EXIT_USAGE);
}

// Its number: `count` is the log's level. -1: there is none.
static int option_find(const struct daemon_option *options, size_t count, const char *name, size_t len)
{
	if (strlen("log-level") == len && strncmp(name, "log-level", len) == 0)
		return (int)count;
	for (size_t i = 0; i < count; i++)
		if (strlen(options[i].name) == len && strncmp(name, options[i].name, len) == 0)
			return (int)i;
	return -1;
}

static enum log_level level_read(const char *name)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return (enum log_level)i;
	misuse("\"%s\" is not a log level: choose error, warning, info or debug", name);
}

// What was not written is no success.
__attribute__((noreturn)) static void told(void)
{
	bool lost = fflush(stdout) != 0;
	if (!lost && !ferror(stdout))
		exit(0);
	(void)fprintf(stderr, "%s: writing the output failed\n", daemon_program);
	exit(DAEMON_EXIT_FAILED);
}

static void options_read(const char *summary, const struct daemon_option *options, size_t count, int argc, char **argv,
			 const char **log_level)
{
	bool given[OPTIONS_MAX + 1] = {false};
	assert(count <= OPTIONS_MAX);
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
			usage(stdout, daemon_program, summary, options, count);
			told();
		}
		if (strcmp(word, "--version") == 0) {
			(void)printf("%s %s\n", daemon_program, KAGAMI_VERSION);
			told();
		}
		if (strncmp(word, "--", 2) != 0)
			misuse("\"%s\" is not an option", word);
		const char *equals = strchr(word, '=');
		size_t len = equals ? (size_t)(equals - word - 2) : strlen(word + 2);
		int which = option_find(options, count, word + 2, len);
		if (which < 0)
			misuse("there is no option \"%s\"", word);
		if (given[which]) // the last would count, and whoever looks at the first believes it
			misuse("%.*s is given twice", (int)len + 2, word);
		given[which] = true;
		const char **value = (size_t)which == count ? log_level : options[which].value;
		if (equals)
			*value = equals + 1;
		else if (i + 1 < argc)
			*value = argv[++i];
		else
			misuse("%s needs a value", word);
		if (!**value)
			misuse("%s needs a value", word);
	}
	for (size_t i = 0; i < count; i++)
		if (options[i].required && !*options[i].value)
			misuse("--%s is missing", options[i].name);
}

// A URL may have a password or a token in it.
static bool may_be_secret(const struct daemon_option *option)
{
	return strcmp(option->name, "webhook") == 0 && (*option->value)[0] != '@';
}

static void options_keep(const struct daemon_option *options, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		daemon_options[i] = options[i];
		daemon_options[i].value = NULL;
		if (*options[i].value)
			(void)snprintf(daemon_values[i], PATH_MAX, "%s", may_be_secret(&options[i]) ? "(left out)" : *options[i].value);
	}
	daemon_option_count = count;
}

// Those that ask for a stop, and those that would end it without one, though they are sent for something else: a terminal that was closed, a log that was rotated.
static void own_signals(sigset_t *set)
{
	static const int own[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM};
	(void)sigemptyset(set);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		(void)sigaddset(set, own[i]);
}

void daemon_start(const char *program, const char *summary, const struct daemon_option *options, size_t count, int argc,
		  char **argv)
{
	const char *log_level = "info";
	daemon_program = program;
	notify_open();
	options_read(summary, options, count, argc, argv, &log_level);
	log_init(program, level_read(log_level));
	options_keep(options, count);
	sigset_t set;
	own_signals(&set);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); // a limit on the size of files is an error like a full disk
	const struct rlimit no_core = {0, 0}; // keys and guest data do not go into a core file
	(void)setrlimit(RLIMIT_CORE, &no_core);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) { // a protection takes a few, and there may be hundreds
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	log_start();
}

void daemon_misused(const struct err *err)
{
	misuse("%s", err->text);
}

const char *daemon_absolute(const char *path)
{
	char here[PATH_MAX], *whole = NULL;
	if (path[0] == '/')
		return path;
	if (!getcwd(here, sizeof(here)) || asprintf(&whole, "%s/%s", here, path) < 0)
		misuse("\"%s\" cannot be made absolute: give an absolute path", path);
	return whole;
}

const char *daemon_resolved(const char *path)
{
	static char real[PATH_MAX];
	const char *whole = daemon_absolute(path);
	if (!realpath(whole, real))
		return whole;
	if (whole != path)
		free((void *)(uintptr_t)whole);
	return real;
}

void daemon_wait(void)
{
	sigset_t set, stops;
	int which = 0;
	own_signals(&set);
	notify_ready();
	while (sigwait(&set, &which) || (which != SIGTERM && which != SIGINT))
		if (which)
			log_info("SIG%s changes nothing: settings are changed by `kagami set`, and SIGTERM stops the program", sigabbrev_np(which));
	log_info("stopping on %s", which == SIGTERM ? "SIGTERM" : "SIGINT");
	notify_stopping();
	(void)sigemptyset(&stops);
	(void)sigaddset(&stops, SIGTERM);
	(void)sigaddset(&stops, SIGINT);
	(void)pthread_sigmask(SIG_UNBLOCK, &stops, NULL);
}

unsigned daemon_version(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	(void)request;
	*ret_body = json_pack("{s:s, s:s, s:i}", "program", daemon_program, "version", KAGAMI_VERSION, "pid", (int)getpid());
	return 200;
}

unsigned daemon_configuration(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context;
	(void)request;
	json_t *options = json_object();
	struct rlimit files = {.rlim_cur = 0};
	(void)getrlimit(RLIMIT_NOFILE, &files);
	for (size_t i = 0; i < daemon_option_count; i++)
		if (daemon_values[i][0])
			(void)json_object_set_new(options, daemon_options[i].name, json_text(daemon_values[i]));
	*ret_body = json_pack("{s:s, s:s, s:o, s:o, s:I}", "program", daemon_program, "version", KAGAMI_VERSION, "options", options, "files_max", json_count(files.rlim_cur),
			      "uid", (json_int_t)geteuid());
	return 200;
}

unsigned daemon_log(void *context, const struct control_request *request, json_t **ret_body)
{
	AUTO_FREE char *text = log_recent();
	json_t *lines = json_array();
	(void)context;
	(void)request;
	for (char *at = text, *line; at && (line = strsep(&at, "\n"));)
		if (*line)
			(void)json_array_append_new(lines, json_text(line));
	*ret_body = json_pack("{s:o}", "lines", lines);
	return 200;
}
