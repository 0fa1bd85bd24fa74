// SPDX-License-Identifier: Apache-2.0
// Keeping an overlay that is being written: what is durable of it, and how a crash is survived.
//
// The tables of an overlay are in memory until it is finished. Here the caller keeps them, in a record of its own, and this file promises
// that the clusters which that record refers to hold what they held when it was made:
//
// K1 A cluster that the newest record, or the one before it, may refer to is neither written in place nor given to another block. The one before
//    it counts because the newest may turn out damaged, and then nobody can tell that from one that was never finished.
// K2 Packed bytes that follow a record begin in another 4 KiB than those before, so that no sector that is kept is written again.
// K3 The record is made after the sync of what it refers to.
#include "format/qcow2_writer_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { UNWRITTEN_MAX = 16 }; // clusters at the end of the file that were taken, and not written yet: a run's, and one more

int qcow2_writer_sync(struct qcow2_writer *writer, struct err *err)
{
	assert(!writer->finished);
	int rc = qcow2_space_flush(&writer->space);
	if (rc)
		return err_sys(err, rc, "write packed blocks to the overlay");
	qcow2_space_part(&writer->space);
	return env_sync(writer->file) ? err_set(err, -EIO, "sync of the overlay failed") : 0;
}

void qcow2_writer_kept(struct qcow2_writer *writer)
{
	qcow2_space_keep(&writer->space);
}

struct qcow2_slot qcow2_writer_slot(const struct qcow2_writer *writer, uint64_t index)
{
	struct qcow2_entry entry = qcow2_map_get(&writer->map, index);
	return (struct qcow2_slot){.where = entry.where, .bits = entry.bits};
}

uint64_t qcow2_writer_clusters(const struct qcow2_writer *writer)
{
	return writer->space.clusters;
}

// --- taking up again ---

static int space_resume(struct qcow2_space *space, uint64_t clusters)
{
	uint16_t *refs = calloc(clusters, sizeof(*refs));
	if (!refs)
		return -ENOMEM;
	free(space->refs);
	space->refs = refs;
	space->refs_room = space->clusters = clusters;
	refs[0] = 1;
	return 0;
}

int qcow2_writer_resume(struct env_file *file, const struct qcow2_config *config, uint64_t clusters, struct qcow2_writer **ret_writer,
			struct err *err)
{
	struct qcow2_writer *writer;
	uint64_t size = 0;
	int rc = env_size(file, &size);
	if (rc)
		return err_sys(err, rc, "size of the overlay's file");
	if (clusters < 1 || clusters > size / QCOW2_CLUSTER_SIZE + UNWRITTEN_MAX)
		return err_set(err, -EBADMSG, "the overlay has %llu bytes, less than was kept of it", (unsigned long long)size);
	rc = qcow2_writer_make(file, config, &writer, err);
	if (rc)
		return rc;
	if (space_resume(&writer->space, clusters)) {
		qcow2_writer_free(writer);
		return err_set(err, -ENOMEM, "out of memory for an overlay of %llu clusters", (unsigned long long)clusters);
	}
	*ret_writer = writer;
	return 0;
}

int qcow2_writer_resume_slot(struct qcow2_writer *writer, uint64_t index, struct qcow2_slot slot, struct err *err)
{
	if (index >= writer->map.blocks)
		return err_set(err, -EBADMSG, "block %llu is past the end of the disk", (unsigned long long)index);
	struct qcow2_entry *at = qcow2_map_slot(&writer->map, index);
	if (!at)
		return err_set(err, -ENOMEM, "out of memory for the tables of an overlay");
	qcow2_map_put(&writer->map, at, (struct qcow2_entry){slot.where, slot.bits});
	return 0;
}

// What the entries refer to, of an overlay that is taken up again.
struct live {
	uint64_t bytes, end;
};

