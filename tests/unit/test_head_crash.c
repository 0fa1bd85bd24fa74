// SPDX-License-Identifier: Apache-2.0
// The head under crash enumeration (tests/sim): H1 and H2 of receiver/head_checkpoint.c. The proof is the content: the head that
// recovery found is sealed, and every byte of the point is compared with what the source had at that checkpoint.
//
// KAGAMI_CRASH_STATES=n looks at up to n states a scenario.
#include "base/auto.h"
#include "base/log.h"
#include "base/size.h"
#include "format/qcow2_check.h"
#include "receiver/replica.h"
#include "receiver/scrub_chain.h"
#include "tests/lib/feed.h"
#include "tests/sim/crash_test.h"

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DISKS = 2, BLOCKS = 3, SAVED = 4, VERSIONS = SAVED + 2, IMAGE_SIZE = BLOCKS * BLOCK_SIZE };

// The second disk ends in the middle of a piece.
static const uint64_t disk_size[DISKS] = {3 * BLOCK_SIZE, 2 * BLOCK_SIZE + 5 * PIECE_SIZE + 3 * SECTOR_SIZE};
static const char *const disk_name[DISKS] = {"vda", "vdb"};

struct promise {
	unsigned saved;	  // the newest version that a checkpoint answered for
	bool sealed_may, sealed; // SEAL of SAVED + 1 was asked for, and answered
};

struct world {
	unsigned char version[VERSIONS][DISKS][IMAGE_SIZE]; // [0]: the point below, [1..SAVED]: saved, then one that is not, unless it is sealed
	struct wire_open open;
	bool point_below; // the head stands on a point, not on nothing
	bool seal;
	unsigned from; // the run begins with this version; those before it are in the head from the setup
	struct promise promise;
	struct codec_context *codec;
};

// Whole blocks, pieces over packed blocks, pieces over pieces that are kept, zeros, and blocks that come back: each kind of change of an
// overlay's entry, and clusters that are given back and taken again.
static void make_versions(struct world *w)
{
	memset(w->version, 0, sizeof(w->version));
	if (w->point_below)
		for (unsigned d = 0; d < DISKS; d++)
			feed_fill(w->version[0][d], IMAGE_SIZE, 50 + d);
	for (unsigned v = 1; v < VERSIONS; v++) {
		memcpy(w->version[v], w->version[v - 1], sizeof(w->version[v]));
		unsigned a = v % 2;
		if (v != 2)
			feed_fill(w->version[v][a], BLOCK_SIZE, v);
		feed_fill(w->version[v][1 - a] + (size_t)(v % 3 + 1) * PIECE_SIZE, 3 * PIECE_SIZE, v + 100);
		feed_fill(w->version[v][0] + BLOCK_SIZE + 2 * PIECE_SIZE, PIECE_SIZE, v + 150);
		if (v % 2)
			memset(w->version[v][1] + BLOCK_SIZE, 0, BLOCK_SIZE);
		else
			feed_fill(w->version[v][1] + BLOCK_SIZE + PIECE_SIZE, 5 * PIECE_SIZE, v + 200);
		if (v < 3)
			feed_fill(w->version[v][0] + 2 * BLOCK_SIZE, BLOCK_SIZE, v + 300);
	}
	for (unsigned v = 0; v < VERSIONS; v++)
		for (unsigned d = 0; d < DISKS; d++)
			memset(w->version[v][d] + disk_size[d], 0, IMAGE_SIZE - disk_size[d]);
}

static struct world *world_new(bool point_below, bool seal, unsigned from)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->point_below = point_below;
	w->seal = seal;
	w->from = from;
	make_versions(w);
	w->codec = codec_new();
	assert_non_null(w->codec);
	w->open = feed_open(DISKS, disk_size, 4);
	return w;
}

static void world_free(struct world *w)
{
	codec_free(w->codec);
	free(w);
}

// --- driving the store ---

static int send_block(struct world *w, struct replica *r, unsigned d, uint64_t index, const unsigned char *old, const unsigned char *new,
		      struct err *err)
{
	return feed_block(&w->open, w->codec, r, d, index, new, feed_pieces(old, new), err);
}

static int send_version(struct world *w, struct replica *r, unsigned from, unsigned to, struct err *err)
{
	int rc = 0;
	for (unsigned d = 0; d < DISKS; d++)
		for (uint64_t b = 0; rc == 0 && b < size_blocks(disk_size[d]); b++)
			rc = send_block(w, r, d, b, w->version[from][d] + b * BLOCK_SIZE, w->version[to][d] + b * BLOCK_SIZE, err);
	return rc;
}

