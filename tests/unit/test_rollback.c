// SPDX-License-Identifier: Apache-2.0
// A failover taken back, and made final, over the simulated disk: who may write when, and the time until it happens by itself
// (docs/store.md, "Roll back"). Under crashes: test_rollback_crash.c.
#include "base/log.h"
#include "receiver/failover.h"
#include "receiver/replica.h"
#include "tests/lib/feed.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOUR_MS = 3600000 };

static const uint64_t disk_size[] = {(1 << 20) + 512};

static const struct wire_open *open_message(void)
{
	static struct wire_open open;
	open = feed_open(1, disk_size, 9);
	return &open;
}

static int add_point(struct env *env, struct replica *r, struct err *err)
{
	return feed_point(env, r, open_message(), err);
}

static bool published(struct env *env)
{
	return feed_finds(env, "vm1/failover");
}

struct bench {
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct replica *r;
	struct replica_info info;
	struct failover_info failover;
	struct err err;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	b->sim = sim_new(1);
	b->env = sim_env(b->sim);
	assert_int_equal(store_open(b->env, "/", &b->store, &b->err), 0);
	assert_int_equal(feed_points(b->env, b->store, open_message(), 2, &b->err), 0);
	b->r = store_find(b->store, "vm1");
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	store_close(b->store);
	assert_int_equal(sim_handles(b->sim), 0);
	sim_free(b->sim);
	free(b);
	return 0;
}

static void reopen(struct bench *b)
{
	store_close(b->store);
	assert_int_equal(store_open(b->env, "/", &b->store, &b->err), 0);
	b->r = store_find(b->store, "vm1");
}

static void fail_over(struct bench *b, uint64_t number)
{
	if (failover_run(b->env, b->store, b->r, number, false, NULL, &b->failover, &b->err))
		fail_msg("%s", b->err.text);
}

static const struct replica_info *info_of(struct bench *b)
{
	replica_info(b->r, &b->info);
	return &b->info;
}

static void rollback_lets_the_old_generation_write_again(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(add_point(b->env, b->r, &b->err), -ESTALE);
	assert_int_equal(replica_unfence(b->r, 0, &b->err), 0);
	assert_false(info_of(b)->fenced);
	assert_true(uuid_equal(&b->info.generation, &open_message()->generation));
	assert_false(published(b->env));
	for (unsigned i = 0; i < 2; i++, reopen(b)) {
		assert_int_equal(add_point(b->env, b->r, &b->err), 0);
		assert_int_equal(info_of(b)->last_point, 3 + i);
	}
}

static void rollback_is_refused_where_there_is_nothing_to_take_back(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_unfence(b->r, 0, &b->err), -ENOENT);
	fail_over(b, 1);
	assert_int_equal(replica_unfence(b->r, 2, &b->err), -EALREADY);
	assert_true(info_of(b)->fenced && published(b->env));
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), -ENOENT);
}

static void committed_failover_is_final(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_fence_commit(b->r, 0, &b->err), -ENOENT);
	fail_over(b, 1);
	assert_false(info_of(b)->fence_final);
	assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), 0);
	for (unsigned i = 0; i < 3; i++, reopen(b)) {
		assert_int_equal(replica_fence_commit(b->r, 1, &b->err), 0);
		assert_true(info_of(b)->fence_final && b->info.fenced);
		assert_int_equal(b->info.rollback_in_ms, 0);
		assert_int_equal(replica_unfence(b->r, 0, &b->err), -EPERM);
		assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), -EPERM);
		assert_int_equal(add_point(b->env, b->r, &b->err), -ESTALE);
		assert_true(published(b->env));
		fail_over(b, 1); // and it answers as before
	}
}

