// SPDX-License-Identifier: Apache-2.0
// A call of the cycle thread: a message to the loop thread, and a wait for its end. Between export_source.c and export_audit.c.
#ifndef KAGAMI_REPLICATOR_EXPORT_CALL_H
#define KAGAMI_REPLICATOR_EXPORT_CALL_H

#include "replicator/export_loop.h"
#include "replicator/holder.h"

#include <unistd.h>

struct call { // the loop thread runs `message`, and says call_ended()
	struct ring_message message;
	struct group *group;
	sem_t ended;
};

static inline struct export *export_of(struct source *source)
{
	return HOLDER(source, struct export, source);
}

static inline void call_init(struct call *call, struct export *export, void (*run)(struct ring_message *))
{
	call->message = (struct ring_message){.run = run};
	call->group = &export->group;
	(void)sem_init(&call->ended, 0, 0);
}

static inline void call_wait(struct call *call)
{
	while (sem_wait(&call->ended) < 0)
		continue; // EINTR is all it fails with
	(void)sem_destroy(&call->ended);
}

// False when there is no loop.
static inline bool call_do(struct call *call, struct export *export)
{
	if (!ring_post(&export->ring, &call->message)) {
		(void)sem_destroy(&call->ended);
		return false;
	}
	call_wait(call);
	return true;
}

// Where there is no loop, its state is the cycle thread's. One that was told to end while a cycle ran (export_end()) refuses calls for a moment
// before.
static inline void await_end(struct export *export)
{
	while (atomic_load(&export->looping))
		(void)usleep(1000);
}

static inline struct call *call_of(struct ring_message *message)
{
	return HOLDER(message, struct call, message);
}

// The end of each call, by whoever ran it. What others see is what the call made of it: the caller goes by it at once, and the turn may end much later.
static inline void call_ended(struct call *call)
{
	export_publish(HOLDER(call->group, struct export, group));
	(void)sem_post(&call->ended);
}

// export_audit.c: of source_ops.
bool export_audit_next(struct source *source, unsigned most, struct source_run *ret_run);
int export_audit_read(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data);
void export_audited(struct source *source, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited);
uint64_t export_unproven(struct source *source, uint16_t disk, uint64_t region, unsigned char *units, uint64_t count);

#endif
