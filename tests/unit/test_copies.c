// SPDX-License-Identifier: Apache-2.0
// Files that are kept twice (receiver/copies.c): a bit that turns in one of the two, one that is cut off, gone, or that the disk does not give back, costs
// nothing, and is made good; both say the same after every change; and a store from before there were copies gets them.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/check.h"
#include "receiver/copies.h"
#include "receiver/failover.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { POINTS = 3 };
static const char *const kept[] = {"protection.json", "pins.json", "points/1/point.json", "points/2/point.json", "points/3/point.json"};
enum { KEPT = sizeof(kept) / sizeof(kept[0]) };

static void point_add(struct store_twin *t)
{
	for (uint64_t b = 0; b < 3; b++) {
		store_twin_change(t, 0, b, MASK_FULL);
		assert_int_equal(store_twin_send(t, 0, b, MASK_FULL, CODEC_ZSTD, NULL), 0);
	}
	store_twin_seal(t);
}

static int setup(void **state)
{
	struct store_twin *t = calloc(1, sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 12);
	bad_disk_begin(t->temp.root->env);
	store_twin_session(t);
	for (unsigned n = 1; n <= POINTS; n++)
		point_add(t);
	replica_session_end(t->replica);
	char text[POINT_PIN_SIZE] = "";
	memset(text, 'k', sizeof(text) - 1);
	assert_int_equal(replica_pin(t->replica, 1, text, NULL), 0);
	assert_int_equal(replica_pin(t->replica, 3, text, NULL), 0);
	*state = t;
	return 0;
}

static char *in_store(const char *rest, const char *suffix)
{
	static char name[2][96];
	static unsigned turn;
	turn = !turn;
	(void)snprintf(name[turn], sizeof(name[0]), "vm1/%s%s", rest, suffix);
	return name[turn];
}

static void is_alike(struct store_twin *t, const char *rest)
{
	struct copies_state state;
	copies_state(t->temp.root, in_store(rest, ""), &state);
	if (state.file || state.copy || !state.alike)
		fail_msg("%s: %d, its copy %d, alike %d", rest, state.file, state.copy, state.alike);
}

static void all_alike(struct store_twin *t)
{
	for (size_t i = 0; i < KEPT; i++)
		is_alike(t, kept[i]);
}

// The receiver starts, its keeper comes by, and the source goes on: nothing is lost, nothing is refused, and the copies are whole again.
static void costs_nothing(struct store_twin *t)
{
	struct replica_info info;
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	if (info.broken)
		fail_msg("%s", info.broken_reason);
	assert_int_equal(info.point_count, t->cuts);
	assert_int_equal(replica_mend(t->replica), 0);
	all_alike(t);
	for (uint64_t n = 1; n <= t->cuts; n++)
		assert_int_equal(replica_sound(t->replica, n, NULL), 0);
	assert_true(store_twin_check(t, false));
}

typedef void fault(struct store_twin *t, const char *rest, uint64_t at);

static void flip(struct store_twin *t, const char *rest, uint64_t at)
{
	store_flip_at(t, rest, at);
}

static void cut_off(struct store_twin *t, const char *rest, uint64_t at)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(t->temp.root, in_store(rest, ""), ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, at), 0);
	env_close(file);
}

static void take_away(struct store_twin *t, const char *rest, uint64_t at)
{
	(void)at;
	assert_int_equal(env_unlink(t->temp.root, in_store(rest, "")), 0);
}

static void unreadable(struct store_twin *t, const char *rest, uint64_t at)
{
	(void)t, (void)at;
	bad_disk_set(in_store(rest, ""), 0, BAD_DISK_WHOLE, -EIO); // what is written anew is another file of that name: heal it then
}

