// SPDX-License-Identifier: Apache-2.0
// Single files of a point: files ls, files get. The receiver mounts, reads and sends; the file is made here, with the rights of who called.
#include "base/auto.h"
#include "link/json.h"
#include "tools/content.h"
#include "tools/out_file.h"
#include "tools/parse.h"
#include "tools/plain.h"
#include "tools/show.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PARTITION_MOST = 128 };

// --- the request ---

static void put_encoded(FILE *out, const char *text)
{
	for (; *text; text++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-", *text))
			(void)fputc(*text, out);
		else
			(void)fprintf(out, "%%%02X", (unsigned char)*text);
}

// "/v1/protections/vm1/files?point=3&path=/etc"; NULL and *ret_rc when the command line does not make one. The caller frees.
static char *request_path(const struct cli *cli, const char *what, const char *guest_path, int *ret_rc)
{
	struct parse_target target;
	struct err err = {.code = 0};
	uint64_t partition = 0;
	const char *disk = cli->option[OPT_DISK], *number = cli->option[OPT_PARTITION];
	char *text = NULL;
	size_t len;
	if (parse_target(cli->argv[0], &target, &err) || (disk && parse_name("disk", disk, &err)) ||
	    (number && parse_number("--partition", number, 1, PARTITION_MOST, &partition, &err)))
		return *ret_rc = cli_misused(cli, "%s", err.text), NULL;
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return *ret_rc = cli_fail(cli, CLI_REFUSED, "out of memory"), NULL;
	(void)fprintf(out, "/v1/protections/%s/%s?path=", target.name, what);
	put_encoded(out, guest_path);
	if (target.point)
		(void)fprintf(out, "&point=%" PRIu64, target.point);
	if (disk)
		(void)fprintf(out, "&disk=%s", disk);
	if (partition)
		(void)fprintf(out, "&partition=%" PRIu64, partition);
	if (cli->option[OPT_DAMAGED])
		(void)fputs("&damaged=yes", out);
	if (fclose(out) || len >= HTTP_PATH_SIZE) {
		free(text);
		return *ret_rc = cli_fail(cli, CLI_REFUSED, "the path is too long"), NULL;
	}
	return text;
}

// --- ls ---

static void print_listing(const json_t *listing)
{
	const json_t *entry;
	size_t i;
	struct table *table = table_new("lrrrll");
	json_array_foreach(json_object_get(listing, "entries"), i, entry) {
		const char *target = show_text_of(entry, "target");
		bool link = show_has(entry, "target");
		table_add(table, "%s\t%s\t%s\t%s\t%s\t%s%s%s", show_text_of(entry, "type"), show_text_of(entry, "mode"),
			  show_integer_of(entry, "uid").text, show_size_of(entry, "size_bytes").text, show_time_of(entry, "modified").text,
			  show_text_of(entry, "name"), link ? " -> " : "", link ? target : "");
	}
	table_print(table, stdout);
	if (show_flag_of(listing, "truncated"))
		(void)printf("There is more: this is as much as one listing shows.\n");
}

static int files_ls(const struct cli *cli)
{
	int rc = CLI_DONE;
	json_t *answer;
	if (cli->argc > 3)
		return cli_misused(cli, "\"%s\" is too much", cli->argv[3]);
	if (cli->option[OPT_FORCE])
		return cli_misused(cli, "--force is for get");
	AUTO_FREE char *path = request_path(cli, "files", cli->argc > 2 ? cli->argv[2] : "/", &rc);
	if (!path)
		return rc;
	rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "%s", path);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	print_listing(answer);
	json_decref(answer);
	return CLI_DONE;
}

// --- get ---

struct getting {
	struct out_file out; // or:
	bool to_stdout;
	uint64_t at; // what has gone to standard output
	uint64_t size;
};

static int put_stdout(struct getting *get, const void *data, uint32_t len, struct err *err)
{
	if (fwrite(data, 1, len, stdout) != len)
		return err_sys(err, -errno, "write to standard output");
	get->at += len;
	return 0;
}

static int fill_stdout(struct getting *get, uint64_t to, struct err *err)
{
	static const char zeros[4096];
	int rc = 0;
	while (rc == 0 && get->at < to)
		rc = put_stdout(get, zeros, (uint32_t)(to - get->at < sizeof(zeros) ? to - get->at : sizeof(zeros)), err);
	return rc;
}

