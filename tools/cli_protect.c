// SPDX-License-Identifier: Apache-2.0
// A protection's life on the source host: protect, pause, resume, unprotect.
#include "base/size.h"
#include "format/codec.h"
#include "format/digest.h"
#include "tools/cli.h"
#include "tools/http.h"
#include "tools/image_look.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>

enum { AWAIT_MS = 3000, AWAIT_STEP_MS = 100, PROTECT_WAIT_S = 15, ANSWER_WAIT_S = 5 };

enum { POINTS_MOST = 200 }; // as docs/man/kagami.1 says; the daemon checks it too

// One disk of the request. The path becomes absolute here: the daemon has another working directory.
static int disk_add(const struct cli *cli, json_t *disks, const char *text)
{
	struct parse_disk disk;
	struct err err;
	size_t i;
	const json_t *other;
	if (parse_disk(text, &disk, &err))
		return cli_misused(cli, "%s", err.text);
	json_array_foreach(disks, i, other)
		if (strcmp(show_text_of(other, "name"), disk.name) == 0)
			return cli_misused(cli, "the disk \"%s\" is named twice", disk.name);
	static struct image_look look;
	int code = image_look(disk.path, &look, &err);
	if (code == -ETIMEDOUT)
		return cli_fail(cli, CLI_TIMED_OUT, "%s; nothing was protected", err.text);
	if (code)
		return cli_fail(cli, CLI_REFUSED, "%s: name an image that exists on this host", err.text);
	if (!S_ISREG(look.mode) && !S_ISBLK(look.mode))
		return cli_fail(cli, CLI_REFUSED, "%s is neither a file nor a block device: name the disk's raw image", disk.path);
	json_t *entry = json_pack("{s:s, s:s}", "name", disk.name, "path", look.path);
	if (!entry)
		return cli_misused(cli, "%s: the path is not UTF-8: rename it", look.path);
	(void)json_array_append_new(disks, entry);
	return CLI_DONE;
}

// Marks the disks that --read-only names: DISK,DISK,...
static int read_only_add(const struct cli *cli, json_t *disks)
{
	const char *at = cli->option[OPT_READ_ONLY];
	while (at) {
		size_t len = strcspn(at, ","), i;
		json_t *disk;
		bool found = false;
		json_array_foreach(disks, i, disk) {
			const char *name = show_text_of(disk, "name");
			if (strlen(name) != len || strncmp(name, at, len) != 0)
				continue;
			found = true;
			(void)json_object_set_new(disk, "read_only", json_true());
		}
		if (!found)
			return cli_misused(cli, "--read-only: \"%.*s\" is not one of the disks: name them as before the \"=\"",
					   (int)len, at);
		at = at[len] ? at + len + 1 : NULL;
	}
	return CLI_DONE;
}

// Adds what the options say; the RPO and the site must be there.
static int options_add(const struct cli *cli, json_t *body)
{
	uint64_t rpo_ms, points;
	enum codec codec;
	enum digest_kind digest;
	struct err err;
	const char *const *option = cli->option;
	if (!option[OPT_TO] || !option[OPT_RPO])
		return cli_misused(cli, "%s is missing: %s", option[OPT_TO] ? "--rpo" : "--to",
				   option[OPT_TO] ? "how old may the newest point be?" : "which site are the points to be kept at?");
	if (parse_name("site", option[OPT_TO], &err) || parse_rpo(option[OPT_RPO], &rpo_ms, &err))
		return cli_misused(cli, "%s", err.text);
	(void)json_object_set_new(body, "site", json_string(option[OPT_TO]));
	(void)json_object_set_new(body, "rpo_ms", json_integer((json_int_t)rpo_ms));
	if (option[OPT_POINTS]) {
		if (parse_number("--points", option[OPT_POINTS], 1, POINTS_MOST, &points, &err))
			return cli_misused(cli, "%s", err.text);
		(void)json_object_set_new(body, "points", json_integer((json_int_t)points));
	}
	if (option[OPT_CODEC]) {
		if (strcmp(option[OPT_CODEC], "auto") != 0 && !codec_read(option[OPT_CODEC], &codec))
			return cli_misused(cli, "--codec: \"%s\" is none of zstd, auto, zlib, lz4, none", option[OPT_CODEC]);
		(void)json_object_set_new(body, "codec", json_string(option[OPT_CODEC]));
	}
	if (option[OPT_DIGEST]) {
		if (!digest_kind_read(option[OPT_DIGEST], &digest))
			return cli_misused(cli, "--digest: \"%s\" is none of xxh3, blake2b", option[OPT_DIGEST]);
		(void)json_object_set_new(body, "digest", json_string(option[OPT_DIGEST]));
	}
	if (option[OPT_FORCE])
		(void)json_object_set_new(body, "force", json_true());
	if (option[OPT_SEED])
		(void)json_object_set_new(body, "seed", json_true());
	return cli_set_options(cli, body);
}

