// SPDX-License-Identifier: Apache-2.0
// Looks once a minute at what all protections need at their next start, in a thread of its own: the state directory or a disk may not answer, and nobody waits for it but
// a stop, and who ends the protection that is just looked at.
#include "replicator/agent_private.h"

#include "base/auto.h"
#include "replicator/protection_look.h"

enum { LOOK_EVERY_S = 60 };

// With the lock held, which is let go until the second. Those that come or go meanwhile are looked at in the next round.
static void look_at(struct agent *agent, struct protection *running)
{
	protection_use(running);
	(void)pthread_mutex_unlock(&agent->lock);
	protection_look(running);
	(void)pthread_mutex_lock(&agent->lock);
	protection_unuse(running);
}

void agent_look(struct agent *agent)
{
	struct agent_sites sites;
	agent_sites_take(agent, &sites);
	(void)agent_keep(agent, &sites);
	agent_sites_done(&sites);
	LOCK_SCOPE(&agent->lock);
	for (size_t i = 0; i < agent->seats && !agent->over; i++)
		if (agent->seat[i]->running)
			look_at(agent, agent->seat[i]->running);
}

static void *run_lookout(void *context)
{
	struct agent *agent = context;
	while (worker_wait(&agent->lookout, LOOK_EVERY_S * UINT64_C(1000000000), WORKER_RESTS))
		agent_look(agent);
	return NULL;
}

int agent_lookout_start(struct agent *agent, struct err *err)
{
	int rc = worker_start(&agent->lookout, "kagami-lookout", run_lookout, agent);
	agent->looks = rc == 0;
	return rc ? err_sys(err, rc, "start a thread") : 0;
}

void agent_lookout_stop(struct agent *agent)
{
	if (agent->looks)
		worker_stop(&agent->lookout);
	agent->looks = false;
}
