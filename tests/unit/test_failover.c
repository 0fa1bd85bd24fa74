// SPDX-License-Identifier: Apache-2.0
// Failover over the simulated disk: what it answers, what it refuses. Under crashes: test_failover_crash.c.
#include "receiver/failover.h"

#include "base/auto.h"
#include "base/log.h"
#include "format/qcow2.h"
#include "receiver/copies.h"
#include "receiver/failover_control.h"
#include "receiver/replica.h"
#include "tests/lib/feed.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DISKS = 2, POINTS = 3 };

#define SECOND_NS INT64_C(1000000000)

static const uint64_t disk_size[DISKS] = {64 << 20, (1 << 20) + 512};
static const uint64_t grown_size[DISKS] = {(80 << 20) + 512, 3 << 20}; // in the tests where they grow after their second point

static int add_point_of(struct env *env, struct replica *replica, const uint64_t size[DISKS], struct err *err)
{
	const struct wire_open open = feed_open(DISKS, size, 9);
	return feed_point(env, replica, &open, err);
}

static int add_point(struct env *env, struct replica *replica, struct err *err)
{
	return add_point_of(env, replica, disk_size, err);
}

struct bench {
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct replica *replica;
};

static void bench_open(struct bench *bench, const char *path, unsigned points)
{
	struct err err = {.code = 0};
	bench->sim = sim_new(1);
	bench->env = sim_env(bench->sim);
	if (path[1])
		assert_int_equal(feed_make_dir(bench->env, path + 1, &err), 0);
	assert_int_equal(store_open(bench->env, path, &bench->store, &err), 0);
	const struct wire_open open = feed_open(DISKS, disk_size, 9);
	assert_int_equal(feed_points(bench->env, bench->store, &open, points, &err), 0);
	bench->replica = store_find(bench->store, "vm1");
}

static void bench_close(struct bench *bench)
{
	store_close(bench->store);
	assert_int_equal(sim_handles(bench->sim), 0);
	sim_free(bench->sim);
}

static int fail_over(struct bench *bench, uint64_t number, struct failover_info *ret_failover, struct err *err)
{
	return failover_run(bench->env, bench->store, bench->replica, number, false, NULL, ret_failover, err);
}

static void failover_without_a_number_takes_the_newest_point(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	bench_open(&bench, "/", POINTS);
	sim_clock_advance(bench.sim, 5 * SECOND_NS);
	assert_int_equal(fail_over(&bench, 0, &failover, NULL), 0);
	assert_int_equal(failover.point, POINTS);
	assert_string_equal(failover.name, "vm1");
	assert_int_equal(failover.disk_count, DISKS);
	assert_string_equal(failover.disk[1], "vdb");
	assert_true(failover.lost_ms >= 5000 && failover.lost_ms < 6000);
	bench_close(&bench);
}

// The source's clock is 2 h behind ours: what its cut says is not what was lost.
static void failover_tells_what_was_lost_by_the_ages_of_when_it_was_asked(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover, again;
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	bench_open(&bench, "/", POINTS);
	assert_int_equal(replica_points(bench.replica, &points, &count), 0);
	const struct watched_ages ages = {.wall_ns = points[count - 1].cut_wall_ns + 7211 * SECOND_NS,
					  .offset_ns = 7200 * SECOND_NS,
					  .newest = points[count - 1].number,
					  .newest_cut_wall_ns = points[count - 1].cut_wall_ns,
					  .newest_age_ms = 11000};
	assert_int_equal(failover_run(bench.env, bench.store, bench.replica, 0, false, &ages, &failover, NULL), 0);
	assert_true(failover.lost_ms == 11000);
	assert_int_equal(failover_load(bench.store, "vm1", &again, NULL), 0);
	assert_true(again.lost_ms == 11000);
	bench_close(&bench);
}

