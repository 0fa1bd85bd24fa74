// SPDX-License-Identifier: Apache-2.0
// Retention over the store: merges, pins, holds and whose policy counts. Crash states are in test_store_crash.c, the policy alone in
// test_retention.c.
#include "base/log.h"
#include "base/size.h"
#include "receiver/copies.h"
#include "receiver/json_file.h"
#include "receiver/replica.h"
#include "tests/lib/store_flip.h"
#include "tests/lib/store_twin.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int setup(void **state)
{
	struct store_twin *t = malloc(sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 4711);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	store_twin_end(*state);
	free(*state);
	return 0;
}

static struct replica_info info_of(struct store_twin *t)
{
	struct replica_info info;
	replica_info(t->replica, &info);
	return info;
}

static void points_make(struct store_twin *t, unsigned count)
{
	for (unsigned n = 0; n < count; n++) {
		for (unsigned i = 0; i < 8; i++)
			store_twin_random(t);
		store_twin_seal(t);
	}
}

static void pin(struct store_twin *t, uint64_t number)
{
	struct err err = {0};
	if (replica_pin(t->replica, number, "wanted", &err))
		fail_msg("%s", err.text);
}

static unsigned retain_all(struct store_twin *t)
{
	struct err err = {0};
	unsigned steps = 0;
	int rc;
	while ((rc = replica_retain(t->replica, &err)) == 1)
		steps++;
	if (rc)
		fail_msg("%s", err.text);
	return steps;
}

static void expect_points(struct store_twin *t, const char *wanted)
{
	struct point_info *points = NULL;
	size_t count = 0, used = 0;
	char text[512] = "";
	assert_int_equal(replica_points(t->replica, &points, &count), 0);
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%llu", i ? " " : "", (unsigned long long)points[i].number);
	free(points);
	assert_string_equal(text, wanted);
}

static bool file_there(struct store_twin *t, const char *rest)
{
	char path[512];
	store_twin_path(t, path, sizeof(path), rest);
	return access(path, F_OK) == 0;
}

static void a_merge_keeps_every_remaining_point_byte_for_byte(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 14);
	pin(t, 1);
	pin(t, 5);
	pin(t, 6);
	pin(t, 11);
	store_twin_keep(t, 2);
	assert_int_equal(retain_all(t), 3); // 2 to 4 in one step, 7 to 10, 12
	expect_points(t, "1 5 6 11 13 14");
	assert_true(store_twin_check(t, true));
	points_make(t, 1); // the session goes on, with the digests that it had
	assert_true(store_twin_check(t, true));
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	expect_points(t, "1 5 6 11 13 14 15");
	store_twin_session(t); // reads all digests back
	points_make(t, 1);
	retain_all(t);
	expect_points(t, "1 5 6 11 15 16");
	assert_true(store_twin_check(t, true));
	assert_false(file_there(t, "merge/5") || file_there(t, "trash/2") || file_there(t, "trash/5.2") || file_there(t, "points/2"));
}

