// SPDX-License-Identifier: Apache-2.0
#include "tools/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_MAX_BYTES = 512 };

struct archive_out {
	struct archive *archive;
	struct env_file *file;
	uint64_t offset, members;
	const char *top;
	int64_t wall_s;
	int code; // of the write that failed
};

static la_ssize_t on_write(struct archive *archive, void *context, const void *bytes, size_t len)
{
	struct archive_out *out = context;
	int rc = env_pwrite(out->file, bytes, len, out->offset);
	if (rc) {
		out->code = rc;
		archive_set_error(archive, -rc, "write");
		return -1;
	}
	out->offset += len;
	return (la_ssize_t)len;
}

static int failed(const struct archive_out *out, struct err *err)
{
	return err_sys(err, out->code ? out->code : -EIO, "write the archive");
}

int archive_begin(struct env_file *file, const char *top, int64_t wall_s, struct archive_out **ret_archive, struct err *err)
{
	struct archive_out *out = calloc(1, sizeof(*out));
	if (!out)
		return err_sys(err, -ENOMEM, "begin an archive");
	*out = (struct archive_out){.archive = archive_write_new(), .file = file, .top = top, .wall_s = wall_s};
	if (!out->archive || archive_write_add_filter_gzip(out->archive) != ARCHIVE_OK || archive_write_set_format_pax_restricted(out->archive) != ARCHIVE_OK ||
	    archive_write_open(out->archive, out, NULL, on_write, NULL) != ARCHIVE_OK) {
		archive_drop(out);
		return err_sys(err, -ENOMEM, "begin an archive");
	}
	*ret_archive = out;
	return 0;
}

int archive_add(struct archive_out *out, const char *name, const void *bytes, size_t len, struct err *err)
{
	char path[NAME_MAX_BYTES];
	struct archive_entry *entry = archive_entry_new();
	if (!entry)
		return err_sys(err, -ENOMEM, "write the archive");
	(void)snprintf(path, sizeof(path), "%s/%s", out->top, name);
	archive_entry_set_pathname(entry, path);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0600);
	archive_entry_set_size(entry, (la_int64_t)len);
	archive_entry_set_mtime(entry, out->wall_s, 0);
	bool good = archive_write_header(out->archive, entry) == ARCHIVE_OK && (len == 0 || archive_write_data(out->archive, bytes, len) == (la_ssize_t)len);
	archive_entry_free(entry);
	out->members += good;
	return good ? 0 : failed(out, err);
}

int archive_end(struct archive_out *out, struct err *err)
{
	int rc = archive_write_close(out->archive) == ARCHIVE_OK ? 0 : failed(out, err);
	archive_drop(out);
	return rc;
}

void archive_drop(struct archive_out *out)
{
	if (!out)
		return;
	if (out->archive)
		(void)archive_write_free(out->archive);
	free(out);
}

uint64_t archive_members(const struct archive_out *out)
{
	return out->members;
}