static void each_file(struct store_twin *t, fault *make, uint64_t at)
{
	for (size_t i = 0; i < KEPT; i++)
		for (unsigned copy = 0; copy < 2; copy++) {
			char rest[64];
			(void)snprintf(rest, sizeof(rest), "%s%s", kept[i], copy ? COPY_SUFFIX : "");
			make(t, rest, at);
			costs_nothing(t);
			(void)env_unlink(t->temp.root, in_store(kept[i], ".damaged"));
		}
}

static void bit_that_turns_in_one_of_the_two_costs_nothing(void **state)
{
	static const uint64_t places[] = {0, 1, 33, 150, 401};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		each_file(*state, flip, places[i]);
}

static void one_that_is_cut_off_or_gone_costs_nothing(void **state)
{
	each_file(*state, cut_off, 0);
	each_file(*state, cut_off, 200);
	each_file(*state, take_away, 0);
}

static void one_that_cannot_be_read_costs_nothing(void **state)
{
	struct store_twin *t = *state;
	for (size_t i = 0; i < KEPT; i++)
		for (unsigned copy = 0; copy < 2; copy++) {
			struct replica_info info;
			struct env_stat st;
			char rest[64];
			(void)snprintf(rest, sizeof(rest), "%s%s", kept[i], copy ? COPY_SUFFIX : "");
			unreadable(t, rest, 0);
			store_twin_reopen(t);
			replica_info(t->replica, &info);
			assert_true(!info.broken && info.point_count == POINTS);
			assert_int_equal(replica_mend(t->replica), 0);
			bad_disk_heal();
			if (!copy) // and is kept
				assert_int_equal(env_stat(t->temp.root, in_store(kept[i], ".damaged"), &st), 0);
			costs_nothing(t);
		}
}

static void what_was_damaged_is_kept_the_first_of_it(void **state)
{
	struct store_twin *t = *state;
	AUTO_FREE char *before = NULL;
	AUTO_FREE char *after = NULL;
	size_t len = 0, kept_len = 0;
	store_flip_at(t, "points/2/point.json", 70);
	assert_int_equal(env_read_file(t->temp.root, "vm1/points/2/point.json", 1 << 16, &before, &len), 0);
	costs_nothing(t);
	store_flip_at(t, "points/2/point.json", 90);
	costs_nothing(t);
	assert_int_equal(env_read_file(t->temp.root, "vm1/points/2/point.json.damaged", 1 << 16, &after, &kept_len), 0);
	assert_int_equal(len, kept_len);
	assert_memory_equal(before, after, len);
}

// While it runs: a session, a commit, a merge, a fold, and a change of what protection.json says go on over it.
static void receiver_that_runs_goes_on(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	store_flip_at(t, "points/2/point.json", 50);
	store_twin_session(t);
	point_add(t);
	replica_session_end(t->replica);
	store_flip_at(t, "points/3/point.json", 60);
	assert_int_equal(replica_pin(t->replica, 1, "", &err), 0);
	store_twin_keep(t, 1); // 2 and 3 into 4
	assert_int_equal(replica_retain(t->replica, &err), 1);
	is_alike(t, "points/4/point.json");
	store_flip_at(t, "points/1/point.json", 60);
	assert_int_equal(replica_unpin(t->replica, 1, &err), 0);
	assert_int_equal(replica_retain(t->replica, &err), 1);
	is_alike(t, "protection.json");
	assert_int_equal(replica_mend(t->replica), 0);
	store_flip_at(t, "points/4/point.json.copy", 10); // nobody meets it, but a pass looks for it
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_int_equal(replica_mend(t->replica), 0);
	is_alike(t, "points/4/point.json");
	assert_false(replica_is_broken(t->replica));
	assert_true(store_twin_check(t, false));
}

