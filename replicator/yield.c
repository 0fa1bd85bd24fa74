// SPDX-License-Identifier: Apache-2.0
#include "replicator/yield.h"

#include "base/size.h"

void yield_begin(struct yield *yield, uint64_t now_ns, uint64_t served)
{
	yield->began = true;
	yield->since_ns = now_ns;
	yield->waited_ns = 0;
	yield->served = served;
}

void yield_waited(struct yield *yield, uint64_t ns)
{
	yield->waited_ns += ns;
}

uint64_t yield_step(struct yield *yield, uint64_t now_ns, uint64_t served)
{
	uint64_t passed_ns = now_ns - yield->since_ns;
	uint64_t work_ns = passed_ns - min_u64(yield->waited_ns, passed_ns);
	uint64_t due_ns = work_ns * 100 / YIELD_SHARE_PERCENT; // so long, at least, this step is to last
	bool idle = served == yield->served;
	yield->served = served;
	yield->since_ns = now_ns;
	yield->waited_ns = 0;
	if (idle || due_ns <= passed_ns)
		return 0;
	return min_u64(due_ns - passed_ns, YIELD_PAUSE_MS_MAX * UINT64_C(1000000));
}

uint64_t yield_resume(struct yield *yield, uint64_t now_ns)
{
	uint64_t paused_ns = now_ns - yield->since_ns;
	yield->since_ns = now_ns;
	return paused_ns;
}
