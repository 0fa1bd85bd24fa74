// SPDX-License-Identifier: Apache-2.0
// A disk with a bad place: what reads it gets an error, and everything else goes on. Laid over an env; one bad place at a time.
#ifndef KAGAMI_TESTS_LIB_BAD_DISK_H
#define KAGAMI_TESTS_LIB_BAD_DISK_H

#include "base/env.h"

#define BAD_DISK_WHOLE (UINT64_C(1) << 40) // the length of any file

// Before the first thread of a test, and after its last. A test that failed in between costs the next one nothing.
void bad_disk_begin(struct env *env);
void bad_disk_end(void);

// Reads of bytes [at, at + len) of the file that is opened by `name` give `code` from now on, also by who has it open.
void bad_disk_set(const char *name, uint64_t at, uint64_t len, int code);
// The next read of byte `at` of that file, and no other, shows it flipped: as one that meets a write half way.
void bad_disk_tear(const char *name, uint64_t at);
// Of the reads of that byte in turn, the i-th gives `code` where bit i of `reads` is set: it comes and goes.
void bad_disk_blink(const char *name, uint64_t at, int code, uint64_t reads);
// Opening any file whose name ends in `suffix` gives `code` from now on, but for the next `after` times: no descriptors, or, of what is made anew, no space.
void bad_disk_refuse(const char *suffix, unsigned after, int code);
void bad_disk_hide(const char *name, int code); // to look at that name, without opening it, or to list it, gives `code`
void bad_disk_unname(const char *name, int code); // to give that name to a file gives `code`: no space
void bad_disk_heal(void);
unsigned bad_disk_hits(void); // since bad_disk_begin()

// Where the L2 table of an overlay lies that has block `block`, and the cluster of a block that is not packed.
uint64_t bad_disk_table(struct env *env, const char *root, const char *name, uint64_t block);
uint64_t bad_disk_cluster(struct env *env, const char *root, const char *name, uint64_t block);

#endif
