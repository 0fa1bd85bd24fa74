// SPDX-License-Identifier: Apache-2.0
// Digest files are made of 512-byte sectors that each carry their number and CRC-32C: a disk writes a sector whole or
// not at all, so that a table updated in place is valid in every crash state, sector by sector old or new.
//
// This file does sectors and the prelude, which are the same for lists (digest_file.c) and the base's table (digest_table.c).
#include "receiver/digest_sector.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <errno.h>
#include <string.h>

static const char magic[8] = {'K', 'G', 'M', 'D', 'I', 'G', 'S', 'T'};

// --- sectors ---

void digest_sector_seal(unsigned char sector[DIGEST_SECTOR], uint64_t number, uint32_t used)
{
	put_le64(sector + DIGEST_PAYLOAD, number);
	put_le32(sector + DIGEST_PAYLOAD + 8, used);
	put_le32(sector + DIGEST_PAYLOAD + 12, crc32c(sector, DIGEST_SECTOR - 4));
}

int digest_sector_check(const unsigned char sector[DIGEST_SECTOR], uint64_t number, uint32_t *ret_used)
{
	if (get_le32(sector + DIGEST_PAYLOAD + 12) != crc32c(sector, DIGEST_SECTOR - 4) ||
	    get_le64(sector + DIGEST_PAYLOAD) != number)
		return -EBADMSG;
	*ret_used = get_le32(sector + DIGEST_PAYLOAD + 8);
	return 0;
}

// --- the prelude ---

void digest_prelude_encode(unsigned char sector[DIGEST_SECTOR], const struct digest_prelude *p)
{
	struct cursor c = cursor_over(sector, DIGEST_PAYLOAD);
	memset(sector, 0, DIGEST_SECTOR);
	cursor_put_bytes(&c, magic, sizeof(magic));
	cursor_put_u32(&c, DIGEST_VERSION);
	cursor_put_u32(&c, DIGEST_SECTOR);
	cursor_put_u32(&c, 0); // features: refuse, ignore, clear
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, p->kind);
	cursor_put_bytes(&c, p->instance.bytes, UUID_SIZE);
	cursor_put_u64(&c, p->disk.size);
	cursor_put_u64(&c, p->entries);
	cursor_put_u32(&c, p->disk.number);
	cursor_put_u32(&c, p->disk.kind);
	digest_sector_seal(sector, 0, 0);
}

// Each by itself, so that one which cannot be read costs no other: it looks like one that does not check.
static int sectors_read_each(struct env_file *file, unsigned char *sectors, uint64_t count, uint64_t number)
{
	int rc = 0;
	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		rc = env_pread_full(file, sectors + i * DIGEST_SECTOR, DIGEST_SECTOR, (number + i) * DIGEST_SECTOR);
		if (rc != -EIO)
			continue;
		memset(sectors + i * DIGEST_SECTOR, 0xff, DIGEST_SECTOR);
		rc = 0;
	}
	return rc;
}

int digest_sectors_read(struct env_file *file, bool given_up, unsigned char *sectors, uint64_t count, uint64_t number)
{
	int rc = env_pread_full(file, sectors, (size_t)count * DIGEST_SECTOR, number * DIGEST_SECTOR);
	return rc == -EIO && given_up ? sectors_read_each(file, sectors, count, number) : rc;
}

int digest_prelude_read(struct env_file *file, enum digest_file_kind kind, bool given_up, struct digest_prelude *ret_prelude, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR], found[sizeof(magic)];
	struct digest_prelude p = {.kind = kind};
	uint32_t used;
	int rc = digest_sectors_read(file, given_up, sector, 1, 0);
	if (rc)
		return rc == -ENODATA ? err_set(err, -EBADMSG, "the prelude is cut off") : err_sys(err, rc, "read");
	if (digest_sector_check(sector, 0, &used))
		return err_set(err, -EUCLEAN, "the prelude is damaged");
	struct cursor c = cursor_reading(sector, DIGEST_PAYLOAD);
	cursor_get_bytes(&c, found, sizeof(found));
	if (memcmp(found, magic, sizeof(magic)) != 0)
		return err_set(err, -EBADMSG, "not a digest file");
	uint32_t version = cursor_get_u32(&c), sector_size = cursor_get_u32(&c), refuse = cursor_get_u32(&c);
	if (version != DIGEST_VERSION || sector_size != DIGEST_SECTOR || refuse != 0)
		return err_set(err, -EBADMSG, "written by a newer version: use that one");
	(void)cursor_take(&c, 8);
	if (cursor_get_u32(&c) != kind)
		return err_set(err, -EBADMSG, "kind: not a %s", kind == DIGEST_LIST ? "list" : "table");
	cursor_get_bytes(&c, p.instance.bytes, UUID_SIZE);
	p.disk.size = cursor_get_u64(&c);
	p.entries = cursor_get_u64(&c);
	uint32_t number = cursor_get_u32(&c);
	if (number >= DISKS_MAX)
		return err_set(err, -EBADMSG, "number of the disk: %u", number);
	p.disk.number = (uint16_t)number;
	uint32_t digest = cursor_get_u32(&c);
	if (!digest_kind_known(digest))
		return err_set(err, -EBADMSG, "unknown kind of digest");
	p.disk.kind = (enum digest_kind)digest;
	*ret_prelude = p;
	return 0;
}

int digest_prelude_expect(struct env_file *file, enum digest_file_kind kind, const struct digest_disk *disk,
			  uint64_t entries, struct err *err)
{
	struct digest_prelude p;
	int rc = digest_prelude_read(file, kind, disk->given_up, &p, err);
	if (rc)
		return rc; // -EUCLEAN too: it says nothing that the caller does not know
	if (p.disk.size != disk->size || p.entries != entries || p.disk.number != disk->number || p.disk.kind != disk->kind)
		return err_set(err, -EBADMSG, "it belongs to another disk or point");
	return 0;
}

int digest_length_expect(struct env_file *file, uint64_t length, struct err *err)
{
	uint64_t size = 0;
	int rc = env_size(file, &size);
	if (rc)
		return err_sys(err, rc, "size");
	if (size != length)
		return err_set(err, -EBADMSG, "%llu bytes long in place of %llu", (unsigned long long)size,
			       (unsigned long long)length);
	return 0;
}
