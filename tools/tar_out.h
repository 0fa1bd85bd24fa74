// SPDX-License-Identifier: Apache-2.0
// A gzipped tar (POSIX ustar) that is written to a file of out_file.h: what `kagami bundle` makes. One file after the other, each whole in memory.
#ifndef KAGAMI_TOOLS_TAR_OUT_H
#define KAGAMI_TOOLS_TAR_OUT_H

#include "tools/out_file.h"

#include <zlib.h>

enum { TAR_NAME_MAX = 99 };

struct tar_out {
	struct out_file *out;
	z_stream zip;
	uint64_t at;
	int64_t mtime_s;
};

int tar_out_begin(struct tar_out *tar, struct out_file *out, int64_t mtime_s, struct err *err);
// -ENAMETOOLONG when the name does not fit.
int tar_out_file(struct tar_out *tar, const char *name, const void *bytes, size_t len, struct err *err);
// Writes the end. After a failure of anything, and in the end, tar_out_done() frees.
int tar_out_end(struct tar_out *tar, struct err *err);
void tar_out_done(struct tar_out *tar);

#endif
