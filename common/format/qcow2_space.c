// SPDX-License-Identifier: Apache-2.0
// Clusters of the file and their refcounts, which count references as `qemu-img check` does: one for a plain
// cluster, and for a cluster of packed streams one for each stream that touches it. A hole has none, and is no
// leak.
//
// Packed streams lie back to back in *runs* of whole clusters, reserved RUN_CLUSTERS at a time, so that plain
// clusters taken meanwhile do not break the row. A run that ends at the end of the file grows; another one is given
// up.
//
//	cluster is     refcount   on the free list
//	plain          1          no
//	packed, closed > 0        no
//	of the open run any       no     (what is behind run_at is not yet written)
//	given back     0          no, where what was kept may refer to it: it is on kept_new, then kept_old
//	free           0          yes, unless memory for the list was short: then it is a hole for good
#include "format/qcow2_space.h"

#include <errno.h>
#include <stdlib.h>

enum {
	RUN_CLUSTERS = 4,
	BUFFER_SIZE = RUN_CLUSTERS * QCOW2_CLUSTER_SIZE,
};

static uint64_t cluster_of(uint64_t offset)
{
	return offset / QCOW2_CLUSTER_SIZE;
}

// Adds `count` fresh clusters with refcount `refs`.
static int grow(struct qcow2_space *space, uint64_t count, uint16_t refs)
{
	uint64_t need = space->clusters + count;
	if (need > space->refs_room) {
		uint64_t room = max_u64(need, space->refs_room * 2);
		uint16_t *more = realloc(space->refs, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		space->refs = more;
		space->refs_room = room;
	}
	for (uint64_t i = space->clusters; i < need; i++)
		space->refs[i] = refs;
	space->clusters = need;
	return 0;
}

int qcow2_space_init(struct qcow2_space *space, struct env_file *file)
{
	*space = (struct qcow2_space){.file = file};
	return grow(space, 1, 1);
}

void qcow2_space_done(struct qcow2_space *space)
{
	free(space->refs);
	free(space->free_list);
	free(space->kept_new.at);
	free(space->kept_old.at);
	free(space->buffer);
	*space = (struct qcow2_space){0};
}

static void kept_push(struct qcow2_clusters *list, uint64_t cluster)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 64;
		uint64_t *more = realloc(list->at, room * sizeof(*more));
		if (!more)
			return;
		list->at = more;
		list->room = room;
	}
	list->at[list->count++] = cluster;
}

static void free_push(struct qcow2_space *space, uint64_t cluster)
{
	if (cluster < space->kept_end) {
		kept_push(&space->kept_new, cluster);
		return;
	}
	if (space->free_count == space->free_room) {
		size_t room = space->free_room ? space->free_room * 2 : 64;
		uint64_t *more = realloc(space->free_list, room * sizeof(*more));
		if (!more)
			return;
		space->free_list = more;
		space->free_room = room;
	}
	space->free_list[space->free_count++] = cluster;
}

// A free cluster may have packed bytes still in the buffer; they must not land on what the new owner writes.
static int flush_over(struct qcow2_space *space, uint64_t offset)
{
	bool apart =
		offset + QCOW2_CLUSTER_SIZE <= space->buffer_off || space->buffer_off + space->buffer_len <= offset;
	return apart ? 0 : qcow2_space_flush(space);
}

int qcow2_space_take(struct qcow2_space *space, uint64_t *ret_offset)
{
	if (space->free_count == 0)
		return qcow2_space_take_run(space, 1, ret_offset);
	uint64_t offset = space->free_list[space->free_count - 1] * QCOW2_CLUSTER_SIZE;
	int rc = flush_over(space, offset);
	if (rc)
		return rc;
	space->free_count--;
	space->refs[cluster_of(offset)] = 1;
	space->dead -= min_u64(space->dead, QCOW2_CLUSTER_SIZE);
	*ret_offset = offset;
	return 0;
}

void qcow2_space_give(struct qcow2_space *space, uint64_t offset)
{
	assert(space->refs[cluster_of(offset)] == 1);
	space->refs[cluster_of(offset)] = 0;
	space->dead += QCOW2_CLUSTER_SIZE;
	free_push(space, cluster_of(offset));
}

int qcow2_space_take_run(struct qcow2_space *space, uint64_t count, uint64_t *ret_offset)
{
	uint64_t offset = space->clusters * QCOW2_CLUSTER_SIZE;
	int rc = grow(space, count, 1);
	if (rc == 0)
		*ret_offset = offset;
	return rc;
}

// Gives up the open run: its clusters that nothing touches become free.
static void run_abandon(struct qcow2_space *space)
{
	for (uint64_t i = cluster_of(space->run_at); i < cluster_of(space->run_end); i++)
		if (space->refs[i] == 0)
			free_push(space, i);
	space->run_at = space->run_end = 0;
}