static void failover_asked_again_answers_the_same(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info first, again;
	bench_open(&bench, "/", POINTS);
	memset(&first, 0, sizeof(first));
	memset(&again, 0, sizeof(again));
	assert_int_equal(fail_over(&bench, 2, &first, NULL), 0);
	sim_clock_advance(bench.sim, 3600 * SECOND_NS);
	for (uint64_t number = 0; number <= 2; number += 2) {
		assert_int_equal(fail_over(&bench, number, &again, NULL), 0);
		assert_int_equal(again.point, 2);
		assert_int_equal(again.lost_ms, first.lost_ms);
		assert_int_equal(again.duration_ms, first.duration_ms);
		assert_int_equal(again.cut_wall_ns, first.cut_wall_ns);
	}
	bench_close(&bench);
}

static void failover_to_a_second_point_is_refused(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	struct err err = {.code = 0};
	bench_open(&bench, "/", POINTS);
	assert_int_equal(fail_over(&bench, 2, &failover, NULL), 0);
	assert_int_equal(fail_over(&bench, 3, &failover, &err), -EALREADY);
	assert_non_null(strstr(err.text, "point 2"));
	bench_close(&bench);
}

// Damage may be found after somebody asked: it is the fence that decides, under the lock under which a damaged overlay would be replaced.
static void failover_to_a_point_that_is_not_sound_fences_nothing(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	struct err err = {.code = 0};
	const struct damage run = {.disk = 0, .first = 1, .count = 1, .from = 2, .to = DAMAGE_OPEN};
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	assert_non_null(info);
	bench_open(&bench, "/", POINTS);
	damage_add(&bench.replica->scrub.damage, &run);
	for (uint64_t number = 0; number <= 2; number += 2) {
		assert_int_equal(fail_over(&bench, number, &failover, &err), -EUCLEAN);
		assert_non_null(strstr(err.text, "in quarantine"));
	}
	replica_info(bench.replica, info);
	assert_false(info->fenced);
	assert_int_equal(failover_run(bench.env, bench.store, bench.replica, 2, true, NULL, &failover, NULL), 0);
	assert_int_equal(fail_over(&bench, 0, &failover, NULL), 0); // what is decided is not asked again
	assert_int_equal(failover.point, 2);
	bench_close(&bench);
}

static void failover_fences_the_source(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	bench_open(&bench, "/", POINTS);
	assert_int_equal(fail_over(&bench, 0, &failover, NULL), 0);
	assert_int_equal(add_point(bench.env, bench.replica, NULL), -ESTALE);
	bench_close(&bench);
}

static void failover_to_a_point_that_is_not_there_changes_nothing(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	struct replica_info *info = malloc(sizeof(*info));
	bench_open(&bench, "/", POINTS);
	assert_int_equal(fail_over(&bench, POINTS + 1, &failover, NULL), -ENOENT);
	replica_info(bench.replica, info);
	assert_false(info->fenced);
	assert_int_equal(add_point(bench.env, bench.replica, NULL), 0);
	free(info);
	bench_close(&bench);
}

// Nobody has looked at them since they went: the operator hears it before the source is fenced, and not from QEMU.
static void failover_to_disks_that_cannot_be_opened_fences_nothing(void **state)
{
	static const char *const gone[][2] = {{"vm1/base/vdb.raw"}, {"vm1/points/2/vda.qcow2"}, {"vm1/points/3/point.json", "vm1/points/3/point.json" COPY_SUFFIX}};
	(void)state;
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		struct bench bench;
		struct failover_info failover;
		struct err err = {.code = 0};
		struct replica_info *info = malloc(sizeof(*info));
		bench_open(&bench, "/", POINTS);
		for (size_t k = 0; k < 2 && gone[i][k]; k++) {
			int rc = env_unlink(bench.replica->root, gone[i][k]);
			assert_true(rc == 0 || (k == 1 && rc == -ENOENT)); // the copy may not be there yet
		}
		assert_int_not_equal(fail_over(&bench, 0, &failover, &err), 0);
		if (!strstr(err.text, strchr(gone[i][0], '/') + 1))
			fail_msg("%s", err.text);
		replica_info(bench.replica, info);
		assert_false(info->fenced);
		free(info);
		bench_close(&bench);
	}
}