// Counts what an entry refers to. A plain cluster is referred to once and by nothing else.
static int entry_count(struct qcow2_space *space, struct qcow2_entry entry, struct live *live)
{
	if (!qcow2_entry_sound(entry, space->clusters * QCOW2_CLUSTER_SIZE))
		return -EBADMSG;
	uint64_t first = qcow2_entry_offset(entry) / QCOW2_CLUSTER_SIZE, last = first;
	if (qcow2_entry_packed(entry)) {
		first = qcow2_packed_offset(entry) / QCOW2_CLUSTER_SIZE;
		last = (qcow2_packed_offset(entry) + qcow2_packed_bytes(entry) - 1) / QCOW2_CLUSTER_SIZE;
	} else if (first == 0) {
		return 0; // zeros, or nothing
	}
	for (uint64_t i = first; i <= last; i++) {
		if (i >= space->clusters || space->refs[i] == QCOW2_REFCOUNT_MAX)
			return -EBADMSG;
		space->refs[i]++;
	}
	uint64_t at = qcow2_entry_packed(entry) ? qcow2_packed_offset(entry) : qcow2_entry_offset(entry);
	uint64_t len = qcow2_entry_packed(entry) ? qcow2_packed_bytes(entry) : QCOW2_CLUSTER_SIZE;
	live->bytes += len;
	live->end = max_u64(live->end, at + len);
	return 0;
}

typedef int page_visit(struct qcow2_space *space, struct qcow2_entry entry, struct live *live);

static int entries_visit(struct qcow2_writer *writer, page_visit *visit, struct live *live)
{
	for (uint32_t t = 0; t < writer->map.table_count; t++) {
		const struct qcow2_table *table = writer->map.table[t];
		for (unsigned p = 0; table && p < QCOW2_PAGES; p++)
			for (unsigned e = 0; table->page[p] && e < QCOW2_PAGE_ENTRIES; e++) {
				int rc = visit(&writer->space, table->page[p]->entry[e], live);
				if (rc)
					return rc;
			}
	}
	return 0;
}

static int plain_alone(struct qcow2_space *space, struct qcow2_entry entry, struct live *live)
{
	(void)live;
	uint64_t offset = qcow2_entry_offset(entry);
	return offset && space->refs[offset / QCOW2_CLUSTER_SIZE] != 1 ? -EBADMSG : 0;
}

static int file_resume(struct qcow2_writer *writer)
{
	static const unsigned char none[QCOW2_HEADER_SECTOR];
	unsigned char header[QCOW2_HEADER_SECTOR];
	int rc = env_truncate(writer->file, writer->space.clusters * QCOW2_CLUSTER_SIZE);
	if (rc == 0)
		rc = env_pread_full(writer->file, header, sizeof(header), 0);
	if (rc == 0 && memcmp(header, none, sizeof(none)) != 0) // else it may be a hole, and the disk full
		rc = env_pwrite(writer->file, none, sizeof(none), 0);
	return rc ? rc : env_sync(writer->file);
}

int qcow2_writer_resume_end(struct qcow2_writer *writer, struct err *err)
{
	struct qcow2_space *space = &writer->space;
	struct live live = {.end = QCOW2_CLUSTER_SIZE};
	if (entries_visit(writer, entry_count, &live) || entries_visit(writer, plain_alone, &live))
		return err_set(err, -EBADMSG, "its blocks do not fit together");
	// Up to the last byte that counts, behind the header. Of a stream the whole of its last sector counts, as it did when it was written.
	space->dead = live.end - QCOW2_CLUSTER_SIZE - min_u64(live.end - QCOW2_CLUSTER_SIZE, live.bytes);
	space->kept_end = space->clusters;
	for (uint64_t i = 0; i < space->clusters; i++)
		if (space->refs[i] == 0)
			qcow2_space_unused(space, i);
	int rc = file_resume(writer);
	return rc ? err_sys(err, rc, "cut the overlay's file to what was kept") : 0;
}
