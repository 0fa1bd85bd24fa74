// SPDX-License-Identifier: Apache-2.0
// `kagami bundle`: what somebody who helps needs to see, in one file: what both daemons tell, their journals, and the host.
//
// It holds only what the control API tells, which has no keys and no tokens, and what the host tells of two processes. URLs lose what may be a
// password. Whatever could not be had is named in missing.txt: a bundle is most needed where something does not work.
#include "base/auto.h"
#include "base/clock.h"
#include "base/when.h"
#include "link/json.h"
#include "tools/archive.h"
#include "tools/cli.h"
#include "tools/out_file.h"
#include "tools/redact.h"
#include "tools/show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MOST = 8 << 20, CHECK_SECONDS = 60, CHECK_POLL_US = 200000, PATH_CAP = 512 };

struct bundle {
	const struct cli *cli;
	struct archive_out *archive;
	FILE *missing; // a memory stream
	struct err err;
	int rc;
};

// Nobody waits for the rest any more, or it has nowhere to go.
static bool is_over(const struct bundle *bundle)
{
	return bundle->rc || out_stopped;
}

static void add(struct bundle *bundle, const char *name, const char *text, size_t len)
{
	if (!is_over(bundle))
		bundle->rc = archive_add(bundle->archive, name, text, len, &bundle->err);
}

static void missing(struct bundle *bundle, const char *name, const char *why)
{
	(void)fprintf(bundle->missing, "%s: %s\n", name, why);
}

static void add_json(struct bundle *bundle, const char *name, const json_t *json)
{
	AUTO_FREE char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENCODE_ANY);
	size_t len = text ? strlen(text) : 0;
	char *roomy = text ? realloc(text, len + 1024) : NULL; // a cover may be longer than what it covers
	if (!roomy)
		return missing(bundle, name, "no memory");
	text = roomy;
	(void)redact_urls(text, len + 1024);
	add(bundle, name, text, strlen(text));
}

// Asks, adds what comes, and returns it; NULL, noted as missing, when there is none.
static json_t *take(struct bundle *bundle, enum http_daemon daemon, const char *method, const char *name, const char *path)
{
	struct http_reply reply;
	struct err err = {0};
	char file[PATH_CAP];
	if (is_over(bundle))
		return NULL;
	(void)snprintf(file, sizeof(file), "%s/%s.json", daemon == HTTP_REPLICATOR ? "replicator" : "receiver", name);
	if (http_ask(bundle->cli->run_dir, daemon, method, path, NULL, &reply, &err)) {
		missing(bundle, file, err.text);
		return NULL;
	}
	if (reply.status / 100 != 2) {
		missing(bundle, file, show_text_of(json_object_get(reply.body, "error"), "message"));
		json_decref(reply.body);
		return NULL;
	}
	if (strcmp(name, "check") != 0)
		add_json(bundle, file, reply.body);
	return reply.body;
}

static void take_text(struct bundle *bundle, enum http_daemon daemon, const char *name, const char *path)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	struct err err = {0};
	char file[PATH_CAP];
	if (is_over(bundle))
		return;
	(void)snprintf(file, sizeof(file), "%s/%s", daemon == HTTP_REPLICATOR ? "replicator" : "receiver", name);
	if (http_text(bundle->cli->run_dir, daemon, path, &text, &len, &err))
		return missing(bundle, file, err.text);
	add(bundle, file, text ? text : "", len);
}

// What a file of /proc or /etc, or a program, has to say.
static void take_stream(struct bundle *bundle, const char *name, FILE *from)
{
	AUTO_FREE char *text = malloc(FILE_MOST + 1024);
	if (!text || !from)
		return missing(bundle, name, text ? strerror(errno) : "no memory");
	size_t len = fread(text, 1, FILE_MOST, from);
	for (size_t i = 0; i < len; i++)
		text[i] = text[i] ? text[i] : '?';
	text[len] = 0;
	(void)redact_urls(text, FILE_MOST + 1024);
	add(bundle, name, text, strlen(text));
}

static void take_file(struct bundle *bundle, const char *name, const char *path)
{
	FILE *from = fopen(path, "re");
	take_stream(bundle, name, from);
	if (from)
		(void)fclose(from);
}

