// SPDX-License-Identifier: Apache-2.0
// The check of a store (receiver/check.h): silent on what the store makes, and each damage that is planted is named by its file.
#include "receiver/check.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "receiver/failover.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "receiver/test_dir.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct told {
	char text[16384];
	uint64_t files, of, stop_at;
};

static struct told told;
static struct check_result result;

static void on_found(void *context, enum check_kind kind, const char *text)
{
	struct told *to = context;
	size_t used = strlen(to->text);
	(void)snprintf(to->text + used, sizeof(to->text) - used, "%c %s\n", kind == CHECK_DAMAGE ? '!' : '.', text);
}

static bool on_looked(void *context, uint64_t files, uint64_t of)
{
	struct told *to = context;
	to->files = files;
	to->of = of;
	return files != to->stop_at;
}

static int check(struct store_twin *t, struct err *err)
{
	const struct check_watch watch = {.found = on_found, .looked = on_looked, .context = &told};
	told.text[0] = 0;
	return check_protection(t->temp.root, t->temp.dir, "vm1", 0, &watch, &result, err);
}

static int setup(void **state)
{
	struct store_twin *t = malloc(sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 4711);
	store_twin_session(t);
	for (unsigned n = 0; n < 3; n++) {
		for (unsigned i = 0; i < 12; i++)
			store_twin_random(t);
		store_twin_change(t, 0, n, MASK_FULL);
		store_twin_change(t, 1, 3 + n, 0x0f00);
		assert_int_equal(store_twin_send(t, 0, n, MASK_FULL, CODEC_ZSTD, NULL), 0);
		assert_int_equal(store_twin_send(t, 1, 3 + n, 0x0f00, CODEC_NONE, NULL), 0);
		store_twin_seal(t);
	}
	replica_session_end(t->replica);
	told = (struct told){.text = ""};
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	store_twin_end(*state);
	free(*state);
	return 0;
}

// --- planting ---

static struct env_file *file_open(struct store_twin *t, const char *rest)
{
	char name[320];
	struct env_file *file = NULL;
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	assert_int_equal(env_open(t->temp.root, name, ENV_WRITE, &file), 0);
	return file;
}

static void byte_flip(struct store_twin *t, const char *rest, uint64_t off)
{
	struct env_file *file = file_open(t, rest);
	unsigned char byte;
	assert_int_equal(env_pread_full(file, &byte, 1, off), 0);
	byte ^= 0x10;
	assert_int_equal(env_pwrite(file, &byte, 1, off), 0);
	env_close(file);
}

static uint64_t u64_at(struct store_twin *t, const char *rest, uint64_t off)
{
	struct env_file *file = file_open(t, rest);
	unsigned char bytes[8];
	assert_int_equal(env_pread_full(file, bytes, 8, off), 0);
	env_close(file);
	return get_be64(bytes);
}

static void put(struct store_twin *t, const char *rest, uint64_t off, const void *bytes, size_t len)
{
	struct env_file *file = file_open(t, rest);
	assert_int_equal(env_pwrite(file, bytes, len, off), 0);
	env_close(file);
}

static void expect(struct store_twin *t, const char *file, const char *text)
{
	struct err err = {0};
	if (check(t, &err))
		fail_msg("%s", err.text);
	assert_true(result.damage > 0);
	if (!strstr(told.text, file) || !strstr(told.text, text))
		fail_msg("not told: \"%s\" and \"%s\"; but: %s", file, text, told.text);
}

// --- sound ---

