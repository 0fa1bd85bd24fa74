// SPDX-License-Identifier: Apache-2.0
#include "replicator/pace.h"

#include "base/size.h"

void pace_begin(struct pace *pace, uint64_t now_ns, uint64_t served)
{
	pace->began = true;
	pace->since_ns = now_ns;
	pace->waited_ns = 0;
	pace->served = served;
}

void pace_waited(struct pace *pace, uint64_t ns)
{
	pace->waited_ns += ns;
}

uint64_t pace_step(struct pace *pace, uint64_t now_ns, uint64_t served)
{
	uint64_t passed_ns = now_ns - pace->since_ns;
	uint64_t work_ns = passed_ns - min_u64(pace->waited_ns, passed_ns);
	uint64_t due_ns = work_ns * 100 / PACE_SHARE_PERCENT; // so long, at least, this step is to last
	bool idle = served == pace->served;
	pace->served = served;
	pace->since_ns = now_ns;
	pace->waited_ns = 0;
	if (idle || due_ns <= passed_ns)
		return 0;
	return min_u64(due_ns - passed_ns, PACE_PAUSE_MS_MAX * UINT64_C(1000000));
}

uint64_t pace_resume(struct pace *pace, uint64_t now_ns)
{
	uint64_t paused_ns = now_ns - pace->since_ns;
	pace->since_ns = now_ns;
	return paused_ns;
}
