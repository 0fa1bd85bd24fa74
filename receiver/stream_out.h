// SPDX-License-Identifier: Apache-2.0
// The sending side of a stream (docs/control.md, "Streams"): a source makes records, one after the other, and the control server takes
// bytes of them when it has room.
#ifndef KAGAMI_RECEIVER_STREAM_OUT_H
#define KAGAMI_RECEIVER_STREAM_OUT_H

#include "base/err.h"
#include "format/stream.h"
#include "link/control.h"

#include <stdatomic.h>

enum { STREAM_OUT_PART = 64 << 10, STREAMS_MAX = 8 };

struct stream_out;
// Puts the next record, by one call of those below. -errno with `err` ends the stream with ERROR.
typedef int stream_next(struct stream_out *out, struct err *err);

// A source embeds it first.
struct stream_out {
	stream_next *next;
	void (*done)(struct stream_out *out); // lets go of everything; stream_out_done() and free() are its last acts
	atomic_uint *under_way;		      // counted there, up to STREAMS_MAX
	uint64_t data_bytes;
	uint64_t unproven_blocks; // that were sent as they are, because that was asked for
	bool last; // END or ERROR was put
	size_t len, sent;
	unsigned char *buf; // a record: its payload may be made in place, at STREAM_HEADER_SIZE
};

// -EBUSY when STREAMS_MAX are under way, -ENOMEM.
int stream_out_init(struct stream_out *out, stream_next *next, void (*done)(struct stream_out *out), atomic_uint *under_way,
		    struct err *err);
void stream_out_done(struct stream_out *out);
struct control_stream stream_out_control(struct stream_out *out);

// DATA of `len` bytes that lie in the buffer already; up to STREAM_OUT_PART.
void stream_out_data(struct stream_out *out, uint64_t offset, uint32_t len);
void stream_out_zeros(struct stream_out *out, uint64_t to);
int stream_out_begin(struct stream_out *out, json_t *what, struct err *err); // takes `what` over; NULL: out of memory
int stream_out_end(struct stream_out *out, struct err *err);

#endif