static void store_that_was_never_damaged_is_sound(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	assert_int_equal(check(t, &err), 0);
	if (result.damage || result.notes)
		fail_msg("%s", told.text);
	assert_int_equal(result.points, 3);
	assert_int_equal(told.files, 8); // a table and three overlays for each disk
	assert_int_equal(told.of, 8);
	store_twin_keep(t, 1); // and after folds, a growth, and with a head
	store_twin_grow(t, 0, 9 * BLOCK_SIZE + 512);
	store_twin_session(t);
	while (replica_retain(t->replica, &err) == 1)
		;
	store_twin_change(t, 0, 8, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 8, MASK_FULL, CODEC_ZSTD, NULL), 0);
	assert_int_equal(check(t, &err), 0);
	if (result.damage || result.notes)
		fail_msg("%s", told.text);
	assert_int_equal(result.points, 1);
}

static void what_cannot_be_read_is_neither_sound_nor_damaged(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	static const char *const files[] = {"protection.json", "points/2/point.json", "points/2/vda.qcow2", "points/3/vdb.digests", "base/vda.digests"};
	char name[64];
	bad_disk_begin(t->temp.root->env);
	uint64_t table = bad_disk_table(t->temp.root->env, t->temp.dir, "vm1/points/2/vda.qcow2", 0);
	for (size_t i = 0; i < 6; i++) {
		const char *file = files[i < 5 ? i : 2];
		(void)snprintf(name, sizeof(name), "vm1/%s", file);
		bad_disk_set(name, i < 5 ? 0 : table, i < 5 ? UINT64_C(1) << 40 : 1, -EIO);
		assert_int_equal(check(t, &err), 0);
		assert_int_equal(result.damage, 0);
		assert_true(result.unreadable > 0);
		if (!strstr(told.text, file))
			fail_msg("not told: %s; but: %s", file, told.text);
	}
	bad_disk_heal();
	assert_int_equal(check(t, &err), 0);
	assert_int_equal(result.unreadable, 0);
	bad_disk_end();
}

// Point 1 is pinned, 2 goes into 3.
static void merge(struct store_twin *t)
{
	struct err err = {0};
	store_twin_keep(t, 1);
	if (replica_pin(t->replica, 1, "before the upgrade", &err) || replica_retain(t->replica, &err) != 1)
		fail_msg("%s", err.text);
}

static void in_store(struct store_twin *t, const char *command)
{
	char line[600];
	(void)snprintf(line, sizeof(line), "cd %s/vm1 && %s", t->temp.dir, command);
	assert_int_equal(system(line), 0);
}

static void store_with_merges_and_pins_is_sound(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	merge(t);
	assert_int_equal(check(t, &err), 0);
	if (result.damage || result.notes)
		fail_msg("%s", told.text);
	assert_int_equal(result.points, 2);
}

static void what_a_merge_left_is_neither_damage_nor_removed(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	in_store(t, "cp -a points/2 ../two");
	merge(t);
	in_store(t, "mv ../two points/2 && mkdir -p merge/3"); // as a crash right behind the exchange leaves it
	assert_int_equal(check(t, &err), 0);
	if (result.damage || result.notes)
		fail_msg("%s", told.text);
	assert_int_equal(result.points, 2);
	in_store(t, "test -f points/2/point.json && test -d merge/3");
}

static void pins_that_do_not_check_are_named(void **state)
{
	struct store_twin *t = *state;
	merge(t);
	byte_flip(t, "pins.json", 30);
	expect(t, "vm1/pins.json: its copy is whole", "");
	byte_flip(t, "pins.json.copy", 30);
	expect(t, "vm1/pins.json: nor does its copy say", "");
}

// Beside a receiver, they may be merged while they are looked at.
static void points_after_the_last_that_is_asked_for_are_not_looked_at(void **state)
{
	struct store_twin *t = *state;
	const struct check_watch watch = {.found = on_found, .looked = on_looked, .context = &told};
	in_store(t, "rm points/3/point.json");
	told.text[0] = 0;
	assert_int_equal(check_protection(t->temp.root, t->temp.dir, "vm1", 2, &watch, &result, NULL), 0);
	assert_string_equal(told.text, "");
	assert_int_equal(result.points, 2);
	expect(t, "vm1/points/3/point.json", "");
}

