// SPDX-License-Identifier: Apache-2.0
// Recovery as the control API shows it: replicas, points, failover and mounts. API: docs/control.md, "Receiver".
#ifndef KAGAMI_RECEIVER_RECOVERY_H
#define KAGAMI_RECEIVER_RECOVERY_H

#include "base/env.h"
#include "link/control.h"
#include "receiver/failover.h"
#include "receiver/mount.h"
#include "receiver/store.h"
#include "receiver/tests.h"
#include "receiver/watch.h"

#include <stdatomic.h>

// What the routes work on. Set up: store_open(), mounts_open(), tests_open(), then recovery_init(). The store, the mounts and the tests stay
// the caller's; stop the control server before they are closed, the mounts and tests before the store.
struct recovery {
	struct env *env;
	struct store *store;
	struct mounts *mounts;
	struct scrubber *scrubber; // the same
	struct verifier *verifier; // the same; NULL: nothing is verified
	struct check_job *check; // may be NULL where proof_routes are not served
	struct tests *tests;
	struct seeder *seeder; // may be NULL where seed_routes are not served
	struct watch *watch; // NULL: nothing is known of ages but what the points say
	atomic_uint streams; // under way
	void (*retain)(void *context); // wakes whoever does retention; NULL: nobody is to be woken
	void *retain_context;
};

void recovery_init(struct recovery *recovery, struct env *env, struct store *store, struct mounts *mounts);

// The routes, for handlers whose context is a struct recovery. A server with a context of its own makes it the first
// member, or wraps the handlers.
extern const struct control_route recovery_routes[];
extern const size_t recovery_route_count;
extern const struct control_route proof_routes[]; // the same, of proof_routes.c
extern const size_t proof_route_count;

// stream_routes.c
control_handler recovery_get_content, recovery_get_files, recovery_get_file;
// test_routes.c
control_handler recovery_post_test, recovery_get_tests, recovery_delete_test;
enum { RETENTION_ROUTES = 5 };
extern const struct control_route retention_routes[RETENTION_ROUTES]; // of the same context

enum { WATCH_ROUTES = 3 };
extern const struct control_route watch_routes[WATCH_ROUTES]; // history, events and metrics; of the same context
control_handler receiver_get_metrics; // metrics.c

enum { SEED_ROUTES = 3 };
extern const struct control_route seed_routes[SEED_ROUTES]; // the same

// verify_routes.c
enum { VERIFY_ROUTES = 2 };
extern const struct control_route verify_routes[VERIFY_ROUTES];
// A point is in use from now on: what it shows is proven beside that. Nothing that fails keeps it from being used; the log says so.
void recovery_verify(struct recovery *recovery, const char *protection, uint64_t point);
// Something is not in use any more: what was verified for it alone ends.
void recovery_verify_settle(struct recovery *recovery);
void recovery_verify_resume(struct recovery *recovery); // whatever is in use, at start
// Gives `object` the member "verify", of the point, and returns it. NULL when out of memory.
json_t *recovery_json_verify(struct recovery *recovery, json_t *object, const char *protection, uint64_t point);
json_t *recovery_json_verifications(struct recovery *recovery, struct replica *replica); // those that matter now

// JSON as docs/control.md lays it out; new references, NULL when out of memory.
json_t *recovery_json_replica(struct recovery *recovery, struct replica *replica);
json_t *recovery_json_points(struct recovery *recovery, struct replica *replica, struct err *err); // NULL without an error in `err`: out of memory
json_t *recovery_json_broken(json_t *object, struct replica *replica); // whether it is, why, and what that keeps from being used, added to `object`, which it takes
json_t *recovery_json_retention(const struct replica_info *info);
json_t *recovery_json_kept_by(unsigned why); // of enum retention_why
json_t *recovery_json_failover(const struct recovery *recovery, const struct failover_info *failover);
json_t *proof_json_scrub(struct recovery *recovery, struct replica *replica); // proof_routes.c
json_t *recovery_json_mount(const struct mount_info *mount);
json_t *recovery_json_test(const struct recovery *recovery, const struct test_info *test);

#endif
