// SPDX-License-Identifier: Apache-2.0
// All of one disk of a point as a stream: flattened, and proven. The receiver sends, and writes nowhere: what becomes of it, and with
// whose rights, is the caller's matter.
#ifndef KAGAMI_RECEIVER_POINT_STREAM_H
#define KAGAMI_RECEIVER_POINT_STREAM_H

#include "receiver/store.h"
#include "receiver/stream_out.h"
#include "receiver/verifier.h"

// Holds point `number` and opens its chain; both until the stream is done. -ENOENT without such a point or disk; -EBADMSG what is
// damaged; -EBUSY. A block that is not what was committed ends the stream, or with `damaged` it is sent as it is, and counted. Either way the
// point is verified then (`verifier` may be NULL), which puts it into quarantine.
int point_stream_open(struct replica *replica, uint64_t number, const char *disk, bool damaged, struct verifier *verifier,
		      atomic_uint *under_way, struct control_stream *ret_stream, struct err *err);

#endif
