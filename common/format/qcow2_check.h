// SPDX-License-Identifier: Apache-2.0
// What `qemu-img check` looks for, by our own reader: every table entry followed, every reference counted, and the counts
// compared with the refcounts in the file. Only for images of the kind the writer makes; nothing in them is trusted.
#ifndef KAGAMI_FORMAT_QCOW2_CHECK_H
#define KAGAMI_FORMAT_QCOW2_CHECK_H

#include "base/env.h"
#include "base/err.h"

#include <stdint.h>

enum { QCOW2_CHECK_FINDINGS_MAX = 16 }; // of one image that are told one by one; then how many more there are

typedef void qcow2_found(void *context, const char *text);

// Reads header and tables, never data, and calls `found` for each thing that is wrong. 0 when the image was looked through,
// also when something was found; otherwise `err` says what could not be read at all. Memory: 4 bytes for each 64 KiB of the file.
int qcow2_check(struct env_file *file, qcow2_found *found, void *context, uint64_t *ret_findings, struct err *err);

#endif
