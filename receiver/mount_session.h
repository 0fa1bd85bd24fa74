// SPDX-License-Identifier: Apache-2.0
// One mount: its directory under STORE/<p>/tests/, and the steps up to a mounted file system and back.
//
//	step      makes                                        is undone by
//	prepare   tests/mount-<id>/ with mount.json, overlay   removing the directory
//	view      the overlay as a raw file (raw_view.h)       ending the storage daemon
//	attach    loop device and mount, or fuse2fs            unmounting whatever shows the raw file
//
// mount_session_undo() goes back from any step or half of a step, in this process or a later one: it asks the kernel what
// there is, and needs no record of how far it came.
#ifndef KAGAMI_RECEIVER_MOUNT_SESSION_H
#define KAGAMI_RECEIVER_MOUNT_SESSION_H

#include "receiver/mount.h"
#include "receiver/mount_table.h"
#include "receiver/proven_view.h"

#include <stdbool.h>

#define MOUNT_SESSION_PREFIX "mount-"

struct mount_session {
	char name[256];		    // below the store: "vm1/tests/mount-1f2e3d4c"
	char path[MOUNT_PATH_SIZE]; // the same, absolute
	struct mount_info info;
	struct proven_view *proven; // what it reads is proven; NULL: it is read as it is
	struct mount_mark mark; // of the mount, while it is there; of none: of an earlier receiver, or not mounted yet
	bool own; // mounts in a directory of its own, which comes and goes with it
};

// Names a new session of info.protection.
int mount_session_name(struct mount_session *session, struct env *env, const char *store_path, struct err *err);
// Takes the name of one that was found below the store.
int mount_session_found(struct mount_session *session, const char *store_path, const char *protection, const char *id,
			struct err *err);

// Gives it a directory of its own to mount in.
int mount_session_own(struct mount_session *session, struct err *err);

// Does all steps for the point, disk (of `size` bytes) and directory in session->info, and fills in partition and file system.
// On failure call mount_session_undo().
int mount_session_do(struct mount_session *session, struct env_root *root, uint64_t size, uint32_t partition,
		     struct err *err);

// Undoes what there is. With `force` what is in use is detached; without it that is -EBUSY, and nothing was changed. -EBUSY too when it is mounted still, and not
// found by the file that it shows: to end what it reads from would leave a mount that gives errors.
int mount_session_undo(struct mount_session *session, struct env_root *root, bool force, struct err *err);

// The point that a session found on disk is of, from its mount.json.
int mount_session_point(const struct mount_session *session, struct env_root *root, uint64_t *ret_point);

#endif
