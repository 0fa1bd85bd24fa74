// SPDX-License-Identifier: Apache-2.0
// The scrub (receiver/scrub.h): every version of every block is proven, damage is found, named, kept in quarantine, and repaired by a session.
#include "receiver/scrub.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "receiver/copies.h"
#include "receiver/replica.h"
#include "receiver/scrubber.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// --- a store of three points ---

// vda: block 0 whole in every point; 1 whole in the first, then pieces; 2 in the first only; 3 never. vdb: noise.
static int setup(void **state)
{
	struct store_twin *t = malloc(sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 99);
	store_twin_session(t);
	for (unsigned n = 1; n <= 3; n++) {
		store_twin_change(t, 0, 0, MASK_FULL);
		assert_int_equal(store_twin_send(t, 0, 0, MASK_FULL, CODEC_ZSTD, NULL), 0);
		uint16_t mask = n == 1 ? MASK_FULL : (uint16_t)(1u << n);
		store_twin_change(t, 0, 1, mask);
		assert_int_equal(store_twin_send(t, 0, 1, mask, CODEC_NONE, NULL), 0);
		if (n == 1) {
			store_twin_change(t, 0, 2, MASK_FULL);
			assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_LZ4, NULL), 0); // stored plain
		}
		for (unsigned i = 0; i < 8; i++) {
			uint64_t index = draw_below(&t->seed, 40);
			store_twin_change(t, 1, index, 0x00ff);
			assert_int_equal(store_twin_send(t, 1, index, 0x00ff, CODEC_ZSTD, NULL), 0);
		}
		store_twin_seal(t);
	}
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	store_twin_end(*state);
	free(*state);
	return 0;
}

static struct scrub_info info_of(struct store_twin *t)
{
	struct scrub_info info;
	scrub_info(t->replica, &info);
	return info;
}

static uint64_t be64_at(struct env_file *file, uint64_t off)
{
	unsigned char bytes[8];
	assert_int_equal(env_pread_full(file, bytes, 8, off), 0);
	return get_be64(bytes);
}

static bool refused(struct store_twin *t, uint64_t point)
{
	struct err err = {0};
	int rc = replica_sound(t->replica, point, &err);
	assert_true(rc == 0 || (rc == -EUCLEAN && strstr(err.text, "--damaged")));
	return rc != 0;
}

// --- sound ---

static void pass_proves_every_version_of_every_block(void **state)
{
	struct store_twin *t = *state;
	assert_false(info_of(t).ended);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	struct scrub_info info = info_of(t);
	assert_true(info.ended && !info.open && info.last_mismatches == 0);
	// vda: 6 blocks in the first point, then two in each of two; vdb: 40, and what the lists of two points name
	uint64_t wanted = 6 + 4 + 40;
	for (unsigned n = 2; n <= 3; n++) {
		struct point_file point;
		assert_int_equal(replica_read_point(t->replica, n, &point, NULL), 0);
		wanted += point.disk[1].digests;
	}
	assert_int_equal(info.last_proven, wanted);
	assert_int_equal(store_twin_scrub(t, 2), 0);
	assert_int_equal(info_of(t).last_proven, wanted); // the record is of passes over every point
	for (unsigned n = 1; n <= 3; n++)
		assert_false(refused(t, n));
}

static void pass_goes_on_through_commits_folds_and_growth(void **state)
{
	struct store_twin *t = *state;
	struct scrub_step step = {.ended = false};
	struct err err = {0};
	assert_int_equal(scrub_begin(t->replica, 0, SCRUB_RATE_DEFAULT, &err), 0);
	t->replica->scrub_range = 1;
	for (unsigned n = 0; !step.ended; n++) {
		if (scrub_slice(t->replica, &step, &err))
			fail_msg("%s", err.text);
		assert_int_equal(step.mismatches, 0);
		t->replica->scrub_range = 3;
		if (n == 4) {
			replica_session_end(t->replica);
			store_twin_grow(t, 0, 9 * BLOCK_SIZE + 512);
			store_twin_keep(t, 2);
			assert_int_equal(replica_pin(t->replica, 3, "", &err), 0); // so that others are merged
			store_twin_session(t);
		}
		for (unsigned i = 0; i < 3; i++)
			store_twin_random(t);
		store_twin_seal(t);
		assert_true(replica_retain(t->replica, &err) >= 0);
	}
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_true(store_twin_check(t, false));
}

