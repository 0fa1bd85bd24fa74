// SPDX-License-Identifier: Apache-2.0
// A .tar.gz that is written as it comes (libarchive), into a file that the caller has open.
#ifndef KAGAMI_TOOLS_ARCHIVE_H
#define KAGAMI_TOOLS_ARCHIVE_H

#include "base/env.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct archive_out;

// Members lie below `top`, have mode 0600, the caller's name in none of them, and the time `wall_s`.
int archive_begin(struct env_file *file, const char *top, int64_t wall_s, struct archive_out **ret_archive, struct err *err);
// Adds a file `name` (with '/' between its parts). After a failure every later call fails.
int archive_add(struct archive_out *archive, const char *name, const void *bytes, size_t len, struct err *err);
// Writes the end, and frees it. The file is not synced.
int archive_end(struct archive_out *archive, struct err *err);
void archive_drop(struct archive_out *archive); // takes NULL
uint64_t archive_members(const struct archive_out *archive);

#endif
