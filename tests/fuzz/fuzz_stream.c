// SPDX-License-Identifier: Apache-2.0
// Any bytes as a stream, in portions that byte 0 says: what is handed out is in order and within bounds, and is the same whatever the
// portions are.
#include "base/bytes.h"
#include "format/stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

struct seen {
	unsigned records;
	uint64_t at, sum;
	bool ended;
};

static int take(void *context, const struct stream_record *record, struct err *err)
{
	struct seen *seen = context;
	(void)err;
	assert(!seen->ended && (record->kind == STREAM_BEGIN) == (seen->records == 0) && record->len <= STREAM_PAYLOAD_MAX);
	assert(record->offset >= seen->at || record->kind == STREAM_END || record->kind == STREAM_ERROR);
	for (uint32_t i = 0; i < record->len; i++)
		seen->sum = seen->sum * 31 + record->payload[i];
	if (record->kind == STREAM_DATA || record->kind == STREAM_ZEROS)
		seen->at = record->offset + record->len;
	seen->ended = record->kind >= STREAM_END;
	seen->records++;
	return 0;
}

static int feed(const unsigned char *data, size_t size, size_t portion, struct seen *seen)
{
	struct stream_reader reader;
	struct err err;
	int rc = 0;
	memset(seen, 0, sizeof(*seen));
	stream_reader_init(&reader);
	for (size_t at = 0; rc == 0 && at < size; at += portion)
		rc = stream_reader_feed(&reader, data + at, size - at < portion ? size - at : portion, take, seen, &err);
	assert(rc == 0 || rc == -EBADMSG);
	assert(stream_reader_ended(&reader) == seen->ended);
	stream_reader_done(&reader);
	return rc;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct seen whole, portions;
	if (size < 2)
		return 0;
	int rc = feed(data + 1, size - 1, size, &whole);
	assert(feed(data + 1, size - 1, 1u + data[0], &portions) == rc);
	assert(whole.records == portions.records && whole.at == portions.at && whole.sum == portions.sum && whole.ended == portions.ended);
	return 0;
}
