// SPDX-License-Identifier: Apache-2.0
// kagami-replicator: the agent on the source host.
#include "base/crew.h"
#include "base/log.h"
#include "base/standard.h"
#include "link/alerts.h"
#include "link/daemon.h"
#include "link/events.h"
#include "link/net.h"
#include "link/web.h"
#include "replicator/agent.h"
#include "replicator/known.h"
#include "replicator/nbd_tls.h"
#include "replicator/planner.h"
#include "replicator/stopping.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

// TCP without TLS would give every disk to whoever can reach the port: there is no such mode.
static int check_nbd(const char *address, const char *directory, struct err *err)
{
	if (address && !directory)
		return err_set(err, -EINVAL, "--nbd-listen needs --nbd-tls DIR: disks are not served over TCP without certificates");
	if (!address && directory)
		return err_set(err, -EINVAL, "--nbd-tls needs --nbd-listen HOST:PORT: it says who may attach disks over TCP");
	return address ? net_check_option("nbd-listen", address, err) : 0;
}

static int start_nbd(struct agent *agent, const char *address, const char *directory, const char *run_dir,
		     struct nbd_tls **ret_front, struct err *err)
{
	if (!address)
		return 0;
	const struct nbd_tls_config config = {
		.address = address,
		.directory = directory,
		.run_dir = run_dir,
		.exports = {.at = agent_nbd_export, .context = agent},
	};
	int rc = nbd_tls_start(&config, ret_front, err);
	if (rc == -ETIMEDOUT) { // a network file system that does not answer keeps no guest of this host from its disks
		log_error("disks are not served over TCP until the replicator is started anew: %s", err->text);
		event_emit(EVENT_CRITICAL, "daemon", NULL, NULL, "disks are not served over TCP until the replicator is started anew: %s", err->text);
		return 0;
	}
	if (rc == 0)
		log_info("disks are served over TCP with TLS address=%s", nbd_tls_address(*ret_front));
	return rc;
}

enum { KNOWN_MIB_MAX = 4096 };

static bool read_number(const char *text, unsigned long most, unsigned long *ret_number)
{
	char *rest = NULL;
	errno = 0;
	unsigned long number = strtoul(text, &rest, 10);
	if (errno || rest == text || *rest || *text < '0' || *text > '9' || number > most)
		return false;
	*ret_number = number;
	return true;
}

// As many threads as this process has processors, by default.
static int read_sizes(const char *threads, const char *known_mib, struct agent_config *config, struct err *err)
{
	cpu_set_t ours;
	unsigned long number = sched_getaffinity(0, sizeof(ours), &ours) == 0 ? (unsigned long)CPU_COUNT(&ours) : 1;
	if (number > CREW_THREADS_MAX)
		number = CREW_THREADS_MAX;
	if (threads && !read_number(threads, CREW_THREADS_MAX, &number))
		return err_set(err, -EINVAL, "--threads %s: give 0 (each protection does its own) to %d", threads, CREW_THREADS_MAX);
	config->threads = (unsigned)number;
	config->known_bytes = KNOWN_BYTES_DEFAULT;
	if (!known_mib)
		return 0;
	if (!read_number(known_mib, KNOWN_MIB_MAX, &number))
		return err_set(err, -EINVAL, "--digest-cache %s: give MiB for each protection, 0 (none) to %d", known_mib, KNOWN_MIB_MAX);
	config->known_bytes = number << 20;
	return 0;
}

// As many cycles at once as keep the processors busy while some of them wait for the line; a sync is long, and there are few.
static int read_slots(const char *cycles, const char *syncs, unsigned threads, struct agent_config *config, struct err *err)
{
	unsigned long number = threads < 2 ? 4 : 2 * threads;
	if (cycles && (!read_number(cycles, PLANNER_SLOTS_MAX, &number) || number == 0))
		return err_set(err, -EINVAL, "--cycles %s: give 1 to %d", cycles, PLANNER_SLOTS_MAX);
	config->cycles = (unsigned)number;
	number = 2;
	if (syncs && (!read_number(syncs, PLANNER_SLOTS_MAX, &number) || number == 0))
		return err_set(err, -EINVAL, "--syncs %s: give 1 to %d", syncs, PLANNER_SLOTS_MAX);
	config->syncs = (unsigned)number;
	return 0;
}

static int read_stop(const char *text, unsigned *ret_s, struct err *err)
{
	unsigned long number = STOP_WAIT_S_DEFAULT;
	if (text && (!read_number(text, STOP_WAIT_S_MAX, &number) || number == 0))
		return err_set(err, -EINVAL, "--stop-wait %s: give seconds, 1 to %d", text, STOP_WAIT_S_MAX);
	*ret_s = (unsigned)number;
	return 0;
}

