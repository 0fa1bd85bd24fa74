// SPDX-License-Identifier: Apache-2.0
// kagami-receiver: the store of recovery points on the target host.
#include "base/log.h"
#include "base/standard.h"
#include "link/alerts.h"
#include "link/daemon.h"
#include "link/events.h"
#include "link/history.h"
#include "link/private.h"
#include "link/web.h"
#include "link/json.h"
#include "link/net.h"
#include "receiver/check_job.h"
#include "receiver/failover_control.h"
#include "receiver/recovery.h"
#include "receiver/reserve.h"
#include "receiver/route.h"
#include "receiver/scrubber.h"
#include "receiver/seeder.h"
#include "receiver/server.h"
#include "receiver/verifier.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ROUTES_MAX = 80, RETENTION_RATE_DEFAULT_MIB = 64, RETENTION_RATE_MAX_MIB = 100000, SOURCE_PROTECTIONS_MAX = 100000 };
#define DAY_NS INT64_C(86400000000000)

struct receiver {
	struct recovery recovery; // first: the context of its routes
	struct env_root *state;
	char state_path[PATH_MAX];
	struct identity *identity;
	struct pairing *pairing;
	struct server *server;
	struct rollback_timer *rollback_timer;
	struct events *events;
	struct watch_config watch;
	uint64_t source_protections, memory_bytes;
};

// How sources reach us when the operator does not say: what we listen on, or this host's name when that is everywhere.
static void default_address(const struct receiver *receiver, char *address, size_t cap)
{
	const char *listen = server_address(receiver->server);
	const char *port = strrchr(listen, ':');
	char host[256] = "localhost";
	bool everywhere = strncmp(listen, "0.0.0.0:", 8) == 0 || strncmp(listen, "[::]:", 5) == 0;
	(void)gethostname(host, sizeof(host) - 1);
	if (everywhere)
		(void)snprintf(address, cap, "%s%s", host, port);
	else
		(void)snprintf(address, cap, "%s", listen);
}

static unsigned post_token(void *context, const struct control_request *request, json_t **ret_body)
{
	struct receiver *receiver = context;
	struct err err = {.code = 0};
	char own[NET_ADDRESS_SIZE], text[TOKEN_TEXT_SIZE];
	int64_t expires_wall_ns;
	const char *address = own;
	const struct control_member members[] = {{"address", .text = &address, .least = 1, .most = NET_ADDRESS_SIZE - 1}};
	default_address(receiver, own, sizeof(own));
	if (control_read(request->body, members, 1, &err) ||
	    pairing_token(receiver->pairing, address, text, &expires_wall_ns, &err))
		return control_fail(ret_body, err.code, err.text);
	*ret_body = json_pack("{s:s, s:o, s:s}", "token", text, "expires", json_when(expires_wall_ns), "address", address);
	return 201;
}

static unsigned get_peers(void *context, const struct control_request *request, json_t **ret_body)
{
	struct receiver *receiver = context;
	(void)request;
	*ret_body = json_pack("{s:o}", "peers", pairing_json(receiver->pairing));
	return 200;
}

// Durable first: whoever comes back from here on is told that it is not paired.
static unsigned delete_peer(void *context, const struct control_request *request, json_t **ret_body)
{
	struct receiver *receiver = context;
	struct err err = {.code = 0};
	struct pin pin;
	char name[NAME_SIZE];
	if (control_read(request->body, NULL, 0, &err))
		return control_fail(ret_body, err.code, err.text);
	if (!pin_read(request->arg[0], &pin))
		return control_fail(ret_body, -EINVAL, "a peer is named by its whole fingerprint; list them with 'kagami peers --json'");
	if (pairing_remove(receiver->pairing, &pin, name, &err))
		return control_fail(ret_body, err.code, err.text);
	size_t left = server_cut(receiver->server, &pin);
	event_emit(EVENT_WARNING, "settings", NULL, json_pack("{s:s, s:s}", "peer", name, "fingerprint", request->arg[0]),
		   "the source %s is not paired any more, as asked", name);
	*ret_body = json_pack("{s:s, s:s, s:I, s:I}", "name", name, "fingerprint", request->arg[0], "protections",
			      (json_int_t)store_owned(receiver->recovery.store, pin.bytes), "sessions_left", (json_int_t)left);
	return 200;
}

