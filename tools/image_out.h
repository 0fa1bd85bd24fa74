// SPDX-License-Identifier: Apache-2.0
// A disk image that is written from front to back: raw and sparse, or a qcow2 that stands on nothing.
#ifndef KAGAMI_TOOLS_IMAGE_OUT_H
#define KAGAMI_TOOLS_IMAGE_OUT_H

#include "base/env.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct qcow2_writer;

struct image_out {
	struct env_file *file;
	struct qcow2_writer *writer; // NULL: raw
	uint64_t size;
};

// `file` is empty and stays the caller's.
int image_out_begin(struct image_out *image, struct env_file *file, uint64_t size, bool qcow2, struct err *err);
// At most a block, which begins at a multiple of BLOCK_SIZE and is whole but for the last one of the disk. -EBADMSG what does not fit.
int image_out_block(struct image_out *image, uint64_t offset, const void *data, uint32_t len, struct err *err);
int image_out_end(struct image_out *image, struct err *err);
void image_out_done(struct image_out *image);

#endif
