// SPDX-License-Identifier: Apache-2.0
// `kagami bundle`: what whoever is to help would ask for, in one file. All of it comes from the daemons' control sockets, but for what this host
// is; nothing is read from their directories, and so no key or token can be in it. Besides, members that are named like a secret are left out.
#include "tools/cli.h"
#include "tools/show.h"
#include "tools/tar_out.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/when.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { PATH_SIZE = 256, POLL_US = 200000, CHECK_POLLS = 600, OS_RELEASE_MAX = 16 << 10 };

struct bundle {
	const struct cli *cli;
	struct out_file out;
	struct tar_out tar;
	struct err err; // of writing
	char *notes;
	size_t notes_len;
	unsigned daemons, files, missing;
};

__attribute__((format(printf, 2, 3))) static void note(struct bundle *b, const char *fmt, ...)
{
	char line[512];
	va_list args;
	va_start(args, fmt);
	int len = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	size_t take = len > 0 ? strnlen(line, sizeof(line)) : 0;
	char *more = realloc(b->notes, b->notes_len + take + 1);
	if (!more)
		return;
	memcpy(more + b->notes_len, line, take + 1);
	b->notes = more;
	b->notes_len += take;
}

static int put(struct bundle *b, const char *name, const void *bytes, size_t len)
{
	char path[PATH_SIZE + 16];
	(void)snprintf(path, sizeof(path), "kagami-bundle/%s", name);
	b->files++;
	return tar_out_file(&b->tar, path, bytes, len, &b->err);
}

// --- what is left out ---

static bool named_like_a_secret(const char *name)
{
	static const char *const words[] = {"secret", "token", "password", "private"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasestr(name, words[i]))
			return true;
	return false;
}

static void redact(json_t *json)
{
	const char *name;
	json_t *value;
	size_t i;
	json_object_foreach(json, name, value) {
		if (named_like_a_secret(name) && !json_is_object(value))
			(void)json_object_set_new(json, name, json_string("(left out)"));
		else
			redact(value);
	}
	json_array_foreach(json, i, value)
		redact(value);
}

static int put_json(struct bundle *b, const char *name, json_t *json)
{
	redact(json);
	AUTO_FREE char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENCODE_ANY);
	json_decref(json);
	return text ? put(b, name, text, strlen(text)) : err_set(&b->err, -ENOMEM, "out of memory");
}

// --- from a daemon ---

// One answer of it, as `file`; one that it does not give is noted, and no failure. `ret_body` (may be NULL): the answer, the caller's.
static int take(struct bundle *b, enum http_daemon daemon, const char *file, const char *path, json_t **ret_body)
{
	struct http_reply reply;
	struct err err = {.code = 0};
	char name[PATH_SIZE];
	if (ret_body)
		*ret_body = NULL;
	if (http_ask(b->cli->run_dir, daemon, "GET", path, NULL, &reply, &err)) {
		note(b, "%s: %s was not answered: %s\n", http_daemon_name(daemon), path, err.text);
		b->missing++;
		return 0;
	}
	if (reply.status != 200) {
		note(b, "%s: %s was answered with status %ld: %s\n", http_daemon_name(daemon), path, reply.status,
		     show_text_of(json_object_get(reply.body, "error"), "message"));
		b->missing += reply.status != 404;
		json_decref(reply.body);
		return 0;
	}
	if (ret_body)
		*ret_body = json_incref(reply.body);
	(void)snprintf(name, sizeof(name), "%s/%s", daemon == HTTP_REPLICATOR ? "replicator" : "receiver", file);
	return put_json(b, name, reply.body);
}

static int take_text(struct bundle *b, enum http_daemon daemon, const char *file, const char *path)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	struct err err = {.code = 0};
	char name[PATH_SIZE];
	if (http_text(b->cli->run_dir, daemon, path, &text, &len, &err)) {
		note(b, "%s: %s was not answered: %s\n", http_daemon_name(daemon), path, err.text);
		b->missing++;
		return 0;
	}
	(void)snprintf(name, sizeof(name), "%s/%s", daemon == HTTP_REPLICATOR ? "replicator" : "receiver", file);
	return put(b, name, text, len);
}