// Else the source would be fenced for disks that nobody finds, or that stand on what somebody else put there.
static void failover_of_a_store_that_is_not_at_its_path_changes_nothing(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	struct err err = {.code = 0};
	struct env_root *top;
	struct env_stat st;
	char said[ERR_TEXT_MAX];
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	assert_non_null(info);
	bench_open(&bench, "/store", POINTS);
	assert_int_equal(env_root_open(bench.env, "/", &top), 0);
	assert_int_equal(env_rename(top, "store", "moved"), 0);
	assert_int_equal(fail_over(&bench, 0, &failover, &err), -ESTALE);
	assert_non_null(strstr(err.text, "is not at /store any more, it was moved away or removed: move it back there"));
	assert_true(store_displaced(bench.store, said));
	assert_string_equal(said, err.text);
	assert_int_equal(env_mkdir(top, "store"), 0);
	assert_int_equal(env_mkdir(top, "store/vm1"), 0);
	assert_int_equal(fail_over(&bench, 2, &failover, &err), -ESTALE);
	assert_non_null(strstr(err.text, "at /store is another directory than the store that this receiver has open"));
	assert_int_equal(env_stat(top, "store/vm1/failover", &st), -ENOENT);
	assert_int_equal(env_stat(top, "moved/vm1/failover", &st), -ENOENT);
	replica_info(bench.replica, info);
	assert_false(info->fenced);
	assert_int_equal(add_point(bench.env, bench.replica, NULL), 0);
	assert_int_equal(env_remove_tree(top, "store"), 0);
	assert_int_equal(env_rename(top, "moved", "store"), 0);
	assert_int_equal(store_look(bench.store, NULL), 0);
	assert_false(store_displaced(bench.store, said));
	assert_int_equal(fail_over(&bench, 2, &failover, &err), 0);
	assert_int_equal(env_stat(top, "store/vm1/failover", &st), 0);
	assert_int_equal(env_rename(top, "store", "moved"), 0); // nor is a path told of one that is done
	assert_int_equal(fail_over(&bench, 2, &failover, &err), -ESTALE);
	assert_int_equal(failover_load(bench.store, "vm1", &failover, &err), 0); // what is done with it goes by the directory that is open
	env_root_close(top);
	bench_close(&bench);
}

static void failover_without_any_point_says_why(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	struct err err = {.code = 0};
	bench_open(&bench, "/", 0);
	assert_int_equal(fail_over(&bench, 0, &failover, &err), -ENOENT);
	assert_non_null(strstr(err.text, "initial sync"));
	bench_close(&bench);
}

static void failover_counts_no_loss_when_the_cut_lies_in_the_future(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	bench_open(&bench, "/", 1);
	sim_clock_step(bench.sim, -365 * 86400 * SECOND_NS);
	assert_int_equal(fail_over(&bench, 0, &failover, NULL), 0);
	assert_int_equal(failover.lost_ms, 0);
	bench_close(&bench);
}

// --- a record that does not read ---

#define RECORD "vm1/failover/failover.json"
static const char *const records[] = {RECORD, RECORD COPY_SUFFIX};

static void put(struct bench *bench, const char *name, const void *bytes, size_t len, uint64_t at)
{
	struct env_file *file;
	assert_int_equal(env_open(bench->replica->root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, bytes, len, at), 0);
	assert_int_equal(env_sync(file), 0);
	env_close(file);
}

static void flip(struct bench *bench, const char *name, uint64_t at)
{
	struct env_file *file;
	unsigned char byte;
	assert_int_equal(env_open(bench->replica->root, name, ENV_READ, &file), 0);
	assert_int_equal(env_pread_full(file, &byte, 1, at), 0);
	env_close(file);
	byte ^= 1;
	put(bench, name, &byte, 1, at);
}

