// SPDX-License-Identifier: Apache-2.0
// A disk of a point as a file of the caller's: export. The receiver reads, proves and sends; the file is made here, with the rights of
// who called.
#include "base/auto.h"
#include "tools/cli.h"
#include "tools/image_out.h"
#include "tools/out_file.h"
#include "tools/parse.h"
#include "tools/progress.h"
#include "tools/show.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { ANSWER_PATH_SIZE = 512 };

struct export {
	struct out_file out;
	struct image_out image;
	bool qcow2;
	struct progress progress;
	json_t *what;	   // BEGIN
	uint64_t received; // bytes of DATA
	char failure[1024]; // what ERROR said
};

// --- what is to be exported ---

// The point, and the name of the disk; *ret_rc says why not.
static int choose(const struct cli *cli, const struct parse_target *target, uint64_t *ret_point, char disk[NAME_SIZE])
{
	json_t *answer, *point, *found = NULL;
	size_t i;
	int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/protections/%s/points", target->name);
	if (rc)
		return rc;
	json_array_foreach(json_object_get(answer, "points"), i, point)
		if (target->point == 0 || show_number_of(point, "point") == target->point)
			found = point;
	const json_t *disks = json_object_get(found, "disks");
	if (!found && target->point)
		rc = cli_fail(cli, CLI_REFUSED, "%s has no point %" PRIu64 ": \"kagami points %s\" lists the ones it has", target->name,
			      target->point, target->name);
	else if (!found)
		rc = cli_fail(cli, CLI_REFUSED, "%s has no recovery point yet", target->name);
	else if (!cli->option[OPT_DISK] && json_array_size(disks) > 1)
		rc = cli_misused(cli, "%s has %zu disks: name one with --disk (\"kagami points %s@%s\" lists them)", target->name,
				 json_array_size(disks), target->name, show_integer_of(found, "point").text);
	else {
		*ret_point = show_number_of(found, "point");
		(void)snprintf(disk, NAME_SIZE, "%s",
			       cli->option[OPT_DISK] ? cli->option[OPT_DISK] : show_text_of(json_array_get(disks, 0), "name"));
	}
	json_decref(answer);
	return rc;
}

// --- the stream ---

static int take_begin(struct export *export, const struct stream_record *record, struct err *err)
{
	export->what = json_loadb((const char *)record->payload, record->len, 0, NULL);
	if (!export->what)
		return err_set(err, -EBADMSG, "the stream does not say what it is");
	progress_begin(&export->progress, show_number_of(export->what, "data_bytes"));
	return image_out_begin(&export->image, export->out.file, show_number_of(export->what, "size_bytes"), export->qcow2, err);
}

static int take_end(const struct export *export, const struct stream_record *record, struct err *err)
{
	json_t *end = json_loadb((const char *)record->payload, record->len, 0, NULL);
	bool whole = end && show_number_of(end, "data_bytes") == export->received;
	json_decref(end);
	return whole ? 0 : err_set(err, -EBADMSG, "the stream is not whole");
}

static int take_error(struct export *export, const struct stream_record *record, struct err *err)
{
	json_t *error = json_loadb((const char *)record->payload, record->len, 0, NULL);
	show_clean(error);
	(void)snprintf(export->failure, sizeof(export->failure), "%s", show_text_of(error, "message"));
	json_decref(error);
	return err_set(err, -EIO, "%s", export->failure);
}

static int take(void *context, const struct stream_record *record, struct err *err)
{
	struct export *export = context;
	int rc = 0;
	switch (record->kind) {
	case STREAM_BEGIN:
		return take_begin(export, record, err);
	case STREAM_DATA:
		rc = image_out_block(&export->image, record->offset, record->payload, record->len, err);
		export->received += record->len;
		progress_at(&export->progress, export->received);
		return rc;
	case STREAM_END:
		return take_end(export, record, err);
	case STREAM_ERROR:
		return take_error(export, record, err);
	case STREAM_ZEROS:
		break;
	}
	return 0;
}

static int receive(const struct cli *cli, struct export *export, const char *path)
{
	struct http_reply reply = {.status = 0};
	struct err err = {.code = 0};
	int rc = http_stream(cli->run_dir, HTTP_RECEIVER, path, take, export, &out_stopped, &reply, &err);
	progress_end(&export->progress);
	if (rc == 0 && reply.body)
		return cli_refused(cli, HTTP_RECEIVER, &reply);
	if (rc == 0)
		rc = image_out_end(&export->image, &err);
	if (rc == 0)
		rc = out_file_commit(&export->out, &err);
	if (rc == 0)
		return CLI_DONE;
	return cli_fail(cli, CLI_REFUSED, "%s: nothing was left behind", err.text[0] ? err.text : strerror(-rc));
}

static void print_done(const struct cli *cli, const struct export *export)
{
	const json_t *what = export->what;
	if (cli->json) {
		(void)cli_print_json(json_pack("{s:s, s:s, s:O, s:O, s:O, s:O, s:O, s:I, s:I}", "path", cli->argv[1], "format",
					       export->qcow2 ? "qcow2" : "raw", "protection", json_object_get(what, "protection"), "point",
					       json_object_get(what, "point"), "cut", json_object_get(what, "cut"), "disk",
					       json_object_get(what, "disk"), "size_bytes", json_object_get(what, "size_bytes"),
					       "data_bytes", (json_int_t)export->received, "duration_ms",
					       (json_int_t)progress_ms(&export->progress)));
		return;
	}
	(void)printf("Disk %s of %s@%s, cut at %s, is at %s: %s, %s, of which %s is data.\nEach block was proven. It took %s.\n",
		     show_text_of(what, "disk"), show_text_of(what, "protection"), show_integer_of(what, "point").text,
		     show_time_of(what, "cut").text, cli->argv[1], export->qcow2 ? "qcow2" : "raw", show_size_of(what, "size_bytes").text,
		     show_size(export->received).text, show_duration(progress_ms(&export->progress)).text);
}

static int export_run(const struct cli *cli, const struct parse_target *target, struct export *export)
{
	char disk[NAME_SIZE], path[ANSWER_PATH_SIZE];
	uint64_t point = 0;
	struct err err = {.code = 0};
	int rc = choose(cli, target, &point, disk);
	if (rc)
		return rc;
	out_signals();
	if (out_file_open(cli->argv[1], cli->option[OPT_FORCE], &export->out, &err))
		return cli_fail(cli, CLI_REFUSED, "%s", err.text);
	(void)snprintf(path, sizeof(path), "/v1/protections/%s/points/%" PRIu64 "/disks/%s/content", target->name, point, disk);
	rc = receive(cli, export, path);
	if (rc == CLI_DONE)
		print_done(cli, export);
	return rc;
}

int cli_export(const struct cli *cli)
{
	struct parse_target target;
	struct export export = {.received = 0};
	struct err err;
	const char *format = cli->option[OPT_FORMAT], *disk = cli->option[OPT_DISK];
	if (parse_target(cli->argv[0], &target, &err) || (disk && parse_name("disk", disk, &err)))
		return cli_misused(cli, "%s", err.text);
	if (format && strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
		return cli_misused(cli, "--format is raw or qcow2, not \"%s\"", format);
	export.qcow2 = format && strcmp(format, "qcow2") == 0;
	int rc = export_run(cli, &target, &export);
	image_out_done(&export.image);
	out_file_drop(&export.out);
	json_decref(export.what);
	return rc;
}
