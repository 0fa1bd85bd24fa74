// SPDX-License-Identifier: Apache-2.0
// The errors of one disk's image: which of them are told, and what is shown of them.
//
// A dying disk fails thousands of times a second. So of each kind of operation an error is told when it is the first, when it is another one than
// was told last (but not within DISK_ERRORS_PAUSE_NS), and when the last was told DISK_ERRORS_AGAIN_NS ago. One that makes the disk failed for
// good is always told, once, and from then on it is what is shown.
#ifndef KAGAMI_REPLICATOR_DISK_ERRORS_H
#define KAGAMI_REPLICATOR_DISK_ERRORS_H

#include "base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DISK_ERRORS_PAUSE_NS UINT64_C(10000000000)
#define DISK_ERRORS_AGAIN_NS UINT64_C(600000000000)

enum disk_fault {
	FAULT_READ,  // of a guest
	FAULT_WRITE, // likewise, and whatever else changes the image
	FAULT_SYNC,
	FAULT_COPY, // a read for a cycle
	FAULT_OLD,  // a read of what a guest is about to overwrite
	FAULT_STAT, // it could not be asked what it is
	FAULT_KINDS,
};

enum disk_news {
	DISK_NEWS_NONE, // it is not to be told
	DISK_NEWS_ERROR,
	DISK_NEWS_FAILED, // it is what made the disk fail for good
};

struct disk_errors {
	// Written by the export's thread, read by any.
	_Atomic uint64_t count, last_ns;
	_Atomic bool failed; // no flush is promised any more
	pthread_mutex_t lock;
	char text[ERR_TEXT_MAX]; // under the lock; "" without one
	// The export's thread's.
	struct disk_error {
		int res;
		uint64_t told_ns;
	} kind[FAULT_KINDS]; // res 0: none was told yet
};

void disk_errors_init(struct disk_errors *errors);
void disk_errors_done(struct disk_errors *errors);
// By the export's thread. What is to be told, by disk_errors_show(). `failed`: by this one, or one before it, the disk failed for good.
enum disk_news disk_errors_add(struct disk_errors *errors, enum disk_fault fault, int res, bool failed, uint64_t now_ns);
// By the export's thread, of one that is told: when and what. Takes the place of what is shown, but for why the disk failed.
void disk_errors_show(struct disk_errors *errors, const char *when, enum disk_fault fault, const char *path, uint64_t off, int res, bool failed,
		      struct err *ret_err);
// Before that thread runs: the disk failed for good before this start, for this reason.
void disk_errors_restore(struct disk_errors *errors, const char *text);
// By the export's thread: as if there had been none.
void disk_errors_clear(struct disk_errors *errors);
// Any thread. "" when there was none.
void disk_errors_text(struct disk_errors *errors, char text[ERR_TEXT_MAX]);

#endif