static size_t collect_routes(struct control_route routes[ROUTES_MAX])
{
	const struct control_route own[] = {
		{"GET", "/v1/version", daemon_version},
		{"GET", "/v1/configuration", daemon_configuration},
		{"GET", "/v1/log", daemon_log},
		{"POST", "/v1/pair-tokens", post_token},
		{"GET", "/v1/peers", get_peers},
		{"DELETE", "/v1/peers/*", delete_peer},
	};
	size_t count = sizeof(own) / sizeof(own[0]);
	memcpy(routes, own, sizeof(own));
	memcpy(routes + count, recovery_routes, recovery_route_count * sizeof(routes[0]));
	count += recovery_route_count;
	memcpy(routes + count, proof_routes, proof_route_count * sizeof(routes[0]));
	count += proof_route_count;
	memcpy(routes + count, retention_routes, sizeof(retention_routes));
	count += RETENTION_ROUTES;
	memcpy(routes + count, seed_routes, sizeof(seed_routes));
	count += SEED_ROUTES;
	memcpy(routes + count, verify_routes, sizeof(verify_routes));
	count += VERIFY_ROUTES;
	memcpy(routes + count, watch_routes, sizeof(watch_routes));
	count += WATCH_ROUTES;
	assert(count <= ROUTES_MAX);
	return count;
}

static int state_make(const char *store, struct err *err)
{
	struct env_root *root;
	struct env_stat st = {.is_dir = false};
	int rc = env_root_open(env_posix(), store, &root);
	if (rc)
		return err_directory(err, rc, "store", store);
	rc = env_mkdir(root, ".kagami");
	if (rc == 0 || rc == -EEXIST)
		rc = env_stat(root, ".kagami", &st);
	env_root_close(root);
	if (rc == 0 && !st.is_dir) // a link: keys are never taken from somewhere else unasked
		rc = -ENOTDIR;
	if (rc == -EROFS)
		return err_directory(err, rc, "store", store);
	return rc ? err_sys(err, rc, "make the directory %s/.kagami (--state names another one)", store) : 0;
}

// Keys and peers: STORE/.kagami unless the operator keeps them elsewhere.
static int open_state(struct receiver *receiver, const char *state, struct err *err)
{
	char *path = receiver->state_path;
	int rc = 0;
	if (state)
		(void)snprintf(path, PATH_MAX, "%s", state);
	else
		(void)snprintf(path, PATH_MAX, "%s/.kagami", store_path(receiver->recovery.store));
	if (!state)
		rc = state_make(store_path(receiver->recovery.store), err);
	if (rc)
		return rc;
	rc = env_root_open(env_posix(), path, &receiver->state);
	return rc ? err_directory(err, rc, "state", path) : 0;
}

// A whole number of an option, at most `most`.
static int number_read(const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *ret_number, struct err *err)
{
	if (route_number(text, least, most, ret_number) == 0)
		return 0;
	return err_set(err, -EINVAL, "--%s %s: give a number from %llu to %llu", option, text, (unsigned long long)least, (unsigned long long)most);
}

static int scrub_options(const char *rate, const char *days, const char *offpeak, struct scrubber_config *ret_config, struct err *err)
{
	uint64_t number = 0;
	*ret_config = (struct scrubber_config){.has_window = offpeak && strcmp(offpeak, "none") != 0};
	ret_config->rate = SCRUB_RATE_DEFAULT;
	ret_config->interval_ns = SCRUBBER_DAYS_DEFAULT * DAY_NS;
	int rc = rate ? number_read("scrub-rate", rate, 1, 1 << 20, &number, err) : 0;
	if (rc == 0 && rate)
		ret_config->rate = number << 20;
	if (rc == 0 && days)
		rc = number_read("scrub-days", days, 0, 3650, &number, err);
	if (rc == 0 && days)
		ret_config->interval_ns = (int64_t)number * DAY_NS;
	if (rc == 0 && ret_config->has_window && bandwidth_window_read(offpeak, &ret_config->window, err))
		rc = err_wrap(err, "--offpeak");
	return rc;
}

static void retain_soon(void *context)
{
	struct receiver *receiver = context;
	server_retain(receiver->server);
}

// MiB a second, from the operator.
static int retention_rate(const char *text, uint64_t *ret_rate, struct err *err)
{
	uint64_t mib = RETENTION_RATE_DEFAULT_MIB;
	int rc = text ? number_read("retention-rate", text, 1, RETENTION_RATE_MAX_MIB, &mib, err) : 0;
	*ret_rate = mib << 20;
	return rc;
}

static void look_who_may(const struct receiver *receiver)
{
	char key[PATH_MAX + 16];
	(void)snprintf(key, sizeof(key), "%s/identity.pem", receiver->state_path);
	(void)private_directory("store", store_path(receiver->recovery.store));
	(void)private_directory("state", receiver->state_path);
	(void)private_file("the key", key, false);
}

static int events_begin(struct receiver *receiver, struct err *err)
{
	int rc = events_open(env_posix(), receiver->state, &receiver->events, err);
	if (rc == 0) {
		events_set_default(receiver->events);
		event_emit(EVENT_INFO, "daemon", NULL, NULL, "kagami-receiver " KAGAMI_VERSION " has started");
	}
	return rc;
}

