// SPDX-License-Identifier: Apache-2.0
// The head: the overlays that a session writes, and the digests of what is in them.
//
// Nothing here is synced: what survives a crash is what head_checkpoint.c made durable. What it promises is that the
// digests say what the overlays hold; where an error leaves that open, the head is dropped, or goes back to its checkpoint, and its UUID
// changes, so that the source knows.
#include "receiver/replica.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct digest head_digest(const struct replica *r, unsigned disk, uint64_t index)
{
	static const struct digest zero;
	const struct digest *found = NULL;
	if (r->head.disk[disk].digests.blocks)
		found = table_get(&r->head.disk[disk].digests, index);
	if (!found)
		found = table_get(&r->state[disk], index);
	return found ? *found : zero;
}

// The name of what lies under the next point, from where that point will be.
static enum qcow2_backing backing_name(const struct replica *r, unsigned disk, char *name, size_t cap)
{
	uint64_t last = replica_last_point(r);
	if (last == 0) {
		(void)snprintf(name, cap, "../../base/%s.raw", r->prot.disk[disk].name);
		return QCOW2_BACKING_RAW;
	}
	(void)snprintf(name, cap, "../%llu/%s.qcow2", (unsigned long long)last, r->prot.disk[disk].name);
	return QCOW2_BACKING_QCOW2;
}

static int head_make(struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	if (r->head.made)
		return 0;
	replica_file(r, path, "head");
	int rc = env_mkdir(r->root, path);
	if (rc)
		return err_sys(err, rc, "%s: create", path);
	r->head.made = true;
	return 0;
}

static int writer_open(struct replica *r, unsigned disk, struct err *err)
{
	struct head_disk *d = &r->head.disk[disk];
	char backing[REPLICA_PATH_SIZE];
	int rc = head_make(r, err);
	if (rc == 0 && !d->file)
		rc = replica_open_file(r, ENV_CREATE, &d->file, err, "head/%s.qcow2", r->prot.disk[disk].name);
	if (rc)
		return rc;
	r->head.saved.names_unsynced = true;
	struct qcow2_config config = {.size = r->prot.disk[disk].size, .codec = r->codec, .backing_name = backing};
	config.backing = backing_name(r, disk, backing, sizeof(backing));
	rc = qcow2_writer_new(d->file, &config, &d->writer, err);
	if (rc)
		return err_wrap(err, "%s/head/%s.qcow2", r->name, r->prot.disk[disk].name);
	d->codec = r->codec;
	table_init(&d->digests, size_blocks(config.size));
	return 0;
}

int head_writer_resume(struct replica *r, unsigned disk, enum codec codec, uint64_t clusters, struct err *err)
{
	struct head_disk *d = &r->head.disk[disk];
	char backing[REPLICA_PATH_SIZE];
	int rc = replica_open_file(r, ENV_WRITE, &d->file, err, "head/%s.qcow2", r->prot.disk[disk].name);
	if (rc)
		return rc == -ENOENT ? -EBADMSG : rc;
	struct qcow2_config config = {.size = r->prot.disk[disk].size, .codec = codec, .backing_name = backing};
	config.backing = backing_name(r, disk, backing, sizeof(backing));
	rc = qcow2_writer_resume(d->file, &config, clusters, &d->writer, err);
	if (rc)
		return rc;
	d->codec = codec;
	table_init(&d->digests, size_blocks(config.size));
	return 0;
}

int head_writer(struct replica *r, unsigned disk, struct head_disk **ret_disk, struct err *err)
{
	int rc = r->head.disk[disk].writer ? 0 : writer_open(r, disk, err);
	if (rc == 0)
		*ret_disk = &r->head.disk[disk];
	return rc;
}

// Finds the overlay and makes room for one digest, so that nothing can fail once the block is in the overlay.
static int block_begin(struct replica *r, const struct wire_block *block, struct head_disk **ret_disk, struct err *err)
{
	int rc = head_writer(r, block->disk, ret_disk, err);
	if (rc == 0 && (table_reserve(&(*ret_disk)->digests, block->index, 1) || head_change_reserve(*ret_disk)))
		rc = err_set(err, -ENOMEM, "out of memory for digests");
	return rc;
}

static int block_end(struct replica *r, const struct wire_block *block, struct head_disk *d, int rc, struct err *why,
		     struct err *err)
{
	if (rc)
		return head_fail(r, false, why, err);
	head_changed(r, d, block->index, 1, block->len);
	return table_set(&d->digests, block->index, &block->digest);
}

int head_write_packed(struct replica *r, const struct wire_block *block, struct err *err)
{
	struct head_disk *d = NULL;
	struct err why = {0};
	int rc = block_begin(r, block, &d, &why);
	if (rc == 0)
		rc = qcow2_write_packed(d->writer, block->index, block->payload, block->len, &why);
	return block_end(r, block, d, rc, &why, err);
}

int head_write_pieces(struct replica *r, const struct wire_block *block, uint16_t mask, struct err *err)
{
	struct head_disk *d = NULL;
	struct err why = {0};
	int rc = block_begin(r, block, &d, &why);
	if (rc == 0)
		rc = qcow2_write_pieces(d->writer, block->index, mask, r->block, &why);
	return block_end(r, block, d, rc, &why, err);
}

