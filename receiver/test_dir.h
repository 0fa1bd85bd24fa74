// SPDX-License-Identifier: Apache-2.0
// One test on disk: writable overlays on a point, in a directory that is there as a whole or not at all.
// Format and order of writes: docs/store.md, "Test".
//
//	STORE/<protection>/tests/<name>/<disk>.qcow2    over points/<n>/<disk>.qcow2
//	STORE/<protection>/tests/<name>/test.json       what it stands on and since when
//
// Whoever calls holds the point, and one call at a time is made for one protection.
#ifndef KAGAMI_RECEIVER_TEST_DIR_H
#define KAGAMI_RECEIVER_TEST_DIR_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "base/size.h"

#include <stdbool.h>
#include <stdint.h>

enum { TEST_PATH_SIZE = 256 };

struct test_info {
	char protection[NAME_SIZE];
	char name[NAME_SIZE];
	uint64_t point; // 0: not known
	int64_t cut_wall_ns;
	int64_t started_wall_ns;
	uint16_t disk_count;
	char disk[DISKS_MAX][NAME_SIZE];
	char reason[ERR_TEXT_MAX]; // why it cannot be used; "" when it can. Not stored
};

// Makes the test on disks of `size` bytes each, durable on return. After a failure *ret_there says whether it is there all the
// same, and may be gone after a power cut; otherwise nothing is left that the next start does not delete.
int test_dir_make(struct env_root *root, const struct test_info *test, const uint64_t *size, bool *ret_there, struct err *err);
// What test.json of the test `name` says. -EBADMSG and others when it cannot be trusted.
int test_dir_load(struct env_root *root, const char *protection, const char *name, struct test_info *ret_test, struct err *err);
// Takes the test away from its name, for certain: then its point may be let go. Its files are at *ret_trash, to be deleted
// by env_remove_tree(), or at the next start. -ENOENT when there is none.
int test_dir_leave(struct env_root *root, const char *protection, const char *name, char ret_trash[TEST_PATH_SIZE],
		   struct err *err);
// Deletes what was being made when a receiver ended, and makes the names that are there durable.
int test_dir_clear(struct env_root *root, const char *protection, struct err *err);

#endif
