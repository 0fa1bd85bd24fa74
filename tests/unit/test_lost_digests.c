// SPDX-License-Identifier: Apache-2.0
// Sectors of tables and lists that do not check (receiver/unknown.c): a session goes on over them, the points that show what they were of are in
// quarantine, durably; the source heals the newest point; and whatever retention makes of the others, nothing passes for proven that was not.
#include "receiver/scrub.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "receiver/chain.h"
#include "receiver/check.h"
#include "receiver/list_walk.h"
#include "receiver/replica.h"
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

enum { POINTS = 4, BLOCKS_MOST = 55 }; // blocks: of a disk, grown

// --- a store of three points over a base that a fold has written ---

static void points_make(struct store_twin *t)
{
	store_twin_begin(t, 4711);
	store_twin_session(t);
	for (unsigned n = 1; n <= POINTS; n++) {
		for (uint64_t b = 0; b < 40; b++) // of two sectors, of one and of another
			if (n == 1 || (n == 2 && b % 3 != 1) || (n == 3 && b >= 8 && b < 33) || (n == 4 && b % 5 == 0)) {
				uint16_t mask = n == 1 || b % 2 ? MASK_FULL : 0x0011;
				store_twin_change(t, 1, b, mask);
				assert_int_equal(store_twin_send(t, 1, b, mask, CODEC_ZSTD, NULL), 0);
			}
		for (uint64_t b = n - 1; b < 5; b++) {
			store_twin_change(t, 0, b, MASK_FULL);
			assert_int_equal(store_twin_send(t, 0, b, MASK_FULL, CODEC_ZSTD, NULL), 0);
		}
		store_twin_seal(t);
	}
	store_twin_keep(t, POINTS - 1);
	assert_int_equal(replica_retain(t->replica, NULL), 1);
	replica_session_end(t->replica);
}

// Which versions of blocks a file's sector is of: those that come from it.
struct lost {
	unsigned disk;
	uint64_t point; // 0: the base's table
	char name[64];
	uint64_t sector;
	bool of[BLOCKS_MOST]; // the sector has or had the block's digest
	bool shown[POINTS + 2][BLOCKS_MOST]; // a point shows that version
};

struct index_walk {
	struct lost *lost;
	uint64_t at;
};

static int sector_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct index_walk *w = context;
	(void)digest, (void)err;
	w->lost->of[index] = w->at++ / DIGEST_LIST_PER_SECTOR + 1 == w->lost->sector;
	return 0;
}

static int named_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	(void)digest, (void)err;
	((bool *)context)[index] = true;
	return 0;
}

static void lost_know(struct store_twin *t, struct lost *lost)
{
	struct point_file point;
	uint64_t blocks = size_blocks(t->open.disk[lost->disk].size);
	bool shown[BLOCKS_MOST] = {false};
	if (lost->point) {
		struct index_walk w = {.lost = lost};
		assert_int_equal(replica_read_point(t->replica, lost->point, &point, NULL), 0);
		assert_int_equal(digests_of_point(t->replica, &point, lost->disk, sector_take, &w, NULL), 0);
	}
	for (uint64_t b = 0; lost->point == 0 && b < blocks; b++)
		lost->of[b] = b / DIGEST_TABLE_PER_SECTOR + 1 == lost->sector;
	if (lost->point == 0)
		memcpy(shown, lost->of, sizeof(shown));
	for (uint64_t n = 2; n <= POINTS; n++) {
		bool named[BLOCKS_MOST] = {false};
		assert_int_equal(replica_read_point(t->replica, n, &point, NULL), 0);
		assert_int_equal(digests_of_point(t->replica, &point, lost->disk, named_take, named, NULL), 0);
		for (uint64_t b = 0; b < blocks; b++)
			shown[b] = n == lost->point ? lost->of[b] : shown[b] && !named[b];
		memcpy(lost->shown[n], shown, sizeof(shown));
	}
}

static uint64_t count_of(const bool *shown)
{
	uint64_t count = 0;
	for (unsigned b = 0; b < BLOCKS_MOST; b++)
		count += shown[b];
	return count;
}

// --- asking ---

static void retain_all(struct store_twin *t)
{
	struct err err = {0};
	int rc;
	while ((rc = replica_retain(t->replica, &err)) == 1)
		;
	if (rc)
		fail_msg("%s", err.text);
}

