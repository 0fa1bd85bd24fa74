// SPDX-License-Identifier: Apache-2.0
// The store when the world fails it, over the simulated disk; and a fold beside a session, in two threads.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/store.h"
#include "tests/lib/store_twin.h"
#include "tests/sim/env_sim.h"

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DISK_SIZE = 24 * BLOCK_SIZE };

struct faulty {
	struct sim *sim;
	struct store *store;
	struct replica *replica;
	struct wire_open open;
	unsigned char pin[OWNER_PIN_SIZE];
	struct wire_opened opened;
};

static void session_open(struct faulty *f)
{
	struct err err = {0};
	if (replica_session_begin(f->replica, &f->open, f->pin, &f->opened, &err))
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct faulty *f = calloc(1, sizeof(*f));
	f->sim = sim_new(1);
	f->open = (struct wire_open){.name = "vm1", .codec = CODEC_ZSTD, .points_keep = 2, .disk_count = 1};
	f->open.disk[0] = (struct wire_disk){.name = "vda", .size = DISK_SIZE};
	f->open.digest.kind = DIGEST_XXH3;
	struct env *env = sim_env(f->sim);
	assert_int_equal(store_open(env, "/", &f->store, NULL), 0);
	assert_int_equal(store_create(f->store, &f->open, f->pin, &f->replica, NULL), 0);
	session_open(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct faulty *f = *state;
	store_close(f->store);
	assert_int_equal(sim_handles(f->sim), 0);
	sim_free(f->sim);
	free(f);
	return 0;
}

static int block_send(struct faulty *f, uint64_t index, unsigned char fill, struct err *err)
{
	AUTO_FREE unsigned char *data = malloc(BLOCK_SIZE);
	memset(data, fill, BLOCK_SIZE);
	struct wire_block block = {.mask = MASK_FULL, .index = index, .len = BLOCK_SIZE, .payload = data};
	block.digest = digest_of(&f->open.digest, 0, index, data);
	return replica_write_block(f->replica, &block, err);
}

static int seal(struct faulty *f, struct err *err)
{
	struct replica_info info;
	struct wire_committed committed;
	replica_info(f->replica, &info);
	struct wire_seal wish = {.predecessor = info.last_point, .head = info.head, .consistency = POINT_QUIESCED};
	wish.cut.bytes[0] = (unsigned char)(info.last_point + 1);
	return replica_seal(f->replica, &wish, &committed, err);
}

static void point_make(struct faulty *f, unsigned char fill)
{
	assert_int_equal(block_send(f, 0, fill, NULL), 0);
	assert_int_equal(block_send(f, fill % 24, fill, NULL), 0);
	assert_int_equal(seal(f, NULL), 0);
}

// Whether the newest state's block has `fill`, as a compare sees it.
static bool holds(struct faulty *f, uint64_t index, unsigned char fill)
{
	AUTO_FREE unsigned char *data = malloc(BLOCK_SIZE);
	memset(data, fill, BLOCK_SIZE);
	struct digest digest = digest_of(&f->open.digest, 0, index, data);
	struct wire_compare compare = {.count = 1, .first = index, .digests = digest.bytes};
	unsigned char bitmap = 0;
	assert_int_equal(replica_compare(f->replica, &compare, &bitmap, NULL), 0);
	return bitmap == 0;
}

static void full_disk_drops_the_head_and_keeps_the_points(void **state)
{
	struct faulty *f = *state;
	struct replica_info before, after;
	struct err err = {0};
	struct env_root *root = NULL;
	struct env_stat st;
	point_make(f, 1);
	replica_info(f->replica, &before);
	assert_int_equal(block_send(f, 5, 9, NULL), 0);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &root), 0);
	sim_fail_at(f->sim, sim_ops(f->sim), -ENOSPC, true);
	int rc = 0;
	for (uint64_t i = 0; rc == 0 && i < 24; i++)
		rc = block_send(f, i, (unsigned char)(50 + i), &err);
	if (rc == 0) // small writes wait in the writer's memory
		rc = seal(f, &err);
	assert_int_equal(rc, -ENOSPC);
	assert_non_null(strstr(err.text, "full"));
	assert_int_equal(env_stat(root, "vm1/head", &st), -ENOENT);
	sim_fail_at(f->sim, SIM_NEVER, 0, false);
	env_root_close(root);
	replica_info(f->replica, &after);
	assert_false(after.broken);
	assert_int_equal(after.last_point, 1);
	assert_false(uuid_equal(&before.head, &after.head));
	assert_true(holds(f, 0, 1) && holds(f, 5, 0)); // what the head held is gone from the compare, too
	point_make(f, 7);
	assert_true(holds(f, 0, 7));
}

