// SPDX-License-Identifier: Apache-2.0
// A ledger on disk: docs/rpo.md, "On disk". A file of fixed size, written in place; each sector of it checks itself, so that whatever a crash
// leaves is slots as they were at one save or another, or gaps. It is history: what cannot be written is tried anew, and never stops anything.
#ifndef KAGAMI_RPO_LEDGER_FILE_H
#define KAGAMI_RPO_LEDGER_FILE_H

#include "base/env.h"
#include "base/err.h"
#include "rpo/ledger.h"

enum { LEDGER_SECTOR = 512, LEDGER_MISSES_A_SECTOR = 12 };
enum {
	LEDGER_HEADERS = 2,
	LEDGER_MISS_SECTORS = LEDGER_MISSES / LEDGER_MISSES_A_SECTOR,
	LEDGER_FIRST_SLOT = LEDGER_HEADERS + LEDGER_MISS_SECTORS,
	LEDGER_SECTORS = LEDGER_FIRST_SLOT + LEDGER_SLOTS,
	LEDGER_FILE_SIZE = LEDGER_SECTORS * LEDGER_SECTOR,
	LEDGER_SYNC_SECONDS = 300,
	LEDGER_PATH_SIZE = 160,
};

#define LEDGER_UNREAD ".unread" // behind the name of one that was moved aside

struct ledger_file {
	struct env_root *root;
	char name[LEDGER_PATH_SIZE];
	struct env_file *file; // NULL: opened by the next save
	bool made;	       // it is there, and ours; else the next save makes it anew
	unsigned char instance[8];
	uint64_t sequence;
	uint64_t synced_ns; // by the monotonic clock
	bool unread; // there is one that could only not be read: the next save moves it aside
	bool named; // its name is durable, too
};

// `name` below `root`, in a directory that is there.
void ledger_file_init(struct ledger_file *file, struct env_root *root, const char *name);
// Gives the descriptor back; the next save opens it again.
void ledger_file_close(struct ledger_file *file);

// Reads what there is. ledger_resume() comes next. -ENOENT, -EBADMSG (with what is wrong in `err`) and errors of the disk: the ledger is to be
// begun with ledger_init(), and the first save replaces the file: one that is damaged is removed, one that could only not be read is moved aside (LEDGER_UNREAD).
int ledger_file_load(struct ledger_file *file, struct ledger *ledger, struct err *err);

// The same of bytes in memory. -EBADMSG.
int ledger_file_decode(struct ledger_file *file, const unsigned char data[LEDGER_FILE_SIZE], struct ledger *ledger);

// Writes what changed since the last save, and syncs at most every LEDGER_SYNC_SECONDS. After an error but for want of space the next save makes the file anew.
// Whoever saves a copy calls ledger_changed() for the original when that failed: the next save writes all there is.
void ledger_changed(struct ledger *ledger);
int ledger_file_save(struct ledger_file *file, struct ledger *ledger, struct err *err);

#endif
