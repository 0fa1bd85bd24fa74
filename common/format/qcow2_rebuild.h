// SPDX-License-Identifier: Apache-2.0
// The header of an overlay whose first sector is lost, from what the rest of the file says.
//
// It works because the writer lays a file out in one way only (qcow2_finish.c): behind the data the L1 table, the L2 tables, the refcount blocks and the refcount
// table end the file. So its length says where the refcounts are, and which L2 tables there are says where the L1 table is.
#ifndef KAGAMI_FORMAT_QCOW2_REBUILD_H
#define KAGAMI_FORMAT_QCOW2_REBUILD_H

#include "format/qcow2.h"

// The next block at or after `from` that the overlay holds something of, as the caller knows it from elsewhere; UINT64_MAX: none.
typedef uint64_t qcow2_next(const void *context, uint64_t from);

// A reader of `file`, whose header is not looked at, as an overlay of `config`, whose codec is tried and not known. -EBADMSG where no L1 table is
// in a place where the writer puts it, or it has other blocks than `next` says. Nothing is written; nothing in the file is trusted.
int qcow2_rebuild(struct env_file *file, const struct qcow2_config *config, qcow2_next *next, const void *context, struct qcow2_reader **ret_reader,
		  struct err *err);
// Writes the header that this reader goes by: one sector, then a sync.
int qcow2_rebuild_write(const struct qcow2_reader *reader, struct err *err);

#endif