static int on_begin(void *context, const json_t *what, struct err *err)
{
	struct getting *get = context;
	(void)err;
	get->size = show_number_of(what, "size_bytes");
	return 0;
}

static int on_data(void *context, uint64_t offset, const void *data, uint32_t len, struct err *err)
{
	struct getting *get = context;
	if (offset > get->size || len > get->size - offset)
		return err_set(err, -EBADMSG, "the stream has more than it said");
	if (get->to_stdout) {
		int rc = fill_stdout(get, offset, err);
		return rc ? rc : put_stdout(get, data, len, err);
	}
	int rc = env_pwrite(get->out.file, data, len, offset);
	return rc ? err_sys(err, rc, "write") : 0;
}

static int on_end(void *context, struct err *err)
{
	struct getting *get = context;
	if (get->to_stdout) {
		int rc = fill_stdout(get, get->size, err);
		return rc ? rc : fflush(stdout) ? err_sys(err, -errno, "write to standard output") : 0;
	}
	int rc = env_truncate(get->out.file, get->size); // zeros at its end were not written
	return rc ? err_sys(err, rc, "write") : out_file_commit(&get->out, err);
}

// Where the file goes: OUT, in OUT when that is a directory, or here. The caller frees; NULL when it has no name.
static char *out_path(const char *guest_path, const char *out)
{
	const char *slash = strrchr(guest_path, '/');
	const char *name = slash ? slash + 1 : guest_path;
	struct stat st;
	char *path = NULL;
	bool in_directory = out && stat(out, &st) == 0 && S_ISDIR(st.st_mode);
	if (out && !in_directory)
		return strdup(out);
	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return NULL;
	return asprintf(&path, "%s%s%s", in_directory ? out : "", in_directory ? "/" : "", name) < 0 ? NULL : path;
}

static void print_got(const struct cli *cli, const struct content *content, const char *path)
{
	json_t *what = content->what;
	if (cli->json) {
		(void)json_object_set_new(what, "out", json_text(path));
		(void)cli_print_json(json_incref(what));
		return;
	}
	AUTO_FREE char *quoted = show_quoted(path), *guest_path = show_plain(cli->argv[2]);
	(void)plain_make(quoted);
	(void)printf("%s (%s) of %s@%s is at %s.\n", guest_path, show_size_of(what, "size_bytes").text, show_text_of(what, "protection"),
		     show_integer_of(what, "point").text, quoted);
}

static int get_run(const struct cli *cli, const char *request, const char *path, struct getting *get)
{
	struct content content = {.received = 0};
	const struct content_sink sink = {.begin = on_begin, .data = on_data, .end = on_end, .context = get,
					  .after = get->to_stdout ? "what was written is not whole" : "nothing was left behind"};
	struct err err = {.code = 0};
	out_signals();
	if (!get->to_stdout && out_file_open(path, cli->option[OPT_FORCE], &get->out, &err))
		return cli_fail(cli, CLI_REFUSED, "%s", err.text);
	int rc = content_receive(cli, request, &sink, &content);
	if (rc == CLI_DONE && !get->to_stdout)
		print_got(cli, &content, path);
	content_done(&content);
	return rc;
}

static int files_get(const struct cli *cli)
{
	int rc = CLI_DONE;
	struct getting get = {.at = 0};
	if (cli->argc < 3)
		return cli_misused(cli, "get needs a path");
	const char *out = cli->argc > 3 ? cli->argv[3] : NULL;
	get.to_stdout = out && strcmp(out, "-") == 0;
	if (get.to_stdout && cli->json)
		return cli_misused(cli, "--json and a file on standard output do not go together");
	AUTO_FREE char *path = out_path(cli->argv[2], out);
	if (!path)
		return cli_misused(cli, "%s has no name for a file here: give one", cli->argv[2]);
	AUTO_FREE char *request = request_path(cli, "files/content", cli->argv[2], &rc);
	if (!request)
		return rc;
	rc = get_run(cli, request, path, &get);
	out_file_drop(&get.out);
	return rc;
}

int cli_files(const struct cli *cli)
{
	if (strcmp(cli->argv[1], "ls") == 0)
		return files_ls(cli);
	if (strcmp(cli->argv[1], "get") == 0)
		return files_get(cli);
	return cli_misused(cli, "\"%s\" is not ls or get", cli->argv[1]);
}
