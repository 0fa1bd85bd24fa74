// SPDX-License-Identifier: Apache-2.0
// Overlays that cannot be opened (receiver/overlays.c): a header is written anew without loss, whichever bits of it turned; one that is cut off, gone, or never
// given back by the disk is replaced by an empty one, with what it held in quarantine, which the next sync makes good; and nothing is put under who stands on it.
#include "receiver/overlays.h"

#include "base/auto.h"
#include "base/log.h"
#include "receiver/chain.h"
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

#include <cmocka.h>

enum { POINTS = 4, HEADER = 512, HEADER_USED = 176 };
#define SECOND_NS UINT64_C(1000000000)

// Of point n: block 0 whole, 1 in pieces, n whole; point 2 in zlib. The first is folded, so that 2 stands on the base.
static void point_add(struct store_twin *t, unsigned n)
{
	const enum codec codec = n == 2 ? CODEC_ZLIB : CODEC_ZSTD;
	const uint64_t blocks[] = {0, 1, n % 5};
	for (size_t i = 0; i < 3; i++) {
		uint16_t mask = i == 1 && n > 1 ? (uint16_t)(1u << n) : MASK_FULL;
		store_twin_change(t, 0, blocks[i], mask);
		assert_int_equal(store_twin_send(t, 0, blocks[i], mask, codec, NULL), 0);
	}
	store_twin_seal(t);
}

static void begin(struct store_twin *t, bool folded)
{
	store_twin_begin(t, 77);
	for (unsigned n = 1; n <= POINTS; n++) {
		t->open.codec = n == 2 ? CODEC_ZLIB : CODEC_ZSTD;
		store_twin_session(t);
		point_add(t, n);
		replica_session_end(t->replica);
	}
	store_twin_keep(t, POINTS - 1);
	if (folded)
		assert_int_equal(replica_retain(t->replica, NULL), 1);
}

static int setup(void **state)
{
	struct store_twin *t = calloc(1, sizeof(*t));
	assert_non_null(t);
	begin(t, true);
	bad_disk_begin(t->temp.root->env);
	*state = t;
	return 0;
}

static void overlay_name(char name[64], uint64_t point)
{
	(void)snprintf(name, 64, "points/%llu/vda.qcow2", (unsigned long long)point);
}

static char *in_store(const char *rest)
{
	static char name[96];
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	return name;
}

static void header_get(struct store_twin *t, const char *rest, unsigned char header[HEADER])
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(t->temp.root, in_store(rest), ENV_READ, &file), 0);
	assert_int_equal(env_pread_full(file, header, HEADER, 0), 0);
	env_close(file);
}

static void header_put(struct store_twin *t, const char *rest, const unsigned char *header, size_t len)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(t->temp.root, in_store(rest), ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, header, len, 0), 0);
	env_close(file);
}

static void not_broken(struct store_twin *t)
{
	struct replica_info info;
	replica_info(t->replica, &info);
	if (info.broken)
		fail_msg("%s", info.broken_reason);
}

static void all_sound(struct store_twin *t)
{
	not_broken(t);
	for (uint64_t n = 2; n <= POINTS; n++)
		assert_int_equal(replica_sound(t->replica, n, NULL), 0);
	assert_true(store_twin_check(t, false));
}

// --- headers ---

// Each point, whatever it stands on and however it is packed: what is there afterwards is what was, bit by bit.
static void header_is_written_anew_whatever_of_it_turned(void **state)
{
	struct store_twin *t = *state;
	for (uint64_t n = 2; n <= POINTS; n++)
		for (unsigned at = (unsigned)n - 2; at < HEADER_USED; at += POINTS - 1) { // of each byte some bit, in one of the points
			unsigned char was[HEADER], bad[HEADER], is[HEADER];
			char name[64];
			overlay_name(name, n);
			header_get(t, name, was);
			memcpy(bad, was, HEADER);
			bad[at] ^= (unsigned char)(1 << (at + n) % 8);
			header_put(t, name, bad, HEADER);
			store_twin_reopen(t);
			not_broken(t);
			header_get(t, name, is);
			if (memcmp(is, was, HEADER) == 0)
				continue;
			assert_memory_equal(is, bad, HEADER); // it opens as it is: either it says the same, or a pass finds what it shows
			if (store_twin_scrub(t, 0) == 0)
				assert_true(store_twin_check(t, false));
			header_put(t, name, was, HEADER);
			assert_int_equal(store_twin_scrub(t, 0), 0);
		}
	all_sound(t);
	(void)store_twin_check(t, true); // where there is a qemu-img
}

