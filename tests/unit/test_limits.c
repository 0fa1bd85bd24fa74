// SPDX-License-Identifier: Apache-2.0
// Quota and reserve: the new point is refused, the old ones stay, others go on, and so does it when there is room; on a disk that
// is full a failover works. Over the simulated disk, whose free space is set to a byte, and once on a real one.
#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "receiver/failover.h"
#include "tests/lib/store_twin.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 256, STEP = 1 << 20, MIB = 1 << 20 };

struct world {
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct replica *vm[2];
	struct wire_open open[2];
	struct wire_opened opened[2];
	uint64_t seed;
	struct replica_info info;
	struct err err;
};

static const unsigned char pin[OWNER_PIN_SIZE] = {7};

static void begin(struct world *w, unsigned vm)
{
	if (replica_session_begin(w->vm[vm], &w->open[vm], pin, &w->opened[vm], &w->err))
		fail_msg("%s", w->err.text);
}

static void begin_again(struct world *w, unsigned vm)
{
	replica_session_end(w->vm[vm]);
	begin(w, vm);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->sim = sim_new(3);
	w->env = sim_env(w->sim);
	w->seed = 3;
	assert_int_equal(store_open(w->env, "/", &w->store, &w->err), 0);
	for (unsigned i = 0; i < 2; i++) {
		w->open[i] = (struct wire_open){.protection = {{(unsigned char)(i + 1)}},
						.generation = {{9}},
						.digest = {.kind = DIGEST_XXH3},
						.codec = CODEC_ZSTD,
						.points_keep = 2,
						.rpo_ms = 15000,
						.disk_count = 1};
		(void)snprintf(w->open[i].name, NAME_SIZE, "vm%u", i + 1);
		strcpy(w->open[i].disk[0].name, "vda");
		w->open[i].disk[0].size = BLOCKS * BLOCK_SIZE;
		const struct retention policy = {.points = 2}; // without a floor
		assert_int_equal(store_create(w->store, &w->open[i], pin, &w->vm[i], &w->err), 0);
		assert_int_equal(replica_set_retention(w->vm[i], &policy, &w->err), 0);
		begin(w, i);
	}
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	for (unsigned i = 0; i < 2; i++)
		replica_session_end(w->vm[i]);
	store_close(w->store);
	assert_int_equal(sim_handles(w->sim), 0);
	sim_free(w->sim);
	free(w);
	return 0;
}

static const struct replica_info *info_of(struct world *w, unsigned vm)
{
	replica_info(w->vm[vm], &w->info);
	return &w->info;
}

// Sends blocks from the first on, each of 64 KiB in the store; how many were taken.
static unsigned send(struct world *w, unsigned vm, unsigned count)
{
	AUTO_FREE unsigned char *plain = malloc(BLOCK_SIZE);
	assert_non_null(plain);
	for (unsigned i = 0; i < count; i++) {
		for (unsigned b = 0; b < BLOCK_SIZE; b += 8)
			memcpy(plain + b, &(uint64_t){draw(&w->seed)}, 8);
		struct wire_block block = {.disk = 0,
					   .index = i,
					   .mask = MASK_FULL,
					   .codec = CODEC_NONE,
					   .len = BLOCK_SIZE,
					   .payload = plain,
					   .digest = digest_of(&w->open[vm].digest, 0, i, plain)};
		if (replica_write_block(w->vm[vm], &block, &w->err))
			return i;
	}
	return count;
}

static int seal(struct world *w, unsigned vm)
{
	struct wire_committed committed;
	const struct replica_info *info = info_of(w, vm);
	struct wire_seal s = {.predecessor = info->last_point,
			      .head = info->head,
			      .cut = {{1}},
			      .consistency = POINT_CRASH};
	return replica_seal(w->vm[vm], &s, &committed, &w->err);
}

static uint64_t used(struct world *w, unsigned vm)
{
	return info_of(w, vm)->used_bytes;
}

