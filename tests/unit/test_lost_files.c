// SPDX-License-Identifier: Apache-2.0
// Files of a store that are lost as a whole (receiver/digests.c, tables.c, manifests.c): a list of digests, the base's table, both of a point.json. What is in doubt by
// that is in quarantine, sessions, folds, merges and passes go on around it, and the next sync makes the newest point sound.
#include "receiver/overlays.h"

#include "base/auto.h"
#include "base/log.h"
#include "receiver/chain.h"
#include "receiver/copies.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

enum { POINTS = 4 };

static struct store_twin *begin(void)
{
	struct store_twin *t = calloc(1, sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 31);
	store_twin_session(t);
	for (unsigned n = 1; n <= POINTS; n++) {
		for (uint64_t b = 0; b < 5; b++)
			if (n == 1 || b == 0 || b == n) {
				uint16_t mask = n > 1 && b == 0 ? (uint16_t)(1u << n) : MASK_FULL;
				store_twin_change(t, 0, b, mask);
				assert_int_equal(store_twin_send(t, 0, b, mask, CODEC_ZSTD, NULL), 0);
			}
		store_twin_change(t, 1, n, MASK_FULL);
		assert_int_equal(store_twin_send(t, 1, n, MASK_FULL, CODEC_ZSTD, NULL), 0);
		store_twin_seal(t);
	}
	replica_session_end(t->replica);
	store_twin_keep(t, POINTS - 1);
	assert_int_equal(replica_retain(t->replica, NULL), 1);
	bad_disk_begin(t->temp.root->env);
	return t;
}

static void end(struct store_twin *t)
{
	void *state = t;
	assert_int_equal(store_twin_bad_disk_end(&state), 0);
}

static char *in_store(const char *rest)
{
	static char name[96];
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	return name;
}

static void not_broken(struct store_twin *t)
{
	struct replica_info info;
	replica_info(t->replica, &info);
	if (info.broken)
		fail_msg("%s", info.broken_reason);
}

static void is_sound(struct store_twin *t, uint64_t point)
{
	struct err err = {0};
	if (replica_sound(t->replica, point, &err))
		fail_msg("%s", err.text);
}

// --- how it is lost ---

typedef void loss(struct store_twin *t, const char *rest);

static void gone(struct store_twin *t, const char *rest)
{
	assert_int_equal(env_unlink(t->temp.root, in_store(rest)), 0);
}

static void cut_off(struct store_twin *t, const char *rest)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(t->temp.root, in_store(rest), ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, DIGEST_SECTOR), 0);
	env_close(file);
}

static void a_directory(struct store_twin *t, const char *rest)
{
	gone(t, rest);
	assert_int_equal(env_mkdir(t->temp.root, in_store(rest)), 0);
}

static void put_in_place(struct store_twin *t, const char *rest, const char *other)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char path[96];
	(void)snprintf(path, sizeof(path), "vm1/%s", other);
	assert_int_equal(env_read_file(t->temp.root, path, 1 << 16, &text, &len), 0);
	(void)snprintf(path, sizeof(path), "%s", in_store(rest));
	*strrchr(path, '/') = 0;
	assert_int_equal(env_replace(t->temp.root, path, in_store(rest), text, len), 0);
}

// As long as its own, of as many blocks, and each of its sectors checks: only the root tells.
static void of_another_point(struct store_twin *t, const char *rest)
{
	char other[64];
	(void)snprintf(other, sizeof(other), "%s", rest);
	other[7] = rest[7] == '3' ? '4' : '3';
	put_in_place(t, rest, other);
}

// As long as its own, and its prelude says that it is not.
static void of_another_disk(struct store_twin *t, const char *rest)
{
	char other[64];
	(void)snprintf(other, sizeof(other), "%s", rest);
	other[11] = rest[11] == 'a' ? 'b' : 'a';
	put_in_place(t, rest, other);
}

