// SPDX-License-Identifier: Apache-2.0
// What the agent has in memory and its next start needs: its key, and the sites of the protections that run. Where the file of one was removed it is written anew, as a protection's
// configuration is (protection_keep_config()): with another key the next start is another source to every receiver, and none gives it its replicas back.
#include "replicator/agent_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "replicator/doubt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct keeping {
	char anew[300]; // what was written, in words
	bool failed;
	struct err err; // the first that could not be
};

static bool is_there(const struct agent_sites *sites, const char *name)
{
	for (size_t i = 0; i < sites->count; i++)
		if (strcmp(sites->site[i].name, name) == 0)
			return true;
	return false;
}

void agent_sites_take(struct agent *agent, struct agent_sites *ret_sites)
{
	struct agent_sites sites = {.count = 0};
	struct site site;
	LOCK_SCOPE(&agent->lock);
	sites.site = calloc(agent->seats + 1, sizeof(*sites.site));
	for (size_t i = 0; sites.site && i < agent->seats; i++) {
		struct protection *running = agent->seat[i]->running;
		if (running && doubt_site(running, &site) && !is_there(&sites, site.name))
			sites.site[sites.count++] = site;
	}
	*ret_sites = sites;
}

void agent_sites_done(struct agent_sites *sites)
{
	free(sites->site);
	*sites = (struct agent_sites){.count = 0};
}

static void note(struct keeping *keeping, int rc, const struct err *err, const char *what, const char *name)
{
	size_t used = strlen(keeping->anew);
	if (rc == 1)
		(void)snprintf(keeping->anew + used, sizeof(keeping->anew) - used, "%s%s%.64s", used ? ", " : "", what, name);
	if (rc < 0 && !keeping->failed)
		keeping->err = *err;
	keeping->failed |= rc < 0;
}

static void tell(struct agent *agent, const struct keeping *keeping)
{
	const char *why = keeping->err.text;
	bool news = keeping->failed && !agent->unkept;
	agent->unkept = keeping->failed;
	if (*keeping->anew) {
		log_error("files were removed from the state directory while the replicator runs, and were written anew: %s", keeping->anew);
		event_emit(EVENT_CRITICAL, "state", NULL, NULL, "files were removed from the state directory while the replicator runs, and were written anew: %s; see who removes files there",
			   keeping->anew);
	}
	if (!news)
		return;
	log_error("files were removed from the state directory while the replicator runs, and cannot be written anew: the next start has another key, or lacks a site: %s", why);
	event_emit(EVENT_CRITICAL, "state", NULL, NULL,
		   "files were removed from the state directory while the replicator runs, and cannot be written anew: %.200s; make it writable, or bring it back from a backup, before the "
		   "replicator stops: without its key the next start is another source to every receiver, and without its sites it reaches none",
		   why);
}

bool agent_keep(struct agent *agent, const struct agent_sites *sites)
{
	struct keeping keeping = {.failed = false};
	struct err err = {0};
	if (!agent->identity)
		return true;
	LOCK_SCOPE(&agent->settings_lock); // who pairs writes sites, too
	note(&keeping, identity_keep(agent->identity, agent->place.state, AGENT_KEY_FILE, &err), &err, "the key ", AGENT_KEY_FILE);
	for (size_t i = 0; i < sites->count; i++)
		note(&keeping, site_keep(agent->place.state, &sites->site[i], &err), &err, "the site ", sites->site[i].name);
	tell(agent, &keeping);
	return !keeping.failed;
}