static bool differs(struct store_twin *t, unsigned disk, uint64_t index)
{
	struct digest digest = digest_of(&t->open.digest, (uint16_t)disk, index, t->disk[disk] + index * BLOCK_SIZE);
	struct wire_compare compare = {.disk = (uint16_t)disk, .count = 1, .first = index, .digests = digest.bytes};
	unsigned char bitmap = 0;
	assert_int_equal(replica_compare(t->replica, &compare, &bitmap, NULL), 0);
	return bitmap & 1;
}

// Each point that is there is refused if and only if it shows a version whose digest is lost, and for exactly these.
static void quarantine_is_exact(struct store_twin *t, const struct lost *lost)
{
	for (uint64_t n = 2; n <= POINTS; n++) {
		if (!replica_point(t->replica, n))
			continue;
		uint64_t wanted = count_of(lost->shown[n]);
		if (replica_damaged_blocks(t->replica, n) != wanted)
			fail_msg("%s, sector %llu: point %llu shows %llu lost digests, %llu are known", lost->name, (unsigned long long)lost->sector,
				 (unsigned long long)n, (unsigned long long)wanted, (unsigned long long)replica_damaged_blocks(t->replica, n));
		assert_int_equal(replica_sound(t->replica, n, NULL), wanted ? -EUCLEAN : 0);
	}
}

// What a reader that proves gets of each block: its content, or an error where its digest is lost.
static void reading_proves(struct store_twin *t, const struct lost *lost)
{
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	for (uint64_t n = 2; n <= POINTS; n++) {
		struct chain *chain = NULL;
		if (!replica_point(t->replica, n))
			continue;
		assert_int_equal(chain_open(t->replica, n, lost->disk, &chain, NULL), 0);
		for (uint64_t b = 0; b < size_blocks(t->point_size[n][lost->disk]); b++) {
			int rc = chain_get(chain, b, block, NULL);
			assert_int_equal(rc, lost->shown[n][b] ? -EBADMSG : 0);
			assert_true(rc || memcmp(block, t->point[n][lost->disk] + b * BLOCK_SIZE, BLOCK_SIZE) == 0);
		}
		chain_close(chain);
	}
}

// The session that heals: what its point shows differs, is named to the source, and is sound when it came.
static void session_heals(struct store_twin *t, const struct lost *lost)
{
	struct wire_damaged damaged;
	struct replica_info info;
	store_twin_session(t);
	for (unsigned d = 0; d < STORE_TWIN_DISKS; d++)
		for (uint64_t b = 0; b < size_blocks(t->open.disk[d].size); b++)
			assert_int_equal(differs(t, d, b), d == lost->disk && lost->shown[POINTS][b]);
	replica_damaged(t->replica, &damaged);
	for (unsigned i = 0; i < damaged.count; i++)
		for (uint64_t b = damaged.run[i].first; b < damaged.run[i].first + damaged.run[i].count; b++)
			assert_true(damaged.run[i].disk == lost->disk && lost->shown[POINTS][b]);
	assert_int_equal(store_twin_send_damaged(t), count_of(lost->shown[POINTS]));
	store_twin_seal(t);
	replica_info(t->replica, &info);
	assert_false(info.broken);
	assert_int_equal(info.last_point, POINTS + 1);
	assert_int_equal(replica_sound(t->replica, POINTS + 1, NULL), 0);
	assert_int_equal(store_twin_scrub(t, POINTS + 1), 0);
	quarantine_is_exact(t, lost);
	(void)store_twin_scrub(t, 0);
	quarantine_is_exact(t, lost);
	assert_int_equal(replica_sound(t->replica, POINTS + 1, NULL), 0);
	store_twin_reopen(t);
	quarantine_is_exact(t, lost);
	assert_int_equal(replica_sound(t->replica, POINTS + 1, NULL), 0);
}

// Retention to its end, and a scrub of what is left: all of it sound.
static void end_is_sound(struct store_twin *t)
{
	struct replica_info info;
	store_twin_keep(t, 1);
	retain_all(t);
	replica_info(t->replica, &info);
	assert_false(info.broken);
	assert_int_equal(info.point_count, 1);
	assert_int_equal(store_twin_scrub(t, 0), 0);
	assert_int_equal(replica_sound(t->replica, 0, NULL), 0);
	assert_true(store_twin_check(t, false));
	store_twin_session(t);
	for (unsigned d = 0; d < STORE_TWIN_DISKS; d++)
		for (uint64_t b = 0; b < size_blocks(t->open.disk[d].size); b++)
			assert_false(differs(t, d, b));
	replica_session_end(t->replica);
}

