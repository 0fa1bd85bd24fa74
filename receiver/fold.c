// SPDX-License-Identifier: Apache-2.0
// The fold of the oldest point into the base: docs/store.md, "Fold". What it promises: no byte of any other point
// changes in any crash state, and a fold that was cut off is done again from the start to the same end.
//
// Without the lock: applying the overlay to the base (touches nothing that a session touches), and reading the digests. Under it, a window at a time: writing them to
// the table; then the names, which is short. Each time it is asked again whether anybody holds a point.
#include "receiver/replica.h"

#include "base/bytes.h"
#include "base/log.h"
#include "receiver/overlays.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// --- step 1: the overlay to the base ---

static int run_apply(struct env_file *base, const unsigned char *block, uint64_t at, uint32_t off, uint32_t len)
{
	if (len == 0)
		return 0;
	if (bytes_zero(block + off, len))
		return env_punch(base, at + off, len);
	return env_pwrite(base, block + off, len, at + off);
}

// Whether pieces `i` and `i` + 1 can go in one call: both stored, and both zeros or neither.
static bool pieces_join(const unsigned char *block, uint16_t mask, unsigned i)
{
	const unsigned char *piece = block + (size_t)i * PIECE_SIZE;
	return i + 1 < PIECES_PER_BLOCK && mask >> (i + 1) & 1 &&
	       bytes_zero(piece, PIECE_SIZE) == bytes_zero(piece + PIECE_SIZE, PIECE_SIZE);
}

static int block_apply(struct env_file *base, uint64_t size, uint64_t index, const unsigned char *block, uint16_t mask)
{
	uint32_t end = size_of_block(size, index);
	for (unsigned i = 0; i < PIECES_PER_BLOCK && i * PIECE_SIZE < end; i++) {
		uint32_t off = i * PIECE_SIZE;
		if (!(mask >> i & 1))
			continue;
		while (pieces_join(block, mask, i))
			i++;
		uint32_t stop = (i + 1) * PIECE_SIZE;
		int rc = run_apply(base, block, index * BLOCK_SIZE, off, (stop < end ? stop : end) - off);
		if (rc)
			return rc;
	}
	return 0;
}

// A block that cannot be read any more does not keep the others from being folded, nor the protection from going on: it is quarantined
// for all points that show it, durably, and then the base keeps what it has there. docs/store.md, "Scrub".
static int blocks_skip(struct replica *r, unsigned disk, uint64_t first, uint64_t count, struct err *err)
{
	struct err why = *err;
	bool taken = why.code == -EBADMSG || stall_leaves_out(r, STALL_OF_FOLDS, why.code);
	return taken ? scrub_unreadable(r, (uint16_t)disk, first, count, &why, err) : why.code;
}

// The next block that the overlay holds, at or after *index; what is behind a table that cannot be read is left out.
static int block_next(struct replica *r, unsigned disk, struct qcow2_reader *overlay, uint64_t *index, struct err *err)
{
	uint64_t blocks = size_blocks(qcow2_reader_size(overlay)), unread = 0;
	int rc;
	while ((rc = qcow2_reader_next(overlay, *index, &unread, err)) && rc != -ENOENT) {
		uint64_t end = min_u64(blocks, (unread / QCOW2_TABLE_BLOCKS + 1) * QCOW2_TABLE_BLOCKS);
		rc = blocks_skip(r, disk, unread, end - unread, err);
		if (rc)
			return rc;
		*index = end;
	}
	*index = unread;
	return rc;
}

static int overlay_apply(struct replica *r, unsigned disk, struct qcow2_reader *overlay, struct env_file *base, uint64_t size,
			 const struct retain_pace *pace, struct err *err)
{
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	uint64_t index = 0;
	int rc;
	if (!block)
		return err_set(err, -ENOMEM, "out of memory");
	while ((rc = block_next(r, disk, overlay, &index, err)) == 0) {
		uint16_t mask = 0;
		memset(block, 0, BLOCK_SIZE);
		if (qcow2_reader_read(overlay, index, block, &mask, err) && (rc = blocks_skip(r, disk, index, 1, err)))
			return rc;
		rc = block_apply(base, size, index, block, mask);
		if (rc)
			return err_sys(err, rc, "write to the base");
		rc = pace_spend(pace, (uint64_t)__builtin_popcount(mask) * PIECE_SIZE);
		if (rc)
			return err_sys(err, rc, "fold");
		index++;
	}
	return rc == -ENOENT ? 0 : rc;
}