// Each operation of a seal fails once: the outcome is the point, or no point and a head that is gone, or broken.
static void seal_that_fails_anywhere_never_answers_committed_in_vain(void **state)
{
	struct faulty *f = *state;
	static const int codes[] = {-EIO, -ENOSPC};
	point_make(f, 1);
	for (unsigned c = 0; c < 2; c++) {
		for (uint64_t op = 0;; op++) {
			struct replica_info before, after;
			struct err err = {0};
			replica_info(f->replica, &before);
			assert_int_equal(block_send(f, 3, (unsigned char)(op + 1), NULL), 0);
			sim_fail_at(f->sim, sim_ops(f->sim) + op, codes[c], false);
			int rc = seal(f, &err);
			bool failed = sim_has_failed(f->sim);
			sim_fail_at(f->sim, SIM_NEVER, 0, false);
			replica_info(f->replica, &after);
			assert_int_equal(after.last_point, before.last_point + (rc == 0));
			assert_int_equal(after.broken, rc == -EIO && after.broken);
			assert_true(rc == 0 || err.text[0]);
			if (rc && !after.broken && uuid_equal(&before.head, &after.head)) // it failed before anything was done
				assert_int_equal(seal(f, NULL), 0);
			if (after.broken) {
				assert_int_equal(block_send(f, 3, 1, NULL), -EIO);
				replica_session_end(f->replica);
				store_close(f->store);
				assert_int_equal(store_open(sim_env(f->sim), "/", &f->store, NULL), 0);
				f->replica = store_find(f->store, "vm1");
				replica_info(f->replica, &after);
				assert_false(after.broken);
				assert_true(after.last_point - before.last_point <= 1);
				session_open(f);
			}
			if (!failed)
				break;
		}
	}
}

static void reopen(struct faulty *f)
{
	struct err err = {0};
	store_close(f->store);
	f->store = NULL;
	if (store_open(sim_env(f->sim), "/", &f->store, &err))
		fail_msg("%s", err.text);
	f->replica = store_find(f->store, "vm1");
	assert_non_null(f->replica);
}

// The receiver is killed at each operation of a seal; what the next one tells the source is true after a power cut, too.
static void point_that_a_restarted_receiver_tells_of_outlives_the_power(void **state)
{
	struct faulty *f = *state;
	bool more = true;
	point_make(f, 1);
	sim_settle(f->sim);
	for (uint64_t op = 0; more; op++) {
		struct replica_info told, found;
		assert_int_equal(block_send(f, 3, (unsigned char)(op + 1), NULL), 0);
		sim_halt_at(f->sim, sim_ops(f->sim) + op);
		more = seal(f, NULL) != 0;
		replica_session_end(f->replica);
		sim_halt_at(f->sim, SIM_NEVER);
		if (sim_is_off(f->sim))
			sim_power_on(f->sim);
		sim_kill(f->sim);
		reopen(f);
		replica_info(f->replica, &told);
		sim_power_off(f->sim); // nothing that was not synced survives
		sim_power_on(f->sim);
		reopen(f);
		replica_info(f->replica, &found);
		assert_false(found.broken);
		assert_int_equal(found.last_point, told.last_point);
		session_open(f);
	}
}

static void failed_write_to_the_base_leaves_the_fold_to_be_done_again(void **state)
{
	struct faulty *f = *state;
	struct replica_info info;
	for (unsigned char n = 1; n <= 3; n++)
		point_make(f, n);
	sim_fail_at(f->sim, sim_ops(f->sim), -ENOSPC, true);
	assert_int_equal(replica_retain(f->replica, NULL), -ENOSPC);
	sim_fail_at(f->sim, SIM_NEVER, 0, false);
	replica_info(f->replica, &info);
	assert_false(info.broken);
	assert_int_equal(info.point_count, 3);
	assert_int_equal(replica_retain(f->replica, NULL), 1);
	replica_info(f->replica, &info);
	assert_int_equal(info.point_count, 2);
}

// --- two threads ---

struct folder {
	struct replica *replica;
	pthread_mutex_t lock;
	bool stop;
	unsigned folds;
};

static bool folder_stops(struct folder *f)
{
	LOCK_SCOPE(&f->lock);
	return f->stop;
}

static void *folder_run(void *context)
{
	struct folder *f = context;
	uint64_t held = 0;
	while (!folder_stops(f)) {
		int rc = replica_retain(f->replica, NULL);
		assert(rc >= 0);
		f->folds += rc == 1;
		if (replica_hold(f->replica, 0, &held, NULL) == 0)
			replica_release(f->replica, held);
	}
	return NULL;
}

static void fold_beside_a_session_changes_no_point(void **state)
{
	(void)state;
	struct store_twin *t = malloc(sizeof(*t));
	pthread_t thread;
	store_twin_begin(t, 11);
	store_twin_keep(t, 2);
	store_twin_session(t);
	struct folder f = {.replica = t->replica, .lock = PTHREAD_MUTEX_INITIALIZER};
	assert_int_equal(pthread_create(&thread, NULL, folder_run, &f), 0);
	for (unsigned n = 0; n < 20; n++) {
		for (unsigned i = 0; i < 5; i++)
			store_twin_random(t);
		store_twin_seal(t);
		if (n % 5 == 4) {
			replica_session_end(t->replica);
			store_twin_session(t);
		}
	}
	pthread_mutex_lock(&f.lock);
	f.stop = true;
	pthread_mutex_unlock(&f.lock);
	assert_int_equal(pthread_join(thread, NULL), 0);
	while (replica_retain(t->replica, NULL) == 1)
		f.folds++;
	assert_int_equal(f.folds, 18);
	assert_true(store_twin_check(t, false));
	store_twin_reopen(t);
	assert_true(store_twin_check(t, false));
	store_twin_end(t);
	free(t);
}

#define FAULT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	log_init("test_store_faults", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		FAULT_TEST(full_disk_drops_the_head_and_keeps_the_points),
		FAULT_TEST(seal_that_fails_anywhere_never_answers_committed_in_vain),
		FAULT_TEST(point_that_a_restarted_receiver_tells_of_outlives_the_power),
		FAULT_TEST(failed_write_to_the_base_leaves_the_fold_to_be_done_again),
		cmocka_unit_test(fold_beside_a_session_changes_no_point),
	};
	return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