// --- each sector of each table and list ---

typedef void lost_test(struct store_twin *t, const struct lost *lost);

static void each_sector(lost_test *test)
{
	for (unsigned disk = 0; disk < STORE_TWIN_DISKS; disk++)
		for (uint64_t point = 0; point <= POINTS; point++)
			for (uint64_t sector = 1, sectors = 2; sector < sectors; sector++) {
				struct store_twin *t = malloc(sizeof(*t));
				struct lost lost = {.disk = disk, .point = point, .sector = sector};
				struct point_file file;
				assert_non_null(t);
				points_make(t);
				if (point == 0)
					sectors = digest_table_length(t->open.disk[disk].size) / DIGEST_SECTOR;
				else if (replica_read_point(t->replica, point, &file, NULL) == 0)
					sectors = digest_list_length(file.disk[disk].digests) / DIGEST_SECTOR;
				else
					sectors = 0; // folded
				if (point)
					(void)snprintf(lost.name, sizeof(lost.name), "points/%llu/%s.digests", (unsigned long long)point,
						       t->open.disk[disk].name);
				else
					(void)snprintf(lost.name, sizeof(lost.name), "base/%s.digests", t->open.disk[disk].name);
				if (sector < sectors) {
					lost_know(t, &lost);
					store_flip_at(t, lost.name, sector * DIGEST_SECTOR + (sector * 97 + point * 31) % DIGEST_SECTOR);
					test(t, &lost);
				}
				store_twin_end(t);
				free(t);
			}
}

static void by_a_session(struct store_twin *t, const struct lost *lost)
{
	store_twin_session(t);
	quarantine_is_exact(t, lost);
	store_twin_reopen(t);
	quarantine_is_exact(t, lost); // on disk before the session went on
	reading_proves(t, lost);
	session_heals(t, lost);
	end_is_sound(t);
}

static void session_goes_on_over_a_lost_sector(void **state)
{
	(void)state;
	each_sector(by_a_session);
}

static void by_a_scrub(struct store_twin *t, const struct lost *lost)
{
	assert_int_equal(store_twin_scrub(t, 0) > 0, count_of(lost->shown[2]) + count_of(lost->shown[3]) + count_of(lost->shown[4]) > 0);
	quarantine_is_exact(t, lost);
	session_heals(t, lost);
	end_is_sound(t);
}

static void scrub_goes_on_over_a_lost_sector(void **state)
{
	(void)state;
	each_sector(by_a_scrub);
}

// The oldest into the base, and then all into the newest.
static void by_folds(struct store_twin *t, const struct lost *lost)
{
	for (uint32_t keep = 2; keep > 0; keep--) {
		store_twin_keep(t, keep);
		retain_all(t);
		store_twin_session(t); // whatever the fold met, this knows
		quarantine_is_exact(t, lost);
		store_twin_reopen(t);
		(void)store_twin_scrub(t, 0);
		quarantine_is_exact(t, lost);
		reading_proves(t, lost);
	}
	session_heals(t, lost);
	end_is_sound(t);
}

static void folds_prove_nothing_that_is_lost(void **state)
{
	(void)state;
	each_sector(by_folds);
}

static void by_a_merge(struct store_twin *t, const struct lost *lost)
{
	assert_int_equal(replica_pin(t->replica, 2, "", NULL), 0);
	store_twin_keep(t, 1);
	retain_all(t); // 3 into 4
	assert_null(replica_point(t->replica, 3));
	if (lost->point >= 3)
		quarantine_is_exact(t, lost);
	store_twin_session(t);
	quarantine_is_exact(t, lost);
	store_twin_reopen(t);
	(void)store_twin_scrub(t, 0);
	quarantine_is_exact(t, lost);
	reading_proves(t, lost);
	session_heals(t, lost);
	assert_int_equal(replica_unpin(t->replica, 2, NULL), 0);
	end_is_sound(t);
}

static void merges_prove_nothing_that_is_lost(void **state)
{
	(void)state;
	each_sector(by_a_merge);
}

// --- preludes ---

