// SPDX-License-Identifier: Apache-2.0
// The digest table of the base: sparse, updated in place by a fold. A hole is the truth about blocks of zeros.
#include "receiver/digest_file.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "receiver/digest_sector.h"

#include <errno.h>
#include <string.h>

enum { BATCH_SECTORS = 1024 };

uint64_t digest_table_length(uint64_t size)
{
	uint64_t blocks = size_blocks(size);
	return DIGEST_SECTOR * (1 + blocks / DIGEST_TABLE_PER_SECTOR + (blocks % DIGEST_TABLE_PER_SECTOR != 0));
}

int digest_table_create(struct env_file *file, const struct digest_disk *disk, struct err *err)
{
	struct digest_prelude prelude = {.kind = DIGEST_TABLE, .disk = *disk, .entries = size_blocks(disk->size)};
	unsigned char sector[DIGEST_SECTOR];
	int rc = uuid_new(file->env, &prelude.instance);
	if (rc)
		return err_sys(err, rc, "random");
	digest_prelude_encode(sector, &prelude);
	rc = env_pwrite(file, sector, sizeof(sector), 0);
	if (rc == 0)
		rc = env_truncate(file, digest_table_length(disk->size));
	if (rc)
		return err_sys(err, rc, "write");
	rc = env_sync(file);
	return rc ? err_sys(err, rc, "sync") : 0;
}

// Sectors as they are for whoever knows no digest of the blocks below `blocks`; past them nothing was written.
static void unknown_fill(unsigned char *sectors, uint64_t count, uint64_t number, uint64_t blocks)
{
	memset(sectors, 0, (size_t)count * DIGEST_SECTOR);
	for (uint64_t s = 0; s < count; s++) {
		uint64_t first = (number + s - 1) * DIGEST_TABLE_PER_SECTOR;
		for (uint64_t i = 0; i < DIGEST_TABLE_PER_SECTOR && first + i < blocks; i++)
			memcpy(sectors + s * DIGEST_SECTOR + i * DIGEST_SIZE, digest_unknown.bytes, DIGEST_SIZE);
		digest_sector_seal(sectors + s * DIGEST_SECTOR, number + s, DIGEST_TABLE_PER_SECTOR);
	}
}

int digest_table_forget(struct env_file *file, uint64_t blocks, struct err *err)
{
	AUTO_FREE unsigned char *batch = malloc((size_t)BATCH_SECTORS * DIGEST_SECTOR);
	uint64_t sectors = digest_table_length(blocks * BLOCK_SIZE) / DIGEST_SECTOR;
	if (!batch)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint64_t number = 1, count; number < sectors; number += count) {
		count = min_u64(BATCH_SECTORS, sectors - number);
		unknown_fill(batch, count, number, blocks);
		int rc = env_pwrite(file, batch, (size_t)count * DIGEST_SECTOR, number * DIGEST_SECTOR);
		if (rc)
			return err_sys(err, rc, "write");
	}
	return 0;
}

// A table may be of a larger disk, and longer than it says: a growth that was cut off left it so, and nothing was written there. -EUCLEAN: the prelude
// says nothing, and the rest is as it should be for `disk`.
static int table_prelude(struct env_file *file, const struct digest_disk *disk, struct digest_prelude *ret_prelude, struct err *err)
{
	struct digest_prelude p;
	uint64_t length = 0;
	int damaged = digest_prelude_read(file, DIGEST_TABLE, disk->given_up, &p, err), rc = damaged;
	if (rc == -EUCLEAN)
		p = (struct digest_prelude){.kind = DIGEST_TABLE, .disk = *disk, .entries = size_blocks(disk->size)};
	else if (rc)
		return rc;
	if (p.disk.number != disk->number || p.disk.kind != disk->kind || !size_disk_ok(p.disk.size) || p.entries != size_blocks(p.disk.size))
		return err_set(err, -EBADMSG, "it belongs to another disk: put the right one back, or move it away and start the receiver again (its digests count as lost then, and no point does)");
	rc = env_size(file, &length);
	if (rc)
		return err_sys(err, rc, "size");
	if (length < digest_table_length(p.disk.size) || length % DIGEST_SECTOR)
		return err_set(err, -EBADMSG, "%llu bytes long in place of %llu", (unsigned long long)length,
			       (unsigned long long)digest_table_length(p.disk.size));
	*ret_prelude = p;
	return damaged;
}