static void sound_store_is_left_as_it_is(void **state)
{
	struct store_twin *t = *state;
	struct env_stat st;
	struct env_file *file = NULL;
	assert_int_equal(env_mkdir(t->temp.root, "vm1/trash/7"), 0);
	assert_int_equal(env_open(t->temp.root, "vm1/protection.json.new", ENV_CREATE, &file), 0);
	env_close(file);
	assert_int_equal(check(t, NULL), 0);
	assert_int_equal(result.damage, 0); // what a crash leaves is no damage, and recovery's to remove
	assert_int_equal(env_stat(t->temp.root, "vm1/trash/7", &st), 0);
	assert_int_equal(env_stat(t->temp.root, "vm1/protection.json.new", &st), 0);
}

// --- damage ---

static void manifest_that_does_not_check_is_named(void **state)
{
	struct store_twin *t = *state;
	byte_flip(t, "points/2/point.json", 40);
	expect(t, "vm1/points/2/point.json", "! ");
	assert_int_equal(result.points, 3); // by its copy
	byte_flip(t, "points/2/point.json.copy", 40);
	expect(t, "vm1/points/2/point.json", "! ");
	assert_int_equal(result.points, 2); // the others were looked at
	byte_flip(t, "protection.json", 40);
	expect(t, "vm1/protection.json", "! ");
}

static void point_that_is_missing_is_named(void **state)
{
	struct store_twin *t = *state;
	assert_int_equal(env_remove_tree(t->temp.root, "vm1/points/2"), 0);
	expect(t, "vm1/points/2", "point 3 stands on it");
}

static void base_that_is_short_is_named(void **state)
{
	struct store_twin *t = *state;
	struct env_file *file = file_open(t, "base/vda.raw");
	assert_int_equal(env_truncate(file, 4096), 0);
	env_close(file);
	expect(t, "vm1/base/vda.raw", "has 4096 bytes");
}

static void table_sector_that_is_damaged_is_named(void **state)
{
	struct store_twin *t = *state;
	unsigned char garbage[8] = "garbage";
	put(t, "base/vdb.digests", 2 * 512 + 100, garbage, sizeof(garbage));
	expect(t, "vm1/base/vdb.digests", "sector 2 is damaged");
	put(t, "base/vda.digests", 8, garbage, sizeof(garbage));
	expect(t, "vm1/base/vda.digests", "prelude is damaged");
}

static void list_that_is_not_its_root_is_named(void **state)
{
	struct store_twin *t = *state;
	byte_flip(t, "points/2/vda.digests", 512 + 30);
	expect(t, "vm1/points/2/vda.digests", "sector 1 is damaged");
	// A whole, valid list, of another point.
	struct env_file *file = file_open(t, "points/1/vdb.digests");
	uint64_t size = 0;
	assert_int_equal(env_size(file, &size), 0);
	AUTO_FREE unsigned char *bytes = malloc(size);
	assert_non_null(bytes);
	assert_int_equal(env_pread_full(file, bytes, size, 0), 0);
	env_close(file);
	file = file_open(t, "points/3/vdb.digests");
	assert_int_equal(env_truncate(file, 0), 0);
	assert_int_equal(env_pwrite(file, bytes, size, 0), 0);
	env_close(file);
	expect(t, "vm1/points/3/vdb.digests", "! ");
}

static void overlay_whose_tables_are_damaged_is_named(void **state)
{
	struct store_twin *t = *state;
	const char *name = "points/3/vdb.qcow2";
	uint64_t refcounts = u64_at(t, name, 48);
	uint64_t refblock = u64_at(t, name, refcounts);
	byte_flip(t, name, refblock + 3); // refcount of the second cluster
	expect(t, "vm1/points/3/vdb.qcow2", "cluster at 65536");
	byte_flip(t, "points/2/vda.qcow2", 0);
	expect(t, "vm1/points/2/vda.qcow2", "magic");
	expect(t, "vm1/points/3/vdb.qcow2", "cluster at 65536"); // still, although recovery's code stopped before
}

