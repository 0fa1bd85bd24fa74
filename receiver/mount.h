// SPDX-License-Identifier: Apache-2.0
// Mounts: the file system of a recovery point, shown read-only in a directory.
//
// What is seen is the file system as it would be after a reboot at the cut: the kernel replays its journal into a throw-away
// overlay (STORE/<p>/tests/mount-<id>/), and the point itself is only read. While it is mounted the point is held.
//
// Mounts end with the receiver: a clean stop undoes them, and a start undoes what a receiver that was killed left behind.
//
// Threads: any. Mounting and unmounting take their turns; listing waits for neither.
#ifndef KAGAMI_RECEIVER_MOUNT_H
#define KAGAMI_RECEIVER_MOUNT_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "receiver/store.h"

#include <stdbool.h>
#include <stdint.h>

enum { MOUNT_PATH_SIZE = 4096, MOUNTS_MAX = 64 };

struct mount_request {
	const char *protection;
	const char *directory; // absolute; an empty directory. NULL: one of the receiver's own, see mounts_end()
	uint64_t point;	       // 0: the newest
	const char *disk;      // NULL: the first
	bool proven;	       // the point must be sound (-EUCLEAN); what is read is proven first, and what is damaged cannot be read
	uint32_t partition;    // 0: the disk itself, or its only partition with a file system
};

struct mount_info {
	char directory[MOUNT_PATH_SIZE]; // without links
	char protection[NAME_SIZE];
	uint64_t point;
	char disk[NAME_SIZE];
	uint32_t partition; // 0: the whole disk
	bool proven;
	char filesystem[16];
};

struct mounts;

// Undoes what a predecessor left in the store, which is reported by log and does not fail the start. `store` must outlive
// the mounts; call before the first session, so that nothing is folded below what could not be undone. Where it cannot be listed, every point is held.
int mounts_open(struct env *env, struct store *store, struct mounts **ret_mounts, struct err *err);
// Undoes what could not be listed then. To be called now and then; costs nothing where all was.
void mounts_look(struct mounts *mounts);
// Undoes all mounts, also those in use (their users get errors from then on), and frees. Takes NULL. No call may be under way.
void mounts_close(struct mounts *mounts);

// Mounts. Needs root and loop devices; without them ext file systems are shown through fuse2fs. Every failure leaves
// nothing behind. -ENOENT protection, point, disk, partition or directory; -EEXIST the directory is not empty, -EBUSY
// a point is mounted there; -EINVAL no file system or a choice of them; -EPERM.
int mounts_add(struct mounts *mounts, const struct mount_request *request, struct mount_info *ret_info, struct err *err);

// Unmounts and throws the overlay away, also when the directory was unmounted by hand before. -ENOENT when nothing of
// ours is mounted there, -EBUSY while it is in use.
int mounts_remove(struct mounts *mounts, const char *directory, struct err *err);

// What was found damaged while a proven mount was read, if anything was: then `err`, which says how reading failed, says that instead.
void mounts_explain(struct mounts *mounts, const char *directory, struct err *err);
// Who verifies what is found damaged; before the first mount.
struct verifier;
void mounts_set_verifier(struct mounts *mounts, struct verifier *verifier);

// Ends a mount that was made without a directory, `directory` being what mount_info says; also one that is in use.
void mounts_end(struct mounts *mounts, const char *directory);

// The n-th mount, oldest first; false past the last.
bool mounts_at(struct mounts *mounts, size_t n, struct mount_info *ret_info);

#endif
