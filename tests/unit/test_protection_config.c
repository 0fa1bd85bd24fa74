// SPDX-License-Identifier: Apache-2.0
// What was asked for when a protection was made: kept as it was, durable with the names above it, and never half believed.
#include "replicator/protection_config.h"

#include "tests/lib/twin.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FILE_NAME "protections/vm1/protection.json"

struct fixture {
	struct sim *sim;
	struct env_root *root;
	struct protection_config config, back;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint64_t seed = 4;
	f->sim = sim_new(1);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
	assert_int_equal(env_mkdir(f->root, "protections"), 0);
	assert_int_equal(env_mkdir(f->root, "protections/vm1"), 0);
	f->config = (struct protection_config){.name = "vm1",
					       .uuid = {{1}},
					       .generation = {{2}},
					       .site = "dr",
					       .rpo_ms = 15000,
					       .points_keep = 24,
					       .codec = CODEC_LZ4,
					       .digest = {.kind = DIGEST_XXH3},
					       .paused = true,
					       .settings = {.rpo_ms = 15000,
							    .priority = PRIORITY_HIGH,
							    .objective_ppm = 999000,
							    .has_offpeak = true,
							    .offpeak = {.days = 0x60, .from = 1320, .to = 360},
							    .bandwidth = {.count = 2, .rule = {{{0x1f, 480, 1080}, 2500000}, {{0x7f, 0, 1440}, BANDWIDTH_UNLIMITED}}}},
					       .disk_count = 2,
					       .disk = {{.name = "vda", .path = "/images/a b.raw"}, {.name = "vdb", .path = "/dev/vg/\xc3\xa9"}}};
	for (int i = 0; i < DIGEST_SECRET_SIZE; i++)
		f->config.digest.secret[i] = (unsigned char)draw(&seed);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	env_root_close(f->root);
	sim_free(f->sim);
	free(f);
	return 0;
}

static int load(struct fixture *f)
{
	f->err = (struct err){0};
	int rc = protection_config_load(f->root, "vm1", &f->back, &f->err);
	if (rc)
		assert_non_null(strstr(f->err.text, FILE_NAME)); // which file it is about
	return rc;
}

static void save(struct fixture *f)
{
	assert_int_equal(protection_config_save(f->root, &f->config, &f->err), 0);
}

static void configuration_loads_as_it_was_saved(void **state)
{
	struct fixture *f = *state;
	save(f);
	assert_int_equal(load(f), 0);
	assert_memory_equal(&f->back, &f->config, sizeof(f->config));
	f->config.paused = false;
	f->config.compare = true;
	f->config.rpo_ms = f->config.settings.rpo_ms = RPO_MS_MAX;
	f->config.points_keep = POINTS_KEEP_MAX;
	f->config.disk_count = DISKS_MAX;
	for (unsigned d = 0; d < DISKS_MAX; d++) {
		(void)snprintf(f->config.disk[d].name, NAME_SIZE, "d%u", d);
		memset(f->config.disk[d].path, '/', PATH_MAX - 1);
	}
	memset(f->config.disk[1].path, 0, PATH_MAX);
	(void)snprintf(f->config.disk[1].path, PATH_MAX, "/x");
	save(f);
	assert_int_equal(load(f), 0);
	assert_memory_equal(&f->back, &f->config, sizeof(f->config));
}

static void configuration_is_durable_with_the_names_above_it(void **state)
{
	struct fixture *f = *state;
	save(f); // nothing else was synced so far
	env_root_close(f->root);
	sim_power_off(f->sim);
	sim_power_on(f->sim);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
	assert_int_equal(load(f), 0);
	assert_memory_equal(&f->back, &f->config, sizeof(f->config));
}

