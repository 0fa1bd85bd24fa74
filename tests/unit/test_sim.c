// SPDX-License-Identifier: Apache-2.0
// The simulated disk loses what it may lose and keeps what it must: a test for each rule of tests/sim/env_sim.h, and
// env_replace() with its mutants under crash enumeration.
//
// Most tests enumerate: `act` on a disk, cut the power, look, and collect what was seen as a set of strings.
#include "base/size.h"
#include "tests/sim/crash_test.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEEN_MAX = 64, LOOK_SIZE = 120 };

struct seen {
	char text[SEEN_MAX][LOOK_SIZE];
	size_t count;
	size_t runs;
};

typedef void act_fn(struct sim *sim, struct env_root *root);
typedef void look_fn(struct env_root *root, char look[LOOK_SIZE]);

static struct env_root *open_disk(struct sim *sim)
{
	struct env_root *root;
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	return root;
}

static void note(struct seen *seen, const char *look)
{
	seen->runs++;
	for (size_t i = 0; i < seen->count; i++)
		if (strcmp(seen->text[i], look) == 0)
			return;
	assert_true(seen->count < SEEN_MAX);
	snprintf(seen->text[seen->count++], LOOK_SIZE, "%s", look);
}

// Every look that a disk gives after `act` and a power cut.
static void enumerate(act_fn *act, look_fn *look, struct seen *seen)
{
	struct chooser chooser;
	chooser_init(&chooser);
	*seen = (struct seen){.count = 0};
	do {
		struct sim *sim = sim_new(1);
		sim_set_chooser(sim, &chooser);
		struct env_root *root = open_disk(sim);
		act(sim, root);
		env_root_close(root);
		sim_power_off(sim);
		sim_power_on(sim);
		root = open_disk(sim);
		char text[LOOK_SIZE] = "";
		look(root, text);
		note(seen, text);
		env_root_close(root);
		sim_free(sim);
	} while (chooser_next(&chooser));
	chooser_done(&chooser);
}

static bool saw(const struct seen *seen, const char *look)
{
	for (size_t i = 0; i < seen->count; i++)
		if (strcmp(seen->text[i], look) == 0)
			return true;
	return false;
}

// Asserts that exactly the given looks were seen. The list ends with NULL.
static void expect(const struct seen *seen, ...)
{
	va_list list;
	size_t count = 0;
	va_start(list, seen);
	for (const char *look; (look = va_arg(list, const char *)) != NULL; count++)
		if (!saw(seen, look))
			fail_msg("never saw \"%s\" in %zu runs", look, seen->runs);
	va_end(list);
	if (count != seen->count)
		for (size_t i = 0; i < seen->count; i++)
			print_error("saw \"%s\"\n", seen->text[i]);
	assert_int_equal(count, seen->count);
}

static struct env_file *opened(struct env_root *root, const char *name, enum env_open how)
{
	struct env_file *file;
	assert_int_equal(env_open(root, name, how, &file), 0);
	return file;
}

// `sectors` sectors full of `letter`.
static void fill(struct env_file *file, uint64_t sector, unsigned sectors, char letter)
{
	char bytes[8 * SECTOR_SIZE];
	memset(bytes, letter, sizeof(bytes));
	assert_true(sectors <= 8);
	assert_int_equal(env_pwrite(file, bytes, (size_t)sectors * SECTOR_SIZE, sector * SECTOR_SIZE), 0);
}

static void put(struct env_root *root, const char *name, unsigned sectors, char letter, bool sync)
{
	struct env_file *file = opened(root, name, ENV_CREATE_OPEN);
	fill(file, 0, sectors, letter);
	if (sync)
		assert_int_equal(env_sync(file), 0);
	env_close(file);
}

// A letter for each sector: '.' for zeros, '?' for garbage, '!' for a mixture.
static void look_at_file(struct env_root *root, const char *name, char look[LOOK_SIZE])
{
	struct env_file *file;
	if (env_open(root, name, ENV_READ, &file)) {
		strcpy(look, "absent");
		return;
	}
	uint64_t size;
	assert_int_equal(env_size(file, &size), 0);
	size_t n = 0;
	for (uint64_t off = 0; off < size; off += SECTOR_SIZE) {
		char bytes[SECTOR_SIZE];
		size_t got;
		assert_int_equal(env_pread(file, bytes, sizeof(bytes), off, &got), 0);
		char letter = bytes[0] == 0 ? '.' : bytes[0] == (char)0xdb ? '?' : bytes[0];
		for (size_t i = 1; i < got; i++)
			if (bytes[i] != bytes[0])
				letter = '!';
		look[n++] = letter;
	}
	look[n] = 0;
	env_close(file);
}

static void look_at_f(struct env_root *root, char look[LOOK_SIZE])
{
	look_at_file(root, "f", look);
}

static void look_at_names(struct env_root *root, const char *dir, char look[LOOK_SIZE])
{
	char **names;
	size_t count;
	if (env_list(root, dir, &names, &count)) {
		strcat(look, "-");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		strcat(look, i ? " " : "");
		strcat(look, names[i]);
	}
	env_list_free(names, count);
}

static void look_at_root(struct env_root *root, char look[LOOK_SIZE])
{
	look_at_names(root, ".", look);
}

// --- contents ---

static void act_synced_then_two_sectors(struct sim *sim, struct env_root *root)
{
	put(root, "f", 2, 'a', true);
	sim_settle(sim);
	put(root, "f", 2, 'b', false);
}