static void take_output(struct bundle *bundle, const char *name, const char *command)
{
	if (is_over(bundle))
		return;
	FILE *from = popen(command, "re"); // the commands are those below, with nothing of anybody else in them
	take_stream(bundle, name, from);
	if (from)
		(void)pclose(from);
}

// Of each protection, what there is to ask.
static void take_protections(struct bundle *bundle, enum http_daemon daemon, const json_t *answer)
{
	static const struct {
		const char *name;
		bool source, target;
	} parts[] = {
		{"syncs", true, false},		       {"history?window=hour", true, true}, {"history?window=day", true, true}, {"history?window=week", true, true},
		{"points", false, true},	       {"retention", false, true},	    {"scrub", false, true},
	};
	const json_t *one;
	size_t i;
	json_array_foreach(json_object_get(answer, "protections"), i, one) {
		const char *name = show_text_of(one, "name");
		for (size_t n = 0; n < sizeof(parts) / sizeof(parts[0]); n++) {
			char file[PATH_CAP], path[PATH_CAP];
			if (!(daemon == HTTP_REPLICATOR ? parts[n].source : parts[n].target))
				continue;
			(void)snprintf(path, sizeof(path), "/v1/protections/%s/%s", name, parts[n].name);
			(void)snprintf(file, sizeof(file), "%s/%s", name, parts[n].name);
			char *question = strstr(file, "?window=");
			if (question) {
				*question = '-';
				(void)memmove(question + 1, question + 8, strlen(question + 8) + 1);
			}
			json_decref(take(bundle, daemon, "GET", file, path));
		}
	}
}

// The store's own check, for as long as somebody would wait; a larger store's goes on, and `kagami store check` tells its end.
static void take_check(struct bundle *bundle)
{
	json_t *answer = take(bundle, HTTP_RECEIVER, "POST", "check", "/v1/store/check");
	int64_t end_ms = clock_mono_ms() + INT64_C(1000) * CHECK_SECONDS;
	while (answer && strcmp(show_text_of(answer, "state"), "running") == 0 && clock_mono_ms() < end_ms && !out_stopped) {
		json_decref(answer);
		(void)usleep(CHECK_POLL_US);
		answer = take(bundle, HTTP_RECEIVER, "GET", "check", "/v1/store/check");
	}
	if (answer)
		add_json(bundle, "receiver/check.json", answer);
	json_decref(answer);
}

static void take_process(struct bundle *bundle, const char *folder, const json_t *version)
{
	// Not its arguments: configuration.json has them, without what may be secret.
	static const char *const files[] = {"status", "limits", "io"};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[PATH_CAP], name[PATH_CAP];
		(void)snprintf(path, sizeof(path), "/proc/%llu/%s", (unsigned long long)show_number_of(version, "pid"), files[i]);
		(void)snprintf(name, sizeof(name), "%s/process-%s.txt", folder, files[i]);
		take_file(bundle, name, path);
	}
}

static bool take_daemon(struct bundle *bundle, enum http_daemon daemon)
{
	bool source = daemon == HTTP_REPLICATOR;
	json_t *version = take(bundle, daemon, "GET", "version", "/v1/version");
	if (!version)
		return false;
	take_process(bundle, source ? "replicator" : "receiver", version);
	json_decref(version);
	json_t *protections = take(bundle, daemon, "GET", "protections", "/v1/protections");
	take_protections(bundle, daemon, protections);
	json_decref(protections);
	json_decref(take(bundle, daemon, "GET", "events", "/v1/events?since=0&newest=1000"));
	take_text(bundle, daemon, "metrics.txt", "/metrics");
	static const char *const of_source[] = {"configuration", "log", "sites", NULL}, *const of_target[] = {"configuration", "log", "store", "peers", "mounts", "tests", "seeds", NULL};
	for (const char *const *name = source ? of_source : of_target; *name; name++) {
		char path[PATH_CAP];
		(void)snprintf(path, sizeof(path), "/v1/%s", *name);
		json_decref(take(bundle, daemon, "GET", *name, path));
	}
	if (!source)
		take_check(bundle);
	return true;
}