static loss *const losses[] = {gone, cut_off, a_directory}, *const list_losses[] = {gone, cut_off, a_directory, of_another_point, of_another_disk};

// Both, as rot has it, or a store of before there were copies.
static void rotten(struct store_twin *t, const char *rest)
{
	char copy[64];
	(void)snprintf(copy, sizeof(copy), "%s" COPY_SUFFIX, rest);
	store_flip_at(t, rest, 60);
	store_flip_at(t, copy, 80);
}

static void rotten_alone(struct store_twin *t, const char *rest)
{
	char copy[64];
	(void)snprintf(copy, sizeof(copy), "%s" COPY_SUFFIX, rest);
	store_flip_at(t, rest, 60);
	gone(t, copy);
}

// --- who meets it first ---

typedef void meet(struct store_twin *t);

static void by_a_start(struct store_twin *t)
{
	store_twin_reopen(t);
}

static void by_a_session(struct store_twin *t)
{
	store_twin_session(t);
	replica_session_end(t->replica);
}

// Both disks are larger than the receiver knows them.
static void by_a_growth(struct store_twin *t)
{
	for (unsigned d = 0; d < 2; d++)
		store_twin_grow(t, d, t->open.disk[d].size + 9 * BLOCK_SIZE);
	by_a_session(t);
}

static int retain_one(struct store_twin *t)
{
	struct err err = {0};
	int rc = replica_retain(t->replica, &err);
	if (rc == -EAGAIN) // it was made good
		rc = replica_retain(t->replica, &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	return rc;
}

static void by_a_fold(struct store_twin *t)
{
	store_twin_keep(t, 2);
	assert_int_equal(retain_one(t), 1);
}

static void by_a_merge(struct store_twin *t)
{
	assert_int_equal(replica_pin(t->replica, 2, "", NULL), 0);
	store_twin_keep(t, 1);
	assert_int_equal(retain_one(t), 1);
	assert_int_equal(replica_unpin(t->replica, 2, NULL), 0);
}

static void by_a_pass(struct store_twin *t)
{
	(void)store_twin_scrub(t, 0);
}

static meet *const meets[] = {by_a_start, by_a_session, by_a_fold, by_a_merge, by_a_pass, by_a_growth};
enum { MEETS = sizeof(meets) / sizeof(meets[0]) };

// --- what follows ---

// No point whose digests nobody knows passes for sound once a session has begun.
static void all_noted(struct store_twin *t)
{
	AUTO_FREE struct damage_set *unknown = calloc(1, sizeof(*unknown));
	struct newest newest;
	assert_non_null(unknown);
	LOCK_SCOPE(&t->replica->lock);
	assert_int_equal(newest_of(t->replica, &newest, NULL), 0);
	assert_int_equal(digests_of_newest(t->replica, &newest, NULL, unknown, NULL, NULL), 0);
	newest_done(&newest);
	assert_true(unknown->count > 0);
	for (unsigned i = 0; i < unknown->count; i++)
		assert_true(damage_covers(&t->replica->scrub.damage, &unknown->run[i]));
}

// The source sends whole what the newest point shows damaged; then all goes on to its end, and all of that is proven.
static void goes_on(struct store_twin *t)
{
	store_twin_session(t);
	(void)store_twin_send_damaged(t);
	store_twin_seal(t);
	replica_session_end(t->replica);
	is_sound(t, POINTS + 1);
	(void)store_twin_scrub(t, 0);
	is_sound(t, POINTS + 1);
	store_twin_reopen(t);
	not_broken(t);
	is_sound(t, POINTS + 1);
	store_twin_keep(t, 1);
	while (retain_one(t) == 1)
		;
	not_broken(t);
	assert_int_equal(t->replica->point_count, 1);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	is_sound(t, 0);
	assert_true(store_twin_check(t, false));
}

static void list_that_is_lost_costs_its_digests(void **state)
{
	static const char *const lists[] = {"points/2/vda.digests", "points/3/vdb.digests", "points/4/vda.digests"};
	(void)state;
	for (size_t l = 0; l < 3; l++)
		for (size_t i = 0; i < sizeof(list_losses) / sizeof(list_losses[0]); i++)
			for (size_t m = 0; m < MEETS; m++) {
				struct store_twin *t = begin();
				list_losses[i](t, lists[l]);
				meets[m](t);
				not_broken(t);
				by_a_session(t);
				all_noted(t);
				goes_on(t);
				end(t);
			}
}

static void table_that_is_lost_costs_its_digests(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++)
		for (size_t m = 0; m < MEETS; m++) {
			struct store_twin *t = begin();
			losses[i](t, i == 1 ? "base/vdb.digests" : "base/vda.digests");
			meets[m](t);
			not_broken(t);
			by_a_session(t);
			all_noted(t);
			goes_on(t);
			end(t);
		}
}

