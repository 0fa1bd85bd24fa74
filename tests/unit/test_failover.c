// SPDX-License-Identifier: Apache-2.0
// Failover over the simulated disk: what it answers, what it refuses, and a crash at every step of it.
#include "receiver/failover.h"

#include "base/auto.h"
#include "base/log.h"
#include "format/qcow2.h"
#include "tests/sim/crash_test.h"

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
static const unsigned char pin[OWNER_PIN_SIZE] = {1};

static struct wire_open open_message(void)
{
	struct wire_open open = {.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3},
				 .codec = CODEC_ZSTD, .points_keep = 9, .rpo_ms = 15000, .disk_count = DISKS};
	for (unsigned i = 0; i < DISKS; i++) {
		(void)snprintf(open.disk[i].name, NAME_SIZE, "vd%c", 'a' + i);
		open.disk[i].size = disk_size[i];
	}
	return open;
}

static int add_point_of(struct env *env, struct replica *replica, const uint64_t size[DISKS], struct err *err)
{
	struct wire_open open = open_message();
	struct wire_opened opened;
	struct wire_committed committed;
	struct wire_zeros zeros = {.disk = 0, .first = 0, .count = 1};
	for (unsigned i = 0; i < DISKS; i++)
		open.disk[i].size = size[i];
	int rc = replica_session_begin(replica, &open, pin, &opened, err);
	if (rc)
		return rc;
	struct wire_seal seal = {.predecessor = opened.last_point, .head = opened.head, .cut = {{(unsigned char)(opened.last_point + 1)}},
				 .cut_wall_ns = env_wall_ns(env), .consistency = POINT_CRASH};
	rc = replica_write_zeros(replica, &zeros, err);
	if (rc == 0)
		rc = replica_seal(replica, &seal, &committed, err);
	replica_session_end(replica);
	return rc;
}

static int add_point(struct env *env, struct replica *replica, struct err *err)
{
	return add_point_of(env, replica, disk_size, err);
}

static int make_store(struct env *env, struct store *store, unsigned points, struct replica **ret_replica, struct err *err)
{
	struct wire_open open = open_message();
	int rc = store_create(store, &open, pin, ret_replica, err);
	for (unsigned i = 0; rc == 0 && i < points; i++)
		rc = add_point(env, *ret_replica, err);
	return rc;
}

// --- one by one ---

struct bench {
	struct sim *sim;
	struct env *env;
	struct store *store;
	struct replica *replica;
};

static void bench_open(struct bench *bench, const char *path, unsigned points)
{
	struct err err = {.code = 0};
	struct env_root *root;
	bench->sim = sim_new(1);
	bench->env = sim_env(bench->sim);
	assert_int_equal(env_root_open(bench->env, "/", &root), 0);
	if (path[1])
		assert_int_equal(env_mkdir(root, path + 1), 0);
	env_root_close(root);
	assert_int_equal(store_open(bench->env, path, &bench->store, &err), 0);
	assert_int_equal(make_store(bench->env, bench->store, points, &bench->replica, &err), 0);
}

static void bench_close(struct bench *bench)
{
	store_close(bench->store);
	assert_int_equal(sim_handles(bench->sim), 0);
	sim_free(bench->sim);
}