static void copies_follow_every_change(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	uint64_t held = 0;
	all_alike(t);
	store_twin_grow(t, 0, 40 * BLOCK_SIZE);
	store_twin_session(t);
	is_alike(t, "protection.json");
	replica_session_end(t->replica);
	assert_int_equal(replica_set_rpo(t->replica, 77000, &err), 0);
	is_alike(t, "protection.json");
	assert_int_equal(replica_hold(t->replica, 2, &held, &err), 0);
	assert_int_equal(replica_fence(t->replica, 2, &err), 0);
	is_alike(t, "protection.json");
	store_flip_at(t, "protection.json", 200); // the fence outlasts it (R7)
	replica_release(t->replica, 2);
	store_twin_reopen(t);
	assert_int_equal(replica_session_begin(t->replica, &t->open, t->pin, &t->opened, &err), -ESTALE);
	all_alike(t);
}

static void store_of_before_gets_copies(void **state)
{
	struct store_twin *t = *state;
	for (size_t i = 0; i < KEPT; i++)
		assert_int_equal(env_unlink(t->temp.root, in_store(kept[i], COPY_SUFFIX)), 0);
	costs_nothing(t);
}

// An old store of many points is not written in one go, and one that cannot be written keeps no other from it.
static void few_at_a_time_and_past_one_that_fails(void **state)
{
	struct store_twin *t = *state;
	struct env_stat st;
	uint64_t held = 0, more = COPIES_WRITTEN + 3;
	store_twin_session(t);
	while (t->cuts < more)
		point_add(t);
	replica_session_end(t->replica);
	for (uint64_t n = 1; n <= more; n++) {
		char name[64];
		(void)snprintf(name, sizeof(name), "points/%llu/point.json", (unsigned long long)n);
		assert_int_equal(env_unlink(t->temp.root, in_store(name, COPY_SUFFIX)), 0);
	}
	store_twin_reopen(t);
	bad_disk_refuse("points/2/point.json.copy.new", 0, -EIO);
	for (unsigned rounds = 1; rounds <= 2; rounds++) {
		assert_int_equal(replica_mend(t->replica), 0);
		held = 0;
		for (uint64_t n = 1; n <= more; n++) {
			char name[64];
			(void)snprintf(name, sizeof(name), "points/%llu/point.json", (unsigned long long)n);
			held += env_stat(t->temp.root, in_store(name, COPY_SUFFIX), &st) == 0;
		}
		assert_int_equal(held, rounds == 1 ? COPIES_WRITTEN - 1 : more - 1); // one of them failed
	}
	assert_true(atomic_load(&t->replica->copies_due));
	bad_disk_heal();
	assert_int_equal(replica_mend(t->replica), 0);
	assert_false(atomic_load(&t->replica->copies_due));
	for (uint64_t n = 1; n <= more; n++) {
		char name[64];
		(void)snprintf(name, sizeof(name), "points/%llu/point.json", (unsigned long long)n);
		is_alike(t, name);
	}
	assert_false(replica_is_broken(t->replica));
}

// Both rot while the receiver runs: it knows what they said, and a pass writes them anew. A fence is not forgotten by that (R7).
static void both_rot_at_run_time_and_memory_is_saved(void **state)
{
	struct store_twin *t = *state;
	struct env_stat st;
	struct err err = {0};
	assert_int_equal(replica_fence(t->replica, 2, &err), 0);
	for (unsigned gone = 0; gone < 2; gone++) {
		store_flip_at(t, "protection.json", 200);
		store_flip_at(t, "protection.json" COPY_SUFFIX, 40);
		if (gone)
			assert_int_equal(env_unlink(t->temp.root, "vm1/protection.json"), 0);
		assert_int_equal(store_twin_scrub(t, 0), 0);
		assert_int_equal(replica_mend(t->replica), 0);
		is_alike(t, "protection.json");
		assert_int_equal(env_stat(t->temp.root, "vm1/protection.json.damaged", &st), 0);
	}
	store_twin_reopen(t);
	assert_false(replica_is_broken(t->replica));
	assert_int_equal(replica_session_begin(t->replica, &t->open, t->pin, &t->opened, &err), -ESTALE);
	all_alike(t);
}

