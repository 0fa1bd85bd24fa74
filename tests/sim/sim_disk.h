// SPDX-License-Identifier: Apache-2.0
// Inside the simulated world: its memory, its files, its names. Only tests/sim/*.c include this.
//
// Everything that a save must keep hangs from struct world and lives in an arena. An object made before the newest save
// is never written: it is copied first (its `layer` is not sim->layer). A restore is the old struct world and the old end of
// the arena. sim_disk.c and sim_sync.c keep contents, sim_names.c directories; env_sim.c and sim_dirs.c are the operations,
// sim_power.c the faults and the power.
#ifndef KAGAMI_SIM_DISK_H
#define KAGAMI_SIM_DISK_H

#include "base/size.h"
#include "tests/sim/env_sim.h"

#include <pthread.h>

enum { CHUNK_SECTORS = 128, ROOT_INO = 1, NAME_LEN_MAX = 255, PATH_DEPTH_MAX = 32 };

// What is known of something that has been more than one thing.
enum doubt {
	DOUBT_DIRTY,	 // the newest is what is read; a sync makes it certain
	DOUBT_LOST,	 // the newest is what is read; a sync failed, and none makes it certain any more
	DOUBT_UNDECIDED, // the power went off: any of them, chosen when it is looked at
};

struct versions { // immutable
	unsigned char doubt;
	unsigned char count;
	unsigned char *old[SIM_VERSIONS_MAX]; // oldest first, without the newest
};

struct sector {
	unsigned char *now; // the newest; NULL: zeros
	struct versions *versions; // NULL: nothing else ever was
};

struct chunk {
	uint32_t layer;
	uint32_t doubts; // sectors with versions
	bool printed;	 // `print` is of what is here (sim_print.c)
	uint64_t print[2];
	struct sector sector[CHUNK_SECTORS];
};

struct slot {
	uint64_t index;
	struct chunk *chunk;
};

struct change {
	uint32_t event;
	uint32_t ino; // that the name stands for afterwards; 0: none
};

struct entry {
	const char *name;
	uint32_t ino; // before all changes
	uint32_t changes;
	struct change *change; // in order
};

struct inode {
	uint32_t layer;
	bool is_dir;
	bool counted;  // its sectors are part of world.used
	bool doubtful; // a sector or the size has versions
	unsigned char size_doubt;
	unsigned char sizes; // in size_old
	uint64_t size;
	uint64_t size_old[SIM_VERSIONS_MAX]; // oldest first, without the newest
	struct slot *slot;
	uint32_t slots, slot_room;
	struct entry *entry;
	uint32_t entries, entry_room;
};

enum event_state { EVENT_PENDING, EVENT_LOST, EVENT_UNDECIDED, EVENT_HAPPENED, EVENT_NOT };
enum { NO_EVENT = UINT32_MAX };

struct event {
	enum event_state state;
	uint32_t dir;	   // whose sync makes it certain
	uint32_t after[2]; // the events before it on the names that it changes
};

struct world {
	struct inode **inode; // by number; NULL: free
	uint32_t inodes, inode_room, inode_layer;
	struct event *event;
	uint32_t events, event_room, event_layer;
	uint32_t changes; // in all entries
	uint64_t used;	  // bytes allocated
	uint64_t limit;
	uint64_t mono_ns;
	int64_t wall_ns;
	uint64_t random;
	uint64_t ops;
	bool off;
};

struct arena_mark {
	size_t block;
	size_t used;
};

struct arena {
	unsigned char **block;
	size_t *size;
	size_t blocks;
	struct arena_mark at;
};

struct sim_save {
	struct world world;
	struct arena_mark mark;
};

struct sim_root {
	struct env_root base;
	struct sim_root *next;
	uint32_t ino;
	uint32_t life;
};

struct sim_file {
	struct env_file base;
	struct sim_file *next;
	uint32_t ino;
	uint32_t life;
	bool writable;
	bool locked;
};