// The base is as large as the disk is now, and older points are of what it was: past the end of the oldest there was nothing in the table to be lost.
static void table_of_a_disk_that_grew_is_not_said_to_have_had_more(void **state)
{
	(void)state;
	for (size_t m = 0; m < MEETS; m++) {
		struct store_twin *t = begin();
		struct err err = {0};
		store_twin_grow(t, 1, t->open.disk[1].size + 40 * BLOCK_SIZE + 512);
		store_twin_session(t);
		store_twin_change(t, 1, 45, MASK_FULL);
		assert_int_equal(store_twin_send(t, 1, 45, MASK_FULL, CODEC_ZSTD, NULL), 0);
		store_twin_seal(t);
		replica_session_end(t->replica);
		gone(t, "base/vdb.digests");
		meets[m](t);
		not_broken(t);
		by_a_session(t);
		for (size_t p = 0; p < t->replica->point_count; p++) {
			struct chain *chain = NULL;
			if (chain_open(t->replica, t->replica->points[p].number, 1, &chain, &err))
				fail_msg("%s", err.text);
			chain_close(chain);
		}
		end(t);
	}
}

static int session_once(struct store_twin *t, struct err *err)
{
	struct wire_opened opened;
	int rc = replica_session_begin(t->replica, &t->open, t->pin, &opened, err);
	if (rc == 0)
		replica_session_end(t->replica);
	return rc;
}

// What the disk does not give back, or has no space for, is looked at again, as when no disk grows; and nothing has changed by then.
static void growth_that_cannot_make_it_good_for_now_changes_nothing(void **state)
{
	static const struct {
		const char *refused;
		int code;
		bool lost;
	} cases[] = {{"vdb.digests.new", -ENOSPC, true}, {"scrub.json.new", -ENOSPC, true}, {"base/vdb.digests", -EIO, false}, {"base/vdb.digests", -EMFILE, false}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct store_twin *t = begin();
		struct env_stat before, after;
		struct err err = {0};
		if (cases[i].lost)
			gone(t, "base/vdb.digests");
		assert_int_equal(env_stat(t->temp.root, in_store("base/vdb.raw"), &before), 0);
		store_twin_grow(t, 1, t->open.disk[1].size + 40 * BLOCK_SIZE + 512);
		bad_disk_refuse(cases[i].refused, 0, cases[i].code);
		assert_true(session_once(t, &err) < 0);
		assert_int_equal(t->replica->broken && t->replica->passing, !cases[i].lost); // want of space is the source's to try again
		assert_int_equal(t->replica->broken, !cases[i].lost);
		assert_int_equal(env_stat(t->temp.root, in_store("base/vdb.raw"), &after), 0);
		assert_int_equal(before.size, after.size);
		bad_disk_heal();
		t->replica->mend_ns = 0;
		(void)replica_mend(t->replica);
		by_a_session(t);
		not_broken(t);
		assert_int_equal(t->replica->prot.disk[1].size, t->open.disk[1].size);
		if (cases[i].lost)
			goes_on(t);
		end(t);
	}
}

static const struct env_ops *below;
static unsigned syncs_left;