static void any_subset_of_unsynced_sectors_survives(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_synced_then_two_sectors, look_at_f, &seen);
	expect(&seen, "aa", "ab", "ba", "bb", NULL);
	assert_int_equal(seen.runs, 4);
}

static void act_synced(struct sim *sim, struct env_root *root)
{
	put(root, "f", 2, 'a', true);
	sim_settle(sim);
	put(root, "f", 2, 'b', true);
}

static void synced_contents_survive(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_synced, look_at_f, &seen);
	expect(&seen, "bb", NULL);
	assert_int_equal(seen.runs, 1);
}

static void act_written_twice(struct sim *sim, struct env_root *root)
{
	put(root, "f", 1, 'a', true);
	sim_settle(sim);
	put(root, "f", 1, 'b', false);
	put(root, "f", 1, 'c', false);
}

static void every_version_since_the_sync_may_be_the_one(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_written_twice, look_at_f, &seen);
	expect(&seen, "a", "b", "c", NULL);
}

static void act_appended(struct sim *sim, struct env_root *root)
{
	put(root, "f", 1, 'a', true);
	sim_settle(sim);
	struct env_file *file = opened(root, "f", ENV_WRITE);
	fill(file, 1, 1, 'b');
	env_close(file);
}

static void a_grown_file_has_either_size_and_zeros_or_garbage_behind(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_appended, look_at_f, &seen);
	expect(&seen, "a", "a.", "a?", "ab", NULL);
	assert_int_equal(seen.runs, 4); // where the size is the old one nobody asks for the sector
}

static void act_truncated(struct sim *sim, struct env_root *root)
{
	put(root, "f", 2, 'a', true);
	sim_settle(sim);
	struct env_file *file = opened(root, "f", ENV_WRITE);
	assert_int_equal(env_truncate(file, SECTOR_SIZE), 0);
	env_close(file);
}

static void a_truncation_may_be_undone(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_truncated, look_at_f, &seen);
	expect(&seen, "a", "aa", "a.", NULL);
}

static void act_punched(struct sim *sim, struct env_root *root)
{
	put(root, "f", 2, 'a', true);
	sim_settle(sim);
	struct env_file *file = opened(root, "f", ENV_WRITE);
	assert_int_equal(env_punch(file, 0, SECTOR_SIZE), 0);
	env_close(file);
}

static void a_punch_may_be_undone(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_punched, look_at_f, &seen);
	expect(&seen, "aa", ".a", NULL);
}

static void look_twice_overwriting(struct env_root *root, char look[LOOK_SIZE])
{
	struct env_file *file = opened(root, "f", ENV_WRITE);
	fill(file, 0, 2, 'c'); // whole sectors: nobody asked what was there
	env_close(file);
	look_at_f(root, look);
}

static void what_recovery_overwrites_unread_is_never_decided(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_synced_then_two_sectors, look_twice_overwriting, &seen);
	expect(&seen, "cc", NULL);
	assert_int_equal(seen.runs, 1);
}

static void what_was_read_after_a_crash_stays_so(void **state)
{
	(void)state;
	struct chooser chooser;
	chooser_init(&chooser);
	do {
		struct sim *sim = sim_new(1);
		sim_set_chooser(sim, &chooser);
		struct env_root *root = open_disk(sim);
		act_synced_then_two_sectors(sim, root);
		env_root_close(root);
		char look[3][LOOK_SIZE] = {"", "", ""};
		for (int i = 0; i < 3; i++) {
			sim_power_off(sim);
			sim_power_on(sim);
			root = open_disk(sim);
			look_at_f(root, look[i]);
			env_root_close(root);
		}
		assert_string_equal(look[0], look[1]);
		assert_string_equal(look[0], look[2]);
		sim_free(sim);
	} while (chooser_next(&chooser));
	chooser_done(&chooser);
}

static void act_overwritten_after_a_crash(struct sim *sim, struct env_root *root)
{
	act_synced_then_two_sectors(sim, root);
	sim_power_off(sim);
	sim_power_on(sim);
	struct env_root *again = open_disk(sim);
	put(again, "f", 1, 'c', false);
	env_root_close(again);
}

static void an_undecided_sector_that_is_overwritten_may_be_any_of_three(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_overwritten_after_a_crash, look_at_f, &seen);
	expect(&seen, "aa", "ab", "ba", "bb", "ca", "cb", NULL);
}

static void versions_are_bounded_and_the_synced_one_is_kept(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	put(root, "f", 1, 'A', true);
	sim_settle(sim);
	for (char letter = 'a'; letter <= 'z'; letter++)
		put(root, "f", 1, letter, false);
	env_root_close(root);
	sim_power_off(sim);
	sim_power_on(sim);
	root = open_disk(sim);
	char look[LOOK_SIZE] = "";
	look_at_f(root, look); // without a chooser: nothing unsynced survived
	assert_string_equal(look, "A");
	env_root_close(root);
	sim_free(sim);
}

// --- failed syncs ---

static void fail_sync(struct sim *sim, struct env_file *file)
{
	sim_fail_at(sim, sim_ops(sim), -EIO, false);
	assert_int_equal(env_sync(file), -EIO);
}

static void act_sync_failed_then_retried(struct sim *sim, struct env_root *root)
{
	put(root, "f", 1, 'a', true);
	sim_settle(sim);
	put(root, "f", 1, 'b', false);
	struct env_file *file = opened(root, "f", ENV_WRITE);
	fail_sync(sim, file);
	assert_int_equal(env_sync(file), 0);
	char byte;
	assert_int_equal(env_pread_full(file, &byte, 1, 0), 0);
	assert_int_equal(byte, 'b');
	env_close(file);
}