static void take_host(struct bundle *bundle)
{
	take_file(bundle, "host/os-release.txt", "/etc/os-release");
	take_file(bundle, "host/meminfo.txt", "/proc/meminfo");
	take_file(bundle, "host/loadavg.txt", "/proc/loadavg");
	take_file(bundle, "host/pressure-io.txt", "/proc/pressure/io");
	take_output(bundle, "host/uname.txt", "uname -a 2>&1");
	take_output(bundle, "host/cpu.txt", "lscpu 2>&1");
	take_output(bundle, "host/disks.txt", "df -hT 2>&1");
	take_output(bundle, "host/clock.txt", "timedatectl 2>&1 || date");
	take_output(bundle, "replicator/journal.txt", "journalctl --no-pager -q -u kagami-replicator -n 20000 2>&1 || echo 'no journal here: the log is where standard error goes'");
	take_output(bundle, "receiver/journal.txt", "journalctl --no-pager -q -u kagami-receiver -n 20000 2>&1 || echo 'no journal here: the log is where standard error goes'");
}

static const char about[] =
	"What Kagami's daemons of one host told of themselves: replicator/ and receiver/ have the answers of their control API (docs/control.md), their\n"
	"metrics, their journals and what the system says of their processes; host/ is about the machine. missing.txt names what could not be had.\n"
	"There are no keys, tokens or contents of disks in it. Names of protections, paths of images and addresses of hosts are.\n";

static void take_all(struct bundle *bundle, bool *ret_any)
{
	char when[WHEN_SIZE], text[sizeof(about) + 256], host[64] = "";
	char *list = NULL;
	size_t len;
	bundle->missing = open_memstream(&list, &len);
	if (!bundle->missing)
		abort();
	when_format(clock_wall_ns(), when);
	(void)gethostname(host, sizeof(host) - 1);
	(void)snprintf(text, sizeof(text), "%s\nmade %s on %s by kagami %s\n", about, when, host, KAGAMI_VERSION);
	add(bundle, "README.txt", text, strlen(text));
	*ret_any = take_daemon(bundle, HTTP_REPLICATOR);
	*ret_any |= take_daemon(bundle, HTTP_RECEIVER);
	take_host(bundle);
	if (fclose(bundle->missing))
		abort();
	add(bundle, "missing.txt", list, len);
	free(list);
}

int cli_bundle(const struct cli *cli)
{
	struct bundle bundle = {.cli = cli};
	struct out_file out;
	bool any = false;
	uint64_t members = 0;
	if (strcmp(cli->argv[0], "-") == 0) // it gets its name when it is whole
		return cli_misused(cli, "a bundle is a file: name one (\"./-\" for one of that name)");
	out_signals();
	http_stop_at(&out_stopped);
	if (out_file_open(cli->argv[0], cli->option[OPT_FORCE], &out, &bundle.err))
		return cli_fail(cli, CLI_REFUSED, "%s", bundle.err.text);
	bundle.rc = archive_begin(out.file, "kagami-bundle", clock_wall_ns() / 1000000000, &bundle.archive, &bundle.err);
	if (!bundle.rc) {
		take_all(&bundle, &any);
		members = archive_members(bundle.archive);
		if (bundle.rc)
			archive_drop(bundle.archive);
		else
			bundle.rc = archive_end(bundle.archive, &bundle.err);
	}
	if (!bundle.rc && out_stopped)
		bundle.rc = err_set(&bundle.err, -EINTR, "interrupted: %s was not made", cli->argv[0]);
	if (!bundle.rc)
		bundle.rc = out_file_commit(&out, &bundle.err);
	out_file_drop(&out);
	if (bundle.rc)
		return cli_fail(cli, CLI_REFUSED, "%s", bundle.err.text);
	if (cli->json)
		return cli_print_json(json_pack("{s:o, s:I, s:b}", "path", json_text(cli->argv[0]), "files", (json_int_t)members, "daemon", (int)any));
	AUTO_FREE char *path = show_plain(cli->argv[0]);
	(void)printf("%s: %s, no keys or tokens; it names protections, paths and hosts.\n", path, show_count(members, "file").text);
	if (!any)
		(void)printf("Neither daemon answered at %s, so it is about the host alone: missing.txt in it says why.\n", cli->run_dir);
	return CLI_DONE;
}