int digest_table_check(struct env_file *file, const struct digest_disk *disk, struct err *err)
{
	struct digest_prelude p;
	int rc = table_prelude(file, disk, &p, err);
	if (rc == 0 && p.disk.size < disk->size)
		return err_set(err, -EBADMSG, "it is of a disk of %llu bytes", (unsigned long long)p.disk.size);
	return rc == -EUCLEAN ? 0 : rc;
}

int digest_table_mend(struct env_file *file, const struct digest_disk *disk, bool *ret_mended, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	struct digest_prelude p;
	*ret_mended = false;
	if (table_prelude(file, disk, &p, NULL) != -EUCLEAN || uuid_new(file->env, &p.instance))
		return 0;
	digest_prelude_encode(sector, &p);
	if (env_pwrite(file, sector, sizeof(sector), 0))
		return 0;
	*ret_mended = env_sync(file) == 0;
	return *ret_mended ? 0 : err_set(err, -EIO, "sync failed");
}

// The length is durable before the prelude names it: else a crash could leave a table that is shorter than it says. One that was made before is
// undone and made again: its sync may have failed, and then the next says nothing of it.
int digest_table_grow(struct env_file *file, const struct digest_disk *disk, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	struct digest_prelude p;
	uint64_t length = 0, wanted = digest_table_length(disk->size);
	int rc = table_prelude(file, disk, &p, err);
	if (rc)
		return rc == -EUCLEAN ? err_set(err, -EBADMSG, "the prelude is damaged") : rc;
	rc = env_size(file, &length);
	if (rc == 0 && length > digest_table_length(p.disk.size))
		rc = env_truncate(file, digest_table_length(p.disk.size));
	if (rc == 0)
		rc = env_truncate(file, max_u64(wanted, digest_table_length(p.disk.size)));
	if (rc)
		return err_sys(err, rc, "make it longer");
	if (env_sync(file))
		return err_set(err, -EIO, "sync failed");
	p.disk.size = max_u64(p.disk.size, disk->size); // written again where it is so already: nobody knows whether that was synced
	p.entries = size_blocks(p.disk.size);
	digest_prelude_encode(sector, &p);
	rc = env_pwrite(file, sector, sizeof(sector), 0);
	if (rc)
		return err_sys(err, rc, "write");
	return env_sync(file) ? err_set(err, -EIO, "sync failed") : 0;
}

static int table_take_sector(const unsigned char *sector, uint64_t number, uint64_t blocks, digest_each *each, digest_lost *lost,
			     void *context, struct err *err)
{
	uint32_t used = 0;
	uint64_t first = (number - 1) * DIGEST_TABLE_PER_SECTOR, end = min_u64(blocks, first + DIGEST_TABLE_PER_SECTOR);
	if (bytes_zero(sector, DIGEST_SECTOR))
		return 0;
	if (digest_sector_check(sector, number, &used))
		return lost ? lost(context, first, end, end - first, err)
			    : err_set(err, -EBADMSG, "sector %llu is damaged", (unsigned long long)number);
	for (uint64_t i = 0; i < DIGEST_TABLE_PER_SECTOR; i++) {
		struct digest digest;
		memcpy(digest.bytes, sector + i * DIGEST_SIZE, DIGEST_SIZE);
		if (digest_is_zero(&digest))
			continue;
		if (first + i >= blocks)
			return err_set(err, -EBADMSG, "sector %llu: a digest past the disk's end", (unsigned long long)number);
		int rc = each(context, first + i, &digest, err);
		if (rc)
			return rc;
	}
	return 0;
}