static void another_point_can_be_taken_after_a_rollback(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	struct uuid first = info_of(b)->generation;
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	fail_over(b, 2);
	assert_int_equal(b->failover.point, 2);
	assert_false(uuid_equal(&info_of(b)->generation, &first));
	assert_false(uuid_equal(&b->info.generation, &open_message()->generation));
	assert_int_equal(failover_load(b->store, "vm1", &b->failover, &b->err), 0);
	assert_int_equal(b->failover.point, 2);
	assert_int_equal(add_point(b->env, b->r, &b->err), -ESTALE);
}

// A session that slept through a failover and its rollback cannot seal what it sent before.
static void head_of_before_a_failover_is_not_sealed_after_its_rollback(void **state)
{
	struct bench *b = *state;
	struct wire_opened opened;
	struct wire_committed committed;
	struct wire_zeros zeros = {.disk = 0, .first = 1, .count = 1};
	assert_int_equal(replica_session_begin(b->r, open_message(), feed_pin, &opened, &b->err), 0);
	assert_int_equal(replica_write_zeros(b->r, &zeros, &b->err), 0);
	fail_over(b, 1);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	struct wire_seal seal = {.predecessor = 2, .head = opened.head, .cut = {{3}}, .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(b->r, &seal, &committed, &b->err), -ESTALE);
	replica_session_end(b->r);
	assert_int_equal(add_point(b->env, b->r, &b->err), 0);
}

static void rollback_on_a_full_disk_is_refused_and_done_when_there_is_room(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(env_unlink(b->r->root, "vm1/protection.json.copy"), 0); // what it takes would be room enough
	sim_set_space(b->sim, 0);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), -ENOSPC);
	assert_true(info_of(b)->fenced);
	assert_false(b->info.broken);
	sim_set_space(b->sim, 1 << 30);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_int_equal(add_point(b->env, b->r, &b->err), 0);
}

static bool tick(struct bench *b, uint64_t passed_ms, bool in_use)
{
	bool due = false;
	if (replica_fence_tick(b->r, passed_ms, in_use, 0, &due, &b->err))
		fail_msg("%s", b->err.text);
	return due;
}

static void rollback_comes_due_by_time_that_passed_whatever_the_clock_says(void **state)
{
	struct bench *b = *state;
	assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), -ENOENT);
	fail_over(b, 1);
	assert_false(tick(b, 10 * HOUR_MS, false)); // there is no such time
	assert_int_equal(replica_fence_timer(b->r, HOUR_MS, &b->err), 0);
	assert_false(tick(b, HOUR_MS / 2, false));
	sim_clock_step(b->sim, INT64_C(366) * 86400 * 1000000000);
	assert_false(tick(b, 1000, false));
	reopen(b);						   // what had passed was saved
	assert_int_equal(info_of(b)->rollback_in_ms, HOUR_MS / 2); // but for what was not saved yet: later, not earlier
	assert_false(tick(b, HOUR_MS / 2 - 1, false));
	assert_true(info_of(b)->rollback_in_ms > 0);
	assert_true(tick(b, 1, false));
	fail_over(b, 1);
	assert_true(tick(b, 0, false)); // asked again, it goes on as it was
}

static void rollback_does_not_come_due_while_a_disk_is_open_nor_soon_after(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(replica_fence_timer(b->r, 1000, &b->err), 0);
	assert_false(tick(b, 10 * HOUR_MS, true));
	reopen(b); // the host went down with its guest, and is back
	assert_false(tick(b, ROLLBACK_GRACE_MS - 1, false));
	assert_false(tick(b, 1, true));
	assert_false(tick(b, ROLLBACK_GRACE_MS - 1, false));
	assert_true(tick(b, 1, false));
}

