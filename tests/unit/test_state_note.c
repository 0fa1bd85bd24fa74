// SPDX-License-Identifier: Apache-2.0
// The note of a state file (replicator/state_note.h): what is no whole note speaks against every file, and one that cannot be written any more is said so, once.
#include "replicator/state_note.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOTE "state/vm1:vda"

static struct sim *sim;
static struct env_root *root;
static struct state_note_place place;
static const struct state_print a = {.instance = {{1}}, .marks = 10}, b = {.instance = {{1}}, .marks = 11};
static const struct state_noted whole = {.boot = 7, .print = {{.instance = {{1}}, .marks = 10}, {.instance = {{1}}, .marks = 11}}};

static int setup(void **state)
{
	(void)state;
	sim = sim_new(1);
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	assert_int_equal(env_mkdir(root, "state"), 0);
	place = (struct state_note_place){.env = sim_env(sim), .run_dir = "/", .boot = 7, .protection = "vm1", .disk = "vda"};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	env_root_close(root);
	sim_free(sim);
	return 0;
}

static void note_is(const unsigned char *bytes, size_t len)
{
	struct env_file *file = NULL;
	int rc = env_unlink(root, NOTE);
	assert_true(rc == 0 || rc == -ENOENT);
	assert_int_equal(env_open(root, NOTE, ENV_CREATE, &file), 0);
	if (len)
		assert_int_equal(env_pwrite(file, bytes, len, 0), 0);
	env_close(file);
}

// Cut at any byte, longer, with any bit turned, or not even a file.
static void a_note_that_is_not_whole_speaks_against_every_file(void **state)
{
	(void)state;
	unsigned char good[STATE_NOTE_BYTES], bad[STATE_NOTE_BYTES + 1] = {0};
	state_noted_encode(&whole, good);
	note_is(good, sizeof(good));
	assert_false(state_note_against(&place, &a, false));
	assert_false(state_note_against(&place, &b, false));
	for (size_t len = 0; len < sizeof(good); len++) {
		note_is(good, len);
		assert_true(state_note_against(&place, &a, false));
	}
	memcpy(bad, good, sizeof(good));
	note_is(bad, sizeof(bad));
	assert_true(state_note_against(&place, &a, false));
	for (size_t bit = 0; bit < 8 * sizeof(good); bit++) {
		memcpy(bad, good, sizeof(good));
		bad[bit / 8] ^= (unsigned char)(1 << bit % 8);
		note_is(bad, sizeof(good));
		assert_true(state_note_against(&place, &a, false));
		assert_true(state_note_against(&place, &a, true));
	}
	assert_int_equal(env_unlink(root, NOTE), 0);
	assert_int_equal(env_mkdir(root, NOTE), 0);
	assert_true(state_note_against(&place, &a, false));
}

static void what_a_later_version_reserved_is_not_guessed_at(void **state)
{
	(void)state;
	unsigned char bytes[STATE_NOTE_BYTES];
	state_noted_encode(&whole, bytes);
	bytes[4] = 1;
	put_le32(bytes, crc32c(bytes + 4, sizeof(bytes) - 4));
	note_is(bytes, sizeof(bytes));
	assert_true(state_note_against(&place, &a, false));
}

static unsigned warnings(const char *what)
{
	char *lines = log_recent();
	unsigned count = 0;
	for (const char *at = lines; at && (at = strstr(at, what)); at++)
		count++;
	free(lines);
	return count;
}

// At whatever step of its life.
static void a_note_that_cannot_be_written_is_removed_and_the_log_says_so_once(void **state)
{
	(void)state;
	struct env_stat st;
	struct err err = {0};
	for (unsigned step = 0; step < 3; step++) {
		struct state_note note;
		unsigned before = warnings("cannot be written, and was removed");
		assert_int_equal(state_note_open(&note, &place, &(struct state_print){.marks = 0}, &err), 0);
		for (unsigned i = 0; i < 3; i++) {
			if (i == step)
				sim_fail_at(sim, sim_ops(sim), i == 0 ? -ENOSPC : -EIO, false);
			(i == 1 ? state_note_next : state_note_keep)(&note, &a);
		}
		assert_int_equal(warnings("cannot be written, and was removed"), before + 1);
		assert_int_equal(env_stat(root, NOTE, &st), -ENOENT);
		state_note_next(&note, &b); // there is none any more, and nothing is said of that
		state_note_keep(&note, &b);
		assert_int_equal(warnings("cannot be written, and was removed"), before + 1);
		assert_false(state_note_against(&place, &b, false));
		state_note_close(&note);
	}
}

// It names what the file was: it is believed no more.
static void a_note_that_can_be_neither_written_nor_removed_speaks_against_the_file(void **state)
{
	(void)state;
	struct state_note note;
	struct err err = {0};
	assert_int_equal(state_note_open(&note, &place, &(struct state_print){.marks = 0}, &err), 0);
	state_note_keep(&note, &a);
	unsigned before = warnings("can be neither written nor removed");
	sim_fail_at(sim, sim_ops(sim), -EIO, true);
	state_note_next(&note, &b);
	sim_fail_at(sim, SIM_NEVER, 0, false);
	assert_int_equal(warnings("can be neither written nor removed"), before + 1);
	assert_true(state_note_against(&place, &b, false));
	state_note_close(&note);
}

// K1: killed between next and keep, and again between the next of the start after it and the new file's name.
static void a_second_kill_leaves_the_file_that_the_first_one_left_named(void **state)
{
	(void)state;
	static const struct state_print c = {.instance = {{2}}, .marks = 11};
	for (unsigned way = 0; way < 2; way++) {
		const struct state_print *file = way ? &b : &a, *other = way ? &a : &b;
		struct state_note note;
		struct err err = {0};
		assert_int_equal(state_note_open(&note, &place, file, &err), 0);
		state_note_keep(&note, &a);
		state_note_next(&note, &b); // whether the marks were written or not
		state_note_close(&note);
		assert_false(state_note_against(&place, file, false));
		assert_int_equal(state_note_open(&note, &place, file, &err), 0);
		state_note_next(&note, &c);
		state_note_close(&note);
		assert_false(state_note_against(&place, file, false));
		assert_false(state_note_against(&place, &c, false));
		assert_true(state_note_against(&place, other, false)); // a copy of before, or one of a file that never was
		assert_int_equal(env_unlink(root, NOTE), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_note_that_is_not_whole_speaks_against_every_file, setup, teardown),
		cmocka_unit_test_setup_teardown(what_a_later_version_reserved_is_not_guessed_at, setup, teardown),
		cmocka_unit_test_setup_teardown(a_note_that_cannot_be_written_is_removed_and_the_log_says_so_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_second_kill_leaves_the_file_that_the_first_one_left_named, setup, teardown),
		cmocka_unit_test_setup_teardown(a_note_that_can_be_neither_written_nor_removed_speaks_against_the_file, setup, teardown),
	};
	return cmocka_run_group_tests_name("state_note", tests, NULL, NULL);
}