static int sync_until(struct env_file *file)
{
	return syncs_left && --syncs_left == 0 ? -EIO : below->sync(file);
}

// Of the base, of the table's length and of its first sector: nobody knows what the disk holds then, and this process finds it out no more.
static void growth_whose_sync_failed_is_not_looked_at_again(void **state)
{
	(void)state;
	for (unsigned nth = 1; nth <= 3; nth++) {
		struct store_twin *t = begin();
		struct env *env = t->temp.root->env;
		struct err err = {0};
		below = env->ops;
		struct env_ops ops = *below;
		ops.sync = sync_until;
		store_twin_grow(t, 1, t->open.disk[1].size + 40 * BLOCK_SIZE);
		env->ops = &ops;
		syncs_left = nth;
		assert_true(session_once(t, &err) < 0);
		env->ops = below;
		assert_int_equal(syncs_left, 0);
		assert_true(t->replica->broken && !t->replica->passing);
		end(t);
	}
}

// What is lost is what says whether the list is right. All else the files say, and a pass proves it.
static void point_of_which_nobody_knows_what_it_is_is_told_by_its_files(void **state)
{
	static loss *const ways[] = {rotten, rotten_alone};
	(void)state;
	for (uint64_t n = 2; n <= POINTS; n++)
		for (size_t m = 0; m < MEETS; m++)
			for (size_t i = 0; i < 2; i++) {
				struct store_twin *t = begin();
				struct env_stat st;
				char name[64];
				(void)snprintf(name, sizeof(name), "points/%llu/point.json", (unsigned long long)n);
				struct uuid cut = replica_point(t->replica, n)->cut;
				ways[i](t, name);
				meets[m](t);
				not_broken(t);
				if (m == 0) {
					(void)snprintf(name, sizeof(name), "points/%llu/point.json.damaged", (unsigned long long)n);
					assert_int_equal(env_stat(t->temp.root, in_store(name), &st), 0);
					for (uint64_t p = 2; p <= POINTS; p++)
						assert_int_equal(replica_sound(t->replica, p, NULL), p >= n ? -EUCLEAN : 0);
					assert_false(uuid_equal(&cut, &replica_point(t->replica, n)->cut)); // no source is to believe that it knows it
					store_twin_reopen(t);
					not_broken(t);
					assert_int_equal(replica_sound(t->replica, POINTS, NULL), -EUCLEAN);
				}
				assert_int_equal(store_twin_scrub(t, 0), 0); // nothing was lost
				assert_int_equal(replica_sound(t->replica, 0, NULL), 0);
				assert_true(store_twin_check(t, false));
				goes_on(t);
				end(t);
			}
}

static void files_dated(struct store_twin *t, uint64_t point, int64_t wall_ns)
{
	static const char *const names[] = {"vda.qcow2", "vda.digests", "vdb.qcow2", "vdb.digests"};
	const struct timespec at = {.tv_sec = wall_ns / 1000000000, .tv_nsec = wall_ns % 1000000000}, late = {.tv_sec = at.tv_sec + 900};
	for (size_t i = 0; i < 4; i++) {
		char rest[64], path[PATH_MAX];
		(void)snprintf(rest, sizeof(rest), "points/%llu/%s", (unsigned long long)point, names[i]);
		store_twin_path(t, path, sizeof(path), rest);
		const struct timespec times[2] = {late, i == 3 ? at : late}; // a fold writes to overlays
		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	}
}

// Nothing below says when it was: its files do, so that no tier takes it for one of 1970. It is not newer than the point above.
static void oldest_point_is_as_old_as_its_files(void **state)
{
	(void)state;
	for (unsigned late = 0; late < 2; late++) {
		struct store_twin *t = begin();
		int64_t above_ns = replica_point(t->replica, 3)->cut_wall_ns, was_ns = above_ns - 7200 * INT64_C(1000000000) + 5;
		files_dated(t, 2, late ? above_ns + 1 : was_ns);
		rotten(t, "points/2/point.json");
		store_twin_reopen(t);
		not_broken(t);
		assert_int_equal(replica_point(t->replica, 2)->cut_wall_ns, late ? above_ns : was_ns);
		assert_int_equal(replica_point(t->replica, 2)->commit_wall_ns, late ? above_ns : was_ns);
		end(t);
	}
}