struct sim {
	struct env env;
	pthread_mutex_t mutex;
	struct arena arena;
	struct world world;
	struct sim_save save[SIM_SAVES_MAX];
	unsigned saves;
	uint32_t layer;
	uint32_t life; // handles of another life are dead
	unsigned char *free_sector; // list through the first bytes; used only while there is no save
	uint32_t sweep_at; // number of inodes at which to look for dead ones
	struct chooser *chooser;
	bool can_exchange; // names
	struct sim_root *root;
	struct sim_file *file;
	uint64_t crash_at;
	bool crash_halts;
	unsigned crashes_left;
	uint64_t fail_at;
	int fail_code;
	bool fail_sticky;
	uint32_t dead_dir; // nothing under it changes any more; 0: none
	bool failed;
	bool tracing;
	struct sim_step *step;
	uint64_t step_first;
	size_t steps, step_room;
	struct sim_step last;
};

// Memory (sim_memory.c).
void *sim_alloc(struct sim *sim, size_t size); // not cleared; gone with a restore
unsigned char *sector_alloc(struct sim *sim);
void sector_release(struct sim *sim, unsigned char *sector); // takes NULL
struct inode *inode_get(const struct sim *sim, uint32_t ino);
struct inode *inode_own(struct sim *sim, uint32_t ino); // to be changed
uint32_t inode_new(struct sim *sim, bool is_dir);
void inode_release(struct sim *sim, uint32_t ino); // no name and no handle leads to it
unsigned sim_choose(struct sim *sim, unsigned n);

// Contents (sim_disk.c). Ranges do not wrap.
uint64_t data_size(struct sim *sim, uint32_t ino);
uint64_t data_allocated(const struct sim *sim, uint32_t ino);
// The first run of sectors at or after `off` that are allocated; none: *ret_from is *ret_to.
void data_extent(const struct sim *sim, uint32_t ino, uint64_t off, uint64_t *ret_from, uint64_t *ret_to);
size_t data_read(struct sim *sim, uint32_t ino, void *buf, size_t len, uint64_t off);
int data_write(struct sim *sim, uint32_t ino, const void *buf, size_t len, uint64_t off); // -ENOSPC after what fits
void data_zero(struct sim *sim, uint32_t ino, uint64_t off, uint64_t len);
void data_resize(struct sim *sim, uint32_t ino, uint64_t size);
struct chunk *data_own_chunk(struct sim *sim, struct inode *inode, uint32_t slot); // both to be changed
void data_forget_versions(struct sim *sim, struct chunk *chunk, struct sector *s); // `now` is certain

// Contents across syncs, failed syncs and power cuts (sim_sync.c).
bool data_sync(struct sim *sim, uint32_t ino); // whether anything became certain
void data_sync_failed(struct sim *sim, uint32_t ino);
void data_doubt(struct sim *sim, uint32_t ino, bool lost_only); // what is read comes from the disk from now on
void data_settle(struct sim *sim, uint32_t ino);
void data_uncount(struct sim *sim, uint32_t ino); // its space is free again

// Names (sim_names.c).
struct place {
	uint32_t dir;
	char name[NAME_LEN_MAX + 1]; // "." for the place where the path began
	uint32_t ino;		     // 0: nothing there
};
// Follows `path` from directory `from`. 0 also when only the last component is missing.
int names_walk(struct sim *sim, uint32_t from, const char *path, struct place *ret_place);
uint32_t names_get(struct sim *sim, uint32_t dir, const char *name);
uint32_t names_next(struct sim *sim, uint32_t dir, uint32_t from, const char **ret_name); // entry at or after; UINT32_MAX: none
bool names_empty(struct sim *sim, uint32_t dir);
// One event: `name` of `dir` stands for `ino` afterwards; unless from_dir is 0, `from` of `from_dir` for nothing.
void names_set(struct sim *sim, uint32_t dir, const char *name, uint32_t ino, uint32_t from_dir, const char *from);
// One event: each of the two names stands for what the other stood for. A sync of the directory of `b` makes it certain.
void names_exchange(struct sim *sim, const struct place *a, const struct place *b);
bool names_sync(struct sim *sim, uint32_t dir); // whether anything became certain
void names_sync_failed(struct sim *sim, uint32_t dir);
void names_doubt(struct sim *sim);
void names_settle(struct sim *sim);

#endif