static void a_failed_sync_lies_on_retry(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_sync_failed_then_retried, look_at_f, &seen);
	expect(&seen, "a", "b", NULL);
}

static void act_written_again_after_a_failed_sync(struct sim *sim, struct env_root *root)
{
	act_sync_failed_then_retried(sim, root);
	put(root, "f", 1, 'c', true);
}

static void what_is_written_again_after_a_failed_sync_can_be_synced(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_written_again_after_a_failed_sync, look_at_f, &seen);
	expect(&seen, "c", NULL);
}

static void a_dropped_cache_shows_the_old_data_after_a_failed_sync(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	act_sync_failed_then_retried(sim, root);
	char look[LOOK_SIZE] = "";
	look_at_f(root, look);
	assert_string_equal(look, "b");
	sim_drop_caches(sim);
	look_at_f(root, look);
	assert_string_equal(look, "a");
	env_root_close(root);
	sim_free(sim);
}

static void act_sync_dir_failed(struct sim *sim, struct env_root *root)
{
	put(root, "f", 1, 'a', true);
	sim_fail_at(sim, sim_ops(sim), -EIO, false);
	assert_int_equal(env_sync_dir(root, "."), -EIO);
	assert_int_equal(env_sync_dir(root, "."), 0);
}

static void a_failed_directory_sync_lies_on_retry(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_sync_dir_failed, look_at_root, &seen);
	expect(&seen, "", "f", NULL);
}

// --- names ---

static void act_created(struct sim *sim, struct env_root *root)
{
	(void)sim;
	put(root, "f", 1, 'a', true);
	put(root, "g", 1, 'a', true);
}

static void a_new_name_needs_a_directory_sync(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_created, look_at_root, &seen);
	expect(&seen, "", "f", "g", "f g", NULL);
}

static void act_created_and_synced(struct sim *sim, struct env_root *root)
{
	act_created(sim, root);
	assert_int_equal(env_sync_dir(root, "."), 0);
}

static void a_synced_directory_keeps_its_names(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_created_and_synced, look_at_root, &seen);
	expect(&seen, "f g", NULL);
	assert_int_equal(seen.runs, 1);
}

static void act_name_synced_but_not_contents(struct sim *sim, struct env_root *root)
{
	(void)sim;
	put(root, "f", 1, 'a', false);
	assert_int_equal(env_sync_dir(root, "."), 0);
}

static void a_name_may_survive_without_its_contents(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_name_synced_but_not_contents, look_at_f, &seen);
	expect(&seen, "", ".", "?", "a", NULL);
}

static void act_unlinked(struct sim *sim, struct env_root *root)
{
	put(root, "f", 1, 'a', true);
	sim_settle(sim);
	assert_int_equal(env_unlink(root, "f"), 0);
}

static void an_unlink_may_be_undone_and_the_contents_are_back(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_unlinked, look_at_f, &seen);
	expect(&seen, "absent", "a", NULL);
}

static void act_renamed_over(struct sim *sim, struct env_root *root)
{
	put(root, "f", 1, 'a', true);
	put(root, "g", 1, 'b', true);
	sim_settle(sim);
	assert_int_equal(env_rename(root, "g", "f"), 0);
}

static void look_at_f_and_g(struct env_root *root, char look[LOOK_SIZE])
{
	char f[LOOK_SIZE] = "", g[LOOK_SIZE] = "";
	look_at_file(root, "g", g);
	look_at_file(root, "f", f);
	snprintf(look, LOOK_SIZE, "f=%.20s g=%.20s", f, g);
}

static void a_rename_over_a_file_is_old_or_new_and_never_both_or_neither(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_renamed_over, look_at_f_and_g, &seen);
	expect(&seen, "f=a g=b", "f=b g=absent", NULL);
	assert_int_equal(seen.runs, 2);
}

static void act_exchanged(struct sim *sim, struct env_root *root)
{
	put(root, "f", 1, 'a', true);
	put(root, "g", 1, 'b', true);
	sim_settle(sim);
	assert_int_equal(env_exchange(root, "g", "f"), 0);
}

static void an_exchange_happens_for_both_names_or_for_none(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_exchanged, look_at_f_and_g, &seen);
	expect(&seen, "f=a g=b", "f=b g=a", NULL);
	assert_int_equal(seen.runs, 2);
}

// What is done next under one of the names is there only after the exchange; a sync of that makes both certain.
static void act_exchanged_and_moved(struct sim *sim, struct env_root *root)
{
	assert_int_equal(env_mkdir(root, "d"), 0);
	act_exchanged(sim, root);
	assert_int_equal(env_rename(root, "g", "d/g"), 0);
	assert_int_equal(env_sync_dir(root, "d"), 0);
}

static void a_certain_move_of_what_was_exchanged_makes_the_exchange_certain(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_exchanged_and_moved, look_at_f_and_g, &seen);
	expect(&seen, "f=b g=absent", NULL);
}

static void act_exchanged_across(struct sim *sim, struct env_root *root)
{
	assert_int_equal(env_mkdir(root, "a"), 0);
	assert_int_equal(env_mkdir(root, "b"), 0);
	put(root, "a/f", 1, 'a', true);
	put(root, "b/f", 1, 'b', true);
	sim_settle(sim);
	assert_int_equal(env_exchange(root, "a/f", "b/f"), 0);
	assert_int_equal(env_sync_dir(root, "a"), 0);
}

