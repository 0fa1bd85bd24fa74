// SPDX-License-Identifier: Apache-2.0
#include "replicator/bound.h"

#include "base/clock.h"
#include "replicator/holder.h"

#define MS_NS UINT64_C(1000000)
#define SECOND_NS UINT64_C(1000000000)

void bound_init(struct bound *bound, struct ring *ring, void (*expired)(struct bound *bound))
{
	*bound = (struct bound){.ring = ring, .expired = expired};
}

static void arm(struct bound *bound, uint64_t now_ns);

static void on_time(struct ring_op *op, int res)
{
	struct bound *bound = HOLDER(op, struct bound, op);
	uint64_t now_ns = clock_mono_ns();
	(void)res; // its time has come: that is reported as an error
	bound->armed = false;
	if (!bound->due_ns)
		return;
	if (now_ns < bound->due_ns) {
		arm(bound, now_ns);
		return;
	}
	bound->due_ns = 0;
	bound->expired(bound);
}

static void arm(struct bound *bound, uint64_t now_ns)
{
	uint64_t left_ns = bound->due_ns - now_ns;
	bound->armed = true;
	bound->op.done = on_time;
	bound->time = (struct __kernel_timespec){.tv_sec = (int64_t)(left_ns / SECOND_NS),
						 .tv_nsec = (int64_t)(left_ns % SECOND_NS)};
	io_uring_prep_timeout(ring_sqe(bound->ring, &bound->op), &bound->time, 0, 0);
}

void bound_begin(struct bound *bound, unsigned ms)
{
	bound->since_ns = clock_mono_ns();
	bound->due_ns = bound->since_ns + ms * MS_NS;
	if (!bound->armed)
		arm(bound, bound->since_ns);
}

void bound_end(struct bound *bound)
{
	bound->due_ns = 0;
}
