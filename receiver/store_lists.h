// SPDX-License-Identifier: Apache-2.0
// The store's own state, for store.c, store_coming.c and store_place.c alone: the lists of replicas, under its lock.
#ifndef KAGAMI_RECEIVER_STORE_LISTS_H
#define KAGAMI_RECEIVER_STORE_LISTS_H

#include "receiver/replica.h"

struct coming { // on the stack of its thread
	const char *name;
	const unsigned char *owner; // whose it is to be; NULL: it goes
	struct coming *next;
};

struct store {
	struct env_root *root;
	struct env_file *lock_file;
	char *path;
	pthread_mutex_t lock; // of the lists below; never held over a wait for the disk
	struct replica **replicas; // by name
	size_t count;
	struct replica **gone; // removed, but callers may still have them
	size_t gone_count;
	size_t awaited; // those of them that are to come, for which there is room
	struct coming *coming; // names that are being made or removed, each by a thread
	pthread_cond_t came;   // one of them is done
	_Atomic uint64_t reserve_bytes;
	struct budget budget; // of memory
	size_t owner_most; // protections of one source; set before sessions are
	char displaced[ERR_TEXT_MAX]; // under the lock; "" when `path` leads to `root`, as far as is known
};

// Under the lock. Where `name` is or belongs among the replicas; the one of that name, or NULL.
size_t store_place_of(const struct store *store, const char *name);
struct replica *store_list_find(const struct store *store, const char *name);
// Room for one more in both lists, so that neither coming nor going can fail once it is on disk. -ENOMEM.
int store_lists_reserve(struct store *store);
void store_list_insert(struct store *store, struct replica *replica);

#endif