// --- damage ---

static void flipped_byte_is_found_in_exactly_the_points_that_show_it(void **state)
{
	struct store_twin *t = *state;
	static const struct {
		uint64_t point, index;
		bool shown[4];
	} cases[] = {
		{1, 0, {false, true, false, false}},  // packed; each later point holds it whole
		{2, 0, {false, false, true, false}},
		{3, 0, {false, false, false, true}},
		{1, 2, {false, true, true, true}},    // plain; no later point holds it
		{2, 1, {false, false, true, true}},   // a piece: the third point shows it through its own pieces
		{3, 1, {false, false, false, true}},
	};
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		store_flip_block(t, cases[c].point, 0, cases[c].index);
		assert_true(store_twin_scrub(t, 0) > 0);
		for (uint64_t n = 1; n <= 3; n++)
			if (refused(t, n) != cases[c].shown[n])
				fail_msg("case %zu: point %llu is %s", c, (unsigned long long)n, refused(t, n) ? "refused" : "not refused");
		store_flip_block(t, cases[c].point, 0, cases[c].index); // and back: sound again, and let out
		assert_int_equal(store_twin_scrub(t, 0), 0);
		for (uint64_t n = 1; n <= 3; n++)
			assert_false(refused(t, n));
	}
}

static void every_flipped_byte_of_the_base_is_found(void **state)
{
	struct store_twin *t = *state;
	store_twin_keep(t, 1);
	replica_session_end(t->replica);
	store_twin_session(t);
	while (replica_retain(t->replica, NULL) == 1)
		;
	store_flip_at(t, "base/vda.raw", 2 * BLOCK_SIZE + 77); // what a fold put there
	store_flip_at(t, "base/vda.raw", 3 * BLOCK_SIZE + 5);  // where zeros should be
	assert_int_equal(store_twin_scrub(t, 0), 2);
	assert_true(refused(t, 3));
	assert_int_equal(replica_damaged_blocks(t->replica, 3), 2);
}

static void scrub_of_one_point_quarantines_all_that_show_the_block(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 1, 0, 2);
	assert_true(store_twin_scrub(t, 2) > 0);
	for (unsigned n = 1; n <= 3; n++)
		assert_true(refused(t, n));
	store_flip_block(t, 1, 0, 2);
	assert_int_equal(store_twin_scrub(t, 3), 0);
	assert_true(refused(t, 2)); // one point that is sound says nothing of the others
}

static void quarantine_outlives_the_receiver(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 2, 0, 0);
	assert_int_equal(store_twin_scrub(t, 0), 1);
	store_twin_reopen(t);
	assert_true(refused(t, 2));
	assert_false(refused(t, 1) || refused(t, 3));
	assert_true(info_of(t).ended);
	assert_int_equal(info_of(t).last_mismatches, 1);
}

static void quarantine_holds_in_a_broken_replica_too(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	store_flip_block(t, 2, 0, 0);
	assert_int_equal(store_twin_scrub(t, 0), 1);
	store_flip_at(t, "points/3/point.json", 40);
	store_flip_at(t, "points/3/point.json.copy", 40);
	store_flip_at(t, "points/3/vda.digests", DIGEST_SECTOR + 30); // so that nobody knows what it is
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(info.broken && info.point_count == 2);
	assert_true(refused(t, 2));
	assert_false(refused(t, 1));
}

static void record_that_is_damaged_puts_every_point_in_doubt(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 2, 0, 0);
	assert_int_equal(store_twin_scrub(t, 0), 1);
	store_flip_at(t, "scrub.json", 40);
	store_flip_at(t, "scrub.json" COPY_SUFFIX, 40);
	for (unsigned starts = 0; starts < 2; starts++) { // the first one's keeper writes down that it was lost
		store_twin_reopen(t);
		for (unsigned n = 1; n <= 3; n++)
			assert_true(refused(t, n));
		assert_int_equal(replica_mend(t->replica), 0);
	}
	struct scrub_info info = info_of(t);
	assert_true(info.suspect && scrub_is_due(&info, 0, 1));
	assert_int_equal(store_twin_scrub(t, 0), 1);
	assert_true(refused(t, 2));
	assert_false(refused(t, 1) || refused(t, 3));
}