static void header_of_zeros_costs_nothing(void **state)
{
	struct store_twin *t = *state;
	static const unsigned char zeros[HEADER];
	unsigned char was[HEADER], is[HEADER];
	char name[64];
	for (uint64_t n = 2; n <= POINTS; n++) {
		overlay_name(name, n);
		header_get(t, name, was);
		header_put(t, name, zeros, HEADER);
		store_twin_reopen(t);
		all_sound(t);
		header_get(t, name, is);
		assert_memory_equal(is, was, HEADER);
	}
	assert_int_equal(store_twin_scrub(t, 0), 0);
}

// The receiver runs: who meets it first makes it good.
static void by_a_pass(struct store_twin *t)
{
	assert_int_equal(store_twin_scrub(t, 0), 0);
}

static int retain(struct store_twin *t)
{
	struct err err = {0};
	int rc = replica_retain(t->replica, &err);
	if (rc < 0 && rc != -EAGAIN)
		fail_msg("%s", err.text);
	return rc;
}

static void by_a_fold(struct store_twin *t)
{
	store_twin_keep(t, 2);
	assert_int_equal(retain(t), -EAGAIN);
	assert_int_equal(retain(t), 1);
}

static void by_a_merge(struct store_twin *t)
{
	assert_int_equal(replica_pin(t->replica, 2, "", NULL), 0);
	store_twin_keep(t, 1);
	assert_int_equal(retain(t), -EAGAIN);
	assert_int_equal(retain(t), 1);
}

static void receiver_that_runs_makes_it_good(void **state)
{
	static const struct {
		uint64_t point;
		void (*meet)(struct store_twin *t);
	} cases[] = {{2, by_a_pass}, {3, by_a_pass}, {4, by_a_pass}, {2, by_a_fold}, {3, by_a_merge}, {4, by_a_merge}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct store_twin *t = calloc(1, sizeof(*t));
		char name[64];
		assert_non_null(t);
		begin(t, true);
		overlay_name(name, cases[i].point);
		store_flip_at(t, name, 3);
		cases[i].meet(t);
		not_broken(t);
		assert_int_equal(store_twin_scrub(t, 0), 0);
		assert_true(store_twin_check(t, false));
		store_twin_end(t);
		free(t);
	}
}

// While a reader holds it too, as nothing of it changes.
static void header_is_written_under_who_stands_on_it(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	assert_int_equal(replica_fence(t->replica, 4, &err), 0);
	store_flip_at(t, "points/3/vda.qcow2", 0);
	store_twin_reopen(t);
	all_sound(t);
}

// --- what cannot be made good ---

static void cut_off(struct store_twin *t, const char *rest, uint64_t size)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(t->temp.root, in_store(rest), ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, size), 0);
	env_close(file);
}

static bool file_there(struct store_twin *t, const char *rest)
{
	struct env_stat st;
	return env_stat(t->temp.root, in_store(rest), &st) == 0;
}

// From the damaged point on all are refused, and those below it are as they were.
static void refused_from(struct store_twin *t, uint64_t point)
{
	not_broken(t);
	for (uint64_t n = 2; n <= POINTS; n++)
		assert_int_equal(replica_sound(t->replica, n, NULL), n >= point ? -EUCLEAN : 0);
	for (uint64_t n = 2; n < point; n++) {
		AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
		struct chain *chain = NULL;
		assert_int_equal(chain_open(t->replica, n, 0, &chain, NULL), 0);
		for (uint64_t b = 0; b < size_blocks(t->point_size[n][0]); b++) {
			assert_int_equal(chain_get(chain, b, block, NULL), 0);
			assert_memory_equal(block, t->point[n][0] + b * BLOCK_SIZE, BLOCK_SIZE);
		}
		chain_close(chain);
	}
}