// Sectors [*number, *end) that may hold something, at or after *number. What a file system says of its holes is no reason to fail: where it says nothing, or is not
// believed, all is read.
static void table_data(struct env_file *file, uint64_t sectors, uint64_t *number, uint64_t *end)
{
	uint64_t from = 0, to = 0;
	*end = sectors;
	if (*number >= sectors || env_data(file, *number * DIGEST_SECTOR, &from, &to))
		return;
	*number = from == to ? sectors : min_u64(sectors, max_u64(*number, from / DIGEST_SECTOR));
	*end = min_u64(sectors, to / DIGEST_SECTOR + (to % DIGEST_SECTOR != 0));
}

static int table_take(const unsigned char *batch, uint64_t number, uint64_t count, uint64_t blocks, digest_each *each, digest_lost *lost, void *context, struct err *err)
{
	int rc = 0;
	if (bytes_zero(batch, (size_t)count * DIGEST_SECTOR))
		return 0;
	for (uint64_t i = 0; rc == 0 && i < count; i++)
		rc = table_take_sector(batch + i * DIGEST_SECTOR, number + i, blocks, each, lost, context, err);
	return rc;
}

// What is cut off while it is read looks like a hole.
static int table_still_long(struct env_file *file, uint64_t size, struct err *err)
{
	uint64_t length = 0;
	int rc = env_size(file, &length);
	if (rc)
		return err_sys(err, rc, "size");
	return length < digest_table_length(size) ? err_set(err, -EBADMSG, "it was cut off while it was read") : 0;
}

int digest_table_salvage(struct env_file *file, const struct digest_disk *disk, digest_each *each, digest_lost *lost, void *context,
			 struct err *err)
{
	int rc = digest_table_check(file, disk, err);
	if (rc)
		return rc;
	AUTO_FREE unsigned char *batch = malloc((size_t)BATCH_SECTORS * DIGEST_SECTOR);
	if (!batch)
		return err_set(err, -ENOMEM, "out of memory");
	uint64_t sectors = digest_table_length(disk->size) / DIGEST_SECTOR, number = 1, end = 1;
	while (rc == 0) {
		if (number >= end)
			table_data(file, sectors, &number, &end);
		if (number >= sectors)
			return table_still_long(file, disk->size, err);
		uint64_t count = min_u64(BATCH_SECTORS, end - number);
		rc = digest_sectors_read(file, disk->given_up, batch, count, number);
		if (rc)
			return err_sys(err, rc, "read");
		rc = table_take(batch, number, count, size_blocks(disk->size), each, lost, context, err);
		number += count;
		if (rc == 0 && disk->rest)
			rc = disk->rest->look(disk->rest->context, err);
	}
	return rc;
}

int digest_table_load(struct env_file *file, const struct digest_disk *disk, digest_each *each, void *context,
		      struct err *err)
{
	struct digest_prelude p;
	int rc = table_prelude(file, disk, &p, err);
	if (rc)
		return rc == -EUCLEAN ? err_set(err, -EBADMSG, "the prelude is damaged") : rc;
	return digest_table_salvage(file, disk, each, NULL, context, err);
}

void digest_update_init(struct digest_update *update, struct env_file *file, const struct digest_disk *disk)
{
	update->file = file;
	update->disk = disk;
	update->dry = false;
	update->lost = update->first = update->count = update->behind = 0;
	update->wish = DIGEST_WINDOW_MIN;
}

static unsigned char *update_sector(struct digest_update *update, uint64_t i)
{
	return update->buf + i * DIGEST_SECTOR;
}