static bool is_there(struct bench *bench, const char *name)
{
	struct env_stat st;
	return env_stat(bench->replica->root, name, &st) == 0;
}

enum { GUEST_BYTES = 1 << 20, GUEST_AT = 1 << 21, LOST_FLIPPED = 0, LOST_GONE = 1 };

// Failed over, and the guest has written; then nothing of the record can be read any more.
static void lost_record(struct bench *bench, unsigned how)
{
	struct failover_info failover;
	AUTO_FREE unsigned char *guest = malloc(GUEST_BYTES);
	assert_non_null(guest);
	memset(guest, 0x77, GUEST_BYTES);
	bench_open(bench, "/", 2);
	assert_int_equal(fail_over(bench, 0, &failover, NULL), 0);
	put(bench, "vm1/failover/vda.qcow2", guest, GUEST_BYTES, GUEST_AT);
	for (unsigned i = 0; i < 2; i++)
		if (how == LOST_GONE)
			assert_int_equal(env_unlink(bench->replica->root, records[i]), 0);
		else
			flip(bench, records[i], 60);
}

static struct recovery recovery_of(struct bench *bench)
{
	struct recovery recovery;
	recovery_init(&recovery, bench->env, bench->store, NULL);
	return recovery;
}

static int roll_back(struct bench *bench, bool dry_run, bool discard, struct rollback_result *ret_result, struct err *err)
{
	struct recovery recovery = recovery_of(bench);
	const struct rollback_ask ask = {.dry_run = dry_run, .discard = discard};
	return failover_roll_back(&recovery, bench->replica, &ask, ret_result, err);
}

// As the control API has them: the status, and whether the answer says that it is final.
static unsigned commit(struct bench *bench, bool *ret_final)
{
	struct recovery recovery = recovery_of(bench);
	struct control_request request = {.arg = {"vm1"}, .body = json_object()};
	json_t *answer = NULL;
	unsigned status = post_failover_commit(&recovery, &request, &answer);
	*ret_final = json_is_true(json_object_get(answer, "final"));
	json_decref(request.body);
	json_decref(answer);
	return status;
}

// A bit that turns in the record, or in its copy, changes nothing of what is answered, and the keeper makes both whole.
static void failover_answers_from_the_copy_of_its_record_and_restores_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct bench bench;
		struct failover_info first, again;
		struct copies_state copies;
		bench_open(&bench, "/", 1);
		assert_int_equal(fail_over(&bench, 0, &first, NULL), 0);
		(void)replica_mend(bench.replica); // what is due since the start
		flip(&bench, records[i], 60);
		assert_int_equal(failover_load(bench.store, "vm1", &again, NULL), 0);
		assert_int_equal(again.duration_ms, first.duration_ms);
		assert_int_equal(fail_over(&bench, 0, &again, NULL), 0);
		assert_false(again.unread);
		copies_look(bench.replica);
		assert_int_equal(replica_mend(bench.replica), 0);
		copies_state(bench.replica->root, RECORD, &copies);
		assert_true(copies.file == 0 && copies.copy == 0 && copies.alike);
		assert_int_equal(is_there(&bench, RECORD ".damaged"), i == 0);
		bench_close(&bench);
	}
}

// Never over disks that a guest may have written to; nor is it said that they are not there.
static void failover_whose_record_is_lost_is_refused_and_leaves_the_disks(void **state)
{
	(void)state;
	for (unsigned how = LOST_FLIPPED; how <= LOST_GONE; how++) {
		struct bench bench;
		struct failover_info failover;
		struct err err = {.code = 0};
		lost_record(&bench, how);
		assert_int_equal(fail_over(&bench, 0, &failover, &err), -EBADMSG);
		assert_non_null(strstr(err.text, "its disks are there"));
		assert_null(strstr(err.text, "take it back"));
		assert_true(is_there(&bench, "vm1/failover/vda.qcow2"));
		bench_close(&bench);
	}
}