static void a_point_s_space_is_counted_anew_after_a_merge(void **state)
{
	struct store_twin *t = *state;
	struct point_info *points = NULL;
	struct env_stat st;
	size_t count = 0;
	uint64_t sum = 0;
	store_twin_session(t);
	points_make(t, 5);
	pin(t, 1);
	store_twin_keep(t, 1);
	retain_all(t);
	assert_int_equal(replica_points(t->replica, &points, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(env_stat(t->temp.root, "vm1/points/5/vda.qcow2", &st), 0);
	sum += st.size;
	assert_int_equal(env_stat(t->temp.root, "vm1/points/5/vdb.qcow2", &st), 0);
	assert_int_equal(points[1].stored_bytes, sum + st.size);
	free(points);
}

// By somebody who takes empty directories away.
static void dirs_lose(struct store_twin *t)
{
	assert_int_equal(env_rmdir(t->temp.root, "vm1/trash"), 0);
	assert_int_equal(env_rmdir(t->temp.root, "vm1/merge"), 0);
}

static void retention_makes_the_directories_that_are_gone(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	store_twin_session(t);
	points_make(t, 6);
	pin(t, 3);
	store_twin_keep(t, 1);
	for (unsigned steps = 0; steps < 3; steps++) { // two folds, and a merge
		dirs_lose(t);
		if (replica_retain(t->replica, &err) != 1)
			fail_msg("%s", err.text);
		if (steps < 2)
			assert_int_equal(env_mkdir(t->temp.root, "vm1/merge"), 0);
	}
	expect_points(t, "3 6");
	assert_true(store_twin_check(t, false));
	points_make(t, 1);
	store_twin_reopen(t);
	expect_points(t, "3 6 7");
}

static void a_hold_forbids_merges_below_it_and_none_above(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	uint64_t held = 0;
	store_twin_session(t);
	points_make(t, 9);
	pin(t, 1);
	store_twin_keep(t, 1);
	assert_int_equal(replica_hold(t->replica, 5, &held, &err), 0);
	assert_int_equal(retain_all(t), 1);
	expect_points(t, "1 2 3 4 5 9");
	assert_true(store_twin_check(t, false));
	replica_release(t->replica, 5);
	assert_int_equal(retain_all(t), 1);
	expect_points(t, "1 9");
	assert_true(store_twin_check(t, true));
}

// Whoever has a chain open sees the same bytes while its points are merged away.
static void an_open_file_keeps_its_bytes(void **state)
{
	struct store_twin *t = *state;
	struct env_file *file;
	uint64_t size = 0;
	store_twin_session(t);
	points_make(t, 4);
	assert_int_equal(env_open(t->temp.root, "vm1/points/4/vda.qcow2", ENV_READ, &file), 0);
	assert_int_equal(env_size(file, &size), 0);
	unsigned char *was = malloc(size), *is = malloc(size);
	assert_int_equal(env_pread_full(file, was, size, 0), 0);
	pin(t, 1);
	store_twin_keep(t, 1);
	retain_all(t);
	assert_int_equal(env_pread_full(file, is, size, 0), 0);
	assert_memory_equal(was, is, size);
	env_close(file);
	free(was);
	free(is);
}

struct stopper {
	unsigned left;
};

static int stop_soon(void *context, uint64_t bytes)
{
	struct stopper *s = context;
	(void)bytes;
	return s->left-- ? 0 : -ECANCELED;
}

static void a_step_that_is_stopped_anywhere_is_done_again(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	store_twin_session(t);
	points_make(t, 8);
	pin(t, 2);
	store_twin_keep(t, 1);
	unsigned stopped = 0;
	for (unsigned allowed = 0; info_of(t).point_count > 2; allowed++) { // a fold of 1, then a merge
		struct stopper s = {.left = allowed};
		const struct retain_pace pace = {.spend = stop_soon, .context = &s};
		int rc = replica_retain_paced(t->replica, &pace, &err);
		assert_true(rc == 1 || rc == -ECANCELED);
		stopped += rc == -ECANCELED;
		assert_false(info_of(t).broken);
		assert_true(store_twin_check(t, false));
		assert_false(file_there(t, "merge/8"));
	}
	assert_true(stopped > 5);
	expect_points(t, "2 8");
	assert_true(store_twin_check(t, true));
}

// --- whose policy counts ---

static void a_source_that_asks_for_fewer_points_removes_none(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t); // the twin was created with 8
	points_make(t, 8);
	replica_session_end(t->replica);
	t->open.points_keep = 1;
	store_twin_session(t);
	retain_all(t);
	assert_int_equal(info_of(t).point_count, 8);
	assert_int_equal(info_of(t).points_keep, 8);
	replica_session_end(t->replica);
	t->open.points_keep = 9;
	store_twin_session(t);
	assert_int_equal(info_of(t).points_keep, 9);
	store_twin_reopen(t);
	assert_int_equal(info_of(t).points_keep, 9);
}

static void the_operator_s_policy_counts_and_is_remembered(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	struct retention policy = {.points = 3, .floor_hours = 7}, bad = {.points = RETENTION_KEEP_MAX, .floor_hours = 1};
	assert_int_equal(retention_read("15m:24,1h:12", &policy, &err), 0);
	assert_int_equal(replica_set_retention(t->replica, &bad, &err), -EINVAL);
	assert_false(info_of(t).retention_set);
	assert_int_equal(info_of(t).retention.points, 8);
	assert_int_equal(info_of(t).retention.floor_hours, RETENTION_FLOOR_HOURS);
	assert_int_equal(replica_set_retention(t->replica, &policy, &err), 0);
	t->open.points_keep = 90;
	store_twin_session(t); // what a source wishes changes nothing any more
	store_twin_reopen(t);
	struct replica_info info = info_of(t);
	assert_true(info.retention_set);
	assert_memory_equal(&info.retention, &policy, sizeof(policy));
	assert_int_equal(replica_set_retention(t->replica, NULL, &err), 0);
	store_twin_reopen(t);
	assert_false(info_of(t).retention_set);
	assert_int_equal(info_of(t).retention.points, 90);
}

// --- pins ---

static void a_pin_is_remembered_with_its_text_until_it_is_taken_back(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	struct point_info *points = NULL;
	size_t count = 0;
	store_twin_session(t);
	points_make(t, 4);
	assert_int_equal(replica_pin(t->replica, 2, "before the upgrade \"ü\"", &err), 0);
	assert_int_equal(replica_pin(t->replica, 2, "before the upgrade", &err), 0);
	bool was = true;
	assert_int_equal(replica_unpin_again(t->replica, 3, &was, &err), 0); // was none
	assert_false(was);
	assert_int_equal(replica_pin(t->replica, 5, "", &err), -ENOENT);
	assert_int_equal(replica_unpin(t->replica, 5, &err), -ENOENT);
	assert_int_equal(replica_pin(t->replica, 3, "two\nlines", &err), -EINVAL);
	char longest[POINT_PIN_SIZE + 1];
	memset(longest, 'x', sizeof(longest));
	longest[POINT_PIN_SIZE] = 0;
	assert_int_equal(replica_pin(t->replica, 3, longest, &err), -EINVAL);
	longest[POINT_PIN_SIZE - 1] = 0;
	assert_int_equal(replica_pin(t->replica, 3, longest, &err), 0);
	assert_int_equal(replica_unpin_again(t->replica, 3, &was, &err), 0);
	assert_true(was);
	store_twin_reopen(t);
	assert_int_equal(replica_points(t->replica, &points, &count), 0);
	assert_true(points[1].pinned && !points[0].pinned && !points[2].pinned && !points[3].pinned);
	assert_string_equal(points[1].pin_text, "before the upgrade");
	free(points);
	store_twin_keep(t, 1);
	retain_all(t);
	expect_points(t, "2 4");
	assert_int_equal(replica_unpin(t->replica, 2, &err), 0);
	retain_all(t);
	expect_points(t, "4");
	assert_true(store_twin_check(t, true));
}

static void pins_are_bounded_and_all_of_them_fit(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	char text[POINT_PIN_SIZE];
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = i % 2 ? '\xbc' : '\xc3'; // as JSON the longest that there is: six characters for two bytes
	text[sizeof(text) - 1] = 0;
	store_twin_session(t);
	points_make(t, 1);
	for (unsigned n = 2; n <= POINT_PINS_MAX + 1; n++) {
		struct wire_seal seal = store_twin_cut(t);
		struct wire_committed committed;
		assert_int_equal(replica_seal(t->replica, &seal, &committed, &err), 0);
	}
	for (unsigned n = 1; n <= POINT_PINS_MAX; n++)
		assert_int_equal(replica_pin(t->replica, n, text, &err), 0);
	assert_int_equal(replica_pin(t->replica, POINT_PINS_MAX + 1, "", &err), -EBUSY);
	assert_int_equal(replica_pin(t->replica, 1, "again", &err), 0);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
}

static void damaged_pins_are_read_from_their_copy(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 4);
	pin(t, 2);
	store_flip_at(t, "pins.json", 30);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	assert_true(info_of(t).pins_lost == 0);
	store_twin_keep(t, 1);
	retain_all(t);
	expect_points(t, "2 4");
}

