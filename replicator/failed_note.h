// SPDX-License-Identifier: Apache-2.0
// A note that a disk failed for good (V3 of volume.h): RUN_DIR/failed/PROTECTION:DISK, with the inode of its image in the first line, and why behind it.
//
//	failed_note_write ──► (the guest is told) … death, or stop ──► failed_note_read: it fails as before ──► failed_note_remove: its operator says that it is over
//
// A guest that lost its agent goes on with the next one, and must not be told that what it had written is on the disk. The note outlives the process, and not a
// reboot, which ends the guests of this host, too. Neither it nor its directory is synced: a run directory is in memory as a rule, and no guest waits for a disk.
#ifndef KAGAMI_REPLICATOR_FAILED_NOTE_H
#define KAGAMI_REPLICATOR_FAILED_NOTE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

// `inode` is that of a regular file, which tells an image that was put in its place; 0: a block device.
int failed_note_write(const char *run_dir, const char *protection, const char *disk, uint64_t inode, const char *why, struct err *err);
// Whether there is one, and of that image; also true when that cannot be found out. `why` is "" where that cannot be read.
bool failed_note_read(const char *run_dir, const char *protection, const char *disk, uint64_t inode, char why[ERR_TEXT_MAX]);
int failed_note_remove(const char *run_dir, const char *protection, const char *disk, struct err *err); // 0 when there is none

#endif