static void quota_refuses_the_new_point_and_nothing_else(void **state)
{
	struct world *w = *state;
	assert_int_equal(send(w, 0, 32), 32);
	assert_int_equal(seal(w, 0), 0);
	uint64_t before = used(w, 0), quota = before + 4 * MIB;
	assert_int_equal(replica_set_quota(w->vm[0], quota, &w->err), 0);
	unsigned taken = send(w, 0, BLOCKS);
	assert_int_equal(w->err.code, -EDQUOT);
	assert_non_null(strstr(w->err.text, "kagami limit vm1"));
	assert_true(taken >= 2 * MIB / BLOCK_SIZE && taken <= 4 * MIB / BLOCK_SIZE);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_QUOTA);
	assert_non_null(strstr(w->info.limited_reason, "quota"));
	assert_non_null(strstr(w->info.limited_reason, "its next point needs more than 4 MiB")); // else what it has would be less than it may
	assert_int_equal(w->info.last_point, 1);
	assert_int_equal(used(w, 0), before);	      // the head's space is back
	assert_int_equal(send(w, 1, BLOCKS), BLOCKS); // the other one goes on
	assert_int_equal(seal(w, 1), 0);
	assert_int_equal(info_of(w, 1)->limited, LIMITED_NOT);
}

static void quota_that_is_raised_lets_it_go_on(void **state)
{
	struct world *w = *state;
	assert_int_equal(replica_set_quota(w->vm[0], 4 * MIB, &w->err), 0);
	assert_true(send(w, 0, BLOCKS) < BLOCKS);
	begin_again(w, 0);
	assert_int_equal(replica_set_quota(w->vm[0], 40 * MIB, &w->err), 0);
	assert_int_equal(send(w, 0, BLOCKS), BLOCKS);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_QUOTA); // until there is a point
	assert_int_equal(seal(w, 0), 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
}

static void quota_is_never_exceeded_by_what_is_sealed(void **state)
{
	struct world *w = *state;
	uint64_t quota = 6 * MIB;
	assert_int_equal(replica_set_quota(w->vm[0], quota, &w->err), 0);
	for (unsigned i = 0; i < 12; i++) {
		(void)(send(w, 0, 24) == 24 && seal(w, 0) == 0);
		assert_true(used(w, 0) <= quota);
	}
	assert_true(info_of(w, 0)->last_point >= 2);
	assert_int_equal(w->info.limited, LIMITED_QUOTA);
	assert_int_equal(replica_set_quota(w->vm[0], 0, &w->err), 0);
	assert_int_equal(send(w, 0, 24), 24);
	assert_int_equal(seal(w, 0), 0);
}

static void quota_below_what_is_there_keeps_the_points(void **state)
{
	struct world *w = *state;
	assert_int_equal(send(w, 0, 32), 32);
	assert_int_equal(seal(w, 0), 0);
	assert_int_equal(replica_set_quota(w->vm[0], MIB, &w->err), 0);
	assert_int_equal(send(w, 0, 1), 0);
	assert_int_equal(seal(w, 0), -EDQUOT); // nor an empty one
	assert_null(strstr(w->err.text, "next point needs"));
	assert_int_equal(info_of(w, 0)->point_count, 1);
	replica_session_end(w->vm[0]);
	replica_session_end(w->vm[1]);
	store_close(w->store);
	assert_int_equal(store_open(w->env, "/", &w->store, &w->err), 0); // and it is kept
	for (unsigned i = 0; i < 2; i++) {
		w->vm[i] = store_find(w->store, w->open[i].name);
		begin(w, i);
	}
	assert_int_equal(info_of(w, 0)->quota_bytes, MIB);
	assert_int_equal(w->info.point_count, 1);
	assert_int_equal(send(w, 0, 1), 0);
}

static void set_free(struct world *w, uint64_t bytes)
{
	sim_set_space(w->sim, bytes);
}

