// SPDX-License-Identifier: Apache-2.0
// A qcow2 image shown as a raw file that programs read and write: QEMU's storage daemon, exporting by FUSE.
//
// The view lives in a directory of its own, of which it uses the names RAW_VIEW_FILE (the raw file) and "pid". The directory's absolute
// path is on the daemon's command line, and it is by that path that the daemon is known: not by a number alone.
#ifndef KAGAMI_RECEIVER_RAW_VIEW_H
#define KAGAMI_RECEIVER_RAW_VIEW_H

#include "base/err.h"

#define RAW_VIEW_FILE "disk"

// Shows `image` (absolute; a qcow2 of ours, with the format of each backing file recorded in it) as DIRECTORY/disk, writable.
// Returns once the file is there. Errors name the missing package.
int raw_view_start(const char *directory, const char *image, const char *backing, struct err *err);

// Ends the view and takes its file system away, whatever state it is in: running, killed, never started, already ended.
int raw_view_stop(const char *directory, struct err *err);

// What a helper of a mount failed with, for the operator. When this user lacks what a mount needs, that is said instead
// (-EPERM), and `why` goes to the log. Returns the code.
int raw_view_fail(const struct err *why, struct err *err);

#endif
