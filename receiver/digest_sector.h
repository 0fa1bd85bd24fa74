// SPDX-License-Identifier: Apache-2.0
// What digest_file.c, digest_table.c and digest_range.c share: sectors and the prelude. Format: docs/store.md.
#ifndef KAGAMI_RECEIVER_DIGEST_SECTOR_H
#define KAGAMI_RECEIVER_DIGEST_SECTOR_H

#include "base/cursor.h"
#include "base/names.h"
#include "receiver/digest_file.h"

enum { DIGEST_VERSION = 1 };
enum digest_file_kind { DIGEST_LIST = 1, DIGEST_TABLE = 2 };

struct digest_prelude {
	enum digest_file_kind kind;
	struct uuid instance;
	struct digest_disk disk;
	uint64_t entries;
};

// Fills in number, use and check of a sector whose payload is there.
void digest_sector_seal(unsigned char sector[DIGEST_SECTOR], uint64_t number, uint32_t used);
void digest_prelude_encode(unsigned char sector[DIGEST_SECTOR], const struct digest_prelude *prelude);
// Sectors [number, number + count). With `given_up` those that the disk does not give back come as ones that do not check.
int digest_sectors_read(struct env_file *file, bool given_up, unsigned char *sectors, uint64_t count, uint64_t number);
// Reads the prelude of `file`, which must be of this version and `kind`. -EUCLEAN when its check or number is wrong: it says nothing then.
int digest_prelude_read(struct env_file *file, enum digest_file_kind kind, bool given_up, struct digest_prelude *ret_prelude, struct err *err);
// Reads the prelude of `file` and compares it with what it must be. -EUCLEAN as above.
int digest_prelude_expect(struct env_file *file, enum digest_file_kind kind, const struct digest_disk *disk,
			  uint64_t entries, struct err *err);
int digest_length_expect(struct env_file *file, uint64_t length, struct err *err);

#endif