static void points(struct world *w, unsigned count, unsigned blocks)
{
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(send(w, 0, blocks), blocks);
		assert_int_equal(seal(w, 0), 0);
	}
}

static void reserve_stays_free_of_heads_and_a_failover_has_it(void **state)
{
	struct world *w = *state;
	struct failover_info failover;
	store_set_reserve(w->store, 2 * MIB);
	assert_int_equal(send(w, 0, 16), 16);
	assert_int_equal(seal(w, 0), 0);
	set_free(w, 8 * MIB);
	assert_true(send(w, 1, BLOCKS) < BLOCKS);
	assert_int_equal(w->err.code, -ENOSPC);
	assert_non_null(strstr(w->err.text, "full"));
	assert_int_equal(info_of(w, 1)->limited, LIMITED_SPACE);
	set_free(w, 2 * MIB - 4096); // somebody else takes it
	assert_int_equal(send(w, 0, 1), 0);
	assert_int_equal(seal(w, 0), -ENOSPC);
	struct wire_open third = w->open[0];
	struct replica *created;
	strcpy(third.name, "vm3");
	assert_int_equal(store_create(w->store, &third, pin, &created, &w->err), -ENOSPC);
	assert_int_equal(failover_run(w->env, w->store, w->vm[0], 0, false, NULL, &failover, &w->err), 0);
	assert_int_equal(failover.point, 1);
	assert_int_equal(replica_unfence(w->vm[0], 0, &w->err), 0);
	assert_int_equal(info_of(w, 0)->point_count, 1);
}

// However little is free: it is refused as a whole, and the source may go on; or there are disks.
static void failover_without_space_for_its_disks_is_none(void **state)
{
	struct world *w = *state;
	struct failover_info failover;
	unsigned behind_the_fence = 0;
	assert_int_equal(send(w, 0, 16), 16);
	assert_int_equal(seal(w, 0), 0);
	const struct uuid generation = info_of(w, 0)->generation;
	for (uint64_t bytes = 0;; bytes += 512) {
		set_free(w, bytes);
		int rc = failover_run(w->env, w->store, w->vm[0], 0, false, NULL, &failover, &w->err);
		if (rc == 0)
			break;
		assert_int_equal(rc, -ENOSPC);
		behind_the_fence += strstr(w->err.text, "nothing was changed") != NULL;
		assert_false(info_of(w, 0)->fenced || w->info.broken);
		assert_true(uuid_equal(&w->info.generation, &generation));
		assert_int_equal(failover_load(w->store, "vm1", &failover, NULL), -ENOENT);
	}
	assert_true(behind_the_fence > 0);
	assert_true(info_of(w, 0)->fenced);
	set_free(w, 64 * MIB);
	assert_int_equal(replica_unfence(w->vm[0], 0, &w->err), 0);
	begin_again(w, 0);
	assert_int_equal(send(w, 0, 1), 1);
	assert_int_equal(seal(w, 0), 0);
}

// What health and a dry run say is enough is enough.
static void failover_takes_no_more_than_is_said(void **state)
{
	struct world *w = *state;
	struct failover_info failover;
	points(w, 1, 16);
	set_free(w, FAILOVER_DISK_BYTES);
	assert_int_equal(failover_run(w->env, w->store, w->vm[0], 0, false, NULL, &failover, &w->err), 0);
}

// A fence that was there, as one whose failover was cut short, was perhaps answered: it stands, and who asks again is told.
static void failover_asked_again_without_space_stays_fenced(void **state)
{
	struct world *w = *state;
	struct failover_info failover;
	assert_int_equal(send(w, 0, 16), 16);
	assert_int_equal(seal(w, 0), 0);
	assert_int_equal(replica_fence(w->vm[0], 1, &w->err), 0);
	set_free(w, 0);
	assert_int_equal(failover_run(w->env, w->store, w->vm[0], 0, false, NULL, &failover, &w->err), -ENOSPC);
	assert_non_null(strstr(w->err.text, "ask again, or take it back (kagami failover vm1 --rollback)"));
	set_free(w, 64 * MIB);
	assert_true(info_of(w, 0)->fenced);
	assert_int_equal(failover_run(w->env, w->store, w->vm[0], 0, false, NULL, &failover, &w->err), 0);
}

