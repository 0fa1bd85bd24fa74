// SPDX-License-Identifier: Apache-2.0
// Listings and files from a mount that lives as long as the request. What it promises: whatever ends the request ends the mount.
#include "receiver/file_stream.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/size.h"
#include "link/json.h"
#include "receiver/guest_path.h"
#include "receiver/recovery.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { ZEROS_MAX = 64 << 20 }; // that are passed over before a sign of life

#define NS_PER_S INT64_C(1000000000)

struct file_stream {
	struct stream_out out; // first
	struct mounts *mounts;
	struct mount_info info;
	bool mounted, begun;
	char *path;
	int fd;
	struct stat st;
	uint64_t at;
};

// What both answers begin with; NULL when out of memory.
static json_t *describe(const struct mount_info *info, const char *path)
{
	json_t *text = json_string(path);
	return json_pack("{s:s, s:I, s:s, s:o, s:s, s:o}", "protection", info->protection, "point", (json_int_t)info->point, "disk",
			 info->disk, "partition", info->partition ? json_integer(info->partition) : json_null(), "filesystem",
			 info->filesystem, "path", text ? text : json_null());
}

int file_list(struct mounts *mounts, const struct mount_request *request, const char *path, json_t **ret_listing, struct err *err)
{
	AUTO_FREE struct mount_info *info = malloc(sizeof(*info));
	json_t *entries = NULL;
	bool truncated = false;
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = mounts_add(mounts, request, info, err);
	if (rc)
		return rc;
	rc = guest_list(info->directory, path, &entries, &truncated, err);
	if (rc == -EIO || rc == -EUCLEAN) {
		mounts_explain(mounts, info->directory, err);
		rc = err->code;
	}
	mounts_end(mounts, info->directory);
	if (rc)
		return rc;
	json_t *listing = describe(info, path);
	if (!listing || json_object_set_new(listing, "truncated", json_boolean(truncated)) ||
	    json_object_set(listing, "entries", entries)) {
		json_decref(listing);
		listing = NULL;
	}
	json_decref(entries);
	*ret_listing = listing;
	return listing ? 0 : err_set(err, -ENOMEM, "out of memory");
}

// --- one file ---

static void let_go(struct file_stream *fs)
{
	if (fs->fd >= 0)
		(void)close(fs->fd);
	if (fs->mounted)
		mounts_end(fs->mounts, fs->info.directory);
	fs->fd = -1;
	fs->mounted = false;
}

static void on_done(struct stream_out *out)
{
	struct file_stream *fs = (struct file_stream *)out;
	let_go(fs);
	stream_out_done(&fs->out);
	free(fs->path);
	free(fs);
}

static json_t *begin_json(const struct file_stream *fs)
{
	json_t *json = describe(&fs->info, fs->path);
	int64_t modified_ns = (int64_t)fs->st.st_mtim.tv_sec * NS_PER_S + fs->st.st_mtim.tv_nsec;
	if (json && json_object_set_new(json, "size_bytes", json_integer(fs->st.st_size)) == 0 &&
	    json_object_set_new(json, "data_bytes", json_integer(fs->st.st_size)) == 0 &&
	    json_object_set_new(json, "mode", guest_mode_json(fs->st.st_mode)) == 0 &&
	    json_object_set_new(json, "modified", json_when(modified_ns)) == 0)
		return json;
	json_decref(json);
	return NULL;
}

// Reads `len` bytes at fs->at. -EIO also when the file ends before: nobody changes it.
static int part_read(const struct file_stream *fs, unsigned char *to, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = pread(fs->fd, to + got, len - got, (off_t)(fs->at + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		got += (size_t)n;
	}
	return 0;
}

// Zeros are found by content: what a guest's file system says about holes is not asked.
static int on_next(struct stream_out *out, struct err *err)
{
	struct file_stream *fs = (struct file_stream *)out;
	unsigned char *part = out->buf + STREAM_HEADER_SIZE;
	uint64_t size = (uint64_t)fs->st.st_size, from = fs->at;
	if (!fs->begun) {
		fs->begun = true;
		return stream_out_begin(out, begin_json(fs), err);
	}
	while (fs->at < size && fs->at - from < ZEROS_MAX) {
		uint32_t len = (uint32_t)min_u64(STREAM_OUT_PART, size - fs->at);
		int rc = part_read(fs, part, len);
		if (rc) {
			err_sys(err, rc, "read %.200s at byte %llu", fs->path, (unsigned long long)fs->at);
			mounts_explain(fs->mounts, fs->info.directory, err);
			return err->code;
		}
		fs->at += len;
		if (!bytes_zero(part, len))
			return stream_out_data(out, fs->at - len, len), 0;
	}
	if (fs->at > from)
		return stream_out_zeros(out, fs->at), 0;
	let_go(fs); // who has the END finds nothing mounted
	return stream_out_end(out, err);
}

int file_stream_open(struct mounts *mounts, const struct mount_request *request, const char *path, atomic_uint *under_way,
		     struct control_stream *ret_stream, struct err *err)
{
	struct file_stream *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return err_set(err, -ENOMEM, "out of memory");
	fs->fd = -1;
	fs->mounts = mounts;
	fs->path = strdup(path);
	int rc = stream_out_init(&fs->out, on_next, on_done, under_way, err);
	if (rc == 0 && !fs->path)
		rc = err_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = mounts_add(mounts, request, &fs->info, err);
	fs->mounted = rc == 0;
	if (rc == 0)
		rc = guest_open_file(fs->info.directory, path, &fs->fd, &fs->st, err);
	if (fs->mounted && (rc == -EIO || rc == -EUCLEAN)) {
		mounts_explain(mounts, fs->info.directory, err);
		rc = err->code;
	}
	if (rc) {
		on_done(&fs->out);
		return rc;
	}
	*ret_stream = stream_out_control(&fs->out);
	return 0;
}