// The older of the two, as of a backup from before a failover: a receiver that starts does not guess, in whichever of the two the fence is; one that runs knows.
static void older_one_that_was_put_back_takes_no_fence_away(void **state)
{
	static const char *const names[] = {"vm1/protection.json", "vm1/protection.json" COPY_SUFFIX};
	struct store_twin *t = *state;
	struct replica_info info;
	struct err err = {0};
	AUTO_FREE char *older = NULL;
	AUTO_FREE char *newer = NULL;
	size_t len = 0, newer_len = 0;
	assert_int_equal(env_read_file(t->temp.root, names[0], 1 << 20, &older, &len), 0);
	assert_int_equal(replica_fence(t->replica, 2, &err), 0);
	assert_int_equal(env_read_file(t->temp.root, names[0], 1 << 20, &newer, &newer_len), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(env_replace(t->temp.root, "vm1", names[i], older, len), 0);
		copies_look(t->replica);
		assert_int_equal(replica_mend(t->replica), 0);
		is_alike(t, "protection.json");
		assert_int_equal(env_replace(t->temp.root, "vm1", names[i], older, len), 0);
		store_twin_reopen(t);
		replica_info(t->replica, &info);
		assert_true(info.broken && strstr(info.broken_reason, "its copy differ"));
		assert_int_not_equal(replica_session_begin(t->replica, &t->open, t->pin, &t->opened, &err), 0);
		assert_int_equal(env_unlink(t->temp.root, names[i]), 0); // as it says
		store_twin_reopen(t);
		assert_false(replica_is_broken(t->replica));
		assert_int_equal(replica_session_begin(t->replica, &t->open, t->pin, &t->opened, &err), -ESTALE);
		assert_int_equal(replica_mend(t->replica), 0);
		all_alike(t);
	}
}

// What keeps memory from being saved passes, and nobody who starts the receiver again would know any more what it knows.
static void both_rot_and_memory_is_saved_when_it_can_be(void **state)
{
	static const int codes[] = {-EIO, -EMFILE, -ENOSPC};
	struct store_twin *t = *state;
	struct err err = {0};
	assert_int_equal(replica_fence(t->replica, 2, &err), 0);
	for (size_t i = 0; i < 3; i++) {
		store_flip_at(t, "protection.json", 200);
		store_flip_at(t, "protection.json" COPY_SUFFIX, 40);
		assert_int_equal(store_twin_scrub(t, 0), 0);
		bad_disk_refuse("vm1/protection.json.new", 0, codes[i]);
		for (unsigned round = 0; round < 3; round++) {
			assert_int_equal(replica_mend(t->replica), 0);
			assert_false(replica_is_broken(t->replica));
			assert_true(t->replica->copies_failed);
		}
		bad_disk_heal();
		assert_int_equal(replica_mend(t->replica), 0);
		assert_false(t->replica->copies_failed);
		is_alike(t, "protection.json");
	}
	store_twin_reopen(t);
	assert_int_equal(replica_session_begin(t->replica, &t->open, t->pin, &t->opened, &err), -ESTALE);
}

// Pins are known as well, while it runs, and are not lost.
static void pins_that_rot_at_run_time_are_saved_from_memory(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	for (unsigned gone = 0; gone < 2; gone++) {
		store_flip_at(t, "pins.json", 100);
		store_flip_at(t, "pins.json" COPY_SUFFIX, 40);
		if (gone) {
			assert_int_equal(env_unlink(t->temp.root, "vm1/pins.json"), 0);
			assert_int_equal(env_unlink(t->temp.root, "vm1/pins.json" COPY_SUFFIX), 0);
		}
		copies_look(t->replica);
		assert_int_equal(replica_mend(t->replica), 0);
		is_alike(t, "pins.json");
	}
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(!info.broken && info.pins_lost == 0 && t->replica->points[0].pinned && !t->replica->points[1].pinned);
}

