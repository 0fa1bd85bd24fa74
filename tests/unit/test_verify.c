// SPDX-License-Identifier: Apache-2.0
// Verifications (receiver/verifier.h): a point that is used is proven, and what is damaged is told and put into quarantine.
#include "receiver/verifier.h"

#include "base/log.h"
#include "base/size.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "receiver/chain.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RATE (UINT64_C(1) << 30)

struct place {
	struct store_twin twin;
	struct verifier *verifier;
	bool bad_disk;
};

// Points 1 to 3 of vda: block 0 whole in each, 1 in pieces from the second on, 2 in the first only; block 3 is never written.
static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct store_twin *t = &p->twin;
	store_twin_begin(t, 7);
	store_twin_session(t);
	for (unsigned n = 1; n <= 3; n++) {
		store_twin_change(t, 0, 0, MASK_FULL);
		assert_int_equal(store_twin_send(t, 0, 0, MASK_FULL, CODEC_ZSTD, NULL), 0);
		uint16_t mask = n == 1 ? MASK_FULL : (uint16_t)(1u << n);
		store_twin_change(t, 0, 1, mask);
		assert_int_equal(store_twin_send(t, 0, 1, mask, CODEC_NONE, NULL), 0);
		if (n == 1) {
			store_twin_change(t, 0, 2, MASK_FULL);
			assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_ZSTD, NULL), 0);
		}
		store_twin_seal(t);
	}
	p->verifier = verifier_new(t->temp.root->env, RATE);
	assert_non_null(p->verifier);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	if (p->bad_disk)
		bad_disk_end();
	verifier_free(p->verifier);
	store_twin_end(&p->twin);
	free(p);
	return 0;
}

static void begin(struct place *p, uint64_t point)
{
	struct err err = {0};
	if (verifier_begin(p->verifier, p->twin.replica, point, false, &err))
		fail_msg("%s", err.text);
}

static struct verify_info info_of(struct place *p, uint64_t point)
{
	struct verify_info info;
	verifier_info(p->verifier, p->twin.replica, point, &info);
	return info;
}

static struct verify_info finish(struct place *p, uint64_t point)
{
	for (unsigned i = 0; i < 1000 && info_of(p, point).state == VERIFY_RUNNING; i++)
		(void)verifier_step(p->verifier);
	return info_of(p, point);
}

static unsigned holds(struct place *p, uint64_t point)
{
	return replica_point(p->twin.replica, point)->holds;
}

static bool refused(struct place *p, uint64_t point)
{
	return replica_sound(p->twin.replica, point, NULL) == -EUCLEAN;
}


static void point_that_is_sound_is_read_to_its_end_and_let_go(void **state)
{
	struct place *p = *state;
	uint64_t bytes = p->twin.point_size[2][0] + p->twin.point_size[2][1];
	assert_int_equal(info_of(p, 2).state, VERIFY_NONE);
	begin(p, 2);
	assert_int_equal(holds(p, 2), 1);
	struct verify_info info = finish(p, 2);
	assert_int_equal(info.state, VERIFY_SOUND);
	assert_true(info.done_bytes == bytes && info.total_bytes == bytes && info.damaged_blocks == 0);
	assert_int_equal(holds(p, 2), 0);
	assert_int_equal(verifier_begin(p->verifier, p->twin.replica, 99, false, NULL), -ENOENT);
}

static void damage_is_told_and_put_into_quarantine_for_every_point_that_shows_it(void **state)
{
	struct place *p = *state;
	store_flip_block(&p->twin, 1, 0, 2); // shown by all three
	begin(p, 2);
	struct verify_info info = finish(p, 2);
	assert_int_equal(info.state, VERIFY_DAMAGED);
	assert_int_equal(info.damaged_blocks, 1);
	assert_non_null(strstr(info.reason, "quarantine"));
	assert_true(refused(p, 1) && refused(p, 2) && refused(p, 3));
	assert_int_equal(holds(p, 2), 0);
}