static void act_exchanged_across_and_synced(struct sim *sim, struct env_root *root)
{
	act_exchanged_across(sim, root);
	assert_int_equal(env_sync_dir(root, "b"), 0);
}

static void look_at_both_f(struct env_root *root, char look[LOOK_SIZE])
{
	char a[LOOK_SIZE] = "", b[LOOK_SIZE] = "";
	look_at_file(root, "a/f", a);
	look_at_file(root, "b/f", b);
	snprintf(look, LOOK_SIZE, "%.20s %.20s", a, b);
}

static void the_second_name_s_directory_makes_an_exchange_certain(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_exchanged_across, look_at_both_f, &seen);
	expect(&seen, "a b", "b a", NULL);
	enumerate(act_exchanged_across_and_synced, look_at_both_f, &seen);
	expect(&seen, "b a", NULL);
}

static void act_rotated(struct sim *sim, struct env_root *root)
{
	act_renamed_over(sim, root); // makes g free
	assert_int_equal(env_sync_dir(root, "."), 0);
	put(root, "h", 1, 'c', true);
	sim_settle(sim);
	assert_int_equal(env_rename(root, "f", "g"), 0);
	assert_int_equal(env_rename(root, "h", "f"), 0);
}

static void events_on_one_name_keep_their_order(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_rotated, look_at_f_and_g, &seen);
	expect(&seen, "f=b g=absent", "f=absent g=b", "f=c g=b", NULL);
}

static void act_directory_moved(struct sim *sim, struct env_root *root)
{
	assert_int_equal(env_mkdir(root, "points"), 0);
	sim_settle(sim);
	assert_int_equal(env_mkdir(root, "head"), 0);
	put(root, "head/f", 1, 'a', true);
	assert_int_equal(env_rename(root, "head", "points/1"), 0);
}

static void look_at_points(struct env_root *root, char look[LOOK_SIZE])
{
	look_at_names(root, "points", look);
	strcat(look, " | ");
	look_at_names(root, "points/1", look);
	strcat(look, " | ");
	look_at_names(root, ".", look);
}

static void a_moved_directory_is_in_one_place_and_its_entries_are_synced_apart(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_directory_moved, look_at_points, &seen);
	expect(&seen, " | - | points", " | - | head points", "1 |  | points", "1 | f | points", NULL);
}

static void act_directory_committed(struct sim *sim, struct env_root *root)
{
	assert_int_equal(env_mkdir(root, "points"), 0);
	sim_settle(sim);
	assert_int_equal(env_mkdir(root, "head"), 0);
	put(root, "head/f", 1, 'a', true);
	assert_int_equal(env_sync_dir(root, "head"), 0);
	assert_int_equal(env_rename(root, "head", "points/1"), 0);
	assert_int_equal(env_sync_dir(root, "points"), 0);
}

static void the_new_directory_s_sync_makes_a_move_certain(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_directory_committed, look_at_points, &seen);
	expect(&seen, "1 | f | points", NULL);
}

static void act_only_old_directory_synced(struct sim *sim, struct env_root *root)
{
	assert_int_equal(env_mkdir(root, "points"), 0);
	assert_int_equal(env_mkdir(root, "head"), 0);
	sim_settle(sim);
	assert_int_equal(env_rename(root, "head", "points/1"), 0);
	assert_int_equal(env_sync_dir(root, "."), 0);
}

static void the_old_directory_s_sync_alone_does_not(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_only_old_directory_synced, look_at_points, &seen);
	expect(&seen, " | - | head points", "1 |  | points", NULL);
}

static void act_directory_removed(struct sim *sim, struct env_root *root)
{
	assert_int_equal(env_mkdir(root, "points"), 0);
	assert_int_equal(env_mkdir(root, "points/1"), 0);
	put(root, "points/1/f", 1, 'a', true);
	sim_settle(sim);
	assert_int_equal(env_remove_tree(root, "points/1"), 0);
}

static void a_removed_tree_may_come_back_in_parts(void **state)
{
	(void)state;
	struct seen seen;
	enumerate(act_directory_removed, look_at_points, &seen);
	expect(&seen, " | - | points", "1 |  | points", "1 | f | points", NULL);
}

// --- power, handles, faults ---

static void handles_are_dead_after_a_power_cut(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim), *other;
	struct env_file *file = opened(root, "f", ENV_CREATE);
	assert_int_equal(env_lock(file), 0);
	sim_power_off(sim);
	assert_int_equal(env_pwrite(file, "x", 1, 0), -ESHUTDOWN);
	assert_int_equal(env_root_open(sim_env(sim), "/", &other), -ESHUTDOWN);
	sim_power_on(sim);
	uint64_t size;
	assert_int_equal(env_size(file, &size), -ESHUTDOWN);
	assert_int_equal(env_mkdir(root, "d"), -ESHUTDOWN);
	other = open_disk(sim);
	struct env_file *again = opened(other, "f", ENV_CREATE_OPEN);
	assert_int_equal(env_lock(again), 0); // the old lock went with the power
	assert_int_equal(sim_handles(sim), 4);
	env_close(again);
	env_close(file);
	env_root_close(other);
	env_root_close(root);
	assert_int_equal(sim_handles(sim), 0);
	sim_free(sim);
}

static void a_killed_process_loses_its_handles_and_nothing_else(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	put(root, "f", 2, 'a', false);
	sim_kill(sim);
	assert_int_equal(env_mkdir(root, "d"), -ESHUTDOWN);
	env_root_close(root);
	root = open_disk(sim);
	char look[LOOK_SIZE] = "";
	look_at_f(root, look);
	assert_string_equal(look, "aa");
	env_root_close(root);
	sim_free(sim);
}

