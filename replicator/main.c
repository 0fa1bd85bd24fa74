// SPDX-License-Identifier: Apache-2.0
// kagami-replicator: the agent on the source host.
#include "base/log.h"
#include "link/daemon.h"
#include "replicator/agent.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	const char *state = NULL, *run_dir = DAEMON_RUN_DIR;
	const struct daemon_option options[] = {
		{"state", "DIR", "keys, sites, protections and what is dirty", &state, true},
		{"run-dir", "DIR", "sockets (default " DAEMON_RUN_DIR ")", &run_dir, false},
	};
	daemon_start("kagami-replicator", "Serves protected disks over NBD and replicates them to a receiver.", options, 2, argc,
		     argv);
	run_dir = daemon_absolute(run_dir); // clients get socket paths from it
	struct err err = {0};
	struct agent *agent = NULL;
	struct control *control = NULL;
	if (agent_open(state, run_dir, &agent, &err) ||
	    control_start(run_dir, "replicator.sock", agent_routes, agent_route_count, agent, &control, &err)) {
		log_error("%s", err.text);
		agent_close(agent);
		return DAEMON_EXIT_FAILED;
	}
	log_info("ready state=%s run_dir=%s version=%s", state, run_dir, KAGAMI_VERSION);
	daemon_wait();
	control_stop(control);
	agent_close(agent);
	log_info("stopped");
	return 0;
}