static int fail_over(struct bench *bench, uint64_t number, struct failover_info *ret_failover, struct err *err)
{
	return failover_run(bench->env, bench->store, bench->replica, number, ret_failover, err);
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

static void failover_with_a_damaged_record_is_refused_and_leaves_the_disks(void **state)
{
	(void)state;
	struct bench bench;
	struct failover_info failover;
	struct env_root *root;
	struct env_file *file;
	struct env_stat st;
	struct err err = {.code = 0};
	bench_open(&bench, "/", 1);
	assert_int_equal(fail_over(&bench, 0, &failover, NULL), 0);
	assert_int_equal(env_root_open(bench.env, "/", &root), 0);
	assert_int_equal(env_open(root, "vm1/failover/failover.json", ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, "8", 1, 40), 0);
	env_close(file);
	assert_int_equal(fail_over(&bench, 0, &failover, &err), -EBADMSG);
	assert_int_equal(env_unlink(root, "vm1/failover/failover.json"), 0);
	assert_true(fail_over(&bench, 0, &failover, &err) < 0); // never over disks that a guest may have written to
	assert_int_equal(env_stat(root, "vm1/failover/vda.qcow2", &st), 0);
	env_root_close(root);
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

// --- under crashes ---

struct promise {
	bool answered;
	struct failover_info failover;
};

static int scenario_setup(struct env *env, void *context, struct err *err)
{
	struct store *store;
	struct replica *replica;
	(void)context;
	int rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	rc = make_store(env, store, 2, &replica, err);
	store_close(store);
	return rc;
}

// The same, and the disks grew after their second point.
static int scenario_setup_grown(struct env *env, void *context, struct err *err)
{
	struct store *store;
	int rc = scenario_setup(env, context, err);
	if (rc == 0)
		rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	rc = add_point_of(env, store_find(store, "vm1"), grown_size, err);
	store_close(store);
	return rc;
}

static int scenario_run(struct env *env, void *context, struct err *err)
{
	struct promise *promise = context;
	struct store *store;
	promise->answered = false;
	int rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	struct replica *replica = store_find(store, "vm1");
	rc = replica ? failover_run(env, store, replica, 1, &promise->failover, err) : err_set(err, -EIO, "cannot be read");
	promise->answered = rc == 0;
	store_close(store);
	return rc;
}

// The operator asks again; the power goes off again.
static int scenario_recover(struct env *env, void *context, struct err *err)
{
	struct store *store;
	struct failover_info failover;
	(void)context;
	int rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	struct replica *replica = store_find(store, "vm1");
	rc = replica ? failover_run(env, store, replica, 1, &failover, err) : err_set(err, -EIO, "cannot be read");
	store_close(store);
	return rc;
}

static int check_overlay(struct env_root *root, unsigned disk, struct err *err)
{
	char name[64], backing[64];
	struct env_file *file;
	struct qcow2_reader *reader = NULL;
	(void)snprintf(name, sizeof(name), "vm1/failover/vd%c.qcow2", 'a' + disk);
	(void)snprintf(backing, sizeof(backing), "../points/1/vd%c.qcow2", 'a' + disk);
	int rc = env_open(root, name, ENV_READ, &file);
	if (rc)
		return err_sys(err, rc, "open %s", name);
	rc = qcow2_reader_open(file, &reader, err);
	if (rc == 0 && (qcow2_reader_size(reader) != disk_size[disk] || strcmp(qcow2_reader_backing(reader), backing) != 0 ||
			qcow2_reader_backing_format(reader) != QCOW2_BACKING_QCOW2))
		rc = err_set(err, -EBADMSG, "%s is over %s", name, qcow2_reader_backing(reader));
	qcow2_reader_free(reader);
	env_close(file);
	return rc;
}

// What is called failover/ is whole: its record and each of its disks.
static int check_published(struct env *env, const struct store *store, const struct promise *promise, struct err *err)
{
	struct env_root *root;
	struct env_stat st;
	struct failover_info failover;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return rc;
	bool published = env_stat(root, "vm1/failover", &st) == 0;
	for (unsigned i = 0; published && rc == 0 && i < DISKS; i++)
		rc = check_overlay(root, i, err);
	env_root_close(root);
	if (rc || !published)
		return rc || !promise->answered ? rc : err_set(err, -EIO, "a failover that was answered is gone");
	rc = failover_load(env, store, "vm1", &failover, err);
	if (rc == 0 && promise->answered && failover.lost_ms != promise->failover.lost_ms)
		rc = err_set(err, -EIO, "the answer changed");
	return rc;
}

static int check_store(struct env *env, struct store *store, const struct promise *promise, struct err *err)
{
	struct replica *replica = store_find(store, "vm1");
	struct failover_info failover, again;
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!replica || !info)
		return err_set(err, -EIO, "the protection is gone");
	int rc = check_published(env, store, promise, err);
	if (rc)
		return rc;
	replica_info(replica, info);
	if (failover_load(env, store, "vm1", &again, NULL) == 0 && !info->fenced)
		return err_set(err, -EIO, "there are disks to boot and the source is not fenced");
	rc = failover_run(env, store, replica, info->fenced ? 0 : 1, &failover, err);
	if (rc)
		return rc;
	if (failover.point != 1 || (promise->answered && failover.lost_ms != promise->failover.lost_ms))
		return err_set(err, -EIO, "asked again, it answers something else");
	return failover_run(env, store, replica, 2, &again, NULL) == -EALREADY ? check_published(env, store, promise, err)
									       : err_set(err, -EIO, "a second point was taken");
}

static int scenario_check(struct env *env, void *context, struct err *err)
{
	struct store *store;
	int rc = store_open(env, "/", &store, err);
	if (rc)
		return rc;
	rc = check_store(env, store, context, err);
	store_close(store);
	return rc;
}

static void failover_is_finished_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover", .context = &promise, .promise = &promise, .promise_size = sizeof(promise),
						.setup = scenario_setup,
						.run = scenario_run, .check = scenario_check, .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void failover_asked_again_is_finished_after_a_second_crash(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover twice", .context = &promise, .promise = &promise, .promise_size = sizeof(promise),
						.setup = scenario_setup,
						.run = scenario_run, .recover = scenario_recover, .check = scenario_check,
						.crashes = 2, .at_syncs = true, .states_max = 6000};
	assert_true(crash_test_quiet(&scenario));
}