static void the_power_goes_off_before_the_numbered_operation(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	sim_crash_at(sim, sim_ops(sim) + 2);
	assert_int_equal(env_mkdir(root, "a"), 0);
	assert_int_equal(env_sync_dir(root, "."), 0);
	assert_int_equal(env_mkdir(root, "b"), -ESHUTDOWN);
	assert_true(sim_is_off(sim));
	assert_string_equal(sim_last_step(sim), "mkdir b");
	env_root_close(root);
	sim_power_on(sim);
	root = open_disk(sim);
	char look[LOOK_SIZE] = "";
	look_at_root(root, look);
	assert_string_equal(look, "a");
	env_root_close(root);
	sim_free(sim);
}

static void a_fault_comes_once_or_stays(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	struct env_stat st;
	sim_fail_at(sim, sim_ops(sim), -EIO, false);
	assert_int_equal(env_mkdir(root, "a"), -EIO);
	assert_int_equal(env_mkdir(root, "a"), 0);
	sim_fail_at(sim, sim_ops(sim), -ENOSPC, true);
	assert_int_equal(env_mkdir(root, "b"), -ENOSPC);
	assert_int_equal(env_stat(root, "a", &st), 0); // needs no space
	assert_int_equal(env_mkdir(root, "b"), -ENOSPC);
	sim_fail_at(sim, SIM_NEVER, 0, false);
	assert_int_equal(env_mkdir(root, "b"), 0);
	env_root_close(root);
	sim_free(sim);
}

static void a_failed_write_has_written_nothing_half_or_all(void **state)
{
	(void)state;
	struct chooser chooser;
	chooser_init(&chooser);
	struct seen seen = {.count = 0};
	do {
		struct sim *sim = sim_new(1);
		sim_set_chooser(sim, &chooser);
		struct env_root *root = open_disk(sim);
		put(root, "f", 4, 'a', true);
		struct env_file *file = opened(root, "f", ENV_WRITE);
		char bytes[4 * SECTOR_SIZE], look[LOOK_SIZE] = "";
		memset(bytes, 'b', sizeof(bytes));
		sim_fail_at(sim, sim_ops(sim), -EIO, false);
		assert_int_equal(env_pwrite(file, bytes, sizeof(bytes), 0), -EIO);
		look_at_f(root, look);
		note(&seen, look);
		env_close(file);
		env_root_close(root);
		sim_free(sim);
	} while (chooser_next(&chooser));
	chooser_done(&chooser);
	expect(&seen, "aaaa", "bbaa", "bbbb", NULL);
}

static void space_runs_out_and_comes_back(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	put(root, "f", 2, 'a', true);
	sim_set_space(sim, 3 * SECTOR_SIZE);
	struct env_file *file = opened(root, "g", ENV_CREATE);
	char bytes[4 * SECTOR_SIZE];
	memset(bytes, 'b', sizeof(bytes));
	assert_int_equal(env_pwrite(file, bytes, sizeof(bytes), 0), -ENOSPC);
	uint64_t free_bytes, size;
	assert_int_equal(env_space(root, &free_bytes), 0);
	assert_int_equal(free_bytes, 0);
	assert_int_equal(env_size(file, &size), 0);
	assert_int_equal(size, 3 * SECTOR_SIZE);
	put(root, "f", 2, 'c', true); // overwriting needs none
	assert_int_equal(env_unlink(root, "f"), 0);
	assert_int_equal(env_space(root, &free_bytes), 0);
	assert_int_equal(free_bytes, 2 * SECTOR_SIZE);
	assert_int_equal(env_punch(file, 0, 2 * SECTOR_SIZE), 0);
	assert_int_equal(env_space(root, &free_bytes), 0);
	assert_int_equal(free_bytes, 4 * SECTOR_SIZE);
	env_close(file);
	env_root_close(root);
	sim_free(sim);
}

static void clocks_advance_step_and_restart(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env *env = sim_env(sim);
	uint64_t mono = env_mono_ns(env);
	int64_t wall = env_wall_ns(env);
	sim_clock_advance(sim, 5);
	assert_int_equal(env_mono_ns(env), mono + 5);
	sim_clock_step(sim, -1000000);
	assert_int_equal(env_mono_ns(env), mono + 5);
	assert_int_equal(env_wall_ns(env), wall + 5 - 1000000);
	sim_power_off(sim);
	sim_power_on(sim);
	assert_int_equal(env_mono_ns(env), 0);
	sim_free(sim);
}

static void a_restore_brings_the_saved_world_back(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	put(root, "f", 2, 'a', true);
	env_root_close(root);
	sim_save(sim);
	for (int i = 0; i < 3; i++) {
		sim_restore(sim);
		root = open_disk(sim);
		char look[LOOK_SIZE] = "";
		look_at_f_and_g(root, look);
		assert_string_equal(look, "f=aa g=absent");
		put(root, "f", 1, 'b', true);
		put(root, "g", 1, 'b', true);
		assert_int_equal(env_mkdir(root, "d"), 0);
		env_root_close(root);
		sim_save(sim);
		root = open_disk(sim);
		assert_int_equal(env_unlink(root, "f"), 0);
		sim_restore(sim); // the inner one
		env_root_close(root);
		root = open_disk(sim);
		look_at_f_and_g(root, look);
		assert_string_equal(look, "f=ba g=b");
		env_root_close(root);
		sim_drop(sim);
	}
	sim_free(sim);
}

