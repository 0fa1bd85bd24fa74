// SPDX-License-Identifier: Apache-2.0
// A stream's records, checked to be all of it. A sink's `end` is called when END has come and its sum fits, and never otherwise.
#include "tools/content.h"

#include "tools/out_file.h"
#include "tools/show.h"

#include <errno.h>
#include <string.h>

struct receiving {
	const struct content_sink *sink;
	struct content *content;
	struct progress progress;
	bool whole;
};

static int take_begin(struct receiving *r, const struct stream_record *record, struct err *err)
{
	r->content->what = json_loadb((const char *)record->payload, record->len, 0, NULL);
	if (!json_is_object(r->content->what))
		return err_set(err, -EBADMSG, "the stream does not say what it is");
	progress_begin(&r->progress, show_number_of(r->content->what, "data_bytes"));
	return r->sink->begin(r->sink->context, r->content->what, err);
}

static int take_end(struct receiving *r, const struct stream_record *record, struct err *err)
{
	json_t *end = json_loadb((const char *)record->payload, record->len, 0, NULL);
	r->whole = end && show_has(end, "data_bytes") && show_number_of(end, "data_bytes") == r->content->received;
	r->content->unproven = show_number_of(end, "unproven_blocks");
	json_decref(end);
	return r->whole ? 0 : err_set(err, -EBADMSG, "the stream is not whole");
}

static int take_error(const struct stream_record *record, struct err *err)
{
	json_t *error = json_loadb((const char *)record->payload, record->len, 0, NULL);
	const char *message = show_text_of(error, "message");
	int rc = err_set(err, -EIO, "%s", message[0] ? message : "the receiver gave no reason: see its log");
	json_decref(error);
	return rc;
}

static int take(void *context, const struct stream_record *record, struct err *err)
{
	struct receiving *r = context;
	int rc = 0;
	switch (record->kind) {
	case STREAM_BEGIN:
		return take_begin(r, record, err);
	case STREAM_DATA:
		rc = r->sink->data(r->sink->context, record->offset, record->payload, record->len, err);
		r->content->received += record->len;
		progress_at(&r->progress, r->content->received);
		return rc;
	case STREAM_END:
		return take_end(r, record, err);
	case STREAM_ERROR:
		return take_error(record, err);
	case STREAM_ZEROS:
		break;
	}
	return 0;
}

int content_receive(const struct cli *cli, const char *path, const struct content_sink *sink, struct content *ret_content)
{
	struct receiving r = {.sink = sink, .content = ret_content};
	struct http_reply reply = {.status = 0};
	struct err err = {.code = 0};
	int rc = http_stream(cli->run_dir, HTTP_RECEIVER, path, take, &r, &out_stopped, &reply, &err);
	progress_end(&r.progress);
	if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -EACCES)
		return cli_unreachable(cli, HTTP_RECEIVER, &err);
	if (rc == 0 && reply.body)
		return cli_refused(cli, HTTP_RECEIVER, &reply);
	if (rc == 0)
		rc = sink->end(sink->context, &err);
	if (rc)
		return cli_fail(cli, CLI_REFUSED, "%s: %s", err.text[0] ? err.text : strerror(-rc), sink->after);
	ret_content->lasted_ms = progress_ms(&r.progress);
	return CLI_DONE;
}

void content_done(struct content *content)
{
	json_decref(content->what);
	content->what = NULL;
}
