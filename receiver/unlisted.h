// SPDX-License-Identifier: Apache-2.0
// Protections whose tests/ could not be listed. Nobody knows then what stands on their points: so every one of these is held until the names were read after all.
//
// Whoever owns it lets one thread at a time in; unlisted_any() may be asked by any.
#ifndef KAGAMI_RECEIVER_UNLISTED_H
#define KAGAMI_RECEIVER_UNLISTED_H

#include "receiver/store.h"

#include <pthread.h>
#include <stdatomic.h>

struct unlisted_one {
	struct replica *replica; // stays, for it has a hold
	char name[NAME_SIZE];
};

struct unlisted { // zeros: none
	struct unlisted_one *one;
	atomic_size_t count;
};

// The names in STORE/<name>/tests/, none where it was never made. 1: it cannot be listed, for the reason in `err`; every point is held, or was already.
// -ENOMEM: nobody knows what is there, and nothing is held.
int unlisted_read(struct unlisted *unlisted, struct env_root *root, struct replica *replica, const char *name, char ***ret_names, size_t *ret_count,
		  struct err *err);
// What was read is held by itself now: the hold on everything ends. Nothing to do for one that was listed at once.
void unlisted_over(struct unlisted *unlisted, struct replica *replica);
// Has `read` read those again that could not be: it calls unlisted_read() and unlisted_over(). Takes `turns`, in which the owner lets one in; costs nothing where there are none.
void unlisted_look(struct unlisted *unlisted, pthread_mutex_t *turns, int (*read)(void *owner, struct replica *replica, struct err *err), void *owner);
bool unlisted_any(const struct unlisted *unlisted);
bool unlisted_has(const struct unlisted *unlisted, const struct replica *replica);
void unlisted_done(struct unlisted *unlisted); // lets go of all

#endif
