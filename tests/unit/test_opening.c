// SPDX-License-Identifier: Apache-2.0
// What takes as long as there are digests, the beginning of a session and the end of a fold, keeps nobody from the replica meanwhile: a seam
// that asks at each operation whether the replica's lock is free, and in whose midst other things happen.
#include "receiver/overlays.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"

#include "base/log.h"
#include "base/size.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
	LOCKED_MOST = 64, // operations without letting go of the lock: what is done for each disk, and names
	FILES_MAX = 64,
	SCATTERED = 2000, // blocks of a point, each in a sector of its own of the table
};
#define TIB (UINT64_C(1) << 40)
#define DISK_SIZE (UINT64_C(8) << 30)

static const unsigned char pin[OWNER_PIN_SIZE] = {3};

static struct {
	struct sim *sim;
	struct store *store;
	struct replica *replica;
	struct wire_opened opened;
	uint64_t cut;
	int rc; // of what happened in the midst
	struct err err;
} the;

// --- the seam ---

enum what { OTHER, TABLE, LIST }; // a file of digests, of the base or of a point

static struct {
	struct env_ops ops;
	const struct env_ops *sim;
	struct replica *replica; // whose lock is watched; NULL: nobody's
	struct env_file *file[FILES_MAX];
	enum what of[FILES_MAX];
	uint64_t read[3], reads[3], writes[3]; // bytes, and operations
	unsigned locked, locked_most; // operations in a row that found it taken
	enum what what; // before the read of such a file of which `countdown` is the number, this happens once; NULL: nothing
	unsigned countdown;
	void (*happens)(void);
} seam;

static void watch(void)
{
	struct replica_pulse pulse;
	if (!seam.replica)
		return;
	seam.locked = replica_pulse(seam.replica, &pulse) ? 0 : seam.locked + 1;
	if (seam.locked > seam.locked_most)
		seam.locked_most = seam.locked;
}

static enum what what_of(const struct env_file *file)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (seam.file[i] == file)
			return seam.of[i];
	return OTHER;
}

static int seam_open(struct env_root *root, const char *name, enum env_open how, struct env_file **ret_file)
{
	watch();
	int rc = seam.sim->open(root, name, how, ret_file);
	if (rc || !strstr(name, ".digests"))
		return rc;
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (!seam.file[i]) {
			seam.file[i] = *ret_file;
			seam.of[i] = strstr(name, "/base/") ? TABLE : LIST;
			return 0;
		}
	fail_msg("too many files");
	return 0;
}

static void seam_close(struct env_file *file)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (seam.file[i] == file)
			seam.file[i] = NULL;
	seam.sim->close(file);
}

static int seam_pread(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len)
{
	enum what what = what_of(file);
	watch();
	seam.read[what] += len;
	seam.reads[what]++;
	if (seam.happens && what == seam.what && off && seam.countdown-- == 0) {
		void (*happens)(void) = seam.happens;
		struct replica_pulse pulse;
		assert_true(replica_pulse(the.replica, &pulse)); // else it would wait for ever
		seam.happens = NULL;
		happens();
	}
	return seam.sim->pread(file, buf, len, off, ret_len);
}

static int seam_pwrite(struct env_file *file, const void *buf, size_t len, uint64_t off)
{
	watch();
	seam.writes[what_of(file)]++;
	return seam.sim->pwrite(file, buf, len, off);
}

static int seam_sync(struct env_file *file)
{
	watch();
	return seam.sim->sync(file);
}

static void seam_reset(struct replica *replica)
{
	memset(seam.read, 0, sizeof(seam.read));
	memset(seam.reads, 0, sizeof(seam.reads));
	memset(seam.writes, 0, sizeof(seam.writes));
	seam.replica = replica;
	seam.locked = seam.locked_most = 0;
	seam.happens = NULL;
}

static void later(enum what what, unsigned countdown, void (*happens)(void))
{
	seam.what = what;
	seam.countdown = countdown;
	seam.happens = happens;
}

// --- the store ---

static struct wire_open open_message(unsigned disks, uint64_t size)
{
	struct wire_open open = {.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3, .secret = {0x11}},
				 .codec = CODEC_ZSTD, .points_keep = 9, .rpo_ms = 15000, .disk_count = (uint16_t)disks};
	for (unsigned i = 0; i < disks; i++) {
		(void)snprintf(open.disk[i].name, sizeof(open.disk[i].name), "d%u", i);
		open.disk[i].size = size;
	}
	return open;
}

