// SPDX-License-Identifier: Apache-2.0
// One record in memory at a time. A source that fails ends the stream with ERROR, so that a caller knows why; only where not even that
// can be said does the answer break off.
#include "receiver/stream_out.h"

#include "base/size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int stream_out_init(struct stream_out *out, stream_next *next, void (*done)(struct stream_out *out), atomic_uint *under_way,
		    struct err *err)
{
	*out = (struct stream_out){.next = next, .done = done, .under_way = under_way};
	out->buf = malloc(STREAM_HEADER_SIZE + STREAM_OUT_PART);
	if (!out->buf)
		return err_set(err, -ENOMEM, "out of memory: ask again");
	if (atomic_fetch_add(under_way, 1) < STREAMS_MAX)
		return 0;
	stream_out_done(out);
	return err_set(err, -EBUSY, "%d exports or files are on their way already, which is all that may be: wait for one to end", STREAMS_MAX);
}

void stream_out_done(struct stream_out *out)
{
	if (out->buf)
		(void)atomic_fetch_sub(out->under_way, 1);
	free(out->buf);
	out->buf = NULL;
}

static void put_header(struct stream_out *out, enum stream_kind kind, uint64_t offset, size_t len)
{
	stream_header_encode(out->buf, kind, (uint32_t)len, offset);
	out->len = STREAM_HEADER_SIZE + len;
	out->sent = 0;
}

void stream_out_data(struct stream_out *out, uint64_t offset, uint32_t len)
{
	put_header(out, STREAM_DATA, offset, len);
	out->data_bytes += len;
}

void stream_out_zeros(struct stream_out *out, uint64_t to)
{
	put_header(out, STREAM_ZEROS, to, 0);
}

static int put_json(struct stream_out *out, enum stream_kind kind, json_t *json)
{
	char *at = (char *)out->buf + STREAM_HEADER_SIZE;
	size_t len = json ? json_dumpb(json, at, STREAM_OUT_PART, JSON_COMPACT) : 0;
	json_decref(json);
	if (len == 0 || len > STREAM_OUT_PART)
		return -ENOMEM;
	put_header(out, kind, 0, len);
	return 0;
}

int stream_out_begin(struct stream_out *out, json_t *what, struct err *err)
{
	return put_json(out, STREAM_BEGIN, what) ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int stream_out_end(struct stream_out *out, struct err *err)
{
	out->last = true;
	return put_json(out, STREAM_END, json_pack("{s:I, s:I}", "data_bytes", (json_int_t)out->data_bytes, "unproven_blocks",
						(json_int_t)out->unproven_blocks))
		       ? err_set(err, -ENOMEM, "out of memory")
		       : 0;
}

static int put_error(struct stream_out *out, const struct err *err)
{
	const char *name = strerrorname_np(-err->code);
	json_t *message = json_string(err->text);
	if (!message) // not UTF-8: a path may hold any bytes
		message = json_string("the message is not UTF-8: see the daemon's log");
	out->last = true;
	return put_json(out, STREAM_ERROR, json_pack("{s:s, s:o}", "code", name ? name : "EIO", "message", message));
}

static ssize_t on_read(void *context, char *buf, size_t cap)
{
	struct stream_out *out = context;
	if (out->sent == out->len) {
		struct err err = {.code = 0};
		if (out->last)
			return 0;
		if (out->next(out, &err) && put_error(out, &err))
			return -EIO;
	}
	size_t part = min_u64(cap, out->len - out->sent);
	memcpy(buf, out->buf + out->sent, part);
	out->sent += part;
	return (ssize_t)part;
}

static void on_done(void *context)
{
	struct stream_out *out = context;
	out->done(out);
}

struct control_stream stream_out_control(struct stream_out *out)
{
	return (struct control_stream){.read = on_read, .done = on_done, .context = out};
}
