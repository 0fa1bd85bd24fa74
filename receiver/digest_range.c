// SPDX-License-Identifier: Apache-2.0
// Parts of digest files, for the scrub: what a few blocks must be, without reading the digests of all. Each sector proves itself; that a list
// as a whole is the one that point.json names is proven where all of it is read.
#include "receiver/digest_file.h"

#include "base/bytes.h"
#include "receiver/digest_sector.h"

#include <errno.h>

// -EBADMSG when it does not check.
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

// What is looked for in a list, sector by sector.
struct walk {
	struct env_file *file;
	uint64_t blocks, first, end;
	uint64_t sectors, entries; // of the list
	uint64_t from;		   // behind the last entry of a good sector
	uint64_t missing;	   // entries of the damaged sectors since
	bool past;		   // what comes is behind the range
	digest_each *each;
	digest_lost *lost;
	void *context;
};

static uint64_t entries_of(const struct walk *w, uint64_t number)
{
	return min_u64(DIGEST_LIST_PER_SECTOR, w->entries - (number - 1) * DIGEST_LIST_PER_SECTOR);
}

// One of the list's; *ret_good is false, and no error where the caller may do without, when it is not as it was written.
static int list_sector(const struct walk *w, uint64_t number, unsigned char sector[DIGEST_SECTOR], bool *ret_good, struct err *err)
{
	uint32_t used = 0;
	struct err why = {0};
	int rc = sector_read(w->file, number, sector, &used, &why);
	if (rc == 0 && used != entries_of(w, number))
		rc = err_set(&why, -EBADMSG, "sector %llu is damaged", (unsigned long long)number);
	*ret_good = rc == 0;
	return rc == 0 || (rc == -EBADMSG && w->lost) ? 0 : err_set(err, rc, "%s", why.text);
}

// The good sector nearest to `from` on the way to `to`, with it, but not `stop`; `stop` when there is none.
static int good_find(const struct walk *w, uint64_t from, uint64_t stop, unsigned char sector[DIGEST_SECTOR], uint64_t *ret_number, struct err *err)
{
	bool good = false;
	int rc = 0;
	while (from != stop && (rc = list_sector(w, from, sector, &good, err)) == 0 && !good)
		from += from < stop ? 1 : UINT64_MAX;
	*ret_number = from;
	return rc;
}

// A sector before which no entry for `first` lies: the last one whose first entry is at or before it, or damaged ones away from that.
static int list_find(const struct walk *w, uint64_t *ret_number, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	uint64_t low = 1, high = w->sectors - 1; // the answer is among them
	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2, at = middle;
		int rc = good_find(w, middle, low, sector, &at, err);
		if (rc == 0 && at == low) // none there: upwards, then
			rc = good_find(w, middle, high + 1, sector, &at, err);
		if (rc)
			return rc;
		if (at > high)
			break;
		if (entry_index(sector, 0) <= w->first)
			low = at;
		else
			high = at > middle ? low : at - 1;
	}
	*ret_number = low;
	return 0;
}

static int list_tell_lost(struct walk *w, uint64_t end, struct err *err)
{
	uint64_t from = w->from, missing = w->missing;
	w->missing = 0;
	end = min_u64(end, w->blocks);
	if (from >= end) { // what came is in no order: then they may be anywhere
		from = 0;
		end = w->blocks;
	}
	return missing && from < w->end && end > w->first ? w->lost(w->context, from, end, missing, err) : 0;
}

static int list_take(struct walk *w, const unsigned char *sector, uint32_t used, struct err *err)
{
	int rc = list_tell_lost(w, entry_index(sector, 0), err);
	for (uint32_t i = 0; rc == 0 && i < used; i++) {
		struct digest digest;
		uint64_t index = entry_index(sector, i);
		w->from = index + 1;
		w->past = index >= w->end;
		if (w->past)
			return 0;
		memcpy(digest.bytes, sector + (size_t)i * DIGEST_ENTRY_SIZE + 8, DIGEST_SIZE);
		rc = index < w->first ? 0 : w->each(w->context, index, &digest, err);
	}
	return rc;
}

int digest_list_range(struct env_file *file, const struct digest_disk *disk, uint64_t entries, uint64_t first, uint64_t end,
		      digest_each *each, digest_lost *lost, void *context, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	struct walk w = {.file = file, .blocks = size_blocks(disk->size), .first = first, .end = end, .entries = entries, .past = entries == 0,
			 .sectors = digest_list_length(entries) / DIGEST_SECTOR, .each = each, .lost = lost, .context = context};
	uint64_t number = w.sectors;
	int rc = digest_length_expect(file, digest_list_length(entries), err);
	if (rc == 0)
		rc = digest_prelude_expect(file, DIGEST_LIST, disk, entries, err);
	if (rc == -EUCLEAN)
		rc = lost ? 0 : err_set(err, -EBADMSG, "the prelude is damaged");
	if (rc == 0 && !w.past)
		rc = list_find(&w, &number, err);
	for (; rc == 0 && !w.past && number < w.sectors; number++) {
		bool good = false;
		rc = list_sector(&w, number, sector, &good, err);
		if (rc == 0 && good)
			rc = list_take(&w, sector, (uint32_t)entries_of(&w, number), err);
		else
			w.missing += entries_of(&w, number);
	}
	return rc ? rc : list_tell_lost(&w, w.blocks, err);
}

int digest_table_range(struct env_file *file, const struct digest_disk *disk, uint64_t first, uint64_t end, digest_each *each,
		       digest_lost *lost, void *context, struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	int rc = digest_table_check(file, disk, err);
	for (uint64_t at = first; rc == 0 && at < end;) {
		uint64_t number = 1 + at / DIGEST_TABLE_PER_SECTOR, stop = min_u64(end, number * DIGEST_TABLE_PER_SECTOR);
		uint32_t used;
		rc = env_pread_full(file, sector, DIGEST_SECTOR, number * DIGEST_SECTOR);
		if (rc)
			return err_sys(err, rc, "read");
		if (!bytes_zero(sector, DIGEST_SECTOR) && digest_sector_check(sector, number, &used)) {
			rc = lost ? lost(context, at, stop, stop - at, err)
				  : err_set(err, -EBADMSG, "sector %llu is damaged", (unsigned long long)number);
			at = stop;
			continue;
		}
		for (; rc == 0 && at < stop; at++) {
			struct digest digest;
			memcpy(digest.bytes, sector + at % DIGEST_TABLE_PER_SECTOR * DIGEST_SIZE, DIGEST_SIZE);
			rc = digest_is_zero(&digest) ? 0 : each(context, at, &digest, err);
		}
	}
	return rc;
}