static void rollback_does_not_come_due_when_a_disk_was_written_between_two_looks(void **state)
{
	struct bench *b = *state;
	bool due = false;
	fail_over(b, 1);
	assert_int_equal(replica_fence_timer(b->r, 1000, &b->err), 0);
	assert_int_equal(replica_fence_tick(b->r, HOUR_MS, false, 7, &due, &b->err), 0);
	assert_false(due);
	assert_int_equal(replica_fence_tick(b->r, ROLLBACK_GRACE_MS - 1, false, 7, &due, &b->err), 0);
	assert_false(due);
	assert_int_equal(replica_fence_tick(b->r, 1, false, 5, &due, &b->err), 0); // again, and the clock had been set back
	assert_false(due);
	reopen(b); // what was written before a restart may have been written while no receiver ran
	assert_int_equal(replica_fence_tick(b->r, HOUR_MS, false, 5, &due, &b->err), 0);
	assert_false(due);
	assert_int_equal(replica_fence_tick(b->r, ROLLBACK_GRACE_MS, false, 5, &due, &b->err), 0);
	assert_true(due);
}

// By somebody who takes directories away that are empty, say.
static void trash_lose(struct bench *b)
{
	assert_int_equal(env_rmdir(b->r->root, "vm1/trash"), 0);
}

static void rollback_makes_the_trash_that_is_gone(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	trash_lose(b);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_false(info_of(b)->fenced || published(b->env));
	assert_int_equal(add_point(b->env, b->r, &b->err), 0);
	fail_over(b, 3);
	assert_int_equal(b->failover.point, 3);
}

static void rollback_is_refused_where_the_disks_cannot_be_moved(void **state)
{
	struct bench *b = *state;
	struct env_file *file = NULL;
	fail_over(b, 1);
	trash_lose(b);
	assert_int_equal(env_open(b->r->root, "vm1/trash", ENV_CREATE, &file), 0);
	env_close(file);
	assert_int_not_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_true(info_of(b)->fenced && published(b->env));
	assert_int_equal(add_point(b->env, b->r, &b->err), -ESTALE);
}

// The disks of a failover that is over, in their old place: moved there by hand, say, or beside a protection.json out of a backup.
static void old_disks(struct bench *b)
{
	fail_over(b, 1);
	assert_int_equal(env_rename(b->r->root, "vm1/failover", "vm1/aside"), 0);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_int_equal(env_rename(b->r->root, "vm1/aside", "vm1/failover"), 0);
	assert_int_equal(env_sync_dir(b->r->root, "vm1"), 0);
}

static void failover_is_refused_over_the_disks_of_one_that_is_over(void **state)
{
	struct bench *b = *state;
	old_disks(b);
	for (uint64_t number = 1; number <= 2; number++) {
		assert_int_equal(failover_run(b->env, b->store, b->r, number, false, NULL, &b->failover, &b->err), -EEXIST);
		assert_false(info_of(b)->fenced);
	}
	assert_true(published(b->env));
}

static void failover_is_not_answered_with_the_disks_of_another_point(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(env_rename(b->r->root, "vm1/failover", "vm1/aside"), 0);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_int_equal(replica_fence(b->r, 2, &b->err), 0);
	assert_int_equal(env_rename(b->r->root, "vm1/aside", "vm1/failover"), 0);
	for (uint64_t number = 0; number <= 2; number += 2)
		assert_int_equal(failover_run(b->env, b->store, b->r, number, false, NULL, &b->failover, &b->err), -EBADMSG);
	assert_non_null(strstr(b->err.text, "of point 1"));
	assert_int_equal(failover_load(b->store, "vm1", &b->failover, &b->err), -EBADMSG);
	assert_int_equal(replica_unfence(b->r, 2, &b->err), 0); // and it can be taken back
	fail_over(b, 2);
}

// A start does not decide which of the two is right, and throws nothing away: until somebody does, nobody appends.
static void disks_of_a_failover_without_a_fence_keep_the_source_out(void **state)
{
	struct bench *b = *state;
	old_disks(b);
	reopen(b);
	assert_true(info_of(b)->broken && published(b->env));
	assert_non_null(strstr(b->info.broken_reason, "vm1/failover"));
	assert_int_equal(add_point(b->env, b->r, &b->err), -EIO);
	assert_int_equal(env_rename(b->r->root, "vm1/failover", "aside"), 0);
	reopen(b);
	assert_int_equal(add_point(b->env, b->r, &b->err), 0);
}