static void only_the_second_is_refused(struct store_twin *t)
{
	store_twin_reopen(t);
	assert_false(info_of(t).suspect);
	assert_true(refused(t, 2));
	assert_false(refused(t, 1) || refused(t, 3));
}

static void record_that_is_damaged_or_gone_is_read_from_its_copy(void **state)
{
	struct store_twin *t = *state;
	static const char *const both[] = {"scrub.json", "scrub.json" COPY_SUFFIX};
	char path[64];
	store_flip_block(t, 2, 0, 0);
	assert_int_equal(store_twin_scrub(t, 0), 1);
	for (unsigned i = 0; i < 4; i++) {
		(void)snprintf(path, sizeof(path), "vm1/%s", both[i % 2]);
		if (i < 2)
			store_flip_at(t, both[i % 2], 40);
		else
			assert_int_equal(env_unlink(t->temp.root, path), 0);
		only_the_second_is_refused(t);
		assert_int_equal(replica_mend(t->replica), 0);
		struct copies_state copies;
		copies_state(t->temp.root, "vm1/scrub.json", &copies);
		assert_true(copies.alike);
		only_the_second_is_refused(t);
	}
}

// As of a backup, of the file or of its copy: what either claims holds, and from the keeper's round on both say so.
static void older_record_comes_back_as(struct store_twin *t, const char *name)
{
	char *older = NULL;
	size_t len = 0;
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_int_equal(env_read_file(t->temp.root, "vm1/scrub.json", 1 << 16, &older, &len), 0);
	store_flip_block(t, 2, 0, 0);
	assert_int_equal(store_twin_scrub(t, 0), 1);
	assert_int_equal(env_replace(t->temp.root, "vm1", name, older, len), 0);
	free(older);
	for (unsigned starts = 0; starts < 3; starts++) {
		only_the_second_is_refused(t);
		assert_int_equal(t->replica->scrub_apart, starts < 2);
		if (starts == 1)
			assert_int_equal(replica_mend(t->replica), 0);
	}
}

static void older_record_that_was_put_back_lets_nothing_out_of_quarantine(void **state)
{
	older_record_comes_back_as(*state, "vm1/scrub.json");
}

static void older_copy_of_the_record_lets_nothing_out_of_quarantine(void **state)
{
	older_record_comes_back_as(*state, "vm1/scrub.json" COPY_SUFFIX);
}

// A record from before the one that was lost has a pass that began before the doubt did: that says nothing of it, and does not end it.
static void pass_of_an_older_record_ends_no_doubt(void **state)
{
	struct store_twin *t = *state;
	char *older = NULL;
	size_t len = 0;
	struct scrub_step step;
	assert_int_equal(scrub_begin(t->replica, 0, SCRUB_RATE_DEFAULT, NULL), 0);
	t->replica->scrub_range = 2;
	assert_int_equal(scrub_slice(t->replica, &step, NULL), 0);
	assert_int_equal(scrub_save(t->replica, NULL), 0);
	assert_int_equal(env_read_file(t->temp.root, "vm1/scrub.json", 1 << 16, &older, &len), 0);
	store_flip_at(t, "scrub.json", 40);
	store_flip_at(t, "scrub.json" COPY_SUFFIX, 40);
	store_twin_reopen(t);
	assert_int_equal(replica_mend(t->replica), 0);
	assert_int_equal(env_replace(t->temp.root, "vm1", "vm1/scrub.json", older, len), 0);
	free(older);
	store_twin_reopen(t);
	struct scrub_info info = info_of(t);
	assert_true(info.suspect && !info.open && refused(t, 3));
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_false(info_of(t).suspect || refused(t, 3));
}

