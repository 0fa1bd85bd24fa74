// SPDX-License-Identifier: Apache-2.0
// Records of a stream. Order: BEGIN, any number of DATA and ZEROS with offsets that never go back, END or ERROR.
#include "format/stream.h"

#include "base/bytes.h"
#include "base/size.h"

#include <errno.h>
#include <stdlib.h>

void stream_header_encode(unsigned char header[STREAM_HEADER_SIZE], enum stream_kind kind, uint32_t len, uint64_t offset)
{
	put_le32(header, kind);
	put_le32(header + 4, len);
	put_le64(header + 8, offset);
}

void stream_reader_init(struct stream_reader *reader)
{
	*reader = (struct stream_reader){.len = 0};
}

void stream_reader_done(struct stream_reader *reader)
{
	free(reader->buf);
	reader->buf = NULL;
}

bool stream_reader_ended(const struct stream_reader *reader)
{
	return reader->ended;
}

static int order_check(const struct stream_reader *reader, uint32_t kind, uint32_t len, uint64_t offset, struct err *err)
{
	bool content = kind == STREAM_DATA || kind == STREAM_ZEROS;
	if (kind < STREAM_BEGIN || kind > STREAM_ERROR)
		return err_set(err, -EBADMSG, "stream: a record of the unknown kind %u", kind);
	if (reader->ended || (kind == STREAM_BEGIN) == reader->begun)
		return err_set(err, -EBADMSG, "stream: a record out of order");
	if (len > STREAM_PAYLOAD_MAX || (kind == STREAM_DATA ? len == 0 : kind == STREAM_ZEROS && len != 0))
		return err_set(err, -EBADMSG, "stream: a record of kind %u with %u bytes", kind, len);
	if (content ? offset < reader->at || !size_within(offset, len, INT64_MAX) : offset != 0)
		return err_set(err, -EBADMSG, "stream: an offset that goes back");
	return 0;
}

// Brings the buffer to `want` bytes of the record. What could not be taken yet stays to be fed.
static size_t fill(struct stream_reader *reader, size_t want, const unsigned char *bytes, size_t len)
{
	size_t more = min_u64(want - reader->len, len);
	memcpy(reader->buf + reader->len, bytes, more);
	reader->len += more;
	return more;
}

static int record_take(struct stream_reader *reader, uint32_t payload_len, stream_take *take, void *context, struct err *err)
{
	struct stream_record record = {.kind = (enum stream_kind)get_le32(reader->buf), .offset = get_le64(reader->buf + 8),
				       .len = payload_len, .payload = reader->buf + STREAM_HEADER_SIZE};
	reader->len = 0;
	reader->begun = true;
	reader->ended = record.kind == STREAM_END || record.kind == STREAM_ERROR;
	if (record.kind == STREAM_DATA || record.kind == STREAM_ZEROS)
		reader->at = record.offset + record.len;
	if (record.kind == STREAM_DATA)
		reader->data_bytes += record.len;
	return take(context, &record, err);
}

int stream_reader_feed(struct stream_reader *reader, const void *bytes, size_t len, stream_take *take, void *context, struct err *err)
{
	const unsigned char *from = bytes;
	if (!reader->buf && !(reader->buf = malloc(STREAM_HEADER_SIZE + STREAM_PAYLOAD_MAX)))
		return err_set(err, -ENOMEM, "out of memory for a stream");
	while (len) {
		size_t used = 0;
		if (reader->len < STREAM_HEADER_SIZE)
			used = fill(reader, STREAM_HEADER_SIZE, from, len);
		from += used;
		len -= used;
		if (reader->len < STREAM_HEADER_SIZE)
			return 0;
		uint32_t payload = get_le32(reader->buf + 4);
		int rc = order_check(reader, get_le32(reader->buf), payload, get_le64(reader->buf + 8), err);
		if (rc)
			return rc;
		used = fill(reader, STREAM_HEADER_SIZE + (size_t)payload, from, len);
		from += used;
		len -= used;
		if (reader->len < STREAM_HEADER_SIZE + (size_t)payload)
			return 0;
		rc = record_take(reader, payload, take, context, err);
		if (rc)
			return rc;
	}
	return 0;
}
