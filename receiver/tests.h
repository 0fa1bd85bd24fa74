// SPDX-License-Identifier: Apache-2.0
// Tests: writable disks on a recovery point, beside a replication that goes on, to be thrown away. What is written there changes
// nothing else, and the point is held for as long as the test is there, also through restarts of the receiver.
//
// Threads: any. Starting and stopping take their turns; listing waits for neither.
#ifndef KAGAMI_RECEIVER_TESTS_H
#define KAGAMI_RECEIVER_TESTS_H

#include "receiver/store.h"
#include "receiver/test_dir.h"

enum { TESTS_MAX = 256 };

struct tests;

// Reads what tests there are, and holds their points again. Where they cannot be listed, every point is held, and that is no error. Call before anything can
// be folded; `store` must outlive the tests.
int tests_open(struct store *store, struct tests **ret_tests, struct err *err);
// Lists those again that could not be. To be called now and then; costs nothing where all were.
void tests_look(struct tests *tests);
// The tests stay where they are. Takes NULL. No call may be under way.
void tests_close(struct tests *tests);

// Starts a test on point `point` (0: the newest). `name` NULL: the first free one of test-1, test-2, ... Durable on return.
// -ENOENT protection or point, -EEXIST the name is taken, -EINVAL the name cannot be one, -EBUSY TESTS_MAX are there, -EUCLEAN the point is not sound, unless
// `damaged`.
int tests_start(struct tests *tests, const char *protection, const char *name, uint64_t point, bool damaged, struct test_info *ret_test,
		struct err *err);

// Throws a test away and lets its point go. -ENOENT; -EBUSY while a virtual machine has a disk of it open, unless `force`.
int tests_stop(struct tests *tests, const char *protection, const char *name, bool force, struct err *err);

// -EBUSY, which names one, when there is a test of the protection.
int tests_none(struct tests *tests, const char *protection, struct err *err);

// The n-th test, by protection and start; false past the last.
bool tests_at(struct tests *tests, size_t n, struct test_info *ret_test);

// The absolute path of a test's disk, and the bytes that all of its disks take.
int tests_path(const struct tests *tests, const struct test_info *test, unsigned disk, char *path, size_t cap);
// Whether a virtual machine has it open: -EBUSY, or 0.
int tests_unused(const struct tests *tests, const struct test_info *test, unsigned disk, struct err *err);
uint64_t tests_bytes(const struct tests *tests, const struct test_info *test);
// A command line that boots the disks, without a network card. The caller frees; NULL when out of memory.
char *tests_command(const struct tests *tests, const struct test_info *test);

#endif