static void damage_of_another_point_is_not_told_of_this_one(void **state)
{
	struct place *p = *state;
	store_flip_block(&p->twin, 2, 0, 0); // the third point holds it whole
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	begin(p, 2);
	assert_int_equal(finish(p, 2).state, VERIFY_DAMAGED);
	assert_true(refused(p, 2) && !refused(p, 1) && !refused(p, 3));
}

// QEMU shows what is in the base, whatever the digest says.
static void garbage_where_zeros_should_be_is_damage(void **state)
{
	struct place *p = *state;
	store_flip_at(&p->twin, "base/vda.raw", 3 * BLOCK_SIZE + 5);
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_DAMAGED);
	assert_true(refused(p, 3));
}

// Of the point that it is of, and of those that show what it named: the third holds all of that whole.
static void list_that_cannot_be_read_is_damage(void **state)
{
	struct place *p = *state;
	struct env_file *list = NULL;
	assert_int_equal(env_open(p->twin.temp.root, "vm1/points/2/vda.digests", ENV_WRITE, &list), 0);
	assert_int_equal(env_truncate(list, 512), 0);
	env_close(list);
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	begin(p, 2);
	assert_int_equal(finish(p, 2).state, VERIFY_DAMAGED);
	assert_int_equal(holds(p, 2), 0);
	assert_true(refused(p, 2) && !refused(p, 1));
}

// Nothing of the point can be read: it is refused from then on, and so is what stands on it; what lies below is not.
static void overlay_that_is_none_any_more_puts_what_stands_on_it_into_quarantine(void **state)
{
	struct place *p = *state;
	struct env_file *overlay = NULL;
	assert_int_equal(env_open(p->twin.temp.root, "vm1/points/2/vda.qcow2", ENV_WRITE, &overlay), 0);
	assert_int_equal(env_truncate(overlay, 65536), 0);
	env_close(overlay);
	begin(p, 3);
	struct verify_info info = finish(p, 3);
	assert_int_equal(info.state, VERIFY_DAMAGED);
	assert_non_null(strstr(info.reason, "points/2/vda.qcow2"));
	assert_true(refused(p, 2) && refused(p, 3) && !refused(p, 1));
	verifier_free(p->verifier);
	p->verifier = NULL;
	store_twin_reopen(&p->twin); // which is durable
	assert_true(replica_damaged_blocks(p->twin.replica, 2) > 0);
}

// A header can be written anew while the point is in use, and nothing is lost.
static void header_that_is_damaged_is_made_good(void **state)
{
	struct place *p = *state;
	store_flip_at(&p->twin, "points/2/vda.qcow2", 0);
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	assert_true(!refused(p, 2) && !refused(p, 3));
}

static void base_whose_table_is_damaged_puts_every_point_into_quarantine(void **state)
{
	struct place *p = *state;
	struct err err = {0};
	store_twin_keep(&p->twin, 2);
	assert_int_equal(replica_retain(p->twin.replica, &err), 1); // now it has something to say
	store_flip_at(&p->twin, "base/vda.digests", 512 + 40);
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_DAMAGED);
	assert_true(refused(p, 2) && refused(p, 3));
}

// --- what could not be read ---

static struct {
	struct env env;
	struct env_ops ops;
	uint64_t ahead_ns;
} fast_clock;

static uint64_t fast_mono_ns(struct env *env)
{
	(void)env;
	return env_mono_ns(env_posix()) + fast_clock.ahead_ns;
}

// A verifier whose clock is the test's, on a disk that refuses to read this file.
static void begin_unreadable(struct place *p, const char *name, int code)
{
	fast_clock.ops = *env_posix()->ops;
	fast_clock.ops.mono_ns = fast_mono_ns;
	fast_clock.env.ops = &fast_clock.ops;
	verifier_free(p->verifier);
	p->verifier = verifier_new(&fast_clock.env, RATE);
	assert_non_null(p->verifier);
	if (!p->bad_disk)
		bad_disk_begin(p->twin.temp.root->env);
	p->bad_disk = true;
	bad_disk_set(name, 0, 1, code);
	begin(p, 3);
}