// What the session tells its source comes whole; then the newest point is sound, and all goes on to its end.
static void next_sync_makes_it_good(struct store_twin *t, uint64_t point)
{
	struct err err = {0};
	int rc;
	store_twin_session(t);
	assert_true(store_twin_send_damaged(t) > 0);
	store_twin_seal(t);
	replica_session_end(t->replica);
	assert_int_equal(replica_sound(t->replica, POINTS + 1, NULL), 0);
	(void)store_twin_scrub(t, 0);
	refused_from(t, point);
	assert_int_equal(replica_sound(t->replica, POINTS + 1, NULL), 0);
	store_twin_reopen(t);
	refused_from(t, point);
	store_twin_keep(t, 1);
	while ((rc = replica_retain(t->replica, &err)) == 1)
		;
	if (rc)
		fail_msg("%s", err.text);
	assert_int_equal(t->replica->point_count, 1);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_int_equal(replica_sound(t->replica, 0, NULL), 0);
	assert_true(store_twin_check(t, false));
}

typedef void spoil(struct store_twin *t, const char *name);

static void spoil_end(struct store_twin *t, const char *name)
{
	cut_off(t, name, 65536);
}

static void spoil_all(struct store_twin *t, const char *name)
{
	cut_off(t, name, 0);
}

static void spoil_name(struct store_twin *t, const char *name)
{
	assert_int_equal(env_unlink(t->temp.root, in_store(name)), 0);
}

static void spoil_header_and_list(struct store_twin *t, const char *name)
{
	char list[64];
	(void)snprintf(list, sizeof(list), "%.*s.digests", (int)strlen(name) - 6, name);
	store_flip_at(t, name, 2);
	store_flip_at(t, list, DIGEST_SECTOR + 30);
}

// What is kept of it is part of what the protection takes.
static void used_counts(struct store_twin *t, uint64_t point)
{
	struct env_stat st = {.size = 0};
	struct replica_info info;
	char aside[80];
	(void)snprintf(aside, sizeof(aside), "points/%llu/vda.qcow2.damaged", (unsigned long long)point);
	(void)env_stat(t->temp.root, in_store(aside), &st);
	replica_info(t->replica, &info);
	uint64_t sum = t->replica->base_bytes + st.size;
	for (size_t i = 0; i < t->replica->point_count; i++)
		sum += t->replica->points[i].stored_bytes;
	assert_int_equal(info.used_bytes, sum);
}

static void what_cannot_be_made_good_is_in_quarantine_and_the_rest_goes_on(void **state)
{
	static spoil *const spoils[] = {spoil_end, spoil_all, spoil_name, spoil_header_and_list};
	(void)state;
	for (size_t i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++)
		for (uint64_t n = 2; n <= POINTS; n++) {
			struct store_twin *t = calloc(1, sizeof(*t));
			char name[64], aside[80];
			assert_non_null(t);
			begin(t, true);
			overlay_name(name, n);
			(void)snprintf(aside, sizeof(aside), "%s.damaged", name);
			spoils[i](t, name);
			store_twin_reopen(t);
			refused_from(t, n);
			assert_int_equal(file_there(t, aside), spoils[i] != spoil_name);
			used_counts(t, n);
			store_twin_reopen(t); // as it is durable
			used_counts(t, n);
			refused_from(t, n);
			next_sync_makes_it_good(t, n);
			store_twin_end(t);
			free(t);
		}
}

static void disk_that_never_gives_it_back_is_given_up(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	bad_disk_set("vm1/points/3/vda.qcow2", 0, BAD_DISK_WHOLE, -EIO);
	store_twin_reopen(t);
	for (unsigned i = 1; i < STALL_TRIES; i++) {
		replica_info(t->replica, &info);
		assert_true(info.broken && info.mend_in_ms > 0);
		t->replica->mend_ns = 0;
		assert_int_equal(replica_mend(t->replica), 0);
		assert_false(file_there(t, "points/3/vda.qcow2.damaged"));
	}
	t->replica->mend_ns = 0;
	assert_int_equal(replica_mend(t->replica), 0); // what took its place has its name here, and so cannot be read
	assert_true(file_there(t, "points/3/vda.qcow2.damaged"));
	bad_disk_heal();
	t->replica->mend_ns = 0;
	assert_int_equal(replica_mend(t->replica), 1);
	refused_from(t, 3);
	next_sync_makes_it_good(t, 3);
}

