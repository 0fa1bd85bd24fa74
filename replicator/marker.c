// SPDX-License-Identifier: Apache-2.0
// One thread a protection, asleep unless the guest writes where it did not write lately.
#include "replicator/marker.h"

#include "base/auto.h"
#include "base/thread.h"
#include "replicator/holder.h"

#include <assert.h>

static void commit_all(struct marker *marker)
{
	struct intent_batch *batch = &marker->batch;
	for (unsigned i = 0; i < batch->parts; i++) {
		struct intent_part *part = &batch->part[i];
		marker->err[i] = (struct err){0};
		part->res = marker->config.commit(marker->config.context, part->disk, part->set, part->sets, part->clear,
						  part->clears, &marker->err[i]);
	}
}

static void on_message(struct ring_message *message)
{
	struct marker *marker = HOLDER(message, struct marker, message);
	marker->done(marker);
}

// False when it is to end.
static bool wait_for_batch(struct marker *marker)
{
	LOCK_SCOPE(&marker->lock);
	while (!marker->full && !marker->stop)
		(void)pthread_cond_wait(&marker->changed, &marker->lock);
	bool full = marker->full;
	marker->full = false;
	return full;
}

static void *marker_run(void *context)
{
	struct marker *marker = context;
	while (wait_for_batch(marker)) {
		commit_all(marker);
		(void)ring_post(marker->ring, &marker->message); // a loop that ended has given up on this batch (export_loop.c)
	}
	return NULL;
}

int marker_start(struct marker *marker, const struct export_marker *config, struct ring *ring, void (*done)(struct marker *),
		 struct err *err)
{
	assert(config->commit && !marker->running);
	*marker = (struct marker){.config = *config, .ring = ring, .done = done, .message = {.run = on_message}};
	(void)pthread_mutex_init(&marker->lock, NULL);
	(void)pthread_cond_init(&marker->changed, NULL);
	int code = thread_start(&marker->thread, "kagami-marker", marker_run, marker);
	if (code)
		return err_sys(err, code, "start a thread");
	marker->running = true;
	return 0;
}

static void tell(struct marker *marker, bool *what)
{
	LOCK_SCOPE(&marker->lock);
	*what = true;
	(void)pthread_cond_signal(&marker->changed);
}

void marker_stop(struct marker *marker)
{
	if (!marker->running)
		return;
	tell(marker, &marker->stop);
	(void)pthread_join(marker->thread, NULL);
	(void)pthread_cond_destroy(&marker->changed);
	(void)pthread_mutex_destroy(&marker->lock);
	marker->running = false;
}

void marker_commit(struct marker *marker)
{
	tell(marker, &marker->full);
}