static void fold_on_a_full_disk_has_the_reserve(void **state)
{
	struct world *w = *state;
	store_set_reserve(w->store, 4 * MIB);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(send(w, 0, 16), 16);
		assert_int_equal(seal(w, 0), 0);
	}
	uint64_t before = used(w, 0);
	set_free(w, 4 * MIB);
	assert_int_equal(send(w, 0, 1), 0);
	assert_int_equal(replica_retain(w->vm[0], &w->err), 1);
	assert_int_equal(info_of(w, 0)->point_count, 2);
	assert_true(used(w, 0) < before + 4096); // from a point to the base
	assert_true(used(w, 0) >= 48 * BLOCK_SIZE);
}

// As the keeper does, until nothing is left to do or it has no room; every step leaves fewer points.
static int retain(struct world *w)
{
	uint64_t count = info_of(w, 0)->point_count;
	int rc;
	while ((rc = replica_retain(w->vm[0], &w->err)) == 1) {
		assert_true(info_of(w, 0)->point_count < count);
		count = w->info.point_count;
	}
	assert_false(info_of(w, 0)->broken);
	return rc;
}

// The fold of the first point cannot be done, and what is above it makes the room for it.
static void fold_that_has_no_room_lets_the_merges_make_some(void **state)
{
	struct world *w = *state;
	points(w, 1, 128);
	points(w, 19, 16);
	set_free(w, 5 * MIB);
	assert_int_equal(retain(w), 0);
	assert_int_equal(info_of(w, 0)->point_count, 2);
	assert_int_equal(w->info.last_point, 20);
	assert_string_equal(w->info.stall.reason, "");
}