// A test, a failover or a reader would get something else from then on: it stays as it is, and whoever asks is told what to do.
static void nothing_is_put_under_who_stands_on_it(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	assert_int_equal(env_mkdir(t->temp.root, "vm1/tests"), 0);
	assert_int_equal(env_mkdir(t->temp.root, "vm1/tests/nightly"), 0);
	cut_off(t, "points/3/vda.qcow2", 65536);
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(info.broken && info.point_count == 1);
	assert_non_null(strstr(info.broken_reason, "a failover, a test or a reader stands on it"));
	assert_non_null(strstr(info.broken_reason, "points/3/vda.qcow2"));
	assert_false(file_there(t, "points/3/vda.qcow2.damaged"));
	assert_int_equal(env_rmdir(t->temp.root, "vm1/tests/nightly"), 0);
	store_twin_reopen(t);
	refused_from(t, 3);
}

// What cannot be listed may have a test in it; and that passes, so that it is looked at again.
static void nothing_is_put_where_nobody_knows_who_stands_on_it(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	assert_int_equal(env_mkdir(t->temp.root, "vm1/tests"), 0);
	cut_off(t, "points/3/vda.qcow2", 65536);
	bad_disk_hide("vm1/tests", -EIO);
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(info.broken && info.mend_in_ms);
	assert_non_null(strstr(info.broken_reason, "vm1/tests"));
	assert_false(file_there(t, "points/3/vda.qcow2.damaged"));
	bad_disk_heal();
	t->replica->mend_ns = 0;
	assert_int_equal(replica_mend(t->replica), 1);
	assert_true(file_there(t, "points/3/vda.qcow2.damaged"));
	refused_from(t, 3);
}

static void fence_keeps_it_as_it_is(void **state)
{
	struct store_twin *t = *state;
	struct replica_info info;
	struct err err = {0};
	assert_int_equal(replica_fence(t->replica, 3, &err), 0);
	cut_off(t, "points/3/vda.qcow2", 65536);
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	assert_true(info.broken);
	assert_non_null(strstr(info.broken_reason, "a failover, a test or a reader stands on it"));
	assert_false(file_there(t, "points/3/vda.qcow2.damaged"));
}

// While somebody reads point 4. Whether any was.
static bool mends_under_a_reader(struct store_twin *t, struct err *err)
{
	uint64_t held = 0;
	bool mended = false;
	int rc;
	assert_int_equal(replica_hold(t->replica, 4, &held, err), 0);
	{
		LOCK_SCOPE(&t->replica->lock); // which an assertion that fails would leave locked
		rc = overlays_mend(t->replica, false, &mended, err);
	}
	assert_int_equal(rc, -EBUSY);
	replica_release(t->replica, 4);
	return mended;
}

static void reader_keeps_it_as_it_is(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	cut_off(t, "points/3/vda.qcow2", 65536);
	bool mended = mends_under_a_reader(t, &err);
	assert_false(mended || file_there(t, "points/3/vda.qcow2.damaged"));
	assert_int_equal(store_twin_scrub(t, 0) > 0, true); // now it is found, and replaced
	assert_true(file_there(t, "points/3/vda.qcow2.damaged"));
	refused_from(t, 3);
}

// What nobody may replace now keeps no other disk of the same point from being made good.
static void disk_behind_one_that_is_in_use_is_made_good(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	cut_off(t, "points/3/vda.qcow2", 65536);
	store_flip_at(t, "points/3/vdb.qcow2", 2);
	bool mended = mends_under_a_reader(t, &err);
	assert_non_null(strstr(err.text, "points/3/vda.qcow2"));
	assert_true(mended && !file_there(t, "points/3/vda.qcow2.damaged"));
	assert_int_equal(store_twin_scrub(t, 0) > 0, true);
	refused_from(t, 3);
}

// Nothing takes its place before the quarantine is durable.
static void quarantine_comes_first(void **state)
{
	struct store_twin *t = *state;
	cut_off(t, "points/3/vda.qcow2", 65536);
	(void)env_unlink(t->temp.root, "vm1/scrub.json");
	assert_int_equal(env_mkdir(t->temp.root, "vm1/scrub.json"), 0); // nothing replaces a directory
	store_twin_reopen(t);
	assert_true(replica_is_broken(t->replica));
	assert_false(file_there(t, "points/3/vda.qcow2.damaged"));
	assert_int_equal(env_remove_tree(t->temp.root, "vm1/scrub.json"), 0);
	store_twin_reopen(t);
	refused_from(t, 3);
}