static int setup(void **state)
{
	struct env_root *top;
	(void)state;
	memset(&the, 0, sizeof(the));
	memset(seam.file, 0, sizeof(seam.file));
	the.sim = sim_new(1);
	struct env *env = sim_env(the.sim);
	seam.sim = env->ops;
	seam.ops = *env->ops;
	seam.ops.open = seam_open;
	seam.ops.close = seam_close;
	seam.ops.pread = seam_pread;
	seam.ops.pwrite = seam_pwrite;
	seam.ops.sync = seam_sync;
	env->ops = &seam.ops;
	seam_reset(NULL);
	assert_true(env_root_open(env, "/", &top) == 0 && env_mkdir(top, "store") == 0);
	env_root_close(top);
	assert_int_equal(store_open(env, "/store", &the.store, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	seam_reset(NULL);
	store_close(the.store);
	sim_free(the.sim);
	return 0;
}

static void create(unsigned disks, uint64_t size)
{
	const struct wire_open open = open_message(disks, size);
	assert_int_equal(store_create(the.store, &open, pin, &the.replica, NULL), 0);
}

static int session_begin(void)
{
	const struct wire_open open = open_message(1, DISK_SIZE);
	return replica_session_begin(the.replica, &open, pin, &the.opened, &the.err);
}

static struct digest digest_at(uint64_t version, uint64_t index)
{
	struct digest digest = {{1, (unsigned char)version}};
	memcpy(digest.bytes + 8, &index, sizeof(index));
	return digest;
}

// One piece of the block, with a digest that nobody can check without the rest of it.
static void block_write(uint64_t version, uint64_t index)
{
	unsigned char piece[PIECE_SIZE];
	memset(piece, (int)version, sizeof(piece));
	const struct wire_block block = {.mask = 1, .codec = CODEC_NONE, .index = index, .digest = digest_at(version, index), .len = PIECE_SIZE, .payload = piece};
	assert_int_equal(replica_write_block(the.replica, &block, &the.err), 0);
}

static void seal(void)
{
	struct wire_committed committed;
	const struct wire_seal sealing = {.predecessor = the.opened.last_point, .head = the.opened.head, .cut = {{(unsigned char)++the.cut}}, .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(the.replica, &sealing, &committed, &the.err), 0);
	replica_session_end(the.replica);
}

// A point of `count` blocks, `stride` apart.
static void point_make(uint64_t version, uint64_t count, uint64_t stride)
{
	assert_int_equal(session_begin(), 0);
	for (uint64_t i = 0; i < count; i++)
		block_write(version, i * stride);
	seal();
}

static bool differs(uint64_t version, uint64_t index)
{
	struct digest digest = digest_at(version, index);
	unsigned char bitmap = 0;
	const struct wire_compare compare = {.first = index, .count = 1, .digests = digest.bytes};
	assert_int_equal(replica_compare(the.replica, &compare, &bitmap, &the.err), 0);
	return bitmap;
}

static size_t points(void)
{
	struct replica_info info;
	replica_info(the.replica, &info);
	return info.point_count;
}

// Two points, the older of which is to be folded: its blocks are in as many sectors of the table.
static void points_make(void)
{
	const struct retention one = {.points = 1};
	create(1, DISK_SIZE);
	point_make(1, SCATTERED, DIGEST_TABLE_PER_SECTOR);
	point_make(2, 1, 1);
	assert_int_equal(replica_set_retention(the.replica, &one, &the.err), 0);
}

static void newest_is_whole(void)
{
	for (uint64_t i = 0; i < SCATTERED; i++)
		assert_false(differs(i ? 1 : 2, i * DIGEST_TABLE_PER_SECTOR));
}

// --- sessions ---

static void opening_of_a_disk_of_64_tib_reads_no_hole(void **state)
{
	(void)state;
	const struct wire_open open = open_message(2, 64 * TIB);
	create(2, 64 * TIB);
	seam_reset(the.replica);
	assert_int_equal(replica_session_begin(the.replica, &open, pin, &the.opened, &the.err), 0);
	assert_in_range(seam.read[TABLE], 1, 1 << 20);
	replica_session_end(the.replica);
}

static void first_list_is_read_once(void **state)
{
	(void)state;
	create(1, DISK_SIZE);
	point_make(1, 5000, 1);
	seam_reset(the.replica);
	assert_int_equal(session_begin(), 0);
	assert_in_range(seam.read[LIST], digest_list_length(5000), digest_list_length(5000) + 2 * DIGEST_SECTOR);
	assert_false(differs(1, 4999));
	replica_session_end(the.replica);
}

// The list of point 1 is one of as many other blocks: all of it checks, and it is not the one that point.json names.
static void list_exchange(uint64_t count)
{
	const struct digest_disk of = {.kind = DIGEST_XXH3, .size = DISK_SIZE};
	unsigned char root[DIGEST_ROOT_SIZE];
	struct env_file *file = NULL;
	struct table other;
	table_init(&other, size_blocks(DISK_SIZE));
	for (uint64_t i = 0; i < count; i++) {
		const struct digest digest = digest_at(7, i);
		assert_int_equal(table_set(&other, 1000 + i, &digest), 0);
	}
	assert_int_equal(env_open(the.replica->root, "vm1/points/1/d0.digests", ENV_WRITE, &file), 0);
	assert_int_equal(digest_list_save(file, &of, &other, root, NULL), 0);
	env_close(file);
	table_done(&other);
}

static bool is_zero(uint64_t index)
{
	static const struct digest zero;
	unsigned char bitmap = 0;
	const struct wire_compare compare = {.first = index, .count = 1, .digests = zero.bytes};
	assert_int_equal(replica_compare(the.replica, &compare, &bitmap, &the.err), 0);
	return !bitmap;
}

static void of_another_list_nothing_is_believed_that_was_read(void **state)
{
	const struct retention one = {.points = 1};
	(void)state;
	create(1, DISK_SIZE);
	point_make(1, 100, 1);
	list_exchange(100);
	assert_int_equal(session_begin(), 0);
	assert_true(is_zero(1000) && is_zero(1099)); // it was never written
	assert_true(differs(1, 0) && differs(1, 99));
	block_write(2, 2000);
	seal();
	assert_int_equal(replica_set_retention(the.replica, &one, &the.err), 0);
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	assert_int_equal(session_begin(), 0);
	assert_true(is_zero(1000) && is_zero(1099));
	assert_true(differs(1, 0) && differs(1, 99));
	replica_session_end(the.replica);
}

static void replica_is_free_while_a_session_opens(void **state)
{
	(void)state;
	create(1, DISK_SIZE);
	for (unsigned version = 1; version <= 3; version++)
		point_make(version, 20000, version);
	seam_reset(the.replica);
	assert_int_equal(session_begin(), 0);
	assert_true(seam.reads[LIST] > LOCKED_MOST / 2);
	assert_in_range(seam.locked_most, 1, LOCKED_MOST / 4);
	assert_false(differs(3, 3 * 19999));
	replica_session_end(the.replica);
}

// What happens while it is loaded: the lock is free, and nobody changes what is read.
static int all_at_once(void *context, struct err *err)
{
	const struct wire_open open = open_message(1, DISK_SIZE);
	struct replica_info info;
	struct wire_opened opened;
	unsigned *times = context;
	uint64_t written = seam.writes[OTHER];
	if ((*times)++)
		return 0;
	replica_info(the.replica, &info);
	assert_true(info.session_open);
	assert_int_equal(replica_session_begin(the.replica, &open, pin, &opened, err), -EBUSY);
	assert_int_equal(store_forget(the.store, "vm1", err), -EBUSY);
	assert_int_equal(replica_retain(the.replica, err), 0);
	assert_int_equal(points(), 2);
	assert_int_equal(seam.writes[OTHER], written); // nor is a step begun that could not be ended
	return 0;
}

static int session_begin_while(int (*look)(void *context, struct err *err), void *context)
{
	const struct wire_open open = open_message(1, DISK_SIZE);
	const struct session_pace pace = {.look = look, .context = context};
	return replica_session_begin_paced(the.replica, &open, pin, &pace, &the.opened, &the.err);
}

static void session_that_opens_is_nobody_elses(void **state)
{
	unsigned times = 0;
	(void)state;
	points_make();
	assert_int_equal(session_begin_while(all_at_once, &times), 0);
	assert_true(times > 1);
	newest_is_whole();
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	replica_session_end(the.replica);
}

static int fence(void *context, struct err *err)
{
	(void)context;
	return replica_fence(the.replica, 0, err);
}

static void replica_that_is_fenced_while_a_session_opens_has_none(void **state)
{
	struct replica_info info;
	(void)state;
	points_make();
	assert_int_equal(session_begin_while(fence, NULL), -ESTALE);
	replica_info(the.replica, &info);
	assert_false(info.session_open);
	assert_true(info.fenced && !info.broken);
}

static int leave(void *context, struct err *err)
{
	unsigned *times = context;
	return ++*times == 3 ? err_set(err, -EBADMSG, "the source is gone") : 0;
}

// Of -EBADMSG above all: a file that is damaged is told by it.
static void source_that_leaves_while_its_session_opens_costs_nothing(void **state)
{
	struct replica_info info;
	unsigned times = 0;
	(void)state;
	points_make();
	assert_int_equal(session_begin_while(leave, &times), -EBADMSG);
	assert_string_equal(the.err.text, "the source is gone");
	assert_int_equal(times, 3);
	replica_info(the.replica, &info);
	assert_false(info.session_open || info.broken);
	assert_int_equal(replica_sound(the.replica, 0, NULL), 0);
	assert_int_equal(session_begin(), 0);
	newest_is_whole();
	replica_session_end(the.replica);
}

// --- folds ---

static void replica_is_free_while_a_fold_writes_its_table(void **state)
{
	(void)state;
	points_make();
	seam_reset(the.replica);
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	assert_in_range(seam.locked_most, 1, LOCKED_MOST);
	assert_int_equal(points(), 1);
	assert_int_equal(session_begin(), 0);
	newest_is_whole();
	replica_session_end(the.replica);
}

static void table_is_read_and_written_many_sectors_at_a_time(void **state)
{
	(void)state;
	points_make();
	seam_reset(NULL);
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	assert_in_range(seam.reads[TABLE], 1, SCATTERED / 8);
	assert_in_range(seam.writes[TABLE], 1, SCATTERED / 32);
}

static void table_with_holes_is_read_where_it_has_data(void **state)
{
	enum { APART = 1000, SECTORS_MOST = 200 };
	const struct retention one = {.points = 1};
	(void)state;
	create(1, DISK_SIZE);
	point_make(1, 100, APART);
	point_make(2, 1, 1);
	assert_int_equal(replica_set_retention(the.replica, &one, &the.err), 0);
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	seam_reset(NULL);
	assert_int_equal(session_begin(), 0);
	assert_in_range(seam.read[TABLE], 100 * DIGEST_SECTOR, SECTORS_MOST * DIGEST_SECTOR);
	for (uint64_t i = 1; i < 100; i++)
		assert_false(differs(1, i * APART));
	replica_session_end(the.replica);
}

static void hold_now(void)
{
	uint64_t held;
	the.rc = replica_hold(the.replica, 0, &held, &the.err);
}

// What it has written until then is as a crash leaves it.
static void hold_in_the_midst_of_a_table_stops_the_fold(void **state)
{
	(void)state;
	points_make();
	seam_reset(NULL);
	the.rc = -1;
	later(TABLE, SCATTERED / 64, hold_now);
	assert_int_equal(replica_retain(the.replica, &the.err), 0);
	assert_int_equal(the.rc, 0);
	assert_int_equal(points(), 2);
	assert_int_equal(session_begin(), 0);
	newest_is_whole();
	replica_session_end(the.replica);
	replica_release(the.replica, 2);
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	assert_int_equal(points(), 1);
	assert_int_equal(session_begin(), 0);
	newest_is_whole();
	replica_session_end(the.replica);
}

static void session_now(void)
{
	the.rc = session_begin();
	if (the.rc == 0)
		newest_is_whole();
}

static void session_that_opens_in_the_midst_of_a_table_sees_what_is_true(void **state)
{
	(void)state;
	points_make();
	seam_reset(NULL);
	the.rc = -1;
	later(TABLE, SCATTERED / 64, session_now);
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	assert_int_equal(the.rc, 0);
	newest_is_whole(); // by now, too
	replica_session_end(the.replica);
}

static void opening_now(void)
{
	the.replica->opening = true;
	the.rc = (int)seam.writes[TABLE];
}

// Whoever loads digests reads no sector that is half written.
static void nothing_is_written_to_a_table_while_a_session_opens(void **state)
{
	(void)state;
	points_make();
	seam_reset(NULL);
	later(TABLE, SCATTERED / 64, opening_now);
	assert_int_equal(replica_retain(the.replica, &the.err), 0);
	assert_true(the.rc > 0);
	assert_int_equal(seam.writes[TABLE], the.rc);
	assert_int_equal(points(), 2);
	the.replica->opening = false;
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
}

static int opens_for_a_while(void *context, uint64_t bytes)
{
	unsigned *waits = context;
	(void)bytes;
	if (!the.replica->opening)
		return 0;
	assert_int_equal(pthread_mutex_trylock(&the.replica->lock), 0);
	(void)pthread_mutex_unlock(&the.replica->lock);
	assert_int_equal(seam.writes[TABLE], the.rc);
	assert_int_equal(points(), 2);
	if (++*waits == 3)
		the.replica->opening = false;
	return *waits > 3 ? -ECANCELED : 0;
}

static void fold_waits_for_a_session_that_opens_and_goes_on(void **state)
{
	unsigned waits = 0;
	const struct retain_pace pace = {.spend = opens_for_a_while, .context = &waits};
	(void)state;
	points_make();
	seam_reset(NULL);
	later(TABLE, SCATTERED / 64, opening_now);
	assert_int_equal(replica_retain_paced(the.replica, &pace, &the.err), 1);
	assert_true(the.rc > 0);
	assert_int_equal(waits, 3);
	assert_int_equal(points(), 1);
	assert_int_equal(session_begin(), 0);
	newest_is_whole();
	replica_session_end(the.replica);
}

static int opens_until_the_end(void *context, uint64_t bytes)
{
	(void)context, (void)bytes;
	return the.replica->opening ? -ECANCELED : 0;
}

static int opens_for_seconds(void *context, uint64_t bytes)
{
	unsigned *seconds = context;
	(void)bytes;
	if (the.replica->opening) {
		sim_clock_advance(the.sim, UINT64_C(1000000000));
		++*seconds;
	}
	return *seconds > 1000 ? -ECANCELED : 0;
}

// Those whose turn is next have the same thread.
static void fold_waits_for_a_minute_and_no_longer(void **state)
{
	unsigned seconds = 0;
	const struct retain_pace pace = {.spend = opens_for_seconds, .context = &seconds};
	(void)state;
	points_make();
	for (unsigned again = 1; again <= 2; again++) {
		seam_reset(NULL);
		later(TABLE, SCATTERED / 64, opening_now);
		assert_int_equal(replica_retain_paced(the.replica, &pace, &the.err), 0);
		assert_int_equal(seconds, again * 60);
		assert_int_equal(points(), 2);
		the.replica->opening = false;
	}
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
}

static void fold_that_waits_ends_with_the_receiver(void **state)
{
	const struct retain_pace pace = {.spend = opens_until_the_end};
	(void)state;
	points_make();
	seam_reset(NULL);
	later(TABLE, SCATTERED / 64, opening_now);
	assert_int_equal(replica_retain_paced(the.replica, &pace, &the.err), -ECANCELED);
	assert_int_equal(seam.writes[TABLE], the.rc);
	assert_int_equal(points(), 2);
	the.replica->opening = false;
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
}

static void table_replace_now(void)
{
	bool mended = false;
	LOCK_SCOPE(&the.replica->lock);
	assert_int_equal(env_unlink(the.replica->root, "vm1/base/d0.digests"), 0);
	the.rc = tables_mend(the.replica, the.replica->points[0].number, false, &mended, &the.err);
	assert_true(mended);
}

static int count_known(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	uint64_t *known = context;
	(void)index, (void)err;
	*known += !digest_is_unknown(digest);
	return 0;
}

static void fold_into_a_table_that_was_replaced_meanwhile_is_done_again(void **state)
{
	uint64_t known = 0;
	(void)state;
	points_make();
	seam_reset(NULL);
	the.rc = -1;
	later(TABLE, SCATTERED / 64, table_replace_now);
	assert_int_equal(replica_retain(the.replica, &the.err), 0);
	assert_int_equal(the.rc, 0);
	assert_int_equal(points(), 2); // the list is the only one to know
	assert_int_equal(replica_retain(the.replica, &the.err), 1);
	assert_int_equal(digests_of_base(the.replica, 0, DISK_SIZE, count_known, &known, &the.err), 0);
	assert_int_equal(known, SCATTERED);
}

int main(void)
{
	log_init("test_opening", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(opening_of_a_disk_of_64_tib_reads_no_hole),
		TEST(first_list_is_read_once),
		TEST(of_another_list_nothing_is_believed_that_was_read),
		TEST(replica_is_free_while_a_session_opens),
		TEST(replica_is_free_while_a_fold_writes_its_table),
		TEST(table_is_read_and_written_many_sectors_at_a_time),
		TEST(table_with_holes_is_read_where_it_has_data),
		TEST(hold_in_the_midst_of_a_table_stops_the_fold),
		TEST(session_that_opens_is_nobody_elses),
		TEST(replica_that_is_fenced_while_a_session_opens_has_none),
		TEST(source_that_leaves_while_its_session_opens_costs_nothing),
		TEST(session_that_opens_in_the_midst_of_a_table_sees_what_is_true),
		TEST(nothing_is_written_to_a_table_while_a_session_opens),
		TEST(fold_waits_for_a_session_that_opens_and_goes_on),
		TEST(fold_waits_for_a_minute_and_no_longer),
		TEST(fold_that_waits_ends_with_the_receiver),
		TEST(fold_into_a_table_that_was_replaced_meanwhile_is_done_again),
	};
	return cmocka_run_group_tests_name("opening", tests, NULL, NULL);
}