static void events_end(struct receiver *receiver)
{
	if (!receiver->events)
		return;
	events_set_default(NULL);
	events_close(receiver->events);
}

// What the operator says of alarms: the objective, and which events there are besides the usual.
static int watch_options(const char *objective, const char *more, struct watch_config *ret_config, struct err *err)
{
	*ret_config = (struct watch_config){.objective_ppm = LEDGER_OBJECTIVE_DEFAULT};
	ret_config->points = more && strcmp(more, "points") == 0;
	if (more && !ret_config->points)
		return err_set(err, -EINVAL, "--events %s: there is points, each of which is an event then", more);
	return objective ? history_objective_read(objective, 0, &ret_config->objective_ppm, err) : 0;
}

// Who the receiver is, and whom it knows.
static int open_keys(struct receiver *receiver, const char *state, struct err *err)
{
	int rc = identity_load(receiver->state, "identity.pem", &receiver->identity, err);
	if (rc == -EROFS && state)
		return err_directory(err, rc, "state", state);
	if (rc == 0)
		rc = pairing_open(receiver->state, identity_pin(receiver->identity), &receiver->pairing, err);
	return rc ? err_wrap(err, "state directory %.250s", receiver->state_path) : 0;
}

static int receiver_open(struct receiver *receiver, const char *store_dir, const char *state, const char *listen,
			 const char *reserve, const struct scrubber_config *scrub, uint64_t verify_rate, struct err *err)
{
	struct env *env = env_posix();
	struct store *store = NULL;
	struct mounts *mounts = NULL;
	uint64_t reserve_bytes = 0;
	struct tests *tests = NULL;
	int rc = reserve_get(reserve, store_dir, &reserve_bytes, err);
	if (rc == 0)
		rc = store_open_within(env, store_dir, receiver->memory_bytes, &store, err);
	if (rc)
		return rc;
	store_set_reserve(store, reserve_bytes);
	store_set_owner_most(store, receiver->source_protections);
	recovery_init(&receiver->recovery, env, store, NULL);
	rc = open_state(receiver, state, err);
	if (rc == 0)
		rc = events_begin(receiver, err);
	if (rc == 0)
		rc = open_keys(receiver, state, err);
	if (rc == 0)
		look_who_may(receiver);
	if (rc == 0)
		rc = mounts_open(env, store, &mounts, err);
	receiver->recovery.mounts = mounts;
	receiver->recovery.check = check_job_new(env, store);
	if (rc == 0 && !receiver->recovery.check)
		rc = err_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = tests_open(store, &tests, err); // before server_start(), whose keeper folds
	receiver->recovery.tests = tests;
	if (rc == 0)
		rc = watch_start(env, store, &receiver->watch, &receiver->recovery.watch, err);
	if (rc == 0)
		rc = server_start(listen, receiver->identity, store, receiver->pairing, receiver->recovery.watch, &receiver->server, err);
	receiver->recovery.retain = retain_soon;
	receiver->recovery.retain_context = receiver;
	if (rc == 0)
		rc = scrubber_start(env, store, scrub, &receiver->recovery.scrubber, err);
	receiver->recovery.verifier = verifier_new(env, verify_rate);
	if (rc == 0)
		rc = receiver->recovery.verifier ? verifier_start(receiver->recovery.verifier, err) : err_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		mounts_set_verifier(mounts, receiver->recovery.verifier);
	if (rc == 0)
		recovery_verify_resume(&receiver->recovery);
	if (rc == 0)
		rc = seeder_start(env, store, receiver->pairing, &receiver->recovery.seeder, err);
	if (rc == 0)
		rc = rollback_timer_start(&receiver->recovery, &receiver->rollback_timer, err);
	return rc;
}

static void receiver_close(struct receiver *receiver)
{
	if (!receiver->recovery.store)
		return;
	rollback_timer_stop(receiver->rollback_timer);
	server_stop(receiver->server);
	watch_stop(receiver->recovery.watch);
	seeder_stop(receiver->recovery.seeder);
	scrubber_stop(receiver->recovery.scrubber);
	check_job_free(receiver->recovery.check);
	mounts_close(receiver->recovery.mounts); // before the verifier, which the views of mounts tell of damage
	verifier_free(receiver->recovery.verifier);
	tests_close(receiver->recovery.tests);
	pairing_close(receiver->pairing);
	identity_free(receiver->identity);
	events_end(receiver);
	env_root_close(receiver->state);
	store_close(receiver->recovery.store);
}