// --- what passes ---

// The world is short of something while it is mended: that is what the reason says, and it goes on by itself.
static void what_keeps_it_from_being_made_good_is_named_and_passes(void **state)
{
	static const struct {
		uint64_t point;
		const char *name;
		int code;
		unsigned after;
	} cases[] = {{3, "points/3/vda.qcow2", -EMFILE, 1},     {3, "points/3/vda.qcow2", -ENOMEM, 1},  {3, "scrub.json.new", -ENOSPC, 0},	       {3, "points/3/vda.qcow2.new", -ENOSPC, 0}, {3, "points/3/vda.qcow2.new", -EDQUOT, 0},
		     {3, "points/3/vda.qcow2.new", -EMFILE, 0}, {3, "points/3/vda.qcow2.new", -EIO, 0},    {3, "points/3/point.json.new", -ENOSPC, 0},
		     {2, "points/3/vda.qcow2", -EMFILE, 0},     {2, "points/4/point.json", -ENFILE, 0},    {2, "points/4/vda.qcow2", -ENOMEM, 0}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct store_twin *t = calloc(1, sizeof(*t));
		struct replica_info info;
		char name[64];
		assert_non_null(t);
		begin(t, true);
		bad_disk_begin(t->temp.root->env);
		overlay_name(name, cases[i].point);
		cut_off(t, name, 65536);
		bad_disk_refuse(cases[i].name, cases[i].after, cases[i].code);
		store_twin_reopen(t);
		replica_info(t->replica, &info);
		if (!info.broken || info.mend_in_ms == 0 || !strstr(info.broken_reason, strerror(-cases[i].code)))
			fail_msg("%s %d: %d %s", cases[i].name, cases[i].code, info.broken, info.broken_reason);
		t->replica->mend_ns = 0;
		assert_int_equal(replica_mend(t->replica), 0);
		replica_info(t->replica, &info);
		assert_true(cases[i].code != -ENOSPC || info.mend_in_ms <= 30000); // space is asked after at each round
		bad_disk_heal();
		t->replica->mend_ns = 0;
		assert_int_equal(replica_mend(t->replica), 1);
		refused_from(t, cases[i].point);
		next_sync_makes_it_good(t, cases[i].point);
		bad_disk_end();
		store_twin_end(t);
		free(t);
	}
}

// A fold and a merge that meet it then are done later; the replica is not broken by that.
static void fold_that_cannot_make_it_good_now_is_done_later(void **state)
{
	static const int codes[] = {-ENOSPC, -EMFILE, -EIO};
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct store_twin *t = calloc(1, sizeof(*t));
		struct err err = {0};
		const int code = codes[i % 3];
		assert_non_null(t);
		begin(t, true);
		bad_disk_begin(t->temp.root->env);
		spoil_header_and_list(t, i < 3 ? "points/2/vda.qcow2" : "points/3/vda.qcow2");
		if (i >= 3)
			assert_int_equal(replica_pin(t->replica, 2, "", NULL), 0);
		store_twin_keep(t, i < 3 ? 2 : 1);
		bad_disk_refuse("vda.qcow2.new", 0, code);
		assert_int_equal(replica_retain(t->replica, &err), code);
		assert_non_null(strstr(err.text, strerror(-code)));
		not_broken(t);
		bad_disk_heal();
		assert_int_equal(retain(t), -EAGAIN);
		assert_int_equal(retain(t), 1);
		not_broken(t);
		assert_int_equal(replica_sound(t->replica, POINTS, NULL), -EUCLEAN);
		assert_true(i < 3 || replica_sound(t->replica, 2, NULL) == 0);
		bad_disk_end();
		store_twin_end(t);
		free(t);
	}
}

// The point above the one that is folded gets its header changed: one that is damaged is written anew first.
static void fold_under_a_damaged_header_makes_it_good(void **state)
{
	struct store_twin *t = *state;
	store_flip_at(t, "points/3/vda.qcow2", 3);
	store_twin_keep(t, 2);
	assert_int_equal(retain(t), -EAGAIN);
	not_broken(t);
	assert_int_equal(retain(t), 1);
	not_broken(t);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_true(store_twin_check(t, false));
	store_twin_reopen(t);
	not_broken(t);
}