static void a_long_life_does_not_fill_memory(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim);
	for (int i = 0; i < 20000; i++) {
		char name[32];
		snprintf(name, sizeof(name), "f%d", i);
		put(root, name, 8, (char)('a' + i % 26), true);
		assert_int_equal(env_sync_dir(root, "."), 0);
		if (i >= 4) {
			snprintf(name, sizeof(name), "f%d", i - 4);
			assert_int_equal(env_unlink(root, name), 0);
		}
	}
	char look[LOOK_SIZE] = "";
	look_at_file(root, "f19998", look);
	assert_string_equal(look, "eeeeeeee");
	assert_true(sim_memory(sim) < 64u << 20);
	env_root_close(root);
	sim_free(sim);
}

// --- the chooser ---

static void the_odometer_makes_every_run_once(void **state)
{
	(void)state;
	struct chooser chooser;
	chooser_init(&chooser);
	unsigned runs = 0, seen[3][2] = {{0}};
	do {
		unsigned a = choose(&chooser, 3), b = a == 1 ? 0 : choose(&chooser, 2);
		seen[a][b]++;
		runs++;
	} while (chooser_next(&chooser));
	chooser_done(&chooser);
	assert_int_equal(runs, 5);
	assert_int_equal(seen[0][0] + seen[0][1] + seen[2][0] + seen[2][1], 4);
	assert_int_equal(seen[1][0], 1);
}

static void a_line_replays_its_run(void **state)
{
	(void)state;
	struct chooser a, b;
	chooser_init(&a);
	chooser_init(&b);
	(void)choose(&a, 9);
	for (uint64_t seed = 0; seed < 50; seed++) {
		chooser_draw(&a, seed % 2, seed);
		unsigned drawn[20];
		for (unsigned i = 0; i < 20; i++)
			drawn[i] = choose(&a, i + 2);
		char *line = chooser_line(&a), *seed_text = strstr(line, " SEED=");
		assert_non_null(seed_text);
		*seed_text = 0;
		assert_true(chooser_read(&b, line + strlen("CHOICES="), seed_text + strlen(" SEED=")));
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(choose(&b, i + 2), drawn[i]);
		free(line);
	}
	assert_true(chooser_read(&b, "3,0*4,1", NULL));
	assert_int_equal(choose(&b, 4), 3);
	for (int i = 0; i < 4; i++)
		assert_int_equal(choose(&b, 2), 0);
	assert_int_equal(choose(&b, 2), 1);
	char *line = chooser_line(&b);
	assert_string_equal(line, "CHOICES=3,0*4,1");
	free(line);
	assert_false(chooser_read(&b, "3,", NULL));
	assert_false(chooser_read(&b, "x", NULL));
	assert_false(chooser_read(&b, "1*9999999999", NULL));
	assert_false(chooser_read(&b, "1", "-1"));
	chooser_done(&a);
	chooser_done(&b);
}

// --- env_replace, and its mutants ---

enum mutant { AS_IT_IS, NO_FILE_SYNC, NO_DIR_SYNC, IN_PLACE, SYNC_ERROR_IGNORED, SYNC_RETRIED };

struct replace_context {
	enum mutant mutant;
	bool done; // the run was told that the new bytes are there
	char old[1500], new[1500];
};

static int replace_step(struct env *env, struct env_root **ret_root, struct err *err)
{
	int rc = env_root_open(env, "/", ret_root);
	return rc ? err_sys(err, rc, "open the root") : 0;
}

static int replace_setup(struct env *env, void *context, struct err *err)
{
	struct replace_context *c = context;
	memset(c->old, 'o', sizeof(c->old));
	memset(c->new, 'n', sizeof(c->new));
	struct env_root *root;
	int rc = replace_step(env, &root, err);
	if (rc)
		return rc;
	rc = env_replace(root, ".", "f", c->old, sizeof(c->old));
	env_root_close(root);
	return rc;
}

static int sync_as_mutant(struct env_file *file, enum mutant mutant)
{
	int rc = mutant == NO_FILE_SYNC ? 0 : env_sync(file);
	if (rc == -EIO && mutant == SYNC_RETRIED)
		rc = env_sync(file);
	return mutant == SYNC_ERROR_IGNORED && rc != -ESHUTDOWN ? 0 : rc;
}

static int replace_as_mutant(struct env_root *root, const struct replace_context *c)
{
	if (c->mutant == AS_IT_IS)
		return env_replace(root, ".", "f", c->new, sizeof(c->new));
	const char *name = c->mutant == IN_PLACE ? "f" : "f.new";
	int rc = c->mutant == IN_PLACE ? 0 : env_unlink(root, name);
	if (rc && rc != -ENOENT)
		return rc;
	struct env_file *file = NULL;
	rc = env_open(root, name, ENV_CREATE_OPEN, &file);
	if (rc == 0)
		rc = env_pwrite(file, c->new, sizeof(c->new), 0);
	if (rc == 0)
		rc = sync_as_mutant(file, c->mutant);
	env_close(file);
	if (rc == 0 && c->mutant != IN_PLACE)
		rc = env_rename(root, name, "f");
	if (rc == 0 && c->mutant != NO_DIR_SYNC)
		rc = env_sync_dir(root, ".");
	return rc;
}

static int replace_run(struct env *env, void *context, struct err *err)
{
	struct replace_context *c = context;
	c->done = false;
	struct env_root *root;
	int rc = replace_step(env, &root, err);
	if (rc)
		return rc;
	rc = replace_as_mutant(root, c);
	c->done = rc == 0;
	env_root_close(root);
	return rc;
}