// Makes room for `len` bytes behind run_at.
static int run_reserve(struct qcow2_space *space, size_t len)
{
	// Streams of a few bytes: the cluster has as many as a refcount can say.
	if (space->run_at < space->run_end && space->refs[cluster_of(space->run_at)] == QCOW2_REFCOUNT_MAX)
		space->run_at = size_round_up(space->run_at, QCOW2_CLUSTER_SIZE);
	if (space->run_end - space->run_at >= len)
		return 0;
	uint64_t end = space->clusters * QCOW2_CLUSTER_SIZE;
	int rc = grow(space, RUN_CLUSTERS, 0);
	if (rc)
		return rc;
	if (space->run_end != end) {
		run_abandon(space);
		space->run_at = end;
	}
	space->run_end = space->clusters * QCOW2_CLUSTER_SIZE;
	return 0;
}

// Makes room in the buffer for `len` bytes that go to `at`.
static int buffer_reserve(struct qcow2_space *space, uint64_t at, size_t len)
{
	if (!space->buffer && !(space->buffer = malloc(BUFFER_SIZE)))
		return -ENOMEM;
	if (space->buffer_off + space->buffer_len != at || space->buffer_len + len > BUFFER_SIZE) {
		int rc = qcow2_space_flush(space);
		if (rc)
			return rc;
		space->buffer_off = at;
	}
	return 0;
}

int qcow2_space_append(struct qcow2_space *space, const void *packed, size_t len, uint64_t *ret_offset)
{
	assert(len > 0 && len <= BLOCK_SIZE);
	int rc = run_reserve(space, len);
	if (rc == 0)
		rc = buffer_reserve(space, space->run_at, len);
	if (rc)
		return rc;
	uint64_t offset = space->run_at;
	memcpy(space->buffer + space->buffer_len, packed, len);
	space->buffer_len += len;
	space->run_at += len;
	for (uint64_t i = cluster_of(offset); i <= cluster_of(offset + len - 1); i++)
		space->refs[i]++;
	*ret_offset = offset;
	return 0;
}

void qcow2_space_give_packed(struct qcow2_space *space, struct qcow2_entry entry)
{
	uint64_t offset = qcow2_packed_offset(entry);
	uint32_t len = qcow2_packed_bytes(entry);
	for (uint64_t i = cluster_of(offset); i <= cluster_of(offset + len - 1); i++) {
		assert(space->refs[i] > 0);
		bool open = i >= cluster_of(space->run_at) && i < cluster_of(space->run_end);
		if (--space->refs[i] == 0 && !open)
			free_push(space, i);
	}
	space->dead += len;
}

int qcow2_space_flush(struct qcow2_space *space)
{
	if (space->buffer_len == 0)
		return 0;
	int rc = env_pwrite(space->file, space->buffer, space->buffer_len, space->buffer_off);
	if (rc == 0) {
		space->buffer_off += space->buffer_len;
		space->buffer_len = 0;
	}
	return rc;
}

int qcow2_space_close_run(struct qcow2_space *space)
{
	int rc = qcow2_space_flush(space);
	if (rc)
		return rc;
	if (space->run_end == space->clusters * QCOW2_CLUSTER_SIZE)
		space->clusters = cluster_of(size_round_up(space->run_at, QCOW2_CLUSTER_SIZE));
	space->run_at = space->run_end = 0;
	return 0;
}

void qcow2_space_unused(struct qcow2_space *space, uint64_t cluster)
{
	free_push(space, cluster);
}

void qcow2_space_keep(struct qcow2_space *space)
{
	space->kept_end = 0; // what is old goes to the free list
	for (size_t i = 0; i < space->kept_old.count; i++)
		free_push(space, space->kept_old.at[i]);
	struct qcow2_clusters empty = space->kept_old;
	empty.count = 0;
	space->kept_old = space->kept_new;
	space->kept_new = empty;
	space->kept_end = space->clusters;
}

void qcow2_space_part(struct qcow2_space *space)
{
	assert(space->buffer_len == 0);
	space->run_at = min_u64(size_round_up(space->run_at, PIECE_SIZE), space->run_end);
}

uint64_t qcow2_space_file_bytes(const struct qcow2_space *space)
{
	uint64_t end = space->clusters * QCOW2_CLUSTER_SIZE;
	return space->run_end == end ? space->run_at : end;
}

uint64_t qcow2_space_memory(const struct qcow2_space *space)
{
	return space->refs_room * sizeof(*space->refs) + space->free_room * sizeof(*space->free_list) +
	       (space->kept_new.room + space->kept_old.room) * sizeof(*space->kept_new.at) + (space->buffer ? BUFFER_SIZE : 0);
}
