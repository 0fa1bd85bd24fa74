// SPDX-License-Identifier: Apache-2.0
// A note that a disk failed for good (V3 of volume.h): RUN_DIR/failed/PROTECTION:DISK, with what it is of in the first line, and why behind it.
//
//	failed_note_write ──► (the guest is told) … death, or stop ──► failed_note_read: it fails as before ──► failed_note_remove: its operator says that it is over
//
// A guest that lost its agent goes on with the next one, and must not be told that what it had written is on the disk. The note outlives the process, and not a
// reboot. That ends the guests of this host, and not those of other hosts (--nbd-listen), whose clients may wait for the next agent: their operator ends them first. Neither it nor its directory is synced: a run directory is in memory as a rule, and no guest waits for a disk.
#ifndef KAGAMI_REPLICATOR_FAILED_NOTE_H
#define KAGAMI_REPLICATOR_FAILED_NOTE_H

#include "base/err.h"
#include "base/names.h"

#include <stdbool.h>
#include <stdint.h>

// Which image of which protection. Neither tells a device that came back under another number from another one: of a block device what was noted counts until it is cleared.
struct failed_note_of {
	struct uuid protection;
	uint64_t inode;	 // of a regular file, which tells an image that was put in its place; 0: a block device
	int64_t born_ns; // likewise, where the inode of a file that was removed is given to the next; 0: not known
};

int failed_note_write(const char *run_dir, const char *protection, const char *disk, const struct failed_note_of *of, const char *why, struct err *err);
// Whether there is one, and of that image; also true of one that is torn, whose `why` is "". An error: that cannot be found out, and may be later.
int failed_note_read(const char *run_dir, const char *protection, const char *disk, const struct failed_note_of *of, bool *ret_failed, char why[ERR_TEXT_MAX], struct err *err);
int failed_note_remove(const char *run_dir, const char *protection, const char *disk, struct err *err); // 0 when there is none
// Those of all its disks, whatever they are: it is protected no more. 0 when there are none.
int failed_note_remove_all(const char *run_dir, const char *protection, struct err *err);

#endif