static int replace_check(struct env *env, void *context, struct err *err)
{
	const struct replace_context *c = context;
	struct env_root *root;
	char *data = NULL;
	size_t len = 0;
	int rc = replace_step(env, &root, err);
	if (rc)
		return rc;
	rc = env_read_file(root, "f", 1 << 20, &data, &len);
	env_root_close(root);
	if (rc)
		return err_sys(err, rc, "read f");
	bool old = len == sizeof(c->old) && memcmp(data, c->old, len) == 0;
	bool new = len == sizeof(c->new) && memcmp(data, c->new, len) == 0;
	free(data);
	if (!old && !new)
		return err_set(err, -EBADMSG, "f is neither old nor new");
	if (c->done && !new)
		return err_set(err, -EBADMSG, "f is old although the replacement was reported done");
	return 0;
}

static struct crash_scenario replace_scenario(struct replace_context *context)
{
	return (struct crash_scenario){.name = "env_replace", .context = context, .setup = replace_setup, .run = replace_run,
				       .check = replace_check};
}

static int replace_recover(struct env *env, void *context, struct err *err)
{
	const struct replace_context *c = context;
	struct env_root *root;
	int rc = replace_step(env, &root, err);
	if (rc)
		return rc;
	char *data = NULL;
	size_t len = 0;
	rc = env_read_file(root, "f", 1 << 20, &data, &len);
	free(data);
	if (rc == 0 && !c->done) // an unknown outcome is settled by doing it again
		rc = env_replace(root, ".", "f", c->old, sizeof(c->old));
	env_root_close(root);
	return rc;
}

static void env_replace_is_atomic_in_every_crash_state(void **state)
{
	(void)state;
	struct replace_context context = {.mutant = AS_IT_IS};
	struct crash_scenario scenario = replace_scenario(&context);
	assert_true(crash_test(&scenario));
}

static void env_replace_is_atomic_when_its_repetition_is_cut_too(void **state)
{
	(void)state;
	struct replace_context context = {.mutant = AS_IT_IS};
	struct crash_scenario scenario = replace_scenario(&context);
	scenario.name = "env_replace twice";
	scenario.recover = replace_recover;
	scenario.crashes = 2;
	assert_true(crash_test(&scenario));
}

static void env_replace_keeps_its_promise_when_operations_fail(void **state)
{
	(void)state;
	struct replace_context context = {.mutant = AS_IT_IS};
	struct crash_scenario scenario = replace_scenario(&context);
	assert_true(anomaly_test(&scenario));
}

static void expect_caught(enum mutant mutant, bool by_crash)
{
	struct replace_context context = {.mutant = mutant};
	struct crash_scenario scenario = replace_scenario(&context);
	struct crash_result result;
	if (by_crash)
		crash_explore(&scenario, &result);
	else
		anomaly_explore(&scenario, &result);
	assert_true(result.failed);
	assert_non_null(strstr(result.line, by_crash ? "CRASH_TEST=env_replace CHOICES=" : "ANOMALY_TEST=env_replace CHOICES="));
}

static void mutant_without_file_sync_is_caught(void **state)
{
	(void)state;
	expect_caught(NO_FILE_SYNC, true);
}

static void mutant_without_directory_sync_is_caught(void **state)
{
	(void)state;
	expect_caught(NO_DIR_SYNC, true);
}

static void mutant_that_writes_in_place_is_caught(void **state)
{
	(void)state;
	expect_caught(IN_PLACE, true);
}

static void mutant_that_ignores_a_sync_error_is_caught(void **state)
{
	(void)state;
	expect_caught(SYNC_ERROR_IGNORED, false);
}

static void mutant_that_retries_a_failed_sync_is_caught(void **state)
{
	(void)state;
	expect_caught(SYNC_RETRIED, false);
}

static void the_line_of_a_failure_makes_it_fail_again(void **state)
{
	(void)state;
	struct replace_context context = {.mutant = NO_FILE_SYNC};
	struct crash_scenario scenario = replace_scenario(&context);
	struct crash_result first, again;
	crash_explore(&scenario, &first);
	char *choices = strstr(first.line, "CHOICES=") + strlen("CHOICES=");
	setenv("CRASH_TEST", "env_replace", 1);
	setenv("CHOICES", choices, 1);
	crash_explore(&scenario, &again);
	unsetenv("CRASH_TEST");
	unsetenv("CHOICES");
	assert_true(again.failed);
	assert_int_equal(again.states, 1);
	assert_string_equal(again.text, first.text);
}

static void thinned_run_looks_at_a_part_up_to_the_last_operation(void **state)
{
	(void)state;
	struct replace_context context = {.mutant = AS_IT_IS};
	struct crash_scenario scenario = replace_scenario(&context);
	struct crash_result whole, thinned;
	anomaly_explore(&scenario, &whole);
	setenv("KAGAMI_CRASH_THINNED", "3", 1);
	anomaly_explore(&scenario, &thinned);
	unsetenv("KAGAMI_CRASH_THINNED");
	assert_false(thinned.failed);
	assert_true(thinned.points >= whole.points / 4 && thinned.points <= whole.points / 3 + 2);
	context.mutant = SYNC_RETRIED; // the file's sync is one of the last
	setenv("KAGAMI_CRASH_THINNED", "2", 1);
	anomaly_explore(&scenario, &thinned);
	unsetenv("KAGAMI_CRASH_THINNED");
	assert_true(thinned.failed);
}