static void disks_whose_record_is_lost_are_not_thrown_away_unless_that_is_said(void **state)
{
	(void)state;
	for (unsigned how = LOST_FLIPPED; how <= LOST_GONE; how++) {
		struct bench bench;
		struct rollback_result result;
		struct err err = {.code = 0};
		lost_record(&bench, how);
		for (unsigned dry_run = 0; dry_run < 2; dry_run++) {
			assert_int_equal(roll_back(&bench, dry_run, false, &result, &err), -EUCLEAN);
			assert_non_null(strstr(err.text, "--commit"));
			assert_true(is_there(&bench, "vm1/failover/vda.qcow2"));
		}
		assert_int_equal(roll_back(&bench, true, true, &result, &err), 0);
		assert_true(result.written_bytes >= GUEST_BYTES);
		assert_true(is_there(&bench, "vm1/failover/vda.qcow2"));
		assert_int_equal(roll_back(&bench, false, true, &result, &err), 0);
		assert_true(result.written_bytes >= GUEST_BYTES);
		assert_false(is_there(&bench, "vm1/failover"));
		assert_int_equal(add_point(bench.env, bench.replica, NULL), 0);
		bench_close(&bench);
	}
}

static void failover_whose_record_is_lost_can_be_made_final(void **state)
{
	(void)state;
	for (unsigned how = LOST_FLIPPED; how <= LOST_GONE; how++) {
		struct bench bench;
		struct rollback_result result;
		bool final = false;
		lost_record(&bench, how);
		assert_int_equal(commit(&bench, &final), 200);
		assert_true(final);
		assert_int_equal(roll_back(&bench, false, true, &result, NULL), -EPERM);
		assert_true(is_there(&bench, "vm1/failover/vda.qcow2"));
		bench_close(&bench);
	}
}

static void failover_whose_record_is_lost_is_critical_and_shows_its_disks(void **state)
{
	(void)state;
	for (unsigned how = LOST_FLIPPED; how <= LOST_GONE; how++) {
		struct bench bench;
		lost_record(&bench, how);
		struct recovery recovery = recovery_of(&bench);
		json_t *replica = recovery_json_replica(&recovery, bench.replica);
		const json_t *failover = json_object_get(replica, "failover");
		assert_non_null(strstr(json_string_value(json_object_get(failover, "record_error")), RECORD));
		assert_int_equal(json_array_size(json_object_get(failover, "disks")), DISKS);
		assert_int_equal(json_integer_value(json_object_get(failover, "point")), 2);
		assert_true(json_integer_value(json_object_get(failover, "written_bytes")) >= GUEST_BYTES);
		assert_true(json_is_null(json_object_get(failover, "cut")));
		assert_string_equal(json_string_value(json_object_get(replica, "health")), "critical");
		json_decref(replica);
		bool final = false;
		assert_int_equal(commit(&bench, &final), 200);
		replica = recovery_json_replica(&recovery, bench.replica);
		assert_string_equal(json_string_value(json_object_get(replica, "health")), "warning"); // nobody throws them away any more
		json_decref(replica);
		bench_close(&bench);
	}
}

// The fence stands and no disk was made: that is another thing, and nothing of it is lost.
static void failover_that_was_cut_short_is_no_lost_record(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	struct rollback_result result;
	bool final = false;
	bench_open(&bench, "/", 2);
	assert_int_equal(replica_fence(bench.replica, 2, NULL), 0);
	assert_int_equal(failover_load(bench.store, "vm1", &failover, NULL), -ENOENT);
	assert_int_equal(commit(&bench, &final), 404);
	assert_int_equal(roll_back(&bench, false, false, &result, NULL), 0);
	assert_int_equal(result.written_bytes, 0);
	bench_close(&bench);
}

