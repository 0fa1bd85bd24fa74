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

int digest_table_salvage(struct env_file *file, const struct digest_disk *disk, digest_each *each, digest_lost *lost, void *context,
			 struct err *err)
{
	int rc = digest_table_check(file, disk, err);
	if (rc)
		return rc;
	AUTO_FREE unsigned char *batch = malloc((size_t)BATCH_SECTORS * DIGEST_SECTOR);
	if (!batch)
		return err_set(err, -ENOMEM, "out of memory");
	uint64_t sectors = digest_table_length(disk->size) / DIGEST_SECTOR;
	for (uint64_t number = 1; number < sectors;) {
		uint64_t count = min_u64(BATCH_SECTORS, sectors - number);
		rc = digest_sectors_read(file, disk->given_up, batch, count, number);
		if (rc)
			return err_sys(err, rc, "read");
		if (bytes_zero(batch, (size_t)count * DIGEST_SECTOR)) {
			number += count;
			continue;
		}
		for (uint64_t i = 0; rc == 0 && i < count; i++)
			rc = table_take_sector(batch + i * DIGEST_SECTOR, number + i, size_blocks(disk->size), each, lost, context, err);
		if (rc)
			return rc;
		number += count;
	}
	return 0;
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
	*update = (struct digest_update){.file = file, .disk = disk};
}

int digest_update_flush(struct digest_update *update, struct err *err)
{
	if (update->sector == 0 || update->dry) {
		update->sector = 0;
		return 0;
	}
	if (bytes_zero(update->buf, DIGEST_PAYLOAD))
		memset(update->buf, 0, sizeof(update->buf));
	else
		digest_sector_seal(update->buf, update->sector, DIGEST_TABLE_PER_SECTOR);
	int rc = env_pwrite(update->file, update->buf, sizeof(update->buf), update->sector * DIGEST_SECTOR);
	update->sector = 0;
	return rc ? err_sys(err, rc, "write") : 0;
}

// What the sector said of blocks of the disk is unknown; of those past its end, zero: nothing was written there yet.
static void update_lose(struct digest_update *update, uint64_t sector)
{
	uint64_t first = (sector - 1) * DIGEST_TABLE_PER_SECTOR, blocks = size_blocks(update->disk->size);
	update->lost++;
	memset(update->buf, 0, sizeof(update->buf));
	for (uint64_t i = 0; i < DIGEST_TABLE_PER_SECTOR && first + i < blocks; i++)
		memcpy(update->buf + i * DIGEST_SIZE, digest_unknown.bytes, DIGEST_SIZE);
}

static int update_fetch(struct digest_update *update, uint64_t sector, struct err *err)
{
	uint32_t used;
	int rc = digest_update_flush(update, err);
	if (rc)
		return rc;
	rc = digest_sectors_read(update->file, update->disk->given_up, update->buf, 1, sector);
	if (rc)
		return err_sys(err, rc, "read");
	if (!bytes_zero(update->buf, sizeof(update->buf)) && digest_sector_check(update->buf, sector, &used))
		update_lose(update, sector);
	update->sector = sector;
	return 0;
}

int digest_update_set(struct digest_update *update, uint64_t index, const struct digest *digest, struct err *err)
{
	uint64_t sector = 1 + index / DIGEST_TABLE_PER_SECTOR;
	int rc = sector == update->sector ? 0 : update_fetch(update, sector, err);
	if (rc == 0)
		memcpy(update->buf + index % DIGEST_TABLE_PER_SECTOR * DIGEST_SIZE, digest->bytes, DIGEST_SIZE);
	return rc;
}