static void overlay_on_another_point_is_named(void **state)
{
	struct store_twin *t = *state;
	struct env_file *file = file_open(t, "points/3/vda.qcow2");
	assert_int_equal(qcow2_set_backing(file, "../1/vda.qcow2", QCOW2_BACKING_QCOW2, NULL), 0);
	env_close(file);
	expect(t, "vm1/points/3/vda.qcow2", "not the point below it");
}

static void overlay_that_holds_other_blocks_than_its_list_is_named(void **state)
{
	struct store_twin *t = *state;
	const char *name = "points/3/vda.qcow2"; // block 2 of vda is whole in it: forget it, with its refcount
	uint64_t l2 = u64_at(t, name, u64_at(t, name, 40)) & UINT64_C(0x00fffffffffffe00);
	uint64_t entry = l2 + 2 * 16;
	unsigned char zeros[16] = {0};
	put(t, name, entry, zeros, 16);
	put(t, name, entry + 8, "\xff\xff\xff\xff", 4); // reads as zeros: still held, and a leak at most
	expect(t, "vm1/points/3/vda.qcow2", "! ");
	put(t, name, entry, zeros, 16);
	expect(t, "vm1/points/3/vda.qcow2", "! ");
}

static void name_that_does_not_belong_is_a_note(void **state)
{
	struct store_twin *t = *state;
	static const char *const names[] = {"vm1/notes.txt", "vm1/base/vdz.raw", "vm1/points/2/core", NULL};
	for (size_t i = 0; names[i]; i++) {
		struct env_file *file = NULL;
		assert_int_equal(env_open(t->temp.root, names[i], ENV_CREATE, &file), 0);
		env_close(file);
	}
	assert_int_equal(check(t, NULL), 0);
	assert_int_equal(result.damage, 0);
	assert_int_equal(result.notes, 3);
	for (size_t i = 0; names[i]; i++)
		assert_non_null(strstr(told.text, names[i]));
}

// --- what is no point ---

// Failed over, and under test; a scrub has been there.
static void recovered(struct store_twin *t)
{
	static const uint64_t size[DISKS_MAX] = {1 << 20, 1 << 20};
	struct env *env = t->temp.root->env;
	struct test_info test = {.protection = "vm1", .name = "try", .point = 2, .cut_wall_ns = 1, .started_wall_ns = 1, .disk_count = 2, .disk = {"vda", "vdb"}};
	struct failover_info failover;
	struct err err = {0};
	bool there = false;
	if (test_dir_make(t->temp.root, &test, size, &there, &err) || scrub_record(t->replica, &err) || failover_run(env, t->store, t->replica, 3, false, NULL, &failover, &err))
		fail_msg("%s", err.text);
}

static void records_that_are_whole_are_sound(void **state)
{
	struct store_twin *t = *state;
	recovered(t);
	assert_int_equal(check(t, NULL), 0);
	assert_string_equal(told.text, "");
	in_store(t, "rm failover/failover.json.copy"); // as a store of an earlier version has it
	in_store(t, "rm scrub.json.copy");
	assert_int_equal(check(t, NULL), 0);
	in_store(t, "mv scrub.json scrub.json.copy");
	byte_flip(t, "scrub.json.copy", 30);
	expect(t, "! vm1/scrub.json", ""); // of the two it is the copy that was there, and says nothing
	in_store(t, "rm scrub.json.copy");
	in_store(t, "mkdir tests/.x.new tests/mount-1");
	assert_int_equal(check(t, NULL), 0);
	assert_string_equal(told.text, "");
}