// A list or an overlay that is damaged as well: nothing is guessed.
static void point_whose_files_disagree_stays_broken(void **state)
{
	static const char *const also[] = {"points/3/vda.digests", "points/3/vdb.qcow2"};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct store_twin *t = begin();
		struct replica_info info;
		rotten(t, "points/3/point.json");
		store_flip_at(t, also[i], i == 0 ? DIGEST_SECTOR + 30 : 2);
		store_twin_reopen(t);
		replica_info(t->replica, &info);
		assert_true(info.broken && info.point_count == 1);
		assert_non_null(strstr(info.broken_reason, "points/3/point.json"));
		end(t);
	}
}

// Whatever of it has come to pass when it ends for want of space, the next look goes on to the same end.
static void want_of_space_on_the_way_passes(void **state)
{
	static const struct {
		const char *lost, *full;
	} cases[] = {{"base/vda.digests", "scrub.json.new"}, {"base/vda.digests", "vda.digests.new"}, {"points/3/point.json", "point.json.new"}, {"points/3/point.json", "scrub.json.new"}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct store_twin *t = begin();
		struct replica_info info;
		if (i < 2)
			gone(t, cases[i].lost);
		else
			rotten(t, cases[i].lost);
		bad_disk_refuse(cases[i].full, 0, -ENOSPC);
		store_twin_reopen(t);
		replica_info(t->replica, &info);
		assert_true(info.broken && info.mend_in_ms > 0);
		assert_non_null(strstr(info.broken_reason, strerror(ENOSPC)));
		bad_disk_heal();
		t->replica->mend_ns = 0;
		assert_int_equal(replica_mend(t->replica), 1);
		assert_int_equal(replica_sound(t->replica, POINTS, NULL), -EUCLEAN);
		goes_on(t);
		end(t);
	}
}

// Whoever meets it while the receiver runs breaks nothing for good.
static void want_of_space_while_it_runs_passes(void **state)
{
	static const char *const full[] = {"vda.digests.new", "scrub.json.new"};
	(void)state;
	for (size_t m = 0; m < 3; m++)
		for (size_t i = 0; i < 2; i++) {
			struct store_twin *t = begin();
			struct scrub_step step;
			struct err err = {0};
			store_twin_keep(t, m == 1 ? 2 : POINTS);
			if (m == 2)
				assert_int_equal(scrub_begin(t->replica, 0, 0, NULL), 0);
			cut_off(t, "base/vda.digests");
			bad_disk_refuse(full[i], 0, -ENOSPC);
			int rc = m == 0 ? session_once(t, &err) : m == 1 ? replica_retain(t->replica, &err) : scrub_slice(t->replica, &step, &err);
			assert_true(rc < 0);
			assert_true(!t->replica->broken || t->replica->passing);
			bad_disk_heal();
			t->replica->mend_ns = 0;
			(void)replica_mend(t->replica);
			not_broken(t);
			by_a_session(t);
			all_noted(t);
			goes_on(t);
			end(t);
		}
}

// An overlay that nothing is put in the place of, for a test stands on it, keeps no table from being made good.
static void table_behind_an_overlay_that_is_in_use_is_made_good(void **state)
{
	(void)state;
	struct store_twin *t = begin();
	uint64_t held = 0;
	assert_int_equal(replica_hold(t->replica, 3, &held, NULL), 0);
	gone(t, "points/3/vdb.qcow2");
	gone(t, "base/vda.digests");
	by_a_session(t);
	not_broken(t);
	all_noted(t);
	struct env_stat st;
	assert_int_equal(env_stat(t->temp.root, in_store("base/vda.digests"), &st), 0);
	assert_int_equal(env_stat(t->temp.root, in_store("points/3/vdb.qcow2"), &st), -ENOENT);
	replica_release(t->replica, held);
	by_a_start(t);
	goes_on(t);
	end(t);
}