// As of a backup, of the file or of its copy: each start in between finds all of them again, until both say so.
static void older_pins_come_back_as(struct store_twin *t, const char *name)
{
	char *older = NULL;
	size_t len = 0;
	store_twin_session(t);
	points_make(t, 4);
	pin(t, 2);
	assert_int_equal(env_read_file(t->temp.root, "vm1/pins.json", 1 << 16, &older, &len), 0);
	pin(t, 3);
	assert_int_equal(replica_unpin(t->replica, 2, NULL), 0);
	assert_int_equal(env_replace(t->temp.root, "vm1", name, older, len), 0);
	free(older);
	for (unsigned starts = 0; starts < 3; starts++) {
		store_twin_reopen(t);
		assert_int_equal(t->replica->pins_apart, starts < 2);
		store_twin_keep(t, 1);
		retain_all(t);
		expect_points(t, "2 3 4");
		if (starts == 1)
			assert_int_equal(replica_mend(t->replica), 0);
	}
	assert_int_equal(replica_unpin(t->replica, 2, NULL), 0); // and what is taken back then stays so
	store_twin_reopen(t);
	retain_all(t);
	expect_points(t, "3 4");
}

static void older_pins_that_were_put_back_are_joined_with_those_of_the_copy(void **state)
{
	older_pins_come_back_as(*state, "vm1/pins.json");
}

