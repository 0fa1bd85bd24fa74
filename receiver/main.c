// SPDX-License-Identifier: Apache-2.0
// kagami-receiver: the store of recovery points on the target host.
#include "base/auto.h"
#include "base/log.h"
#include "link/daemon.h"
#include "link/json.h"
#include "link/net.h"
#include "receiver/recovery.h"
#include "receiver/server.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROUTES_MAX = 48, RETENTION_RATE_MAX_MIB = 100000 };

struct receiver {
	struct recovery recovery; // first: the context of its routes
	struct env_root *state;
	struct identity *identity;
	struct pairing *pairing;
	struct server *server;
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

static size_t collect_routes(struct control_route routes[ROUTES_MAX])
{
	const struct control_route own[] = {
		{"GET", "/v1/version", daemon_version},
		{"POST", "/v1/pair-tokens", post_token},
		{"GET", "/v1/peers", get_peers},
	};
	size_t count = sizeof(own) / sizeof(own[0]);
	memcpy(routes, own, sizeof(own));
	memcpy(routes + count, recovery_routes, recovery_route_count * sizeof(routes[0]));
	count += recovery_route_count;
	memcpy(routes + count, retention_routes, sizeof(retention_routes));
	return count + RETENTION_ROUTES;
}

// Keys and peers: STORE/.kagami unless the operator keeps them elsewhere.
static int open_state(struct receiver *receiver, const char *state, struct err *err)
{
	char path[PATH_MAX];
	if (!state) {
		(void)snprintf(path, sizeof(path), "%s/.kagami", store_path(receiver->recovery.store));
		if (mkdir(path, 0700) && errno != EEXIST)
			return err_sys(err, -errno, "make the directory %s", path);
		state = path;
	}
	int rc = env_root_open(env_posix(), state, &receiver->state);
	if (rc == -ENOENT)
		return err_set(err, rc, "there is no state directory %s: make it first (mkdir -m 0700 %s)", state, state);
	return rc ? err_sys(err, rc, "open the state directory %s", state) : 0;
}

static void retain_soon(void *context)
{
	struct receiver *receiver = context;
	server_retain(receiver->server);
}

// MiB a second, from the operator.
static int rate_read(const char *text, uint64_t *ret_rate, struct err *err)
{
	char *end;
	unsigned long long mib = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
	if (mib == 0 || *end || mib > RETENTION_RATE_MAX_MIB)
		return err_set(err, -EINVAL, "--retention-rate: %s makes no sense; give MiB a second, 1 to %d", text, RETENTION_RATE_MAX_MIB);
	*ret_rate = (uint64_t)mib << 20;
	return 0;
}

static int receiver_open(struct receiver *receiver, const char *store_dir, const char *state, const char *listen,
			 struct err *err)
{
	struct env *env = env_posix();
	struct store *store = NULL;
	struct mounts *mounts = NULL;
	int rc = net_check(listen, err);
	if (rc == 0)
		rc = store_open(env, store_dir, &store, err);
	if (rc)
		return rc;
	recovery_init(&receiver->recovery, env, store, NULL);
	rc = open_state(receiver, state, err);
	if (rc == 0)
		rc = identity_load(receiver->state, "identity.pem", &receiver->identity, err);
	if (rc == 0)
		rc = pairing_open(receiver->state, identity_pin(receiver->identity), &receiver->pairing, err);
	if (rc == 0)
		rc = mounts_open(env, store, &mounts, err);
	receiver->recovery.mounts = mounts;
	if (rc == 0)
		rc = server_start(listen, receiver->identity, store, receiver->pairing, &receiver->server, err);
	receiver->recovery.retain = retain_soon;
	receiver->recovery.retain_context = receiver;
	return rc;
}

static void receiver_close(struct receiver *receiver)
{
	if (!receiver->recovery.store)
		return;
	server_stop(receiver->server);
	mounts_close(receiver->recovery.mounts);
	pairing_close(receiver->pairing);
	identity_free(receiver->identity);
	env_root_close(receiver->state);
	store_close(receiver->recovery.store);
	recovery_done(&receiver->recovery);
}

int main(int argc, char **argv)
{
	const char *store = NULL, *listen = NULL, *state = NULL, *run_dir = DAEMON_RUN_DIR, *rate_text = "64";
	uint64_t rate = 0;
	const struct daemon_option options[] = {
		{"store", "DIR", "recovery points", &store, true},
		{"listen", "ADDR:PORT", "where sources connect", &listen, true},
		{"state", "DIR", "keys and peers (default STORE/.kagami)", &state, false},
		{"run-dir", "DIR", "sockets (default " DAEMON_RUN_DIR ")", &run_dir, false},
		{"retention-rate", "MIB", "MiB a second that folds and merges write at most (default 64)", &rate_text, false},
	};
	daemon_start("kagami-receiver", "Keeps recovery points of protected disks, and brings them up.", options, sizeof(options) / sizeof(options[0]), argc, argv);
	store = daemon_absolute(store); // operators get paths of disks from it
	run_dir = daemon_absolute(run_dir);
	struct err err = {.code = 0};
	struct receiver receiver = {.server = NULL};
	struct control_route routes[ROUTES_MAX];
	struct control *control = NULL;
	size_t count = collect_routes(routes);
	if (rate_read(rate_text, &rate, &err) || receiver_open(&receiver, store, state, listen, &err) ||
	    control_start(run_dir, "receiver.sock", routes, count, &receiver, &control, &err)) {
		log_error("%s", err.text);
		receiver_close(&receiver);
		return DAEMON_EXIT_FAILED;
	}
	server_retention_rate(receiver.server, rate);
	log_info("ready store=%s listen=%s run_dir=%s version=%s", store_path(receiver.recovery.store),
		 server_address(receiver.server), run_dir, KAGAMI_VERSION);
	daemon_wait();
	control_stop(control);
	receiver_close(&receiver);
	log_info("stopped");
	return 0;
}