static int take_protection(struct bundle *b, enum http_daemon daemon, const char *protection)
{
	static const struct {
		const char *file, *path;
		bool receiver, replicator;
	} parts[] = {
		{"history-hour.json", "history?window=hour", true, true}, {"history-day.json", "history?window=day", true, true},
		{"history-week.json", "history?window=week", true, true}, {"points.json", "points", true, false},
		{"retention.json", "retention", true, false},		  {"scrub.json", "scrub", true, false},
		{"syncs.json", "syncs", false, true},
	};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		char file[PATH_SIZE], path[PATH_SIZE];
		if (!(daemon == HTTP_RECEIVER ? parts[i].receiver : parts[i].replicator))
			continue;
		(void)snprintf(file, sizeof(file), "%.64s-%s", protection, parts[i].file);
		(void)snprintf(path, sizeof(path), "/v1/protections/%s/%s", protection, parts[i].path);
		int rc = take(b, daemon, file, path, NULL);
		if (rc)
			return rc;
	}
	return 0;
}

static int take_protections(struct bundle *b, enum http_daemon daemon)
{
	json_t *body = NULL, *one;
	size_t i;
	int rc = take(b, daemon, "protections.json", "/v1/protections", &body);
	json_array_foreach(json_object_get(body, "protections"), i, one)
		if (rc == 0)
			rc = take_protection(b, daemon, show_text_of(one, "name"));
	json_decref(body);
	return rc;
}

// The store is checked now, unless --fast says that the last report will do; it only reads.
static int take_check(struct bundle *b)
{
	struct http_reply reply;
	struct err err = {.code = 0};
	const char *state = "";
	bool fast = b->cli->option[OPT_FAST];
	unsigned polls = 0;
	if (!fast && http_ask(b->cli->run_dir, HTTP_RECEIVER, "POST", "/v1/store/check", NULL, &reply, &err) == 0)
		json_decref(reply.body);
	do {
		if (polls)
			(void)usleep(POLL_US);
		if (http_ask(b->cli->run_dir, HTTP_RECEIVER, "GET", "/v1/store/check", NULL, &reply, &err))
			break;
		state = strcmp(show_text_of(reply.body, "state"), "running") == 0 ? "running" : "over";
		if (cli_on_terminal() && !polls)
			(void)fprintf(stderr, "The store is being checked ...\n");
		json_decref(reply.body);
	} while (!fast && strcmp(state, "running") == 0 && ++polls < CHECK_POLLS && !out_stopped);
	if (strcmp(state, "running") == 0)
		note(b, "The check of the store had not ended: `kagami store check` waits for it.\n");
	return take(b, HTTP_RECEIVER, "store-check.json", "/v1/store/check", NULL);
}

static int take_daemon(struct bundle *b, enum http_daemon daemon)
{
	static const struct {
		const char *file, *path;
		bool receiver, replicator;
	} parts[] = {
		{"version.json", "/v1/version", true, true},	       {"configuration.json", "/v1/configuration", true, true},
		{"events.json", "/v1/events?last=1000", true, true},   {"log.json", "/v1/log", true, true},
		{"store.json", "/v1/store", true, false},	       {"tests.json", "/v1/tests", true, false},
		{"mounts.json", "/v1/mounts", true, false},	       {"peers.json", "/v1/peers", true, false},
		{"seeds.json", "/v1/seeds", true, false},	       {"sites.json", "/v1/sites", false, true},
	};
	struct http_reply reply;
	struct err err = {.code = 0};
	int rc = http_ask(b->cli->run_dir, daemon, "GET", "/v1/version", NULL, &reply, &err);
	if (rc) {
		note(b, "%s is not in the bundle: %s\n", http_daemon_name(daemon), err.text);
		return 0;
	}
	json_decref(reply.body);
	b->daemons++;
	for (size_t i = 0; rc == 0 && i < sizeof(parts) / sizeof(parts[0]); i++)
		if (daemon == HTTP_RECEIVER ? parts[i].receiver : parts[i].replicator)
			rc = take(b, daemon, parts[i].file, parts[i].path, NULL);
	if (rc == 0)
		rc = take_text(b, daemon, "metrics.txt", "/metrics");
	if (rc == 0)
		rc = take_protections(b, daemon);
	return rc == 0 && daemon == HTTP_RECEIVER ? take_check(b) : rc;
}

