// SPDX-License-Identifier: Apache-2.0
// A reader by a header that is not in the file: for qcow2_rebuild.c.
#ifndef KAGAMI_FORMAT_QCOW2_READER_STATE_H
#define KAGAMI_FORMAT_QCOW2_READER_STATE_H

#include "format/qcow2_header.h"

// The tables that `header` names lie within the file, which has `file_size` bytes.
int qcow2_reader_open_as(struct env_file *file, const struct qcow2_header *header, uint64_t file_size, struct qcow2_reader **ret_reader, struct err *err);
const struct qcow2_header *qcow2_reader_header(const struct qcow2_reader *reader);
struct env_file *qcow2_reader_file(const struct qcow2_reader *reader);

#endif