// EIO may pass: it is given up after three tries, and then no more than what it was of.
static void disk_that_never_gives_it_back_stalls_nothing_for_ever(void **state)
{
	static const char *const files[] = {"vm1/points/3/vda.digests", "vm1/base/vda.digests"};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct store_twin *t = begin();
		struct err err = {0};
		int rc = 0;
		store_twin_keep(t, 1);
		bad_disk_refuse(files[i], 0, -EIO);
		while ((rc = replica_retain(t->replica, &err)) == 1) // those that it is no part of
			;
		for (unsigned tries = 1; tries < STALL_TRIES; tries++, rc = replica_retain(t->replica, &err))
			assert_int_equal(rc, -EIO);
		assert_int_equal(rc, -EIO);
		for (unsigned tries = 0; tries < 2 * POINTS && t->replica->point_count > 1; tries++) {
			rc = replica_retain(t->replica, &err);
			if (rc == -EAGAIN) // another one has its name now
				bad_disk_heal();
			assert_true(rc == 1 || rc == -EAGAIN || rc == -EIO);
		}
		bad_disk_heal();
		assert_int_equal(t->replica->point_count, 1);
		not_broken(t);
		assert_int_equal(replica_sound(t->replica, 0, NULL), -EUCLEAN);
		goes_on(t);
		end(t);
	}
}

// --- what is left ---

static uint64_t used_bytes(struct store_twin *t)
{
	struct replica_info info;
	replica_info(t->replica, &info);
	return info.used_bytes;
}

// It takes space until all was proven without it, and is counted for as long.
static void damaged_table_is_kept_until_all_is_proven_without_it(void **state)
{
	(void)state;
	struct store_twin *t = begin();
	struct env_stat st;
	uint64_t before = used_bytes(t);
	cut_off(t, "base/vda.digests");
	by_a_session(t);
	for (unsigned again = 0; again < 3; again++) {
		assert_int_equal(env_stat(t->temp.root, in_store("base/vda.digests.damaged"), &st), 0);
		assert_true(st.allocated > 0);
		assert_int_equal(used_bytes(t), before + st.allocated);
		if (again == 0)
			store_twin_reopen(t);
		else
			assert_true(store_twin_scrub(t, 0) > 0);
	}
	goes_on(t);
	assert_int_equal(env_stat(t->temp.root, in_store("base/vda.digests.damaged"), &st), -ENOENT);
	uint64_t used = used_bytes(t);
	store_twin_reopen(t);
	assert_int_equal(used_bytes(t), used);
	end(t);
}

static void half_of_a_replacement_goes_at_the_next_start(void **state)
{
	static const char *const halves[] = {"base/vda.digests.new", "points/2/vdb.qcow2.new", "points/3/point.json.new", "points/4/point.json.copy.new"};
	(void)state;
	struct store_twin *t = begin();
	for (size_t i = 0; i < 4; i++) {
		struct env_file *file = NULL;
		assert_int_equal(env_open(t->temp.root, in_store(halves[i]), ENV_CREATE, &file), 0);
		env_close(file);
	}
	store_twin_reopen(t);
	not_broken(t);
	for (size_t i = 0; i < 4; i++) {
		struct env_stat st;
		assert_int_equal(env_stat(t->temp.root, in_store(halves[i]), &st), -ENOENT);
	}
	assert_true(store_twin_check(t, false));
	end(t);
}

// --- the base ---

static int base_met_by_a_commit(struct store_twin *t, loss *lose, const char *file, struct err *err)
{
	struct wire_committed committed;
	store_twin_session(t);
	store_twin_change(t, 0, 2, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_ZSTD, NULL), 0);
	struct wire_seal seal = store_twin_cut(t);
	lose(t, file);
	int rc = replica_seal(t->replica, &seal, &committed, err);
	replica_session_end(t->replica);
	return rc;
}