static void older_copy_of_pins_that_was_put_back_is_joined_with_them(void **state)
{
	older_pins_come_back_as(*state, "vm1/pins.json" COPY_SUFFIX);
}

static void lost_pins_keep_every_point_until_the_operator_has_said_which(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	store_twin_session(t);
	points_make(t, 4);
	pin(t, 2);
	store_flip_at(t, "pins.json", 30);
	store_flip_at(t, "pins.json.copy", 31);
	for (unsigned starts = 0; starts < 3; starts++) {
		store_twin_reopen(t);
		assert_false(info_of(t).broken);
		assert_true(info_of(t).pins_lost == 4);
		store_twin_keep(t, 1);
		retain_all(t);
		expect_points(t, "1 2 3 4");
		if (starts == 0) // what was there is kept, and what is known of it is written
			assert_int_equal(replica_mend(t->replica), 0);
	}
	struct env_stat st;
	assert_int_equal(env_stat(t->temp.root, "vm1/pins.json.damaged", &st), 0);
	store_twin_session(t); // and it goes on: what comes is the policy's
	points_make(t, 3);
	retain_all(t);
	expect_points(t, "1 2 3 4 7");
	pin(t, 2);
	pin(t, 3);
	assert_int_equal(replica_unpin(t->replica, 3, &err), 0);
	assert_int_equal(replica_unpin(t->replica, 3, &err), -EBUSY);
	assert_non_null(strstr(err.text, "--lost"));
	store_twin_reopen(t);
	assert_true(info_of(t).pins_lost == 4);
	retain_all(t);
	expect_points(t, "1 2 3 4 7");
	assert_int_equal(replica_unpin_lost(t->replica, &err), 0);
	assert_int_equal(replica_unpin_lost(t->replica, &err), -ENOENT);
	store_twin_reopen(t);
	assert_true(info_of(t).pins_lost == 0);
	retain_all(t);
	expect_points(t, "2 7");
	assert_true(store_twin_check(t, true));
}

