// SPDX-License-Identifier: Apache-2.0
// Reading a packed cluster back: the same for the writer, which merges pieces into it, and the reader.
#ifndef KAGAMI_FORMAT_QCOW2_PACKED_H
#define KAGAMI_FORMAT_QCOW2_PACKED_H

#include "base/env.h"
#include "base/err.h"
#include "format/codec.h"
#include "format/qcow2_layout.h"

// Starts as zeros; takes its memory at the first use.
struct qcow2_unpacker {
	struct codec_context *context;
	unsigned char *packed; // the sectors of one cluster
};

// Unpacks the cluster of `entry` into BLOCK_SIZE bytes. The entry and the file are not trusted.
int qcow2_unpack(struct qcow2_unpacker *unpacker, struct env_file *file, enum codec codec, struct qcow2_entry entry,
		 void *block, struct err *err);
// Its stream as it lies in the file, without the rest of the last sector; valid until the next use of the unpacker. `scratch` has
// BLOCK_SIZE bytes.
int qcow2_packed_stream(struct qcow2_unpacker *unpacker, struct env_file *file, enum codec codec, struct qcow2_entry entry,
			void *scratch, const void **ret_stream, size_t *ret_len, struct err *err);
void qcow2_unpacker_done(struct qcow2_unpacker *unpacker);

#endif
