// SPDX-License-Identifier: Apache-2.0
// Failover: the disks of a recovery point made bootable, and the source fenced.
//
//	STORE/<protection>/failover/<disk>.qcow2    a writable overlay on points/<n>/<disk>.qcow2
//	STORE/<protection>/failover/failover.json   what was done and when; beside it failover.json.copy, the same bytes
//
// It can be taken back (replica_unfence) until it is committed (replica_fence_commit): receiver/store.h.
#ifndef KAGAMI_RECEIVER_FAILOVER_H
#define KAGAMI_RECEIVER_FAILOVER_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "base/size.h"
#include "receiver/store.h"
#include "receiver/watched.h"

#include <stdint.h>

// What a disk of it takes at most before its guest writes: four clusters of its overlay (header, L1 table, refcount table and block), of which few have data; the record has room in
// what they leave.
enum { FAILOVER_DISK_BYTES = 256 << 10 };

struct failover_info {
	char name[NAME_SIZE];
	uint64_t point;
	int64_t cut_wall_ns; // of the point
	uint64_t lost_ms;    // the age of that cut when failover was asked
	uint64_t duration_ms;
	uint64_t empty_bytes; // that its disks took when they were made
	bool unread;	      // its record does not read: what is known is where its disks are, and on which point
	uint16_t disk_count;
	char disk[DISKS_MAX][NAME_SIZE];
};

// Fails over to point `number` (0: the newest, or the one already failed over to). Done again for the same point it finishes
// what a crash cut short, and answers as the first time. -EALREADY for another point, -ENOENT without such a point. -EUCLEAN, and nothing is done, when the
// point is not sound and `damaged` is not said. `ages`: as of when it was asked; NULL: by the
// wall clock alone. One call at a time for one replica.
int failover_run(struct env *env, struct store *store, struct replica *replica, uint64_t number, bool damaged, const struct watched_ages *ages,
		 struct failover_info *ret_failover, struct err *err);

// What was done. -ENOENT while the failover of the protection `name` has not been done to its end: there is no failover/. With any other error there are disks, or may be,
// whose record, and the copy of that, does not read, or is of another point than the fence.
int failover_load(struct store *store, const char *name, struct failover_info *ret_failover, struct err *err);
// What is known of a failover without its record, as the replica is fenced: name, point, disks.
void failover_assume(const struct replica_info *replica, struct failover_info *ret_failover);

// The absolute path of a disk to boot from.
int failover_path(const struct store *store, const struct failover_info *failover, unsigned disk, char *path, size_t cap);

// Whether a program (a virtual machine, most likely) has a disk of the failover open for writing. -EBUSY, which names the
// disk, or 0. Asks the locks that QEMU takes.
int failover_unused(const struct store *store, const struct failover_info *failover, struct err *err);

// When one of its disks was written last, as its file system says; 0 when none was since they were made. It tells of a program
// that came and went between two looks at the locks, or while no receiver ran. For comparing with what it said before alone:
// the clock behind it may have been set.
int failover_written_last(const struct store *store, const struct failover_info *failover, int64_t *ret_ns, struct err *err);

// The same locks, taken for ourselves, so that no program opens a disk while it is thrown away. -EBUSY as above. What is not
// there needs none.
struct failover_locks {
	int fd[DISKS_MAX];
	unsigned count;
};
int failover_lock(const struct store *store, const struct replica_info *replica, struct failover_locks *ret_locks, struct err *err);
void failover_unlock(struct failover_locks *locks);

// How much was written to its disks since they were made: bytes on disk, so that some of it is the format's own. Without its record: all that they take.
uint64_t failover_written(const struct store *store, const struct failover_info *failover);

// A command line that boots the disks, quoted for a shell. The caller frees; NULL when out of memory.
char *failover_command(const struct store *store, const struct failover_info *failover);

// failover.json, as it is on disk; -EBADMSG with the member that is wrong.
int failover_decode(const char *text, size_t len, struct failover_info *ret_failover, struct err *err);

#endif