// Sectors [i, end) of the window, which were set.
static int update_write(struct digest_update *update, uint64_t i, uint64_t end, struct err *err)
{
	for (uint64_t s = i; s < end; s++) {
		if (bytes_zero(update_sector(update, s), DIGEST_PAYLOAD))
			memset(update_sector(update, s), 0, DIGEST_SECTOR);
		else
			digest_sector_seal(update_sector(update, s), update->first + s, DIGEST_TABLE_PER_SECTOR);
	}
	int rc = env_pwrite(update->file, update_sector(update, i), (size_t)(end - i) * DIGEST_SECTOR, (update->first + i) * DIGEST_SECTOR);
	return rc ? err_sys(err, rc, "write") : 0;
}

// What was not set is not written: it may be a hole, or what the disk does not give back.
int digest_update_flush(struct digest_update *update, struct err *err)
{
	int rc = 0;
	for (uint64_t i = 0, end; rc == 0 && !update->dry && i < update->count; i = end) {
		end = i + 1;
		if (!update->set[i])
			continue;
		while (end < update->count && update->set[end])
			end++;
		rc = update_write(update, i, end, err);
	}
	update->count = 0;
	return rc;
}

// What the sector said of blocks of the disk is unknown; of those past its end, zero: nothing was written there yet.
static void update_lose(struct digest_update *update, uint64_t i)
{
	uint64_t first = (update->first + i - 1) * DIGEST_TABLE_PER_SECTOR, blocks = size_blocks(update->disk->size);
	unsigned char *sector = update_sector(update, i);
	update->lost++;
	memset(sector, 0, DIGEST_SECTOR);
	for (uint64_t k = 0; k < DIGEST_TABLE_PER_SECTOR && first + k < blocks; k++)
		memcpy(sector + k * DIGEST_SIZE, digest_unknown.bytes, DIGEST_SIZE);
}

// A window from `sector` on, longer than the one before where that was close. One that cannot be read as a whole is no longer than what is asked for.
static int update_fetch(struct digest_update *update, uint64_t sector, struct err *err)
{
	uint64_t sectors = digest_table_length(update->disk->size) / DIGEST_SECTOR;
	bool close = update->behind && sector - update->behind < update->wish;
	update->wish = close ? min_u64(2 * update->wish, DIGEST_WINDOW_MAX) : DIGEST_WINDOW_MIN;
	int rc = digest_update_flush(update, err);
	if (rc)
		return rc;
	uint64_t count = max_u64(1, min_u64(update->wish, sectors - min_u64(sector, sectors)));
	rc = digest_sectors_read(update->file, update->disk->given_up, update->buf, count, sector);
	if (rc == -EIO && count > 1) {
		count = 1;
		rc = digest_sectors_read(update->file, update->disk->given_up, update->buf, count, sector);
	}
	if (rc)
		return err_sys(err, rc, "read");
	memset(update->set, 0, sizeof(update->set));
	update->first = sector;
	update->count = count;
	update->behind = sector + count;
	return 0;
}

static uint64_t sector_of(uint64_t index)
{
	return 1 + index / DIGEST_TABLE_PER_SECTOR;
}

bool digest_update_has(const struct digest_update *update, uint64_t index)
{
	return sector_of(index) >= update->first && sector_of(index) - update->first < update->count;
}

int digest_update_set(struct digest_update *update, uint64_t index, const struct digest *digest, struct err *err)
{
	int rc = digest_update_has(update, index) ? 0 : update_fetch(update, sector_of(index), err);
	if (rc)
		return rc;
	uint64_t i = sector_of(index) - update->first;
	uint32_t used;
	if (!update->set[i] && !bytes_zero(update_sector(update, i), DIGEST_SECTOR) && digest_sector_check(update_sector(update, i), update->first + i, &used))
		update_lose(update, i);
	update->set[i] = true;
	memcpy(update_sector(update, i) + index % DIGEST_TABLE_PER_SECTOR * DIGEST_SIZE, digest->bytes, DIGEST_SIZE);
	return 0;
}