static void retries_and_then_proves(struct place *p)
{
	for (uint64_t wait_s = VERIFIER_AGAIN_S; wait_s <= 4 * VERIFIER_AGAIN_S; wait_s *= 2) {
		struct verify_info info = finish(p, 3);
		assert_int_equal(info.state, VERIFY_UNREADABLE);
		assert_int_equal(info.damaged_blocks, 0);
		assert_true(info.again_in_ms > (wait_s - 50) * 1000 && info.again_in_ms <= wait_s * 1000 + 1);
		assert_true(info.reason[0]);
		assert_int_equal(holds(p, 3), 0);
		assert_true(!refused(p, 1) && !refused(p, 2) && !refused(p, 3));
		uint64_t sleeps_ns = verifier_step(p->verifier); // not before its time, and not long after
		assert_true(sleeps_ns <= wait_s * UINT64_C(1000000000) && info_of(p, 3).state == VERIFY_UNREADABLE);
		if (wait_s == 4 * VERIFIER_AGAIN_S)
			bad_disk_heal();
		fast_clock.ahead_ns += wait_s * UINT64_C(1000000000);
		(void)verifier_step(p->verifier);
	}
	struct verify_info info = finish(p, 3);
	assert_int_equal(info.state, VERIFY_SOUND);
	assert_string_equal(info.reason, "");
}

static void overlay_that_gives_eio_is_no_damage_and_tried_again(void **state)
{
	begin_unreadable(*state, "vm1/points/2/vda.qcow2", -EIO);
	retries_and_then_proves(*state);
}

static void want_of_memory_or_descriptors_is_no_damage_and_tried_again(void **state)
{
	static const int codes[] = {-ENOMEM, -EMFILE, -ENFILE};
	struct place *p = *state;
	for (unsigned i = 0; i < 3; i++) {
		begin_unreadable(p, "vm1/points/2/vda.digests", codes[i]);
		retries_and_then_proves(p);
		verifier_drop(p->verifier, p->twin.replica, 3);
	}
}

// A block is read wrong, and then there is nothing to look at it again with: it is neither damaged nor sound until there is.
static void damage_that_cannot_be_noted_for_want_of_descriptors_is_found_again(void **state)
{
	struct place *p = *state;
	store_flip_block(&p->twin, 1, 0, 2);
	begin_unreadable(p, "vm1/points/3/vda.digests", -EMFILE);
	bad_disk_heal();
	struct chain *chain = NULL;
	assert_int_equal(chain_open(p->twin.replica, 3, 0, &chain, NULL), 0);
	unsigned char block[BLOCK_SIZE];
	assert_int_equal(chain_get(chain, 2, block, NULL), -EBADMSG);
	bad_disk_set("vm1/points/1/vda.qcow2", 0, UINT64_MAX / 2, -EMFILE); // what chain_get() reads then it lacks
	assert_int_equal(chain_get(chain, 2, block, NULL), -EMFILE);
	chain_close(chain);
	bad_disk_heal();
	assert_int_equal(finish(p, 3).state, VERIFY_DAMAGED);
	assert_true(refused(p, 3));
}

static void digests_that_are_lost_are_damage(void **state)
{
	struct place *p = *state;
	store_flip_at(&p->twin, "points/2/vda.digests", 512 + 100);
	begin(p, 2);
	assert_int_equal(finish(p, 2).state, VERIFY_DAMAGED);
	assert_int_equal(replica_sound(p->twin.replica, 2, NULL), -EUCLEAN);
}

static void what_is_dropped_is_let_go_at_once(void **state)
{
	struct place *p = *state;
	begin(p, 2);
	begin(p, 3);
	(void)verifier_step(p->verifier);
	verifier_drop(p->verifier, p->twin.replica, 2);
	assert_int_equal(info_of(p, 2).state, VERIFY_NONE);
	assert_int_equal(holds(p, 2), 0);
	assert_int_equal(holds(p, 3), 1);
	verifier_drop(p->verifier, p->twin.replica, 0);
	assert_int_equal(holds(p, 3), 0);
	assert_true(verifier_step(p->verifier) > RATE); // nothing to do: a long wait
}