static int open_session(struct env *env, struct world *w, struct store **ret_store, struct replica **ret_replica, struct err *err)
{
	struct wire_opened opened;
	int rc = store_open(env, "/store", ret_store, err);
	if (rc)
		return rc;
	*ret_replica = store_find(*ret_store, "vm1");
	return *ret_replica ? replica_session_begin(*ret_replica, &w->open, feed_pin, &opened, err) : err_set(err, -ENOENT, "vm1 is missing");
}

static int setup(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	static const unsigned char none[DISKS][IMAGE_SIZE];
	struct store *store = NULL;
	struct replica *r = NULL;
	struct wire_opened opened;
	int rc = feed_make_dir(env, "store", err);
	if (rc == 0)
		rc = store_open(env, "/store", &store, err);
	if (rc == 0)
		rc = store_create(store, &w->open, feed_pin, &r, err);
	if (rc == 0)
		rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	for (unsigned d = 0; rc == 0 && w->point_below && d < DISKS; d++)
		for (uint64_t b = 0; rc == 0 && b < size_blocks(disk_size[d]); b++)
			rc = send_block(w, r, d, b, none[d] + b * BLOCK_SIZE, w->version[0][d] + b * BLOCK_SIZE, err);
	if (rc == 0 && w->point_below)
		rc = feed_seal(r, 7, 1, err);
	for (unsigned v = 1; rc == 0 && v < w->from; v++) {
		rc = send_version(w, r, v - 1, v, err);
		rc = rc ? rc : replica_checkpoint(r, true, err) == 1 ? 0 : -EIO;
	}
	if (r)
		replica_session_end(r);
	store_close(store);
	return rc;
}

static int run_session(struct world *w, struct replica *r, struct err *err)
{
	for (unsigned v = w->from; v <= SAVED; v++) {
		int rc = send_version(w, r, v - 1, v, err);
		rc = rc ? rc : replica_checkpoint(r, true, err);
		if (rc < 0)
			return rc;
		if (rc == 1)
			w->promise.saved = v;
	}
	int rc = send_version(w, r, SAVED, SAVED + 1, err);
	if (rc || !w->seal)
		return rc;
	w->promise.sealed_may = true;
	rc = feed_seal(r, 9, 1, err);
	w->promise.sealed = rc == 0;
	return rc;
}

static int run(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct replica *r = NULL;
	w->promise = (struct promise){.saved = w->from - 1};
	int rc = open_session(env, w, &store, &r, err);
	if (rc == 0) {
		rc = run_session(w, r, err);
		replica_session_end(r);
	}
	store_close(store);
	return rc;
}

static int recover(struct env *env, void *context, struct err *err)
{
	struct store *store = NULL;
	(void)context;
	int rc = store_open(env, "/store", &store, err);
	store_close(store);
	return rc;
}

// --- the check ---

static bool head_is(struct world *w, struct replica *r, unsigned v)
{
	for (unsigned d = 0; d < DISKS; d++)
		for (uint64_t b = 0; b < size_blocks(disk_size[d]); b++) {
			struct digest digest = digest_of(&w->open.digest, (uint16_t)d, b, w->version[v][d] + b * BLOCK_SIZE);
			struct digest found = head_digest(r, d, b);
			if (!digest_equal(&digest, &found))
				return false;
		}
	return true;
}

static void found_nothing(void *context, const char *text)
{
	(void)context;
	(void)text;
}

// As `qemu-img check` has it: no leak, nothing named twice.
static int overlay_check(struct scrub_chain *chain, struct err *err)
{
	uint64_t findings = 0;
	int rc = qcow2_check(chain->level[chain->count - 1].file, found_nothing, NULL, &findings, err);
	return rc == 0 && findings ? err_set(err, -EBADMSG, "the overlay of %s has %llu errors", disk_name[chain->disk],
					     (unsigned long long)findings)
				   : rc;
}