// `ret_synced` is false when it failed at the sync: then nobody knows what the base holds.
static int disk_apply(struct replica *r, const struct point_file *point, unsigned disk, const struct retain_pace *pace,
		      bool *ret_synced, struct err *err)
{
	unsigned long long number = point->info.number;
	uint64_t size = point->disk[disk].size; // the base may be larger already, and is zero there
	AUTO_FILE struct env_file *from = NULL;
	AUTO_FILE struct env_file *base = NULL;
	AUTO_READER struct qcow2_reader *overlay = NULL;
	const char *name = r->prot.disk[disk].name;
	int rc = replica_open_file(r, ENV_READ, &from, err, "points/%llu/%s.qcow2", number, name);
	if (rc == 0)
		rc = replica_open_file(r, ENV_WRITE, &base, err, "base/%s.raw", name);
	if (rc)
		return rc;
	rc = qcow2_reader_open(from, &overlay, err);
	if (rc && stall_leaves_out(r, STALL_OF_FOLDS, rc)) { // of its blocks the base keeps what it has
		struct err why = *err;
		(void)err_wrap(&why, "%s/points/%llu/%s.qcow2", r->name, number, name);
		return scrub_condemn(r, (uint16_t)disk, number, false, &why, err);
	}
	if (rc == 0 && qcow2_reader_size(overlay) != size)
		rc = err_set(err, -EBADMSG, "not of the size that the disk had");
	if (rc == 0)
		rc = overlay_apply(r, disk, overlay, base, size, pace, err);
	if (rc)
		return err_wrap(err, "%s/points/%llu/%s.qcow2", r->name, number, name);
	rc = env_sync(base);
	*ret_synced = rc == 0;
	return rc ? err_sys(err, rc, "%s/base/%s.raw: sync", r->name, name) : 0;
}

// --- step 2: the digests ---

// The lock is taken for a window of the table at a time. What others see of it in between is what a crash there leaves: each sector old or new, and what is new is named by the list of the point, which
// stands until step 4 and is laid over. And nobody reads a sector that is half written: who reads the table without the lock has a hold or `opening` first, which are taken under it, and asked after here
// before each window.
struct digest_fold {
	struct replica *r;
	const struct retain_step *step;
	const struct retain_pace *pace;
	unsigned disk;
	bool stopped;	      // somebody came in between
	uint64_t tables_made; // as of when the table was opened: another one that took its place does not have what was written here
	struct table list; // the point's, read once: a sector that the disk gives back only at times is lost in one way, or in none
	struct digest_update update;
};

// Needs the lock, which is free while a session opens. What was read of the table before is as good after: nobody else writes to it.
static int goes_on(struct digest_fold *to, struct err *err)
{
	int rc = to->stopped ? 0 : retain_goes_on(to->r, to->step, to->pace);
	if (rc < 0)
		return err_set(err, rc, "stopped while a session opens");
	to->stopped = rc == 0 || to->tables_made != to->r->tables_made;
	return to->stopped ? err_set(err, -ECANCELED, "somebody came in between") : 0;
}

static int list_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct digest_fold *to = context;
	return table_set(&to->list, index, digest) ? err_set(err, -ENOMEM, "out of memory for digests") : 0;
}

static void list_forget(void *context)
{
	struct digest_fold *to = context;
	table_clear(&to->list);
}

// Of a sector of the table that was lost just now, what the point does not name is to be in quarantine before it is written over.
static int sector_noted(const struct digest_fold *to, uint64_t index, struct err *err)
{
	LOCK_SCOPE(&to->r->lock);
	uint64_t first = index / DIGEST_TABLE_PER_SECTOR * DIGEST_TABLE_PER_SECTOR, end = min_u64(to->list.blocks, first + DIGEST_TABLE_PER_SECTOR);
	for (uint64_t b = first; b < end; b++)
		if (!table_get(&to->list, b) && !unknown_noted(to->r, to->disk, b, to->step->number[0]))
			return err_set(err, -EIO, "the table could not be read where it could be a moment before");
	return 0;
}

