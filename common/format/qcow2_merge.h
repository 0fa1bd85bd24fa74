// SPDX-License-Identifier: Apache-2.0
// Overlays that lie on each other, as one overlay: a block of it holds what any of them holds of it, the upper one winning piece by
// piece. On whatever lies under the lowest, the result reads as the uppermost does.
#ifndef KAGAMI_FORMAT_QCOW2_MERGE_H
#define KAGAMI_FORMAT_QCOW2_MERGE_H

#include "format/qcow2.h"

// Told after each block how many bytes it was; anything but 0 ends the merge with that. Where a rate is kept, and a stop heard.
typedef int qcow2_merge_pace(void *context, uint64_t bytes);

// Told that blocks of a layer, one, or all behind a table, cannot be read: -EBADMSG, or what the world says of it (-EIO), why in `err`. 0 leaves out what that
// layer holds of them; anything else ends the merge.
typedef int qcow2_merge_skip(void *context, size_t layer, uint64_t first, uint64_t count, struct err *err);

struct qcow2_merge {
	struct qcow2_reader *const *layers; // lowest first
	size_t count;			    // at least one
	enum codec codec;		    // of the writer
	qcow2_merge_pace *pace;		    // may be NULL
	qcow2_merge_skip *skip;		    // may be NULL: then nothing is left out
	void *context;
};

// Writes what the layers hold to `to`, an empty writer of the size of the uppermost, which is the largest. A packed block that no other
// layer adds to is copied as it is, when the codec is the same; others are put together, and packed again when they are whole.
// The layers are not trusted. The caller finishes the writer.
int qcow2_merge(struct qcow2_writer *to, const struct qcow2_merge *merge, struct err *err);

#endif
