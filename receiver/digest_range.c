// SPDX-License-Identifier: Apache-2.0
// Parts of digest files, for the scrub: what a few blocks must be, without reading the digests of all. Each sector proves itself; that a list
// as a whole is the one that point.json names is proven where all of it is read.
#include "receiver/digest_file.h"

#include "base/bytes.h"
#include "receiver/digest_sector.h"

#include <errno.h>

static int sector_read(struct env_file *file, uint64_t number, unsigned char sector[DIGEST_SECTOR], uint32_t *ret_used, struct err *err)
{
	int rc = env_pread_full(file, sector, DIGEST_SECTOR, number * DIGEST_SECTOR);
	if (rc && rc != -ENODATA)
		return err_sys(err, rc, "read");
	if (rc || digest_sector_check(sector, number, ret_used))
		return err_set(err, -EBADMSG, "sector %llu is damaged", (unsigned long long)number);
	return 0;
}

static uint64_t entry_index(const unsigned char *sector, uint32_t i)
{
	return get_le64(sector + (size_t)i * DIGEST_ENTRY_SIZE);
}

// The last sector whose first entry is at or before `first`, or the first sector: no entry for `first` lies before it.
static int list_find(struct env_file *file, uint64_t sectors, uint64_t first, uint64_t *ret_number, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	uint64_t low = 1, high = sectors - 1; // the answer is among them
	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2;
		uint32_t used = 0;
		int rc = sector_read(file, middle, sector, &used, err);
		if (rc)
			return rc;
		if (used && entry_index(sector, 0) <= first)
			low = middle;
		else
			high = middle - 1;
	}
	*ret_number = low;
	return 0;
}

static int list_take(const unsigned char *sector, uint32_t used, uint64_t number, uint64_t first, uint64_t end, bool *ret_past,
		     digest_each *each, void *context, struct err *err)
{
	if (used > DIGEST_LIST_PER_SECTOR)
		return err_set(err, -EBADMSG, "sector %llu is damaged", (unsigned long long)number);
	for (uint32_t i = 0; i < used; i++) {
		struct digest digest;
		uint64_t index = entry_index(sector, i);
		if (index < first)
			continue;
		if (index >= end) {
			*ret_past = true;
			return 0;
		}
		memcpy(digest.bytes, sector + (size_t)i * DIGEST_ENTRY_SIZE + 8, DIGEST_SIZE);
		int rc = each(context, index, &digest, err);
		if (rc)
			return rc;
	}
	return 0;
}

int digest_list_range(struct env_file *file, const struct digest_disk *disk, uint64_t entries, uint64_t first, uint64_t end,
		      digest_each *each, void *context, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	uint64_t sectors = digest_list_length(entries) / DIGEST_SECTOR, number = 0;
	bool past = entries == 0;
	int rc = digest_length_expect(file, digest_list_length(entries), err);
	if (rc == 0)
		rc = digest_prelude_expect(file, DIGEST_LIST, disk, entries, err);
	if (rc == 0 && !past)
		rc = list_find(file, sectors, first, &number, err);
	for (; rc == 0 && !past && number < sectors; number++) {
		uint32_t used = 0;
		rc = sector_read(file, number, sector, &used, err);
		if (rc == 0)
			rc = list_take(sector, used, number, first, end, &past, each, context, err);
	}
	return rc;
}

int digest_table_range(struct env_file *file, const struct digest_disk *disk, uint64_t first, uint64_t end, digest_each *each,
		       void *context, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	int rc = digest_table_check(file, disk, err);
	for (uint64_t at = first; rc == 0 && at < end;) {
		uint64_t number = 1 + at / DIGEST_TABLE_PER_SECTOR, stop = min_u64(end, number * DIGEST_TABLE_PER_SECTOR);
		uint32_t used;
		rc = env_pread_full(file, sector, DIGEST_SECTOR, number * DIGEST_SECTOR);
		if (rc)
			return err_sys(err, rc, "read");
		if (!bytes_zero(sector, DIGEST_SECTOR) && digest_sector_check(sector, number, &used))
			return err_set(err, -EBADMSG, "sector %llu is damaged", (unsigned long long)number);
		for (; rc == 0 && at < stop; at++) {
			struct digest digest;
			memcpy(digest.bytes, sector + at % DIGEST_TABLE_PER_SECTOR * DIGEST_SIZE, DIGEST_SIZE);
			rc = digest_is_zero(&digest) ? 0 : each(context, at, &digest, err);
		}
	}
	return rc;
}