static void directory_that_died_takes_no_change_and_is_read(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root = open_disk(sim), *in;
	char byte;
	size_t got;
	assert_int_equal(env_mkdir(root, "state"), 0);
	assert_int_equal(env_mkdir(root, "state/deep"), 0);
	assert_int_equal(env_mkdir(root, "other"), 0);
	assert_int_equal(env_root_open(sim_env(sim), "/state", &in), 0);
	struct env_file *deep = opened(in, "deep/file", ENV_CREATE), *other = opened(root, "other/file", ENV_CREATE);
	assert_int_equal(env_pwrite(deep, "a", 1, 0), 0);
	sim_fail_under(sim, "/state");
	assert_int_equal(env_pwrite(deep, "b", 1, 0), -EIO);
	assert_int_equal(env_sync(deep), -EIO);
	assert_int_equal(env_unlink(in, "deep/file"), -EIO);
	assert_int_equal(env_mkdir(in, "more"), -EIO);
	assert_int_equal(env_pread(deep, &byte, 1, 0, &got), 0);
	assert_int_equal(env_pwrite(other, "c", 1, 0), 0);
	assert_int_equal(env_sync(other), 0);
	sim_fail_under(sim, NULL);
	assert_int_equal(env_pwrite(deep, "d", 1, 0), 0);
	env_close(deep);
	env_close(other);
	env_root_close(in);
	env_root_close(root);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directory_that_died_takes_no_change_and_is_read),
		cmocka_unit_test(any_subset_of_unsynced_sectors_survives),
		cmocka_unit_test(synced_contents_survive),
		cmocka_unit_test(every_version_since_the_sync_may_be_the_one),
		cmocka_unit_test(a_grown_file_has_either_size_and_zeros_or_garbage_behind),
		cmocka_unit_test(a_truncation_may_be_undone),
		cmocka_unit_test(a_punch_may_be_undone),
		cmocka_unit_test(what_recovery_overwrites_unread_is_never_decided),
		cmocka_unit_test(what_was_read_after_a_crash_stays_so),
		cmocka_unit_test(an_undecided_sector_that_is_overwritten_may_be_any_of_three),
		cmocka_unit_test(versions_are_bounded_and_the_synced_one_is_kept),
		cmocka_unit_test(a_failed_sync_lies_on_retry),
		cmocka_unit_test(what_is_written_again_after_a_failed_sync_can_be_synced),
		cmocka_unit_test(a_dropped_cache_shows_the_old_data_after_a_failed_sync),
		cmocka_unit_test(a_failed_directory_sync_lies_on_retry),
		cmocka_unit_test(a_new_name_needs_a_directory_sync),
		cmocka_unit_test(a_synced_directory_keeps_its_names),
		cmocka_unit_test(a_name_may_survive_without_its_contents),
		cmocka_unit_test(an_unlink_may_be_undone_and_the_contents_are_back),
		cmocka_unit_test(a_rename_over_a_file_is_old_or_new_and_never_both_or_neither),
		cmocka_unit_test(an_exchange_happens_for_both_names_or_for_none),
		cmocka_unit_test(a_certain_move_of_what_was_exchanged_makes_the_exchange_certain),
		cmocka_unit_test(the_second_name_s_directory_makes_an_exchange_certain),
		cmocka_unit_test(events_on_one_name_keep_their_order),
		cmocka_unit_test(a_moved_directory_is_in_one_place_and_its_entries_are_synced_apart),
		cmocka_unit_test(the_new_directory_s_sync_makes_a_move_certain),
		cmocka_unit_test(the_old_directory_s_sync_alone_does_not),
		cmocka_unit_test(a_removed_tree_may_come_back_in_parts),
		cmocka_unit_test(handles_are_dead_after_a_power_cut),
		cmocka_unit_test(a_killed_process_loses_its_handles_and_nothing_else),
		cmocka_unit_test(the_power_goes_off_before_the_numbered_operation),
		cmocka_unit_test(a_fault_comes_once_or_stays),
		cmocka_unit_test(a_failed_write_has_written_nothing_half_or_all),
		cmocka_unit_test(space_runs_out_and_comes_back),
		cmocka_unit_test(clocks_advance_step_and_restart),
		cmocka_unit_test(a_restore_brings_the_saved_world_back),
		cmocka_unit_test(a_long_life_does_not_fill_memory),
		cmocka_unit_test(the_odometer_makes_every_run_once),
		cmocka_unit_test(a_line_replays_its_run),
		cmocka_unit_test(env_replace_is_atomic_in_every_crash_state),
		cmocka_unit_test(env_replace_is_atomic_when_its_repetition_is_cut_too),
		cmocka_unit_test(env_replace_keeps_its_promise_when_operations_fail),
		cmocka_unit_test(mutant_without_file_sync_is_caught),
		cmocka_unit_test(mutant_without_directory_sync_is_caught),
		cmocka_unit_test(mutant_that_writes_in_place_is_caught),
		cmocka_unit_test(mutant_that_ignores_a_sync_error_is_caught),
		cmocka_unit_test(mutant_that_retries_a_failed_sync_is_caught),
		cmocka_unit_test(the_line_of_a_failure_makes_it_fail_again),
		cmocka_unit_test(thinned_run_looks_at_a_part_up_to_the_last_operation),
	};
	(void)unsetenv("KAGAMI_CRASH_THINNED"); // whatever is asked of other tests: here the drivers themselves are looked at
	return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
