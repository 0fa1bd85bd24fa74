// SPDX-License-Identifier: Apache-2.0
// Content on its way through the control socket, as records: what it is, its data, its end. Format: docs/control.md, "Streams".
//
// Works on memory only. The reader trusts nothing: it takes bytes as they come, in any portions, and hands out whole records, in the
// only order that they may have.
#ifndef KAGAMI_FORMAT_STREAM_H
#define KAGAMI_FORMAT_STREAM_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STREAM_HEADER_SIZE = 16, STREAM_PAYLOAD_MAX = 1 << 20 };

enum stream_kind { STREAM_BEGIN = 1, STREAM_DATA = 2, STREAM_ZEROS = 3, STREAM_END = 4, STREAM_ERROR = 5 };

struct stream_record {
	enum stream_kind kind;
	uint64_t offset;
	uint32_t len;
	const unsigned char *payload; // borrowed until the next call
};

void stream_header_encode(unsigned char header[STREAM_HEADER_SIZE], enum stream_kind kind, uint32_t len, uint64_t offset);

struct stream_reader {
	unsigned char *buf; // of the record under way
	size_t len;
	bool begun, ended;
	uint64_t at;	     // no later record goes before it
	uint64_t data_bytes; // of all DATA so far
};

// Takes a record. Anything but 0 ends the feeding, and is what stream_reader_feed() returns.
typedef int stream_take(void *context, const struct stream_record *record, struct err *err);

void stream_reader_init(struct stream_reader *reader);
void stream_reader_done(struct stream_reader *reader);
// Calls `take` for each record that is whole with these bytes. -EBADMSG what is no record, or out of order.
int stream_reader_feed(struct stream_reader *reader, const void *bytes, size_t len, stream_take *take, void *context, struct err *err);
// Whether END or ERROR has come.
bool stream_reader_ended(const struct stream_reader *reader);

#endif