// What a fold lacks where it changes the names, or the disk does not give back: nothing was written that a crash would not have left, so it is done later.
static void fold_that_lacks_something_at_the_names_is_done_later(void **state)
{
	static const struct {
		const char *at;
		int code;
	} cases[] = {{"points/3/vda.qcow2", -EMFILE}, {"points/3/vdb.qcow2", -ENFILE}, {"points/3/vda.qcow2", -ENOMEM}, {"points/3/vdb.qcow2", -EIO},
		     {"vm1/trash/2", -ENOSPC},	      {"vm1/trash/2", -EDQUOT},		   {"vm1/trash/2", -ENOENT}};
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct store_twin *t = calloc(1, sizeof(*t));
		struct err err = {0};
		assert_non_null(t);
		begin(t, true);
		bad_disk_begin(t->temp.root->env);
		store_twin_keep(t, 2);
		if (strstr(cases[i].at, "trash"))
			bad_disk_unname(cases[i].at, cases[i].code);
		else
			bad_disk_refuse(cases[i].at, 0, cases[i].code);
		assert_int_equal(replica_retain(t->replica, &err), cases[i].code == -EDQUOT ? -ENOSPC : cases[i].code);
		assert_true(bad_disk_hits() > 0);
		store_twin_session(t); // and commits go on
		point_add(t, POINTS + 1);
		replica_session_end(t->replica);
		bad_disk_heal();
		all_sound(t); // the point that it was about is there, and what stands on it
		while (retain(t) == 1)
			;
		not_broken(t);
		assert_int_equal(t->replica->point_count, 2);
		assert_int_equal(store_twin_scrub(t, 0), 0);
		assert_true(store_twin_check(t, false));
		store_twin_reopen(t);
		not_broken(t);
		bad_disk_end();
		store_twin_end(t);
		free(t);
	}
}

// A merge without space for a name: before the exchange it was not begun; after it recovery ends it, by itself, when there is space.
static void merge_without_space_for_a_name_goes_on_when_there_is_some(void **state)
{
	static const char *const at[] = {"vm1/points/4", "vm1/trash/4.3", "vm1/trash/3"};
	(void)state;
	for (size_t i = 0; i < COUNT(at); i++) {
		struct store_twin *t = calloc(1, sizeof(*t));
		struct err err = {0};
		assert_non_null(t);
		begin(t, true);
		bad_disk_begin(t->temp.root->env);
		assert_int_equal(replica_pin(t->replica, 2, "", &err), 0);
		store_twin_keep(t, 1);
		bad_disk_unname(at[i], -ENOSPC);
		assert_true(replica_retain(t->replica, &err) < 0);
		assert_true(bad_disk_hits() > 0);
		assert_int_equal(replica_is_broken(t->replica), i > 0);
		bad_disk_heal();
		t->replica->mend_ns = 0;
		assert_int_equal(replica_mend(t->replica), i > 0);
		not_broken(t);
		while (retain(t) == 1)
			;
		not_broken(t);
		assert_int_equal(t->replica->point_count, 2);
		assert_int_equal(store_twin_scrub(t, 0), 0);
		assert_true(store_twin_check(t, false));
		store_twin_reopen(t);
		not_broken(t);
		bad_disk_end();
		store_twin_end(t);
		free(t);
	}
}

// Each slice meets it again: all overlays are looked at under the lock, so not each time.
static void one_that_cannot_be_made_good_is_not_looked_at_with_each_slice(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	uint64_t held = 0;
	assert_int_equal(replica_hold(t->replica, 4, &held, &err), 0);
	cut_off(t, "points/3/vda.qcow2", 65536);
	for (unsigned i = 0; i < 3; i++)
		(void)store_twin_scrub(t, 0);
	assert_int_equal(t->replica->overlays_failures, 1);
	t->replica->overlays_ns = 0;
	(void)store_twin_scrub(t, 0);
	(void)store_twin_scrub(t, 0);
	assert_int_equal(t->replica->overlays_failures, 2);
	assert_true(t->replica->overlays_ns > env_mono_ns(t->temp.root->env) + 90 * SECOND_NS);
	replica_release(t->replica, 4);
	t->replica->overlays_ns = 0;
	assert_true(store_twin_scrub(t, 0) > 0);
	assert_true(file_there(t, "points/3/vda.qcow2.damaged"));
	assert_int_equal(t->replica->overlays_failures, 0);
	refused_from(t, 3);
}