// Neither is there, as before the first pass; but what lies beside the store's files tells that there was one.
static void record_that_is_gone_is_missed_where_something_was_found(void **state)
{
	struct store_twin *t = *state;
	static const struct {
		const char *dir, *path;
	} kept[] = {{"vm1", "vm1/scrub.json.damaged"}, {"vm1/points/2", "vm1/points/2/vdb.qcow2.damaged"}, {"vm1/base", "vm1/base/vda.digests.damaged"}};
	assert_int_equal(store_twin_scrub(t, 0), 0);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		(void)env_unlink(t->temp.root, "vm1/scrub.json");
		(void)env_unlink(t->temp.root, "vm1/scrub.json" COPY_SUFFIX);
		store_twin_reopen(t);
		assert_false(info_of(t).suspect || refused(t, 3));
		assert_int_equal(env_replace(t->temp.root, kept[i].dir, kept[i].path, "x", 1), 0);
		store_twin_reopen(t);
		assert_true(info_of(t).suspect && refused(t, 3));
		assert_int_equal(env_unlink(t->temp.root, kept[i].path), 0);
	}
}

// Nobody else changes it, and memory knows.
static void record_that_rots_at_run_time_is_saved_from_memory(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 2, 0, 0);
	assert_int_equal(store_twin_scrub(t, 0), 1);
	store_flip_at(t, "scrub.json", 40);
	store_flip_at(t, "scrub.json" COPY_SUFFIX, 40);
	copies_look(t->replica);
	assert_int_equal(replica_mend(t->replica), 0);
	only_the_second_is_refused(t);
}

// --- position ---

static void pass_resumes_where_it_was_saved(void **state)
{
	struct store_twin *t = *state;
	struct scrub_step step;
	assert_int_equal(scrub_begin(t->replica, 0, 1234567, NULL), 0);
	t->replica->scrub_range = 2;
	assert_int_equal(scrub_slice(t->replica, &step, NULL), 0);
	assert_int_equal(scrub_save(t->replica, NULL), 0);
	struct scrub_info before = info_of(t);
	assert_int_equal(before.done_bytes, 2 * BLOCK_SIZE);
	store_twin_reopen(t);
	struct scrub_info after = info_of(t);
	assert_true(after.open && after.rate == 1234567 && after.began_ns == before.began_ns);
	assert_int_equal(after.done_bytes, before.done_bytes);
	do
		assert_int_equal(scrub_slice(t->replica, &step, NULL), 0);
	while (!step.ended);
	assert_int_equal(info_of(t).last_began_ns, before.began_ns);
}

static void block_before_the_position_was_read(void **state)
{
	struct store_twin *t = *state;
	struct scrub_step step = {.ended = false};
	store_flip_block(t, 1, 0, 2);
	assert_int_equal(scrub_begin(t->replica, 0, 1, NULL), 0);
	for (unsigned n = 0; !step.ended; n++) {
		t->replica->scrub_range = 1;
		assert_int_equal(scrub_slice(t->replica, &step, NULL), 0);
		assert_int_equal(step.mismatches, n == 2); // at its own place, and nowhere else
	}
}

static void scrub_and_retention_shut_each_other_out(void **state)
{
	struct store_twin *t = *state;
	struct scrub_step step;
	assert_int_equal(scrub_begin(t->replica, 0, 1, NULL), 0);
	assert_int_equal(pthread_mutex_lock(&t->replica->retain_lock), 0);
	assert_int_equal(scrub_slice(t->replica, &step, NULL), -EAGAIN);
	assert_int_equal(pthread_mutex_unlock(&t->replica->retain_lock), 0);
	assert_int_equal(scrub_slice(t->replica, &step, NULL), 0);
}

// Another protection, "vm2", with a point and a pass.
static struct replica *neighbour(struct store_twin *t)
{
	struct wire_open open = t->open;
	struct wire_opened opened;
	struct wire_committed done;
	struct replica *r = NULL;
	(void)snprintf(open.name, NAME_SIZE, "vm2");
	assert_int_equal(store_create(t->store, &open, t->pin, &r, NULL), 0);
	assert_int_equal(replica_session_begin(r, &open, t->pin, &opened, NULL), 0);
	const struct wire_seal seal = {.head = opened.head, .cut = {{9}}, .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(r, &seal, &done, NULL), 0);
	replica_session_end(r);
	assert_int_equal(scrub_begin(r, 0, UINT64_C(1) << 40, NULL), 0);
	return r;
}

// Steps until the neighbour's pass ends, and never a wait for vm1's sake.
static void neighbour_ends(struct store_twin *t, struct replica *r)
{
	const struct scrubber_config config = {.rate = UINT64_C(1) << 40};
	struct scrub_info info = {.ended = false};
	size_t cursor = 0;
	for (unsigned i = 0; !info.ended; i++) {
		assert_true(i < 100);
		assert_true(scrubber_step(env_posix(), t->store, &config, &cursor) < UINT64_C(1000000000));
		scrub_info(r, &info);
	}
}

