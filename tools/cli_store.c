// SPDX-License-Identifier: Apache-2.0
// `kagami store check`: of the store that the receiver has open, by asking it; of any other one by running kagami-receiver --check.
#include "tools/cli.h"
#include "tools/show.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POLL_US = 200000, CHECK_SOUND = 0, CHECK_DAMAGED = 1, EXEC_FAILED = 127 }; // and CLI_UNREACHABLE: not checked

// --- what was found ---

static void print_lines(const json_t *lines, const char *mark)
{
	const json_t *line;
	size_t i;
	json_array_foreach(lines, i, line)
		(void)printf("  %s %s\n", mark, json_string_value(line));
}

// What the exit status says: damage is the worse news.
static int verdict_of(const json_t *report)
{
	const json_t *one;
	size_t i;
	json_array_foreach(json_object_get(report, "protections"), i, one)
		if (json_array_size(json_object_get(one, "damage")))
			return CHECK_DAMAGED;
	return show_flag_of(report, "sound") ? CHECK_SOUND : CLI_UNREACHABLE;
}

static int print_report(const struct cli *cli, json_t *report)
{
	const json_t *protections = json_object_get(report, "protections"), *one;
	int verdict = verdict_of(report);
	size_t i;
	if (cli->json)
		return cli_print_json(report) ? CLI_UNREACHABLE : verdict;
	show_clean(report);
	if (json_array_size(protections) == 0)
		(void)printf("There is no protection in the store.\n");
	json_array_foreach(protections, i, one) {
		const json_t *damage = json_object_get(one, "damage"), *unreadable = json_object_get(one, "unreadable");
		(void)printf("%s: %s, %s looked at: %s\n", show_text_of(one, "name"), show_count_of(one, "points", "point").text,
			     show_count_of(one, "files", "file").text, json_array_size(damage) ? "DAMAGED" : json_array_size(unreadable) ? "UNREADABLE" : "sound");
		print_lines(damage, "!");
		print_lines(unreadable, "?");
		print_lines(json_object_get(one, "notes"), ".");
	}
	json_decref(report);
	return verdict;
}

// --- online ---

static void show_progress(const json_t *answer)
{
	if (isatty(STDERR_FILENO))
		(void)fprintf(stderr, "\r%s: %s of %s files \033[K", show_text_of(answer, "protection"), show_integer_of(answer, "files").text,
			      show_integer_of(answer, "of").text);
}

static int check_online(const struct cli *cli)
{
	json_t *answer;
	int rc = cli_ask(cli, HTTP_RECEIVER, "POST", NULL, &answer, "/v1/store/check");
	while (rc == CLI_DONE && strcmp(show_text_of(answer, "state"), "running") == 0) {
		show_progress(answer);
		json_decref(answer);
		(void)usleep(POLL_US);
		rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/store/check");
	}
	if (isatty(STDERR_FILENO))
		(void)fputs("\r\033[K", stderr);
	if (rc)
		return CLI_UNREACHABLE;
	json_t *report = json_incref(json_object_get(answer, "report"));
	if (!json_is_object(report))
		rc = cli_fail(cli, CLI_UNREACHABLE, "the check did not come to its end: %s", show_text_of(answer, "error"));
	else
		rc = print_report(cli, json_incref(report));
	json_decref(report);
	json_decref(answer);
	return rc;
}

// --- offline ---

// The receiver's program: beside this one, or where the shell would find it.
static void run_receiver(const char *store)
{
	char own[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);
	char *slash = NULL;
	if (len > 0) {
		own[len] = 0;
		slash = strrchr(own, '/');
	}
	if (slash && (size_t)(slash - own) + sizeof("/kagami-receiver") <= sizeof(own)) {
		memcpy(slash, "/kagami-receiver", sizeof("/kagami-receiver"));
		(void)execl(own, "kagami-receiver", "--check", store, (char *)NULL);
	}
	(void)execlp("kagami-receiver", "kagami-receiver", "--check", store, (char *)NULL);
	_exit(EXEC_FAILED);
}

// Reads all of what the child prints. NULL when it is no report.
static json_t *report_read(int fd)
{
	FILE *from = fdopen(fd, "r");
	if (!from) {
		(void)close(fd);
		return NULL;
	}
	json_t *report = json_loadf(from, 0, NULL);
	(void)fclose(from);
	return report;
}

static int check_offline(const struct cli *cli, const char *path)
{
	char store[PATH_MAX];
	int pipe_fd[2], status = 0;
	if (!realpath(path, store))
		return cli_fail(cli, CLI_UNREACHABLE, "the store %s: %s", path, strerror(errno));
	(void)fflush(stdout);
	if (pipe(pipe_fd))
		return cli_fail(cli, CLI_UNREACHABLE, "make a pipe: %s", strerror(errno));
	pid_t child = fork();
	if (child == 0) {
		(void)dup2(pipe_fd[1], STDOUT_FILENO);
		(void)close(pipe_fd[0]);
		(void)close(pipe_fd[1]);
		run_receiver(store);
	}
	(void)close(pipe_fd[1]);
	json_t *report = report_read(pipe_fd[0]);
	bool ran = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status);
	if (ran && json_is_array(json_object_get(report, "protections")))
		return print_report(cli, report);
	json_decref(report);
	if (ran && WEXITSTATUS(status) == EXEC_FAILED)
		return cli_fail(cli, CLI_UNREACHABLE, "kagami-receiver, which knows how to read a store, is not installed here");
	return cli_fail(cli, CLI_UNREACHABLE, "the store %s was not checked", store); // the child has said why
}

int cli_store(const struct cli *cli)
{
	if (strcmp(cli->argv[0], "check") != 0)
		return cli_misused(cli, "\"%.60s\" is nothing that is done to a store: there is check", cli->argv[0]);
	return cli->argc == 2 ? check_offline(cli, cli->argv[1]) : check_online(cli);
}
