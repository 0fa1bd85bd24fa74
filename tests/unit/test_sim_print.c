// SPDX-License-Identifier: Apache-2.0
// Fingerprints of simulated disks (tests/sim/sim_print.h), and what a crash test may leave out because of them: nothing that another check
// could have found.
#include "tests/sim/sim_print.h"

#include "base/err.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct env_root *open_disk(struct sim *sim)
{
	struct env_root *root;
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	return root;
}

static void put(struct env_root *root, const char *name, uint64_t at, const char *text)
{
	struct env_file *file;
	assert_int_equal(env_open(root, name, ENV_CREATE_OPEN, &file), 0);
	assert_int_equal(env_pwrite(file, text, strlen(text), at), 0);
	env_close(file);
}

static void sync_file(struct env_root *root, const char *name)
{
	struct env_file *file;
	assert_int_equal(env_open(root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_sync(file), 0);
	env_close(file);
}

static bool same(struct sim_print a, struct sim_print b)
{
	return a.low == b.low && a.high == b.high;
}

// Two files below a directory, made in this order or the other; with `more`, one that is gone again.
static struct sim *world_of(bool turned, bool more)
{
	struct sim *sim = sim_new(turned);
	struct env_root *root = open_disk(sim);
	assert_int_equal(env_mkdir(root, "d"), 0);
	if (more) {
		put(root, "d/c", 0, "gone");
		assert_int_equal(env_unlink(root, "d/c"), 0);
	}
	put(root, turned ? "d/b" : "d/a", 0, turned ? "beta" : "alpha");
	put(root, turned ? "d/a" : "d/b", 0, turned ? "alpha" : "beta");
	env_root_close(root);
	return sim;
}

static void worlds_that_read_alike_have_one_print_whatever_led_to_them(void **state)
{
	(void)state;
	struct sim *a = world_of(false, false), *b = world_of(true, true);
	assert_true(same(sim_print(a), sim_print(b)));
	sim_settle(b);
	assert_true(same(sim_print(a), sim_print(b)));
	sim_free(a);
	sim_free(b);
}

static void put_first(struct env_root *root)
{
	put(root, "d/a", 3, "X");
}

static void put_far(struct env_root *root)
{
	put(root, "d/b", 300 << 10, "");
	put(root, "d/b", 200 << 10, "x");
}

static void longer(struct env_root *root)
{
	struct env_file *file;
	assert_int_equal(env_open(root, "d/a", ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, 700 << 10), 0);
	env_close(file);
}

static void renamed(struct env_root *root)
{
	assert_int_equal(env_rename(root, "d/a", "d/A"), 0);
}

static void exchanged(struct env_root *root)
{
	assert_int_equal(env_exchange(root, "d/a", "d/b"), 0);
}

static void removed(struct env_root *root)
{
	assert_int_equal(env_unlink(root, "d/b"), 0);
}

static void directory(struct env_root *root)
{
	assert_int_equal(env_mkdir(root, "e"), 0);
}

// Also in a world that was printed before, whose chunks keep theirs; and a restore brings the old print back.
static void every_change_that_can_be_read_changes_the_print(void **state)
{
	(void)state;
	void (*const change[])(struct env_root *) = {put_first, put_far, longer, renamed, exchanged, removed, directory};
	enum { CHANGES = sizeof(change) / sizeof(change[0]) };
	struct sim_print seen[CHANGES + 1];
	struct sim *sim = world_of(false, false);
	seen[0] = sim_print(sim);
	for (size_t i = 0; i < CHANGES; i++) {
		sim_save(sim);
		struct env_root *root = open_disk(sim);
		change[i](root);
		env_root_close(root);
		seen[i + 1] = sim_print(sim);
		assert_true(same(seen[i + 1], sim_print(sim)));
		for (size_t j = 0; j <= i; j++)
			assert_false(same(seen[i + 1], seen[j]));
		sim_restore(sim);
		sim_drop(sim);
		assert_true(same(seen[0], sim_print(sim)));
	}
	sim_free(sim);
}

// What a power cut left open is in the print as all that it may be; once it was looked at, it is another world.
static void undecided_things_are_part_of_the_print(void **state)
{
	(void)state;
	struct chooser chooser;
	struct sim *sim = world_of(false, false);
	sim_settle(sim);
	sim_save(sim);
	struct env_root *root = open_disk(sim);
	put(root, "d/a", 0, "other");
	env_root_close(root);
	sim_power_off(sim);
	sim_power_on(sim);
	struct sim_print open = sim_print(sim);
	sim_save(sim);
	struct sim_print decided[2];
	chooser_init(&chooser);
	sim_set_chooser(sim, &chooser);
	for (unsigned i = 0; i < 2; i++) {
		char text[6] = "";
		struct env_file *file;
		sim_restore(sim);
		assert_true(same(open, sim_print(sim)));
		root = open_disk(sim);
		assert_int_equal(env_open(root, "d/a", ENV_READ, &file), 0);
		assert_int_equal(env_pread_full(file, text, 5, 0), 0);
		assert_string_equal(text, i ? "other" : "alpha");
		env_close(file);
		env_root_close(root);
		decided[i] = sim_print(sim);
		assert_false(same(decided[i], open));
		assert_true(chooser_next(&chooser) == (i == 0));
	}
	assert_false(same(decided[0], decided[1]));
	sim_free(sim);
	chooser_done(&chooser);
}

static void an_undecided_name_is_both(void **state)
{
	(void)state;
	struct sim_print print[3];
	for (unsigned i = 0; i < 3; i++) {
		struct sim *sim = world_of(false, false);
		sim_settle(sim);
		struct env_root *root = open_disk(sim);
		put(root, "new", 0, "text");
		sync_file(root, "new");
		if (i)
			assert_int_equal(env_rename(root, "new", i == 1 ? "d/a" : "d/b"), 0);
		env_root_close(root);
		sim_power_off(sim);
		sim_power_on(sim);
		print[i] = sim_print(sim);
		for (unsigned j = 0; j < i; j++)
			assert_false(same(print[i], print[j]));
		sim_free(sim);
	}
}

// --- what a crash test does with them ---

struct counted {
	struct {
		unsigned told;
	} promise;
	unsigned checks;
	unsigned wrong_at;	// the check fails where so much was promised
	bool looks;		// and decides something each time
};

enum { WRITES = 4 };

static int counted_setup(struct env *env, void *context, struct err *err)
{
	struct env_root *root;
	int rc = env_root_open(env, "/", &root);
	(void)context, (void)err;
	put(root, "a", WRITES * 512 - 1, ".");
	env_root_close(root);
	return rc;
}

// Each write is followed by an answer that leaves the disk as it is.
static int counted_run(struct env *env, void *context, struct err *err)
{
	struct counted *c = context;
	struct env_root *root;
	struct env_file *file = NULL;
	c->promise.told = 0;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return err_sys(err, rc, "/");
	rc = env_open(root, "a", ENV_WRITE, &file);
	for (unsigned i = 0; rc == 0 && i < WRITES; i++) {
		rc = env_pwrite(file, "x", 1, i * 512);
		if (rc == 0)
			c->promise.told = i / 2;
	}
	if (file)
		env_close(file);
	env_root_close(root);
	return rc;
}

// Whatever survived goes.
static int counted_recover(struct env *env, void *context, struct err *err)
{
	struct counted *c = context;
	struct env_root *root;
	struct env_file *file = NULL;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return err_sys(err, rc, "/");
	rc = env_open(root, "a", ENV_WRITE, &file);
	for (unsigned i = 0; rc == 0 && !c->looks && i < WRITES; i++) {
		char byte[1];
		size_t len;
		rc = env_pread(file, byte, 1, i * 512, &len); // and is looked at before
	}
	if (rc == 0 && !c->looks)
		rc = env_truncate(file, 0);
	if (rc == 0 && !c->looks)
		rc = env_sync(file);
	if (file)
		env_close(file);
	env_root_close(root);
	return rc;
}

static int counted_check(struct env *env, void *context, struct err *err)
{
	struct counted *c = context;
	struct env_root *root;
	struct env_file *file = NULL;
	char byte[1];
	size_t len;
	c->checks++;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return rc;
	rc = env_open(root, "a", ENV_READ, &file);
	if (rc == 0)
		rc = env_pread(file, byte, 1, 0, &len);
	if (file)
		env_close(file);
	env_root_close(root);
	return rc == 0 && c->wrong_at && c->promise.told >= c->wrong_at ? err_set(err, -EBADMSG, "wrong") : rc;
}

static struct crash_result explore(struct counted *c)
{
	const struct crash_scenario s = {.name = "counted", .context = c, .promise = &c->promise, .promise_size = sizeof(c->promise),
					 .setup = counted_setup, .run = counted_run, .recover = counted_recover, .check = counted_check};
	struct crash_result result;
	crash_explore(&s, &result);
	return result;
}

static void a_content_is_judged_once_for_each_promise_and_every_state_counts(void **state)
{
	(void)state;
	struct counted c = {.checks = 0};
	struct crash_result r = explore(&c);
	assert_false(r.failed);
	assert_int_equal(r.contents, 2);
	assert_int_equal(c.checks, 2); // nothing promised, something
	assert_true(r.states > 30);
}

static void what_was_right_under_one_promise_is_judged_again_under_another(void **state)
{
	(void)state;
	struct counted c = {.wrong_at = 1};
	assert_true(explore(&c).failed);
}

static void a_check_that_decides_something_is_made_for_every_state(void **state)
{
	(void)state;
	struct counted c = {.looks = true};
	struct crash_result r = explore(&c);
	assert_false(r.failed);
	assert_true(c.checks > 2 && c.checks >= r.contents);
	struct counted afresh = {.looks = false};
	assert_int_equal(setenv("KAGAMI_CRASH_AFRESH", "1", 1), 0);
	r = explore(&afresh);
	assert_int_equal(unsetenv("KAGAMI_CRASH_AFRESH"), 0);
	assert_int_equal(afresh.checks, r.states + r.repeats);
	assert_int_equal(r.contents, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(worlds_that_read_alike_have_one_print_whatever_led_to_them),
		cmocka_unit_test(every_change_that_can_be_read_changes_the_print),
		cmocka_unit_test(undecided_things_are_part_of_the_print),
		cmocka_unit_test(an_undecided_name_is_both),
		cmocka_unit_test(a_content_is_judged_once_for_each_promise_and_every_state_counts),
		cmocka_unit_test(what_was_right_under_one_promise_is_judged_again_under_another),
		cmocka_unit_test(a_check_that_decides_something_is_made_for_every_state),
	};
	return cmocka_run_group_tests_name("sim_print", tests, NULL, NULL);
}