// One of before there was a copy, that is damaged; moved away as damaged; and a protection that never had pins.
static void pins_without_a_copy_are_lost_when_they_were_there(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 2);
	pin(t, 1);
	assert_int_equal(env_unlink(t->temp.root, "vm1/pins.json.copy"), 0);
	store_twin_reopen(t);
	assert_true(info_of(t).pins_lost == 0 && t->replica->points[0].pinned);
	store_flip_at(t, "pins.json", 30);
	store_twin_reopen(t);
	assert_true(info_of(t).pins_lost == 2);
	assert_int_equal(env_rename(t->temp.root, "vm1/pins.json", "vm1/pins.json.damaged"), 0);
	store_twin_reopen(t);
	assert_true(info_of(t).pins_lost == 2);
	assert_int_equal(env_unlink(t->temp.root, "vm1/pins.json.damaged"), 0);
	store_twin_reopen(t);
	assert_true(info_of(t).pins_lost == 0);
}

// --- a store in the simulated world ---

struct simulated {
	struct sim *sim;
	struct env_root *root;
	struct store *store;
	struct replica *r;
	struct wire_opened opened;
};

static const unsigned char simulated_owner[OWNER_PIN_SIZE] = {1};

static struct wire_open simulated_open(uint32_t points_keep)
{
	return (struct wire_open){.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3}, .codec = CODEC_ZSTD,
				  .points_keep = points_keep, .disk_count = 1, .disk = {{.name = "vda", .size = 4 * BLOCK_SIZE}}};
}

static void simulated_session(struct simulated *s, uint32_t points_keep)
{
	const struct wire_open open = simulated_open(points_keep);
	assert_int_equal(replica_session_begin(s->r, &open, simulated_owner, &s->opened, NULL), 0);
}

static void simulated_begin(struct simulated *s)
{
	struct err err = {0};
	const struct wire_open open = simulated_open(1);
	s->sim = sim_new(1);
	assert_int_equal(env_root_open(sim_env(s->sim), "/", &s->root), 0);
	assert_int_equal(env_mkdir(s->root, "store"), 0);
	assert_int_equal(store_open(sim_env(s->sim), "/store", &s->store, &err), 0);
	assert_int_equal(store_create(s->store, &open, simulated_owner, &s->r, &err), 0);
	simulated_session(s, 1);
}

static struct replica_info simulated_info(struct simulated *s)
{
	struct replica_info info;
	replica_info(s->r, &info);
	return info;
}

static void simulated_points(struct simulated *s, unsigned count)
{
	struct err err = {0};
	for (unsigned n = 0; n < count; n++) {
		struct wire_committed committed;
		struct replica_info info = simulated_info(s);
		struct wire_seal seal = {.predecessor = info.last_point, .cut = {{(unsigned char)n}}, .head = info.head, .consistency = POINT_CRASH};
		assert_int_equal(replica_seal(s->r, &seal, &committed, &err), 0);
	}
}

static void simulated_end(struct simulated *s)
{
	replica_session_end(s->r);
	store_close(s->store);
	env_root_close(s->root);
	sim_free(s->sim);
}

static int any_speed(void *context, uint64_t bytes)
{
	(void)context;
	(void)bytes;
	return 0;
}