static int base_met_by_a_session(struct store_twin *t, loss *lose, const char *file, struct err *err)
{
	lose(t, file);
	return session_once(t, err);
}

static int base_met_by_a_pass(struct store_twin *t, loss *lose, const char *file, struct err *err)
{
	struct scrub_step step;
	assert_int_equal(scrub_begin(t->replica, 0, 0, NULL), 0);
	lose(t, file);
	return scrub_slice(t->replica, &step, err);
}

// Every point stands on it: no other one is committed, whoever looks next says so, and the next start says the same.
static void base_that_is_gone_breaks_the_replica_at_once(void **state)
{
	static int (*const ways[])(struct store_twin *, loss *, const char *, struct err *) = {base_met_by_a_commit, base_met_by_a_session, base_met_by_a_pass};
	static const char *const files[] = {"base/vda.raw", "base/vdb.raw"};
	(void)state;
	for (size_t w = 0; w < 3; w++)
		for (size_t i = 0; i < 3; i++)
			for (size_t f = 0; f < 2; f++) {
				struct store_twin *t = begin();
				struct replica_info info;
				struct env_stat st;
				struct err err = {0};
				assert_int_equal(ways[w](t, losses[i], files[f], &err), -EIO);
				for (unsigned again = 0; again < 2; again++, store_twin_reopen(t)) {
					replica_info(t->replica, &info);
					assert_true(info.broken && info.mend_in_ms == 0);
					assert_non_null(strstr(info.broken_reason, files[f]));
					assert_int_equal(env_stat(t->temp.root, in_store("points/5"), &st), -ENOENT);
				}
				end(t);
			}
}

// One that only cannot be seen is looked at again, and the point is committed then.
static void base_that_cannot_be_seen_is_looked_at_again(void **state)
{
	(void)state;
	struct store_twin *t = begin();
	struct err err = {0};
	bad_disk_hide("vm1/base/vdb.raw", -EIO);
	assert_int_equal(session_once(t, &err), -EIO);
	assert_true(t->replica->broken && t->replica->passing);
	bad_disk_heal();
	t->replica->mend_ns = 0;
	assert_int_equal(replica_mend(t->replica), 1);
	store_twin_session(t);
	store_twin_seal(t);
	replica_session_end(t->replica);
	end(t);
}

int main(void)
{
	log_init("test_lost_files", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_that_is_lost_costs_its_digests),
		cmocka_unit_test(table_that_is_lost_costs_its_digests),
		cmocka_unit_test(table_of_a_disk_that_grew_is_not_said_to_have_had_more),
		cmocka_unit_test(growth_that_cannot_make_it_good_for_now_changes_nothing),
		cmocka_unit_test(growth_whose_sync_failed_is_not_looked_at_again),
		cmocka_unit_test(point_of_which_nobody_knows_what_it_is_is_told_by_its_files),
		cmocka_unit_test(oldest_point_is_as_old_as_its_files),
		cmocka_unit_test(point_whose_files_disagree_stays_broken),
		cmocka_unit_test(want_of_space_on_the_way_passes),
		cmocka_unit_test(want_of_space_while_it_runs_passes),
		cmocka_unit_test(table_behind_an_overlay_that_is_in_use_is_made_good),
		cmocka_unit_test(damaged_table_is_kept_until_all_is_proven_without_it),
		cmocka_unit_test(half_of_a_replacement_goes_at_the_next_start),
		cmocka_unit_test(base_that_is_gone_breaks_the_replica_at_once),
		cmocka_unit_test(base_that_cannot_be_seen_is_looked_at_again),
		cmocka_unit_test(disk_that_never_gives_it_back_stalls_nothing_for_ever),
	};
	return cmocka_run_group_tests_name("lost_files", tests, NULL, NULL);
}
