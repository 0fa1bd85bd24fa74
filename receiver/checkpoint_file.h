// SPDX-License-Identifier: Apache-2.0
// head/checkpoint: what of the head is durable. Format: docs/store.md, "head/checkpoint".
//
// A journal of sections that each prove themselves. All I/O goes through base/env. Nothing that is read is trusted.
#ifndef KAGAMI_RECEIVER_CHECKPOINT_FILE_H
#define KAGAMI_RECEIVER_CHECKPOINT_FILE_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "format/digest.h"

#include <stddef.h>
#include <stdint.h>

enum {
	CHECKPOINT_SECTOR = 512,
	CHECKPOINT_HEAD_SIZE = 128,
	CHECKPOINT_RECORD_SIZE = 48,
	CHECKPOINT_RECORDS_MAX = 4096, // of a section
	CHECKPOINT_SECTION_MAX = (CHECKPOINT_HEAD_SIZE + CHECKPOINT_RECORDS_MAX * CHECKPOINT_RECORD_SIZE + 4 + CHECKPOINT_SECTOR - 1) /
				 CHECKPOINT_SECTOR * CHECKPOINT_SECTOR,
};

enum checkpoint_kind { CHECKPOINT_DISK = 1, CHECKPOINT_BLOCK = 2 };

struct checkpoint_record {
	enum checkpoint_kind kind;
	uint16_t disk;
	uint32_t codec; // DISK: of the overlay
	uint64_t index; // BLOCK; DISK: size of the disk in bytes
	uint64_t where; // BLOCK: its slot; DISK: clusters of the overlay
	uint64_t bits;
	struct digest digest; // BLOCK
};

// Which head a journal is of, and which checkpoint of it.
struct checkpoint_id {
	struct uuid instance; // of the journal
	uint64_t predecessor; // the point that the head stands on; 0: none
	struct uuid cut;      // of that point; null without one
	uint64_t number;      // of the checkpoint, from 1, rising
	uint64_t base;	      // number of the one that it follows; 0: the journal begins with it
};

struct checkpoint_section {
	struct checkpoint_id id;
	uint32_t part; // of its checkpoint, from 0
	bool last;
	uint32_t records;
	uint32_t length; // in bytes, a multiple of CHECKPOINT_SECTOR
};

// The section at `from`, of which `len` bytes are there. -EBADMSG unless it is whole. The records follow its first CHECKPOINT_HEAD_SIZE bytes.
int checkpoint_section_decode(const unsigned char *from, size_t len, struct checkpoint_section *ret_section);
int checkpoint_record_decode(const unsigned char from[CHECKPOINT_RECORD_SIZE], struct checkpoint_record *ret_record);

// Writes one checkpoint behind the `at` first bytes of a file: init, put for each record, end. The caller syncs. After a failure the file
// holds what it held, and something behind it that the reader takes for none.
struct checkpoint_writer {
	struct env_file *file;
	uint64_t at; // where the next section goes; after end: the length of the journal
	struct checkpoint_section section;
	unsigned char *buf;
};
int checkpoint_writer_init(struct checkpoint_writer *writer, struct env_file *file, uint64_t at, const struct checkpoint_id *id); // -ENOMEM
int checkpoint_put(struct checkpoint_writer *writer, const struct checkpoint_record *record, struct err *err);
int checkpoint_end(struct checkpoint_writer *writer, struct err *err);
void checkpoint_writer_done(struct checkpoint_writer *writer);

struct checkpoint_extent { // of a journal: its first `length` bytes, up to the end of checkpoint `id`
	struct checkpoint_id id;
	uint64_t length;
	uint64_t records;
};
// Finds the newest whole checkpoint. -ENOENT when there is none. -EBADMSG when what follows it shows that it is not the newest: a later one is
// there, and what lies between is damaged.
int checkpoint_find(struct env_file *file, struct checkpoint_extent *ret_extent, struct err *err);

typedef int checkpoint_each(void *context, const struct checkpoint_record *record, struct err *err);
// Calls `each` for every record of the extent, in order: of several about a block the last one counts.
int checkpoint_read(struct env_file *file, const struct checkpoint_extent *extent, checkpoint_each *each, void *context, struct err *err);
// Writes what is there once more and syncs: so it is durable whatever became of an earlier sync. What is behind the extent goes.
int checkpoint_settle(struct env_file *file, const struct checkpoint_extent *extent, struct err *err);

#endif