static void configuration_that_cannot_be_written_down_whole_leaves_the_old_one(void **state)
{
	struct fixture *f = *state;
	save(f);
	struct protection_config kept = f->config;
	(void)snprintf(f->config.disk[1].path, PATH_MAX, "/images/\xff"); // not UTF-8: JSON has no words for it
	assert_true(protection_config_save(f->root, &f->config, &f->err) < 0);
	assert_true(f->err.text[0]);
	assert_int_equal(load(f), 0);
	assert_memory_equal(&f->back, &kept, sizeof(kept));
	(void)snprintf(f->config.disk[1].path, PATH_MAX, "/x");
	for (uint64_t op = 0; op < 5; op++) { // up to and with the rename
		sim_fail_at(f->sim, sim_ops(f->sim) + op, -EIO, true);
		assert_int_equal(protection_config_save(f->root, &f->config, &f->err), -EIO);
		sim_fail_at(f->sim, SIM_NEVER, 0, false);
		assert_int_equal(load(f), 0);
		assert_memory_equal(&f->back, &kept, sizeof(kept));
	}
}

static void configuration_that_is_missing_says_which_file(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(load(f), -ENOENT);
}

static void write_text(struct fixture *f, const char *text, size_t len)
{
	assert_int_equal(env_replace(f->root, "protections/vm1", FILE_NAME, text, len), 0);
}

static void every_truncation_is_refused(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;
	size_t len;
	save(f);
	assert_int_equal(env_read_file(f->root, FILE_NAME, 1 << 20, &text, &len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		write_text(f, text, cut);
		assert_true(load(f) < 0);
	}
	free(text);
}

// The good file with one member set to something else (JSON text), or, with NULL, left out.
static int load_with(struct fixture *f, const char *member, const char *value)
{
	char *text = NULL;
	size_t len;
	save(f);
	assert_int_equal(env_read_file(f->root, FILE_NAME, 1 << 20, &text, &len), 0);
	json_t *json = json_loads(text, 0, NULL), *other = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
	assert_non_null(json);
	if (value) {
		assert_non_null(other);
		assert_int_equal(json_object_set_new(json, member, other), 0);
	} else {
		assert_int_equal(json_object_del(json, member), 0);
	}
	char *changed = json_dumps(json, 0);
	write_text(f, changed, strlen(changed));
	free(changed);
	free(text);
	json_decref(json);
	return load(f);
}

static void member_that_is_missing_is_named(void **state)
{
	struct fixture *f = *state;
	static const char *const members[] = {"version", "name",  "uuid",   "generation",    "site", "rpo_ms",
					      "points",	 "codec", "paused", "digest_secret", "disks"};
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		assert_true(load_with(f, members[i], NULL) < 0);
		assert_non_null(strstr(f->err.text, members[i]));
	}
}

