// SPDX-License-Identifier: Apache-2.0
#include "replicator/desk.h"

#include "base/auto.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct caller {
	void (*called)(void *context);
	void *context;
};

struct desk {
	pthread_mutex_t lock;
	struct planner *planner;
	struct caller *caller; // by number
	int callers;
};

int desk_new(unsigned cycles, unsigned syncs, struct desk **ret_desk)
{
	struct desk *desk = calloc(1, sizeof(*desk));
	if (!desk)
		return -ENOMEM;
	(void)pthread_mutex_init(&desk->lock, NULL);
	desk->planner = planner_new(cycles, syncs);
	if (!desk->planner) {
		desk_free(desk);
		return -ENOMEM;
	}
	*ret_desk = desk;
	return 0;
}

void desk_free(struct desk *desk)
{
	if (!desk)
		return;
	planner_free(desk->planner);
	(void)pthread_mutex_destroy(&desk->lock);
	free(desk->caller);
	free(desk);
}

// With the lock held. Who asks just now needs no call.
static void give(struct desk *desk, int asks_now)
{
	for (int who; (who = planner_next(desk->planner)) >= 0;)
		if (who != asks_now)
			desk->caller[who].called(desk->caller[who].context);
}

void desk_slots(struct desk *desk, unsigned cycles, unsigned syncs)
{
	LOCK_SCOPE(&desk->lock);
	planner_slots(desk->planner, cycles, syncs);
	give(desk, PLANNER_NOBODY);
}

void desk_look(struct desk *desk, struct planner_view *ret_view)
{
	LOCK_SCOPE(&desk->lock);
	planner_look(desk->planner, ret_view);
}

int desk_join(struct desk *desk, void (*called)(void *context), void *context, int *ret_who)
{
	LOCK_SCOPE(&desk->lock);
	int who = planner_join(desk->planner);
	if (who < 0)
		return -ENOMEM;
	if (who >= desk->callers) {
		int more = 2 * who + 16;
		struct caller *caller = realloc(desk->caller, (size_t)more * sizeof(*caller));
		if (!caller) {
			planner_leave(desk->planner, who);
			return -ENOMEM;
		}
		desk->caller = caller;
		desk->callers = more;
	}
	desk->caller[who] = (struct caller){called, context};
	*ret_who = who;
	return 0;
}

void desk_leave(struct desk *desk, int who)
{
	LOCK_SCOPE(&desk->lock);
	planner_leave(desk->planner, who);
	give(desk, PLANNER_NOBODY);
}

uint64_t desk_plan(struct desk *desk, int who, const struct planner_job *job)
{
	LOCK_SCOPE(&desk->lock);
	planner_plan(desk->planner, who, job);
	return planner_due(desk->planner, who);
}

bool desk_take(struct desk *desk, int who, const struct planner_job *job)
{
	LOCK_SCOPE(&desk->lock);
	if (planner_runs(desk->planner, who))
		return true;
	planner_plan(desk->planner, who, job);
	planner_ask(desk->planner, who);
	give(desk, who);
	return planner_runs(desk->planner, who);
}

void desk_give_up(struct desk *desk, int who)
{
	LOCK_SCOPE(&desk->lock);
	if (!planner_runs(desk->planner, who) && !planner_asked(desk->planner, who))
		return;
	planner_end(desk->planner, who);
	give(desk, PLANNER_NOBODY);
}

void desk_end(struct desk *desk, int who)
{
	LOCK_SCOPE(&desk->lock);
	planner_end(desk->planner, who);
	planner_plan(desk->planner, who, NULL);
	give(desk, PLANNER_NOBODY);
}