// --- refcounts ---

// Nobody reads them: what the points show is right, retention goes on, and the check of a store names them (test_check.c).
static void refcounts_matter_to_nobody_who_reads(void **state)
{
	struct store_twin *t = *state;
	struct env_stat st;
	for (uint64_t n = 2; n <= POINTS; n++) {
		char name[64];
		overlay_name(name, n);
		assert_int_equal(env_stat(t->temp.root, in_store(name), &st), 0);
		store_flip_at(t, name, st.size - 65536 + 3);	   // the table
		store_flip_at(t, name, st.size - 2 * 65536 + 5); // a block
	}
	store_twin_reopen(t);
	all_sound(t);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	store_twin_keep(t, 1);
	while (retain(t) == 1)
		;
	assert_int_equal(t->replica->point_count, 1);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_true(store_twin_check(t, false));
}

// An L1 entry that turned shows nothing of its blocks, or others: a pass finds it, and retention goes on over it.
static void l1_entry_that_turned_is_damage_of_its_blocks(void **state)
{
	static const unsigned bytes[] = {0, 4, 5, 6, 7};
	(void)state;
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		struct store_twin *t = calloc(1, sizeof(*t));
		unsigned char header[HEADER];
		uint64_t l1 = 0;
		assert_non_null(t);
		begin(t, true);
		header_get(t, "points/3/vda.qcow2", header);
		for (unsigned b = 40; b < 48; b++)
			l1 = l1 << 8 | header[b];
		store_flip_at(t, "points/3/vda.qcow2", l1 + bytes[i]);
		store_twin_reopen(t);
		not_broken(t);
		if (bytes[i] == 7) // a reserved bit that nobody follows, or one that is refused
			(void)store_twin_scrub(t, 0);
		else
			assert_true(store_twin_scrub(t, 0) > 0 || bytes[i] == 0);
		if (replica_sound(t->replica, 3, NULL) == -EUCLEAN) {
			refused_from(t, 3);
			next_sync_makes_it_good(t, 3);
		} else {
			assert_true(store_twin_check(t, false));
		}
		store_twin_end(t);
		free(t);
	}
}

int main(void)
{
	log_init("test_overlays", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, store_twin_bad_disk_end)
	const struct CMUnitTest tests[] = {
		TEST(header_is_written_anew_whatever_of_it_turned),
		TEST(header_of_zeros_costs_nothing),
		cmocka_unit_test(receiver_that_runs_makes_it_good),
		TEST(header_is_written_under_who_stands_on_it),
		cmocka_unit_test(what_cannot_be_made_good_is_in_quarantine_and_the_rest_goes_on),
		TEST(disk_that_never_gives_it_back_is_given_up),
		TEST(nothing_is_put_under_who_stands_on_it),
		TEST(nothing_is_put_where_nobody_knows_who_stands_on_it),
		TEST(fence_keeps_it_as_it_is),
		TEST(reader_keeps_it_as_it_is),
		TEST(disk_behind_one_that_is_in_use_is_made_good),
		TEST(quarantine_comes_first),
		cmocka_unit_test(what_keeps_it_from_being_made_good_is_named_and_passes),
		cmocka_unit_test(fold_that_cannot_make_it_good_now_is_done_later),
		cmocka_unit_test(fold_that_lacks_something_at_the_names_is_done_later),
		cmocka_unit_test(merge_without_space_for_a_name_goes_on_when_there_is_some),
		TEST(fold_under_a_damaged_header_makes_it_good),
		TEST(one_that_cannot_be_made_good_is_not_looked_at_with_each_slice),
		TEST(refcounts_matter_to_nobody_who_reads),
		cmocka_unit_test(l1_entry_that_turned_is_damage_of_its_blocks),
	};
	return cmocka_run_group_tests_name("overlays", tests, NULL, NULL);
}