static uint64_t size_of_failover(struct bench *bench, unsigned disk)
{
	char name[64];
	struct env_root *root;
	struct env_file *file;
	struct qcow2_reader *reader;
	(void)snprintf(name, sizeof(name), "vm1/failover/vd%c.qcow2", 'a' + disk);
	assert_int_equal(env_root_open(bench->env, "/", &root), 0);
	assert_int_equal(env_open(root, name, ENV_READ, &file), 0);
	assert_int_equal(qcow2_reader_open(file, &reader, NULL), 0);
	uint64_t size = qcow2_reader_size(reader);
	qcow2_reader_free(reader);
	env_close(file);
	env_root_close(root);
	return size;
}

// Else a guest would find its disk longer than its partition table says, and a newer one cut short.
static void failover_gives_each_disk_the_size_that_it_had_at_the_point(void **state)
{
	(void)state;
	for (uint64_t number = 1; number <= 3; number++) {
		struct bench bench;
		struct failover_info failover;
		bench_open(&bench, "/", 2);
		assert_int_equal(add_point_of(bench.env, bench.replica, grown_size, NULL), 0);
		assert_int_equal(fail_over(&bench, number, &failover, NULL), 0);
		for (unsigned i = 0; i < DISKS; i++)
			assert_int_equal(size_of_failover(&bench, i), number <= 2 ? disk_size[i] : grown_size[i]);
		bench_close(&bench);
	}
}

static void failover_command_is_quoted_for_shell_and_qemu(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	bench_open(&bench, "/it's a, store", 1);
	assert_int_equal(fail_over(&bench, 0, &failover, NULL), 0);
	char *command = failover_command(bench.store, &failover);
	assert_string_equal(command, "qemu-system-x86_64 -machine q35,accel=kvm:tcg -m 2048"
				     " -drive 'file=/it'\\''s a,, store/vm1/failover/vda.qcow2,format=qcow2,if=virtio'"
				     " -drive 'file=/it'\\''s a,, store/vm1/failover/vdb.qcow2,format=qcow2,if=virtio'");
	free(command);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failover_without_a_number_takes_the_newest_point),
		cmocka_unit_test(failover_tells_what_was_lost_by_the_ages_of_when_it_was_asked),
		cmocka_unit_test(failover_asked_again_answers_the_same),
		cmocka_unit_test(failover_to_a_second_point_is_refused),
		cmocka_unit_test(failover_to_a_point_that_is_not_sound_fences_nothing),
		cmocka_unit_test(failover_fences_the_source),
		cmocka_unit_test(failover_to_a_point_that_is_not_there_changes_nothing),
		cmocka_unit_test(failover_to_disks_that_cannot_be_opened_fences_nothing),
		cmocka_unit_test(failover_of_a_store_that_is_not_at_its_path_changes_nothing),
		cmocka_unit_test(failover_without_any_point_says_why),
		cmocka_unit_test(failover_counts_no_loss_when_the_cut_lies_in_the_future),
		cmocka_unit_test(failover_answers_from_the_copy_of_its_record_and_restores_it),
		cmocka_unit_test(failover_whose_record_is_lost_is_refused_and_leaves_the_disks),
		cmocka_unit_test(disks_whose_record_is_lost_are_not_thrown_away_unless_that_is_said),
		cmocka_unit_test(failover_whose_record_is_lost_can_be_made_final),
		cmocka_unit_test(failover_whose_record_is_lost_is_critical_and_shows_its_disks),
		cmocka_unit_test(failover_that_was_cut_short_is_no_lost_record),
		cmocka_unit_test(failover_gives_each_disk_the_size_that_it_had_at_the_point),
		cmocka_unit_test(failover_command_is_quoted_for_shell_and_qemu),
	};
	log_init("test_failover", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("failover", tests, NULL, NULL);
}