// What the disk does not give back may come back: it is looked at again, and given up in the end.
static void pins_that_cannot_be_read_are_waited_for_and_then_given_up(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	bad_disk_set("vm1/pins.json", 0, BAD_DISK_WHOLE, -EIO);
	store_flip_at(t, "pins.json" COPY_SUFFIX, 40);
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(info.broken && t->replica->passing);
	t->replica->unread_looks = STALL_TRIES;
	for (unsigned looks = 0; looks < 2; looks++) {
		t->replica->broken = false;
		replica_recover(t->replica);
	}
	replica_info(t->replica, &info);
	assert_true(!info.broken && info.pins_lost == POINTS);
	assert_int_equal(replica_mend(t->replica), 0); // and does not write over it
	bad_disk_heal();
	costs_nothing(t);
	assert_true(t->replica->pins_lost == 0 && t->replica->points[0].pinned);
}

// A disk that gives nothing back for a while is not written to for that, which could break what is whole.
static void both_unreadable_at_run_time_are_left_alone(void **state)
{
	struct store_twin *t = *state;
	bad_disk_refuse("vm1/protection.json", 0, -EIO);
	store_flip_at(t, "protection.json" COPY_SUFFIX, 40);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_int_equal(replica_mend(t->replica), 0);
	assert_false(replica_is_broken(t->replica));
	assert_true(t->replica->copies_failed && atomic_load(&t->replica->copies_due));
	bad_disk_heal();
	assert_int_equal(replica_mend(t->replica), 0);
	assert_false(t->replica->copies_failed);
	all_alike(t);
}

// What is whole and says something else is no damage: the copy does not stand in for it.
static void another_points_file_is_not_taken_for_damage(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	AUTO_FREE char *other = NULL;
	size_t len = 0;
	assert_int_equal(env_read_file(t->temp.root, "vm1/points/1/point.json", 1 << 16, &other, &len), 0);
	assert_int_equal(env_replace(t->temp.root, "vm1/points/2", "vm1/points/2/point.json", other, len), 0);
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(info.broken);
	assert_non_null(strstr(info.broken_reason, "it is another point's"));
	assert_int_equal(info.point_count, 1);
}

// Nothing is guessed: it is broken, and the reason says what to do next.
static void both_damaged_is_told_with_what_to_do(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	store_flip_at(t, "protection.json", 40); // both of a point.json: test_lost_files.c
	store_flip_at(t, "protection.json" COPY_SUFFIX, 41);
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(info.broken && info.point_count == 0);
	assert_non_null(strstr(info.broken_reason, "protection.json"));
	assert_non_null(strstr(info.broken_reason, "move the directory"));
	store_flip_at(t, "protection.json", 40);
	store_flip_at(t, "protection.json" COPY_SUFFIX, 41);
	costs_nothing(t);
}

struct told {
	unsigned damage, notes;
	char text[2000];
};

static void on_found(void *context, enum check_kind kind, const char *text)
{
	struct told *told = context;
	told->damage += kind == CHECK_DAMAGE;
	told->notes += kind == CHECK_NOTE;
	(void)snprintf(told->text + strlen(told->text), sizeof(told->text) - strlen(told->text), "%s\n", text);
}

static bool on_looked(void *context, uint64_t done, uint64_t of)
{
	(void)context, (void)done, (void)of;
	return true;
}

// The check of a store names the one that is damaged, and only that, and changes nothing.
static void check_names_the_one_that_is_damaged(void **state)
{
	struct store_twin *t = *state;
	for (size_t i = 0; i < KEPT; i++)
		for (unsigned copy = 0; copy < 2; copy++)
			for (unsigned again = 0; again < 2; again++) {
				struct told told = {0};
				struct check_result result;
				const struct check_watch watch = {.found = on_found, .looked = on_looked, .context = &told};
				char rest[64];
				(void)snprintf(rest, sizeof(rest), "%s%s", kept[i], copy ? COPY_SUFFIX : "");
				store_flip_at(t, rest, 55); // and back
				assert_int_equal(check_protection(t->temp.root, t->temp.dir, "vm1", 0, &watch, &result, NULL), 0);
				assert_int_equal(told.damage, !again);
				assert_int_equal(told.notes, 0);
				assert_true(again || strstr(told.text, rest));
			}
}