// QEMU's option syntax ends a value at a comma, unless it is doubled. Without the delay a guest has an error for each request that comes while the replicator is started anew.
static void print_drive(const char *uri, bool read_only)
{
	(void)fputs("  -drive 'file=", stdout);
	for (; *uri; uri++)
		(void)fputs(*uri == ',' ? ",," : (char[]){*uri, '\0'}, stdout);
	(void)printf(",file.reconnect-delay=60,format=raw,if=virtio%s'\n", read_only ? ",readonly=on" : "");
}

static void print_protected(const json_t *protection)
{
	const json_t *disk;
	size_t i;
	const char *reason = show_text_of(protection, "reason");
	if (strcmp(show_text_of(protection, "state"), "failed") == 0)
		(void)printf("%s is not replicated to %s, which refuses it. Its disks are served and tracked, and it is tried again; `kagami unprotect %s` ends it.\n\n",
			     show_text_of(protection, "name"), show_text_of(protection, "site"), show_text_of(protection, "name"));
	else
		(void)printf("%s is protected to %s with an RPO of %s. %s\n\n", show_text_of(protection, "name"), show_text_of(protection, "site"),
			     show_duration_of(protection, "rpo_ms").text, *reason ? "Its disks are served and tracked." : "Its initial sync has begun.");
	(void)printf("From now on the VM must use its disks here, so that each write is tracked:\n");
	json_array_foreach(json_object_get(protection, "disks"), i, disk)
		(void)printf("  %s  %s\n", show_text_of(disk, "name"), show_text_of(disk, "uri"));
	(void)printf("\nWith QEMU:\n");
	json_array_foreach(json_object_get(protection, "disks"), i, disk)
		print_drive(show_text_of(disk, "uri"), show_flag_of(disk, "read_only"));
	(void)printf("\nHow it goes: kagami status %s\n", show_text_of(protection, "name"));
}

// Waits, for a few seconds at most, until the receiver has taken the protection or said why not: what is refused there is an
// error to whoever asked here. Takes `answer` over; the newest one comes back.
static json_t *await_receiver(const struct cli *cli, json_t *answer)
{
	static const struct timespec pause = {.tv_nsec = AWAIT_STEP_MS * 1000000L};
	for (int step = 0; step < AWAIT_MS / AWAIT_STEP_MS; step++) {
		const char *state = show_text_of(answer, "state");
		bool undecided = strcmp(state, "starting") == 0 ||
				 (strcmp(state, "connecting") == 0 && !*show_text_of(answer, "reason"));
		json_t *newer;
		if (!undecided)
			break;
		(void)nanosleep(&pause, NULL);
		if (cli_ask_if_there(cli, HTTP_REPLICATOR, true, &newer, "/v1/protections/%s", cli->argv[0]) || !newer)
			break;
		json_decref(answer);
		answer = newer;
	}
	return answer;
}

static int report(const struct cli *cli, json_t *answer)
{
	const char *reason = show_text_of(answer, "reason");
	bool failed = strcmp(show_text_of(answer, "state"), "failed") == 0;
	bool waits = strcmp(show_text_of(answer, "state"), "waiting-for-seed") == 0;
	int rc = CLI_DONE;
	if (cli->json) {
		json_incref(answer);
		(void)cli_print_json(answer);
	} else {
		print_protected(answer);
	}
	if (*reason && strcmp(show_text_of(answer, "state"), "idle") == 0) // it waits on purpose
		rc = cli_fail(cli, CLI_DONE, "%s: %s", show_text_of(answer, "name"), reason);
	else if (*reason)
		rc = cli_fail(cli, failed ? CLI_REFUSED : CLI_DONE, "%s %s: %s", show_text_of(answer, "site"),
			      failed ? "does not take it" : waits ? "waits for its seed" : "is not reached yet, and tried again", reason);
	json_decref(answer);
	return rc;
}

// The replicator goes on without us: an image hangs that answered a moment ago, or the state directory does.
static int still_starts(const struct cli *cli)
{
	json_t *answer = NULL;
	const char *name = cli->argv[0];
	http_wait_at_most(ANSWER_WAIT_S);
	if (cli_ask_if_there(cli, HTTP_REPLICATOR, true, &answer, "/v1/protections/%s", name))
		return CLI_TIMED_OUT; // which was said
	if (cli->json && answer)
		(void)cli_print_json(json_incref(answer));
	const char *reason = answer ? show_text_of(answer, "reason") : "";
	int rc = cli_fail(cli, CLI_TIMED_OUT,
			  "no answer within %d s%s%s. The replicator goes on with it: `kagami status %s` shows what it waits for, and that it is protected once it is; "
			  "`kagami events` says why, should it not be",
			  PROTECT_WAIT_S, *reason ? ": " : "", reason, name);
	json_decref(answer);
	return rc;
}