static void first_sector_says_nothing_that_is_not_known(void **state)
{
	(void)state;
	static const char *const names[] = {"base/vda.digests", "base/vdb.digests", "points/2/vdb.digests", "points/3/vda.digests", "points/4/vdb.digests"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (unsigned grow = 0; grow < 2; grow++) {
			struct store_twin *t = malloc(sizeof(*t));
			struct lost none = {.disk = 1};
			assert_non_null(t);
			points_make(t);
			store_flip_at(t, names[i], 60);
			store_twin_reopen(t); // recovery goes on as well
			assert_int_equal(store_twin_scrub(t, 0), 0);
			if (grow) {
				store_twin_grow(t, 0, 9 * BLOCK_SIZE + 512);
				store_twin_grow(t, 1, 55 * BLOCK_SIZE);
			}
			session_heals(t, &none);
			end_is_sound(t);
			store_twin_end(t);
			free(t);
		}
}

// --- two faults at once ---

static void sector_and_block_lose(struct store_twin *t)
{
	struct env_file *file = NULL;
	unsigned char l1[8], l1_at[8], zero[16] = {0};
	store_flip_at(t, "points/3/vdb.digests", DIGEST_SECTOR + 100); // of blocks 8 to 27; the next is 28
	assert_int_equal(env_open(t->temp.root, "vm1/points/3/vdb.qcow2", ENV_WRITE, &file), 0);
	assert_int_equal(env_pread_full(file, l1_at, 8, 40), 0);
	assert_int_equal(env_pread_full(file, l1, 8, get_be64(l1_at)), 0);
	assert_int_equal(env_pwrite(file, zero, 16, (get_be64(l1) & UINT64_C(0x00fffffffffffe00)) + 12 * 16), 0);
	env_close(file);
}

// The overlay has lost one of the blocks as well: nobody knows any more which the list named, so any between its neighbours may be.
static void overlay_that_holds_fewer_blocks_than_are_missing_says_nothing(void **state)
{
	(void)state;
	struct store_twin *t = malloc(sizeof(*t));
	assert_non_null(t);
	points_make(t);
	sector_and_block_lose(t);
	store_twin_session(t);
	assert_int_equal(replica_damaged_blocks(t->replica, 2), 0);
	assert_int_equal(replica_damaged_blocks(t->replica, 3), 28); // 0 to 27
	assert_true(differs(t, 1, 12));
	store_twin_end(t);
	free(t);
}

// A merge writes all of them down, and so the list of the point that stays names what its overlay has not. When what the point is gets lost, too, that is no
// contradiction: nothing is proven by it, and the source sends what is unknown.
static struct store_twin *unknown_blocks_merge(void)
{
	struct store_twin *t = malloc(sizeof(*t));
	assert_non_null(t);
	points_make(t);
	sector_and_block_lose(t);
	assert_int_equal(replica_pin(t->replica, 2, "", NULL), 0);
	store_twin_keep(t, 1);
	retain_all(t); // 3 into 4
	assert_null(replica_point(t->replica, 3));
	return t;
}

static void merged_list_of_unknown_blocks_tells_what_the_point_is(void **state)
{
	(void)state;
	struct store_twin *t = unknown_blocks_merge();
	struct replica_info info;
	store_flip_at(t, "points/4/point.json", 60);
	store_flip_at(t, "points/4/point.json.copy", 80);
	store_twin_reopen(t);
	replica_info(t->replica, &info);
	if (info.broken)
		fail_msg("%s", info.broken_reason);
	assert_int_equal(replica_sound(t->replica, 2, NULL), 0);
	assert_int_equal(replica_sound(t->replica, 4, NULL), -EUCLEAN);
	(void)store_twin_scrub(t, 0);
	assert_int_equal(replica_sound(t->replica, 4, NULL), -EUCLEAN);
	store_twin_session(t);
	(void)store_twin_send_damaged(t);
	store_twin_seal(t);
	replica_session_end(t->replica);
	(void)store_twin_scrub(t, 0);
	assert_int_equal(replica_sound(t->replica, 5, NULL), 0);
	assert_int_equal(replica_unpin(t->replica, 2, NULL), 0);
	end_is_sound(t);
	store_twin_end(t);
	free(t);
}

// Where it cannot be made durable, no session begins.
static void on_found(void *context, enum check_kind kind, const char *text)
{
	(void)context;
	print_message("check (%d): %s\n", kind, text);
}

static bool on_looked(void *context, uint64_t files, uint64_t of)
{
	(void)context, (void)files, (void)of;
	return true;
}

static uint64_t check_damage(struct store_twin *t)
{
	const struct check_watch watch = {.found = on_found, .looked = on_looked};
	struct check_result result;
	assert_int_equal(check_protection(t->temp.root, t->temp.dir, "vm1", 0, &watch, &result, NULL), 0);
	assert_int_equal(result.unreadable, 0);
	return result.damage;
}

// Nor is it damage for a check of the store: a lost sector is, until the merge has made quarantine of it.
static void check_takes_no_merged_list_of_unknown_blocks_for_damage(void **state)
{
	(void)state;
	struct store_twin *t = malloc(sizeof(*t));
	assert_non_null(t);
	points_make(t);
	sector_and_block_lose(t);
	assert_true(check_damage(t) > 0);
	store_twin_end(t);
	free(t);
	t = unknown_blocks_merge();
	assert_int_equal(replica_sound(t->replica, 4, NULL), -EUCLEAN);
	assert_int_equal(check_damage(t), 0);
	store_twin_end(t);
	free(t);
}

// Point 3 holds blocks 8 to 32 of the disk.
static void block_of_a_known_digest_is_in_the_overlay_too(void **state)
{
	(void)state;
	AUTO_FREE struct store_twin *t = malloc(sizeof(*t));
	struct env_file *file = NULL;
	struct qcow2_reader *overlay = NULL;
	const struct digest known = {{1}};
	struct list_walk walk;
	assert_non_null(t);
	points_make(t);
	assert_int_equal(env_open(t->temp.root, "vm1/points/3/vdb.qcow2", ENV_READ, &file), 0);
	assert_int_equal(qcow2_reader_open(file, &overlay, NULL), 0);
	assert_int_equal(list_walk_begin(&walk, overlay, NULL), 0);
	assert_int_equal(list_walk_entry(&walk, 7, &known, NULL), -EBADMSG);
	assert_int_equal(list_walk_entry(&walk, 7, &digest_unknown, NULL), 0);
	for (uint64_t b = 8; b < 32; b++)
		assert_int_equal(list_walk_entry(&walk, b, b % 2 ? &known : &digest_unknown, NULL), 0);
	assert_int_equal(list_walk_end(&walk, NULL), -EBADMSG); // 32 is not named
	assert_int_equal(list_walk_entry(&walk, 33, &digest_unknown, NULL), -EBADMSG);
	assert_int_equal(list_walk_entry(&walk, 32, &known, NULL), 0);
	assert_int_equal(list_walk_entry(&walk, 33, &known, NULL), -EBADMSG);
	assert_int_equal(list_walk_entry(&walk, 33, &digest_unknown, NULL), 0);
	assert_int_equal(list_walk_end(&walk, NULL), 0);
	qcow2_reader_free(overlay);
	env_close(file);
	store_twin_end(t);
}

static void session_waits_until_it_can_be_noted(void **state)
{
	(void)state;
	struct store_twin *t = malloc(sizeof(*t));
	struct err err = {0};
	assert_non_null(t);
	points_make(t);
	store_flip_at(t, "base/vdb.digests", DIGEST_SECTOR + 8);
	assert_int_equal(env_mkdir(t->temp.root, "vm1/scrub.json"), 0); // nothing replaces a directory
	assert_int_equal(replica_session_begin(t->replica, &t->open, t->pin, &t->opened, &err), -EAGAIN);
	assert_true(!t->replica->broken && !t->replica->session_open);
	assert_int_equal(env_remove_tree(t->temp.root, "vm1/scrub.json"), 0);
	store_twin_session(t);
	replica_session_end(t->replica);
	store_twin_reopen(t);
	assert_int_equal(replica_sound(t->replica, 2, NULL), -EUCLEAN);
	store_twin_end(t);
	free(t);
}

// --- a sector that the disk gives back only at times ---

static void every_unknown_is_noted(struct store_twin *t)
{
	AUTO_FREE struct damage_set *unknown = calloc(1, sizeof(*unknown));
	struct newest newest;
	assert_non_null(unknown);
	LOCK_SCOPE(&t->replica->lock);
	assert_int_equal(newest_of(t->replica, &newest, NULL), 0);
	assert_int_equal(digests_of_newest(t->replica, &newest, NULL, unknown, NULL, NULL), 0);
	newest_done(&newest);
	for (unsigned i = 0; i < unknown->count; i++)
		assert_true(damage_covers(&t->replica->scrub.damage, &unknown->run[i]));
}

// All blocks of the point are in quarantine already, for versions of its own.
static void point_noted(struct store_twin *t, uint64_t number)
{
	LOCK_SCOPE(&t->replica->lock);
	for (uint16_t disk = 0; disk < 2; disk++) {
		const struct damage run = {.disk = disk, .first = 0, .count = size_blocks(t->open.disk[disk].size), .from = number, .to = number};
		damage_add(&t->replica->scrub.damage, &run);
	}
}

static void comes_and_goes(const char *name, uint64_t sector, bool merge, uint64_t pattern, uint64_t noted, unsigned *done, unsigned *later)
{
	struct store_twin *t = calloc(1, sizeof(*t));
	struct err err = {0};
	assert_non_null(t);
	points_make(t);
	bad_disk_begin(t->temp.root->env);
	if (merge)
		assert_int_equal(replica_pin(t->replica, 2, "", NULL), 0);
	store_twin_keep(t, merge ? 1 : 2);
	if (noted)
		point_noted(t, noted);
	atomic_store(&t->replica->digests_given_up, true);
	bad_disk_blink(name, sector * DIGEST_SECTOR + 24, -EIO, pattern);
	int rc = replica_retain(t->replica, &err);
	*done += rc == 1;
	*later += rc == -EIO;
	assert_true(rc == 1 || rc == -EIO);
	bad_disk_heal();
	every_unknown_is_noted(t);
	if (rc < 0) {
		assert_int_equal(replica_retain(t->replica, &err), 1);
		every_unknown_is_noted(t);
		assert_int_equal(store_twin_scrub(t, 0), 0); // all digests are there
		assert_true(store_twin_check(t, false));
	}
	bad_disk_end();
	store_twin_end(t);
	free(t);
}

// Whenever it comes and goes: what a fold or a merge writes down as unknown is in quarantine; and where they cannot tell, they are done later, and no digest is lost.
static void what_comes_and_goes_is_not_lost_unnoted(void **state)
{
	static const struct {
		const char *name;
		uint64_t sector;
		bool merge;
	} cases[] = {{"vm1/points/2/vdb.digests", 1, false}, {"vm1/points/2/vda.digests", 1, false}, {"vm1/base/vdb.digests", 2, false},
		     {"vm1/base/vda.digests", 1, false},     {"vm1/points/3/vdb.digests", 2, true},  {"vm1/points/4/vdb.digests", 1, true}};
	static const uint64_t patterns[] = {0, 3, 6, 12, 15, 27, 51, 99}; // a sector that cannot be read with others is read once more by itself
	unsigned done = 0, later = 0;
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t p = 0; p < sizeof(patterns) / sizeof(patterns[0]); p++)
			for (unsigned noted = 0; noted < 2; noted++) // of another point than the one that it is about
				comes_and_goes(cases[i].name, cases[i].sector, cases[i].merge, patterns[p], noted ? cases[i].merge ? 2 : POINTS : 0, &done, &later);
	assert_true(done > 0 && later > 0);
}

int main(void)
{
	log_init("test_lost_digests", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(session_goes_on_over_a_lost_sector),
		cmocka_unit_test(scrub_goes_on_over_a_lost_sector),
		cmocka_unit_test(folds_prove_nothing_that_is_lost),
		cmocka_unit_test(merges_prove_nothing_that_is_lost),
		cmocka_unit_test(first_sector_says_nothing_that_is_not_known),
		cmocka_unit_test(overlay_that_holds_fewer_blocks_than_are_missing_says_nothing),
		cmocka_unit_test(merged_list_of_unknown_blocks_tells_what_the_point_is),
		cmocka_unit_test(check_takes_no_merged_list_of_unknown_blocks_for_damage),
		cmocka_unit_test(block_of_a_known_digest_is_in_the_overlay_too),
		cmocka_unit_test(session_waits_until_it_can_be_noted),
		cmocka_unit_test(what_comes_and_goes_is_not_lost_unnoted),
	};
	return cmocka_run_group_tests_name("lost_digests", tests, NULL, NULL);
}