static int content_check(struct world *w, struct replica *r, unsigned v, struct err *err)
{
	unsigned char block[BLOCK_SIZE];
	for (unsigned d = 0; d < DISKS; d++) {
		struct scrub_level level[4] = {{0}};
		struct scrub_chain chain = {.replica = r, .disk = d, .level = level, .count = r->point_count};
		for (size_t i = 0; i < r->point_count; i++)
			level[i] = (struct scrub_level){.number = r->points[i].number, .size = disk_size[d]};
		int rc = scrub_chain_open(&chain, err);
		for (uint64_t b = 0; rc == 0 && b < size_blocks(disk_size[d]); b++) {
			rc = scrub_chain_read(&chain, r->point_count - 1, b, block, err);
			if (rc == 0 && memcmp(block, w->version[v][d] + b * BLOCK_SIZE, BLOCK_SIZE) != 0)
				rc = err_set(err, -EBADMSG, "block %llu of %s is not that of version %u", (unsigned long long)b,
					     disk_name[d], v);
		}
		if (rc == 0)
			rc = overlay_check(&chain, err);
		scrub_chain_close(&chain);
		if (rc)
			return rc;
	}
	return 0;
}

// Which version the head has, in full; the newest where two are equal.
static int head_version(struct world *w, struct replica *r, unsigned *ret_version, struct err *err)
{
	for (unsigned v = SAVED + 1; v-- > 0;)
		if (head_is(w, r, v)) {
			*ret_version = v;
			return 0;
		}
	return err_set(err, -EBADMSG, "the head is none that a checkpoint had");
}

static int check_replica(struct world *w, struct replica *r, struct err *err)
{
	struct replica_info info;
	unsigned v = 0;
	replica_info(r, &info);
	if (info.broken)
		return err_set(err, -EBADMSG, "broken: %s", info.broken_reason);
	if (info.last_point == 1u + w->point_below) {
		if (!w->promise.sealed_may)
			return err_set(err, -EBADMSG, "a point that nobody asked for");
		struct env_stat st;
		if (env_stat(r->root, info.last_point == 1 ? "vm1/points/1/checkpoint" : "vm1/points/2/checkpoint", &st) == 0)
			return err_set(err, -EBADMSG, "a journal was left in a point");
		return content_check(w, r, SAVED + 1, err);
	}
	if (w->promise.sealed)
		return err_set(err, -EBADMSG, "a point that was answered is missing");
	int rc = head_version(w, r, &v, err);
	if (rc)
		return rc;
	if (v < w->promise.saved)
		return err_set(err, -EBADMSG, "the head has version %u, %u was answered", v, w->promise.saved);
	if (v == 0)
		return 0;
	rc = send_version(w, r, v, VERSIONS - 1, err); // and it can be gone on with
	if (rc == 0)
		rc = feed_seal(r, 11, 1, err);
	return rc ? rc : content_check(w, r, VERSIONS - 1, err);
}

static int check_as_it_is(struct world *w, struct replica *r, struct err *err)
{
	unsigned v = 0;
	if (r->point_count > w->point_below)
		return 0;
	int rc = head_version(w, r, &v, err);
	if (rc == 0 && v > 0)
		rc = feed_seal(r, 11, 1, err);
	return rc || v == 0 ? rc : content_check(w, r, v, err);
}

static int check_by(struct env *env, struct world *w, int how(struct world *, struct replica *, struct err *), struct err *err)
{
	struct store *store = NULL;
	struct replica *r = NULL;
	int rc = open_session(env, w, &store, &r, err);
	if (rc == 0) {
		rc = how(w, r, err);
		replica_session_end(r);
	}
	store_close(store);
	return rc;
}

static int check(struct env *env, void *context, struct err *err)
{
	return check_by(env, context, check_replica, err);
}

static int check_sealed(struct env *env, void *context, struct err *err)
{
	return check_by(env, context, check_as_it_is, err);
}

// Of scenarios with many points a look at each end or failure, twice; `make test-crash` looks at all that each can leave.
enum { FEW = 400 };

static struct crash_scenario scenario_of(const char *name, struct world *w)
{
	return (struct crash_scenario){.name = name, .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				       .setup = setup, .run = run, .check = check, .at_syncs = true, .states_max = 2000};
}