// --- of this host ---

static int take_host(struct bundle *b)
{
	struct utsname name;
	char release[OS_RELEASE_MAX] = "";
	FILE *file = fopen("/etc/os-release", "re");
	if (file) {
		size_t got = fread(release, 1, sizeof(release) - 1, file);
		release[got] = 0;
		(void)fclose(file);
	}
	if (uname(&name))
		return err_sys(&b->err, -errno, "uname");
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "kagami", KAGAMI_VERSION, "kernel", name.release, "machine", name.machine, "host", name.nodename,
				 "processors", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "os_release", release);
	return put_json(b, "host.json", json ? json : json_object());
}

static int take_readme(struct bundle *b)
{
	char when[WHEN_SIZE];
	struct bundle head = {.cli = b->cli};
	when_format(clock_wall_ns(), when);
	note(&head,
	     "What `kagami bundle` of version " KAGAMI_VERSION " found at %s.\n\n"
	     "host.json       this host\n"
	     "*/version.json, configuration.json, log.json, events.json, metrics.txt\n"
	     "*/protections.json, and for each protection its history (hour, day, week), points, syncs, retention, scrub\n"
	     "receiver/store.json, store-check.json, peers.json, seeds.json, tests.json, mounts.json; replicator/sites.json\n\n"
	     "Not in it: keys, tokens, digest secrets, anything of a disk. Names of protections, disks, hosts, paths and addresses are.\n\n",
	     when);
	if (b->notes)
		note(&head, "%s", "Notes:\n");
	int rc = put(b, "README.txt", head.notes ? head.notes : "", head.notes_len);
	if (rc == 0 && b->notes)
		rc = put(b, "notes.txt", b->notes, b->notes_len);
	free(head.notes);
	return rc;
}

static int collect(struct bundle *b)
{
	int rc = take_host(b);
	if (rc == 0)
		rc = take_daemon(b, HTTP_REPLICATOR);
	if (rc == 0)
		rc = take_daemon(b, HTTP_RECEIVER);
	if (rc == 0)
		rc = take_readme(b);
	if (rc == 0)
		rc = tar_out_end(&b->tar, &b->err);
	if (rc == 0 && b->daemons)
		rc = out_file_commit(&b->out, &b->err);
	return rc;
}

static int report(const struct bundle *b)
{
	const struct cli *cli = b->cli;
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:i, s:i, s:i}", "file", cli->argv[0], "files", (int)b->files, "daemons", (int)b->daemons, "missing",
						(int)b->missing));
	(void)printf("%s holds %u files, of %u of the two daemons.\n", cli->argv[0], b->files, b->daemons);
	if (b->notes)
		(void)printf("%s", b->notes);
	return CLI_DONE;
}

int cli_bundle(const struct cli *cli)
{
	struct bundle b = {.cli = cli};
	out_signals();
	int rc = out_file_open(cli->argv[0], cli->option[OPT_FORCE] != NULL, &b.out, &b.err);
	if (rc)
		return cli_fail(cli, CLI_REFUSED, "%s", b.err.text);
	rc = tar_out_begin(&b.tar, &b.out, clock_wall_ns() / 1000000000, &b.err);
	if (rc == 0)
		rc = collect(&b);
	tar_out_done(&b.tar);
	out_file_drop(&b.out);
	if (rc)
		rc = cli_fail(cli, CLI_REFUSED, "%s", b.err.text);
	else if (!b.daemons)
		rc = cli_no_daemon(cli);
	else
		rc = report(&b);
	free(b.notes);
	return rc;
}