static void pass_of_a_broken_replica_keeps_no_other_waiting(void **state)
{
	struct store_twin *t = *state;
	struct replica *r = neighbour(t);
	struct err why = {.code = -EIO, .text = "a sync failed"}, err;
	assert_int_equal(scrub_begin(t->replica, 0, UINT64_C(1) << 40, NULL), 0);
	{
		LOCK_SCOPE(&t->replica->lock);
		(void)replica_break(t->replica, &why, &err);
	}
	neighbour_ends(t, r);
}

static void pass_that_fails_keeps_no_other_waiting(void **state)
{
	struct store_twin *t = *state;
	struct replica *r = neighbour(t);
	assert_int_equal(scrub_begin(t->replica, 0, UINT64_C(1) << 40, NULL), 0);
	assert_int_equal(env_unlink(t->temp.root, "vm1/points/1/point.json.copy"), 0);
	assert_int_equal(env_unlink(t->temp.root, "vm1/points/1/point.json"), 0);
	assert_int_equal(env_unlink(t->temp.root, "vm1/points/1/vda.digests"), 0);
	neighbour_ends(t, r);
	assert_true(scrub_rests(t->replica) && !scrub_rests(r));
	assert_true(info_of(t).open); // it goes on when those files are there again
}

static void pass_is_due_after_its_interval_whatever_the_clock_does(void **state)
{
	(void)state;
	const int64_t day = INT64_C(86400) * 1000000000;
	struct scrub_info info = {.ended = false, .rest_ns = UINT64_C(3600) * 1000000000};
	assert_true(scrub_is_due(&info, 100 * day, 7 * day));
	info.rest_ns--;
	assert_false(scrub_is_due(&info, 100 * day, 7 * day));
	info.rest_ns++;
	info.ended = true;
	info.last_began_ns = 100 * day;
	assert_false(scrub_is_due(&info, 106 * day, 7 * day));
	assert_true(scrub_is_due(&info, 107 * day, 7 * day));
	assert_true(scrub_is_due(&info, 99 * day, 7 * day)); // set back by a day
	info.open = true;
	assert_false(scrub_is_due(&info, 200 * day, 7 * day));
}

// --- repair ---

static bool differs(struct store_twin *t, unsigned disk, uint64_t index)
{
	struct digest digest = digest_of(&t->open.digest, (uint16_t)disk, index, t->disk[disk] + index * BLOCK_SIZE);
	struct wire_compare compare = {.disk = (uint16_t)disk, .count = 1, .first = index, .digests = digest.bytes};
	unsigned char bitmap = 0;
	assert_int_equal(replica_compare(t->replica, &compare, &bitmap, NULL), 0);
	return bitmap & 1;
}

static void damaged_block_differs_until_it_comes_whole(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 1, 0, 2);
	assert_false(differs(t, 0, 2));
	assert_true(store_twin_scrub(t, 0) > 0);
	assert_true(refused(t, 3));
	struct wire_compare compare = {.count = 1, .digests = (const unsigned char *)"0123456789abcdef"};
	unsigned char bitmap;
	assert_int_equal(replica_compare(t->replica, &compare, &bitmap, NULL), -ESTALE); // the source is to open again
	replica_session_end(t->replica);
	store_twin_session(t);
	assert_true(differs(t, 0, 2));
	assert_false(differs(t, 0, 0));
	store_twin_change(t, 0, 2, 0x0001);
	assert_int_equal(store_twin_send(t, 0, 2, 0x0001, CODEC_NONE, NULL), 0); // in a piece: the damage may still show
	assert_true(differs(t, 0, 2));
	store_twin_seal(t);
	assert_true(refused(t, 4));
	assert_true(differs(t, 0, 2));
	assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_ZSTD, NULL), 0);
	assert_false(differs(t, 0, 2));
	store_twin_seal(t);
	assert_false(refused(t, 5));
	for (unsigned n = 1; n <= 4; n++)
		assert_true(refused(t, n));
	assert_int_equal(store_twin_scrub(t, 5), 0);
	assert_true(store_twin_scrub(t, 0) > 0);
	assert_false(refused(t, 5));
}