int main(int argc, char **argv)
{
	standard_descriptors();
	if (argc > 1 && strcmp(argv[1], "--check") == 0)
		return check_command(argc - 2, argv + 2);
	const char *store = NULL, *listen = NULL, *state = NULL, *reserve = NULL, *run_dir = DAEMON_RUN_DIR;
	const char *scrub_rate = NULL, *scrub_days = NULL, *offpeak = NULL, *retain_rate = NULL, *verify_rate = NULL, *objective = NULL, *more_events = NULL, *owned = NULL, *memory = NULL;
	uint64_t rate = 0, verify_mib = VERIFIER_RATE_DEFAULT_MIB;
	struct alerts_config told = {.hooks = NULL};
	struct alerts *alerts = NULL;
	struct web_config shown = {.web = NULL};
	const struct daemon_option options[] = {
		{"store", "DIR", "recovery points", &store, true},
		{"listen", "ADDR:PORT", "where sources connect", &listen, true},
		{"state", "DIR", "keys and peers (default STORE/.kagami)", &state, false},
		{"reserve", "SIZE", "of the store to leave free (default 5 %, at most 1G)", &reserve, false},
		{"memory", "SIZE", "for blocks that come and digests (default half of the machine's; 0: no bound)", &memory, false},
		{"scrub-rate", "MIB", "MiB a second that a scrub reads (default 32)", &scrub_rate, false},
		{"scrub-days", "DAYS", "every protection is scrubbed once in so many (default 7; 0: only when asked)", &scrub_days, false},
		{"offpeak", "WINDOW", "scrubs that begin by themselves run then only, as in \"22:00-06:00\" or \"sat,sun\"", &offpeak, false},
		{"verify-rate", "MIB", "MiB a second that what is mounted, tested or failed over is proven by (default 256)", &verify_rate, false},
		{"run-dir", "DIR", "sockets (default " DAEMON_RUN_DIR ")", &run_dir, false},
		{"retention-rate", "MIB", "MiB a second that folds and merges write at most (default 64)", &retain_rate, false},
		{"source-protections", "COUNT", "protections that one source may have (default 512)", &owned, false},
		{"objective", "PERCENT", "of the time that points are to be within their RPO (default 99.5%)", &objective, false},
		{"events", "points", "each committed point is an event, too", &more_events, false},
		WEB_OPTIONS(&shown),
		ALERTS_OPTIONS(&told),
	};
	daemon_start("kagami-receiver", "Keeps recovery points of protected disks, and brings them up. With --check STORE instead, it checks the files of "
			"a store that no receiver has open, prints a report in JSON, and exits.", options,
		     sizeof(options) / sizeof(options[0]), argc, argv);
	store = daemon_resolved(store); // operators get paths of disks from it, and mounts are found by it
	run_dir = daemon_absolute(run_dir);
	struct err err = {.code = 0};
	struct receiver receiver = {.server = NULL, .source_protections = STORE_OWNER_MOST_DEFAULT};
	struct control_route routes[ROUTES_MAX];
	struct control *control = NULL;
	struct web *web = NULL;
	size_t count = collect_routes(routes);
	struct scrubber_config scrub;
	if (watch_options(objective, more_events, &receiver.watch, &err) ||
	    (owned && number_read("source-protections", owned, 1, SOURCE_PROTECTIONS_MAX, &receiver.source_protections, &err)) ||
	    (verify_rate && number_read("verify-rate", verify_rate, 1, 1 << 20, &verify_mib, &err)) ||
	    scrub_options(scrub_rate, scrub_days, offpeak, &scrub, &err) || retention_rate(retain_rate, &rate, &err) ||
	    net_check_option("listen", listen, &err) || reserve_check(reserve, &err) || memory_get(memory, &receiver.memory_bytes, &err) || alerts_check(&told, &err) || web_check(&shown, &err))
		daemon_misused(&err);
	if (receiver_open(&receiver, store, state, listen, reserve, &scrub, verify_mib << 20, &err) ||
	    alerts_start(&told, &alerts, &err) ||
	    control_start(run_dir, "receiver.sock", routes, count, &receiver, &control, &err) ||
	    web_start(&shown, routes, count, &receiver, &web, &err)) {
		log_error("%s", err.text);
		control_stop(control);
		alerts_stop(alerts);
		receiver_close(&receiver);
		return DAEMON_EXIT_FAILED;
	}
	server_retention_rate(receiver.server, rate);
	log_info("memory bytes=%llu", (unsigned long long)receiver.memory_bytes);
	log_info("reserve bytes=%llu free=%llu", (unsigned long long)store_reserve(receiver.recovery.store),
		 (unsigned long long)store_free_bytes(receiver.recovery.store));
	log_info("ready store=%s listen=%s run_dir=%s version=%s", store_path(receiver.recovery.store),
		 server_address(receiver.server), run_dir, KAGAMI_VERSION);
	daemon_wait();
	event_emit(EVENT_INFO, "daemon", NULL, NULL, "kagami-receiver stops");
	events_wake(receiver.events); // requests that wait for one end
	web_stop(web);
	control_stop(control);
	alerts_stop(alerts);
	receiver_close(&receiver);
	log_info("stopped");
	return 0;
}