// By the time of the record it is told what was written since, so that no failover is taken back behind a program that came and went.
static void record_of_a_failover_that_is_made_good_hides_no_write(void **state)
{
	struct store_twin *t = *state;
	struct failover_info failover;
	struct env_file *file = NULL;
	struct err err = {0};
	int64_t written_ns = 0, again_ns = 0;
	(void)replica_mend(t->replica); // what is due since the start
	if (failover_run(t->temp.root->env, t->store, t->replica, 0, false, NULL, &failover, &err))
		fail_msg("%s", err.text);
	usleep(20000); // a file system's time goes by ticks
	assert_int_equal(env_open(t->temp.root, in_store("failover/vda.qcow2", ""), ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, "guest", 5, 1 << 20), 0);
	env_close(file);
	assert_int_equal(failover_written_last(t->store, &failover, &written_ns, &err), 0);
	assert_true(written_ns > 0);
	usleep(20000);
	flip(t, "failover/failover.json", 60);
	copies_look(t->replica);
	assert_int_equal(replica_mend(t->replica), 0);
	is_alike(t, "failover/failover.json");
	assert_int_equal(failover_written_last(t->store, &failover, &again_ns, &err), 0);
	assert_int_equal(again_ns, written_ns);
}

// The copy alone is written, of a store of an earlier version, too.
static void record_of_a_failover_that_has_no_copy_keeps_its_time(void **state)
{
	struct store_twin *t = *state;
	struct failover_info failover;
	struct env_file *file = NULL;
	struct err err = {0};
	int64_t written_ns = 0;
	(void)replica_mend(t->replica);
	if (failover_run(t->temp.root->env, t->store, t->replica, 0, false, NULL, &failover, &err))
		fail_msg("%s", err.text);
	take_away(t, "failover/failover.json" COPY_SUFFIX, 0);
	usleep(20000);
	assert_int_equal(env_open(t->temp.root, in_store("failover/vda.qcow2", ""), ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, "guest", 5, 1 << 20), 0);
	env_close(file);
	usleep(20000);
	copies_look(t->replica);
	assert_int_equal(replica_mend(t->replica), 0);
	is_alike(t, "failover/failover.json");
	assert_int_equal(failover_written_last(t->store, &failover, &written_ns, &err), 0);
	assert_true(written_ns > 0);
}

int main(void)
{
	log_init("test_copies", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, store_twin_bad_disk_end)
	const struct CMUnitTest tests[] = {
		TEST(bit_that_turns_in_one_of_the_two_costs_nothing),
		TEST(one_that_is_cut_off_or_gone_costs_nothing),
		TEST(one_that_cannot_be_read_costs_nothing),
		TEST(what_was_damaged_is_kept_the_first_of_it),
		TEST(receiver_that_runs_goes_on),
		TEST(copies_follow_every_change),
		TEST(store_of_before_gets_copies),
		TEST(few_at_a_time_and_past_one_that_fails),
		TEST(both_rot_at_run_time_and_memory_is_saved),
		TEST(both_rot_and_memory_is_saved_when_it_can_be),
		TEST(older_one_that_was_put_back_takes_no_fence_away),
		TEST(pins_that_rot_at_run_time_are_saved_from_memory),
		TEST(pins_that_cannot_be_read_are_waited_for_and_then_given_up),
		TEST(both_unreadable_at_run_time_are_left_alone),
		TEST(another_points_file_is_not_taken_for_damage),
		TEST(both_damaged_is_told_with_what_to_do),
		TEST(check_names_the_one_that_is_damaged),
		TEST(record_of_a_failover_that_is_made_good_hides_no_write),
		TEST(record_of_a_failover_that_has_no_copy_keeps_its_time),
	};
	return cmocka_run_group_tests_name("copies", tests, NULL, NULL);
}
