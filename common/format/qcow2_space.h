// SPDX-License-Identifier: Apache-2.0
// The clusters of the file of an overlay being written: who has them, and the buffer through which packed blocks
// are appended.
#ifndef KAGAMI_FORMAT_QCOW2_SPACE_H
#define KAGAMI_FORMAT_QCOW2_SPACE_H

#include "base/env.h"
#include "format/qcow2_layout.h"

struct qcow2_clusters {
	uint64_t *at;
	size_t count, room;
};

struct qcow2_space {
	struct env_file *file;
	uint64_t clusters; // of the file, taken or not; the next one is fresh: never written, reads as zeros
	uint16_t *refs;	   // refcount of each
	uint64_t refs_room;
	uint64_t *free_list; // clusters below `clusters` with refcount 0, without those of the open run
	size_t free_count;
	size_t free_room;
	uint64_t run_at;  // the open run: where the next packed byte goes
	uint64_t run_end; //   and the end of its last cluster
	unsigned char *buffer;
	uint64_t buffer_off; // where the buffered bytes go; they end at run_at
	size_t buffer_len;
	uint64_t kept_end; // clusters below it may hold what was kept: not one byte of that is overwritten (qcow2_keep.c)
	struct qcow2_clusters kept_new, kept_old; // given back while they may hold what is kept
	uint64_t dead; // bytes that were written and are referred to no more
};

// Starts with cluster 0, the header's, taken.
int qcow2_space_init(struct qcow2_space *space, struct env_file *file);
void qcow2_space_done(struct qcow2_space *space);

// Takes a cluster, a free one or a fresh one. Its content is undefined.
int qcow2_space_take(struct qcow2_space *space, uint64_t *ret_offset);
void qcow2_space_give(struct qcow2_space *space, uint64_t offset);
// Takes `count` fresh clusters in a row, which read as zeros.
int qcow2_space_take_run(struct qcow2_space *space, uint64_t count, uint64_t *ret_offset);

// Appends the stream of a packed block, 1 to BLOCK_SIZE bytes; on failure nothing has changed.
int qcow2_space_append(struct qcow2_space *space, const void *packed, size_t len, uint64_t *ret_offset);
void qcow2_space_give_packed(struct qcow2_space *space, struct qcow2_entry entry);
// Writes what is buffered: before packed bytes are read back. May be called again after it failed.
int qcow2_space_flush(struct qcow2_space *space);
// Flushes, ends the open run, and cuts off the clusters behind it that nothing uses.
int qcow2_space_close_run(struct qcow2_space *space);

void qcow2_space_unused(struct qcow2_space *space, uint64_t cluster); // of a file that is taken up again: nothing refers to it
// Whether the cluster at `offset` may hold what was kept, so that it must not be written in place.
static inline bool qcow2_space_kept(const struct qcow2_space *space, uint64_t offset)
{
	return offset / QCOW2_CLUSTER_SIZE < space->kept_end;
}
// What was given back before the last call of this is free from now on: what refers to it is two keeps old. Everything that is used now is kept.
void qcow2_space_keep(struct qcow2_space *space);
// The next packed byte goes to another 4 KiB than the last one did.
void qcow2_space_part(struct qcow2_space *space);

uint64_t qcow2_space_file_bytes(const struct qcow2_space *space);
uint64_t qcow2_space_memory(const struct qcow2_space *space);

#endif
