// SPDX-License-Identifier: Apache-2.0
// What the two halves of the writer share: qcow2_writer.c takes blocks, qcow2_finish.c makes the file an image.
#ifndef KAGAMI_FORMAT_QCOW2_WRITER_STATE_H
#define KAGAMI_FORMAT_QCOW2_WRITER_STATE_H

#include "format/qcow2.h"
#include "format/qcow2_header.h"
#include "format/qcow2_map.h"
#include "format/qcow2_packed.h"
#include "format/qcow2_space.h"

struct qcow2_writer {
	struct env_file *file;
	struct qcow2_header header; // its table fields are filled by finish
	struct qcow2_space space;
	struct qcow2_map map;
	struct qcow2_unpacker unpacker;
	unsigned char *merge; // a block, for merging; NULL until it is needed
	bool finished;	      // or tried to
};

// A writer of an overlay of which nothing is held yet, whatever is in the file.
int qcow2_writer_make(struct env_file *file, const struct qcow2_config *config, struct qcow2_writer **ret_writer, struct err *err);

#endif
