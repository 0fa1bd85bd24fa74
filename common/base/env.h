// SPDX-License-Identifier: Apache-2.0
// The seam: every file, clock and random byte that the core touches goes through here.
//
// Two implementations and no third: env_posix (production) and tests/sim/env_sim (a simulated disk that loses,
// tears and fails from a seed or by enumeration). The core (state file, store, head, points, fold) makes no system
// call of its own. Connections are not here: the core's side of a connection is a function from frames to frames.
//
// Files live below a *root*: an open directory. Names are relative to it, with '/' between components, never
// leave it and never pass a symbolic link (base/beneath.h).
//
// All functions return 0 or a negative errno unless they say otherwise. Any thread may call; two threads must not
// use one env_file at the same time, except for reads and writes of ranges that do not overlap.
//
// Durability, as on Linux: a file's content is on stable storage after env_sync() of the file; its name (created,
// renamed, unlinked) after env_sync_dir() of the directory that holds it. After a failed sync the file is dead:
// never sync again, never trust a read.
#ifndef KAGAMI_BASE_ENV_H
#define KAGAMI_BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct env;
struct env_root;
struct env_file;

enum { ENV_DEAD_MS = 3000 };

// What is there and is no regular file, as a directory or a FIFO, is -EISDIR, and nobody is waited for.
enum env_open {
	ENV_READ = 0,	     // must exist, read only
	ENV_WRITE = 1,	     // must exist, read and write
	ENV_CREATE = 2,	     // must not exist (-EEXIST), read and write, mode 0600
	ENV_CREATE_OPEN = 3, // created when missing, read and write
};

struct env_stat {
	bool is_dir;
	uint64_t size;
	uint64_t allocated; // bytes on disk
	int64_t changed_ns; // its content, last, since 1970, UTC; 0: not known
	uint64_t number;    // of the file: no other of its file system has it while this one is there or open
	uint64_t device;    // of that file system; 0: there is one alone
};

struct env_ops {
	int (*root_open)(struct env *env, const char *path, struct env_root **ret_root);
	void (*root_close)(struct env_root *root);
	int (*root_fd)(const struct env_root *root); // NULL: it has none
	int (*open)(struct env_root *root, const char *name, enum env_open how, struct env_file **ret_file);
	void (*close)(struct env_file *file);
	int (*pread)(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len);
	int (*pwrite)(struct env_file *file, const void *buf, size_t len, uint64_t off);
	int (*truncate)(struct env_file *file, uint64_t size);
	int (*punch)(struct env_file *file, uint64_t off, uint64_t len);
	int (*data)(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to);
	bool (*tells_holes)(struct env_file *file); // what `data` says of it is believed; NULL: of every file
	int (*sync)(struct env_file *file);
	int (*size)(struct env_file *file, uint64_t *ret_size);
	int (*lock)(struct env_file *file);
	int (*mkdir)(struct env_root *root, const char *name);
	int (*rename)(struct env_root *root, const char *from, const char *to);
	int (*exchange)(struct env_root *root, const char *a, const char *b);
	int (*unlink)(struct env_root *root, const char *name);
	int (*rmdir)(struct env_root *root, const char *name);
	int (*sync_dir)(struct env_root *root, const char *name);
	int (*stat)(struct env_root *root, const char *name, struct env_stat *ret_stat);
	int (*list)(struct env_root *root, const char *name, char ***ret_names, size_t *ret_count);
	int (*space)(struct env_root *root, uint64_t *ret_free);
	uint64_t (*mono_ns)(struct env *env);
	int64_t (*wall_ns)(struct env *env);
	int (*random)(struct env *env, void *buf, size_t len);
};

// An implementation embeds this first; roots and files begin with a pointer to their env.
struct env {
	const struct env_ops *ops;
};
struct env_root {
	struct env *env;
};
struct env_file {
	struct env *env;
};

// The production environment; one for the process, never freed.
struct env *env_posix(void);

