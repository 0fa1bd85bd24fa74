// SPDX-License-Identifier: Apache-2.0
// Digests on disk: the list of a point and the table of the base. Format: docs/store.md.
//
// All I/O goes through base/env. Nothing that is read is trusted: -EBADMSG with what is wrong.
#ifndef KAGAMI_RECEIVER_DIGEST_FILE_H
#define KAGAMI_RECEIVER_DIGEST_FILE_H

#include "base/env.h"
#include "base/err.h"
#include "base/size.h"
#include "format/digest.h"
#include "receiver/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	DIGEST_SECTOR = 512,
	DIGEST_PAYLOAD = 496,
	DIGEST_ENTRY_SIZE = 8 + DIGEST_SIZE,
	DIGEST_LIST_PER_SECTOR = DIGEST_PAYLOAD / DIGEST_ENTRY_SIZE,
	DIGEST_TABLE_PER_SECTOR = DIGEST_PAYLOAD / DIGEST_SIZE,
	DIGEST_ROOT_SIZE = 32,
};

// What is asked between two pieces of a file that is read as a whole. Anything but 0 ends that, and is its result; `err` says why.
struct digest_rest {
	int (*look)(void *context, struct err *err);
	int (*grown)(void *context, struct err *err); // likewise, after what is loaded has taken more memory; NULL: nobody is asked
	void *context;
};

// Which disk a file is about: both sides must agree.
struct digest_disk {
	enum digest_kind kind; // that its digests are of
	uint16_t number;
	uint64_t size; // bytes
	bool given_up; // sectors that the disk does not give back (EIO) count as damaged
	const struct digest_rest *rest; // NULL: nobody is asked
};

// No digest of a block, but for a chance of 2^-128: what is compared with it differs.
extern const struct digest digest_unknown;

typedef int digest_each(void *context, uint64_t index, const struct digest *digest, struct err *err);
// Sectors do not check that had `missing` digests, of blocks in [first, end); of a table, of all of them. Told in order with the entries.
typedef int digest_lost(void *context, uint64_t first, uint64_t end, uint64_t missing, struct err *err);

static inline bool digest_is_unknown(const struct digest *digest)
{
	return digest_equal(digest, &digest_unknown);
}

// Length in bytes of a list of `entries`, and of the table of a disk of `size` bytes.
uint64_t digest_list_length(uint64_t entries);
uint64_t digest_table_length(uint64_t size);

// Writes what `digests` holds to the empty `file` and syncs it. `ret_root` is the SHA-256 of the entries.
int digest_list_save(struct env_file *file, const struct digest_disk *disk, const struct table *digests,
		     unsigned char ret_root[DIGEST_ROOT_SIZE], struct err *err);
// Calls `each` for every entry in order, and proves the root at the end: a caller that changes something for good reads
// the list once with `each` NULL before.
int digest_list_load(struct env_file *file, const struct digest_disk *disk, uint64_t entries,
		     const unsigned char root[DIGEST_ROOT_SIZE], digest_each *each, void *context, struct err *err);
// The same for a list that may be damaged: what its good sectors say, and of the others what they may have named. A prelude that does not check
// costs nothing, as the root proves the entries; where sectors are lost the others have but their own checks. -EBADMSG when all sectors check and the root does
// not match, or the length is another.
int digest_list_salvage(struct env_file *file, const struct digest_disk *disk, uint64_t entries,
			const unsigned char root[DIGEST_ROOT_SIZE], digest_each *each, digest_lost *lost, void *context, struct err *err);

// Of a list whose sectors all check: how many entries it has, and the root that they have, where nobody knows any more which it should be. -EBADMSG.
int digest_list_survey(struct env_file *file, const struct digest_disk *disk, digest_each *each, void *context, uint64_t *ret_entries,
		       unsigned char ret_root[DIGEST_ROOT_SIZE], struct err *err);

// Makes the table of a disk of zeros in the empty `file` and syncs it.
int digest_table_create(struct env_file *file, const struct digest_disk *disk, struct err *err);
// Writes to one that was just made that nobody knows the digest of any block below `blocks`. The caller syncs.
int digest_table_forget(struct env_file *file, uint64_t blocks, struct err *err);
// Whether length and prelude are those of a table of `disk`, or of the same disk when it is larger. A prelude that does not check says nothing,
// and is no error: all that it should say is known.
int digest_table_check(struct env_file *file, const struct digest_disk *disk, struct err *err);
// Makes it the table of the disk with the larger size in `disk`; what is new is zeros. Durable on return, and valid for the old size in
// every crash state. A failed sync is -EIO. Never makes it smaller.
int digest_table_grow(struct env_file *file, const struct digest_disk *disk, struct err *err);
// Writes the prelude of a table of `disk` anew when it does not check, and syncs it; where that cannot be, it stays as it is. -EIO: the sync failed.
int digest_table_mend(struct env_file *file, const struct digest_disk *disk, bool *ret_mended, struct err *err);
// Calls `each` for every digest that is not zero, in order. Reads no hole, where the file system tells of them.
int digest_table_load(struct env_file *file, const struct digest_disk *disk, digest_each *each, void *context,
		      struct err *err);
// The same for a table that may be damaged.
int digest_table_salvage(struct env_file *file, const struct digest_disk *disk, digest_each *each, digest_lost *lost, void *context,
			 struct err *err);

// digest_range.c: the same for blocks [first, end) only, but what is lost is told as it is, beyond the range too. A list's sectors are proven, its
// root is not. With `lost` NULL what does not check is -EBADMSG.
int digest_list_range(struct env_file *file, const struct digest_disk *disk, uint64_t entries, uint64_t first, uint64_t end,
		      digest_each *each, digest_lost *lost, void *context, struct err *err);
int digest_table_range(struct env_file *file, const struct digest_disk *disk, uint64_t first, uint64_t end, digest_each *each,
		       digest_lost *lost, void *context, struct err *err);

// Changes a table in place for digests in rising order of index: reads a window of sectors, the more of them the closer together they are that are asked for, and writes those of
// it that were set. The caller syncs. Of a sector that does not check, the digests that are not set are unknown from then on.
enum { DIGEST_WINDOW_MIN = 8, DIGEST_WINDOW_MAX = 128 };
struct digest_update {
	struct env_file *file;
	const struct digest_disk *disk;
	bool dry;	 // the caller's: nothing is written
	uint64_t lost;	 // sectors that did not check
	uint64_t first, count; // sectors in the window; none at first
	uint64_t behind; // the sector behind the newest window
	uint64_t wish;	 // how many that had, where it could
	bool set[DIGEST_WINDOW_MAX];
	unsigned char buf[DIGEST_WINDOW_MAX * DIGEST_SECTOR];
};
void digest_update_init(struct digest_update *update, struct env_file *file, const struct digest_disk *disk);
// Whether the digest can be set without a window being written and another read.
bool digest_update_has(const struct digest_update *update, uint64_t index);
int digest_update_set(struct digest_update *update, uint64_t index, const struct digest *digest, struct err *err);
int digest_update_flush(struct digest_update *update, struct err *err);

// The decoder of one sector, for tests and fuzzing: -EBADMSG unless its check and number are right.
int digest_sector_check(const unsigned char sector[DIGEST_SECTOR], uint64_t number, uint32_t *ret_used);

#endif