// So much is free that it never can be: all else is done, and why it stays is told.
static void fold_that_never_has_room_is_told_when_all_else_is_done(void **state)
{
	struct world *w = *state;
	struct point_info *left = NULL;
	size_t count = 0;
	points(w, 1, 250);
	points(w, 9, 16);
	set_free(w, 4 * MIB);
	assert_int_equal(retain(w), -ENOSPC);
	assert_int_equal(info_of(w, 0)->stall.cause, STALL_SPACE);
	assert_non_null(strstr(w->info.stall.reason, "to fold"));
	assert_int_equal(replica_points(w->vm[0], &left, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(left[0].number, 1);
	assert_int_equal(left[1].number, 9);
	assert_int_equal(left[2].number, 10);
	free(left);
	set_free(w, 64 * MIB);
	assert_int_equal(retain(w), 0);
	assert_int_equal(info_of(w, 0)->point_count, 2);
	assert_int_equal(w->info.stall.cause, STALL_NOT);
}

// The lowest run has none: neither as a whole, nor any of its points with the large one that it is to go into.
static void run_that_has_no_room_lets_other_points_go(void **state)
{
	struct world *w = *state;
	points(w, 2, 16);
	assert_int_equal(replica_pin(w->vm[0], 1, "", &w->err), 0);
	points(w, 4, 16);
	points(w, 1, 200);
	assert_int_equal(replica_pin(w->vm[0], 7, "", &w->err), 0);
	points(w, 6, 16);
	set_free(w, 5 * MIB); // 2 to 6, the five below the large one, and 8 to 11 have room in part
	assert_int_equal(retain(w), -ENOSPC);
	assert_non_null(strstr(info_of(w, 0)->stall.reason, "to merge"));
	assert_int_equal(w->info.point_count, 5); // 1, 6, 7, 12, 13
	set_free(w, 64 * MIB);
	assert_int_equal(retain(w), 0);
	assert_int_equal(info_of(w, 0)->point_count, 4);
}

// What is held stays, and so does what is below it, however full it is.
static void hold_stands_in_a_full_store(void **state)
{
	struct world *w = *state;
	points(w, 1, 128);
	points(w, 11, 16);
	uint64_t held;
	assert_int_equal(replica_hold(w->vm[0], 6, &held, &w->err), 0);
	set_free(w, 5 * MIB);
	assert_int_equal(retain(w), 0);
	assert_int_equal(info_of(w, 0)->point_count, 8); // 1 to 6, 11, 12
	replica_release(w->vm[0], 6);
	assert_int_equal(retain(w), 0);
	assert_int_equal(info_of(w, 0)->point_count, 2);
}

// What is to be done is said, and not what would cost a replica: whoever holds a point, and lets others gather below it, is in the way.
static void a_hold_is_named_before_space_is_asked_for(void **state)
{
	struct world *w = *state;
	uint64_t held;
	store_set_reserve(w->store, 2 * MIB);
	points(w, 5, 16);
	assert_int_equal(replica_hold(w->vm[0], 5, &held, &w->err), 0);
	assert_int_equal(info_of(w, 0)->retention_waits_for, 0); // they are few
	set_free(w, 3 * MIB);
	assert_true(send(w, 0, BLOCKS) < BLOCKS);
	assert_null(strstr(w->err.text, "forget"));
	assert_non_null(strstr(w->err.text, "waits for its point 5, which a mount or a test holds"));
	assert_int_equal(info_of(w, 0)->retention_waits_for, 5);
	replica_release(w->vm[0], 5);
	assert_int_equal(info_of(w, 0)->retention_waits_for, 0);
	assert_non_null(strstr(w->info.limited_reason, "free space"));
	assert_int_equal(replica_hold(w->vm[0], 1, &held, &w->err), 0); // what is above it may go
	assert_int_equal(replica_pin(w->vm[0], 1, "", &w->err), 0);
	assert_int_equal(info_of(w, 0)->retention_waits_for, 0);
	replica_release(w->vm[0], 1);
}

static void a_store_with_room_again_is_not_called_full(void **state)
{
	struct world *w = *state;
	store_set_reserve(w->store, 2 * MIB);
	points(w, 1, 16);
	set_free(w, 6 * MIB);
	assert_true(send(w, 0, BLOCKS) < BLOCKS);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_SPACE);
	set_free(w, 5 * MIB); // the head had more
	assert_int_equal(retain(w), 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_SPACE);
	set_free(w, 64 * MIB);
	assert_int_equal(retain(w), 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
}

// --- a file system that takes no more, whatever it is that is short: bytes are free in all of these ---

static void full(struct world *w, bool is)
{
	sim_fail_at(w->sim, is ? sim_ops(w->sim) : SIM_NEVER, is ? -ENOSPC : 0, is);
}

static enum limited limited_after_rounds(struct world *w, unsigned vm)
{
	for (unsigned i = 0; i < 3; i++)
		assert_true(replica_retain(w->vm[vm], &w->err) >= 0);
	return info_of(w, vm)->limited;
}

static void a_file_system_that_takes_no_more_is_told_until_there_is_a_point(void **state)
{
	struct world *w = *state;
	struct temp temp;
	struct events *events;
	temp_open(&temp);
	assert_int_equal(events_open(env_posix(), temp.root, &events, NULL), 0);
	events_set_default(events);
	for (unsigned with = 0; with < 2; with++) {
		store_set_reserve(w->store, with * 2 * MIB);
		points(w, 1, 16);
		uint64_t told = events_count(events, "space");
		for (unsigned tries = 0; tries < 2; tries++) {
			full(w, true);
			assert_int_equal(send(w, 0, 4), 0);
			assert_int_equal(w->err.code, -ENOSPC);
			full(w, false);
			assert_int_equal(limited_after_rounds(w, 0), LIMITED_SPACE);
			assert_non_null(strstr(w->info.limited_reason, "inodes"));
			assert_int_equal(events_count(events, "space"), told + 1); // once, and not that there is room
			begin_again(w, 0);
		}
		assert_int_equal(send(w, 0, 4), 4);
		assert_int_equal(limited_after_rounds(w, 0), LIMITED_SPACE);
		assert_int_equal(seal(w, 0), 0);
		assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
		assert_int_equal(events_count(events, "space"), told + 2);
	}
	events_set_default(NULL);
	events_close(events);
	temp_close(&temp);
}

// An initial sync may take long: it is told to go on when more is durable than it had then.
static void a_head_that_is_saved_past_where_it_failed_has_room(void **state)
{
	struct world *w = *state;
	assert_int_equal(send(w, 1, 64), 64);
	assert_int_equal(replica_checkpoint(w->vm[1], true, &w->err), 1);
	full(w, true);
	assert_int_equal(send(w, 1, 128), 0);
	full(w, false);
	begin_again(w, 1);
	assert_int_equal(send(w, 1, 4), 4);
	assert_int_equal(replica_checkpoint(w->vm[1], true, &w->err), 1);
	assert_int_equal(limited_after_rounds(w, 1), LIMITED_SPACE);
	assert_int_equal(send(w, 1, 128), 128);
	assert_int_equal(limited_after_rounds(w, 1), LIMITED_SPACE); // what is not durable may not be there
	assert_int_equal(replica_checkpoint(w->vm[1], true, &w->err), 1);
	assert_int_equal(info_of(w, 1)->limited, LIMITED_NOT);
}

// What a point needs besides its head is asked for then, however large the next head is.
static void a_seal_without_room_is_told_until_there_is_a_point(void **state)
{
	struct world *w = *state;
	assert_int_equal(send(w, 1, 64), 64);
	full(w, true);
	assert_int_equal(seal(w, 1), -ENOSPC);
	full(w, false);
	begin_again(w, 1);
	assert_int_equal(send(w, 1, 200), 200);
	assert_int_equal(replica_checkpoint(w->vm[1], true, &w->err), 1);
	assert_int_equal(limited_after_rounds(w, 1), LIMITED_SPACE);
	assert_int_equal(seal(w, 1), 0);
	assert_int_equal(info_of(w, 1)->limited, LIMITED_NOT);
}

// The newest refusal is the one that is told.
static void a_reserve_that_is_reached_afterwards_is_looked_at_again(void **state)
{
	struct world *w = *state;
	store_set_reserve(w->store, 2 * MIB);
	points(w, 1, 16);
	full(w, true);
	assert_int_equal(send(w, 0, 4), 0);
	full(w, false);
	set_free(w, 2 * MIB);
	begin_again(w, 0);
	assert_int_equal(send(w, 0, 4), 0);
	assert_non_null(strstr(w->err.text, "but for its reserve"));
	set_free(w, 64 * MIB);
	assert_int_equal(limited_after_rounds(w, 0), LIMITED_NOT);
}

static void a_replica_that_is_failed_over_asks_for_no_space(void **state)
{
	struct world *w = *state;
	store_set_reserve(w->store, 2 * MIB);
	points(w, 1, 16);
	set_free(w, 6 * MIB);
	assert_true(send(w, 0, BLOCKS) < BLOCKS);
	assert_int_equal(replica_fence(w->vm[0], 1, &w->err), 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
	assert_string_equal(w->info.limited_reason, "");
}

// It does not fill the disk over and over: what it had to give back has to be free before it is tried for good again.
static void large_head_that_was_refused_waits_for_room_and_goes_on_by_itself(void **state)
{
	struct world *w = *state;
	store_set_reserve(w->store, 2 * MIB);
	set_free(w, 12 * MIB);
	assert_true(send(w, 0, BLOCKS) > 100); // refused after 9 MiB or so
	assert_int_equal(seal(w, 1), 0);
	set_free(w, 8 * MIB);
	begin_again(w, 0);
	assert_int_equal(send(w, 0, BLOCKS), 0);
	assert_int_equal(info_of(w, 1)->limited, LIMITED_NOT);
	assert_true(send(w, 0, 16) == 16); // less may do by now: it is asked again, for half
	assert_int_equal(seal(w, 0), 0);
	set_free(w, 4 * MIB);
	assert_true(send(w, 0, BLOCKS) < BLOCKS);
	set_free(w, 64 * MIB);
	begin_again(w, 0);
	assert_int_equal(send(w, 0, BLOCKS), BLOCKS);
	assert_int_equal(seal(w, 0), 0);
}

// What is counted is what the files take: on a real disk, before and after folds and merges.
static void used_bytes_are_what_the_files_take(void **state)
{
	(void)state;
	struct store_twin *t = calloc(1, sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 5);
	store_twin_keep(t, 3);
	store_twin_session(t);
	for (unsigned i = 0; i < 8; i++) {
		for (unsigned k = 0; k < 20; k++)
			store_twin_random(t);
		store_twin_seal(t);
		struct err err = {0};
		if (i == 1) // so that later ones are merged
			assert_int_equal(replica_pin(t->replica, 2, "", &err), 0);
		while (i % 2 && replica_retain(t->replica, &err) == 1)
			;
		char command[1024], text[64];
		struct replica_info info;
		(void)snprintf(command, sizeof(command),
			       "du -sB1 --apparent-size %s/vm1/points/*/*.qcow2 | awk '{s+=$1} END {print s}'; "
			       "du -sB1 %s/vm1/base/*.raw | awk '{s+=$1} END {print s}'",
			       t->temp.dir, t->temp.dir);
		FILE *du = popen(command, "r");
		uint64_t sum = 0;
		assert_non_null(du);
		while (fgets(text, sizeof(text), du))
			sum += strtoull(text, NULL, 10);
		(void)pclose(du);
		replica_info(t->replica, &info);
		assert_int_equal(info.used_bytes, sum);
		if (i == 7)
			assert_int_equal(info.point_count, 4); // 2, 6, 7, 8
	}
	store_twin_end(t);
	free(t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(quota_refuses_the_new_point_and_nothing_else),
		TEST(quota_that_is_raised_lets_it_go_on),
		TEST(quota_is_never_exceeded_by_what_is_sealed),
		TEST(quota_below_what_is_there_keeps_the_points),
		TEST(reserve_stays_free_of_heads_and_a_failover_has_it),
		TEST(failover_without_space_for_its_disks_is_none),
		TEST(failover_takes_no_more_than_is_said),
		TEST(failover_asked_again_without_space_stays_fenced),
		TEST(fold_on_a_full_disk_has_the_reserve),
		TEST(fold_that_has_no_room_lets_the_merges_make_some),
		TEST(fold_that_never_has_room_is_told_when_all_else_is_done),
		TEST(run_that_has_no_room_lets_other_points_go),
		TEST(hold_stands_in_a_full_store),
		TEST(a_hold_is_named_before_space_is_asked_for),
		TEST(a_store_with_room_again_is_not_called_full),
		TEST(a_file_system_that_takes_no_more_is_told_until_there_is_a_point),
		TEST(a_head_that_is_saved_past_where_it_failed_has_room),
		TEST(a_seal_without_room_is_told_until_there_is_a_point),
		TEST(a_reserve_that_is_reached_afterwards_is_looked_at_again),
		TEST(a_replica_that_is_failed_over_asks_for_no_space),
		TEST(large_head_that_was_refused_waits_for_room_and_goes_on_by_itself),
		cmocka_unit_test(used_bytes_are_what_the_files_take),
	};
	log_init("test_limits", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
