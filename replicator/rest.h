// SPDX-License-Identifier: Apache-2.0
// A note of how an image was when its replicator last left it alone: RUN_DIR/rest/PROTECTION:DISK, a page that is mapped while it runs.
//
//	rest_disturbed ──► (the new state file is durable) ──► rest_begin ──► rest_stir, rest_now … ──► rest_end, or death
//
// The state file of a replicator that died has the regions that it may have written to, and nothing of what others wrote to the image since: its
// own writes changed the image's times as well. The note tells the two apart. It outlives the process, not a reboot.
//
// N1: while the note says that the image is at rest no change of ours is under way, and the image has the identity that stands in it.
//     So what differs from it was changed by somebody else.
// N2: an older note is replaced only when the state file that follows from it is durable.
#ifndef KAGAMI_REPLICATOR_REST_H
#define KAGAMI_REPLICATOR_REST_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct rest_page { // what is in the file; in this machine's own order, since nobody else reads it
	char magic[8];
	uint64_t boot;
	_Atomic uint32_t at_rest;
	uint32_t reserved;
	uint64_t inode, size;
	int64_t mtime_ns, ctime_ns;
};

struct rest { // of one image; zeroed: there is no note
	struct rest_page *page;
};

// Whether somebody else changed the open regular file `fd` since a replicator that died had it. By the note, where there is one that says how the image
// was at rest; where there is none, since the host was started anew, by the time of its last change, which must be of before that.
// False where neither says: it died while a change was under way.
bool rest_disturbed(const char *run_dir, const char *protection, const char *disk, int fd);
// Replaces the note by one that says nothing yet. Where it cannot be made, there is none, and the older one is removed.
int rest_begin(struct rest *rest, const char *run_dir, const char *protection, const char *disk, struct err *err);
void rest_end(struct rest *rest); // the note stays as it is; takes a zeroed one

// Before each change of ours. Any thread.
static inline void rest_stir(struct rest *rest)
{
	if (rest->page)
		atomic_store_explicit(&rest->page->at_rest, 0, memory_order_seq_cst);
}

// No change is under way, as far as the caller knows, which is the only one to begin them.
void rest_now(struct rest *rest, int fd);

#endif