static void the_keeper_s_merges_wait_for_more_and_not_for_long(void **state)
{
	(void)state;
	struct simulated s;
	struct err err = {0};
	const struct retain_pace pace = {.spend = any_speed};
	simulated_begin(&s);
	simulated_points(&s, 4);
	assert_int_equal(replica_pin(s.r, 1, "", &err), 0);
	assert_int_equal(replica_retain_paced(s.r, &pace, &err), 1); // a pin was changed: at once
	assert_int_equal(replica_retain_paced(s.r, &pace, &err), 0);
	assert_int_equal(simulated_info(&s).point_count, 2);
	simulated_points(&s, 7);
	assert_int_equal(replica_retain_paced(s.r, &pace, &err), 0);
	simulated_points(&s, 1);
	assert_int_equal(replica_retain_paced(s.r, &pace, &err), 1);
	assert_int_equal(simulated_info(&s).point_count, 2);
	simulated_points(&s, 1);
	assert_int_equal(replica_retain_paced(s.r, &pace, &err), 0);
	sim_clock_advance(s.sim, UINT64_C(301) * 1000000000);
	assert_int_equal(replica_retain_paced(s.r, &pace, &err), 1);
	assert_int_equal(simulated_info(&s).point_count, 2);
	simulated_end(&s);
}

struct opener {
	struct simulated *s;
	unsigned asked;
};

// These points have no block that would be told: only whoever waits asks.
static int opens_meanwhile(void *context, uint64_t bytes)
{
	struct opener *o = context;
	(void)bytes;
	o->s->r->opening = ++o->asked < 3;
	assert_int_equal(simulated_info(o->s).point_count, 4);
	return 0;
}

static void merge_waits_for_a_session_that_opens_and_goes_on(void **state)
{
	(void)state;
	struct simulated s;
	struct err err = {0};
	struct opener o = {.s = &s};
	const struct retain_pace pace = {.spend = opens_meanwhile, .context = &o};
	simulated_begin(&s);
	simulated_points(&s, 4);
	assert_int_equal(replica_pin(s.r, 1, "", &err), 0);
	s.r->opening = true;
	assert_int_equal(replica_retain_paced(s.r, &pace, &err), 1);
	assert_int_equal(simulated_info(&s).point_count, 2);
	assert_int_equal(o.asked, 3);
	simulated_end(&s);
}

// It may raise its wish in a session of its own, and make points as fast as it can.
static void source_that_asks_for_many_points_ages_out_none_of_the_floor(void **state)
{
	(void)state;
	enum { FLOOD = 250 };
	struct simulated s;
	struct err err = {0};
	struct point_info *points = NULL;
	size_t count = 0;
	simulated_begin(&s);
	for (unsigned hour = 0; hour < RETENTION_FLOOR_HOURS; hour++) {
		simulated_points(&s, 1);
		sim_clock_advance(s.sim, UINT64_C(3600) * 1000000000);
	}
	replica_session_end(s.r);
	simulated_session(&s, RETENTION_KEEP_MAX);
	simulated_points(&s, FLOOD);
	while (replica_retain(s.r, &err) == 1)
		;
	assert_int_equal(replica_points(s.r, &points, &count), 0);
	assert_int_equal(count, RETENTION_KEEP_MAX);
	for (unsigned i = 0; i + 1 < RETENTION_FLOOR_HOURS; i++) // the flood's own hour is one of them
		assert_int_equal(points[i].number, i + 2);
	assert_int_equal(points[count - 1].number, RETENTION_FLOOR_HOURS + FLOOD);
	free(points);
	simulated_end(&s);
}

static void where_nothing_can_be_exchanged_points_stay_and_it_is_said(void **state)
{
	(void)state;
	struct simulated s;
	struct err err = {0};
	simulated_begin(&s);
	simulated_points(&s, 4);
	assert_int_equal(replica_pin(s.r, 1, "", &err), 0);
	sim_set_exchange(s.sim, false);
	assert_int_equal(replica_retain(s.r, &err), 0);
	struct replica_info info = simulated_info(&s);
	assert_true(info.cannot_merge && !info.broken);
	assert_int_equal(info.point_count, 4);
	assert_int_equal(info.surplus, 2);
	assert_int_equal(replica_unpin(s.r, 1, &err), 0); // from the oldest on they are folded
	while (replica_retain(s.r, &err) == 1)
		;
	assert_int_equal(simulated_info(&s).point_count, 1);
	simulated_end(&s);
}

