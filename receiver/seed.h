// SPDX-License-Identifier: Apache-2.0
// Seeds: older copies of disks, put into the store before their protection is there, to be its base. Format and order of writes: docs/store.md, "Seeds".
//
//	STORE/.seeds/.new/               a seed being copied; always deleted at start
//	STORE/.seeds/<name>/<disk>/      a whole seed: raw, seed.json
//
// A seed is of one source, or of any, and is taken when that source first opens a protection of this name with a disk of this name. What it holds is
// not trusted for anything: it is read, and the digest table says what it is.
//
// E1: after any crash there is a whole seed or none, and a base whose table says what it holds.
// E2: a seed that is wrong, of another size or damaged costs what travels, never what a point shows.
// E3: only the source that it is for gets it.
#ifndef KAGAMI_RECEIVER_SEED_H
#define KAGAMI_RECEIVER_SEED_H

#include "receiver/replica.h"

#define SEEDS ".seeds"
#define SEEDS_NEW SEEDS "/.new"

struct seed {
	char name[NAME_SIZE];
	char disk[NAME_SIZE];
	uint64_t size; // bytes; need not be the disk's
	bool any_source;
	unsigned char source[OWNER_PIN_SIZE]; // whose it is, unless any
	int64_t made_wall_ns;
};

// An empty SEEDS_NEW, for a file SEEDS_NEW "/raw". One at a time.
int seed_begin(struct env_root *root, struct err *err);
// SEEDS_NEW "/raw" is whole: it is synced and becomes the seed, durable on return. -EEXIST when there is one already.
int seed_publish(struct env_root *root, const struct seed *seed, struct err *err);
// For a file that is moved: a place for it, seed_path(), without which it is no seed; then, when it is there, seed_moved().
int seed_place(struct env_root *root, const struct seed *seed, struct err *err);
int seed_moved(struct env_root *root, const struct seed *seed, struct err *err);
void seed_path(const char *name, const char *disk, char path[REPLICA_PATH_SIZE]); // of its raw, below the store
void seed_give_up(struct env_root *root);
// -ENOENT when there is none; -EBADMSG.
int seed_load(struct env_root *root, const char *name, const char *disk, struct seed *ret_seed, struct err *err);
// All of them, by name; the caller frees. What does not check is left out.
int seed_list(struct env_root *root, struct seed **ret_seeds, size_t *ret_count, struct err *err);
// A place that has no file: left by a move, or by an adoption, that was cut off. Absent is fine.
int seed_place_remove(struct env_root *root, const char *name, const char *disk, struct err *err);
int seed_remove(struct env_root *root, const char *name, const char *disk, struct err *err); // -ENOENT
// The seed that a protection of this source is to take, if there is one: 1, or 0. One that does not check is none, and is logged.
int seed_for(struct env_root *root, const char *name, const char *disk, const unsigned char pin[OWNER_PIN_SIZE], struct seed *ret_seed,
	     struct err *err);

// adopt.c: a seed becomes the base of a new protection.
//
// Whether the base of `disk` is to come from a seed, for a protection being created in `dir`: then a note is left there, durable with the directory.
int adopt_note(struct env_root *root, const char *dir, const struct protection *protection, struct err *err);
void adopt_load(struct replica *replica); // at start
// One step: takes the files, then digests a part of them. 1: something was done; 0: there is nothing to do. Under no lock. The first error is kept in
// the replica's reason, and the step done again later.
int replica_adopt(struct replica *replica, struct err *err);

#endif