static void h1_what_a_checkpoint_answered_for_outlives_every_crash(void **state)
{
	(void)state;
	struct world *w = world_new(false, false, 1);
	struct crash_scenario s = scenario_of("head", w);
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

static void h1_on_a_point_and_in_a_journal_that_goes_on(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 3);
	struct crash_scenario s = scenario_of("head_on_a_point", w);
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

static void h2_the_head_holds_what_its_digests_say(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 2);
	struct crash_scenario s = scenario_of("head_as_it_is", w);
	s.check = check_sealed;
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

static void h1_a_seal_that_is_cut_leaves_the_point_or_the_head(void **state)
{
	(void)state;
	struct world *w = world_new(true, true, SAVED);
	struct crash_scenario s = scenario_of("head_seal", w);
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

static void h1_when_the_recovery_is_cut_too(void **state)
{
	(void)state;
	struct world *w = world_new(false, true, SAVED);
	struct crash_scenario s = scenario_of("head_twice", w);
	s.states_max = FEW;
	s.recover = recover;
	s.crashes = 2;
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

static void h1_a_new_journal_replaces_a_long_one(void **state)
{
	(void)state;
	struct world *w = world_new(false, false, 2);
	struct crash_scenario s = scenario_of("head_again", w);
	s.recover = recover;
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

// An operation that fails costs the head at most, never a byte of what is kept of it. A sync that fails may cost what was answered
// for: the file is dead then.
static void h2_the_head_is_whole_or_dropped_when_operations_fail(void **state)
{
	(void)state;
	struct world *w = world_new(true, true, SAVED);
	struct crash_scenario s = scenario_of("head_faults", w);
	s.states_max = FEW;
	s.check = check_sealed;
	assert_true(anomaly_test_quiet(&s));
	world_free(w);
}

// --- damage ---

// A head with `versions` checkpoints, left; then `damage` in its journal, and another start.
static void run_damaged(struct world *w, unsigned versions, unsigned damaged, unsigned *ret_version, bool *ret_there)
{
	struct sim *sim = sim_new(1);
	struct env *env = sim_env(sim);
	struct err err = {0};
	struct store *store = NULL;
	struct replica *r = NULL;
	uint64_t length[SAVED + 1] = {0};
	assert_int_equal(setup(env, w, &err), 0);
	assert_int_equal(open_session(env, w, &store, &r, &err), 0);
	for (unsigned v = 1; v <= versions; v++) {
		assert_int_equal(send_version(w, r, v - 1, v, &err), 0);
		assert_int_equal(replica_checkpoint(r, true, &err), 1);
		assert(r);
		length[v] = r->head.saved.at.length;
	}
	assert_int_equal(send_version(w, r, versions, versions + 1, &err), 0); // which takes what may be taken by then
	replica_session_end(r);
	struct env_file *file;
	unsigned char byte;
	assert_int_equal(env_open(r->root, "vm1/head/checkpoint", ENV_WRITE, &file), 0);
	assert_int_equal(env_pread_full(file, &byte, 1, length[damaged] - 200), 0);
	byte ^= 1;
	assert_int_equal(env_pwrite(file, &byte, 1, length[damaged] - 200), 0);
	env_close(file);
	store_close(store);
	store = NULL;
	assert_int_equal(open_session(env, w, &store, &r, &err), 0);
	*ret_there = !head_empty(r);
	assert_int_equal(head_version(w, r, ret_version, &err), 0);
	if (*ret_there) {
		assert_int_equal(feed_seal(r, 11, 1, &err), 0);
		assert_int_equal(content_check(w, r, *ret_version, &err), 0);
	}
	replica_session_end(r);
	store_close(store);
	sim_free(sim);
}

static void damage_in_the_newest_checkpoint_takes_the_head_back_to_the_one_before(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 1);
	unsigned version = 0;
	bool there = false;
	run_damaged(w, SAVED, SAVED, &version, &there);
	assert_true(there);
	assert_int_equal(version, SAVED - 1);
	world_free(w);
}

static void damage_in_an_older_checkpoint_drops_the_head(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 1);
	unsigned version = 0;
	bool there = true;
	for (unsigned damaged = 1; damaged < SAVED; damaged++) {
		run_damaged(w, SAVED, damaged, &version, &there);
		assert_false(there);
		assert_int_equal(version, 0);
	}
	world_free(w);
}

// It cannot be by the order of writes; but nothing else says so than the journal itself (R6).
static void a_head_of_another_point_is_dropped(void **state)
{
	(void)state;
	struct world *w = world_new(false, true, 1);
	struct sim *sim = sim_new(1);
	struct env *env = sim_env(sim);
	struct err err = {0};
	struct store *store = NULL;
	struct replica *r = NULL;
	assert_int_equal(setup(env, w, &err), 0);
	assert_int_equal(open_session(env, w, &store, &r, &err), 0);
	assert_int_equal(send_version(w, r, 0, 2, &err), 0);
	assert_int_equal(replica_checkpoint(r, true, &err), 1);
	replica_session_end(r);
	store_close(store);
	struct env_root *root;
	assert_int_equal(env_root_open(env, "/store/vm1", &root), 0);
	assert_int_equal(env_rename(root, "head", "aside"), 0);
	assert_int_equal(run(env, w, &err), 0);
	assert_int_equal(env_rename(root, "aside", "head"), 0);
	env_root_close(root);
	store = NULL;
	assert_int_equal(open_session(env, w, &store, &r, &err), 0);
	assert_true(head_empty(r));
	replica_session_end(r);
	store_close(store);
	sim_free(sim);
	world_free(w);
}

// --- a full disk ---

// In the middle of an initial sync: what was acknowledged stays, and the sync goes on from it when space returns.
static void a_full_disk_takes_an_initial_sync_back_to_its_checkpoint(void **state)
{
	(void)state;
	struct world *w = world_new(false, false, 1);
	struct sim *sim = sim_new(1);
	struct env *env = sim_env(sim);
	struct err err = {0};
	struct store *store = NULL;
	struct replica *r = NULL;
	assert_int_equal(setup(env, w, &err), 0);
	assert_int_equal(open_session(env, w, &store, &r, &err), 0);
	assert_int_equal(send_version(w, r, 0, 3, &err), 0);
	assert_int_equal(replica_checkpoint(r, true, &err), 1);
	assert(r);
	struct uuid head = r->head.uuid;
	sim_set_space(sim, 0);
	assert_int_equal(send_version(w, r, 3, 4, &err), -ENOSPC);
	assert_false(uuid_equal(&head, &r->head.uuid)); // what was sent since is not there any more
	assert_true(head_is(w, r, 3));
	assert_int_equal(send_version(w, r, 3, 4, &err), -ENOSPC); // again, and again it is kept
	assert_true(head_is(w, r, 3));
	replica_session_end(r);
	store_close(store);
	store = NULL;
	assert_int_equal(store_open(env, "/store", &store, &err), 0); // a start on a full disk keeps it, too
	sim_set_space(sim, UINT64_C(1) << 30);
	store_close(store);
	store = NULL;
	assert_int_equal(open_session(env, w, &store, &r, &err), 0);
	assert_true(head_is(w, r, 3));
	assert_int_equal(send_version(w, r, 3, 4, &err), 0);
	assert_int_equal(feed_seal(r, 11, 1, &err), 0);
	assert_int_equal(content_check(w, r, 4, &err), 0);
	replica_session_end(r);
	store_close(store);
	sim_free(sim);
	world_free(w);
}

static void a_full_disk_drops_the_head_of_a_delta(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 1);
	struct sim *sim = sim_new(1);
	struct env *env = sim_env(sim);
	struct err err = {0};
	struct store *store = NULL;
	struct replica *r = NULL;
	assert_int_equal(setup(env, w, &err), 0);
	assert_int_equal(open_session(env, w, &store, &r, &err), 0);
	assert_int_equal(send_version(w, r, 0, 3, &err), 0);
	assert_int_equal(replica_checkpoint(r, true, &err), 1);
	sim_set_space(sim, 0);
	assert_int_equal(send_version(w, r, 3, 4, &err), -ENOSPC);
	assert_true(head_empty(r));
	replica_session_end(r);
	store_close(store);
	sim_free(sim);
	world_free(w);
}

int main(void)
{
	log_init("test_head_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(h1_what_a_checkpoint_answered_for_outlives_every_crash),
		cmocka_unit_test(h1_on_a_point_and_in_a_journal_that_goes_on),
		cmocka_unit_test(h2_the_head_holds_what_its_digests_say),
		cmocka_unit_test(h1_a_seal_that_is_cut_leaves_the_point_or_the_head),
		cmocka_unit_test(h1_when_the_recovery_is_cut_too),
		cmocka_unit_test(h1_a_new_journal_replaces_a_long_one),
		cmocka_unit_test(h2_the_head_is_whole_or_dropped_when_operations_fail),
		cmocka_unit_test(damage_in_the_newest_checkpoint_takes_the_head_back_to_the_one_before),
		cmocka_unit_test(damage_in_an_older_checkpoint_drops_the_head),
		cmocka_unit_test(a_head_of_another_point_is_dropped),
		cmocka_unit_test(a_full_disk_takes_an_initial_sync_back_to_its_checkpoint),
		cmocka_unit_test(a_full_disk_drops_the_head_of_a_delta),
	};
	return cmocka_run_group_tests_name("head_crash", tests, NULL, NULL);
}