// --- all of it, at random ---

static void history_step(struct store_twin *t, uint64_t *held)
{
	struct err err = {0};
	struct point_info *points = NULL;
	size_t count = 0;
	assert_int_equal(replica_points(t->replica, &points, &count), 0);
	uint64_t any = count ? points[draw_below(&t->seed, count)].number : 0;
	free(points);
	switch (draw_below(&t->seed, 9)) {
	case 0:
		if (t->cuts + 1 < STORE_TWIN_POINTS)
			store_twin_seal(t);
		break;
	case 1:
		if (any && t->cuts)
			assert_int_equal(replica_pin(t->replica, any, "drawn", &err), 0);
		break;
	case 2:
		if (any)
			assert_int_equal(replica_unpin(t->replica, any, &err), 0);
		break;
	case 3:
		if (*held)
			replica_release(t->replica, *held);
		*held = 0;
		if (any && draw_below(&t->seed, 2))
			assert_int_equal(replica_hold(t->replica, any, held, &err), 0);
		break;
	case 4:
		store_twin_keep(t, (uint32_t)(1 + draw_below(&t->seed, 6)));
		break;
	case 5:
	case 6:
		if (replica_retain(t->replica, &err) < 0)
			fail_msg("%s", err.text);
		break;
	default:
		store_twin_random(t);
	}
}

static void every_point_holds_through_random_retention(void **state)
{
	struct store_twin *t = *state;
	const char *given = getenv("STORE_SEED");
	uint64_t held = 0;
	t->seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	print_message("STORE_SEED=%llu\n", (unsigned long long)t->seed);
	store_twin_session(t);
	for (unsigned i = 0; i < 450; i++) {
		history_step(t, &held);
		if (i % 15 == 0)
			assert_true(store_twin_check(t, false));
		assert_false(info_of(t).broken);
	}
	(void)store_twin_check(t, true);
	if (held)
		replica_release(t->replica, held);
	store_twin_reopen(t);
	assert_false(info_of(t).broken);
	assert_true(store_twin_check(t, false));
}

#define MERGE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	log_init("test_merge", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		MERGE_TEST(a_merge_keeps_every_remaining_point_byte_for_byte),
		MERGE_TEST(a_point_s_space_is_counted_anew_after_a_merge),
		MERGE_TEST(retention_makes_the_directories_that_are_gone),
		MERGE_TEST(a_hold_forbids_merges_below_it_and_none_above),
		MERGE_TEST(an_open_file_keeps_its_bytes),
		MERGE_TEST(a_step_that_is_stopped_anywhere_is_done_again),
		MERGE_TEST(a_source_that_asks_for_fewer_points_removes_none),
		MERGE_TEST(the_operator_s_policy_counts_and_is_remembered),
		MERGE_TEST(a_pin_is_remembered_with_its_text_until_it_is_taken_back),
		MERGE_TEST(pins_are_bounded_and_all_of_them_fit),
		MERGE_TEST(damaged_pins_are_read_from_their_copy),
		MERGE_TEST(older_pins_that_were_put_back_are_joined_with_those_of_the_copy),
		MERGE_TEST(older_copy_of_pins_that_was_put_back_is_joined_with_them),
		MERGE_TEST(lost_pins_keep_every_point_until_the_operator_has_said_which),
		MERGE_TEST(pins_without_a_copy_are_lost_when_they_were_there),
		cmocka_unit_test(the_keeper_s_merges_wait_for_more_and_not_for_long),
		cmocka_unit_test(merge_waits_for_a_session_that_opens_and_goes_on),
		cmocka_unit_test(source_that_asks_for_many_points_ages_out_none_of_the_floor),
		cmocka_unit_test(where_nothing_can_be_exchanged_points_stay_and_it_is_said),
		MERGE_TEST(every_point_holds_through_random_retention),
	};
	return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