static void record_that_does_not_check_is_named(void **state)
{
	struct store_twin *t = *state;
	static const char *const records[] = {"scrub.json", "scrub.json.copy", "failover/failover.json", "failover/failover.json.copy", "tests/try/test.json"};
	char name[96], command[96];
	recovered(t);
	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
		(void)snprintf(name, sizeof(name), "! vm1/%s", records[i]);
		byte_flip(t, records[i], 30);
		expect(t, name, "");
		assert_int_equal(result.damage, 1);
		byte_flip(t, records[i], 30);
	}
	(void)snprintf(command, sizeof(command), "rm %s", records[4]);
	in_store(t, command);
	expect(t, "! vm1/tests/try/test.json", "No such file");
	byte_flip(t, records[2], 30);
	byte_flip(t, records[3], 30);
	expect(t, "! vm1/failover/failover.json", "");
	assert_int_equal(result.damage, 2);
}

static void disk_of_a_failover_or_a_test_whose_header_is_damaged_is_named(void **state)
{
	struct store_twin *t = *state;
	static const char *const disks[] = {"failover/vda.qcow2", "failover/vdb.qcow2", "tests/try/vda.qcow2", "tests/try/vdb.qcow2"};
	static const unsigned char one[4] = {0, 0, 0, 1}, none[4] = {0};
	recovered(t);
	for (size_t i = 0; i < sizeof(disks) / sizeof(disks[0]); i++) {
		const uint64_t places[] = {0, 41, 49, 16, u64_at(t, disks[i], 8) + 8}; // magic, L1, refcounts, length of the backing name, that name
		char name[96];
		(void)snprintf(name, sizeof(name), "! vm1/%s", disks[i]);
		for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++) {
			byte_flip(t, disks[i], places[k]);
			expect(t, name, "");
			assert_int_equal(result.damage, 1);
			byte_flip(t, disks[i], places[k]);
		}
		put(t, disks[i], 60, one, sizeof(one)); // a snapshot: its owner's
		assert_int_equal(check(t, NULL), 0);
		assert_true(result.damage == 0 && result.notes == 1);
		put(t, disks[i], 60, none, sizeof(none));
	}
	in_store(t, "rm failover/vda.qcow2");
	expect(t, "! vm1/failover/vda.qcow2", "No such file");
	struct err err = {0};
	assert_int_equal(replica_fence_commit(t->replica, 0, &err), 0); // and then its owner's to move
	assert_int_equal(check(t, NULL), 0);
	assert_true(result.damage == 0 && result.notes == 1);
	assert_non_null(strstr(told.text, "vm1/failover/vda.qcow2"));
}

static void disk_of_a_failover_without_a_fence_is_damage(void **state)
{
	struct store_twin *t = *state;
	in_store(t, "mkdir failover");
	assert_int_equal(check(t, NULL), 0);
	in_store(t, "touch failover/vdb.qcow2");
	expect(t, "! vm1/failover/vdb.qcow2", "not failed over");
}

// --- the whole store ---

static void quiet(void *context, const char *protection, uint64_t files, uint64_t of)
{
	(void)context, (void)protection, (void)files, (void)of;
}

static bool no(void *context)
{
	(void)context;
	return false;
}

