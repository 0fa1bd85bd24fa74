// SPDX-License-Identifier: Apache-2.0
// A disk of a point as a file of the caller's: export. The receiver reads, proves and sends; the file is made here, with the rights of
// who called.
#include "base/auto.h"
#include "base/size.h"
#include "link/json.h"
#include "tools/content.h"
#include "tools/image_out.h"
#include "tools/out_file.h"
#include "tools/parse.h"
#include "tools/points.h"
#include "tools/show.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { ANSWER_PATH_SIZE = 512 };

struct export {
	struct out_file out;
	struct image_out image;
	bool qcow2;
};

// --- what is to be exported ---

// The point, and the name of the disk; *ret_rc says why not.
static int choose(const struct cli *cli, const struct parse_target *target, uint64_t *ret_point, char disk[NAME_SIZE])
{
	json_t *answer;
	int rc = points_get(cli, target->name, &answer);
	if (rc)
		return rc;
	const json_t *found = points_find(cli, target, answer), *disks = json_object_get(found, "disks");
	if (!found)
		rc = CLI_REFUSED;
	else if (!cli->option[OPT_DISK] && json_array_size(disks) > 1)
		rc = cli_misused(cli, "%s has %zu disks: name one with --disk (\"kagami points %s@%s\" lists them)", target->name,
				 json_array_size(disks), target->name, show_integer_of(found, "point").text);
	else {
		*ret_point = show_number_of(found, "point");
		(void)snprintf(disk, NAME_SIZE, "%s",
			       cli->option[OPT_DISK] ? cli->option[OPT_DISK] : show_text_of(json_array_get(disks, 0), "name"));
		if (target->point == 0) // the newest of those that can be used
			points_warn(stderr, target->name, answer);
	}
	json_decref(answer);
	return rc;
}

// --- the file ---

static int on_begin(void *context, const json_t *what, struct err *err)
{
	struct export *export = context;
	return image_out_begin(&export->image, export->out.file, show_number_of(what, "size_bytes"), export->qcow2, err);
}

static int on_data(void *context, uint64_t offset, const void *data, uint32_t len, struct err *err)
{
	struct export *export = context;
	return image_out_block(&export->image, offset, data, len, err);
}

static int on_end(void *context, struct err *err)
{
	struct export *export = context;
	int rc = image_out_end(&export->image, err);
	return rc ? rc : out_file_commit(&export->out, err);
}

static void print_done(const struct cli *cli, const struct content *content, bool qcow2)
{
	json_t *what = content->what;
	if (cli->json) {
		(void)cli_print_json(json_pack("{s:o, s:s, s:O, s:O, s:O, s:O, s:O, s:I, s:I, s:I}", "path", json_text(cli->argv[1]), "format",
					       qcow2 ? "qcow2" : "raw", "protection", json_object_get(what, "protection"), "point",
					       json_object_get(what, "point"), "cut", json_object_get(what, "cut"), "disk",
					       json_object_get(what, "disk"), "size_bytes", json_object_get(what, "size_bytes"),
					       "data_bytes", (json_int_t)content->received, "duration_ms",
					       (json_int_t)content->lasted_ms, "unproven_blocks", (json_int_t)content->unproven));
		return;
	}
	AUTO_FREE char *path = show_plain(cli->argv[1]);
	(void)printf("Disk %s of %s@%s, cut at %s, is at %s: %s, %s, of which %s is data.\n%sIt took %s.\n",
		     show_text_of(what, "disk"), show_text_of(what, "protection"), show_integer_of(what, "point").text,
		     show_time_of(what, "cut").text, path, qcow2 ? "qcow2" : "raw", show_size_of(what, "size_bytes").text,
		     show_size(content->received).text, content->unproven ? "" : "Each block was proven. ", show_duration(content->lasted_ms).text);
}

static int export_run(const struct cli *cli, const struct parse_target *target, struct export *export)
{
	char disk[NAME_SIZE], path[ANSWER_PATH_SIZE];
	uint64_t point = 0;
	struct content content = {.received = 0};
	const struct content_sink sink = {.begin = on_begin, .data = on_data, .end = on_end, .context = export,
					  .after = "nothing was left behind"};
	struct err err = {.code = 0};
	int rc = choose(cli, target, &point, disk);
	if (rc)
		return rc;
	out_signals();
	if (out_file_open(cli->argv[1], cli->option[OPT_FORCE], &export->out, &err))
		return cli_fail(cli, CLI_REFUSED, "%s", err.text);
	(void)snprintf(path, sizeof(path), "/v1/protections/%s/points/%" PRIu64 "/disks/%s/content%s", target->name, point, disk,
		       cli->option[OPT_DAMAGED] ? "?damaged=yes" : "");
	rc = content_receive(cli, path, &sink, &content);
	if (rc == CLI_DONE)
		print_done(cli, &content, export->qcow2);
	if (rc == CLI_DONE && content.unproven)
		rc = cli_fail(cli, CLI_REFUSED, "%s is not what was committed: %" PRIu64 " of its blocks %s damaged, and in it as the store has them",
			      cli->argv[1], content.unproven, ARE(content.unproven));
	content_done(&content);
	return rc;
}

int cli_export(const struct cli *cli)
{
	struct parse_target target;
	struct export export = {.qcow2 = false};
	struct err err;
	const char *format = cli->option[OPT_FORMAT], *disk = cli->option[OPT_DISK];
	if (parse_target(cli->argv[0], &target, &err) || (disk && parse_name("disk", disk, &err)))
		return cli_misused(cli, "%s", err.text);
	if (format && strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
		return cli_misused(cli, "--format is raw or qcow2, not \"%s\"", format);
	if (strcmp(cli->argv[1], "-") == 0) // it is written where it has holes, and gets its name when it is whole
		return cli_misused(cli, "an export is a file: name one (\"./-\" for one of that name), or read the point's own files (kagami points NAME@POINT) with qemu-img");
	export.qcow2 = format && strcmp(format, "qcow2") == 0;
	int rc = export_run(cli, &target, &export);
	image_out_done(&export.image);
	out_file_drop(&export.out);
	return rc;
}
