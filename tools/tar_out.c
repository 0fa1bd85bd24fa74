// SPDX-License-Identifier: Apache-2.0
#include "tools/tar_out.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 512, OUT_PART = 64 << 10, GZIP_WINDOW = 15 + 16 };

int tar_out_begin(struct tar_out *t, struct out_file *out, int64_t mtime_s, struct err *err)
{
	*t = (struct tar_out){.out = out, .mtime_s = mtime_s};
	return deflateInit2(&t->zip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) == Z_OK ? 0 : err_set(err, -ENOMEM, "out of memory");
}

void tar_out_done(struct tar_out *t)
{
	(void)deflateEnd(&t->zip);
}

static int squeeze(struct tar_out *t, const void *bytes, size_t len, int flush, struct err *err)
{
	unsigned char part[OUT_PART];
	t->zip.next_in = (unsigned char *)(uintptr_t)bytes;
	t->zip.avail_in = (unsigned)len;
	do {
		t->zip.next_out = part;
		t->zip.avail_out = sizeof(part);
		(void)deflate(&t->zip, flush);
		size_t made = sizeof(part) - t->zip.avail_out;
		int rc = made ? env_pwrite(t->out->file, part, made, t->at) : 0;
		if (rc)
			return err_sys(err, rc, "write %s/%s", t->out->dir, t->out->part);
		t->at += made;
	} while (t->zip.avail_out == 0);
	return 0;
}

// A regular file of root's, mode 0600: offset, size and value of each field as POSIX has them.
static void header_fill(const struct tar_out *t, const char *name, size_t len, char header[BLOCK])
{
	unsigned sum = 0;
	memset(header, 0, BLOCK);
	(void)snprintf(header, 100, "%s", name);
	(void)snprintf(header + 100, 8, "%07o", 0600);
	(void)snprintf(header + 108, 8, "%07o", 0);
	(void)snprintf(header + 116, 8, "%07o", 0);
	(void)snprintf(header + 124, 12, "%011llo", (unsigned long long)len);
	(void)snprintf(header + 136, 12, "%011llo", (unsigned long long)t->mtime_s);
	memset(header + 148, ' ', 8);
	header[156] = '0';
	memcpy(header + 257, "ustar\00000", 8);
	(void)snprintf(header + 265, 32, "root");
	(void)snprintf(header + 297, 32, "root");
	for (unsigned i = 0; i < BLOCK; i++)
		sum += (unsigned char)header[i];
	(void)snprintf(header + 148, 8, "%06o", sum); // its NUL, then the blank that stays
}

int tar_out_file(struct tar_out *t, const char *name, const void *bytes, size_t len, struct err *err)
{
	static const char zeros[BLOCK];
	char header[BLOCK];
	if (strlen(name) > TAR_NAME_MAX)
		return err_set(err, -ENAMETOOLONG, "%s", name);
	header_fill(t, name, len, header);
	int rc = squeeze(t, header, BLOCK, Z_NO_FLUSH, err);
	if (rc == 0 && len)
		rc = squeeze(t, bytes, len, Z_NO_FLUSH, err);
	return rc == 0 && len % BLOCK ? squeeze(t, zeros, BLOCK - len % BLOCK, Z_NO_FLUSH, err) : rc;
}

int tar_out_end(struct tar_out *t, struct err *err)
{
	static const char zeros[2 * BLOCK];
	return squeeze(t, zeros, sizeof(zeros), Z_FINISH, err);
}