static void base_size(struct bench *b, uint64_t size)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(b->r->root, "vm1/base/vda.raw", ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, size), 0);
	assert_int_equal(env_sync(file), 0);
	env_close(file);
}

// What is damaged is not what a rollback writes.
static void rollback_is_kept_of_a_replica_that_only_cannot_be_read(void **state)
{
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(replica_fence_timer(b->r, 1000, &b->err), 0);
	base_size(b, 512);
	reopen(b);
	assert_true(info_of(b)->broken && !b->info.rollback_barred);
	assert_int_equal(replica_fence_timer(b->r, 2000, &b->err), 0);
	assert_false(tick(b, 1999, false));
	assert_true(tick(b, 1, false));
	assert_int_equal(replica_unfence_check(b->r, 1, &b->err), 0);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), 0);
	assert_true(info_of(b)->broken && !b->info.fenced && !published(b->env));
	assert_int_equal(add_point(b->env, b->r, &b->err), -EIO);
	base_size(b, disk_size[0]);
	reopen(b);
	assert_int_equal(add_point(b->env, b->r, &b->err), 0);
	assert_int_equal(info_of(b)->last_point, 3);
}

static void is_barred(struct bench *b)
{
	bool due = true;
	assert_true(info_of(b)->rollback_barred);
	assert_int_equal(replica_unfence_ready(b->r, &b->err), -EIO);
	assert_int_equal(replica_unfence(b->r, 1, &b->err), -EIO);
	assert_int_equal(replica_fence_timer(b->r, 1000, &b->err), -EIO);
	assert_int_equal(replica_fence_tick(b->r, HOUR_MS, false, 0, &due, &b->err), -EIO);
	assert_false(due);
	assert_true(info_of(b)->fenced && published(b->env));
}

// Nobody knows what is on disk then: it is said, and not promised.
static void rollback_is_barred_after_a_write_that_failed(void **state)
{
	const struct err why = {.code = -EIO, .text = "a sync failed"};
	struct bench *b = *state;
	fail_over(b, 1);
	assert_int_equal(replica_fence_timer(b->r, 1000, &b->err), 0);
	(void)replica_break(b->r, &why, &b->err);
	is_barred(b);
	base_size(b, 512);
	reopen(b);
	assert_false(info_of(b)->rollback_barred);
	(void)replica_break(b->r, &why, &b->err); // of one that could only not be read before
	is_barred(b);
	assert_string_equal(b->info.broken_reason, why.text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(rollback_lets_the_old_generation_write_again),
		TEST(rollback_is_refused_where_there_is_nothing_to_take_back),
		TEST(committed_failover_is_final),
		TEST(another_point_can_be_taken_after_a_rollback),
		TEST(head_of_before_a_failover_is_not_sealed_after_its_rollback),
		TEST(rollback_on_a_full_disk_is_refused_and_done_when_there_is_room),
		TEST(rollback_comes_due_by_time_that_passed_whatever_the_clock_says),
		TEST(rollback_does_not_come_due_while_a_disk_is_open_nor_soon_after),
		TEST(rollback_does_not_come_due_when_a_disk_was_written_between_two_looks),
		TEST(rollback_makes_the_trash_that_is_gone),
		TEST(rollback_is_refused_where_the_disks_cannot_be_moved),
		TEST(failover_is_refused_over_the_disks_of_one_that_is_over),
		TEST(failover_is_not_answered_with_the_disks_of_another_point),
		TEST(disks_of_a_failover_without_a_fence_keep_the_source_out),
		TEST(rollback_is_kept_of_a_replica_that_only_cannot_be_read),
		TEST(rollback_is_barred_after_a_write_that_failed),
	};
	log_init("test_rollback", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("rollback", tests, NULL, NULL);
}