static void failover_to_a_smaller_point_is_finished_after_a_crash_at_any_step(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover smaller", .context = &promise, .promise = &promise, .promise_size = sizeof(promise),
						.setup = scenario_setup_grown,
						.run = scenario_run, .recover = scenario_recover, .check = scenario_check,
						.crashes = 2, .at_syncs = true, .states_max = 3000};
	assert_true(crash_test_quiet(&scenario));
}

static void failover_is_finished_after_any_failing_operation(void **state)
{
	(void)state;
	struct promise promise = {.answered = false};
	const struct crash_scenario scenario = {.name = "failover", .context = &promise, .promise = &promise, .promise_size = sizeof(promise),
						.setup = scenario_setup,
						.run = scenario_run, .check = scenario_check};
	assert_true(anomaly_test_quiet(&scenario));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failover_without_a_number_takes_the_newest_point),
		cmocka_unit_test(failover_asked_again_answers_the_same),
		cmocka_unit_test(failover_to_a_second_point_is_refused),
		cmocka_unit_test(failover_fences_the_source),
		cmocka_unit_test(failover_to_a_point_that_is_not_there_changes_nothing),
		cmocka_unit_test(failover_without_any_point_says_why),
		cmocka_unit_test(failover_counts_no_loss_when_the_cut_lies_in_the_future),
		cmocka_unit_test(failover_with_a_damaged_record_is_refused_and_leaves_the_disks),
		cmocka_unit_test(failover_gives_each_disk_the_size_that_it_had_at_the_point),
		cmocka_unit_test(failover_command_is_quoted_for_shell_and_qemu),
		cmocka_unit_test(failover_is_finished_after_a_crash_at_any_step),
		cmocka_unit_test(failover_asked_again_is_finished_after_a_second_crash),
		cmocka_unit_test(failover_to_a_smaller_point_is_finished_after_a_crash_at_any_step),
		cmocka_unit_test(failover_is_finished_after_any_failing_operation),
	};
	log_init("test_failover", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("failover", tests, NULL, NULL);
}