static int ask_to_protect(const struct cli *cli, json_t *body, json_t **ret_answer)
{
	struct http_reply reply;
	struct err err = {0};
	http_wait_at_most(PROTECT_WAIT_S);
	int rc = http_ask(cli->run_dir, HTTP_REPLICATOR, "POST", "/v1/protections", body, &reply, &err);
	if (rc == -ETIMEDOUT)
		return still_starts(cli);
	if (rc)
		return cli_unreachable(cli, HTTP_REPLICATOR, &err);
	if (reply.status >= 400)
		return cli_refused(cli, HTTP_REPLICATOR, &reply);
	if (!cli->json)
		show_clean(reply.body);
	*ret_answer = reply.body;
	return CLI_DONE;
}

int cli_protect(const struct cli *cli)
{
	struct err err;
	if (parse_new_name(cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (cli->argc < 2)
		return cli_misused(cli, "a disk is missing: name each as DISK=PATH, such as vda=/images/%s.raw", cli->argv[0]);
	if (cli->argc - 1 > DISKS_MAX)
		return cli_misused(cli, "%d disks are too many: a protection has at most %d", cli->argc - 1, DISKS_MAX);
	json_t *disks = json_array();
	json_t *body = json_pack("{s:s, s:o}", "name", cli->argv[0], "disks", disks);
	int rc = options_add(cli, body);
	for (int i = 1; i < cli->argc && !rc; i++)
		rc = disk_add(cli, disks, cli->argv[i]);
	if (!rc)
		rc = read_only_add(cli, disks);
	if (rc) {
		json_decref(body);
		return rc;
	}
	json_t *answer = NULL;
	rc = ask_to_protect(cli, body, &answer);
	if (rc)
		return rc;
	return report(cli, await_receiver(cli, answer));
}

// A request to an existing protection, and one sentence when it worked.
static int change(const struct cli *cli, const char *method, const char *verb, json_t *body, const char *sentence)
{
	const char *name = cli->argv[0];
	struct err err;
	if (parse_name("protection", name, &err)) {
		json_decref(body);
		return cli_misused(cli, "%s", err.text);
	}
	json_t *answer;
	int rc = cli_ask(cli, HTTP_REPLICATOR, method, body, &answer, "/v1/protections/%s%s", name, verb);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("%s %s\n", name, sentence);
	json_decref(answer);
	return CLI_DONE;
}

int cli_pause(const struct cli *cli)
{
	return change(cli, "POST", "/pause", NULL,
		      "is paused. Its writes are still tracked; its newest point grows older until it is resumed.");
}

int cli_resume(const struct cli *cli)
{
	bool without = cli->option[OPT_WITHOUT_SEED];
	return change(cli, "POST", "/resume", without ? json_pack("{s:b}", "without_seed", 1) : NULL,
		      without ? "is resumed, and waits for no seed." : "is resumed.");
}

// Connections of guests, which end with the protection; 0 also where that cannot be asked, which the request itself tells then.
static uint64_t clients_of(const struct cli *cli, const char *name)
{
	struct http_reply reply;
	const json_t *disk;
	size_t i;
	uint64_t clients = 0;
	char path[sizeof("/v1/protections/") + NAME_SIZE];
	(void)snprintf(path, sizeof(path), "/v1/protections/%s", name);
	if (http_ask(cli->run_dir, HTTP_REPLICATOR, "GET", path, NULL, &reply, NULL))
		return 0;
	json_array_foreach(json_object_get(reply.body, "disks"), i, disk)
		clients += show_number_of(disk, "clients");
	json_decref(reply.body);
	return clients;
}

int cli_unprotect(const struct cli *cli)
{
	const char *name = cli->argv[0];
	char guests[100] = "";
	json_t *answer;
	struct err err;
	if (parse_name("protection", name, &err))
		return cli_misused(cli, "%s", err.text);
	uint64_t clients = clients_of(cli, name);
	if (clients)
		(void)snprintf(guests, sizeof(guests), " %" PRIu64 " connection%s to its disks end%s with it: shut the guest down first.", clients, clients > 1 ? "s" : "", clients > 1 ? "" : "s");
	if (!cli_confirmed(cli, "End the protection of %s? Its disks are served no more; the points at the target stay.%s", name, guests))
		return CLI_REFUSED;
	clients = clients_of(cli, name); // whoever was asked may have seen to it
	int rc = cli_ask(cli, HTTP_REPLICATOR, "DELETE", NULL, &answer, "/v1/protections/%s", name);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("%s is protected no more. Its points at the target stay, until they are forgotten there.\n", name);
	if (clients)
		(void)printf("%" PRIu64 " connection%s to its disks ended with it: a guest that used them has no disks any more.\n", clients, clients > 1 ? "s" : "");
	if (!show_flag_of(answer, "told"))
		(void)printf("The target was not told: %s. It cannot tell this from a source that is down, and says so, until `kagami forget %s` there.\n",
			     show_text_of(answer, "untold"), name);
	json_decref(answer);
	return CLI_DONE;
}
