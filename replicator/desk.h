// SPDX-License-Identifier: Apache-2.0
// The planner for the threads of an agent: a lock around it, and a call to whoever gets a slot. Any thread; nothing here waits, and the lock is
// the last that anybody takes.
#ifndef KAGAMI_REPLICATOR_DESK_H
#define KAGAMI_REPLICATOR_DESK_H

#include "replicator/planner.h"

struct desk;

int desk_new(unsigned cycles, unsigned syncs, struct desk **ret_desk); // -ENOMEM
void desk_free(struct desk *desk);					 // takes NULL; everybody has left
void desk_slots(struct desk *desk, unsigned cycles, unsigned syncs);
void desk_look(struct desk *desk, struct planner_view *ret_view);
// `called` runs when `who` gets a slot that it had to wait for, on the thread of whoever freed it, with the desk's lock held.
int desk_join(struct desk *desk, void (*called)(void *context), void *context, int *ret_who); // -ENOMEM
void desk_leave(struct desk *desk, int who); // `called` runs no more
// Notes what is next and says when it must begin: planner_due().
uint64_t desk_plan(struct desk *desk, int who, const struct planner_job *job);
// Asks for a slot, or asks on, for the job. True when it has one, until desk_end().
bool desk_take(struct desk *desk, int who, const struct planner_job *job);
// Gives back the slot, or what was asked. What is planned stays.
void desk_give_up(struct desk *desk, int who);
// The same, and `who` has nothing planned from here on.
void desk_end(struct desk *desk, int who);

#endif