static int window_write(struct digest_fold *to, struct err *err)
{
	if (to->update.dry)
		return digest_update_flush(&to->update, err);
	LOCK_SCOPE(&to->r->lock);
	int rc = goes_on(to, err);
	return rc ? rc : digest_update_flush(&to->update, err);
}

static int list_apply(struct digest_fold *to, struct err *err)
{
	int rc = 0;
	for (uint64_t b = table_next(&to->list, 0); rc == 0 && b != TABLE_END; b = table_next(&to->list, b + 1)) {
		uint64_t lost = to->update.lost;
		if (!digest_update_has(&to->update, b))
			rc = window_write(to, err);
		if (rc == 0)
			rc = digest_update_set(&to->update, b, table_get(&to->list, b), err);
		if (rc == 0 && to->update.lost > lost && !to->update.dry)
			rc = sector_noted(to, b, err);
	}
	return rc ? rc : window_write(to, err);
}

// Without writing: finds out what is lost. That is in quarantine, durably, before a table is written that checks and says so.
static int digests_try(struct digest_fold *to, struct err *err)
{
	to->update.dry = true;
	int rc = list_apply(to, err);
	if (rc)
		return rc;
	LOCK_SCOPE(&to->r->lock);
	rc = goes_on(to, err);
	return rc ? rc : unknown_settle(to->r, to->disk, &to->list, to->step->number[0], to->update.lost != 0, err);
}

static int table_apply(struct digest_fold *to, uint64_t size, bool *ret_synced, struct err *err)
{
	AUTO_FILE struct env_file *table = NULL;
	const char *name = to->r->prot.disk[to->disk].name;
	const struct digest_disk of = {.kind = to->r->prot.digest.kind, .number = (uint16_t)to->disk, .size = size, // at most the table's
				       .given_up = atomic_load(&to->r->digests_given_up)};
	int rc = replica_open_file(to->r, ENV_WRITE, &table, err, "base/%s.digests", name);
	if (rc)
		return rc;
	rc = digest_table_check(table, &of, err);
	if (rc == 0) {
		digest_update_init(&to->update, table, &of);
		rc = digests_try(to, err);
	}
	if (rc == 0) {
		digest_update_init(&to->update, table, &of);
		rc = list_apply(to, err);
	}
	if (rc)
		return err_wrap(err, "%s/base/%s.digests", to->r->name, name);
	rc = env_sync(table);
	*ret_synced = rc == 0;
	return rc ? err_sys(err, rc, "%s/base/%s.digests: sync", to->r->name, name) : 0;
}

static int disk_digests_apply(struct digest_fold *to, const struct point_file *point, bool *ret_synced, struct err *err)
{
	uint64_t size = point->disk[to->disk].size;
	const struct digests_taker taker = {.each = list_take, .undo = list_forget, .context = to};
	table_init(&to->list, size_blocks(size));
	int rc = digests_take_point(to->r, point, to->disk, &taker, err);
	if (rc == 0)
		rc = table_apply(to, size, ret_synced, err);
	table_done(&to->list);
	return rc;
}

static int fold_begins(struct digest_fold *to, struct err *err)
{
	LOCK_SCOPE(&to->r->lock);
	to->tables_made = to->r->tables_made;
	return goes_on(to, err);
}

static int digests_apply(struct digest_fold *to, const struct point_file *point, bool *ret_synced, struct err *err)
{
	int rc = fold_begins(to, err);
	for (to->disk = 0; rc == 0 && to->disk < to->r->prot.disk_count; to->disk++)
		rc = disk_digests_apply(to, point, ret_synced, err);
	return rc;
}

// --- steps 3 and 4 ---