static void fresh_result_stands_until_damage_is_seen(void **state)
{
	struct place *p = *state;
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	store_flip_block(&p->twin, 3, 0, 0);
	begin(p, 3);
	assert_int_equal(info_of(p, 3).state, VERIFY_SOUND);
	verifier_distrust(p->verifier, p->twin.replica, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_DAMAGED);
}

// A merge writes the point anew, and a fold the base under it: what was proven is not what is there now.
static void result_does_not_outlive_what_it_was_read_from(void **state)
{
	struct place *p = *state;
	struct err err = {0};
	assert_int_equal(replica_pin(p->twin.replica, 1, "", &err), 0);
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	begin(p, 1);
	assert_int_equal(finish(p, 1).state, VERIFY_SOUND);
	store_twin_keep(&p->twin, 1);
	assert_int_equal(replica_retain(p->twin.replica, &err), 1); // 2 goes into 3
	assert_int_equal(info_of(p, 3).state, VERIFY_NONE);
	assert_int_equal(info_of(p, 1).state, VERIFY_SOUND); // nothing of it was touched
	store_flip_block(&p->twin, 3, 0, 0);
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_DAMAGED);
	store_flip_block(&p->twin, 3, 0, 0);
	verifier_distrust(p->verifier, p->twin.replica, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	assert_int_equal(replica_unpin(p->twin.replica, 1, &err), 0);
	assert_int_equal(replica_retain(p->twin.replica, &err), 1); // 1 goes into the base
	assert_int_equal(info_of(p, 3).state, VERIFY_NONE);
}

static void slices_of_several_points_take_turns_at_the_rate(void **state)
{
	struct place *p = *state;
	struct verify_info info;
	begin(p, 1);
	begin(p, 2);
	begin(p, 3);
	assert_true(verifier_at(p->verifier, p->twin.replica, 2, &info) && info.point == 3);
	assert_false(verifier_at(p->verifier, p->twin.replica, 3, &info));
	for (unsigned i = 0; i < 3; i++) // each disk is smaller than a slice
		(void)verifier_step(p->verifier);
	for (uint64_t n = 1; n <= 3; n++)
		assert_true(info_of(p, n).state == VERIFY_RUNNING && info_of(p, n).done_bytes == p->twin.point_size[n][0]);
	struct verifier *slow = verifier_new(p->twin.temp.root->env, 1 << 20);
	assert_int_equal(verifier_begin(slow, p->twin.replica, 1, false, NULL), 0);
	uint64_t wait_ns = verifier_step(slow), due_ns = p->twin.point_size[1][0] * UINT64_C(1000000000) / (1 << 20);
	assert_true(wait_ns <= due_ns && (wait_ns > 0 || due_ns < 100000000));
	verifier_free(slow);
	assert_int_equal(holds(p, 1), 1); // the other's
}

int main(void)
{
	log_init("test_verify", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(point_that_is_sound_is_read_to_its_end_and_let_go),
		TEST(damage_is_told_and_put_into_quarantine_for_every_point_that_shows_it),
		TEST(damage_of_another_point_is_not_told_of_this_one),
		TEST(garbage_where_zeros_should_be_is_damage),
		TEST(list_that_cannot_be_read_is_damage),
		TEST(digests_that_are_lost_are_damage),
		TEST(overlay_that_is_none_any_more_puts_what_stands_on_it_into_quarantine),
		TEST(header_that_is_damaged_is_made_good),
		TEST(base_whose_table_is_damaged_puts_every_point_into_quarantine),
		TEST(overlay_that_gives_eio_is_no_damage_and_tried_again),
		TEST(want_of_memory_or_descriptors_is_no_damage_and_tried_again),
		TEST(damage_that_cannot_be_noted_for_want_of_descriptors_is_found_again),
		TEST(what_is_dropped_is_let_go_at_once),
		TEST(fresh_result_stands_until_damage_is_seen),
		TEST(result_does_not_outlive_what_it_was_read_from),
		TEST(slices_of_several_points_take_turns_at_the_rate),
	};
	return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