static void damaged_zeros_are_repaired_too(void **state)
{
	struct store_twin *t = *state;
	store_flip_at(t, "base/vda.raw", 3 * BLOCK_SIZE + 5);
	assert_true(store_twin_scrub(t, 0) > 0);
	replica_session_end(t->replica);
	store_twin_session(t);
	assert_true(differs(t, 0, 3));
	assert_int_equal(store_twin_zeros(t, 0, 3, 1, NULL), 0); // zeros on what should be zeros: written here
	assert_false(differs(t, 0, 3));
	store_twin_seal(t);
	assert_false(refused(t, 4));
	assert_int_equal(store_twin_scrub(t, 4), 0);
}

static void quarantine_ends_with_its_last_point(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 1, 0, 0);
	assert_int_equal(store_twin_scrub(t, 0), 1);
	store_twin_keep(t, 1);
	replica_session_end(t->replica);
	store_twin_session(t);
	while (replica_retain(t->replica, NULL) == 1)
		;
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_int_equal(info_of(t).damaged_blocks, 0);
}

static void retain_all(struct store_twin *t)
{
	struct err err = {0};
	int rc;
	while ((rc = replica_retain(t->replica, &err)) == 1)
		;
	if (rc)
		fail_msg("%s", err.text);
}

static void quarantine_of_a_point_ends_when_it_is_merged(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 2, 0, 0); // the third holds it whole
	assert_int_equal(store_twin_scrub(t, 0), 1);
	assert_int_equal(replica_pin(t->replica, 1, "", NULL), 0);
	store_twin_keep(t, 1);
	retain_all(t);
	assert_int_equal(info_of(t).damaged_blocks, 0);
	assert_false(refused(t, 1) || refused(t, 3));
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_true(store_twin_check(t, false));
}

static void damage_that_a_merge_takes_along_stays_known(void **state)
{
	struct store_twin *t = *state;
	store_flip_block(t, 2, 0, 1); // a piece, that the third shows
	assert_int_equal(store_twin_scrub(t, 0), 2);
	assert_int_equal(replica_pin(t->replica, 1, "", NULL), 0);
	store_twin_keep(t, 1);
	retain_all(t);
	assert_false(refused(t, 1));
	assert_true(refused(t, 3));
	assert_int_equal(store_twin_scrub(t, 0), 1);
	assert_true(refused(t, 3));
	assert_int_equal(info_of(t).damaged_blocks, 1);
}

// Makes the packed block one that cannot be unpacked.
static void stream_spoil(struct store_twin *t, const char *name, uint64_t index)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(t->temp.root, name, ENV_WRITE, &file), 0);
	uint64_t l2 = be64_at(file, be64_at(file, 40)) & UINT64_C(0x00fffffffffffe00), entry = be64_at(file, l2 + index * 16);
	assert_true(entry >> 62 & 1);
	assert_int_equal(env_pwrite(file, "no zstd stream begins so", 24, entry & ((UINT64_C(1) << 54) - 1)), 0);
	env_close(file);
}

static void block_that_cannot_be_unpacked_does_not_stop_a_merge(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	for (uint64_t b = 2; b < 5; b++) {
		store_twin_change(t, 0, b, MASK_FULL);
		assert_int_equal(store_twin_send(t, 0, b, MASK_FULL, CODEC_ZSTD, NULL), 0);
	}
	store_twin_seal(t);
	store_twin_change(t, 0, 3, 0x0002);
	assert_int_equal(store_twin_send(t, 0, 3, 0x0002, CODEC_NONE, NULL), 0);
	store_twin_seal(t);
	stream_spoil(t, "vm1/points/4/vda.qcow2", 3); // the fifth adds a piece
	stream_spoil(t, "vm1/points/4/vda.qcow2", 4); // nobody else has it
	assert_int_equal(replica_pin(t->replica, 3, "", NULL), 0);
	store_twin_keep(t, 1);
	retain_all(t); // 1 and 2 into the base, 4 into 5
	replica_info(t->replica, &info);
	assert_false(info.broken);
	assert_int_equal(info.point_count, 2);
	assert_false(refused(t, 3));
	assert_true(refused(t, 5));
	assert_int_equal(replica_damaged_blocks(t->replica, 5), 2);
	assert_int_equal(info_of(t).damaged_blocks, 2); // what only 4 showed is forgotten
	store_twin_reopen(t);
	assert_true(refused(t, 5)); // it was on disk before the merge was
	assert_int_equal(store_twin_scrub(t, 0), 2);
	assert_int_equal(replica_damaged_blocks(t->replica, 5), 2);
	store_twin_session(t);
	assert_true(differs(t, 0, 3) && differs(t, 0, 4) && !differs(t, 0, 2));
	for (uint64_t b = 3; b < 5; b++)
		assert_int_equal(store_twin_send(t, 0, b, MASK_FULL, CODEC_ZSTD, NULL), 0);
	store_twin_seal(t);
	assert_false(refused(t, 6));
	retain_all(t); // the damaged one into the one that was repaired
	assert_int_equal(info_of(t).damaged_blocks, 0);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_true(store_twin_check(t, false));
}

