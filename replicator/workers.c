// SPDX-License-Identifier: Apache-2.0
#include "replicator/workers.h"

#include "replicator/holder.h"

#include <errno.h>

static void set_missing(struct workers *workers, bool missing)
{
	workers->ring->workerless = missing;
	if (atomic_load_explicit(&workers->missing, memory_order_relaxed) == missing)
		return;
	atomic_store_explicit(&workers->missing, missing, memory_order_relaxed);
	if (workers->changed)
		workers->changed(workers);
}

static void come_again(struct workers *workers)
{
	set_missing(workers, true);
	bound_begin(&workers->again, workers->again_ms);
	workers->again_ms = workers->again_ms < WORKERS_AGAIN_MS_MAX / 2 ? workers->again_ms * 2 : WORKERS_AGAIN_MS_MAX;
}

static void on_unbounded(struct ring_op *op, int res)
{
	struct workers *workers = HOLDER(op, struct workers, unbounded);
	workers->asked = false;
	if (res == -ECANCELED) {
		come_again(workers);
		return;
	}
	workers->again_ms = WORKERS_AGAIN_MS; // whatever it says of the read: somebody was there to say it
	set_missing(workers, false);
}

static void on_bounded(struct ring_op *op, int res)
{
	struct workers *workers = HOLDER(op, struct workers, bounded);
	if (res == -ECANCELED) {
		workers->asked = false;
		come_again(workers);
		return;
	}
	workers->unbounded.done = on_unbounded;
	struct io_uring_sqe *sqe = ring_sqe(workers->ring, &workers->unbounded);
	io_uring_prep_read(sqe, workers->ring->wake_fd, NULL, 0, 0); // of nothing: it takes nothing from it
	io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

static void ask(struct workers *workers)
{
	workers->asked = true;
	workers->bounded.done = on_bounded;
	struct io_uring_sqe *sqe = ring_sqe(workers->ring, &workers->bounded);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

static void on_again(struct bound *again)
{
	ask(HOLDER(again, struct workers, again));
}

void workers_begin(struct workers *workers, struct ring *ring, void (*changed)(struct workers *workers))
{
	*workers = (struct workers){.ring = ring, .changed = changed, .again_ms = WORKERS_AGAIN_MS};
	bound_init(&workers->again, ring, on_again);
	ring->workerless = true;
	ask(workers);
}

void workers_allow(struct ring *ring, unsigned count)
{
	unsigned most[2] = {0}; // of the bounded kind, and of the other; 0: as it is
	if (io_uring_register_iowq_max_workers(&ring->uring, most) || most[0] >= count)
		return;
	most[0] = count;
	most[1] = 0;
	(void)io_uring_register_iowq_max_workers(&ring->uring, most);
}

void workers_cancelled(struct workers *workers)
{
	if (workers->asked || workers->again.due_ns) { // one that was under way before that was known, or a read
		set_missing(workers, true);
		return;
	}
	come_again(workers);
}