static void check_of_a_store_in_use_goes_through_its_receiver(void **state)
{
	struct store_twin *t = *state;
	const struct check_progress progress = {.looked = quiet, .stopping = no};
	struct err err = {0};
	json_t *report = NULL;
	assert_int_equal(check_directory(env_posix(), t->temp.dir, &progress, &report, &err), -EBUSY);
	assert_int_equal(check_live(t->store, &progress, &report, &err), 0);
	assert_true(json_is_true(json_object_get(report, "sound")));
	json_decref(report);
	struct point_info *points = NULL;
	size_t count = 0;
	assert_int_equal(replica_points(t->replica, &points, &count), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(points[i].holds, 0); // it let go
	free(points);
	byte_flip(t, "points/2/vda.digests", 512 + 30);
	assert_int_equal(check_live(t->store, &progress, &report, &err), 0);
	assert_false(json_is_true(json_object_get(report, "sound")));
	json_decref(report);
	store_close(t->store);
	t->store = NULL;
	t->replica = NULL;
	assert_int_equal(check_directory(env_posix(), t->temp.dir, &progress, &report, &err), 0);
	json_t *one = json_array_get(json_object_get(report, "protections"), 0);
	assert_string_equal(json_string_value(json_object_get(one, "name")), "vm1");
	assert_int_equal(json_array_size(json_object_get(one, "damage")), 1);
	json_decref(report);
}

static void what_makes_a_replica_broken_is_told_by_its_receiver_too(void **state)
{
	struct store_twin *t = *state;
	const struct check_progress progress = {.looked = quiet, .stopping = no};
	struct err err = {0};
	json_t *report = NULL;
	in_store(t, "cp points/2/point.json points/3/point.json && cp points/2/point.json points/3/point.json.copy"); // another point's
	store_twin_reopen(t);
	assert_true(replica_is_broken(t->replica));
	assert_int_equal(check_live(t->store, &progress, &report, &err), 0);
	json_t *damage = json_object_get(json_array_get(json_object_get(report, "protections"), 0), "damage");
	assert_int_equal(json_array_size(damage), 1);
	assert_non_null(strstr(json_string_value(json_array_get(damage, 0)), "vm1/points/3/point.json"));
	json_decref(report);
}

static void newest_point_that_is_gone_is_told_by_its_receiver(void **state)
{
	struct store_twin *t = *state;
	const struct check_progress progress = {.looked = quiet, .stopping = no};
	struct err err = {0};
	json_t *report = NULL;
	in_store(t, "rm -r points/3");
	assert_int_equal(check_live(t->store, &progress, &report, &err), 0);
	assert_false(json_is_true(json_object_get(report, "sound")));
	json_t *damage = json_object_get(json_array_get(json_object_get(report, "protections"), 0), "damage");
	assert_int_equal(json_array_size(damage), 1);
	assert_string_equal(json_string_value(json_array_get(damage, 0)), "vm1/points/3: missing; it was committed, and no point stands on it");
	json_decref(report);
}

static void check_stops_when_asked_to(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	told.stop_at = 3;
	assert_int_equal(check(t, &err), -ECANCELED);
	assert_int_equal(told.files, 3);
}

int main(void)
{
	log_init("test_check", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(store_that_was_never_damaged_is_sound),
		TEST(what_cannot_be_read_is_neither_sound_nor_damaged),
		TEST(sound_store_is_left_as_it_is),
		TEST(store_with_merges_and_pins_is_sound),
		TEST(what_a_merge_left_is_neither_damage_nor_removed),
		TEST(pins_that_do_not_check_are_named),
		TEST(points_after_the_last_that_is_asked_for_are_not_looked_at),
		TEST(manifest_that_does_not_check_is_named),
		TEST(point_that_is_missing_is_named),
		TEST(base_that_is_short_is_named),
		TEST(table_sector_that_is_damaged_is_named),
		TEST(list_that_is_not_its_root_is_named),
		TEST(overlay_whose_tables_are_damaged_is_named),
		TEST(overlay_on_another_point_is_named),
		TEST(overlay_that_holds_other_blocks_than_its_list_is_named),
		TEST(name_that_does_not_belong_is_a_note),
		TEST(records_that_are_whole_are_sound),
		TEST(record_that_does_not_check_is_named),
		TEST(disk_of_a_failover_or_a_test_whose_header_is_damaged_is_named),
		TEST(disk_of_a_failover_without_a_fence_is_damage),
		TEST(check_of_a_store_in_use_goes_through_its_receiver),
		TEST(what_makes_a_replica_broken_is_told_by_its_receiver_too),
		TEST(newest_point_that_is_gone_is_told_by_its_receiver),
		TEST(check_stops_when_asked_to),
	};
	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