// Opens the directory `path` as a root. -ENOTDIR when it is something else.
int env_root_open(struct env *env, const char *path, struct env_root **ret_root);
void env_root_close(struct env_root *root); // takes NULL
// Its descriptor, for what is no part of the seam, as other programs' locks of a file below it: the root's own, closed with it. -ENOENT: it is no directory of this host.
int env_root_fd(const struct env_root *root);
// Whether `path`, which goes to other programs, leads to the directory `name` below the root, and not to another in its place: 0, or -ESTALE. Other errors are those of
// looking at one of the two; -ENOENT and -ENOTDIR of `path` say that it leads nowhere.
int env_leads(struct env_root *root, const char *name, const char *path);

int env_open(struct env_root *root, const char *name, enum env_open how, struct env_file **ret_file);
void env_close(struct env_file *file); // takes NULL; syncs nothing
// Reads up to `len` bytes; fewer only at the end of the file.
int env_pread(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len);
// Reads exactly `len` bytes; -ENODATA when the file ends before.
int env_pread_full(struct env_file *file, void *buf, size_t len, uint64_t off);
// Writes all `len` bytes or fails.
int env_pwrite(struct env_file *file, const void *buf, size_t len, uint64_t off);
int env_truncate(struct env_file *file, uint64_t size);
// Makes a range read as zeros and frees its space where the file system can. The size stays.
int env_punch(struct env_file *file, uint64_t off, uint64_t len);
// The first range at or after `off` that takes space on the file system; *ret_from is *ret_to when there is none. A file system that does not
// tell, or is not believed (base/file_system.h), has data everywhere. What is a hole reads as zeros; what is none may, too.
int env_data(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to);
// The same as any file system tells it, for an estimate.
int env_data_told(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to);
int env_sync(struct env_file *file);
int env_size(struct env_file *file, uint64_t *ret_size);
// Takes an exclusive lock that ends with the file or the process; -EBUSY when another holds it, and on a real file still does after ENV_DEAD_MS: of a process that was
// killed the kernel takes the memory before it closes the files, and whoever starts it again comes in that moment.
int env_lock(struct env_file *file);

int env_mkdir(struct env_root *root, const char *name); // -EEXIST when it is there; mode 0700
int env_rename(struct env_root *root, const char *from, const char *to);
// Makes each of two names stand for what the other stood for, in one step: after a crash both are as before or both exchanged, and
// exchanged for certain once the directory of `b` is synced. Both must exist (-ENOENT). -EOPNOTSUPP, and nothing was done, where
// the file system cannot do it.
int env_exchange(struct env_root *root, const char *a, const char *b);
int env_unlink(struct env_root *root, const char *name);
int env_rmdir(struct env_root *root, const char *name);
int env_sync_dir(struct env_root *root, const char *name); // "." is the root itself
int env_stat(struct env_root *root, const char *name, struct env_stat *ret_stat);
// The names in a directory, sorted, without "." and ".."; freed with env_list_free().
int env_list(struct env_root *root, const char *name, char ***ret_names, size_t *ret_count);
void env_list_free(char **names, size_t count);
// Bytes that may still be allocated on the root's file system.
int env_space(struct env_root *root, uint64_t *ret_free);

uint64_t env_mono_ns(struct env *env); // never steps; for durations and timers
int64_t env_wall_ns(struct env *env);  // since 1970, UTC; for what a person reads
int env_random(struct env *env, void *buf, size_t len);

// Removes `name` and everything below it. Absent is fine.
int env_remove_tree(struct env_root *root, const char *name);
// Replaces `name` as a whole: writes `name`.new, syncs it, renames it over, syncs `dir` (the directory of `name`).
// After a crash `name` holds the old bytes or the new.
int env_replace(struct env_root *root, const char *dir, const char *name, const void *data, size_t len);
// Reads a whole file of at most `most` bytes, with a NUL behind; -EFBIG when it is longer. The caller frees.
int env_read_file(struct env_root *root, const char *name, size_t most, char **ret_data, size_t *ret_len);

#endif
