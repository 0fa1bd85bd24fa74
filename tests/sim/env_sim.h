// SPDX-License-Identifier: Apache-2.0
// The simulated world: the second implementation of base/env.h, in memory, which loses what a disk may lose.
//
//	struct sim *sim = sim_new(seed);
//	sim_set_chooser(sim, &chooser);
//	... use sim_env(sim) ...
//	sim_power_off(sim);                // or sim_crash_at(sim, op) beforehand
//	sim_power_on(sim);
//	... what is there now? ...
//
// THE MODEL. Each rule is a test in tests/unit/test_sim.c.
//
// Contents. A file is sectors of 512 bytes. A sector that was written since the last env_sync of the file holds, after a
// power cut, what it held at that sync or any of the versions written since; each sector for itself, in no order. A sector
// that was first written behind the size at the last sync may also hold garbage. The size is that of the last sync or any
// it had since; behind an old end everything is gone, before a new end lie zeros where nothing survived.
// At most SIM_VERSIONS_MAX versions of a sector or size are kept: the synced one and the newest.
//
// Names. A create, mkdir, unlink, rmdir, rename or exchange is one *event*. It happens wholly or not at all; a rename never shows
// both names nor neither, an exchange never one half (so do ext4, xfs and btrfs, whose journals hold a rename as one record). Until it is certain it
// may or may not have happened, and events on different names survive in any order (journals keep the order; nothing
// that env.h promises says so). Events on the *same* name keep their order: one that happened implies those on its
// names before it. So a rotation of two renames never loses the file that it moves first.
// An event is certain after env_sync_dir of the directory that holds the name it made or removed; for a rename or exchange
// between directories that is the *new* one, of the second name. A sync of the old directory alone leaves it open: ext4, xfs and btrfs would do more, but
// env.h promises a name only to the directory that holds it. env_sync of a file does nothing for its name.
// A file or directory may have its name and not its contents: they are synced apart, and a renamed directory's own
// entries are certain only by a sync of that directory.
//
// Failure. A failed sync lies afterwards: what was unsynced reads as new, is never made certain by a later sync that
// succeeds, and after a power cut (or sim_drop_caches) is old or new. Written again, it can be synced again. A failed
// env_sync_dir is the same for its events. A failed write has written nothing, its first half, or all. Any other failed
// operation has done nothing.
//
// Undecided. After a power cut nothing is decided until it is looked at: a sector when it is read (or partly overwritten),
// a size when it matters, an event when a name it touches is looked up or listed. Then choose() decides, 0 being the oldest,
// and it stays so. Alternatives that are equal are one. So only states that the reader can tell apart are explored.
//
// Handles. After a power cut every handle answers -ESHUTDOWN for ever, and so does everything until sim_power_on().
// Locks end with the handle or the power. Closing always works.
//
// Time goes one microsecond on with each operation. Random bytes come from the seed. The same calls give the same world.
// Threads: any, one lock around every call. sim_ calls are the test's, with nothing else under way.
#ifndef KAGAMI_SIM_ENV_SIM_H
#define KAGAMI_SIM_ENV_SIM_H

#include "base/env.h"
#include "tests/sim/chooser.h"

enum { SIM_VERSIONS_MAX = 8, SIM_SAVES_MAX = 4 };
#define SIM_NEVER UINT64_MAX

struct sim;

// An empty disk of 1 TiB; "/" is its root. Aborts when out of memory, as everything here does.
struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *sim); // takes NULL; handles that are still open are freed too
struct env *sim_env(struct sim *sim);
struct sim *sim_of_env(struct env *env); // whose it is
// Who decides what is undecided, kept by the caller. NULL: nothing that was not synced survives.
void sim_set_chooser(struct sim *sim, struct chooser *chooser);

// Power.
void sim_power_off(struct sim *sim);
void sim_power_on(struct sim *sim);
bool sim_is_off(const struct sim *sim);
// Every process dies, the machine lives: handles answer -ESHUTDOWN, what was written stays.
void sim_kill(struct sim *sim);
// What a failed sync left in the cache is read from the disk from now on.
void sim_drop_caches(struct sim *sim);
// Makes everything as it is now certain, as if it had been written long ago.
void sim_settle(struct sim *sim);

// Operations are numbered from 0 (clock and close are none). Switches the power off instead of number `op`.
uint64_t sim_ops(const struct sim *sim);
void sim_crash_at(struct sim *sim, uint64_t op);
// The same, but the disk is not touched: sim_power_on() makes it a process that was killed there, sim_power_off() a power cut.
void sim_halt_at(struct sim *sim, uint64_t op);
// Before each operation that may change the disk, choose(2) decides whether the power goes off; `most` times at most.
void sim_crash_anywhere(struct sim *sim, unsigned most);
// Operation `op`, if sticky all from it on, fails with `code`. -ENOSPC fails only those that can run out of space.
void sim_fail_at(struct sim *sim, uint64_t op, int code, bool sticky);
// From now on everything that would change a file under the directory `path`, or a name in it, fails with -EIO; reads go on. NULL: no more. The power going off changes nothing of that.
void sim_fail_under(struct sim *sim, const char *path);
bool sim_has_failed(const struct sim *sim); // whether one did since sim_fail_at
void sim_set_space(struct sim *sim, uint64_t free_bytes);
void sim_set_exchange(struct sim *sim, bool can); // whether env_exchange works, as it does at first

void sim_clock_advance(struct sim *sim, uint64_t ns); // time passes
void sim_clock_step(struct sim *sim, int64_t ns);     // the wall clock is set

// The world as it is now, to come back to any number of times; saves nest. Costs next to nothing either way: what is
// changed afterwards is copied first. Faults that are set and handles are not part of it: a restore kills the handles.
void sim_save(struct sim *sim);
void sim_restore(struct sim *sim); // the newest save, which stays
void sim_drop(struct sim *sim);	   // forgets the newest save; the world stays as it is

unsigned sim_handles(const struct sim *sim); // roots and files not closed yet
size_t sim_memory(const struct sim *sim);    // bytes that the world takes

// A record of the operations from now on, until sim_trace(sim, false).
struct sim_step {
	char text[120];	 // "rename head points/2"
	bool changed;	 // the disk, or what is certain about it
	bool certain;	 // it made something certain
};
void sim_trace(struct sim *sim, bool on);
const struct sim_step *sim_step(const struct sim *sim, uint64_t op); // NULL when it was not recorded
const char *sim_last_step(const struct sim *sim); // where the power went off or the failure came

#endif