static void member_that_is_wrong_is_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[][2] = {
		{"version", "2"},
		{"version", "\"1\""},
		{"name", "\"vm2\""},
		{"name", "\"../vm1\""},
		{"uuid", "\"1\""},
		{"uuid", "null"},
		{"generation", "\"00000000-0000-0000-0000-00000000000g\""},
		{"site", "\"a/b\""},
		{"site", "7"},
		{"rpo_ms", "999"},
		{"rpo_ms", "86400001"},
		{"rpo_ms", "-1"},
		{"rpo_ms", "15000.5"},
		{"points", "0"},
		{"points", "201"},
		{"points", "4294967320"},
		{"codec", "\"rar\""},
		{"paused", "1"},
		{"digest_secret", "\"00\""},
		{"digest_secret", "\"zz\""},
		{"disks", "[]"},
		{"disks", "{}"},
		{"disks", "[7]"},
		{"disks", "[{\"name\": \"vda\"}]"},
		{"disks", "[{\"name\": \"VDA\", \"path\": \"/x\"}]"},
		{"disks", "[{\"name\": \"vda\", \"path\": \"\"}]"},
		{"disks", "[{\"name\": \"vda\", \"path\": \"a.raw\"}]"},
		{"disks", "[{\"name\": \"vda\", \"path\": \"/x\", \"more\": 1}]"},
		{"disks", "[{\"name\": \"vda\", \"path\": \"/x\"}, {\"name\": \"vda\", \"path\": \"/y\"}]"},
		{"unheard-of", "1"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (load_with(f, bad[i][0], bad[i][1]) >= 0)
			fail_msg("%s: %s is taken", bad[i][0], bad[i][1]);
	char many[DISKS_MAX * 64 + 80] = "[";
	for (unsigned d = 0; d <= DISKS_MAX; d++)
		(void)snprintf(many + strlen(many), sizeof(many) - strlen(many),
			       "%s{\"name\": \"d%u\", \"path\": \"/x\"}", d ? "," : "", d);
	(void)strcat(many, "]");
	assert_true(load_with(f, "disks", many) < 0);
}

// Whoever edited it by hand is told which member it is, and what it may be.
static void member_that_was_edited_is_named_with_what_it_may_be(void **state)
{
	struct fixture *f = *state;
	static const char *const edited[][3] = {
		{"version", "2", "vm1/protection.json: it is of version 2, and this program reads up to 1: a newer version of kagami wrote it, so use that one"},
		{"bogus", "1", "\"bogus\" is no member that such a file has"},
		{"name", "\"vm2\"", "\"name\" is vm2, and the directory that it lies in is vm1's"},
		{"uuid", "\"1\"", "\"uuid\": \"1\" is not a UUID"},
		{"generation", "\"x\"", "\"generation\": \"x\" is not a UUID"},
		{"codec", "\"gzip\"", "\"codec\": \"gzip\" is none of zstd, auto, zlib, lz4 and none"},
		{"digest", "\"md5\"", "\"digest\": \"md5\" is neither xxh3 nor blake2b"},
		{"digest_secret", "\"00\"", "\"digest_secret\" is not 192 bytes in hex"},
		{"disks", "[{\"name\": \"vda\", \"path\": \"a.raw\"}]", "disk 0: \"a.raw\" is not an absolute path"},
		{"disks", "[{\"name\": \"vda\", \"path\": \"/x\", \"more\": 1}]", "disk 0: \"more\" is no member that such a file has"},
	};
	for (size_t i = 0; i < sizeof(edited) / sizeof(edited[0]); i++) {
		assert_true(load_with(f, edited[i][0], edited[i][1]) < 0);
		if (!strstr(f->err.text, edited[i][2]) || strstr(f->err.text, "request"))
			fail_msg("%s: %s", edited[i][0], f->err.text);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void auto_is_zstd_at_a_level_that_moves(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	static struct protection_config found;
	assert_true(protection_codec_read("auto", &f->config));
	assert_true(f->config.codec_auto && f->config.codec == CODEC_ZSTD);
	assert_int_equal(protection_config_save(f->root, &f->config, &err), 0);
	assert_int_equal(protection_config_load(f->root, "vm1", &found, &err), 0);
	assert_true(found.codec_auto && found.codec == CODEC_ZSTD);
	assert_string_equal(protection_codec_name(&found), "auto");
	assert_true(protection_codec_read("zstd", &found));
	assert_false(found.codec_auto);
	assert_string_equal(protection_codec_name(&found), "zstd");
	assert_false(protection_codec_read("automatic", &found));
}

// A protection of before there were settings has the defaults.
static void settings_that_are_not_there_are_the_defaults(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;
	size_t len = 0;
	assert_int_equal(protection_config_save(f->root, &f->config, &f->err), 0);
	assert_int_equal(env_read_file(f->root, FILE_NAME, 1 << 20, &text, &len), 0);
	json_t *json = json_loadb(text, len, 0, NULL);
	static const char *const later[] = {"priority", "objective_ppm", "offpeak", "bandwidth"};
	for (int i = 0; i < 4; i++)
		assert_int_equal(json_object_del(json, later[i]), 0);
	char *old = json_dumps(json, 0);
	assert_int_equal(env_replace(f->root, "protections/vm1", FILE_NAME, old, strlen(old)), 0);
	assert_int_equal(protection_config_load(f->root, "vm1", &f->back, &f->err), 0);
	assert_int_equal(f->back.settings.priority, PRIORITY_NORMAL);
	assert_int_equal(f->back.settings.objective_ppm, OBJECTIVE_PPM_DEFAULT);
	assert_int_equal(f->back.settings.bandwidth.count, 0);
	assert_false(f->back.settings.has_offpeak);
	assert_int_equal(f->back.settings.rpo_ms, 15000);
	json_decref(json);
	free(old);
	free(text);
}

static void agent_settings_are_kept_and_damaged_ones_refused(void **state)
{
	struct fixture *f = *state;
	struct agent_settings settings = {.cycles = 9}, back;
	assert_int_equal(agent_settings_load(f->root, &back, &f->err), 0); // none yet
	assert_true(back.cycles == 0 && back.syncs == 0 && back.bandwidth.count == 0);
	settings.bandwidth.count = 1;
	assert_int_equal(bandwidth_rule_read("sat,sun 22:00-06:00 4mbyte", &settings.bandwidth.rule[0], &f->err), 0);
	assert_int_equal(agent_settings_save(f->root, &settings, &f->err), 0);
	assert_int_equal(agent_settings_load(f->root, &back, &f->err), 0);
	assert_true(back.cycles == 9 && back.syncs == 0 && back.bandwidth.count == 1 && back.bandwidth.rule[0].rate == 4000000);
	static const char *const bad[] = {"", "[]", "{}", "{\"version\": 2, \"bandwidth\": []}", "{\"version\": 1, \"bandwidth\": [\"20\"]}",
					  "{\"version\": 1, \"bandwidth\": [1]}", "{\"version\": 1, \"bandwidth\": [], \"cycles\": 257}",
					  "{\"version\": 1, \"bandwidth\": [], \"other\": 1}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(env_replace(f->root, ".", "settings.json", bad[i], strlen(bad[i])), 0);
		assert_true(agent_settings_load(f->root, &back, &f->err) < 0);
		assert_null(strstr(f->err.text, "request"));
		assert_true(back.cycles == 0 && back.bandwidth.count == 0);
	}
}

// A removal that fails at any step is ended by the next try, and what was removed does not come back with the power.
static void removal_that_failed_is_ended_by_the_next_try(void **state)
{
	struct fixture *f = *state;
	struct env_stat st;
	unsigned failed = 0;
	save(f);
	assert_int_equal(env_sync_dir(f->root, "."), 0);
	sim_settle(f->sim);
	env_root_close(f->root);
	for (uint64_t op = 0;; op++) {
		sim_save(f->sim);
		assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
		sim_fail_at(f->sim, sim_ops(f->sim) + op, -EIO, false);
		int rc = protection_remove(f->root, "vm1", &f->err);
		bool reached = sim_has_failed(f->sim);
		sim_fail_at(f->sim, SIM_NEVER, 0, false);
		failed += rc != 0;
		assert_true(rc == 0 || reached);
		assert_int_equal(protection_remove(f->root, "vm1", &f->err), 0);
		assert_int_equal(env_stat(f->root, "protections/vm1", &st), -ENOENT);
		env_root_close(f->root);
		sim_power_off(f->sim);
		sim_power_on(f->sim);
		assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
		assert_int_equal(env_stat(f->root, FILE_NAME, &st), -ENOENT);
		if (!reached)
			break;
		env_root_close(f->root);
		sim_restore(f->sim);
		sim_drop(f->sim);
	}
	assert_true(failed >= 5); // unlink, sync, list, rmdir, sync
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(auto_is_zstd_at_a_level_that_moves),
		TEST(configuration_loads_as_it_was_saved),
		TEST(configuration_is_durable_with_the_names_above_it),
		TEST(configuration_that_cannot_be_written_down_whole_leaves_the_old_one),
		TEST(configuration_that_is_missing_says_which_file),
		TEST(every_truncation_is_refused),
		TEST(member_that_is_missing_is_named),
		TEST(member_that_is_wrong_is_refused),
		TEST(member_that_was_edited_is_named_with_what_it_may_be),
		TEST(removal_that_failed_is_ended_by_the_next_try),
		cmocka_unit_test_setup_teardown(settings_that_are_not_there_are_the_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(agent_settings_are_kept_and_damaged_ones_refused, setup, teardown),
	};
	return cmocka_run_group_tests_name("protection_config", tests, NULL, NULL);
}