static void block_that_cannot_be_unpacked_does_not_stop_retention(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	struct replica_info info;
	store_flip_block(t, 1, 0, 0); // packed: no digest is needed to see it
	char name[320];
	struct env_file *file = NULL;
	(void)snprintf(name, sizeof(name), "vm1/points/1/vda.qcow2");
	assert_int_equal(env_open(t->temp.root, name, ENV_WRITE, &file), 0);
	uint64_t l2 = be64_at(file, be64_at(file, 40)) & UINT64_C(0x00fffffffffffe00);
	assert_int_equal(env_pwrite(file, "no zstd stream begins so", 24, be64_at(file, l2) & ((UINT64_C(1) << 54) - 1)), 0);
	env_close(file);
	store_twin_keep(t, 1);
	replica_session_end(t->replica);
	store_twin_session(t);
	int rc;
	while ((rc = replica_retain(t->replica, &err)) == 1)
		assert_true(replica_sound(t->replica, 1, NULL) == 0); // gone
	if (rc)
		fail_msg("%s", err.text);
	replica_info(t->replica, &info);
	assert_false(info.broken);
	assert_int_equal(info.point_count, 1);
	assert_int_equal(store_twin_scrub(t, 0), 0); // each later point holds the block whole
	assert_true(store_twin_check(t, false));
}

int main(void)
{
	log_init("test_scrub", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(pass_proves_every_version_of_every_block),
		TEST(pass_goes_on_through_commits_folds_and_growth),
		TEST(flipped_byte_is_found_in_exactly_the_points_that_show_it),
		TEST(every_flipped_byte_of_the_base_is_found),
		TEST(scrub_of_one_point_quarantines_all_that_show_the_block),
		TEST(quarantine_outlives_the_receiver),
		TEST(quarantine_holds_in_a_broken_replica_too),
		TEST(record_that_is_damaged_puts_every_point_in_doubt),
		TEST(record_that_is_damaged_or_gone_is_read_from_its_copy),
		TEST(older_record_that_was_put_back_lets_nothing_out_of_quarantine),
		TEST(older_copy_of_the_record_lets_nothing_out_of_quarantine),
		TEST(pass_of_an_older_record_ends_no_doubt),
		TEST(record_that_is_gone_is_missed_where_something_was_found),
		TEST(record_that_rots_at_run_time_is_saved_from_memory),
		TEST(pass_resumes_where_it_was_saved),
		TEST(block_before_the_position_was_read),
		TEST(scrub_and_retention_shut_each_other_out),
		TEST(pass_of_a_broken_replica_keeps_no_other_waiting),
		TEST(pass_that_fails_keeps_no_other_waiting),
		cmocka_unit_test(pass_is_due_after_its_interval_whatever_the_clock_does),
		TEST(damaged_block_differs_until_it_comes_whole),
		TEST(damaged_zeros_are_repaired_too),
		TEST(quarantine_ends_with_its_last_point),
		TEST(block_that_cannot_be_unpacked_does_not_stop_retention),
		TEST(quarantine_of_a_point_ends_when_it_is_merged),
		TEST(damage_that_a_merge_takes_along_stays_known),
		TEST(block_that_cannot_be_unpacked_does_not_stop_a_merge),
	};
	return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