static int zeros_write_run(struct replica *r, unsigned disk, uint64_t first, uint64_t count, struct err *err)
{
	static const struct digest zero;
	struct head_disk *d = NULL;
	if (count == 0)
		return 0;
	int rc = head_writer(r, disk, &d, err);
	if (rc == 0 && (table_reserve(&d->digests, first, count) || head_change_reserve(d)))
		rc = err_set(err, -ENOMEM, "out of memory for digests");
	if (rc == 0)
		rc = qcow2_write_zeros(d->writer, first, count, err);
	if (rc)
		return rc;
	head_changed(r, d, first, count, 0);
	for (uint64_t i = 0; rc == 0 && i < count; i++)
		rc = table_set(&d->digests, first + i, &zero);
	return rc;
}

// Zeros go only where something else is: the digest zero is always true, so a range over a whole empty disk costs a
// walk over what is known to be there. Two positions move through the two tables, each past what it has seen.
static int zeros_write(struct replica *r, const struct wire_zeros *zeros, struct err *err)
{
	const struct table *head = &r->head.disk[zeros->disk].digests, *state = &r->state[zeros->disk];
	uint64_t end = zeros->first + zeros->count, run = zeros->first, run_count = 0;
	uint64_t at_head = table_next(head, zeros->first), at_state = table_next(state, zeros->first);
	for (;;) {
		uint64_t i = min_u64(at_head, at_state);
		if (i >= end)
			break;
		if (at_head == i)
			at_head = table_next(head, i + 1);
		if (at_state == i)
			at_state = table_next(state, i + 1);
		struct digest now = head_digest(r, zeros->disk, i);
		if (digest_is_zero(&now))
			continue;
		if (run_count && run + run_count == i) {
			run_count++;
			continue;
		}
		int rc = zeros_write_run(r, zeros->disk, run, run_count, err);
		if (rc)
			return rc;
		run = i;
		run_count = 1;
	}
	return zeros_write_run(r, zeros->disk, run, run_count, err);
}

int head_write_zeros(struct replica *r, const struct wire_zeros *zeros, struct err *err)
{
	struct err why = {0};
	return zeros_write(r, zeros, &why) ? head_fail(r, false, &why, err) : 0;
}

uint64_t head_blocks(const struct replica *r)
{
	uint64_t blocks = 0;
	for (unsigned i = 0; i < r->prot.disk_count; i++)
		blocks += r->head.disk[i].digests.set;
	return blocks;
}

bool head_empty(const struct replica *r)
{
	for (unsigned i = 0; i < r->prot.disk_count; i++)
		if (r->head.disk[i].writer)
			return false;
	return true;
}

static struct qcow2_writer_stats overlays_stats(const struct replica *r)
{
	struct qcow2_writer_stats sum = {.file_bytes = 0}, one;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		if (!r->head.disk[i].writer)
			continue;
		qcow2_writer_stats(r->head.disk[i].writer, &one);
		sum.file_bytes += one.file_bytes;
		sum.dead_bytes += one.dead_bytes;
	}
	return sum;
}

uint64_t head_dead(const struct replica *r)
{
	return overlays_stats(r).dead_bytes;
}

uint64_t head_bytes(const struct replica *r)
{
	return overlays_stats(r).file_bytes;
}

void head_let_go(struct replica *r)
{
	r->limits_next = 0;
	for (unsigned i = 0; i < DISKS_MAX; i++) {
		struct head_disk *d = &r->head.disk[i];
		qcow2_writer_free(d->writer);
		env_close(d->file);
		table_done(&d->digests);
		free(d->changed);
		*d = (struct head_disk){.file = NULL};
	}
	env_close(r->head.saved.file);
	r->head.saved = (struct head_saved){.file = NULL};
}

void head_close(struct replica *r)
{
	head_let_go(r);
	memory_settle(r);
}

int head_renew(struct replica *r, struct err *err)
{
	int rc = uuid_new(r->root->env, &r->head.uuid);
	return rc ? err_sys(err, rc, "%s: random", r->name) : 0;
}

int head_drop(struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	head_close(r);
	replica_file(r, path, "head");
	int rc = env_remove_tree(r->root, path);
	if (rc)
		return err_sys(err, rc, "%s: remove", path);
	r->head.made = false;
	return head_renew(r, err);
}

// Another failure than of space leaves open what the head holds.
int head_fail(struct replica *r, bool seal, const struct err *why, struct err *err)
{
	struct err left = {0};
	uint64_t got = head_bytes(r);
	int code = why->code == -EDQUOT ? -ENOSPC : why->code;
	int kept = code == -ENOSPC ? head_retreat(r, false, &left) : head_drop(r, &left);
	if (kept < 0)
		return replica_break(r, &left, err);
	log_warning("%s protection=%s reason=\"%s\"",
		    kept ? "head goes back to its checkpoint" : "head was dropped, the source starts over from the last point", r->name,
		    why->text);
	if (code == -ENOSPC) {
		limits_full(r, got, seal, why);
		return err_set(err, code, "the target's store %s is full (%s): free space there, or forget a replica that is not needed",
			       r->store_path, why->text);
	}
	return err_set(err, code == -ENOMEM ? code : -EIO, "the head was dropped (%s); its blocks are sent again", why->text);
}
