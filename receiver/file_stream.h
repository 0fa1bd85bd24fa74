// SPDX-License-Identifier: Apache-2.0
// The files of a point, without a mount of the operator's own: a listing, and one file as a stream. The file system is mounted for as long
// as it takes, in a directory of the receiver's own.
#ifndef KAGAMI_RECEIVER_FILE_STREAM_H
#define KAGAMI_RECEIVER_FILE_STREAM_H

#include "receiver/mount.h"
#include "receiver/stream_out.h"

// `request` names everything but the directory. Errors as mounts_add() and guest_path.h.
int file_list(struct mounts *mounts, const struct mount_request *request, const char *path, json_t **ret_listing, struct err *err);
int file_stream_open(struct mounts *mounts, const struct mount_request *request, const char *path, atomic_uint *under_way,
		     struct control_stream *ret_stream, struct err *err);

#endif
