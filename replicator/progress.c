// SPDX-License-Identifier: Apache-2.0
#include "replicator/progress.h"

#include "base/size.h"

#include <stdatomic.h>

enum { NS_PER_MS = 1000000, MS_PER_S = 1000 };

void progress_begin_cycle(struct ship_progress *progress, uint64_t now_ns)
{
	atomic_store(&progress->done_bytes, 0);
	atomic_store(&progress->total_bytes, 0);
	atomic_store(&progress->durable_blocks, 0);
	atomic_store(&progress->yielded_ns, 0);
	atomic_store(&progress->pass, 0);
	atomic_store(&progress->precopy, false);
	atomic_store(&progress->since_bytes, 0);
	atomic_store(&progress->mark_bytes, 0);
	atomic_store(&progress->since_ns, now_ns);
	atomic_store(&progress->mark_ns, now_ns);
}

void progress_begin_pass(struct ship_progress *progress, bool precopy, uint64_t bytes)
{
	atomic_fetch_add(&progress->total_bytes, bytes);
	atomic_fetch_add(&progress->pass, 1);
	atomic_store(&progress->precopy, precopy);
}

void progress_add(struct ship_progress *progress, uint64_t bytes, uint64_t now_ns)
{
	uint64_t done = atomic_fetch_add(&progress->done_bytes, bytes) + bytes;
	uint64_t mark_ns = atomic_load(&progress->mark_ns);
	if (now_ns - mark_ns < (uint64_t)PROGRESS_WINDOW_MS * NS_PER_MS)
		return;
	atomic_store(&progress->since_bytes, atomic_load(&progress->mark_bytes));
	atomic_store(&progress->since_ns, mark_ns);
	atomic_store(&progress->mark_bytes, done);
	atomic_store(&progress->mark_ns, now_ns);
}

void progress_view(const struct ship_progress *progress, uint64_t now_ns, uint64_t more_bytes, struct progress_view *ret_view)
{
	uint64_t since_ns = atomic_load(&progress->since_ns), since = atomic_load(&progress->since_bytes);
	uint64_t done = atomic_load(&progress->done_bytes), total = max_u64(atomic_load(&progress->total_bytes), done);
	uint64_t ms = now_ns > since_ns ? (now_ns - since_ns) / NS_PER_MS : 0;
	*ret_view = (struct progress_view){.done_bytes = done,
					   .total_bytes = total,
					   .whole = ms >= PROGRESS_WINDOW_MS,
					   .pass = atomic_load(&progress->pass),
					   .precopy = atomic_load(&progress->precopy)};
	if (ms && done > since)
		ret_view->rate = (uint64_t)((double)(done - since) * MS_PER_S / (double)ms);
	if (ret_view->rate == 0)
		return;
	ret_view->left_known = true;
	ret_view->left_ms = (uint64_t)((double)(total - done + more_bytes) * MS_PER_S / (double)ret_view->rate);
}