// *changing: from here on nobody knows what the header is when it fails. What was done for other disks by then is durable, and as a crash leaves it.
static int successor_set_backing(struct replica *r, uint64_t number, unsigned disk, bool *changing, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	AUTO_READER struct qcow2_reader *overlay = NULL;
	char backing[REPLICA_PATH_SIZE];
	const char *name = r->prot.disk[disk].name;
	int rc = replica_open_file(r, ENV_WRITE, &file, err, "points/%llu/%s.qcow2", (unsigned long long)number, name);
	if (rc)
		return rc;
	rc = qcow2_reader_open(file, &overlay, err);
	if (rc == 0) {
		*changing = true;
		(void)snprintf(backing, sizeof(backing), "../../base/%s.raw", name);
		rc = qcow2_set_backing(file, backing, QCOW2_BACKING_RAW, err);
		*changing = rc != 0;
	}
	return rc ? err_wrap(err, "%s/points/%llu/%s.qcow2", r->name, (unsigned long long)number, name) : 0;
}

static bool is_there(const struct replica *r, uint64_t number)
{
	char path[REPLICA_PATH_SIZE];
	struct env_stat st;
	replica_file(r, path, "points/%llu", (unsigned long long)number);
	return env_stat(r->root, path, &st) == 0;
}

// A move that finds no space for the name changes nothing, nor one that finds no trash; anything else may have.
static int point_drop(struct replica *r, uint64_t number, bool *changing, struct err *err)
{
	static const char *const dirs[] = {"points", "trash"};
	int rc = retain_to_trash(r, number, err);
	*changing = rc != -ENOSPC && rc != -EDQUOT && !(rc == -ENOENT && is_there(r, number));
	return rc ? rc : retain_sync(r, dirs, 2, err);
}

// Steps 3 and 4.
static int names_change(struct replica *r, const struct retain_step *step, bool *changing, struct err *err)
{
	int rc = retain_dir_make(r, "trash", err);
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = successor_set_backing(r, step->number[1], i, changing, err);
	return rc ? rc : point_drop(r, step->number[0], changing, err);
}

// --- the whole ---

// A read that found damage, or a failed sync, breaks the replica; other failures leave a fold to be done again.
static int fold_fail(struct replica *r, bool synced, const struct err *why, struct err *err)
{
	struct err cannot = {0};
	int rc = synced ? overlays_were_it(r, why, &cannot) : 0;
	if (rc)
		return rc < 0 ? err_set(err, rc, "fold: %s", cannot.text) :
				err_set(err, -EAGAIN, "fold: %s; it was made good, and is tried again", why->text);
	if (!synced || why->code == -EBADMSG)
		return replica_break(r, why, err);
	if (no_space(why->code))
		return err_set(err, -ENOSPC, "the store %s is full (%s); free space: folding goes on by itself", r->store_path,
			       why->text);
	return err_set(err, why->code, "fold: %s", why->text);
}

// Under the lock, after step 2. Returns 1, or 0 when somebody came in between and the point stays.
static int fold_finish(struct digest_fold *to, struct err *err)
{
	struct replica *r = to->r;
	struct err why = {0};
	if (goes_on(to, &why))
		return !to->stopped ? fold_fail(r, true, &why, err) : r->broken ? replica_ready(r, err) : 0;
	bool changing = false;
	if (names_change(r, to->step, &changing, &why)) // what was done so far is as a crash leaves it, and is done again from the start
		return changing ? replica_break(r, &why, err) : fold_fail(r, true, &why, err);
	retain_forget(r, to->step);
	if (replica_base_count(r, &why)) // what it had is near enough, until the next one
		log_warning("cannot see what the base takes protection=%s reason=\"%s\"", r->name, why.text);
	return 1;
}

int replica_fold(struct replica *r, const struct retain_step *step, const struct retain_pace *pace, struct err *err)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	AUTO_FREE struct digest_fold *to = calloc(1, sizeof(*to));
	struct err why = {0};
	bool synced = true;
	if (!point || !to)
		return err_set(err, -ENOMEM, "out of memory");
	to->r = r;
	to->step = step;
	to->pace = pace;
	int rc = replica_read_point(r, step->number[0], point, &why);
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = disk_apply(r, point, i, pace, &synced, &why);
	if (rc == 0)
		rc = digests_apply(to, point, &synced, &why);
	LOCK_SCOPE(&r->lock);
	return rc && !to->stopped ? fold_fail(r, synced, &why, err) : fold_finish(to, err);
}