struct daemon {
	struct agent *agent;
	struct control *control;
	struct alerts *alerts;
	struct nbd_tls *front;
	struct web *web;
	bool saved; // the state of every protection
};

// Of a start that failed, too: what had not been started is NULL.
static void close_all(void *context)
{
	struct daemon *d = context;
	nbd_tls_stop(d->front); // its clients' last requests reach the disks before those stop
	d->saved = !d->agent || agent_stop(d->agent); // before those who may wait for a request that hangs
	web_stop(d->web);
	control_stop(d->control);
	alerts_stop(d->alerts);
	agent_close(d->agent);
}

__attribute__((noreturn)) static void leave(int status)
{
	log_end();
	_exit(status);
}

int main(int argc, char **argv)
{
	standard_descriptors();
	static struct roll roll = ROLL_INITIALIZER;
	const char *state = NULL, *run_dir = DAEMON_RUN_DIR, *nbd_listen = NULL, *nbd_tls_dir = NULL, *threads = NULL, *known_mib = NULL;
	const char *cycles = NULL, *syncs = NULL, *stop_wait = NULL;
	struct alerts_config told = {.hooks = NULL};
	struct web_config shown = {.web = NULL};
	const struct daemon_option options[] = {
		{"state", "DIR", "keys, sites, protections and what is dirty", &state, true},
		{"run-dir", "DIR", "sockets (default " DAEMON_RUN_DIR ")", &run_dir, false},
		{"nbd-listen", "ADDRESS", "HOST:PORT: serve the disks over TCP too, as PROTECTION/DISK; needs --nbd-tls", &nbd_listen, false},
		{"nbd-tls", "DIR", "ca-cert.pem, server-cert.pem and server-key.pem; clients need a certificate of that CA", &nbd_tls_dir, false},
		{"threads", "N", "that digest and compress, for all protections (default: one for each processor, 16 at most)", &threads, false},
		{"cycles", "N", "of all protections that may be under way at once (default: two for each processor, at least 4)", &cycles, false},
		{"syncs", "N", "that may be under way at once, beside the cycles (default 2)", &syncs, false},
		{"digest-cache", "MIB", "of memory for each protection, to know what the receiver has (default 12; 0: none)", &known_mib, false},
		{"stop-wait", "SECONDS", "for which nothing may go on at a stop, before it is given up (default 60)", &stop_wait, false},
		WEB_OPTIONS(&shown),
		ALERTS_OPTIONS(&told),
	};
	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL); // a look at certificates that hangs may be left (nbd_renewal.h)
	daemon_start("kagami-replicator", "Serves protected disks over NBD and replicates them to a receiver.", options, sizeof(options) / sizeof(options[0]), argc,
		     argv);
	run_dir = daemon_absolute(run_dir); // clients get socket paths from it
	struct err err = {0};
	struct daemon d = {.agent = NULL};
	struct stopping stopping = {.roll = &roll, .wait_s = STOP_WAIT_S_DEFAULT, .close = close_all, .context = &d};
	struct agent_config config = {.state_path = state, .run_dir = run_dir, .roll = &roll};
	if (read_sizes(threads, known_mib, &config, &err) || read_slots(cycles, syncs, config.threads, &config, &err) ||
	    read_stop(stop_wait, &stopping.wait_s, &err) || check_nbd(nbd_listen, nbd_tls_dir, &err) || alerts_check(&told, &err) || web_check(&shown, &err))
		daemon_misused(&err);
	if (agent_open(&config, &d.agent, &err) ||
	    start_nbd(d.agent, nbd_listen, nbd_tls_dir, run_dir, &d.front, &err) || alerts_start(&told, &d.alerts, &err) ||
	    control_start(run_dir, "replicator.sock", agent_routes, agent_route_count, d.agent, &d.control, &err) ||
	    web_start(&shown, agent_routes, agent_route_count, d.agent, &d.web, &err)) {
		log_error("%s", err.text);
		if (!stopping_run(&stopping)) // a protection is being started, and its image does not answer
			leave(DAEMON_EXIT_FAILED);
		return DAEMON_EXIT_FAILED;
	}
	log_info("ready state=%s run_dir=%s version=%s", state, run_dir, KAGAMI_VERSION);
	daemon_wait();
	event_emit(EVENT_INFO, "daemon", NULL, NULL, "kagami-replicator stops");
	events_wake(events_default()); // requests that wait for one end
	if (!stopping_run(&stopping)) {
		control_abandon(run_dir, "replicator.sock");
		leave(DAEMON_EXIT_UNCLEAN); // threads of it wait for a disk
	}
	if (!d.saved) {
		log_error("stopped, but not cleanly: above is what was not saved, why, and what it costs the next start, which a clean stop would have let go on with a delta");
		return DAEMON_EXIT_UNCLEAN;
	}
	log_info("stopped");
	return 0;
}
